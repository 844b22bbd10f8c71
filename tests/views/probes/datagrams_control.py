"""Control messages of datagrams: sent, received, several at once, cut short."""

from __future__ import annotations

import socket
import struct
import time

from kit import ADDRESSES, V4, V6, outcome, show, udp, wait_for

IP, IP6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
PKTINFO, RECVTTL, RECVTOS, RECVOPTS, ORIGDST = 8, 12, 13, 6, 20
PKTINFO6, RECVPKTINFO6, RECVHOPLIMIT, HOPLIMIT = 50, 49, 51, 52
RECVTCLASS, TCLASS, ORIGDST6 = 66, 67, 74
TIMESTAMP, TIMESTAMPNS, RXQ_OVFL = 29, 35, 40


def _udp(family: int = socket.AF_INET) -> socket.socket:
    """Return a bound socket in blocking mode: with a flag it does not wait at all."""
    sock = udp(family)
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    return sock


def _receive(sock: socket.socket, room: int = 400) -> list[tuple[int, int, bytes]]:
    data, control, flags, _ = sock.recvmsg(100, room)
    show(data, hex(flags))
    return control


def _info4(index: int, source: str, dest: str = "0.0.0.0") -> tuple[int, int, bytes]:
    ends = socket.inet_aton(source) + socket.inet_aton(dest)
    return (IP, PKTINFO, struct.pack("i", index) + ends)


def _info6(source: str, index: int = 0) -> tuple[int, int, bytes]:
    raw = socket.inet_pton(socket.AF_INET6, source)
    return (IP6, PKTINFO6, raw + struct.pack("i", index))


def case_all_of_ipv4() -> None:
    one, two = _udp(), _udp()
    for option in (PKTINFO, RECVTTL, RECVTOS, RECVOPTS, 7):
        two.setsockopt(IP, option, 1)
    one.setsockopt(IP, socket.IP_TTL, 7)
    one.setsockopt(IP, socket.IP_TOS, 0x28)
    one.sendto(b"x", two.getsockname())
    show(_receive(two))
    two.setsockopt(IP, ORIGDST, 1)
    one.sendto(b"x", two.getsockname())
    for level, kind, value in _receive(two):
        if kind == ORIGDST:
            own = struct.pack("!H", two.getsockname()[1])
            show(level, kind, value[:2], value[2:4] == own, value[4:])
    for option in (PKTINFO, RECVTTL, RECVTOS, RECVOPTS, 7, ORIGDST):
        two.setsockopt(IP, option, 0)
    one.sendto(b"x", two.getsockname())
    show(_receive(two))


def case_all_of_ipv6() -> None:
    one, two = _udp(socket.AF_INET6), _udp(socket.AF_INET6)
    for option in (RECVPKTINFO6, RECVHOPLIMIT, RECVTCLASS):
        two.setsockopt(IP6, option, 1)
    one.setsockopt(IP6, socket.IPV6_UNICAST_HOPS, 7)
    one.setsockopt(IP6, socket.IPV6_TCLASS, 0x28)
    one.sendto(b"x", two.getsockname())
    show(_receive(two))
    two.setsockopt(IP6, ORIGDST6, 1)
    one.sendto(b"x", two.getsockname())
    for level, kind, value in _receive(two):
        if kind == ORIGDST6:
            own = struct.pack("!H", two.getsockname()[1])
            show(level, kind, value[:2], value[2:4] == own, value[4:])


def case_old_names_of_ipv6() -> None:
    one, two = _udp(socket.AF_INET6), _udp(socket.AF_INET6)
    for option in (2, 8):  # IPV6_2292PKTINFO, IPV6_2292HOPLIMIT
        show(outcome(two.setsockopt, IP6, option, 1))
    one.sendto(b"x", two.getsockname())
    show(_receive(two))


def case_v4_on_a_v6_socket() -> None:
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    six.bind(("", 0))
    six.settimeout(5)
    for option in (RECVPKTINFO6, RECVHOPLIMIT, RECVTCLASS):
        six.setsockopt(IP6, option, 1)
    for option in (PKTINFO, RECVTTL, RECVTOS):
        show(outcome(six.setsockopt, IP, option, 1))
    _udp().sendto(b"x", (V4, six.getsockname()[1]))
    show(_receive(six))


