"""What stops the calls of programs: the two tracers, and which of them works here."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import NamedTuple, Protocol

from umview import _ffi
from umview._ffi import Switchboard
from umview.errors import UmviewError
from umview.view import Filter

_NO_LISTENER = {
    errno.EBUSY: "a listener is held already",
    errno.EOPNOTSUPP: "Linux 5.14 or later is needed to answer with descriptors",
    errno.EINVAL: "this kernel has no user notification",
    errno.ENOSYS: "this kernel has no seccomp",
}


class Tracer(Protocol):
    """What the supervisor has to know of a tracer.

    Attributes:
        name: What --tracer calls it.
        filter: What its filter has besides what the view needs.
        waits: Whether it waits for the supervisor's children, once started, and tells
            of them (CHILD, ENDED). Else the supervisor does.
    """

    name: str
    filter: Filter
    waits: bool

    def start(self, switchboard: Switchboard, command: int, listener: int) -> None:
        """Start the switchboard for a command that waits to be let go.

        Args:
            switchboard: What is to answer.
            command: The command's process.
            listener: What that process calls the listener of its filter.

        Raises:
            OSError: ESRCH if the command has ended.
            UmviewError: It cannot be traced.
        """
        ...

    def attach(self, switchboard: Switchboard, pid: int, needed: Filter) -> None:
        """Put a running program under the filter, and start the switchboard for it.

        Args:
            switchboard: What is to answer.
            pid: The program's process.
            needed: Its filter.

        Raises:
            OSError: As `Switchboard.attach`.
        """
        ...


class Seccomp:
    """User notification: the kernel hands the calls to the filter's listener."""

    name = "seccomp"
    filter = Filter.NONE
    waits = False

    def start(self, switchboard: Switchboard, command: int, listener: int) -> None:
        """Take the listener."""
        switchboard.start(_ffi.take_fd(command, listener))

    def attach(self, switchboard: Switchboard, pid: int, needed: Filter) -> None:
        """Stop the program for a moment; then it has a listener."""
        switchboard.attach(pid, needed)


class Ptrace:
    """The filter stops the calls for a tracer, and the switchboard is that."""

    name = "ptrace"
    filter = Filter.TRACE
    waits = True

    def start(self, switchboard: Switchboard, command: int, listener: int) -> None:  # noqa: ARG002 - it has none
        """Trace the command; SIGCHLD is for the tracer from now on."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            switchboard.trace(command)
        except PermissionError as exc:
            raise UmviewError(f"cannot trace the command: {exc.strerror}") from exc
        except ProcessLookupError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            raise

    def attach(self, switchboard: Switchboard, pid: int, needed: Filter) -> None:
        """Trace the program from now on."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        switchboard.attach(pid, needed)


class Choice(NamedTuple):
    """A tracer, and what the user hears of it."""

    tracer: Tracer
    text: str


def choose(
    wanted: str,
    try_seccomp: Callable[[], int] = _ffi.try_seccomp,
    try_ptrace: Callable[[], int] = _ffi.try_ptrace,
) -> Choice:
    """Return the tracer that was asked for, if it works here.

    Args:
        wanted: "seccomp", "ptrace" or "auto": seccomp, which is faster, where it works.
        try_seccomp: Returns the errno of a trial, 0 if it went well.
        try_ptrace: The same.

    Raises:
        UmviewError: It does not; or, under auto, neither does.
    """
    why_no_seccomp = ""
    if wanted != "ptrace":
        code = try_seccomp()
        if code == 0:
            return Choice(Seccomp(), "seccomp")
        why_no_seccomp = _NO_LISTENER.get(code, os.strerror(code))
        if wanted == "seccomp":
            raise UmviewError(
                f"--tracer seccomp does not work here: {why_no_seccomp}; "
                "try --tracer ptrace"
            )
    code = try_ptrace()
    if code == 0:
        return Choice(
            Ptrace(), f"ptrace ({why_no_seccomp})" if why_no_seccomp else "ptrace"
        )
    forbidden = f"ptrace(2) fails: {os.strerror(code)}"
    if wanted == "ptrace":
        raise UmviewError(
            f"--tracer ptrace does not work here, {forbidden}; try --tracer seccomp"
        )
    raise UmviewError(
        f"programs cannot be traced here, neither by seccomp ({why_no_seccomp}) "
        f"nor by ptrace ({forbidden}): allow one, or run umview outside"
    )
