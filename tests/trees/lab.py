"""What tests of trees of views share: programs that do what they are asked for."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.setting import UMVIEW, Tracer
from umview import _ffi
from umview._ffi import Event, EventKind, Switchboard
from umview.view import Filter

PROGRAMS = Path(__file__).parent / "programs"
STEPS = (SYSTEM_PYTHON, str(PROGRAMS / "steps.py"))
_WAIT = 60.0  # the longest that anything takes


class Steps:
    """A program that evaluates what it is asked for (programs/steps.py)."""

    def __init__(self, to: IO[str], said: IO[str]) -> None:
        self._to = to
        self._said = said

    def __call__(self, expression: str) -> object:
        """Return what an expression gives there, an OSError as its errno's name."""
        self._to.write(f"{expression}\n")
        self._to.flush()
        assert select.select([self._said], (), (), _WAIT)[0], f"no answer: {expression}"
        line = self._said.readline()
        assert line, f"it ended: {expression}"
        return eval(line)


@contextlib.contextmanager
def steps_in_view(user: User, tracer: Tracer, *stacks: str) -> Iterator[Steps]:
    """Run the program in a view with these stacks: the default, and others."""
    words = [word for stack in stacks for word in ("-p", stack)]
    command = [str(UMVIEW), "--tracer", tracer, *words, *STEPS]
    with subprocess.Popen(
        user.command(command, "native"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=user.environment(),
        cwd="/",
    ) as process:
        assert process.stdin
        assert process.stdout
        yield Steps(process.stdin, process.stdout)
        process.stdin.close()
        assert process.wait(_WAIT) == 0


class Board:
    """A switchboard without a supervisor, and programs under its filter.

    Attributes:
        switchboard: What answers them.
    """

    def __init__(self, folder: Path) -> None:
        self.switchboard = Switchboard(str(folder))

    @contextlib.contextmanager
    def steps(self, view: int = 0) -> Iterator[Steps]:
        """Run the program in a view."""
        sync, theirs = socket.socketpair()
        to, said = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(to[0], 0)
            os.dup2(said[1], 1)
            _ffi.child_exec(theirs.fileno(), Filter.NONE, STEPS)
            os._exit(1)
        for fd in (to[0], said[1]):
            os.close(fd)
        theirs.close()
        with sync, os.fdopen(to[1], "w") as asked, os.fdopen(said[0]) as told:
            listener = int.from_bytes(sync.recv(4), "little")
            self.switchboard.set_place(pid, view)
            self.switchboard.start(_ffi.take_fd(pid, listener))
            sync.send(b"\n")
            self.pid = pid
            yield Steps(asked, told)
            asked.close()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def wait_for(self, kind: EventKind) -> Event:
        """Return the next event of a kind."""
        while select.select([self.switchboard], (), (), _WAIT)[0]:
            for event in self.switchboard.events():
                if event.kind is kind:
                    return event
        raise AssertionError(f"no {kind.name}")


@contextlib.contextmanager
def open_board(folder: Path) -> Iterator[Board]:
    """Give a test a switchboard."""
    folder.chmod(0o700)
    board = Board(folder)
    try:
        yield board
    finally:
        board.switchboard.close()