def case_ttl_and_tos_of_one() -> None:
    one, two = _udp(), _udp()
    for option in (RECVTTL, RECVTOS):
        two.setsockopt(IP, option, 1)
    for control in (
        [(IP, socket.IP_TTL, struct.pack("i", 9))],
        [(IP, socket.IP_TOS, struct.pack("i", 0x10))],
        [(IP, socket.IP_TOS, b"\x20")],
        [
            (IP, socket.IP_TTL, struct.pack("i", 3)),
            (IP, socket.IP_TOS, b"\x08"),
            (IP, socket.IP_TTL, struct.pack("i", 4)),
        ],
        [],
    ):
        show(outcome(one.sendmsg, [b"x"], control, 0, two.getsockname()))
        show(_receive(two))


def case_hop_limit_and_class_of_one() -> None:
    one, two = _udp(socket.AF_INET6), _udp(socket.AF_INET6)
    for option in (RECVHOPLIMIT, RECVTCLASS):
        two.setsockopt(IP6, option, 1)
    for control in (
        [(IP6, HOPLIMIT, struct.pack("i", 9))],
        [(IP6, HOPLIMIT, struct.pack("i", -1))],
        [(IP6, TCLASS, struct.pack("i", 0x10))],
        [(IP6, HOPLIMIT, struct.pack("i", 0))],
        [],
    ):
        show(outcome(one.sendmsg, [b"x"], control, 0, two.getsockname()))
        show(_receive(two))


def case_wrong_ones() -> None:
    one, two = _udp(), _udp()
    six, seven = _udp(socket.AF_INET6), _udp(socket.AF_INET6)
    items: list[tuple[int, int, bytes]] = [
        (IP, socket.IP_TTL, struct.pack("i", 0)),
        (IP, socket.IP_TTL, struct.pack("i", 256)),
        (IP, socket.IP_TTL, b"\x01"),
        (IP, socket.IP_TOS, struct.pack("i", 256)),
        (IP, 99, b"1234"),
        (IP, PKTINFO, b"short"),
        (socket.SOL_SOCKET, 2, b"1234"),
        (socket.SOL_SOCKET, 36, struct.pack("i", 1)),  # SO_MARK
        (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0)),
        (socket.IPPROTO_UDP, 103, b"1"),
        (socket.IPPROTO_UDP, 99, b"12"),
        (socket.IPPROTO_TCP, 1, b"12"),
        (IP6, HOPLIMIT, struct.pack("i", 1)),
        (IP6, 99, b"1234"),
        (IP6, PKTINFO6, b"short"),
        (IP6, TCLASS, b"1"),
        (IP6, HOPLIMIT, struct.pack("i", 300)),
    ]
    for item in items:
        for sender, receiver in ((one, two), (six, seven)):
            result = outcome(sender.sendmsg, [b"x"], [item], 0, receiver.getsockname())
            show(item, result)
            if result == 1:
                show(receiver.recv(5))


def case_source_address() -> None:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    two = _udp()
    for source in ("127.0.0.9", V4, "0.0.0.0", "192.0.2.99"):
        control = [_info4(0, source)]
        result = outcome(one.sendmsg, [b"x"], control, 0, two.getsockname())
        show(source, result)
        if result == 1:
            show(two.recvfrom(5)[1][0])
    bound = _udp()
    show(bound.sendmsg([b"x"], [_info4(0, "127.0.0.9")], 0, two.getsockname()))
    show(two.recvfrom(5)[1][0])
    six, seven = _udp(socket.AF_INET6), _udp(socket.AF_INET6)
    for source in (V6, "::", "2001:db8::99"):
        control = [_info6(source)]
        result = outcome(six.sendmsg, [b"x"], control, 0, seven.getsockname())
        show(source, result)
        if result == 1:
            show(seven.recvfrom(5)[1][0])


def case_card() -> None:
    one, two = _udp(), _udp()
    for index in (0, 1, 77, -1):
        control = [_info4(index, "0.0.0.0")]
        result = outcome(one.sendmsg, [b"x"], control, 0, two.getsockname())
        show(index, result)
        if result == 1:
            show(two.recv(5))
    six, seven = _udp(socket.AF_INET6), _udp(socket.AF_INET6)
    for index in (0, 1, 77):
        control = [_info6("::", index)]
        result = outcome(six.sendmsg, [b"x"], control, 0, seven.getsockname())
        show(index, result)
        if result == 1:
            show(seven.recv(5))


