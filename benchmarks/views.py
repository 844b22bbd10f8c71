"""What a further view costs: memory, beside others and in another one, and its start.

Memory is PSS (proc_pid_smaps_rollup(5)): pages that several processes share count for
each of them in part. A view's is that of its processes (front, keeper or supervisor,
stack server), without the command's, and what the supervisor of its tree grows by.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

_MODULES = ("umnetnull", "umnet", "umnetlwipv6,wire=bench{},ip=10.0.0.1/24")
_KIB = 1024
_PARENT, _OWN, _CHILDREN = 1, slice(11, 13), slice(13, 15)  # in proc_pid_stat(5)


class Figure(NamedTuple):
    """A line of the table."""

    title: str
    figure: str


def measure(umview: Sequence[str], views: int) -> Iterator[Figure]:
    """Yield the figures.

    Args:
        umview: What starts it.
        views: How many views there are at once, or are started in turn.
    """
    for module in _MODULES:
        name = module.partition(",")[0]
        card = " with a wire" if "wire" in module else ""
        inside = _memory([*umview, "-p", "umnet", "sh"], umview, module, views)
        beside = _memory(["sh"], umview, module, views)
        yield Figure(f"memory of a further nested view, {name}{card}", _mib(inside))
        yield Figure(f"memory of a further outermost view, {name}{card}", _mib(beside))
    inner = [*umview, "-p", "umnetnull", "true"]
    outer = [*umview, "-p", "umnet", "sh"]
    yield Figure("start of a nested view, CPU", _ms(_start(outer, inner, views)))
    yield Figure("start of an outermost view, CPU", _ms(_start(["sh"], inner, views)))


def _mib(size: float) -> str:
    return f"{size / _KIB / _KIB:.1f} MiB"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


@contextmanager
def _running(argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        try:
            yield process
        finally:
            process.stdin.close()


def _say(shell: subprocess.Popen[str], line: str) -> str:
    assert shell.stdin
    assert shell.stdout
    shell.stdin.write(f"{line}\n")
    shell.stdin.flush()
    return shell.stdout.readline()


def _memory(
    around: Sequence[str], umview: Sequence[str], module: str, views: int
) -> float:
    """Return what each of some views costs that are started by a shell."""
    with ExitStack() as stack:
        shell = stack.enter_context(_running(around))
        _say(shell, "echo")
        before = _everything(shell.pid)
        folder = Path(os.environ["XDG_RUNTIME_DIR"])
        gate = folder / "gate"
        os.mkfifo(gate)
        for number in range(views):
            words = " ".join([*umview, "-p", module.format(number)])
            _say(shell, f"{words} sh -c 'echo; exec cat {gate}' &")
        after = _everything(shell.pid)
        with gate.open("w"):
            gate.unlink()
    return (after - before) / views


def _everything(root: int) -> int:
    """Return the memory of a process and all below it, and of the stack servers.

    The commands of the views are left out.
    """
    found = 0
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            folder = Path(f"/proc/{pid}")
            if folder.stat().st_uid != os.getuid():
                continue
            name = (folder / "comm").read_text().strip()
            rows = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        ours = name == "stackd" or _is_below(pid, root)
        if ours and name not in ("cat", "sh"):
            found += sum(
                int(row.split()[1]) * _KIB for row in rows if row.startswith("Pss:")
            )
    return found


def _is_below(pid: int, root: int) -> bool:
    while pid > 1 and pid != root:
        try:
            pid = int(_stat(pid)[_PARENT])
        except OSError:
            return False
    return pid == root


def _start(around: Sequence[str], inner: Sequence[str], starts: int) -> float:
    """Return the CPU seconds of a command that a shell runs, for all that takes part.

    Those of its processes, which have been waited for, and in a view the supervisor's.
    """
    with _running(around) as shell:
        pid = int(_say(shell, "echo $$"))
        before = 0.0
        for turn in range(starts + 1):  # the first one reads what the others have
            if turn == 1:
                before = _spent(pid)
            _say(shell, f"{' '.join(inner)}; echo")
        return (_spent(pid) - before) / starts


def _spent(shell: int) -> float:
    fields = _stat(shell)
    ticks = sum(map(int, fields[_CHILDREN]))
    parent = int(fields[_PARENT])
    if parent != os.getpid():
        ticks += sum(map(int, _stat(parent)[_OWN]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
