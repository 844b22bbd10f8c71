from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from umview import link
from umview.link import Kind


@dataclass(frozen=True, slots=True)
class Line:
    """Both ends of a line, and whether SIGIO has come."""

    front: link.Front
    supervisor: link.Supervisor
    announced: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def line() -> Iterator[Line]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    announced = threading.Event()
    before = signal.signal(signal.SIGIO, lambda *_: announced.set())
    with ours, theirs:
        yield Line(link.Front(ours), link.Supervisor(theirs), announced)
    signal.signal(signal.SIGIO, before)


def test_messages_arrive_in_order_and_are_announced(line: Line) -> None:
    line.supervisor.send(Kind.STARTED, 4711)
    line.supervisor.send(Kind.LOG, "one\ntwo \udcff")
    assert line.announced.wait(5)
    assert list(line.front.receive()) == [
        (Kind.STARTED, "4711"),
        (Kind.LOG, "one\ntwo \udcff"),
    ]
    assert list(line.front.receive()) == []


def test_closed_line_is_announced_and_lost(line: Line) -> None:
    line.supervisor.send(Kind.ENDED, 3)
    assert line.announced.wait(5)
    line.announced.clear()
    line.supervisor.close()
    assert line.announced.wait(5)
    found = line.front.receive()
    assert next(found) == (Kind.ENDED, "3")
    with pytest.raises(link.Lost):
        next(found)
    line.supervisor.send(Kind.LOG, "nobody hears it")


def test_log_never_waits_for_a_front_that_does_not_read(line: Line) -> None:
    handler = logging.StreamHandler(link.LogStream(line.supervisor))
    record = logging.LogRecord("test", logging.INFO, "", 0, "x" * 100, (), None)
    for _ in range(1_000):
        handler.emit(record)
    assert next(line.front.receive()) == (Kind.LOG, "x" * 100)
