"""The stack server: two of them on a wire, against a clock that tests move."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from .lab import Flag, Kind, Lab, Name, Packet, lab

_PEERS = [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")]
_BOTH = pytest.mark.parametrize(("mine", "yours"), _PEERS, ids=["v4", "v6"])
_MTUS = pytest.mark.parametrize("mtu", [1500, 9000, 65500])
_ARP, _IP4, _IP6 = 0x0806, 0x0800, 0x86DD
_NEIGHBOR_SOLICITATION = 135
_SYN, _RST = 2, 4
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


def _data(frame: bytes) -> bytes:
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


def _join(one: Lab, mine: str, yours: str, port: int = 80) -> list[socket.socket]:
    """Connect stack 0 to a listener of stack 1; return the programs' ends."""
    one.listen(1, Name("::", port))
    number = one.dial(0, Name(mine, 4000), Name(yours, port))
    connected = one.hear(0, Kind.CONNECTED)
    accepted = one.hear(1, Kind.ACCEPTED)
    assert (connected.id, connected.local) == (number, Name(mine, 4000))
    assert (accepted.local, accepted.remote) == (Name(yours, port), Name(mine, 4000))
    return [one.start(0, number), one.start(1, accepted.id)]


def _pour(one: Lab, source: socket.socket, sink: socket.socket, data: bytes) -> bytes:
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


