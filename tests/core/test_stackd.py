"""The stack server: two of them on a wire, against a clock that tests move."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from .lab import Flag, Kind, Lab, Name, Packet, Rule, lab

PEERS = [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")]
_BOTH = pytest.mark.parametrize(("mine", "yours"), PEERS, ids=["v4", "v6"])
_MTUS = pytest.mark.parametrize("mtu", [1500, 9000, 65500])
_ARP, _IP4, _IP6 = 0x0806, 0x0800, 0x86DD
_NEIGHBOR_SOLICITATION = 135
_SYN, _RST, _URG = 2, 4, 32
_DHCP_SERVER = "10.9.0.254"


def _type(frame: bytes) -> int:
    return int.from_bytes(frame[12:14])


def _tcp(frame: bytes) -> bytes | None:
    """Return the TCP header and data of a frame, if it has some."""
    if _type(frame) == _IP4 and frame[23] == socket.IPPROTO_TCP:
        length = int.from_bytes(frame[16:18])
        return frame[34 : 14 + length]
    if _type(frame) == _IP6 and frame[20] == socket.IPPROTO_TCP:
        return frame[54:]
    return None


def data_of(frame: bytes) -> bytes:
    """Return the TCP data of a frame."""
    tcp = _tcp(frame)
    return tcp[(tcp[12] >> 4) * 4 :] if tcp else b""


def _flags(frame: bytes) -> int:
    tcp = _tcp(frame)
    return tcp[13] if tcp else 0


def _option(tcp: bytes, wanted: int) -> bytes | None:
    """Return the value of a TCP option."""
    at, end = 20, (tcp[12] >> 4) * 4
    while at < end and tcp[at]:
        if tcp[at] == 1:
            at += 1
            continue
        if tcp[at] == wanted:
            return tcp[at + 2 : at + tcp[at + 1]]
        at += tcp[at + 1]
    return None


def join(one: Lab, mine: str, yours: str, port: int = 80) -> list[socket.socket]:
    """Connect stack 0 to a listener of stack 1; return the programs' ends."""
    one.listen(1, Name("::", port))
    return _dial(one, mine, yours, port)


def _dial(one: Lab, mine: str, yours: str, port: int = 80) -> list[socket.socket]:
    """Connect stack 0 to stack 1, which listens; return the programs' ends."""
    number = one.dial(0, Name(mine, 4000), Name(yours, port))
    connected = one.hear(0, Kind.CONNECTED)
    accepted = one.hear(1, Kind.ACCEPTED)
    assert (connected.id, connected.local) == (number, Name(mine, 4000))
    assert (accepted.local, accepted.remote) == (Name(yours, port), Name(mine, 4000))
    return [one.start(0, number), one.start(1, accepted.id)]


def pour(one: Lab, source: socket.socket, sink: socket.socket, data: bytes) -> bytes:
    """Send data through a connection, as fast as it goes; return what comes."""
    sent, got = 0, bytearray()

    def move() -> bool:
        nonlocal sent
        moved = True
        while moved:
            moved = False
            try:
                if sent < len(data):
                    sent += source.send(data[sent : sent + (1 << 18)])
                    moved = True
            except BlockingIOError:
                pass
            one.settle()
            try:
                part = sink.recv(1 << 20)
                got.extend(part)
                moved = bool(part)
            except BlockingIOError:
                pass
        return len(got) >= len(data)

    one.run(move, 300)
    return bytes(got)


def noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def test_the_checksum_is_that_of_rfc_1071(pair: Lab) -> None:
    for length in [*range(40), 1459, 1460, 65535]:
        data = noise(length)
        total = sum(struct.unpack(f"<{-(-length // 2)}H", data + bytes(length % 2)))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert pair.stacks[0].checksum(data) == total, length


# ---- neighbours and addresses ----


def test_the_first_packet_waits_for_arp(pair: Lab) -> None:
    pair.seen.clear()
    join(pair, *PEERS[0])
    kinds = [(side, _type(frame)) for side, frame in pair.seen]
    assert kinds[:3] == [(0, _ARP), (1, _ARP), (0, _IP4)]


def test_the_first_packet_waits_for_neighbour_discovery(pair: Lab) -> None:
    pair.seen.clear()
    join(pair, *PEERS[1])
    first = pair.seen[0][1]
    assert first[20] == socket.IPPROTO_ICMPV6
    assert first[54] == _NEIGHBOR_SOLICITATION


@pytest.mark.parametrize("flags", [Flag.NONE, Flag.AT_ONCE], ids=["later", "at-once"])
def test_an_address_that_is_taken_is_not_used(
    library: Path, tmp_path: Path, flags: Flag
) -> None:
    with lab(library, tmp_path) as one:
        one.ready()
        one.stacks[1].add("fd09::1/64", flags)
        one.wait(3)
        told = [p for p in one.stacks[1].told if p.local == Name("fd09::1")]
        assert (told[-1].flags, told[-1].error) == (Flag.REMOVE, errno.EADDRINUSE)
        assert len(told) == (2 if flags else 1)  # at once: it was there for a moment
        assert not one.stacks[0].take(Kind.HAS)  # who had it first keeps it


def test_an_address_is_told_when_it_may_be_used(library: Path, tmp_path: Path) -> None:
    with lab(library, tmp_path) as one:
        one.stacks[0].add("fd09::3/64", Flag.AT_ONCE)
        one.settle()
        first = {p.local.address for p in one.stacks[0].told if p.kind is Kind.HAS}
        assert first == {"10.9.0.1", "fe80::ff:fe00:901", "fd09::3"}
        one.wait(3)
        later = {p.local.address for p in one.stacks[0].told if p.kind is Kind.HAS}
        assert later == first | {"fd09::1"}


# ---- ICMP and UDP ----


@_BOTH
@pytest.mark.parametrize("length", [0, 1473, 65000])
def test_an_echo_request_is_answered(
    pair: Lab, mine: str, yours: str, length: int
) -> None:
    v4 = "." in mine
    request = struct.pack("!BBHHH", 8 if v4 else 128, 0, 0, 7, 1) + noise(length)
    if v4:
        request = request[:2] + struct.pack("!H", internet_sum(request)) + request[4:]
    protocol = socket.IPPROTO_ICMP if v4 else socket.IPPROTO_ICMPV6
    pair.stacks[0].send(
        Packet(
            Kind.SEND,
            local=Name(mine),
            remote=Name(yours),
            protocol=protocol,
            data=request,
        )
    )
    reply = pair.hear(0, Kind.RECEIVED)
    while reply.data[0] not in (0, 129):  # neighbour discovery is ICMP, too
        reply = pair.hear(0, Kind.RECEIVED)
    assert reply.remote == Name(yours)
    assert reply.data[8:] == request[8:]


