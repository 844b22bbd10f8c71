"""Every option of every kind of socket: its default, and what setting values gives.

A case is a kind of socket in one state; for each option it shows what getsockopt says
to long, short and empty buffers, and what each value gives and reads back as, on a
fresh socket for each option.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Sequence

from kit import listener, name_of, pair, show, udp

_libc = ctypes.CDLL(None, use_errno=True)
_SOL, _IP, _TCP, _UDP, _IP6, _LITE, _NETLINK = 1, 0, 6, 17, 41, 136, 270
_OPTIONS = [
    (level, name)
    for level, names in (
        (_SOL, range(84)),
        (_TCP, range(48)),
        (_IP, range(54)),
        (_IP6, range(80)),
        (_UDP, [*range(12), *range(100, 105)]),
        (_LITE, range(13)),
        (_NETLINK, range(14)),
        *((58, range(3)), (255, range(3)), (263, range(2)), (999, range(2))),
    )
    for name in names
]
_VALUES = [
    *(struct.pack("i", one) for one in (0, 1, 2, 7, 64, 255, 256, 70000, 1 << 30, -1)),
    *(b"", b"\1", b"\1\0\0", bytes(8), bytes(16), b"\1" * 40),
    struct.pack("ii", 1, 1) + bytes(8),
    *(b"cubic", b"reno", b"nosuch", b"lo\0"),
]
_FEW = [struct.pack("i", 0), struct.pack("i", 1), struct.pack("i", 300), bytes(16)]
_REFUSED = {(_SOL, 60), (_TCP, 36), (_UDP, 100)}
"""What a view refuses on purpose; the cases of this name show it."""
_LEFT_OUT = {
    # numbers that each socket has for itself, counters, what a CPU did
    *((_SOL, 28), (_SOL, 49), (_SOL, 55), (_SOL, 57), (_SOL, 71)),
    *((_TCP, 11), (_TCP, 24), (_TCP, 26), (_IP, 52)),
    # it would stop the socket from being closed as others are
    (_TCP, 19),
    # descriptors of programs, and kernels with modules that others lack
    *((_SOL, 50), (_SOL, 52), (_TCP, 31), (_IP6, 64), (_IP6, 65)),
    # taken of a connection in a state that the kernel alone has
    *((_SOL, 37), (_SOL, 65), (_TCP, 21)),
    # options of UDP under the other level
    *((_LITE, name) for name in (1, *range(100, 105))),
}
_AGREED = {(_SOL, 7), (_SOL, 8), (_TCP, 2), (_TCP, 10)}
"""What a connection comes to on loopback: sizes that differ by kernel."""

Make = Callable[[], tuple[socket.socket, ...]]


def _get(fd: int, level: int, name: int, size: int) -> str:
    buf = ctypes.create_string_buffer(b"\xee" * 128, 128)
    length = ctypes.c_int(size)
    if _libc.getsockopt(fd, level, name, buf, ctypes.byref(length)) < 0:
        return name_of(ctypes.get_errno())
    return f"{length.value}:{buf.raw[: min(length.value, size)].hex()}"


def _set(fd: int, level: int, name: int, value: bytes) -> str:
    rc = _libc.setsockopt(fd, level, name, value, len(value))
    return name_of(ctypes.get_errno() if rc < 0 else 0)


def _sweep(make: Make, values: Sequence[bytes] = _VALUES) -> None:
    left_out = _REFUSED | _LEFT_OUT | (_AGREED if values is _FEW else set())
    for level, name in _OPTIONS:
        if (level, name) in left_out:
            continue
        socks = make()
        fd = socks[0].fileno()
        seen = [_get(fd, level, name, size) for size in (64, 7, 3, 1, 0)]
        for value in values:
            result = _set(fd, level, name, value)
            now = _get(fd, level, name, 64)[:24] if result == "ok" else ""
            seen.append(f"{value.hex()[:8]}/{len(value)} {result} {now}")
        show(level, name, "; ".join(seen))
        for sock in socks:
            sock.close()


def _refused(make: Make) -> None:
    socks = make()
    for level, name in sorted(_REFUSED):
        for value in (0, 1, 2):
            result = _set(socks[0].fileno(), level, name, struct.pack("i", value))
            show(level, name, value, result, _get(socks[0].fileno(), level, name, 4))


def _listener(family: int) -> Make:
    return lambda: (listener(family),)


def _connected_stream(family: int) -> Make:
    def make() -> tuple[socket.socket, ...]:
        server, client, accepted = pair(family)
        return client, server, accepted

    return make


def _connected_datagram(family: int) -> Make:
    def make() -> tuple[socket.socket, ...]:
        server, client = udp(family), socket.socket(family, socket.SOCK_DGRAM)
        client.connect(server.getsockname())
        return client, server

    return make


def _fresh(family: int, kind: int, protocol: int = 0) -> Make:
    return lambda: (socket.socket(family, kind, protocol),)


def case_tcp4() -> None:
    _sweep(_fresh(socket.AF_INET, socket.SOCK_STREAM))


def case_tcp6() -> None:
    _sweep(_fresh(socket.AF_INET6, socket.SOCK_STREAM))


def case_tcp4_listening() -> None:
    _sweep(_listener(socket.AF_INET), _FEW)


def case_tcp6_listening() -> None:
    _sweep(_listener(socket.AF_INET6), _FEW)


def case_tcp4_connected() -> None:
    _sweep(_connected_stream(socket.AF_INET), _FEW)


def case_tcp6_connected() -> None:
    _sweep(_connected_stream(socket.AF_INET6), _FEW)


def case_tcp_refused() -> None:
    _refused(_fresh(socket.AF_INET, socket.SOCK_STREAM))


def case_udp4() -> None:
    _sweep(_fresh(socket.AF_INET, socket.SOCK_DGRAM))


def case_udp6() -> None:
    _sweep(_fresh(socket.AF_INET6, socket.SOCK_DGRAM))


def case_udp4_connected() -> None:
    _sweep(_connected_datagram(socket.AF_INET), _FEW)


def case_udp6_connected() -> None:
    _sweep(_connected_datagram(socket.AF_INET6), _FEW)


def case_udp_refused() -> None:
    _refused(_fresh(socket.AF_INET, socket.SOCK_DGRAM))


def case_udplite4() -> None:
    _sweep(_fresh(socket.AF_INET, socket.SOCK_DGRAM, _LITE))


def case_udplite6() -> None:
    _sweep(_fresh(socket.AF_INET6, socket.SOCK_DGRAM, _LITE))


def case_netlink_route() -> None:
    _sweep(_fresh(socket.AF_NETLINK, socket.SOCK_RAW))


def case_netlink_sock_diag() -> None:
    _sweep(_fresh(socket.AF_NETLINK, socket.SOCK_DGRAM, 4))
