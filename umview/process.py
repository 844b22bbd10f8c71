"""What a supervisor and a keeper do alike: start a command, step aside, look after it.

The command's process is forked first of all, while everything is as the user left it:
limits, working directory, descriptors, process group, signals. Then its parent steps
aside: a process group of its own in the same session (the terminal's signals and job
control pass it by, and the command's group never becomes an orphaned one through it),
no terminal signals, none of the user's descriptors (a pipe that others read has to end
when the command ends), /dev/null for a stderr: what there is to say goes through the
front. It is a child sub-reaper, so all that the command starts are its descendants.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from collections.abc import Callable, Iterable
from typing import NoReturn

from umview import _ffi, link
from umview._ffi import Stage
from umview.errors import FAILED
from umview.job import Job
from umview.link import Kind
from umview.view import Filter

_IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGPIPE,
)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_PREEMPTED = (
    "calls of the network do not reach umview: who holds the seccomp listener here (a "
    "container's manager?) takes them first; run umview outside"
)


class Command:
    """The command, as far as its parent deals with it.

    Attributes:
        pid: Its process; 0 where there is none.
        status: Its exit status as the user gets it; None while it runs.
    """

    def __init__(self, line: link.Supervisor) -> None:
        """Have none yet.

        Args:
            line: Where the front hears of it.
        """
        self._line = line
        self.pid = 0
        self.status: int | None = None

    def start(self, become: Callable[[], NoReturn]) -> None:
        """Fork its process, which becomes the command."""
        self.pid = os.fork()
        if self.pid == 0:
            become()
        self._line.send(Kind.STARTED, self.pid)

    def changed(self, wait_status: int) -> None:
        """Take note of what wait(2) has told of it."""
        if os.WIFSTOPPED(wait_status):
            self._line.send(Kind.STOPPED, os.WSTOPSIG(wait_status))
        else:
            code = os.waitstatus_to_exitcode(wait_status)
            self.status = 128 - code if code < 0 else code

    def kill(self) -> None:
        """Kill it, unless it has ended and its number may be another's."""
        if self.pid and self.status is None:
            os.kill(self.pid, signal.SIGKILL)


def reap(command: Command) -> bool:
    """Take note of what has become of the children, adopted ones included.

    Returns:
        Whether there are any left.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid == command.pid:
            command.changed(status)


def wake_on_signals(*numbers: signal.Signals) -> int:
    """Return a descriptor that the numbers of our signals can be read from."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *numbers):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.write(write, bytes((signal.SIGCHLD,)))  # for what came before
    return read


def numbers_of(wake: int) -> bytes:
    """Take the numbers of the signals that have come."""
    return os.read(wake, select.PIPE_BUF)


def step_aside(inherited: Iterable[int]) -> None:
    """Leave the user's terminal, pipes, directory and limit of descriptors."""
    os.setpgid(0, 0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
    for fd in inherited:
        os.close(fd)
    os.chdir("/")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# ---- in the command's process ----


def become_first(sync: int, needed: Filter, job: Job) -> NoReturn:
    """Become the first command under a filter; on failure say why, as a shell does.

    Args:
        sync: The socket to the supervisor, see `_ffi.child_exec`.
        needed: The filter that it installs.
        job: What to become.
    """
    _as_the_user_left_it(job)
    _fail(*_ffi.child_exec(sync, needed, job.command), job.command[0])


def become(job: Job) -> NoReturn:
    """Become a command under the filter that there is; else say why not."""
    _as_the_user_left_it(job)
    _fail(Stage.EXEC, _ffi.execute(job.command), job.command[0])


def _as_the_user_left_it(job: Job) -> None:
    # what Python has changed, and nothing else: nohup(1) has to reach the command
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if job.ignores_children:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, job.mask)


def _fail(stage: Stage, code: int, word: str) -> NoReturn:
    text, status = _why_not(stage, code, word)
    if text:
        os.write(2, os.fsencode(f"umview: {text}\n"))
    os._exit(status)


def _why_not(stage: Stage, code: int, word: str) -> tuple[str, int]:
    """Return what to say about a command that cannot be, and the exit status."""
    reason = os.strerror(code)
    match stage:
        case Stage.FILTER:
            return f"cannot install the seccomp filter: {reason}", FAILED
        case Stage.HAND_OVER if code == errno.EPROTO:
            return _PREEMPTED, FAILED
        case Stage.HAND_OVER:
            return "", FAILED  # the supervisor is gone, and the front says so
        case Stage.EXEC if code == errno.ENOENT and "/" not in word:
            return f"{word}: command not found", _NOT_FOUND
        case Stage.EXEC:
            absent = code == errno.ENOENT
            return f"{word}: {reason}", _NOT_FOUND if absent else _NOT_EXECUTABLE