def _datagram(mine: str, yours: str, data: bytes) -> Packet:
    return Packet(
        Kind.SEND,
        local=Name(mine, 5000),
        remote=Name(yours, 53),
        protocol=socket.IPPROTO_UDP,
        ttl=9,
        tos=0x10,
        data=data,
    )


@_BOTH
@pytest.mark.parametrize("length", [0, 1, 1000, 40000, 65487])
def test_a_datagram_arrives(pair: Lab, mine: str, yours: str, length: int) -> None:
    """lwIP counts the headers in, in 16 bits: an IPv6 datagram has 65,487 bytes."""
    pair.stacks[1].send(Packet(Kind.PORT, local=Name("::", 53)))
    pair.stacks[0].send(_datagram(mine, yours, noise(length)))
    while (got := pair.hear(1, Kind.RECEIVED)).protocol != socket.IPPROTO_UDP:
        pass
    assert (got.local, got.remote) == (Name(yours, 53), Name(mine, 5000))
    assert (got.ttl, got.tos, got.card) == (9, 0x10, 2)
    assert got.data == noise(length)


@_BOTH
def test_a_port_that_nobody_has_is_unreachable(
    pair: Lab, mine: str, yours: str
) -> None:
    pair.stacks[0].send(_datagram(mine, yours, b"anybody?"))
    unreachable = (3, 3) if "." in mine else (1, 4)
    while tuple(pair.hear(0, Kind.RECEIVED).data[:2]) != unreachable:
        pass


# ---- TCP ----


@_BOTH
def test_a_connection_echoes_and_ends(pair: Lab, mine: str, yours: str) -> None:
    one, other = join(pair, mine, yours)
    one.send(b"hello")
    pair.settle()
    assert other.recv(100) == b"hello"
    other.send(b"good-bye")
    pair.settle()
    assert one.recv(100) == b"good-bye"
    one.close()
    pair.settle()
    assert other.recv(100) == b""
    other.close()
    for side in range(2):
        ended = pair.hear(side, Kind.ENDED)
        assert (ended.error, ended.end) == (0, None)


def test_half_a_close_leaves_the_other_half(pair: Lab) -> None:
    one, other = join(pair, *PEERS[0])
    one.shutdown(socket.SHUT_WR)
    pair.settle()
    assert other.recv(100) == b""
    data = noise(300_000)
    assert pour(pair, other, one, data) == data
    other.close()
    pair.settle()
    assert one.recv(100) == b""
    for side in range(2):
        assert pair.hear(side, Kind.ENDED).error == 0


def test_what_a_program_wrote_before_it_ended_arrives(pair: Lab) -> None:
    one, other = join(pair, *PEERS[0])
    data = noise(150_000)
    assert one.send(data) == len(data)
    one.close()
    got = bytearray()

    def read() -> bool:
        try:
            got.extend(part := other.recv(1 << 20))
        except BlockingIOError:
            return False
        return not part

    pair.run(read)
    assert bytes(got) == data


def test_a_program_that_leaves_data_unread_resets(pair: Lab) -> None:
    one, other = join(pair, *PEERS[0])
    other.send(b"not wanted")
    pair.settle()
    one.close()
    ended = pair.hear(1, Kind.ENDED)
    assert ended.error == errno.ECONNRESET
    # It comes back, for the switchboard to show the program the reset.
    assert ended.end is not None
    assert other.send(b"x") == 1
    assert ended.end.recv(10) == b"x"
    ended.end.close()


def test_data_for_a_program_that_is_gone_is_answered_by_a_reset(pair: Lab) -> None:
    one, other = join(pair, *PEERS[0])
    one.close()
    pair.settle()
    other.send(b"anybody?")
    ended = pair.hear(1, Kind.ENDED)
    assert ended.error == errno.ECONNRESET
    assert ended.end is not None
    ended.end.close()


@pytest.mark.parametrize("first", [0, 1], ids=["dialler", "listener"])
def test_names_of_a_connection_that_is_over_are_free_again(
    pair: Lab, first: int
) -> None:
    """Whichever side waits out the end of the last one by these names."""
    pair.listen(1, Name("::", 80))
    for _ in range(3):
        ends = _dial(pair, *PEERS[0])
        for side in (first, not first):
            ends[side].close()
            pair.settle()
        for side in range(2):
            assert pair.hear(side, Kind.ENDED).error == 0
        pair.wait(1)


def test_what_is_unread_outlives_its_connection(pair: Lab) -> None:
    """lwIP forgets it without a word while the program sleeps."""
    one, other = join(pair, *PEERS[0])
    data = noise(400_000)
    one.shutdown(socket.SHUT_WR)
    sent = 0
    while sent < len(data):
        sent += other.send(data[sent:])
        pair.settle()
    other.close()
    pair.wait(130)
    got = bytearray()
    while part := one.recv(1 << 20):
        got.extend(part)
        pair.settle()
    assert bytes(got) == data
    one.close()
    assert pair.hear(0, Kind.ENDED).error == 0


@_BOTH
def test_an_urgent_byte_keeps_its_place(pair: Lab, mine: str, yours: str) -> None:
    ends = join(pair, mine, yours)
    for one, other in (ends, ends[::-1]):
        pair.seen.clear()
        one.send(b"before")
        one.send(b"!", socket.MSG_OOB)
        one.send(b"after")
        pair.settle()
        assert other.recv(100) == b"before"
        assert other.recv(1, socket.MSG_OOB) == b"!"
        assert other.recv(100) == b"after"
        assert any(_flags(frame) & _URG for _, frame in pair.seen)
        one.send(b"later")
        pair.seen.clear()
        pair.settle()
        assert other.recv(100) == b"later"
        assert not any(_flags(frame) & _URG for _, frame in pair.seen)


@_BOTH
def test_a_port_without_a_listener_refuses(pair: Lab, mine: str, yours: str) -> None:
    number = pair.dial(0, Name(mine, 4000), Name(yours, 81))
    ended = pair.hear(0, Kind.ENDED)
    assert (ended.id, ended.error) == (number, errno.ECONNREFUSED)