def case_sticky_pktinfo() -> None:
    six, seven = _udp(socket.AF_INET6), _udp(socket.AF_INET6)
    raw = socket.inet_pton(socket.AF_INET6, V6)
    for value in (raw + struct.pack("i", 1), raw + struct.pack("i", 0), raw, b""):
        show(outcome(six.setsockopt, IP6, PKTINFO6, value))
        show(outcome(six.getsockopt, IP6, PKTINFO6, 20))
        show(outcome(six.sendto, b"x", seven.getsockname()), seven.recvfrom(5)[1][0])
    show(outcome(six.setsockopt, IP6, PKTINFO6, raw + struct.pack("i", 77)))
    show(outcome(_udp().setsockopt, IP6, PKTINFO6, raw + struct.pack("i", 0)))


def case_cut() -> None:
    one, two = _udp(), _udp()
    for option in (PKTINFO, RECVTTL, RECVTOS):
        two.setsockopt(IP, option, 1)
    for room in (0, 8, 16, 20, 28, 32, 40, 48, 50, 56, 64, 72, 80, 100):
        one.sendto(b"x", two.getsockname())
        show(room, [(a, b, len(c)) for a, b, c in _receive(two, room)])


def case_times() -> None:
    one, two = _udp(), _udp()
    for option, form in (
        (TIMESTAMP, "qq"),
        (TIMESTAMPNS, "qq"),
        (63, "qq"),
        (64, "qq"),
    ):
        show(option, outcome(two.setsockopt, socket.SOL_SOCKET, option, 1))
        one.sendto(b"x", two.getsockname())
        for level, kind, value in _receive(two):
            seconds = struct.unpack(form, value)[0]
            show(level, kind, len(value), abs(seconds - time.time()) < 60)
        two.setsockopt(socket.SOL_SOCKET, option, 0)
    one.sendto(b"x", two.getsockname())
    show(_receive(two))


def case_timestamping() -> None:
    one, two = _udp(), _udp()
    # SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE
    show(outcome(two.setsockopt, socket.SOL_SOCKET, 37, 8 | 16))
    one.sendto(b"x", two.getsockname())
    for level, kind, value in _receive(two):
        show(level, kind, len(value), struct.unpack("6q", value)[0] > 1e9, value[16:])


def case_time_and_others() -> None:
    one, two = _udp(), _udp()
    two.setsockopt(socket.SOL_SOCKET, TIMESTAMP, 1)
    two.setsockopt(IP, RECVTTL, 1)
    two.setsockopt(IP, PKTINFO, 1)
    one.sendto(b"x", two.getsockname())
    show([(level, kind, len(value)) for level, kind, value in _receive(two)])


def case_drops() -> None:
    one, two = _udp(), _udp()
    two.setsockopt(socket.SOL_SOCKET, RXQ_OVFL, 1)
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.sendto(b"x", two.getsockname())
    wait_for(two)
    show(_receive(two))
    for _ in range(200):
        one.sendto(bytes(1000), two.getsockname())
    two.settimeout(None)
    while outcome(two.recv, 1, socket.MSG_DONTWAIT) != "EAGAIN":
        pass
    one.sendto(b"y", two.getsockname())
    two.settimeout(5)
    for level, kind, value in _receive(two):
        show(level, kind, struct.unpack("I", value)[0] > 150)


def case_at_the_time_of_sending() -> None:
    """An option that is set later does not show what came before."""
    one, two = _udp(), _udp()
    one.setsockopt(IP, socket.IP_TTL, 9)
    one.sendto(b"x", two.getsockname())
    one.setsockopt(IP, socket.IP_TTL, 19)
    wait_for(two)
    two.setsockopt(IP, RECVTTL, 1)
    show(_receive(two))


def case_peek_shows_them_too() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        level, option = (
            (IP, RECVTTL) if family == socket.AF_INET else (IP6, RECVHOPLIMIT)
        )
        two.setsockopt(level, option, 1)
        one.sendto(b"x", two.getsockname())
        show(two.recvmsg(5, 100, socket.MSG_PEEK)[1], _receive(two))


def case_empty_and_long_control() -> None:
    one, two = _udp(), _udp()
    long = [(IP, socket.IP_TOS, b"\x08")] * 100
    show(outcome(one.sendmsg, [b"x"], long, 0, two.getsockname()), two.recv(5))
    longer = [(IP, socket.IP_TOS, b"\x08")] * 9000
    show(outcome(one.sendmsg, [b"x"], longer, 0, two.getsockname()))
