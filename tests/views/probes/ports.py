"""Who may have which port: SO_REUSEADDR, SO_REUSEPORT, wildcards, both families."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from kit import ADDRESSES, V4, V6, closed_port, listener, outcome, show, wait_for

_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


@contextlib.contextmanager
def _bound(
    family: int, kind: int, address: str, port: int, *options: str
) -> Iterator[tuple[socket.socket, object]]:
    """Bind a socket with the options (addr, port, v6only, listen) set before."""
    with socket.socket(family, kind) as sock:
        if "addr" in options:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if "port" in options:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if "v6only" in options:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        result = outcome(sock.bind, (address, port))
        if "listen" in options and result is None:
            result = outcome(sock.listen)
        yield sock, result


_NAMES = (
    (socket.AF_INET, "0.0.0.0"),
    (socket.AF_INET, V4),
    (socket.AF_INET, "127.0.0.2"),
    (socket.AF_INET6, "::"),
    (socket.AF_INET6, V6),
    (socket.AF_INET6, "::ffff:127.0.0.1"),
    (socket.AF_INET6, "::ffff:0.0.0.0"),
)


def _port_of_nobody(kind: int) -> int:
    """A port that no socket has at any address (port 0 looks at one address only)."""
    with _bound(socket.AF_INET6, kind, "::", 0) as (sock, _):
        port: int = sock.getsockname()[1]
        return port


def _two(kind: int, first: tuple[str, ...], second: tuple[str, ...]) -> None:
    """Bind every pair of names to one port, with the options of each."""
    for family, address in _NAMES:
        for other_family, other in _NAMES:
            port = _port_of_nobody(kind)
            with (
                _bound(family, kind, address, port, *first),
                _bound(other_family, kind, other, port, *second) as (_, result),
            ):
                show(address, other, result)


def case_stream_plain() -> None:
    _two(socket.SOCK_STREAM, (), ())


def case_stream_against_listener() -> None:
    _two(socket.SOCK_STREAM, ("listen",), ("listen",))


def case_stream_reuseaddr() -> None:
    _two(socket.SOCK_STREAM, ("addr",), ("addr",))
    _two(socket.SOCK_STREAM, ("addr",), ())


def case_stream_reuseaddr_listeners() -> None:
    _two(socket.SOCK_STREAM, ("addr", "listen"), ("addr",))
    _two(socket.SOCK_STREAM, ("addr",), ("addr", "listen"))


def case_stream_reuseport() -> None:
    _two(socket.SOCK_STREAM, ("port", "listen"), ("port", "listen"))
    _two(socket.SOCK_STREAM, ("port", "listen"), ("addr", "listen"))


def case_stream_v6only() -> None:
    _two(socket.SOCK_STREAM, ("listen",), ())
    for family, address in _NAMES[:2]:
        with _bound(socket.AF_INET6, 1, "::", 0, "v6only", "listen") as (sock, _):
            port = sock.getsockname()[1]
            with _bound(family, 1, address, port, "listen") as (_, result):
                show(address, result)
        with _bound(family, 1, address, 0, "listen") as (sock, _):
            port = sock.getsockname()[1]
            with _bound(socket.AF_INET6, 1, "::", port, "v6only") as (_, result):
                show(address, result)


def case_datagram_plain() -> None:
    _two(socket.SOCK_DGRAM, (), ())


def case_datagram_reuse() -> None:
    _two(socket.SOCK_DGRAM, ("addr",), ("addr",))
    _two(socket.SOCK_DGRAM, ("addr",), ())
    _two(socket.SOCK_DGRAM, ("port",), ("port",))
    _two(socket.SOCK_DGRAM, ("port",), ("addr",))


def case_both_listen_after_bind() -> None:
    with _bound(2, 1, V4, 0, "addr") as (first, _):
        port = first.getsockname()[1]
        with _bound(2, 1, V4, port, "addr") as (second, result):
            show(result, outcome(first.listen), outcome(second.listen))
            first.close()
            show(outcome(second.listen))


def case_protocols_are_apart() -> None:
    with _bound(2, 1, V4, 0, "listen") as (sock, _):
        port = sock.getsockname()[1]
        with _bound(2, 2, V4, port) as (_, result):
            show(result)


def case_bind_twice() -> None:
    for family, _ in ADDRESSES:
        for kind in _KINDS:
            with socket.socket(family, kind) as sock:
                show(outcome(sock.bind, ("", 0)), outcome(sock.bind, ("", 0)))


def case_close_frees() -> None:
    for family, address in ADDRESSES:
        for kind in _KINDS:
            port = closed_port(kind, family)
            for _ in range(3):
                with _bound(family, kind, address, port) as (_, result):
                    show(result)


def case_close_of_a_copy_does_not_free() -> None:
    with _bound(2, 1, V4, 0, "listen") as (sock, _):
        name = sock.getsockname()
        copy = sock.dup()
        sock.close()
        with _bound(2, 1, *name) as (_, result):
            show(result)
        copy.close()
        with _bound(2, 1, *name) as (_, result):
            show(result)


def case_restart_with_reuseaddr() -> None:
    server = listener()
    name = server.getsockname()
    client = socket.create_connection(name)
    accepted, _ = server.accept()
    server.close()
    with _bound(2, 1, *name, "addr", "listen") as (_, result):
        show(result)
    accepted.close()
    client.close()


def case_port_zero() -> None:
    for family, _ in ADDRESSES:
        for kind in _KINDS:
            ports = set()
            with contextlib.ExitStack() as stack:
                for _ in range(50):
                    sock = stack.enter_context(socket.socket(family, kind))
                    sock.bind(("", 0))
                    ports.add(sock.getsockname()[1])
            show(len(ports), all(32768 <= port <= 60999 for port in ports))


def case_most_specific_listener_wins() -> None:
    with _bound(2, 1, "0.0.0.0", 0, "port", "listen") as (wide, _):
        port = wide.getsockname()[1]
        with _bound(2, 1, V4, port, "port", "listen") as (narrow, result):
            show(result)
            for address, wanted in ((V4, narrow), ("127.0.0.5", wide)):
                client = socket.create_connection((address, port))
                wait_for(wanted)
                accepted, _ = wanted.accept()
                show(address, accepted.getsockname()[0])
                client.close()


def case_dual_stack_listener() -> None:
    server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = server.getsockname()[1]
    for family, address in (*ADDRESSES, (socket.AF_INET6, "::ffff:127.0.0.1")):
        client = socket.socket(family)
        client.connect((address, port))
        accepted, name = server.accept()
        show(address, name[0], name[2:], accepted.getsockname()[0])
        show(client.getpeername()[0], client.getsockname()[0])
        accepted.sendall(b"x")
        show(client.recv(1))


def case_v6only_listener() -> None:
    server = socket.create_server(("", 0), family=socket.AF_INET6)
    port = server.getsockname()[1]
    for family, address in (*ADDRESSES, (socket.AF_INET6, "::ffff:127.0.0.1")):
        with socket.socket(family) as client:
            show(address, outcome(client.connect, (address, port)))


def case_v6only_socket_and_mapped_addresses() -> None:
    for kind in _KINDS:
        with socket.socket(socket.AF_INET6, kind) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            show(outcome(sock.bind, ("::ffff:127.0.0.1", 0)))
            show(outcome(sock.connect, ("::ffff:127.0.0.1", 9)))


def case_v6only_after_bind() -> None:
    for kind in _KINDS:
        with socket.socket(socket.AF_INET6, kind) as sock:
            sock.bind(("", 0))
            show(outcome(sock.setsockopt, 41, socket.IPV6_V6ONLY, 1))
            show(sock.getsockopt(41, socket.IPV6_V6ONLY))


def case_reuseport_spreads() -> None:
    with contextlib.ExitStack() as stack:
        first, _ = stack.enter_context(_bound(2, 1, V4, 0, "port", "listen"))
        name = first.getsockname()
        group = [first]
        for _ in range(3):
            sock, _ = stack.enter_context(_bound(2, 1, *name, "port", "listen"))
            group.append(sock)
        clients = [socket.create_connection(name) for _ in range(64)]
        counts = []
        for sock in group:
            sock.setblocking(False)
            counts.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.accept()
                    counts[-1] += 1
        show(sum(counts), len(clients), min(counts) > 0)
        group[0].close()
        more = [socket.create_connection(name) for _ in range(16)]
        show(len(more))


def case_reuseport_datagrams_spread() -> None:
    with contextlib.ExitStack() as stack:
        first, _ = stack.enter_context(_bound(2, 2, V4, 0, "port"))
        name = first.getsockname()
        second, _ = stack.enter_context(_bound(2, 2, *name, "port"))
        for _ in range(40):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"x", name)
        counts = []
        for sock in (first, second):
            counts.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.recv(1, socket.MSG_DONTWAIT)
                    counts[-1] += 1
        show(sum(counts), min(counts) > 0)


def case_connect_takes_a_port() -> None:
    server = listener()
    clients = [socket.create_connection(server.getsockname()) for _ in range(10)]
    show(len({client.getsockname()[1] for client in clients}))
    port = clients[0].getsockname()[1]
    for address in (V4, "127.0.0.2", "0.0.0.0"):
        with _bound(2, 1, address, port) as (_, result):
            show(address, result)
        with _bound(2, 1, address, port, "addr") as (_, result):
            show(address, result)


def case_bind_address_no_port() -> None:
    server = listener()
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)
        sock.bind((V4, 0))
        show(sock.getsockname())
        show(outcome(sock.connect, server.getsockname()), sock.getsockname()[1] > 0)
