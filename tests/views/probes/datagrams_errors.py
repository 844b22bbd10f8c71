"""ICMP errors of datagram sockets: pending errors, IP_RECVERR and its queue."""

from __future__ import annotations

import socket
import struct
import threading
import time

from kit import ADDRESSES, V4, V6, closed_port, name_of, outcome, polled, show, udp

IP_RECVERR = 11
IPV6_RECVERR = 25
ERRQUEUE = 0x2000
DONTWAIT = socket.MSG_DONTWAIT
LEVELS: dict[int, tuple[int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, IP_RECVERR),
    socket.AF_INET6: (socket.IPPROTO_IPV6, IPV6_RECVERR),
}


def _asker(family: int, recverr: int = 1) -> socket.socket:
    """Return an unbound socket that wants to know of errors."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if recverr:
        sock.setsockopt(*LEVELS[family], 1)
    return sock


def _wait(sock: socket.socket) -> None:
    """Wait until poll(2) shows an error: as ERR, or as IN where it cannot."""
    end = time.monotonic() + 2
    while polled(sock) in ("OUT", "-") and time.monotonic() < end:
        time.sleep(0.002)


def _pending(sock: socket.socket) -> str:
    return name_of(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def _sockaddr(data: bytes) -> object:
    family = struct.unpack_from("H", data)[0]
    if family == socket.AF_INET:
        return socket.inet_ntoa(data[4:8]), data[2:4], data[8:16]
    if family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, data[8:24]), data[2:8], data[24:28]
    return family


def _name(name: object, ports: dict[int, str]) -> object:
    if not isinstance(name, tuple):
        return name
    return name[0], ports.get(name[1], name[1]), *name[2:]


def _read(sock: socket.socket, ports: dict[int, str], room: int = 2000) -> None:
    """Show the next entry of the error queue."""
    try:
        data, control, flags, name = sock.recvmsg(room, 512, ERRQUEUE)
    except OSError as exc:
        show("queue:", name_of(exc.errno))
        return
    show("queue:", len(data), data[:8], hex(flags), _name(name, ports))
    for level, kind, value in control:
        if (level, kind) in LEVELS.values():
            show("  error", struct.unpack("IBBBBII", value[:16]), _sockaddr(value[16:]))
        else:
            show("  control", level, kind, value)


def case_unconnected() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        show(sock.sendto(b"question", (address, port)))
        _wait(sock)
        show(outcome(sock.recvfrom, 1), outcome(sock.recvfrom, 1, DONTWAIT))
        _read(sock, {port: "port"})
        _read(sock, {port: "port"})
        show(polled(sock), _pending(sock))


def case_connected() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        sock.connect((address, port))
        show(sock.send(b"question"))
        _wait(sock)
        show(outcome(sock.sendto, b"again", (address, port)))
        _read(sock, {port: "port"})
        _read(sock, {port: "port"})


def case_queue_first() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        sock.sendto(b"question", (address, port))
        _wait(sock)
        _read(sock, {port: "port"})
        show(_pending(sock), polled(sock), outcome(sock.recvfrom, 1, DONTWAIT))


def case_so_error_first() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        sock.sendto(b"question", (address, port))
        _wait(sock)
        show(_pending(sock), _pending(sock), polled(sock) != "OUT")
        _read(sock, {port: "port"})
        show(polled(sock))


def case_two_errors() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        first = closed_port(socket.SOCK_DGRAM, family)
        second = closed_port(socket.SOCK_DGRAM, family)
        ports = {first: "first", second: "second"}
        sock.sendto(b"one", (address, first))
        _wait(sock)
        show(outcome(sock.sendto, b"lost", (address, second)))
        show(outcome(sock.sendto, b"two", (address, second)))
        _wait(sock)
        _read(sock, ports)
        show(_pending(sock))
        _read(sock, ports)
        show(_pending(sock))
        _read(sock, ports)


def case_payload_is_cut() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        for size, room in ((0, 2000), (519, 2000), (3000, 2000), (3000, 4)):
            sock.sendto(bytes(size), (address, port))
            _wait(sock)
            _read(sock, {port: "port"}, room)


def case_without_recverr() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family, 0)
        port = closed_port(socket.SOCK_DGRAM, family)
        show(sock.sendto(b"x", (address, port)), _pending(sock))
        _read(sock, {})
        sock.connect((address, port))
        sock.send(b"x")
        _wait(sock)
        show(_pending(sock))
        _read(sock, {})


def case_connected_elsewhere() -> None:
    for family, address in ADDRESSES:
        sock, server = _asker(family), udp(family)
        sock.connect(server.getsockname())
        port = closed_port(socket.SOCK_DGRAM, family)
        show(sock.sendto(b"x", (address, port)), _pending(sock))
        _read(sock, {})


def case_recverr_off_forgets() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        sock.sendto(b"x", (address, port))
        _wait(sock)
        sock.setsockopt(*LEVELS[family], 0)
        _read(sock, {})
        show(_pending(sock), polled(sock))


def case_error_goes_before_data() -> None:
    for family, address in ADDRESSES:
        sock, friend = udp(family), udp(family)
        sock.settimeout(None)
        sock.setsockopt(*LEVELS[family], 1)
        port = closed_port(socket.SOCK_DGRAM, family)
        friend.sendto(b"before", sock.getsockname())
        sock.sendto(b"x", (address, port))
        friend.sendto(b"after", sock.getsockname())
        show(outcome(sock.recvfrom, 10))
        show(sock.recvfrom(10)[0], sock.recvfrom(10)[0])
        show(outcome(sock.recvfrom, 10, DONTWAIT))
        _read(sock, {port: "port"})
        show(polled(sock))


def case_latest_error_stays() -> None:
    sock = _asker(socket.AF_INET)
    port = closed_port(socket.SOCK_DGRAM)
    sock.sendto(b"x", (V4, port))
    _wait(sock)
    show(outcome(sock.sendto, bytes(70000), (V4, port)))
    show(outcome(sock.sendto, bytes(65508), (V4, port)))
    show(outcome(sock.sendto, b"x", ("255.255.255.255", port)))
    show(outcome(sock.sendto, b"x", (V4, 0)))
    show(_pending(sock))


def case_too_long() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        for size in (65508, 65528, 70000):
            show(size, outcome(sock.sendto, bytes(size), (address, port)))
            while polled(sock) not in ("OUT", "-"):
                _read(sock, {port: "port"})
        sock.connect((address, port))
        show(outcome(sock.sendto, bytes(65508), (address, port)), _pending(sock))
        while polled(sock) not in ("OUT", "-"):
            _read(sock, {port: "port"})


def case_do_not_fragment() -> None:
    for family, address in ADDRESSES:
        level, option = (
            (socket.IPPROTO_IP, 10)
            if family == socket.AF_INET
            else (socket.IPPROTO_IPV6, 23)
        )
        for value in (0, 1, 2):
            sock, server = _asker(family), udp(family)
            sock.setsockopt(level, option, value)
            port = server.getsockname()[1]
            for size in (65487, 65488, 65507, 65508, 65527):
                result = outcome(sock.sendto, bytes(size), (address, port))
                show(value, size, result)
                if result == size:
                    show(len(server.recv(70000)))
            _read(sock, {port: "port"})


def case_v4_of_a_v6_socket() -> None:
    for level in LEVELS.values():
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        show(outcome(sock.setsockopt, *level, 1))
        port = closed_port(socket.SOCK_DGRAM)
        sock.sendto(b"x", ("::ffff:127.0.0.1", port))
        show(_pending(sock))
        _read(sock, {port: "port"})


def case_offender_is_the_address_sent_to() -> None:
    sock = _asker(socket.AF_INET)
    port = closed_port(socket.SOCK_DGRAM)
    sock.sendto(b"x", ("127.0.0.2", port))
    _wait(sock)
    _read(sock, {port: "port"})


def case_with_other_control_messages() -> None:
    sock = _asker(socket.AF_INET)
    sock.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    sock.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
    port = closed_port(socket.SOCK_DGRAM)
    sock.sendto(b"x", (V4, port))
    _wait(sock)
    _read(sock, {port: "port"})
    sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    sock.sendto(b"x", (V4, port))
    _wait(sock)
    _read(sock, {port: "port"})
    six = _asker(socket.AF_INET6)
    for option in (49, 51, 66):  # RECVPKTINFO, RECVHOPLIMIT, RECVTCLASS
        six.setsockopt(socket.IPPROTO_IPV6, option, 1)
    port = closed_port(socket.SOCK_DGRAM, socket.AF_INET6)
    six.sendto(b"x", (V6, port))
    _wait(six)
    _read(six, {port: "port"})


def case_timestamp_of_an_error() -> None:
    sock = _asker(socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, 29, 1)
    sock.sendto(b"x", (V4, closed_port(socket.SOCK_DGRAM)))
    _wait(sock)
    control = sock.recvmsg(10, 512, ERRQUEUE)[1]
    show([(level, kind, len(value)) for level, kind, value in control])


def case_control_is_cut() -> None:
    for room in (0, 15, 16, 20, 40, 48):
        sock = _asker(socket.AF_INET)
        sock.sendto(b"abcdef", (V4, closed_port(socket.SOCK_DGRAM)))
        _wait(sock)
        data, control, flags, _ = sock.recvmsg(3, room, ERRQUEUE)
        show(room, data, [(a, b, len(c)) for a, b, c in control], hex(flags))


def case_recvfrom_of_the_queue() -> None:
    for family, address in ADDRESSES:
        sock = _asker(family)
        port = closed_port(socket.SOCK_DGRAM, family)
        sock.sendto(b"question", (address, port))
        _wait(sock)
        data, name = sock.recvfrom(4, ERRQUEUE | socket.MSG_TRUNC)
        show(data, _name(name, {port: "port"}))
        sock.sendto(b"question", (address, port))
        _wait(sock)
        show(sock.recv(20, ERRQUEUE), outcome(sock.recv, 20, ERRQUEUE))


def case_peek_takes_an_error() -> None:
    sock = _asker(socket.AF_INET)
    sock.sendto(b"question", (V4, closed_port(socket.SOCK_DGRAM)))
    _wait(sock)
    show(outcome(sock.recv, 4, ERRQUEUE | socket.MSG_PEEK))
    show(outcome(sock.recv, 4, ERRQUEUE | socket.MSG_PEEK))


def case_error_ends_a_blocked_receive() -> None:
    for family, address in ADDRESSES:
        for how in ("recvfrom", "recvmsg"):
            sock = _asker(family)
            port = closed_port(socket.SOCK_DGRAM, family)
            timer = threading.Timer(0.05, sock.sendto, (b"x", (address, port)))
            timer.start()
            show(how, outcome(getattr(sock, how), 10))
            timer.join()


def case_errors_after_connect_again() -> None:
    sock, server = _asker(socket.AF_INET, 0), udp()
    sock.connect((V4, closed_port(socket.SOCK_DGRAM)))
    sock.send(b"x")
    _wait(sock)
    sock.connect(server.getsockname())
    show(outcome(sock.sendto, b"y", server.getsockname()), _pending(sock))
    show(outcome(sock.sendto, b"y", server.getsockname()))
    show(server.recv(10))


def case_many_errors_fill_the_queue() -> None:
    sock = _asker(socket.AF_INET)
    port = closed_port(socket.SOCK_DGRAM)
    for i in range(20):
        outcome(sock.sendto, bytes([i]), (V4, port))
        outcome(sock.sendto, bytes([i]), (V4, port))
    count = 0
    while outcome(sock.recv, 10, ERRQUEUE) != "EAGAIN":
        count += 1
    show(count)
