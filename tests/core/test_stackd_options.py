"""What a program has set on a stream, and who is asked before it is answered."""

from __future__ import annotations

import errno
import socket
import struct

from .lab import Kind, Lab, Name, Packet

_OPTIONS = struct.Struct("=IIIIHBBB3x")
_MINE, _YOURS = Name("10.9.0.1", 4000), Name("10.9.0.2", 80)


def _options(
    idle_ms: int = 0,
    interval_ms: int = 0,
    count: int = 0,
    user_ms: int = 0,
    mss: int = 0,
    *,
    keep_alive: bool = False,
    reset: bool = False,
) -> bytes:
    times = (idle_ms, interval_ms, count, user_ms)
    return _OPTIONS.pack(*times, mss, keep_alive, reset, 0)


def _join(pair: Lab, data: bytes) -> tuple[int, list[socket.socket]]:
    """Connect, set options, and return the connection's id and the programs' ends."""
    pair.listen(1, Name("10.9.0.2", 80))
    number = pair.dial(0, _MINE, _YOURS)
    pair.hear(0, Kind.CONNECTED)
    accepted = pair.hear(1, Kind.ACCEPTED)
    pair.stacks[0].send(Packet(Kind.OPTIONS, number, data=data))
    return number, [pair.start(0, number), pair.start(1, accepted.id)]


def _lose_all(pair: Lab) -> None:
    pair.settle()
    pair.rule = lambda _, frame: []


def test_a_close_that_is_to_reset_resets(pair: Lab) -> None:
    _, (one, _other) = _join(pair, _options(reset=True))
    one.close()
    ended = pair.hear(1, Kind.ENDED)
    assert ended.error == errno.ECONNRESET
    assert ended.end
    ended.end.close()


def test_a_peer_that_does_not_acknowledge_in_time(pair: Lab) -> None:
    number, (one, _other) = _join(pair, _options(user_ms=5000))
    _lose_all(pair)
    begun = pair.now_ms
    one.send(b"anybody?")
    ended = pair.hear(0, Kind.ENDED, 60)
    assert (ended.id, ended.error) == (number, errno.ETIMEDOUT)
    assert 5000 <= pair.now_ms - begun < 6000
    assert ended.end
    ended.end.close()


def test_a_peer_that_is_no_longer_there(pair: Lab) -> None:
    alive = _options(2000, 1000, 3, keep_alive=True)
    number, _ends = _join(pair, alive)
    pair.wait(30)  # while it is there, nothing happens
    assert not pair.stacks[0].take(Kind.ENDED)
    _lose_all(pair)
    begun = pair.now_ms
    ended = pair.hear(0, Kind.ENDED, 60)
    assert (ended.id, ended.error) == (number, errno.ETIMEDOUT)
    assert pair.now_ms - begun < 8000
    assert ended.end
    ended.end.close()


def test_a_listener_is_asked_for_before_it_answers(pair: Lab) -> None:
    pair.stacks[1].admits = False
    listener = pair.listen(1, Name("10.9.0.2", 80))
    pair.dial(0, _MINE, _YOURS)
    asked = pair.hear(1, Kind.ASK)
    assert (asked.id, asked.local, asked.remote) == (listener, _YOURS, _MINE)
    assert not pair.stacks[0].take(Kind.CONNECTED)
    pair.stacks[1].send(Packet(Kind.ADMIT, listener))
    pair.hear(0, Kind.CONNECTED, 0.5)


def test_a_listener_that_is_gone_refuses_who_waits(pair: Lab) -> None:
    pair.stacks[1].admits = False
    listener = pair.listen(1, Name("10.9.0.2", 80))
    pair.dial(0, _MINE, _YOURS)
    pair.hear(1, Kind.ASK)
    pair.stacks[1].send(Packet(Kind.CLOSE, listener))
    assert pair.hear(0, Kind.ENDED, 0.5).error == errno.ECONNREFUSED


def test_a_neighbour_that_does_not_answer_is_told_by_an_error(pair: Lab) -> None:
    begun = pair.now_ms
    pair.dial(0, _MINE, Name("10.9.0.99", 80))
    told = pair.hear(0, Kind.RECEIVED, 20)
    assert told.protocol == socket.IPPROTO_ICMP
    assert told.data[:2] == b"\x03\x01"
    assert told.data[8 + 12 : 8 + 20] == socket.inet_aton("10.9.0.1") + (
        socket.inet_aton("10.9.0.99")
    )
    assert 3000 <= pair.now_ms - begun < 4000