def test_a_connect_that_nobody_answers_is_given_up_as_in_linux(pair: Lab) -> None:
    pair.rule = lambda _, frame: [] if _tcp(frame) else [frame]
    begun = pair.now_ms
    pair.dial(0, Name("10.9.0.1", 4000), Name("10.9.0.2", 81))
    assert pair.hear(0, Kind.ENDED, 300).error == errno.ETIMEDOUT
    assert 100 < (pair.now_ms - begun) / 1000 < 140  # 127 s
    assert sum(1 for _, f in pair.seen if _flags(f) & _SYN) == 8


def test_a_listener_for_ipv6_only_has_no_ipv4(pair: Lab) -> None:
    pair.listen(1, Name("::", 80), Flag.V6ONLY)
    pair.dial(0, Name("10.9.0.1", 4000), Name("10.9.0.2", 80))
    assert pair.hear(0, Kind.ENDED).error == errno.ECONNREFUSED
    pair.dial(0, Name("fd09::1", 4000), Name("fd09::2", 80))
    pair.hear(1, Kind.ACCEPTED)


def test_a_listener_that_was_closed_refuses(pair: Lab) -> None:
    number = pair.listen(1, Name("::", 80))
    pair.stacks[1].send(Packet(Kind.CLOSE, number))
    pair.dial(0, Name("10.9.0.1", 4000), Name("10.9.0.2", 80))
    assert pair.hear(0, Kind.ENDED).error == errno.ECONNREFUSED


def test_data_waits_until_the_surrogate_is_there(pair: Lab) -> None:
    pair.listen(1, Name("::", 80))
    number = pair.dial(0, Name("10.9.0.1", 4000), Name("10.9.0.2", 80))
    pair.hear(0, Kind.CONNECTED)
    one = pair.start(0, number)
    accepted = pair.hear(1, Kind.ACCEPTED)
    one.send(b"early")
    one.close()
    pair.settle()
    other = pair.start(1, accepted.id)
    pair.settle()
    assert other.recv(100) == b"early"
    assert other.recv(100) == b""


def test_link_local_addresses_name_their_card(pair: Lab) -> None:
    pair.listen(1, Name("::", 80))
    mine, yours = (Name(f"fe80::ff:fe00:90{i}", 0, 2) for i in (1, 2))
    pair.dial(0, mine._replace(port=4000), yours._replace(port=80))
    pair.hear(0, Kind.CONNECTED)
    assert pair.hear(1, Kind.ACCEPTED).remote == mine._replace(port=4000)


# ---- what goes wrong in lwIP, or in its use ----


@_MTUS
@_BOTH
def test_segments_fill_the_mtu(
    library: Path, tmp_path: Path, mtu: int, mine: str, yours: str
) -> None:
    with lab(library, tmp_path, mtu=mtu) as one:
        one.ready()
        source, sink = join(one, mine, yours)
        data = noise(2_000_000)
        assert pour(one, source, sink, data) == data
        assert max(len(frame) for _, frame in one.seen) == mtu + 14
        syn = next(_tcp(f) for _, f in one.seen if _flags(f) & _SYN)
        assert syn is not None
        headers = 40 if "." in mine else 60
        assert _option(syn, 2) == struct.pack("!H", mtu - headers)


def test_more_than_64_kib_are_under_way(library: Path, tmp_path: Path) -> None:
    """tcp_sndbuf() truncates to 16 bits; and windows are scaled."""
    with lab(library, tmp_path, mtu=65500) as one:
        one.ready()
        source, _ = join(one, *PEERS[0])
        one.settle()
        _pour_until_full(one, source)
        last = [_tcp(f) for s, f in one.seen if s == 1 and _tcp(f)][-1]
        assert last is not None
        window = int.from_bytes(last[14:16]) << 7
        sent = sum(len(data_of(f)) for s, f in one.seen if s == 0)
        assert sent > 1 << 20
        assert window < 1 << 22


def _pour_until_full(one: Lab, source: socket.socket) -> int:
    """Write until nothing moves any more; return how many bytes it took."""
    sent = 0
    for _ in range(1000):
        try:
            sent += source.send(bytes(1 << 16))
        except BlockingIOError:
            before = one.now_ms
            one.wait(0.2)
            try:
                sent += source.send(bytes(1 << 10))
            except BlockingIOError:
                assert one.now_ms > before
                return sent
        one.settle()
    raise AssertionError("it takes all that it gets")


def test_a_reader_that_sleeps_stops_the_writer_and_wakes_it(pair: Lab) -> None:
    source, sink = join(pair, *PEERS[0])
    sent = _pour_until_full(pair, source)
    pair.seen.clear()
    pair.wait(60)
    probes = [f for side, f in pair.seen if side == 0 and data_of(f)]
    assert 3 < len(probes) < 100  # of the closed window, further and further apart
    got = 0

    def read() -> bool:
        nonlocal got
        with contextlib.suppress(BlockingIOError):
            got += len(sink.recv(1 << 20))
        return got == sent

    pair.run(read, 60)


def test_the_window_depends_on_the_mtu(library: Path, tmp_path: Path) -> None:
    sizes = {}
    for mtu in (1500, 65500):
        folder = tmp_path / str(mtu)
        folder.mkdir()
        with lab(library, folder, mtu=mtu) as one:
            one.ready()
            source, _ = join(one, *PEERS[0])
            sizes[mtu] = _pour_until_full(one, source)
    assert sizes[1500] < 1 << 20 < 1 << 22 < sizes[65500]


@_MTUS
def test_lost_segments_are_sent_again(library: Path, tmp_path: Path, mtu: int) -> None:
    """Not copied when written, so a ring that turns too early would show."""
    with lab(library, tmp_path, mtu=mtu) as one:
        one.ready()
        source, sink = join(one, *PEERS[0])
        dice = random.Random(mtu)
        one.rule = lambda _, frame: [] if dice.random() < 0.02 else [frame]
        data = noise(6_000_000)
        assert pour(one, source, sink, data) == data


