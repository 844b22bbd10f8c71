"""The process that the user started: it stands in for the command.

It waits, passes on signals and stops, and gives the command's exit status. The command
is no child of its own but the supervisor's, in the same process group and session, so
the terminal treats it as the job's. What a terminal sends goes to the whole group and
has reached the command already; what a process sends (si_code <= 0, sigaction(2)) has
reached the front only and is passed on.

All signals are blocked and taken by sigwaitinfo(2): nothing is lost between two waits,
and who sent it is known. A blocked SIGCONT still continues a stopped process, and is
then taken like the others. The supervisor's messages are announced by SIGIO.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterable
from typing import NoReturn

from umview import link
from umview.errors import FAILED
from umview.job import Job
from umview.link import Kind
from umview.runtime import Runtime

_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
TAKEN = frozenset((*_PASSED_ON, signal.SIGCONT, signal.SIGIO))
"""The signals that the front blocks and takes by sigwaitinfo(2)."""


def run(runtime: Runtime | None, job: Job) -> int:
    """Run a command in a view of its own; TAKEN must be blocked.

    Args:
        runtime: The view's directory, taken over; None: this process is in a view, and
            the supervisor of that makes a nested one.
        job: What to run.

    Returns:
        The exit status for the user.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.freeze()  # what there is stays shared by the two
    parent = os.fork()  # the command's
    if parent == 0:
        ours.close()
        _be_parent(link.Supervisor(theirs), runtime, job)
    theirs.close()
    if runtime:
        runtime.release()
    gc.enable()
    _let_go(job.inherited)
    if job.tracing and job.tracing.fd is not None:
        os.close(job.tracing.fd)
    try:
        status = _wait(link.Front(ours))
    except link.Lost:
        _, wait_status = os.waitpid(parent, 0)
        if runtime:
            runtime.remove_stale()
        who = "supervisor" if runtime else "view's keeper"
        complain(
            f"the {who} ended ({_manner(wait_status)}): the network of the view "
            "is gone; start the command again"
        )
        return FAILED
    # Where the command was the last process, leave nothing behind at all.
    os.waitpid(parent, os.WNOHANG if status.others else 0)
    return status.code


def _be_parent(line: link.Supervisor, runtime: Runtime | None, job: Job) -> NoReturn:
    """Be the command's parent: supervisor of a tree of views, or keeper of one of it.

    Both are imported here: the front stays without the C core and its friends.
    """
    if runtime:
        from umview.supervisor import supervise

        supervise(line, runtime, job)
    from umview.keeper import keep

    keep(line, job)


class _Ended:
    """The command has ended."""

    def __init__(self, code: int, *, others: bool) -> None:
        self.code = code
        self.others = others  # whether the view lives on


class _Command:
    """The command's process, as far as the front deals with it."""

    def __init__(self) -> None:
        self._pid = 0
        self._pidfd = -1
        self._early: list[int] = []  # signals that came before it

    def started(self, pid: int) -> None:
        self._pid = pid
        with contextlib.suppress(OSError):
            self._pidfd = os.pidfd_open(pid)
        for number in self._early:
            self._send(number)

    def handle(self, info: signal.struct_siginfo) -> None:
        """Do for the command what a signal to the front asks for."""
        number = info.si_signo
        if number == signal.SIGIO:
            return
        if self._pidfd < 0:
            self._early.append(number)
        elif number == signal.SIGCONT:
            self._resume()
        elif info.si_code <= 0 and info.si_pid != self._pid:
            self._send(number)

    def _resume(self) -> None:
        """Continue the command, and its group where that is not the front's."""
        self._send(signal.SIGCONT)
        with contextlib.suppress(OSError):
            group = os.getpgid(self._pid)
            if group != os.getpgrp():
                os.killpg(group, signal.SIGCONT)

    def _send(self, number: int) -> None:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._pidfd, number)


def _wait(line: link.Front) -> _Ended:
    """Wait for the command's end.

    Raises:
        link.Lost: The supervisor has ended before.
    """
    command = _Command()
    while True:
        for kind, text in line.receive():
            match kind:
                case Kind.STARTED:
                    command.started(int(text))
                case Kind.STOPPED:
                    _stop(int(text))
                case Kind.ENDED | Kind.CLOSED:
                    return _Ended(int(text), others=kind is Kind.ENDED)
                case Kind.ENTERED:
                    return _Ended(0, others=True)
                case Kind.FAILED:
                    complain(text)
                    return _Ended(FAILED, others=False)
                case Kind.LOG:
                    complain(text)
                case Kind.TRACE:
                    _show(text)
        command.handle(signal.sigwaitinfo(TAKEN))


def _stop(number: int) -> None:
    """Stop like the command, by the same signal: the shell shows which one it was."""
    if number != signal.SIGSTOP:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # here it stops, if it is one of the blocked ones
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})


def _let_go(inherited: Iterable[int]) -> None:
    """Close what the command has: a pipe ends when the command closes it.

    Only stderr is kept, for messages.
    """
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    for fd in inherited:
        os.close(fd)


def _manner(wait_status: int) -> str:
    code = os.waitstatus_to_exitcode(wait_status)
    return f"killed by signal {-code}" if code < 0 else f"exit status {code}"


def _show(lines: str) -> None:
    """Write lines of the log of calls to the user, none of them cut."""
    with contextlib.suppress(OSError):
        link.write_all(sys.stderr.fileno(), os.fsencode(lines))


def complain(text: str) -> None:
    """Write a line to the user."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"umview: {text}\n")
        sys.stderr.flush()
