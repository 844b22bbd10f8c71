"""Socket options: defaults, what setting gives, lengths, inheritance, effects."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys

from kit import (
    ADDRESSES,
    V4,
    V6,
    closed_port,
    listener,
    mask_after,
    name_of,
    outcome,
    pair,
    polled,
    settled,
    show,
    udp,
    wait_for,
)

_libc = ctypes.CDLL(None, use_errno=True)
_KINDS = (
    ("tcp4", socket.AF_INET, socket.SOCK_STREAM),
    ("tcp6", socket.AF_INET6, socket.SOCK_STREAM),
    ("udp4", socket.AF_INET, socket.SOCK_DGRAM),
    ("udp6", socket.AF_INET6, socket.SOCK_DGRAM),
)
_SOL, _IP, _TCP, _UDP, _IP6, _NETLINK = 1, 0, 6, 17, 41, 270


def _get(fd: int, level: int, name: int, size: int = 64) -> str:
    buf = ctypes.create_string_buffer(b"\xee" * 64, 64)
    length = ctypes.c_int(size)
    if _libc.getsockopt(fd, level, name, buf, ctypes.byref(length)) < 0:
        return name_of(ctypes.get_errno())
    return f"{length.value}:{buf.raw[: max(length.value, size)].hex().rstrip('e')}"


def _set(fd: int, level: int, name: int, data: bytes | None, size: int) -> str:
    rc = _libc.setsockopt(fd, level, name, data, size)
    return name_of(ctypes.get_errno() if rc < 0 else 0)


def case_set_strange_values() -> None:
    with socket.socket() as sock:
        for level, name in ((_SOL, 2), (_TCP, 1), (_IP, 1), (_SOL, 20), (_TCP, 13)):
            show(level, name, _set(sock.fileno(), level, name, bytes(4), -1))
            show(level, name, _set(sock.fileno(), level, name, None, 4))
            show(level, name, _set(sock.fileno(), level, name, None, 0))


def case_timeouts() -> None:
    with socket.socket() as sock:
        for name in (20, 21, 66, 67):
            for seconds, micros in ((0, 0), (0, 1), (1, 999_999), (5, 0), (-1, 0)):
                data = struct.pack("qq", seconds, micros)
                show(name, seconds, micros, _set(sock.fileno(), _SOL, name, data, 16))
                show([_get(sock.fileno(), _SOL, other) for other in (20, 66, 21, 67)])
            for micros in (-1, 1_000_000):
                data = struct.pack("qq", 0, micros)
                show(name, micros, _set(sock.fileno(), _SOL, name, data, 16))


def case_buffers() -> None:
    for _, family, type_ in _KINDS:
        with socket.socket(family, type_) as sock:
            for name in (7, 8, 32, 33):
                for size in (0, 1, 4096, 65536, 212_992, 300_000, 1 << 22, 1 << 30, -1):
                    data = struct.pack("i", size)
                    show(name, size, _set(sock.fileno(), _SOL, name, data, 4))
                    show(sock.getsockopt(_SOL, 7), sock.getsockopt(_SOL, 8))


def case_small_send_buffer_still_carries() -> None:
    import threading

    server = listener()
    client = socket.socket()
    client.setsockopt(_SOL, socket.SO_SNDBUF, 1)
    server.setsockopt(_SOL, socket.SO_RCVBUF, 1)
    client.connect(server.getsockname())
    accepted, _ = server.accept()
    thread = threading.Thread(target=client.sendall, args=(b"x" * 300_000,))
    thread.start()
    got = 0
    while got < 300_000:
        got += len(accepted.recv(1 << 16))
    thread.join()
    show(got)


def case_congestion() -> None:
    with socket.socket() as sock:
        for name in (b"reno", b"cubic", b"nonsense", b"", b"x" * 40):
            show(name, _set(sock.fileno(), _TCP, 13, name, len(name)))
            show(_get(sock.fileno(), _TCP, 13), _get(sock.fileno(), _TCP, 13, 3))


def case_exclusive_timestamps() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for name in (29, 35, 63, 64):
            show(outcome(sock.setsockopt, _SOL, name, 1))
            show([sock.getsockopt(_SOL, other) for other in (29, 35, name)])
        show(outcome(sock.setsockopt, _SOL, 29, 0))
        show([sock.getsockopt(_SOL, other) for other in (29, 35, 63, 64)])


def case_inherited_by_accepted() -> None:
    values = (
        (_SOL, 2, 1),
        (_SOL, 15, 1),
        (_SOL, 9, 1),
        (_SOL, 10, 1),
        (_SOL, 12, 3),
        (_SOL, 18, 5),
        (_SOL, 7, 100_000),
        (_SOL, 8, 100_000),
        (_TCP, 1, 1),
        (_TCP, 4, 77),
        (_TCP, 5, 7),
        (_TCP, 6, 3),
        (_TCP, 9, 5),
        (_TCP, 18, 1234),
        (_TCP, 23, 5),
        (_TCP, 12, 0),
        (_IP, 1, 16),
        (_IP, 2, 77),
        (_IP, 8, 1),
    )
    server = socket.socket()
    for level, name, value in values:
        show(outcome(server.setsockopt, level, name, value))
    server.setsockopt(_SOL, 13, struct.pack("ii", 1, 7))
    server.setsockopt(_SOL, 20, struct.pack("ll", 0, 40_000))
    server.bind((V4, 0))
    server.listen()
    client = socket.create_connection(server.getsockname())
    client.send(b"x")
    wait_for(server)
    accepted, _ = server.accept()
    for level, name, _ in values:
        show(level, name, accepted.getsockopt(level, name))
    show(accepted.getsockopt(_SOL, 13, 8), accepted.getsockopt(_SOL, 20, 16))
    show(accepted.recv(1), outcome(accepted.recv, 1))
    show(server.getsockopt(_SOL, 30), accepted.getsockopt(_SOL, 30))


def case_names_and_numbers() -> None:
    for kind, family, type_ in _KINDS:
        with socket.socket(family, type_) as sock:
            fd = sock.fileno()
            show(
                kind, [_get(fd, _SOL, name) for name in (3, 4, 30, 38, 39, 17, 28, 59)]
            )
            cookie = sock.getsockopt(_SOL, 57, 8)
            other = socket.socket(family, type_)
            show(cookie != other.getsockopt(_SOL, 57, 8), _get(fd, _SOL, 57, 7))
            show(cookie == sock.getsockopt(_SOL, 57, 8))
            other.close()


def case_peer_name() -> None:
    for family, _ in ADDRESSES:
        _, client, accepted = pair(family)
        name = client.getsockopt(_SOL, 28, 16 if family == 2 else 28)
        show(struct.unpack("!H", name[2:4])[0] == client.getpeername()[1])
        show(_get(client.fileno(), _SOL, 28, 4)[:10] != "", accepted.fileno() > 0)
        show(_get(client.fileno(), _SOL, 28, 60))
        show(client.getsockopt(_SOL, 17, 12))


def case_bind_to_device() -> None:
    with socket.socket() as sock:
        fd = sock.fileno()
        show(_get(fd, _SOL, 25), _set(fd, _SOL, 25, b"nothere\0", 8))
        show(_set(fd, _SOL, 25, b"lo\0", 3), _get(fd, _SOL, 25), _get(fd, _SOL, 25, 3))
        show(
            _get(fd, _SOL, 62), _set(fd, _SOL, 25, b"", 0), _set(fd, _SOL, 25, b"lo", 2)
        )
    with socket.socket() as sock:
        show(_set(sock.fileno(), _SOL, 25, b"lo", 2), _get(sock.fileno(), _SOL, 25))
        show(outcome(sock.connect, listener().getsockname()))


def case_bound_to_lo() -> None:
    for family, address in ADDRESSES:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            one, two = socket.socket(family, kind), socket.socket(family, kind)
            one.settimeout(5)
            one.setsockopt(_SOL, 25, b"lo")
            one.bind((address, 0))
            if kind == socket.SOCK_STREAM:
                one.listen()
            two.setsockopt(_SOL, 25, b"lo")
            show(outcome(two.connect, one.getsockname()), outcome(two.send, b"x"))
            if kind == socket.SOCK_STREAM:
                accepted, _ = one.accept()
                show(_get(accepted.fileno(), _SOL, 25), accepted.recv(1))
            else:
                show(one.recv(9))


def case_path_mtu() -> None:
    for family, _ in ADDRESSES:
        level, name = (_IP, 14) if family == socket.AF_INET else (_IP6, 24)
        _, client, _accepted = pair(family)
        show(_get(client.fileno(), level, name))
        one = udp(family)
        show(_get(one.fileno(), level, name))
        one.connect(udp(family).getsockname())
        show(_get(one.fileno(), level, name))


def case_tcp_info() -> None:
    server, client, accepted = pair()
    show([sock.getsockopt(_TCP, 11, 1)[0] for sock in (server, client, accepted)])
    show([len(client.getsockopt(_TCP, 11, size)) for size in (1, 8, 104, 192)])
    accepted.close()
    show(settled(lambda: client.getsockopt(_TCP, 11, 1)[0], 8))
    _, client, accepted = pair()
    client.shutdown(socket.SHUT_WR)
    show(settled(lambda: client.getsockopt(_TCP, 11, 1)[0], 5))
    show(settled(lambda: accepted.getsockopt(_TCP, 11, 1)[0], 8))
    show(socket.socket().getsockopt(_TCP, 11, 1))


def case_memberships() -> None:
    def join(sock: socket.socket, name: int, data: bytes) -> str:
        return _set(sock.fileno(), _IP, name, data, len(data))

    group, other = socket.inet_aton("239.1.1.1"), socket.inet_aton("239.1.1.2")
    here = socket.inet_aton(V4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        show(join(sock, 35, group + here), join(sock, 35, group + here))
        show(join(sock, 35, other + here), join(sock, 35, here + here))
        show(join(sock, 35, group[:3]), join(sock, 35, group))
        show(join(sock, 35, group + socket.inet_aton("192.0.2.1")))
        show(join(sock, 35, group + bytes(4) + struct.pack("i", 1)))
        show(join(sock, 35, group + bytes(4) + struct.pack("i", 999)))
        show(join(sock, 36, group + here), join(sock, 36, group + here))
        show(join(sock, 36, other + bytes(4)))
        request = struct.pack("I4x", 1) + b"\2\0\0\0" + group + bytes(120)
        show(join(sock, 42, request), join(sock, 42, request), join(sock, 45, request))
        show(join(sock, 42, request[:40]))
        show(join(sock, 39, group + here + socket.inet_aton("192.0.2.1")))
        show(join(sock, 39, group + here + socket.inet_aton("192.0.2.1")))
        show(join(sock, 40, group + here + socket.inet_aton("192.0.2.1")))
    with socket.socket() as stream:
        show(join(stream, 35, group + here))


def case_ipv6_memberships() -> None:
    group = socket.inet_pton(socket.AF_INET6, "ff02::1234")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        for data in (
            group + struct.pack("I", 1),
            group + struct.pack("I", 1),
            group + struct.pack("I", 999),
            socket.inet_pton(socket.AF_INET6, V6) + struct.pack("I", 1),
            group,
        ):
            show(_set(sock.fileno(), _IP6, 20, data, len(data)))
        show(_set(sock.fileno(), _IP6, 21, group + struct.pack("I", 1), 20))
        show(_set(sock.fileno(), _IP6, 21, group + struct.pack("I", 1), 20))


def case_multicast_card() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fd = sock.fileno()
        for data in (
            socket.inet_aton(V4),
            socket.inet_aton("192.0.2.1"),
            bytes(4),
            bytes(8) + struct.pack("i", 1),
            bytes(8) + struct.pack("i", 999),
            bytes(4) + socket.inet_aton(V4),
            b"\1\2",
        ):
            show(_set(fd, _IP, 32, data, len(data)), _get(fd, _IP, 32))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        for index in (1, 999, 0):
            data = struct.pack("i", index)
            show(_set(sock.fileno(), _IP6, 17, data, 4), _get(sock.fileno(), _IP6, 17))


def case_peek_offset() -> None:
    one, two = udp(), udp()
    show(two.getsockopt(_SOL, 42), outcome(two.setsockopt, _SOL, 42, 2))
    show(two.getsockopt(_SOL, 42), polled(one))


def case_linger_reset() -> None:
    _, client, accepted = pair()
    client.setsockopt(_SOL, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    show(mask_after(accepted, "IN|OUT|ERR|HUP|RDHUP"))
    show(outcome(accepted.recv, 1))


def case_error_is_taken_once() -> None:
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex((V4, closed_port()))
    wait_for(client)
    show([client.getsockopt(_SOL, socket.SO_ERROR) for _ in range(3)])


def case_unix_and_pipes_are_left_alone() -> None:
    one, two = socket.socketpair()
    show(
        one.getsockopt(_SOL, 39),
        one.getsockopt(_SOL, 17, 12)[:4] == two.getsockopt(_SOL, 17, 12)[:4],
        struct.unpack("i", one.getsockopt(_SOL, 17, 12)[:4])[0] == os.getpid(),
    )
    show(outcome(one.setsockopt, _TCP, 1, 1), outcome(one.setsockopt, _SOL, 16, 1))
    show(_set(0, _SOL, 2, bytes(4), 4) in ("ENOTSOCK", "ok"), sys.byteorder)


def case_receive_low_water() -> None:
    _, client, accepted = pair()
    show(outcome(accepted.setsockopt, _SOL, socket.SO_RCVLOWAT, 100))
    client.send(b"x" * 10)
    settled(lambda: accepted.recv(100, socket.MSG_PEEK | socket.MSG_DONTWAIT), b"")
    show(polled(accepted))
    client.send(b"x" * 100)
    show(mask_after(accepted, "IN|OUT"), len(accepted.recv(200)))


def case_peek_offset_moves() -> None:
    _, client, accepted = pair()
    show(outcome(accepted.setsockopt, _SOL, 42, 2))
    client.send(b"0123456789")
    wait_for(accepted)
    for _ in range(3):
        show(accepted.recv(3, socket.MSG_PEEK), accepted.getsockopt(_SOL, 42))
    show(accepted.recv(4), accepted.getsockopt(_SOL, 42))
    show(outcome(accepted.recv, 9, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    one, two = udp(), udp()
    show(outcome(two.setsockopt, _SOL, 42, 0))
    one.sendto(b"0123456789", two.getsockname())
    for _ in range(2):
        show(two.recv(3, socket.MSG_PEEK), two.getsockopt(_SOL, 42))
    show(two.recv(99))


def case_deferred_accept() -> None:
    server = listener()
    show(outcome(server.setsockopt, _TCP, socket.TCP_DEFER_ACCEPT, 5))
    client = socket.create_connection(server.getsockname())
    show(polled(server), polled(client))
    client.send(b"x")
    show(mask_after(server, "IN"), server.accept()[0].recv(9))


def case_cork() -> None:
    _, client, accepted = pair()
    client.setsockopt(_TCP, socket.TCP_CORK, 1)
    client.send(b"one")
    show(polled(accepted))
    client.send(b"two")
    client.setsockopt(_TCP, socket.TCP_CORK, 0)
    wait_for(accepted)
    show(settled(lambda: accepted.recv(99, socket.MSG_PEEK), b"onetwo"))
