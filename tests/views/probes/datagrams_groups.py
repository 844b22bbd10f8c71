"""Multicast groups on loopback: who is a member, whose datagrams it hears."""

from __future__ import annotations

import select
import socket
import struct

from kit import V4, outcome, show

IP, IP6 = socket.IPPROTO_IP, socket.IPPROTO_IPV6
GROUP, OTHER = "239.1.2.3", "239.1.2.4"
ADD_SOURCE, DROP_SOURCE, BLOCK, UNBLOCK = 39, 40, 38, 37
MCAST_JOIN, MCAST_BLOCK, MCAST_UNBLOCK, MCAST_LEAVE = 42, 43, 44, 45
MCAST_JOIN_SOURCE, MCAST_LEAVE_SOURCE = 46, 47
ALL = 49


def _receiver(bound: str = "", port: int = 0, share: bool = False) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if share:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((bound, port))
    return sock


def _sender(source: str = "") -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if source:
        sock.bind((source, 0))
    sock.setsockopt(IP, socket.IP_MULTICAST_IF, socket.inet_aton(V4))
    return sock


def _member(group: str = GROUP, card: str = V4) -> bytes:
    return socket.inet_aton(group) + socket.inet_aton(card)


def _sourced(source: str, group: str = GROUP) -> bytes:
    """Return a struct ip_mreq_source: group, card, source."""
    return b"".join(map(socket.inet_aton, (group, V4, source)))


def _group_req(group: str, source: str = "") -> bytes:
    """Return a struct group_req, or group_source_req, for the card lo."""
    text = struct.pack("I4x", 1)
    for address in (group, source) if source else (group,):
        text += struct.pack("=HH4s", 2, 0, socket.inet_aton(address)) + bytes(120)
    return text


def _heard(sock: socket.socket, wait: float = 0.05) -> object:
    if not select.select([sock], [], [], wait)[0]:
        return None
    return sock.recv(20, socket.MSG_DONTWAIT)


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def case_join_and_leave() -> None:
    receiver, sender = _receiver(), _sender()
    name = (GROUP, _port(receiver))
    sender.sendto(b"before", name)
    show(_heard(receiver))
    show(outcome(receiver.setsockopt, IP, socket.IP_ADD_MEMBERSHIP, _member()))
    show(outcome(receiver.setsockopt, IP, socket.IP_ADD_MEMBERSHIP, _member()))
    sender.sendto(b"member", name)
    show(_heard(receiver))
    sender.sendto(b"another", (OTHER, name[1]))
    show(_heard(receiver))
    show(outcome(receiver.setsockopt, IP, socket.IP_DROP_MEMBERSHIP, _member()))
    show(outcome(receiver.setsockopt, IP, socket.IP_DROP_MEMBERSHIP, _member()))
    sender.sendto(b"after", name)
    show(_heard(receiver))


def case_several_members() -> None:
    first = _receiver(share=True)
    port = _port(first)
    second, third = _receiver("", port, True), _receiver("", port, True)
    for sock in (first, second):
        sock.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    _sender().sendto(b"to all", (GROUP, port))
    show(_heard(first), _heard(second), _heard(third))
    third.setsockopt(IP, ALL, 0)
    _sender().sendto(b"members", (GROUP, port))
    show(_heard(first), _heard(second), _heard(third))


def case_bound_to_the_group() -> None:
    receiver = _receiver(GROUP)
    port = _port(receiver)
    receiver.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    show(receiver.getsockname()[0])
    _sender().sendto(b"x", (GROUP, port))
    show(_heard(receiver))
    _sender().sendto(b"y", (V4, port))
    show(_heard(receiver))
    bound = _receiver(V4)
    bound.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    _sender().sendto(b"z", (GROUP, _port(bound)))
    show(_heard(bound))


