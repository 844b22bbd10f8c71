"""Random sequences of socket calls show the same natively and in a view, step by step.

Two programs (probes/acts.py) live as long as the tests: one natively, one in a view.
Each sequence runs in both, in sockets of its own. make test runs the same few hundred
every time; UMVIEW_EXAMPLES=20000 runs so many others. What is found, shrunk by
hypothesis, goes to found.py. What is known to differ is left out in acts.py.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.apps.lab import User
from tests.views.conftest import SETUPS, Probes, Setup, command
from tests.views.found import FOUND, Step

pytestmark = pytest.mark.view

_LIMIT = 30.0
_PATIENCE = 1.0  # seconds that a state may take to become the native one
_NATIVE_RUNS = 3
_MANY = int(os.environ.get("UMVIEW_EXAMPLES", "0"))
_FEW = 150

_index = st.integers(0, 5)
_how = st.integers(0, 2)
_counts = st.sampled_from([0, 1, 3, 10, 1000, 3000])
_send_flags = st.sampled_from([0, 0, 0, socket.MSG_OOB])
_receive_flags = st.sampled_from(
    [0, 0, socket.MSG_PEEK, socket.MSG_TRUNC, socket.MSG_WAITALL, socket.MSG_OOB]
)
_datagram_flags = st.sampled_from([0, 0, socket.MSG_PEEK, socket.MSG_TRUNC])
_events = st.sampled_from(
    [
        mask | how
        for mask in (select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)
        for how in (0, select.EPOLLET, select.EPOLLRDHUP, select.EPOLLONESHOT)
    ]
)


def _step(name: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), _index, *args)


_DATA = (
    _step("send", st.integers(0, 1), _counts, _send_flags),
    _step("recv", _how, _counts, _receive_flags),
    _step("shutdown", _how),
    _step("get", st.integers(0, 11)),
    _step("set", st.integers(0, 11)),
    _step("error"),
    _step("peer"),
    _step("atmark"),
    _step("watch", _events),
    _step("wait"),
    _step("dup"),
    _step("close"),
)
_LIFE = (
    _step("open"),
    _step("bind", _how),
    _step("listen"),
    _step("connect", _index),
    _step("accept"),
)
_BEGINNING: list[Step] = [("open", 0), ("bind", 0, 1), ("listen", 0), ("open", 0)]
_STEPS = {
    "pair local": st.lists(st.one_of(*_DATA), min_size=1, max_size=20),
    "pair relay": st.lists(st.one_of(*_DATA), min_size=1, max_size=20),
    "pair relay-back": st.lists(st.one_of(*_DATA), min_size=1, max_size=20),
    "life": st.builds(
        operator.add,
        st.sampled_from([[], _BEGINNING]),
        st.lists(st.one_of(*_LIFE, *_LIFE, *_DATA), min_size=1, max_size=30),
    ),
}
_STEPS["datagrams"] = st.lists(
    st.one_of(
        _step("to", _index, st.integers(0, 1), _counts),
        _step("send", st.integers(0, 1), _counts),
        _step("recv", _how, _counts, _datagram_flags),
        _step("connect", _index),
        _step("peer"),
        _step("get", st.integers(0, 11)),
        _step("set", st.integers(0, 11)),
        _step("error"),
    ),
    min_size=1,
    max_size=25,
)
Trace = list[Any]


class Actor:
    """A program that runs sequences, natively or in a view."""

    def __init__(
        self, user: User, argv: list[str], environment: dict[str, str]
    ) -> None:
        self._process = subprocess.Popen(
            user.command(argv, "native"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=user.folder,
            env=user.environment() | environment,
        )

    def run(self, world: str, steps: list[Step], wanted: Trace) -> Trace:
        """Return the trace of a sequence."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([world, steps, wanted, _PATIENCE]) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _LIMIT)
        assert ready, f"no answer in {_LIMIT} s"
        line = self._process.stdout.readline()
        assert line, f"ended with {self._process.wait(10)}"
        trace: Trace = json.loads(line)
        return trace

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()


class Actors:
    """The programs, started when they are wanted; one that failed is started anew."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._actors: dict[Setup | None, Actor] = {}

    def run(
        self, setup: Setup | None, world: str, steps: list[Step], wanted: Trace
    ) -> Trace:
        """Return the trace of a sequence, natively (None) or in a view."""
        if setup not in self._actors:
            argv, environment = command(self._probes.peer, setup, "acts.py")
            self._actors[setup] = Actor(self._probes.user, argv, environment)
        try:
            return self._actors[setup].run(world, steps, wanted)
        except AssertionError:
            self._actors.pop(setup).close()
            raise

    def close(self) -> None:
        """End all."""
        for actor in self._actors.values():
            actor.close()


@pytest.fixture(scope="session")
def actors(probes: Probes) -> Iterator[Actors]:
    both = Actors(probes)
    yield both
    both.close()


def _compare(
    actors: Actors, probes: Probes, setup: Setup, world: str, steps: list[Step]
) -> None:
    native = actors.run(None, world, steps, [])
    view = actors.run(setup, world, steps, native)
    for _ in range(_NATIVE_RUNS):
        if native == view:
            return
        native = actors.run(None, world, steps, view)
        if native == view:
            probes.again.append(f"{world} {json.dumps(steps)}")
    lines = [
        f"{step}\n  native: {json.dumps(one)}\n  view:   {json.dumps(other)}"
        for step, one, other in zip(steps, native, view, strict=True)
    ]
    first = next(i for i, step in enumerate(steps) if native[i] != view[i])
    pytest.fail("\n".join([json.dumps(steps), *lines[: first + 1]]), pytrace=False)


@pytest.mark.parametrize("setup", SETUPS, ids=[one.name for one in SETUPS])
@pytest.mark.parametrize("world", list(FOUND))
def test_sequences_are_equal(
    actors: Actors, probes: Probes, setup: Setup, world: str
) -> None:
    check: Callable[..., None] = given(_STEPS[world])(
        lambda steps: _compare(actors, probes, setup, world, steps)
    )
    for steps in FOUND[world]:
        check = example(steps)(check)
    settings(
        max_examples=_MANY or _FEW,
        derandomize=not _MANY,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(check)()
