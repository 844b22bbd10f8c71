"""The mark of processes that have entered a view that runs, and of all they start.

They are not below the view's keeper, and a daemon among them is below nobody. But a
limit is handed down by the kernel, over fork and exec, and RLIMIT_LOCKS limits nothing
since Linux 2.4: its soft limit tells the place of a process (place.c), its hard limit
is this mark. It has the supervisor's process id and start in it.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from enum import IntEnum

_RLIMIT_LOCKS = 10  # Python has no name for it
_HIGHEST = -2  # as an unsigned number, all but "unlimited"; no place is so high
_START = 19  # in /proc/PID/stat, counted from the state on: proc_pid_stat(5)


class Kind(IntEnum):
    """Why a process is in a view."""

    COMMAND = 0
    """It was put there, and ends with the view."""
    GUEST = 1
    """It uses a stack of the view beside its own network, and goes on without."""


def _marks() -> dict[int, Kind]:
    """Return the marks of this supervisor, with their meanings."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        started = int(file.read().rpartition(")")[2].split()[_START])
    number = os.getpid() << 32 | started & 0xFFFFFFFF
    return {_HIGHEST - 2 * number - kind: kind for kind in Kind}


def put(pid: int, kind: Kind = Kind.COMMAND) -> None:
    """Mark a process; it keeps the place that it has, if it has one.

    It cannot be undone: no process may raise a hard limit.

    Raises:
        OSError: It has ended, or is not ours to change.
    """
    (limit,) = (mark for mark, meaning in _marks().items() if meaning is kind)
    place, _ = resource.prlimit(pid, _RLIMIT_LOCKS)
    if place == resource.RLIM_INFINITY:
        place = limit
    resource.prlimit(pid, _RLIMIT_LOCKS, (place, limit))


def processes() -> Iterator[tuple[int, Kind]]:
    """Yield the marked processes that have not been waited for."""
    marks = _marks()
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        with contextlib.suppress(OSError):
            _, limit = resource.prlimit(pid, _RLIMIT_LOCKS)
            if limit in marks:
                yield pid, marks[limit]