def case_loop_off() -> None:
    receiver, sender = _receiver(), _sender()
    receiver.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    sender.setsockopt(IP, socket.IP_MULTICAST_LOOP, 0)
    show(sender.sendto(b"x", (GROUP, _port(receiver))), _heard(receiver))
    sender.setsockopt(IP, socket.IP_MULTICAST_LOOP, 1)
    show(sender.sendto(b"y", (GROUP, _port(receiver))), _heard(receiver))


def case_ttl() -> None:
    receiver, sender = _receiver(), _sender()
    receiver.setsockopt(IP, 12, 1)  # IP_RECVTTL
    receiver.setsockopt(IP, 8, 1)  # IP_PKTINFO
    receiver.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    name = (GROUP, _port(receiver))
    for ttl in (None, 0, 7):
        if ttl is not None:
            sender.setsockopt(IP, socket.IP_MULTICAST_TTL, ttl)
        sender.sendto(b"x", name)
        show(ttl, receiver.recvmsg(5, 100)[1])


def case_own_datagrams() -> None:
    sock = _receiver()
    sock.setsockopt(IP, socket.IP_MULTICAST_IF, socket.inet_aton(V4))
    sock.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    sock.sendto(b"mine", (GROUP, _port(sock)))
    show(_heard(sock))


def case_connected_to_a_group() -> None:
    receiver, sender = _receiver(), _sender()
    receiver.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    sender.connect((GROUP, _port(receiver)))
    show(sender.getsockname()[0], sender.send(b"x"), _heard(receiver))
    other, elsewhere = _sender(V4), _receiver()
    listening = _receiver()
    listening.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    listening.connect(elsewhere.getsockname())
    other.sendto(b"y", (GROUP, _port(listening)))
    show(_heard(listening))


def case_one_source() -> None:
    receiver, sender, stranger = _receiver(), _sender(V4), _sender("127.0.0.9")
    receiver.setsockopt(IP, ALL, 0)
    name = (GROUP, _port(receiver))
    show(outcome(receiver.setsockopt, IP, ADD_SOURCE, _sourced(V4)))
    show(outcome(receiver.setsockopt, IP, ADD_SOURCE, _sourced(V4)))
    sender.sendto(b"wanted", name)
    stranger.sendto(b"unwanted", name)
    show(_heard(receiver), _heard(receiver))
    show(outcome(receiver.setsockopt, IP, ADD_SOURCE, _sourced("127.0.0.9")))
    stranger.sendto(b"now wanted", name)
    show(_heard(receiver))
    show(outcome(receiver.setsockopt, IP, DROP_SOURCE, _sourced(V4)))
    sender.sendto(b"no more", name)
    stranger.sendto(b"still", name)
    show(_heard(receiver), _heard(receiver))
    show(outcome(receiver.setsockopt, IP, DROP_SOURCE, _sourced("127.0.0.77")))
    show(outcome(receiver.setsockopt, IP, DROP_SOURCE, _sourced("127.0.0.9")))
    stranger.sendto(b"none", name)
    show(_heard(receiver))


def case_blocked_source() -> None:
    receiver, sender, stranger = _receiver(), _sender(V4), _sender("127.0.0.9")
    receiver.setsockopt(IP, ALL, 0)
    name = (GROUP, _port(receiver))
    show(outcome(receiver.setsockopt, IP, BLOCK, _sourced("127.0.0.9")))
    receiver.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    show(outcome(receiver.setsockopt, IP, BLOCK, _sourced("127.0.0.9")))
    show(outcome(receiver.setsockopt, IP, BLOCK, _sourced("127.0.0.9")))
    sender.sendto(b"wanted", name)
    stranger.sendto(b"blocked", name)
    show(_heard(receiver), _heard(receiver))
    show(outcome(receiver.setsockopt, IP, UNBLOCK, _sourced("127.0.0.9")))
    show(outcome(receiver.setsockopt, IP, UNBLOCK, _sourced("127.0.0.9")))
    stranger.sendto(b"again", name)
    show(_heard(receiver))


