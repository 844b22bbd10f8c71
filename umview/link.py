"""The line between the supervisor and the front: messages of a kind and a text.

The supervisor writes all its messages to it rather than to the user's stderr: it may
live longer than the command, and would keep a pipe open that others read to its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
from collections.abc import Iterator
from enum import Enum

_LONGEST = 65536


class Kind(Enum):
    """What the supervisor tells."""

    STARTED = b"P"
    """The command's process id."""
    STOPPED = b"S"
    """The number of the signal that stopped the command."""
    ENDED = b"E"
    """The command's exit status; other processes of the view go on."""
    CLOSED = b"C"
    """The command's exit status; it was the last process, all is removed."""
    ENTERED = b"I"
    """The running program is in the view."""
    FAILED = b"F"
    """Why there is no view; all is removed."""
    LOG = b"L"
    """A line for the user."""
    TRACE = b"T"
    """Whole lines of the log of calls, for the user's stderr."""


class Lost(Exception):  # noqa: N818 - a state of the line, not a defect
    """The supervisor is gone and has said nothing about the command's end."""


class Front:
    """The front's end."""

    def __init__(self, sock: socket.socket) -> None:
        """Make this process get SIGIO when there is something to receive."""
        self._sock = sock
        sock.setblocking(False)
        fcntl.fcntl(sock, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(sock, fcntl.F_GETFL)
        fcntl.fcntl(sock, fcntl.F_SETFL, flags | os.O_ASYNC)

    def receive(self) -> Iterator[tuple[Kind, str]]:
        """Take what has come.

        Raises:
            Lost: The other end is closed.
        """
        while True:
            try:
                message = self._sock.recv(_LONGEST)
            except BlockingIOError:
                return
            if not message:
                raise Lost
            yield Kind(message[:1]), os.fsdecode(message[1:])


class Supervisor:
    """The supervisor's end. What cannot be delivered is dropped."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, kind: Kind, text: object) -> None:
        """Tell something, if there is a front to hear it."""
        message = kind.value + os.fsencode(str(text))[: _LONGEST - 1]
        # a log line must not wait for a front that is stopped; the rest is rare
        flags = socket.MSG_DONTWAIT if kind is Kind.LOG else 0
        with contextlib.suppress(OSError):
            self._sock.send(message, flags)

    def fileno(self) -> int:
        """Return what is readable once the front has ended; -1 after `close`."""
        return self._sock.fileno()

    def close(self) -> None:
        """Say good-bye."""
        self._sock.close()


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, to a descriptor that others may have made non-blocking.

    Raises:
        OSError: As write(2).
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select((), (fd,), ())


class LogStream:
    """What a log handler writes to: each line goes to the front."""

    def __init__(self, line: Supervisor) -> None:
        self._line = line

    def write(self, text: str) -> None:
        """Send a line."""
        self._line.send(Kind.LOG, text.rstrip("\n"))
