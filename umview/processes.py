"""Which processes there are, and whose: as /proc tells."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping

_STATE, _PARENT = 0, 1  # behind the name in /proc/PID/stat: proc_pid_stat(5)


def below(roots: Mapping[int, int]) -> dict[int, int]:
    """Return to which of the roots each process belongs.

    Args:
        roots: By a process, the number that it gets, and all processes below it, but
            for those below another root.
    """
    parents = dict(_parents())
    found: dict[int, int] = {}
    for pid in parents:
        above = pid
        while above and above not in roots:
            above = parents.get(above, 0)
        if above:
            found[pid] = roots[above]
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _read(int(name), "stat")):
            yield int(name), int(stat.rpartition(b")")[2].split()[_PARENT])


def has_ended(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    stat = _read(pid, "stat").rpartition(b")")[2].split()
    return not stat or stat[_STATE] in b"ZX"


def command_of(pid: int) -> str:
    """Return the command line of a process, or its name; "" if it has ended."""
    words = _read(pid, "cmdline").rstrip(b"\0").split(b"\0")
    return b" ".join(words).decode("utf-8", "replace") or f"[{name_of(pid)}]"


def name_of(pid: int) -> str:
    """Return the name of a process; "" if it has ended."""
    return _read(pid, "comm").strip().decode("utf-8", "replace")


def holders(inodes: Collection[int], pids: Iterable[int]) -> Iterator[int]:
    """Yield those of the processes that have one of the sockets open."""
    for pid in pids:
        if any(inode in inodes for inode in _sockets_of(pid)):
            yield pid


def _sockets_of(pid: int) -> Iterator[int]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            yield int(target[8:-1])


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