def case_both_modes_at_once() -> None:
    receiver = _receiver()
    receiver.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    show(outcome(receiver.setsockopt, IP, ADD_SOURCE, _sourced(V4)))
    show(outcome(receiver.setsockopt, IP, DROP_SOURCE, _sourced(V4)))
    receiver = _receiver()
    receiver.setsockopt(IP, ADD_SOURCE, _sourced(V4))
    show(outcome(receiver.setsockopt, IP, socket.IP_ADD_MEMBERSHIP, _member()))
    show(outcome(receiver.setsockopt, IP, BLOCK, _sourced(V4)))
    show(outcome(receiver.setsockopt, IP, socket.IP_DROP_MEMBERSHIP, _member()))
    show(outcome(receiver.setsockopt, IP, DROP_SOURCE, _sourced(V4)))


def case_newer_names() -> None:
    receiver, sender, stranger = _receiver(), _sender(V4), _sender("127.0.0.9")
    receiver.setsockopt(IP, ALL, 0)
    name = (GROUP, _port(receiver))
    show(outcome(receiver.setsockopt, IP, MCAST_JOIN, _group_req(GROUP)))
    block = _group_req(GROUP, "127.0.0.9")
    show(outcome(receiver.setsockopt, IP, MCAST_BLOCK, block))
    sender.sendto(b"wanted", name)
    stranger.sendto(b"blocked", name)
    show(_heard(receiver), _heard(receiver))
    show(outcome(receiver.setsockopt, IP, MCAST_UNBLOCK, block))
    stranger.sendto(b"again", name)
    show(_heard(receiver))
    show(outcome(receiver.setsockopt, IP, MCAST_LEAVE, _group_req(GROUP)))
    stranger.sendto(b"gone", name)
    show(_heard(receiver))
    show(outcome(receiver.setsockopt, IP, MCAST_JOIN_SOURCE, _group_req(GROUP, V4)))
    sender.sendto(b"source", name)
    stranger.sendto(b"other", name)
    show(_heard(receiver), _heard(receiver))
    show(outcome(receiver.setsockopt, IP, MCAST_LEAVE_SOURCE, _group_req(GROUP, V4)))


def case_wrong_memberships() -> None:
    sock = _receiver()
    for value in (b"", b"1234", _member("10.0.0.1"), _member(GROUP, "192.0.2.99")):
        show(outcome(sock.setsockopt, IP, socket.IP_ADD_MEMBERSHIP, value))
        show(outcome(sock.setsockopt, IP, socket.IP_DROP_MEMBERSHIP, value))
    for value in (b"", _sourced(V4, "10.0.0.1"), _sourced(V4) + b"1"):
        show(outcome(sock.setsockopt, IP, ADD_SOURCE, value))
    for value in (b"1234", struct.pack("4s4si", bytes(4), bytes(4), 77)):
        show(outcome(sock.setsockopt, IP, socket.IP_MULTICAST_IF, value))


def case_groups_of_ipv6() -> None:
    receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    receiver.bind(("", 0))
    group = socket.inet_pton(socket.AF_INET6, "ff12::1:2:3") + struct.pack("i", 1)
    for option in (socket.IPV6_JOIN_GROUP, socket.IPV6_JOIN_GROUP):
        show(outcome(receiver.setsockopt, IP6, option, group))
    show(outcome(receiver.setsockopt, IP6, socket.IPV6_LEAVE_GROUP, group))
    show(outcome(receiver.setsockopt, IP6, socket.IPV6_LEAVE_GROUP, group))


def case_unicast_goes_to_one_of_the_members() -> None:
    first = _receiver(share=True)
    second = _receiver("", _port(first), True)
    for sock in (first, second):
        sock.setsockopt(IP, socket.IP_ADD_MEMBERSHIP, _member())
    _sender().sendto(b"one", (V4, _port(first)))
    show(_heard(first), _heard(second))
