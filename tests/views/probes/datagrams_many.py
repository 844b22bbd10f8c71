"""Several datagrams a call: recvmmsg, sendmmsg, UDP_SEGMENT and GRO, corking."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time

from kit import (
    ADDRESSES,
    V4,
    Iov,
    Message,
    closed_port,
    name_of,
    outcome,
    polled,
    show,
    udp,
    wait_for,
)

_libc = ctypes.CDLL(None, use_errno=True)
UDP = socket.IPPROTO_UDP
CORK, SEGMENT, GRO = 1, 103, 104
WAITFORONE = 0x10000
DONTWAIT = socket.MSG_DONTWAIT


def _udp(family: int = socket.AF_INET) -> socket.socket:
    """Return a bound socket in blocking mode: with a flag it does not wait at all."""
    sock = udp(family)
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    return sock


def _vector(
    count: int,
) -> tuple[ctypes.Array[Message], list[ctypes.Array[ctypes.c_char]]]:
    messages = (Message * count)()
    bufs = []
    for i in range(count):
        buf = ctypes.create_string_buffer(bytes([65 + i % 26]) * 8, 8)
        bufs.append(buf)
        messages[i].iov = ctypes.pointer(Iov(ctypes.addressof(buf), 2 + i % 6))
        messages[i].iovlen = 1
    return messages, bufs


def _name(sock: socket.socket) -> ctypes.Array[ctypes.c_char]:
    host, port = sock.getsockname()[:2]
    raw = struct.pack("=HH", 2, socket.htons(port)) + socket.inet_aton(host)
    return ctypes.create_string_buffer(raw + bytes(8), 16)


def _result(value: int) -> object:
    return value if value >= 0 else name_of(ctypes.get_errno())


def case_sendmmsg_recvmmsg() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    messages, _ = _vector(4)
    show(_libc.sendmmsg(one.fileno(), messages, 4, 0), [m.len for m in messages])
    wait_for(two)
    messages, bufs = _vector(6)
    names = [ctypes.create_string_buffer(16) for _ in range(6)]
    for message, name in zip(messages, names, strict=True):
        message.name, message.namelen = ctypes.addressof(name), 16
    show(_libc.recvmmsg(two.fileno(), messages, 6, DONTWAIT, None))
    show([(m.len, m.namelen, m.flags) for m in messages[:4]], bufs[1].raw[:3])
    port = struct.pack("!H", one.getsockname()[1])
    show([name.raw[2:4] == port for name in names[:4]])
    show(_result(_libc.recvmmsg(two.fileno(), messages, 6, DONTWAIT, None)))
    one.send(b"z")
    show(_libc.recvmmsg(two.fileno(), messages, 6, WAITFORONE, None))
    fresh = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    show(_result(_libc.sendmmsg(fresh.fileno(), messages, 2, 0)))


def _limited(
    two: socket.socket,
    count: int,
    limit: tuple[int, int],
    flags: int,
    least: float = 0,
) -> None:
    messages, _ = _vector(count)
    timespec = (ctypes.c_long * 2)(*limit)
    start = time.monotonic()
    result = _result(_libc.recvmmsg(two.fileno(), messages, count, flags, timespec))
    took = time.monotonic() - start
    show(result, took >= least, timespec[0], timespec[1] > 0)


def case_recvmmsg_time_limit() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    two.setblocking(True)
    one.send(b"z")
    threading.Timer(0.6, one.send, (b"late",)).start()
    _limited(two, 3, (0, 50_000_000), 0, 0.25)


def case_recvmmsg_time_limit_before_the_first() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    two.setblocking(True)
    threading.Timer(0.6, one.send, (b"late",)).start()
    _limited(two, 3, (0, 50_000_000), 0, 0.25)


def case_recvmmsg_enough_in_time() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    two.setblocking(True)
    for i in range(3):
        threading.Timer(0.1 * i, one.send, (b"x",)).start()
    _limited(two, 3, (5, 500_000_000), 0)


def case_recvmmsg_no_time_at_all() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    two.setblocking(True)
    for _ in range(3):
        one.send(b"x")
    time.sleep(0.05)
    _limited(two, 3, (0, 0), 0)
    _limited(two, 3, (0, 0), DONTWAIT)
    _limited(two, 3, (1, 0), DONTWAIT)
    _limited(two, 3, (1, 0), DONTWAIT)


def case_recvmmsg_wrong_limits() -> None:
    two = _udp()
    two.setblocking(True)
    for limit in ((-1, 0), (0, -1), (0, 1_000_000_000)):
        _limited(two, 3, limit, DONTWAIT)
    messages, _ = _vector(3)
    show(
        _result(_libc.recvmmsg(two.fileno(), messages, 3, DONTWAIT, ctypes.c_void_p(8)))
    )
    show(_result(_libc.recvmmsg(two.fileno(), None, 3, DONTWAIT, None)))
    show(_result(_libc.recvmmsg(two.fileno(), messages, 0, 0, None)))
    show(_result(_libc.recvmmsg(99, messages, 0, 0, None)))


def case_recvmmsg_and_receive_timeout() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    two.setblocking(True)
    limit = struct.pack("ll", 0, 200_000)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    messages, _ = _vector(3)
    show(_result(_libc.recvmmsg(two.fileno(), messages, 3, 0, None)))
    one.send(b"x")
    start = time.monotonic()
    show(_result(_libc.recvmmsg(two.fileno(), messages, 3, 0, None)))
    show(0.1 < time.monotonic() - start < 1)


def case_recvmmsg_waits_for_all() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    two.setblocking(True)
    for i in range(4):
        threading.Timer(0.05 * i, one.send, (bytes([65 + i]),)).start()
    messages, bufs = _vector(4)
    show(_result(_libc.recvmmsg(two.fileno(), messages, 4, 0, None)))
    show([buf.raw[:1] for buf in bufs])


def case_recvmmsg_of_many() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    messages, _ = _vector(150)
    show(_result(_libc.sendmmsg(one.fileno(), messages, 150, 0)))
    time.sleep(0.1)
    messages, _ = _vector(200)
    show(_result(_libc.recvmmsg(two.fileno(), messages, 200, DONTWAIT, None)))
    show([m.len for m in messages[148:152]])


def case_recvmmsg_and_a_pending_error() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((V4, closed_port(socket.SOCK_DGRAM)))
    sock.send(b"x")
    wait_for(sock, 0xD)
    messages, _ = _vector(3)
    show(_result(_libc.recvmmsg(sock.fileno(), messages, 3, 0, None)))
    show(_result(_libc.recvmmsg(sock.fileno(), messages, 3, DONTWAIT, None)))


def case_sendmmsg_stops_at_an_error() -> None:
    one, two = _udp(), _udp()
    messages, _ = _vector(4)
    name = _name(two)
    for i in (0, 1, 3):
        messages[i].name, messages[i].namelen = ctypes.addressof(name), 16
    show(_result(_libc.sendmmsg(one.fileno(), messages, 4, 0)))
    show([m.len for m in messages], two.recv(9), two.recv(9))
    show(_result(_libc.sendmmsg(one.fileno(), ctypes.byref(messages, 128), 2, 0)))
    show(_result(_libc.sendmmsg(one.fileno(), messages, 0, 0)))
    show(_result(_libc.sendmmsg(one.fileno(), None, 2, 0)))
    show(outcome(two.recv, 9, DONTWAIT) == "EAGAIN")


def case_sendmmsg_to_several() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    targets = [_udp() for _ in range(5)]
    messages, _ = _vector(5)
    names = [_name(target) for target in targets]
    for message, name in zip(messages, names, strict=True):
        message.name, message.namelen = ctypes.addressof(name), 16
    show(_result(_libc.sendmmsg(sock.fileno(), messages, 5, 0)))
    show([target.recv(10) for target in targets])


def case_segment_option() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        show(one.getsockopt(UDP, SEGMENT), one.getsockopt(UDP, GRO))
        show(outcome(one.setsockopt, UDP, SEGMENT, 100), one.getsockopt(UDP, SEGMENT))
        show(outcome(one.sendto, b"a" * 250, two.getsockname()))
        show([len(two.recv(1000)) for _ in range(3)])
        show(outcome(one.sendto, b"b" * 100, two.getsockname()), len(two.recv(999)))
        show(outcome(one.sendto, b"", two.getsockname()), len(two.recv(999)))
        one.connect(two.getsockname())
        show(one.send(b"c" * 150), len(two.recv(999)), len(two.recv(999)))
        for value in (-1, 0, 65535, 65536):
            show(value, outcome(one.setsockopt, UDP, SEGMENT, value))
            show(one.getsockopt(UDP, SEGMENT))


def case_segment_message() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        for size, total in ((4, 10), (10, 10), (100, 10), (0, 10), (1000, 65507)):
            control = [(UDP, SEGMENT, struct.pack("H", size))]
            data = b"x" * total
            result = outcome(one.sendmsg, [data], control, 0, two.getsockname())
            show(size, total, result)
            if result == total:
                count = -(-total // (size or total))
                show([len(two.recv(70000)) for _ in range(count)][-2:])
        for bad in (b"", b"1", b"1234"):
            show(
                outcome(
                    one.sendmsg, [b"x"], [(UDP, SEGMENT, bad)], 0, two.getsockname()
                )
            )


def case_segment_limits() -> None:
    one, two = _udp(), _udp()
    for size, total in ((1, 128), (1, 129), (1, 60000), (600, 65508), (60000, 65507)):
        control = [(UDP, SEGMENT, struct.pack("H", size))]
        show(
            size,
            total,
            outcome(one.sendmsg, [bytes(total)], control, 0, two.getsockname()),
        )


def case_gro() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        show(outcome(two.setsockopt, UDP, GRO, 1), two.getsockopt(UDP, GRO))
        control = [(UDP, SEGMENT, struct.pack("H", 100))]
        one.sendmsg([b"x" * 250], control, 0, two.getsockname())
        data, got, flags, _ = two.recvmsg(1000, 100)
        show(len(data), got, flags)
        one.sendmsg([b"x" * 100], control, 0, two.getsockname())
        data, got, flags, _ = two.recvmsg(1000, 100)
        show(len(data), got, flags)
        one.sendto(b"y", two.getsockname())
        show(two.recvmsg(100, 100)[:2])
        one.sendmsg([b"z" * 250], control, 0, two.getsockname())
        show(len(two.recv(1000)))


def case_more() -> None:
    for family, _ in ADDRESSES:
        one, two, three = _udp(family), _udp(family), _udp(family)
        show(one.sendto(b"a", socket.MSG_MORE, two.getsockname()), polled(two))
        show(one.sendto(b"b", socket.MSG_MORE, three.getsockname()))
        show(one.sendto(b"c", two.getsockname()), two.recv(10), polled(three))
        one.sendto(b"d", two.getsockname())
        show(two.recv(10))
        one.connect(two.getsockname())
        show(one.sendmsg([b"e"], [], socket.MSG_MORE), one.sendmsg([b"f"]))
        show(two.recv(10))


def case_more_grows_too_long() -> None:
    one, two = _udp(), _udp()
    show(one.sendto(bytes(40000), socket.MSG_MORE, two.getsockname()))
    show(outcome(one.sendto, bytes(40000), socket.MSG_MORE, two.getsockname()))
    show(one.sendto(b"after", two.getsockname()), len(two.recv(70000)))


def case_cork() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        one.connect(two.getsockname())
        show(outcome(one.setsockopt, UDP, CORK, 1), one.getsockopt(UDP, CORK))
        show(one.send(b"a"), one.sendto(b"b", two.getsockname()), one.send(b"c"))
        show(polled(two))
        show(outcome(one.setsockopt, UDP, CORK, 0), one.getsockopt(UDP, CORK))
        show(two.recv(10))
        one.send(b"d")
        show(two.recv(10))
        show(
            outcome(one.setsockopt, UDP, CORK, 1), outcome(one.setsockopt, UDP, CORK, 0)
        )
        show(polled(two))


def case_cork_then_more() -> None:
    one, two = _udp(), _udp()
    one.sendto(b"a", socket.MSG_MORE, two.getsockname())
    one.setsockopt(UDP, CORK, 1)
    one.sendto(b"b", two.getsockname())
    one.setsockopt(UDP, CORK, 0)
    show(two.recv(10))
    one.sendto(b"lost", socket.MSG_MORE, two.getsockname())
    one.close()
    show(polled(two, 0.05))


def case_netlink_sendmmsg() -> None:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    request = struct.pack("=IHHII", 20, 18, 0x301, 1, 0) + bytes(4)  # RTM_GETLINK dump
    buf = ctypes.create_string_buffer(request, len(request))
    messages, _ = _vector(2)
    messages[0].iov = ctypes.pointer(Iov(ctypes.addressof(buf), len(request)))
    show(_result(_libc.sendmmsg(sock.fileno(), messages, 1, 0)), messages[0].len)
    data = sock.recv(70000)
    show(struct.unpack_from("=IHHII", data)[1])