def test_segments_out_of_order_and_twice_are_put_right(
    library: Path, tmp_path: Path
) -> None:
    """A chain of pbufs counts in 16 bits: many large ones become one there."""
    with lab(library, tmp_path, mtu=65500) as one:
        one.ready()
        source, sink = join(one, *PEERS[0])
        dice = random.Random(1)
        late: list[bytes] = []

        def shuffle(side: int, frame: bytes) -> list[bytes]:
            if side == 1:
                return [frame]
            if dice.random() < 0.1:
                late.append(frame)
                return []
            out = [frame, *late] if dice.random() < 0.3 else [frame]
            if len(out) > 1:
                late.clear()
            return out * 2 if dice.random() < 0.1 else out

        one.rule = shuffle
        data = noise(8_000_000)
        assert pour(one, source, sink, data) == data


def test_a_lost_segment_is_missed_for_less_than_a_second(pair: Lab) -> None:
    """lwIP's clock has ticks of 500 ms where it is left alone."""
    source, sink = join(pair, *PEERS[0])
    for _ in range(20):
        source.send(b"warm")
        pair.wait(0.1)
        sink.recv(100)
    lost = iter([True])
    pair.rule = lambda _, f: [] if data_of(f) and next(lost, False) else [f]
    source.send(b"x")
    pair.settle()
    assert pair.run(lambda: _peek(sink)) <= 500