def _noise(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def test_the_checksum_is_that_of_rfc_1071(pair: Lab) -> None:
    for length in [*range(40), 1459, 1460, 65535]:
        data = _noise(length)
        total = sum(struct.unpack(f"<{-(-length // 2)}H", data + bytes(length % 2)))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert pair.stacks[0].checksum(data) == total, length


# ---- neighbours and addresses ----


def test_the_first_packet_waits_for_arp(pair: Lab) -> None:
    pair.seen.clear()
    _join(pair, *_PEERS[0])
    kinds = [(side, _type(frame)) for side, frame in pair.seen]
    assert kinds[:3] == [(0, _ARP), (1, _ARP), (0, _IP4)]


def test_the_first_packet_waits_for_neighbour_discovery(pair: Lab) -> None:
    pair.seen.clear()
    _join(pair, *_PEERS[1])
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


def _dhcp_reply(request: bytes, kind: int) -> bytes:
    """Return the frame that a DHCP server answers with (RFC 2131)."""
    bootp = request[42:]
    own, offered = (ip_address(a).packed for a in (_DHCP_SERVER, "10.9.0.77"))
    options = bytes([53, 1, kind, 54, 4, *own, 1, 4, 255, 255, 255, 0])
    options += bytes([3, 4, *own, 51, 4, 0, 0, 14, 16, 255])
    body = bytes([2, 1, 6, 0]) + bootp[4:8] + bytes(8) + offered + own + bytes(4)
    body += bootp[28:236] + bytes([99, 130, 83, 99]) + options
    udp = struct.pack("!4H", 67, 68, 8 + len(body), 0) + body
    head = bytes([0x45, 0]) + struct.pack("!H", 20 + len(udp)) + bytes(4)
    head += bytes([64, 17, 0, 0]) + own + offered
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return request[6:12] + bytes([2, 0, 0, 0, 9, 9]) + b"\x08\x00" + head + udp


def test_dhcp_gives_address_and_router(library: Path, tmp_path: Path) -> None:
    with lab(library, tmp_path, flags=(Flag.DHCP, Flag.NONE), addresses=False) as one:

        def serve(side: int, frame: bytes) -> list[bytes]:
            if side == 0 and _type(frame) == _IP4 and frame[36:38] == b"\0\x43":
                asked = frame[42 + 240 + 2]
                answer = _dhcp_reply(frame, {1: 2, 3: 5}[asked])
                one.stacks[0].bring(answer)
            return [frame]

        one.rule = serve
        while (has := one.hear(0, Kind.HAS, 30)).card and ":" in has.local.address:
            pass
        assert (has.local, has.prefix) == (Name("10.9.0.77"), 96 + 24)
        assert one.hear(0, Kind.ROUTER).remote == Name(_DHCP_SERVER)


# ---- ICMP and UDP ----


@_BOTH
def test_an_echo_request_is_answered(pair: Lab, mine: str, yours: str) -> None:
    v4 = "." in mine
    request = struct.pack("!BBHHH", 8 if v4 else 128, 0, 0, 7, 1) + _noise(40000)
    if v4:
        total = sum(struct.unpack(f"!{len(request) // 2}H", request))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        request = request[:2] + struct.pack("!H", ~total & 0xFFFF) + request[4:]
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
    pair.stacks[0].send(_datagram(mine, yours, _noise(length)))
    while (got := pair.hear(1, Kind.RECEIVED)).protocol != socket.IPPROTO_UDP:
        pass
    assert (got.local, got.remote) == (Name(yours, 53), Name(mine, 5000))
    assert (got.ttl, got.tos, got.card) == (9, 0x10, 2)
    assert got.data == _noise(length)


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
    one, other = _join(pair, mine, yours)
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
    one, other = _join(pair, *_PEERS[0])
    one.shutdown(socket.SHUT_WR)
    pair.settle()
    assert other.recv(100) == b""
    data = _noise(300_000)
    assert _pour(pair, other, one, data) == data
    other.close()
    pair.settle()
    assert one.recv(100) == b""
    for side in range(2):
        assert pair.hear(side, Kind.ENDED).error == 0


def test_what_a_program_wrote_before_it_ended_arrives(pair: Lab) -> None:
    one, other = _join(pair, *_PEERS[0])
    data = _noise(150_000)
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
    one, other = _join(pair, *_PEERS[0])
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
    one, other = _join(pair, *_PEERS[0])
    one.close()
    pair.settle()
    other.send(b"anybody?")
    ended = pair.hear(1, Kind.ENDED)
    assert ended.error == errno.ECONNRESET
    assert ended.end is not None
    ended.end.close()


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
        source, sink = _join(one, mine, yours)
        data = _noise(2_000_000)
        assert _pour(one, source, sink, data) == data
        assert max(len(frame) for _, frame in one.seen) == mtu + 14
        syn = next(_tcp(f) for _, f in one.seen if _flags(f) & _SYN)
        assert syn is not None
        headers = 40 if "." in mine else 60
        assert _option(syn, 2) == struct.pack("!H", mtu - headers)


def test_more_than_64_kib_are_under_way(library: Path, tmp_path: Path) -> None:
    """tcp_sndbuf() truncates to 16 bits; and windows are scaled."""
    with lab(library, tmp_path, mtu=65500) as one:
        one.ready()
        source, _ = _join(one, *_PEERS[0])
        one.settle()
        _pour_until_full(one, source)
        last = [_tcp(f) for s, f in one.seen if s == 1 and _tcp(f)][-1]
        assert last is not None
        window = int.from_bytes(last[14:16]) << 7
        sent = sum(len(_data(f)) for s, f in one.seen if s == 0)
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
    source, sink = _join(pair, *_PEERS[0])
    sent = _pour_until_full(pair, source)
    pair.seen.clear()
    pair.wait(60)
    probes = [f for side, f in pair.seen if side == 0 and _data(f)]
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
            source, _ = _join(one, *_PEERS[0])
            sizes[mtu] = _pour_until_full(one, source)
    assert sizes[1500] < 1 << 20 < 1 << 22 < sizes[65500]


@_MTUS
def test_lost_segments_are_sent_again(library: Path, tmp_path: Path, mtu: int) -> None:
    """Not copied when written, so a ring that turns too early would show."""
    with lab(library, tmp_path, mtu=mtu) as one:
        one.ready()
        source, sink = _join(one, *_PEERS[0])
        dice = random.Random(mtu)
        one.rule = lambda _, frame: [] if dice.random() < 0.02 else [frame]
        data = _noise(6_000_000)
        assert _pour(one, source, sink, data) == data


def test_segments_out_of_order_and_twice_are_put_right(
    library: Path, tmp_path: Path
) -> None:
    """A chain of pbufs counts in 16 bits: many large ones become one there."""
    with lab(library, tmp_path, mtu=65500) as one:
        one.ready()
        source, sink = _join(one, *_PEERS[0])
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
        data = _noise(8_000_000)
        assert _pour(one, source, sink, data) == data


def test_a_lost_segment_is_missed_for_less_than_a_second(pair: Lab) -> None:
    """lwIP's clock has ticks of 500 ms where it is left alone."""
    source, sink = _join(pair, *_PEERS[0])
    for _ in range(20):
        source.send(b"warm")
        pair.wait(0.1)
        sink.recv(100)
    lost = iter([True])
    pair.rule = lambda _, f: [] if _data(f) and next(lost, False) else [f]
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
        source, sink = _join(one, *_PEERS[0])
        size = 1 << 24
        data = _noise(size)
        one.rule = lambda _, frame: [frame]
        begun = one.now_ms
        assert _pour(one, source, sink, data) == data
        assert one.now_ms - begun < 5000
        sequence = [_tcp(f) for s, f in one.seen if s == 0 and _data(f)]
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
        for mine, yours in _PEERS:
            source, sink = _join(one, mine, yours, 80 if "." in mine else 81)
            data = _noise(500_000)
            assert _pour(one, source, sink, data) == data
        sums = {t[16:18] for t in (_tcp(f) for _, f in one.seen) if t}
        assert sums == {b"\0\0"}


def test_a_wrong_checksum_is_dropped(pair: Lab) -> None:
    source, sink = _join(pair, *_PEERS[0])
    damage: Callable[[bytes], bytes] = lambda f: f[:-1] + bytes([f[-1] ^ 1])  # noqa: E731
    wrong = iter([True])
    pair.rule = lambda _, f: [damage(f)] if _data(f) and next(wrong, False) else [f]
    source.send(b"right")
    pair.run(lambda: _peek(sink))
    assert sink.recv(100) == b"right"


@_BOTH
def test_what_waits_for_a_neighbour_outlives_its_connection(
    pair: Lab, mine: str, yours: str
) -> None:
    """lwIP would queue it by reference to the flow's memory."""
    source, _ = _join(pair, mine, yours)
    pair.rule = lambda side, frame: [] if side else [frame]
    pair.wait(400)  # until the neighbour is forgotten
    source.send(b"A" * 1000)
    pair.settle()
    pair.stacks[0].send(Packet(Kind.CLOSE, 1))
    pair.settle()
    pair.rule = lambda _, frame: [frame]
    pair.seen.clear()
    pair.wait(5)
    data = [_data(frame) for side, frame in pair.seen if side == 0 and _data(frame)]
    assert data in ([], [b"A" * 1000])
