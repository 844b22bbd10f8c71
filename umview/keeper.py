"""The process that keeps a nested view: its root, there until the last in it ends.

It is to the front and the command what the supervisor is in the outermost view
(umview/process.py), but for what answers calls: that is the one supervisor of the tree
of views, which it asks for a view at the door inside (``/dev/umview``). Whatever has it
for an ancestor is in that view; as a child sub-reaper it stays one of all that the
command starts. The connection tells the supervisor when the view has ended: "over" says
so in order, an end without a word that the keeper was killed.

It is itself in the views around its own, so a call of its own that is stopped is
answered like a program's. After the start it makes none.
"""

from __future__ import annotations

import gc
import os
import select
import signal
from functools import partial
from typing import NoReturn

from umview import _ffi, link, process
from umview.control import Caller
from umview.errors import FAILED, UmviewError
from umview.job import Job
from umview.link import Kind
from umview.module import Asked, AskedPolicy
from umview.process import Command

_GONE = "the supervisor ended: the network of the view is gone; start the command again"


def keep(line: link.Supervisor, job: Job) -> NoReturn:
    """Be the keeper, in a process just forked; see `umview.front.run`."""
    status = FAILED
    try:
        status = _Keeper(line, job).run()
    except UmviewError as exc:
        line.send(Kind.FAILED, exc)
    os._exit(status)


def _word(asked: Asked | AskedPolicy) -> str:
    """Return the word of -p for what it has been read as: the supervisor reads it."""
    word = ",".join((asked.module, *asked.options))
    return f"{asked.path}={word}" if isinstance(asked, Asked) else word


class _Keeper:
    def __init__(self, line: link.Supervisor, job: Job) -> None:
        """Ask for a view, and wait until it is there.

        Raises:
            UmviewError: It cannot be had.
        """
        self._line = line
        self._job = job
        self._door = Caller.inside()
        self._command = Command(line)
        self._poll = select.poll()
        self._door.begin(
            "nest",
            words=[*map(_word, job.mounts), *map(_word, job.policies)],
            name=job.name,
            tracer=job.tracer,
            is_verbose=job.is_verbose,
            is_overlaid=job.is_overlaid,
            pid=job.pid,
        )
        select.select((self._door.sock.fileno(), line.fileno()), (), ())
        if select.select((line,), (), (), 0)[0]:
            raise UmviewError("the front ended")  # nobody is left to hear that
        told = self._door.end()["told"]
        assert isinstance(told, list)
        for text in told:
            line.send(Kind.LOG, text)

    def run(self) -> int:
        """Serve the front and the command until the last process has ended.

        Returns:
            The exit status of this process.

        Raises:
            UmviewError: The supervisor has ended before.
        """
        if self._job.pid:
            self._line.send(Kind.ENTERED, self._job.pid)
            return 0
        _ffi.become_subreaper()
        self._command.start(partial(process.become, self._job))
        process.step_aside(self._job.inherited)
        # there is nothing to end for as long as there is something to keep
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        wake = process.wake_on_signals()
        for fd in (wake, self._door.sock.fileno(), self._line.fileno()):
            self._poll.register(fd, select.POLLIN)
        gc.freeze()
        gc.enable()
        while True:
            for fd, _ in self._poll.poll():
                if fd == wake:
                    process.numbers_of(wake)
                    if not process.reap(self._command):
                        return self._end()
                    self._tell_end()
                elif fd == self._door.sock.fileno():
                    raise UmviewError(_GONE)
                else:
                    self._let_go()
                    self._command.kill()

    def _end(self) -> int:
        """End with the last process: the supervisor hears it first, then the front.

        Raises:
            UmviewError: The supervisor has ended before.
        """
        try:
            self._door.ask("over")
        except UmviewError as exc:
            raise UmviewError(_GONE) from exc
        self._line.send(Kind.CLOSED, self._command.status)
        return 0

    def _tell_end(self) -> None:
        """Let the front go, where the command has ended and others have not."""
        if self._command.status is not None and self._line.fileno() >= 0:
            self._line.send(Kind.ENDED, self._command.status)
            self._let_go()

    def _let_go(self) -> None:
        self._poll.unregister(self._line.fileno())
        self._line.close()
