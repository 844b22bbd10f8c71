"""What is lost on its way is sent again soon: the clock is simulated."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

import pytest

from tests.core.lab import Lab, lab
from tests.core.test_stackd import PEERS, data_of, join, noise, pour


def _both(one: Lab, ends: list[socket.socket], size: int) -> None:
    """Let both sides send at once, in pieces of all lengths, and check what comes."""
    dice = random.Random(size)
    data = [noise(size), noise(size + 1)]
    sent, got = [0, 0], [bytearray(), bytearray()]

    def move() -> bool:
        for side, end in enumerate(ends):
            piece = data[side][sent[side] :][: dice.randrange(1, 4000)]
            with contextlib.suppress(BlockingIOError):
                sent[side] += end.send(piece)
            with contextlib.suppress(BlockingIOError):
                got[not side].extend(end.recv(1 << 20))
        one.settle()
        return len(got[0]) == len(data[0]) and len(got[1]) == len(data[1])

    one.run(move, 300, tick_ms=1)
    assert [bytes(part) for part in got] == data


def test_a_hole_is_filled_before_time_goes_by(pair: Lab) -> None:
    source, sink = join(pair, *PEERS[0])
    lost = iter([False] * 5 + [True])
    pair.rule = lambda _, f: [] if data_of(f) and next(lost, False) else [f]
    begun = pair.now_ms
    data = noise(40_000)
    source.send(data)
    pair.settle()
    assert pair.now_ms == begun
    assert sink.recv(1 << 20) == data


def test_the_last_segment_is_missed_within_a_tenth_of_a_second(pair: Lab) -> None:
    source, sink = join(pair, *PEERS[0])
    lost = iter([True])
    pair.rule = lambda _, f: [] if data_of(f) and next(lost, False) else [f]
    source.send(b"x")
    pair.settle()

    def came() -> bytes:
        try:
            return sink.recv(1)
        except BlockingIOError:
            return b""

    assert pair.run(came, tick_ms=5) <= 100


@pytest.mark.parametrize("seed", range(4))
def test_streams_in_both_directions_lose_each_twentieth_frame(
    library: Path, tmp_path: Path, seed: int
) -> None:
    """Some 70 of each are lost: the timer alone takes 0.3 s and more for each."""
    with lab(library, tmp_path, mtu=1500) as one:
        one.ready()
        ends = join(one, *PEERS[seed % 2])
        dice = random.Random(seed)
        one.rule = lambda _, f: [] if dice.random() < 0.05 else [f]
        begun = one.now_ms
        _both(one, ends, 1 << 20)
        assert one.now_ms - begun < 10_000


def test_bursts_of_loss(library: Path, tmp_path: Path) -> None:
    with lab(library, tmp_path, mtu=1500) as one:
        one.ready()
        source, sink = join(one, *PEERS[0])
        dice = random.Random(3)
        bad = False

        def spoil(_: int, frame: bytes) -> list[bytes]:
            nonlocal bad
            bad = dice.random() < (0.7 if bad else 0.02)
            return [] if bad else [frame]

        one.rule = spoil
        data = noise(1 << 20)
        assert pour(one, source, sink, data) == data
