"""Programs that already run: which may enter a view, and what to say of the others.

What can be known before is looked up in /proc: where the kernel refuses, its EPERM has
many reasons, and a program that was let in cannot be let out again.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from umview.errors import UmviewError

_KERNEL_THREAD = 0x00200000  # PF_KTHREAD
_FLAGS = 6  # in /proc/PID/stat, counted from the state on: proc_pid_stat(5)
_ELF_CLASS, _ELF_64 = 4, 2
_SWITCHBOARD = "um-switchboard"  # its thread's name, see switchboard.c
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"
_SCOPES = {
    1: "only a process's own ancestors may trace it",
    2: "only root may trace",
    3: "nobody may trace",
}


class EntryError(UmviewError):
    """A program cannot enter a view.

    Attributes:
        errno: What says the same to a program.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.errno = code


class _Process(NamedTuple):
    """What /proc/PID/status tells."""

    state: str
    tgid: int
    tracer: int
    uids: frozenset[int]
    filters: int  # seccomp's, those of a container included


def _look(pid: int | str) -> _Process:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        lines = (line.partition(":") for line in file)
        found = {name: value.split() for name, _, value in lines}
    filters = found.get("Seccomp_filters") or found.get("Seccomp") or ["0"]
    return _Process(
        state=found["State"][0],
        tgid=int(found["Tgid"][0]),
        tracer=int(found["TracerPid"][0]),
        uids=frozenset(int(uid) for uid in found["Uid"]),
        filters=int(filters[0]),
    )


def check(pid: int) -> None:
    """Make sure that a process can enter a view, as far as can be known.

    Raises:
        EntryError: It cannot.
    """
    try:
        process = _look(pid)
        is_kernels = _is_kernel_thread(pid)
    except OSError:
        raise _ended(pid) from None
    if process.tgid != pid:
        raise EntryError(
            errno.EINVAL,
            f"{pid} is a thread of process {process.tgid}: say --pid {process.tgid}",
        )
    if pid in (os.getpid(), os.getppid()):
        raise EntryError(
            errno.EINVAL,
            f"process {pid} is umview itself: say the number of a program",
        )
    if is_kernels:
        raise EntryError(
            errno.EINVAL, f"process {pid} is the kernel's own: it has no sockets"
        )
    if process.state in "ZX":
        raise EntryError(
            errno.ESRCH,
            f"process {pid} has ended, only its parent has not asked for its status",
        )
    if os.geteuid() != 0 and process.uids != {os.geteuid()}:
        raise EntryError(
            errno.EPERM,
            f"process {pid} is not yours: only its own user and root can move it",
        )
    if process.filters > _look("self").filters:
        raise _is_filtered(pid)
    if process.tracer:
        raise EntryError(errno.EBUSY, _traced(pid, process.tracer))
    if not _is_64_bit(pid):
        raise _is_32_bit(pid)


def why_not(pid: int, code: int) -> EntryError:
    """Return what to say of a process that the kernel does not let in.

    Args:
        pid: The process.
        code: The errno, see um_switchboard_attach().
    """
    match code:
        case _ if code == errno.ESRCH or _has_ended(pid):
            return _ended(pid)
        case errno.EPERM:
            return EntryError(code, forbidden(pid, _yama_scope()))
        case errno.EBUSY:
            return _is_filtered(pid)
        case errno.ENOEXEC:
            return _is_32_bit(pid)
        case errno.ETIMEDOUT:
            return EntryError(
                code,
                f"process {pid} cannot be stopped: it waits for a disk, a file server, "
                "or a child that it has just made; try again later",
            )
        case _:
            return EntryError(
                code, f"cannot put process {pid} under the filter: {os.strerror(code)}"
            )


def _ended(pid: int) -> EntryError:
    return EntryError(
        errno.ESRCH, f"there is no process {pid} (any more): look with ps"
    )


def _is_filtered(pid: int) -> EntryError:
    return EntryError(
        errno.EBUSY,
        f"process {pid} has a seccomp filter of its own: it is in a view or in a "
        "sandbox already; start it anew by umview",
    )


def _is_32_bit(pid: int) -> EntryError:
    return EntryError(
        errno.ENOEXEC,
        f"process {pid} is a 32-bit program: a view answers 64-bit programs only",
    )


def _traced(pid: int, tracer: int) -> str:
    try:
        with open(f"/proc/{tracer}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        name = "a debugger?"
    if name == _SWITCHBOARD:
        return f"process {pid} is in a view already; start it anew by umview"
    return (
        f"process {pid} is traced by process {tracer} ({name}), and a process has one "
        "tracer: end that first"
    )


def _has_ended(pid: int) -> bool:
    try:
        return _look(pid).state in "ZX"
    except OSError:
        return True


def _is_kernel_thread(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        _, _, fields = file.read().rpartition(")")
    return bool(int(fields.split()[_FLAGS]) & _KERNEL_THREAD)


def _is_64_bit(pid: int) -> bool:
    """Tell what a process's program is; one that cannot be read may be."""
    try:
        with open(f"/proc/{pid}/exe", "rb") as file:
            return file.read(_ELF_CLASS + 1)[_ELF_CLASS:] in (b"", bytes((_ELF_64,)))
    except OSError:
        return True


def _yama_scope() -> int:
    try:
        with open(_YAMA, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def check_outsider(scope: int | None = None) -> None:
    """Make sure that we may look into a command that comes from outside of the view.

    It is no descendant of ours, and neither is what it starts. What it would allow us
    by prctl(2), PR_SET_PTRACER, is not handed down.

    Args:
        scope: Yama's ptrace_scope; None: as it is here.

    Raises:
        UmviewError: We may not.
    """
    scope = _yama_scope() if scope is None else scope
    if scope and os.geteuid() != 0:
        raise UmviewError(
            f"kernel.yama.ptrace_scope is {scope} on this host, so what comes from "
            "outside cannot enter a view: run what brings it by `umview -p umnetnative "
            "COMMAND`, or have the administrator set it to 0 by sysctl"
        )


def forbidden(pid: int, scope: int) -> str:
    """Return why a process may not be traced, where Yama's ptrace_scope is scope."""
    if scope in _SCOPES:
        return (
            f"process {pid} may not be traced: kernel.yama.ptrace_scope is {scope} on "
            f"this host ({_SCOPES[scope]}); start the program by umview, or have the "
            "administrator set it to 0 by sysctl"
        )
    return (
        f"process {pid} may not be traced: it hides its memory (its program file is "
        "not readable, or it asked for that), or a container forbids ptrace; start the "
        "program by umview"
    )
