"""A stack server as router between two wires, of which one takes less."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .lab import Flag, Kind, Lab, Name, Packet, routed_lab
from .test_stackd import internet_sum, pour

_NEAR, _FAR = 1500, 1300
_ENDS = [("10.1.0.1", "10.2.0.1", "10.1.0.254"), ("fd01::1", "fd02::1", "fd01::fe")]
_BOTH = pytest.mark.parametrize(("mine", "yours", "router"), _ENDS, ids=["v4", "v6"])
_EXCEEDED = {4: (11, 0), 6: (3, 0)}
_NO_ROUTE = {4: (3, 0), 6: (1, 0)}
_TOO_BIG = {4: (3, 4), 6: (2, 0)}


@pytest.fixture
def way(library: Path, tmp_path: Path) -> Iterator[Lab]:
    with routed_lab(library, tmp_path, (_NEAR, _FAR)) as one:
        yield one


def _version(address: str) -> int:
    return 4 if "." in address else 6


def _datagram(mine: str, yours: str, length: int = 4, *, ttl: int = 64) -> Packet:
    return Packet(
        Kind.SEND,
        local=Name(mine, 5000),
        remote=Name(yours, 53),
        protocol=socket.IPPROTO_UDP,
        ttl=ttl,
        data=bytes(length),
    )


def _echo(mine: str, yours: str, length: int = 4, *, ttl: int = 64) -> Packet:
    v4 = "." in mine
    request = struct.pack("!BBHHH", 8 if v4 else 128, 0, 0, 7, 1) + bytes(length)
    if v4:
        request = request[:2] + struct.pack("!H", internet_sum(request)) + request[4:]
    protocol = socket.IPPROTO_ICMP if v4 else socket.IPPROTO_ICMPV6
    return Packet(
        Kind.SEND,
        local=Name(mine),
        remote=Name(yours),
        protocol=protocol,
        ttl=ttl,
        data=request,
    )


def _hear_error(way: Lab) -> Packet:
    """Return the next message to stack 0 that is no neighbour's."""
    while (got := way.hear(0, Kind.RECEIVED)).data[0] in range(133, 138):
        pass
    return got


def _heard(way: Lab) -> list[Packet]:
    """Return what datagrams reach stack 2 within a second."""
    way.wait(1)
    return [p for p in way.stacks[2].told if p.protocol == socket.IPPROTO_UDP]


@_BOTH
def test_streams_pass_and_fit(way: Lab, mine: str, yours: str, router: str) -> None:
    way.listen(2, Name("::", 80))
    number = way.dial(0, Name(mine, 4000), Name(yours, 80))
    way.hear(0, Kind.CONNECTED)
    accepted = way.hear(2, Kind.ACCEPTED)
    assert accepted.remote == Name(mine, 4000)
    near, far = way.start(0, number), way.start(2, accepted.id)
    data = bytes(range(250)) * 2000
    begun = way.now_ms
    assert pour(way, near, far, data) == data
    assert pour(way, far, near, data) == data
    assert way.now_ms - begun < 3000  # the router says what fits
    assert max(len(f) for side, f in way.seen if side == 2) == 14 + _FAR


@_BOTH
@pytest.mark.parametrize("make", [_datagram, _echo])
def test_hops_are_counted(
    way: Lab, mine: str, yours: str, router: str, make: Callable[..., Packet]
) -> None:
    way.stacks[2].send(Packet(Kind.PORT, local=Name("::", 53)))
    way.stacks[0].send(make(mine, yours, ttl=1))
    error = _hear_error(way)
    assert error.remote == Name(router)
    assert tuple(error.data[:2]) == _EXCEEDED[_version(mine)]
    way.stacks[0].send(make(mine, yours, ttl=2))
    while (got := way.hear(2, Kind.RECEIVED)).data[:1] in (b"\x87", b"\x88"):
        pass
    assert (got.remote.address, got.ttl) == (mine, 1)


@_BOTH
def test_where_no_route_leads_is_told(
    way: Lab, mine: str, yours: str, router: str
) -> None:
    nowhere = "10.3.0.1" if "." in mine else "fd03::1"
    way.stacks[0].send(_datagram(mine, nowhere))
    error = _hear_error(way)
    assert error.remote == Name(router)
    assert tuple(error.data[:2]) == _NO_ROUTE[_version(mine)]


def test_an_echo_that_is_too_long_is_told(way: Lab) -> None:
    """As IPv6 has it; of IPv4 the router divides it."""
    mine, yours, router = _ENDS[1]
    way.stacks[0].send(_echo(mine, yours, 1400))
    error = _hear_error(way)
    assert error.remote == Name(router)
    assert tuple(error.data[:2]) == _TOO_BIG[6]
    assert int.from_bytes(error.data[4:8]) == _FAR
    way.stacks[0].send(_echo(mine, yours, 1400))  # in pieces
    assert _hear_error(way).data[0] == 129


def test_a_long_datagram_of_ipv4_is_divided_on_its_way(way: Lab) -> None:
    mine, yours, _ = _ENDS[0]
    way.stacks[2].send(Packet(Kind.PORT, local=Name("::", 53)))
    way.stacks[0].send(_datagram(mine, yours, 1450))
    assert [len(p.data) for p in _heard(way)] == [1450]
    assert len([f for side, f in way.seen if side == 2 and f[23] == 17]) == 2


@_BOTH
def test_who_is_no_router_forwards_nothing(
    way: Lab, mine: str, yours: str, router: str
) -> None:
    way.stacks[1].send(Packet(Kind.FORWARD))
    way.stacks[2].send(Packet(Kind.PORT, local=Name("::", 53)))
    way.stacks[0].send(_datagram(mine, yours))
    assert _heard(way) == []


@_BOTH
@pytest.mark.parametrize("to", ["everybody", "group", "others"])
def test_frames_for_others_are_not_forwarded(
    way: Lab, mine: str, yours: str, router: str, to: str
) -> None:
    way.stacks[2].send(Packet(Kind.PORT, local=Name("::", 53)))
    mac = {"everybody": b"\xff" * 6, "group": b"\1\0\x5e\0\0\1", "others": b"\2" * 6}
    way.rule = lambda side, f: [
        f if side or f[20 if f[14] >> 4 == 6 else 23] != 17 else mac[to] + f[6:]
    ]
    way.stacks[0].send(_datagram(mine, yours))
    assert _heard(way) == []


def test_link_local_addresses_stay_on_their_link(way: Lab) -> None:
    way.stacks[2].send(Packet(Kind.PORT, local=Name("::", 53)))
    packet = _datagram("fe80::ff:fe00:100", "fd02::1")
    way.stacks[0].send(packet._replace(local=Name("fe80::ff:fe00:100", 5000, 2)))
    assert _heard(way) == []


def test_flags_are_those_of_the_switchboard() -> None:
    assert Flag(1) is Flag.REMOVE  # FORWARD counts any flag as "on"