def _peek(sink: socket.socket) -> bool:
    try:
        return bool(sink.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_frames_wait_for_room_on_the_wire(library: Path, tmp_path: Path) -> None:
    """A link that dropped them would bring TCP to a crawl."""
    with lab(library, tmp_path, mtu=65500) as one:
        one.ready()
        source, sink = join(one, *PEERS[0])
        size = 1 << 24
        data = noise(size)
        one.rule = lambda _, frame: [frame]
        begun = one.now_ms
        assert pour(one, source, sink, data) == data
        assert one.now_ms - begun < 5000
        sequence = [_tcp(f) for s, f in one.seen if s == 0 and data_of(f)]
        starts = [t[4:8] for t in sequence if t]
        assert len(starts) == len(set(starts)), "something was sent again"


def test_both_ends_of_a_batch_may_end_in_it(pair: Lab) -> None:
    """What ends is freed only when the batch of events is over."""
    pair.listen(1, Name("::", 80))
    for port in range(4000, 4040):
        number = pair.dial(0, Name("10.9.0.1", port), Name("10.9.0.2", 80))
        pair.hear(0, Kind.CONNECTED)
        accepted = pair.hear(1, Kind.ACCEPTED)
        one, other = pair.start(0, number), pair.start(1, accepted.id)
        one.send(b"x" * 100)
        other.send(b"y" * 100)
        if port % 2:
            pair.settle()
        one.close()
        other.close()
        if port % 3 == 0:
            pair.stacks[0].send(Packet(Kind.CLOSE, number))
            pair.stacks[1].send(Packet(Kind.CLOSE, accepted.id))
    pair.wait(30)
    ended = [p for p in pair.stacks[0].told if p.kind is Kind.ENDED]
    assert len(ended) == 40


def test_a_bare_wire_has_no_checksums(library: Path, tmp_path: Path) -> None:
    flags = (Flag.BARE, Flag.BARE)
    with lab(library, tmp_path, mtu=65500, flags=flags) as one:
        one.ready()
        for mine, yours in PEERS:
            source, sink = join(one, mine, yours, 80 if "." in mine else 81)
            data = noise(500_000)
            assert pour(one, source, sink, data) == data
        sums = {t[16:18] for t in (_tcp(f) for _, f in one.seen) if t}
        assert sums == {b"\0\0"}


def test_a_wrong_checksum_is_dropped(pair: Lab) -> None:
    source, sink = join(pair, *PEERS[0])
    damage: Callable[[bytes], bytes] = lambda f: f[:-1] + bytes([f[-1] ^ 1])  # noqa: E731
    wrong = iter([True])
    pair.rule = lambda _, f: [damage(f)] if data_of(f) and next(wrong, False) else [f]
    source.send(b"right")
    pair.run(lambda: _peek(sink))
    assert sink.recv(100) == b"right"


@_BOTH
def test_what_waits_for_a_neighbour_outlives_its_connection(
    pair: Lab, mine: str, yours: str
) -> None:
    """lwIP would queue it by reference to the flow's memory."""
    source, _ = join(pair, mine, yours)
    pair.rule = lambda side, frame: [] if side else [frame]
    pair.wait(400)  # until the neighbour is forgotten
    source.send(b"A" * 1000)
    pair.settle()
    pair.stacks[0].send(Packet(Kind.CLOSE, 1))
    pair.settle()
    pair.rule = lambda _, frame: [frame]
    pair.seen.clear()
    pair.wait(5)
    data = [data_of(frame) for side, frame in pair.seen if side == 0 and data_of(frame)]
    assert data in ([], [b"A" * 1000])


# ---- what servers on the link give ----


def internet_sum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ip4(source: str, to: str, protocol: int, data: bytes, *, ttl: int = 64) -> bytes:
    """Return an IPv4 packet."""
    ends = ip_address(source).packed + ip_address(to).packed
    head = struct.pack("!BBHIBB", 0x45, 0, 20 + len(data), 0, ttl, protocol)
    return head + struct.pack("!H", internet_sum(head + b"\0\0" + ends)) + ends + data


def _ip6(source: str, to: str, protocol: int, data: bytes, *, ttl: int = 64) -> bytes:
    """Return an IPv6 packet; data has its checksum if it is no ICMP."""
    ends = ip_address(source).packed + ip_address(to).packed
    if protocol == socket.IPPROTO_ICMPV6:
        pseudo = ends + struct.pack("!II", len(data), protocol)
        data = data[:2] + struct.pack("!H", internet_sum(pseudo + data)) + data[4:]
    return struct.pack("!IHBB", 6 << 28, len(data), protocol, ttl) + ends + data


_ROUTER_MAC = bytes([2, 0, 0, 0, 9, 9])


def _frame(to: bytes, packet: bytes) -> bytes:
    kind = _IP4 if packet[0] >> 4 == 4 else _IP6
    return to + _ROUTER_MAC + struct.pack("!H", kind) + packet


class DhcpServer:
    """Answers stack 0; a rule of a lab (RFC 2131)."""

    def __init__(self, one: Lab) -> None:
        self.one = one
        self.asked: list[int] = []
        self.replies: list[bytes] = []
        self.answers = {1: 2, 3: 5}
        self.options = bytes([6, 8, 10, 9, 0, 53, 10, 9, 0, 54])
        self.options += bytes([15, 8]) + b"lab.test"

    def __call__(self, side: int, frame: bytes) -> list[bytes]:
        if side == 0 and _type(frame) == _IP4 and frame[36:38] == b"\0\x43":
            asked = frame[42 + 240 + 2]
            self.asked.append(asked)
            if asked in self.answers:
                self.replies.append(self._reply(frame, self.answers[asked]))
                self.one.stacks[0].bring(self.replies[-1])
        return [frame]

    def _reply(self, request: bytes, kind: int) -> bytes:
        bootp = request[42:]
        own, offered = (ip_address(a).packed for a in (_DHCP_SERVER, "10.9.0.77"))
        options = bytes([53, 1, kind, 54, 4, *own])
        if kind != 6:
            options += bytes([1, 4, 255, 255, 255, 0, 3, 4, *own, 51, 4, 0, 0, 2, 88])
            options += self.options
        body = bytes([2, 1, 6, 0]) + bootp[4:8] + bytes(8) + offered + own + bytes(4)
        body += bootp[28:236] + bytes([99, 130, 83, 99]) + options + b"\xff"
        udp = struct.pack("!4H", 67, 68, 8 + len(body), 0) + body
        packet = _ip4(_DHCP_SERVER, "10.9.0.77", socket.IPPROTO_UDP, udp)
        return _frame(request[6:12], packet)


@pytest.fixture
def leased(library: Path, tmp_path: Path) -> Iterator[tuple[Lab, DhcpServer]]:
    with lab(library, tmp_path, flags=(Flag.DHCP, Flag.NONE), addresses=False) as one:
        one.rule = server = DhcpServer(one)
        while ":" in (has := one.hear(0, Kind.HAS, 30)).local.address:
            pass
        assert (has.local, has.prefix) == (Name("10.9.0.77"), 96 + 24)
        yield one, server


def _servers(packet: Packet) -> list[str]:
    """Return the addresses that a message about name servers names."""
    raw = [packet.data[at : at + 16] for at in range(0, len(packet.data), 16)]
    return [Name.unpack(one, 0, 0).address for one in raw]


def test_dhcp_gives_address_router_and_names(leased: tuple[Lab, DhcpServer]) -> None:
    one, server = leased
    assert one.now_ms < 3000  # no view wants to wait
    assert server.asked == [1, 3]
    assert one.hear(0, Kind.ROUTER).remote == Name(_DHCP_SERVER)
    assert _servers(one.hear(0, Kind.DNS)) == ["10.9.0.53", "10.9.0.54"]
    assert one.hear(0, Kind.DOMAIN).data == b"lab.test"


def test_a_lease_is_renewed(leased: tuple[Lab, DhcpServer]) -> None:
    one, server = leased
    one.settle()
    one.stacks[0].told.clear()
    one.wait(650)  # the lease is of 600 s
    assert server.asked[2:4] == [3, 3][: len(server.asked) - 2]
    assert len(server.asked) > 2
    assert not one.stacks[0].take(Kind.HAS)  # nothing is new


@pytest.mark.parametrize("answers", [{}, {3: 6}], ids=["silence", "refusal"])
def test_a_lease_that_is_lost_is_told(
    leased: tuple[Lab, DhcpServer], answers: dict[int, int]
) -> None:
    one, server = leased
    one.settle()
    one.stacks[0].told.clear()
    server.answers = answers
    one.run(lambda: any(p.kind is Kind.HAS for p in one.stacks[0].told), 900, 100)
    has = one.hear(0, Kind.HAS)
    assert (has.local, has.prefix) == (Name("10.9.0.77"), 96 + 24)
    assert has.flags == Flag.REMOVE
    router = one.hear(0, Kind.ROUTER)
    assert (router.remote, router.flags) == (Name(_DHCP_SERVER), Flag.REMOVE)
    assert one.hear(0, Kind.DNS).data == b""
    assert one.hear(0, Kind.DOMAIN).data == b""


def test_a_domain_that_is_no_name_is_not_told(library: Path, tmp_path: Path) -> None:
    """It would be a line of a file."""
    with lab(library, tmp_path, flags=(Flag.DHCP, Flag.NONE), addresses=False) as one:
        one.rule = server = DhcpServer(one)
        server.options = bytes([15, 8]) + b"a\nserver"
        while ":" in one.hear(0, Kind.HAS, 30).local.address:
            pass
        one.wait(1)
        assert not one.stacks[0].take(Kind.DOMAIN)


_ROUTER = "fe80::9:9"


def advertisement(
    lifetime: int, valid: int, servers: int, other: bool, more: bytes = b""
) -> bytes:
    """Return a router advertisement's frame for everybody (RFC 4861, 8106)."""
    message = struct.pack(
        "!BBHBBHII", 134, 0, 0, 64, 0x40 if other else 0, lifetime, 0, 0
    )
    message += bytes([1, 1]) + _ROUTER_MAC
    prefix = ip_address("fd0a::").packed
    message += struct.pack("!BBBBIII", 3, 4, 64, 0xC0, valid, valid, 0) + prefix
    message += struct.pack("!BBHI", 25, 3, 0, servers) + ip_address("fd0a::53").packed
    message += more
    packet = _ip6(_ROUTER, "ff02::1", socket.IPPROTO_ICMPV6, message, ttl=255)
    return _frame(bytes([0x33, 0x33, 0, 0, 0, 1]), packet)


def _asks_routers(frame: bytes) -> bool:
    return (
        _type(frame) == _IP6
        and frame[20] == socket.IPPROTO_ICMPV6
        and (frame[54] == 133)
    )


def _own(name: Name) -> bool:
    return name.address == "fd0a::ff:fe00:901"


def test_a_router_gives_address_and_names(library: Path, tmp_path: Path) -> None:
    with lab(library, tmp_path, flags=(Flag.SLAAC, Flag.NONE), addresses=False) as one:
        one.settle()
        assert any(_asks_routers(f) for s, f in one.seen if s == 0)
        one.stacks[0].told.clear()
        one.stacks[0].bring(advertisement(30, 60, 20, other=False))
        begun = one.now_ms
        router = one.hear(0, Kind.ROUTER)
        assert (router.remote, router.flags) == (Name(_ROUTER, 0, 2), Flag.NONE)
        assert _servers(one.hear(0, Kind.DNS)) == ["fd0a::53"]
        has = one.hear(0, Kind.HAS)
        assert _own(has.local)
        assert (has.prefix, has.flags) == (64, Flag.NONE)
        assert one.now_ms == begun  # nobody waits for a duplicate
        # In the order in which they end: name server, router, address.
        assert one.hear(0, Kind.DNS, 30).data == b""
        assert 19 < (one.now_ms - begun) / 1000 < 23
        assert one.hear(0, Kind.ROUTER, 30).flags == Flag.REMOVE
        assert 29 < (one.now_ms - begun) / 1000 < 33
        has = one.hear(0, Kind.HAS, 60)
        assert (_own(has.local), has.flags) == (True, Flag.REMOVE)
        assert 59 < (one.now_ms - begun) / 1000 < 63


def test_a_router_may_give_its_address_only(library: Path, tmp_path: Path) -> None:
    flags = (Flag.ROUTERS, Flag.NONE)
    with lab(library, tmp_path, flags=flags, addresses=False) as one:
        one.ready()
        one.stacks[0].bring(advertisement(30, 60, 20, other=False))
        assert one.hear(0, Kind.ROUTER).remote == Name(_ROUTER, 0, 2)
        one.wait(3)
        assert not one.stacks[0].take(Kind.HAS)


def test_a_card_that_is_given_all_hears_no_router(pair: Lab) -> None:
    pair.stacks[0].bring(advertisement(30, 60, 20, other=False))
    pair.wait(3)
    kinds = {p.kind for p in pair.stacks[0].told}
    assert kinds <= {Kind.RECEIVED}


def test_dhcp6_gives_names(library: Path, tmp_path: Path) -> None:
    """Stateless (RFC 8415, 18.2.6), when a router says that there is a server."""
    flags = (Flag.SLAAC | Flag.DHCP6, Flag.NONE)
    with lab(library, tmp_path, flags=flags, addresses=False) as one:
        one.ready()

        def serve(side: int, frame: bytes) -> list[bytes]:
            if side == 0 and frame[20] == socket.IPPROTO_UDP and frame[62] == 11:
                body = b"\x07" + frame[63:66]
                body += struct.pack("!HH", 23, 16) + ip_address("fd0a::54").packed
                udp = struct.pack("!4H", 547, 546, 8 + len(body), 0) + body
                client = str(ip_address(frame[22:38]))
                ends = ip_address(_ROUTER).packed + frame[22:38]
                total = internet_sum(ends + struct.pack("!II", len(udp), 17) + udp)
                udp = udp[:6] + struct.pack("!H", total) + udp[8:]
                packet = _ip6(_ROUTER, client, socket.IPPROTO_UDP, udp)
                one.stacks[0].bring(_frame(frame[6:12], packet))
            return [frame]

        one.rule = serve
        one.stacks[0].bring(advertisement(30, 60, 0, other=True))
        assert _servers(one.hear(0, Kind.DNS)) == ["fd0a::54"]


# ---- several addresses, groups ----


def test_a_card_has_several_ipv4_addresses(pair: Lab) -> None:
    more = ["10.9.0.11", "10.8.0.1"]
    for address in more:
        pair.stacks[0].add(f"{address}/24")
        assert pair.hear(0, Kind.HAS).local == Name(address)
    pair.stacks[1].add("10.8.0.2/24")
    pair.listen(0, Name("0.0.0.0", 80))
    for own, peer in (("10.9.0.2", more[0]), ("10.8.0.2", more[1])):
        pair.dial(1, Name(own, 4000), Name(peer, 80))
        assert pair.hear(0, Kind.ACCEPTED).local == Name(peer, 80)
    for own, peer in (("10.9.0.2", more[0]), ("10.8.0.2", more[1])):
        pair.listen(1, Name(own, 81))
        pair.dial(0, Name(peer, 4001), Name(own, 81))
        assert pair.hear(1, Kind.ACCEPTED).remote == Name(peer, 4001)
    gone = Packet(Kind.ADDRESS, card=2, local=Name(more[0]), prefix=120)
    pair.stacks[0].send(gone._replace(flags=Flag.REMOVE))
    has = pair.hear(0, Kind.HAS)
    assert (has.local, has.prefix, has.flags) == (Name(more[0]), 120, Flag.REMOVE)


@pytest.mark.parametrize("prefix", [48, 112])
def test_a_prefix_of_ipv6_may_have_any_length(pair: Lab, prefix: int) -> None:
    """LwIP takes all prefixes for 64 bits long."""
    near = "fd08:0:0:7::2" if prefix == 48 else "fd08::2"
    pair.stacks[0].add(f"fd08::1/{prefix}", Flag.AT_ONCE)
    pair.stacks[1].add(f"{near}/{prefix}", Flag.AT_ONCE)
    pair.listen(1, Name("::", 80))
    pair.dial(0, Name("fd08::1", 4000), Name(near, 80))
    assert pair.hear(1, Kind.ACCEPTED).remote == Name("fd08::1", 4000)


def test_beyond_a_long_prefix_of_ipv6_there_are_no_neighbours(pair: Lab) -> None:
    pair.stacks[0].add("fd08::1/112", Flag.AT_ONCE)
    pair.stacks[1].add("fd08::5:2/64", Flag.AT_ONCE)
    pair.listen(1, Name("::", 80))
    pair.dial(0, Name("fd08::1", 4000), Name("fd08::5:2", 80))
    pair.wait(2)
    assert not pair.stacks[1].take(Kind.ACCEPTED)
    pair.stacks[0].send(Packet(Kind.GATEWAY, card=2, remote=Name("fd09::2")))
    assert pair.hear(1, Kind.ACCEPTED).remote == Name("fd08::1", 4000)


@pytest.mark.parametrize("group", ["239.1.2.3", "ff15::7"])
def test_a_group_is_reported_and_heard(pair: Lab, group: str) -> None:
    v4 = "." in group
    own = "10.9.0.1" if v4 else "fd09::1"
    pair.stacks[1].send(Packet(Kind.PORT, local=Name("::", 53)))
    speak = Packet(
        Kind.SEND,
        local=Name(own, 5000),
        remote=Name(group, 53),
        card=2,
        protocol=socket.IPPROTO_UDP,
        ttl=1,
        data=b"hear, hear",
    )

    def heard() -> list[Packet]:
        pair.stacks[0].send(speak)
        pair.wait(0.5)
        told, pair.stacks[1].told = pair.stacks[1].told, []
        return [p for p in told if p.local.port == 53]

    assert heard() == []
    join = Packet(Kind.GROUP, card=2, remote=Name(group))
    pair.stacks[1].send(join)
    pair.wait(12)
    reports = [f for s, f in pair.seen if s == 1 and ip_address(group).packed in f]
    assert reports  # IGMP, MLD
    (got,) = heard()
    assert (got.local, got.remote) == (Name(group, 53), Name(own, 5000))
    assert (got.ttl, got.card) == (1, 2)
    pair.stacks[1].send(join._replace(flags=Flag.REMOVE))
    assert heard() == []


# ---- packets that are too long for their way ----


def _shrink(mtu: int) -> Rule:
    """Be a router before a link with this MTU: say so, drop the packet."""

    def rule(side: int, frame: bytes) -> list[bytes]:
        if side or len(frame) <= 14 + mtu:
            return [frame]
        packet = frame[14:]
        if _type(frame) == _IP4:
            if not packet[6] & 0x40:
                return [frame]
            error = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + packet[:28]
            error = error[:2] + struct.pack("!H", internet_sum(error)) + error[4:]
            back = _ip4("10.9.0.2", "10.9.0.1", socket.IPPROTO_ICMP, error)
        else:
            error = struct.pack("!BBHI", 2, 0, 0, mtu) + packet[:1000]
            back = _ip6("fd09::2", "fd09::1", socket.IPPROTO_ICMPV6, error)
        shrunk.append(frame[6:12] + frame[:6] + frame[12:14] + back)
        return []

    shrunk: list[bytes] = []
    rule.shrunk = shrunk  # type: ignore[attr-defined]
    return rule


@_BOTH
@pytest.mark.parametrize("mtu", [1500, 9000, 65500])
def test_a_path_with_a_smaller_mtu_is_found(
    library: Path, tmp_path: Path, mtu: int, mine: str, yours: str
) -> None:
    with lab(library, tmp_path, mtu=mtu) as one:
        one.ready()
        source, sink = join(one, mine, yours)
        rule = _shrink(1300)
        shrunk: list[bytes] = rule.shrunk  # type: ignore[attr-defined]

        def through(side: int, frame: bytes) -> list[bytes]:
            left = rule(side, frame)
            while shrunk:
                one.stacks[0].bring(shrunk.pop())
            return left

        one.rule = through
        data = noise(500_000)
        begun = one.now_ms
        assert pour(one, source, sink, data) == data
        assert one.now_ms - begun < 2000  # not by timeouts
        late = [f for s, f in one.seen[-100:] if s == 0 and data_of(f)]
        assert max(len(f) for f in late) == 14 + 1300
        assert not any(f[20] == 44 for f in late if _type(f) == _IP6)  # no pieces


def test_a_path_mtu_that_no_link_has_is_not_believed(pair: Lab) -> None:
    """LwIP would divide packets into pieces of no length, for ever."""
    source, sink = join(pair, *PEERS[1])
    source.send(b"x" * 1400)
    pair.settle()
    sink.recv(2000)
    sent = next(f for s, f in pair.seen if s == 0 and len(data_of(f)) == 1400)
    for mtu in (0, 1, 48, 56, 68, 1279):
        error = struct.pack("!BBHI", 2, 0, 0, mtu) + sent[14:1000]
        packet = _ip6("fd09::2", "fd09::1", socket.IPPROTO_ICMPV6, error)
        pair.stacks[0].bring(sent[6:12] + sent[:6] + sent[12:14] + packet)
    pair.settle()
    pair.seen.clear()
    source.send(b"y" * 1400)
    pair.settle()
    assert len(sink.recv(2000)) == 1400
    assert [len(data_of(f)) for s, f in pair.seen if s == 0 and data_of(f)] == [1400]


def test_who_has_not_seen_a_connection_cannot_make_it_smaller(pair: Lab) -> None:
    source, sink = join(pair, *PEERS[0])
    source.send(b"x" * 1400)
    pair.settle()
    sink.recv(2000)
    sent = next(f for s, f in pair.seen if s == 0 and len(data_of(f)) == 1400)
    quoted = sent[14:38] + struct.pack("!I", 12345)
    error = struct.pack("!BBHHH", 3, 4, 0, 0, 600) + quoted
    error = error[:2] + struct.pack("!H", internet_sum(error)) + error[4:]
    packet = _ip4("10.9.0.2", "10.9.0.1", socket.IPPROTO_ICMP, error)
    pair.stacks[0].bring(sent[6:12] + sent[:6] + sent[12:14] + packet)
    pair.seen.clear()
    source.send(b"y" * 1400)
    pair.settle()
    assert [len(data_of(f)) for s, f in pair.seen if s == 0 and data_of(f)] == [1400]


# ---- first sequence numbers, first answers ----


def test_first_sequence_numbers_cannot_be_guessed(pair: Lab) -> None:
    pair.listen(1, Name("::", 80))
    for port in range(4000, 4008):
        pair.dial(0, Name("10.9.0.1", port), Name("10.9.0.2", 80))
        pair.hear(1, Kind.ACCEPTED)
    syns = [_tcp(f) for s, f in pair.seen if s == 0 and _flags(f) & _SYN]
    first = [int.from_bytes(tcp[4:8]) for tcp in syns if tcp]
    steps = [abs(a - b) for a, b in itertools.pairwise(first)]
    assert len(steps) == 7
    assert min(steps) > 1 << 16


def test_an_answer_to_a_syn_is_repeated_after_a_second(pair: Lab) -> None:
    pair.listen(1, Name("::", 80))
    lost = iter([True])
    pair.rule = lambda side, f: [] if side and _tcp(f) and next(lost, False) else [f]
    begun = pair.now_ms
    pair.dial(0, Name("10.9.0.1", 4000), Name("10.9.0.2", 80))
    pair.hear(0, Kind.CONNECTED)
    assert pair.now_ms - begun <= 1200


def test_frames_of_our_own_are_not_heard(library: Path, tmp_path: Path) -> None:
    """On a link that is a circle they would tell of a second one with our address."""
    with lab(library, tmp_path, addresses=False) as one:
        circle = one.stacks[0]

        def loop(side: int, frame: bytes) -> list[bytes]:
            if side == 0:
                circle.bring(frame)
            return [frame]

        one.rule = loop
        circle.add("fd09::1/64")
        one.wait(3)
        told = {p.local.address for p in circle.told if p.flags == Flag.NONE}
        assert "fd09::1" in told
        assert not [p for p in circle.told if p.flags & Flag.REMOVE]


def test_connections_are_found_in_any_order(pair: Lab) -> None:
    """Their list is changed under lwIP's feet, and by lwIP itself meanwhile."""
    dice = random.Random(3)
    pair.listen(1, Name("::", 80))
    joined: list[tuple[socket.socket, socket.socket]] = []
    for port in range(4000, 4200):
        mine, yours = dice.choice(PEERS)
        number = pair.dial(0, Name(mine, port), Name(yours, 80))
        pair.hear(0, Kind.CONNECTED)
        accepted = pair.hear(1, Kind.ACCEPTED)
        joined.append((pair.start(0, number), pair.start(1, accepted.id)))
        for one, other in dice.sample(joined, min(5, len(joined))):
            text = dice.randbytes(8)
            one.send(text)
            pair.settle()
            assert other.recv(100) == text
        if dice.random() < 0.4:
            for end in joined.pop(dice.randrange(len(joined))):
                end.close()


def test_the_mtu_that_a_router_names_is_kept(library: Path, tmp_path: Path) -> None:
    flags = (Flag.SLAAC, Flag.NONE)
    with lab(library, tmp_path, flags=flags) as one:
        one.ready()
        option = struct.pack("!BBHI", 5, 1, 0, 1300)
        one.stacks[0].bring(advertisement(1800, 3600, 0, other=False, more=option))
        one.wait(1)
        one.seen.clear()
        source, sink = join(one, *PEERS[1])
        syn = next(_tcp(f) for _, f in one.seen if _flags(f) & _SYN)
        assert syn is not None
        assert _option(syn, 2) == struct.pack("!H", 1300 - 60)
        data = noise(50_000)
        assert pour(one, source, sink, data) == data
        assert max(len(f) for side, f in one.seen if side == 0) == 14 + 1300


@_BOTH
def test_pieces_that_never_become_whole_are_no_hindrance(
    pair: Lab, mine: str, yours: str
) -> None:
    """The places for them are limited, and the oldest makes room."""
    for number in range(1500):
        if "." in mine:
            packet = bytearray(_ip4(mine, yours, socket.IPPROTO_UDP, bytes(80)))
            packet[4:8] = struct.pack("!HH", number, 0x2000)
            packet[10:12] = bytes(2)
            packet[10:12] = struct.pack("!H", internet_sum(bytes(packet[:20])))
        else:
            piece = struct.pack("!BBHI", socket.IPPROTO_UDP, 0, 1, number) + bytes(80)
            packet = bytearray(_ip6(mine, yours, 44, piece))
        mac = bytes([2, 0, 0, 0, 9, 2])
        pair.stacks[1].bring(_frame(mac, bytes(packet)))
    pair.stacks[1].send(Packet(Kind.PORT, local=Name("::", 53)))
    pair.stacks[0].send(_datagram(mine, yours, noise(20000)))
    while (got := pair.hear(1, Kind.RECEIVED)).protocol != socket.IPPROTO_UDP:
        pass
    assert got.data == noise(20000)


# ---- links that go away and come back ----


def _replug(one: Lab) -> None:
    """Pull stack 0's cable, and plug it in again three seconds later."""
    one.stacks[0].link_down()
    assert one.hear(0, Kind.LOST).card == 2
    one.wait(3)
    one.seen.clear()
    one.stacks[0].link_up(1500)
    assert one.hear(0, Kind.FOUND).mtu == 1500
    one.settle()


def _announces(frame: bytes) -> bool:
    """Whether this is an ARP that asks for its sender's own address."""
    return _type(frame) == _ARP and frame[28:32] == frame[38:42]


@_BOTH
def test_a_connection_outlives_its_link(pair: Lab, mine: str, yours: str) -> None:
    source, sink = join(pair, mine, yours)
    data, got = noise(150_000), bytearray()
    source.send(data[:100_000])
    pair.stacks[0].link_down()
    source.send(data[100_000:])
    _replug(pair)
    assert any(_announces(f) for side, f in pair.seen if side == 0)

    def is_all_there() -> bool:
        if _peek(sink):
            got.extend(sink.recv(1 << 20))
        return len(got) == len(data)

    pair.run(is_all_there)
    assert bytes(got) == data


def test_a_lease_is_asked_for_again_by_a_new_link(
    leased: tuple[Lab, DhcpServer],
) -> None:
    one, server = leased
    server.asked.clear()
    _replug(one)
    one.run(lambda: 3 in server.asked)


def test_routers_are_asked_by_a_new_link(library: Path, tmp_path: Path) -> None:
    with lab(library, tmp_path, flags=(Flag.SLAAC, Flag.NONE), addresses=False) as one:
        one.ready()
        _replug(one)
        assert any(_asks_routers(f) for side, f in one.seen if side == 0)


def test_the_link_has_a_smaller_mtu(library: Path, tmp_path: Path) -> None:
    """The other end of a wire may take less than was asked for."""
    with lab(library, tmp_path, mtu=9000) as one:
        one.ready()
        for stack in one.stacks:
            stack.link_up(1500)
        one.settle()
        source, sink = join(one, *PEERS[0])
        one.seen.clear()
        data = noise(100_000)
        assert pour(one, source, sink, data) == data
        assert max(len(frame) for _, frame in one.seen) == 1514


def test_a_card_for_ipv4_only_is_silent_by_ipv6(library: Path, tmp_path: Path) -> None:
    flags = (Flag.NONE, Flag.ONLY_V4)
    with lab(library, tmp_path, flags=flags, addresses=False) as one:
        for side, own in enumerate(("10.9.0.1/24", "10.9.0.2/24")):
            one.stacks[side].add(own)
        one.stacks[0].add("fd09::1/64")
        one.stacks[0].send(_datagram("fd09::1", "fd09::2", b"who?"))
        one.wait(12)
        assert not [f for side, f in one.seen if side and _type(f) == 0x86DD]
        source, sink = join(one, *PEERS[0])
        source.send(b"IPv4")
        one.settle()
        assert sink.recv(10) == b"IPv4"
