"""Mixed traffic between three views for as long as is wanted; what grows meanwhile?

    python -m tests.heavy.soak [--seconds 3600] [--rate 8] [--json]

The views are on one switch, by IPv4 and IPv6, and two of them on a direct wire as well.
What they do is in programs/traffic.py. Of every stack server, supervisor, and of the
switch, memory and descriptors are sampled.

The verdict. The first tenth is for warming up. Of the rest, what has grown is the least
value of the last quarter over the greatest of the first: so waves and single peaks on
either side never count as growth, and of a steady leak at least half of what it makes
in that time does. Memory may grow by MEMORY_SPARE: freed memory stays with a process,
and how much that is at most is found by chance, the later the rarer. Descriptors may
grow by FILES_SPARE: that a listener is closed is noticed by a supervisor when a
thousand sockets more were made. Of datagrams one in a hundred may be lost; nothing
else may go wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from tests.setting import umview

MEMORY_SPARE = 2.0  # MiB
FILES_SPARE = 64
LOST_SPARE = 0.01
_PROGRAM = Path(__file__).parent / "programs" / "traffic.py"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: stack servers are left to us
_START_SECONDS = 60
_SAMPLES = 600
_LINES = 60
_MIB = 1 << 20
_HOSTS = ("a", "b", "c")
_WIRE = ("a", "b")


@dataclass(frozen=True, slots=True)
class Growth:
    """What became of one number of one process."""

    who: str
    what: str
    first: float
    last: float
    grown: float
    spare: float

    @property
    def flat(self) -> bool:
        """Whether it grew by no more than it may."""
        return self.grown <= self.spare


@dataclass(slots=True)
class Series:
    """Samples of the processes, and what the traffic said last."""

    memory: dict[str, list[float]] = field(default_factory=dict)
    files: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    reports: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    dead: str = ""

    def sample(self, processes: dict[str, psutil.Process]) -> None:
        """Look at every process.

        Raises:
            psutil.NoSuchProcess: One of them has died.
        """
        for name, process in processes.items():
            times = process.cpu_times()
            self.memory.setdefault(name, []).append(process.memory_info().rss / _MIB)
            self.files.setdefault(name, []).append(_files(process))
            self.cpu[name] = times.user + times.system

    def count(self, what: str) -> Counter[str]:
        """Return the sum of what the hosts say is done, or lost."""
        total: Counter[str] = Counter()
        for report in self.reports.values():
            total.update(report[what])
        return total

    def growth(self) -> list[Growth]:
        """Return what became of every number."""
        return [
            _growth(name, what, numbers, spare)
            for what, all_of, spare in (
                ("memory", self.memory, MEMORY_SPARE),
                ("descriptors", self.files, FILES_SPARE),
            )
            for name, numbers in all_of.items()
        ]

    def faults(self) -> list[str]:
        """Return what speaks against a success, a line each."""
        faults = [self.dead] if self.dead else []
        faults += [f"{host}: {one}" for host in self.wrong for one in self.wrong[host]]
        done, lost = self.count("done").total(), self.count("lost").total()
        if lost > LOST_SPARE * max(done, 1):
            faults.append(f"{lost} datagrams were lost, of {done} acts")
        faults += [
            f"{one.who}: {one.what} grew by {one.grown:.1f}"
            for one in self.growth()
            if not one.flat
        ]
        return faults


def _files(process: psutil.Process) -> int:
    """Count a process's descriptors without those of the supervisor's cache.

    It remembers by which pidfd a thread is reached, and its wchan: a fixed number of
    places that fill as threads come and go.
    """
    count = 0
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(link.readlink())
            count += "[pidfd]" not in target and not target.endswith("/wchan")
    return count


def _growth(who: str, what: str, numbers: list[float], spare: float) -> Growth:
    """Compare the quarters; see the head of this file."""
    steady = numbers[len(numbers) // 10 :]
    quarter = max(1, len(steady) // 4)
    grown = min(steady[-quarter:]) - max(steady[:quarter])
    return Growth(who, what, steady[0], steady[-1], max(grown, 0.0), spare)


def main(argv: Sequence[str]) -> int:
    """Run the traffic.

    Returns:
        0 if all went well and nothing grew, else 1.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--rate", type=float, default=8, help="acts a second, by each")
    parser.add_argument("--json", action="store_true", help="print JSON at the end")
    options = parser.parse_args(argv)
    series = soak(options.seconds, options.rate)
    faults = series.faults()
    if options.json:
        result = {
            "done": series.count("done"),
            "lost": series.count("lost"),
            "faults": faults,
            "memory_mib": series.memory,
            "descriptors": series.files,
        }
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        _print(series, faults)
    return 1 if faults else 0


def soak(seconds: float, rate: float) -> Series:
    """Let the views talk for so long, and watch."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave nothing behind
    series = Series()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        processes = stack.enter_context(_switch(folder))
        hosts = {}
        for name in _HOSTS:
            known = _descendants()
            hosts[name] = stack.enter_context(_host(name, folder, rate))
            _await(hosts[name], "serves\n")
            processes |= _servants(name, known)
        for host in hosts.values():
            _say(host, "go\n")
        _watch(series, hosts, processes, seconds)
    return series


def _watch(
    series: Series,
    hosts: dict[str, subprocess.Popen[str]],
    processes: dict[str, psutil.Process],
    seconds: float,
) -> None:
    begun = time.monotonic()
    for turn in range(1, _SAMPLES + 1):
        time.sleep(max(0, begun + seconds * turn / _SAMPLES - time.monotonic()))
        for name, host in hosts.items():
            _hear(series, name, host)
        try:
            series.sample(processes)
        except psutil.NoSuchProcess as exc:
            series.dead = f"a process has died: {exc}"
        if series.dead:
            return
        if turn % (_SAMPLES // _LINES) == 0:
            _progress(series, time.monotonic() - begun)


def _hear(series: Series, name: str, host: subprocess.Popen[str]) -> None:
    """Take the last thing that a host has said; a read finds all of it."""
    assert host.stdout
    lines = _read(host.stdout).splitlines()
    if host.poll() is not None:
        series.dead = f"{name}: its program has ended, status {host.returncode}"
    elif lines:
        report = json.loads(lines[-1])
        wrong = report.pop("wrong")
        for one in wrong[len(series.wrong.get(name, [])) :]:
            sys.stderr.write(f"{name}: {one}\n")
        series.wrong[name] = wrong
        series.reports[name] = report


def _read(stream: IO[str]) -> str:
    """Return the lines that are there; each was one short write, so none is cut."""
    os.set_blocking(stream.fileno(), False)
    text = b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(stream.fileno(), 1 << 16):
            text += part
    return text.decode()


def _progress(series: Series, seconds: float) -> None:
    done, lost = series.count("done").total(), series.count("lost").total()
    cells = [
        f"{name} {series.memory[name][-1]:.1f} MiB {series.files[name][-1]:.0f} fd"
        for name in series.memory
    ]
    busy = 100 * sum(series.cpu.values()) / seconds
    wrong = sum(map(len, series.wrong.values()))
    line = (
        f"{seconds:5.0f} s: {done} acts, {lost} lost, {wrong} wrong, {busy:.0f} % CPU; "
    )
    sys.stderr.write(line + ", ".join(cells) + "\n")


def _print(series: Series, faults: list[str]) -> None:
    lost = series.count("lost")
    sys.stdout.write(f"\n{'act':<20}{'done':>10}{'lost':>8}\n")
    for act, number in sorted(series.count("done").items()):
        sys.stdout.write(f"{act:<20}{number:>10}{lost[act]:>8}\n")
    sys.stdout.write(f"\n{'':<34}{'first':>9}{'last':>9}{'grown':>9}{'spare':>9}\n")
    for one in series.growth():
        sys.stdout.write(
            f"{one.who:<22}{one.what:<12}{one.first:>9.1f}{one.last:>9.1f}"
            f"{one.grown:>9.1f}{one.spare:>9.1f}{'' if one.flat else '  !'}\n"
        )
    for fault in faults:
        sys.stdout.write(f"{fault}\n")
    sys.stdout.write("\nIt failed.\n" if faults else "\nAll is well: nothing grows.\n")


# ---- the hosts ----


def _networks(name: str) -> list[list[str]]:
    """Return the networks of a host: its address, and those of the others."""
    found = []
    numbers = {host: number for number, host in enumerate(_HOSTS, 1)}
    for start, among in (
        ("10.7.0.", _HOSTS),
        ("fd07::", _HOSTS),
        ("10.8.0.", _WIRE),
        ("fd08::", _WIRE),
    ):
        if name in among:
            others = [host for host in among if host != name]
            found.append([f"{start}{numbers[host]}" for host in (name, *others)])
    return found


@contextlib.contextmanager
def _switch(folder: Path) -> Iterator[dict[str, psutil.Process]]:
    program = shutil.which("vde_switch") or "vde_switch"
    with subprocess.Popen(
        [program, "-s", str(folder / "switch"), "-M", str(folder / "console")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            _say(process, "showinfo\n")
            _await(process, "Success")
            yield {"switch": psutil.Process(process.pid)}
        finally:
            process.kill()


@contextlib.contextmanager
def _host(name: str, folder: Path, rate: float) -> Iterator[subprocess.Popen[str]]:
    networks = _networks(name)
    own = [f"ip={own}/{64 if ':' in own else 24}" for own, *_ in networks]
    words = [f"vd0=vde://{folder}/switch", *own[:2]]
    if name in _WIRE:
        words += [f"wire=soak{os.getpid()}", *own[2:]]
    argv = ["/usr/bin/python3", str(_PROGRAM), f"{rate}", *map(",".join, networks)]
    with subprocess.Popen(
        umview("-p", ",".join(["umnetlwipv6", *words]), *argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # its program ends
            process.wait(_START_SECONDS)


def _say(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin
    process.stdin.write(text)
    process.stdin.flush()


def _await(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    assert any(text in line for line in process.stdout), "it does not start"


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _servants(name: str, known: set[psutil.Process]) -> dict[str, psutil.Process]:
    """Return a new view's supervisor, its stack server and that one's plugs."""
    found = {}
    plugs = 0
    for process in sorted(_descendants() - known, key=lambda one: one.pid):
        words = process.cmdline()
        if process.name() == "stackd" and "plug" in words:
            plugs += 1
            found[f"{name}: plug {plugs}"] = process
        elif process.name() == "stackd":
            found[f"{name}: stack server"] = process
        elif len(words) > 2 and any(
            child.cmdline()[:2] == ["/usr/bin/python3", str(_PROGRAM)]
            for child in process.children()
        ):
            found[f"{name}: supervisor"] = process
    assert len(found) == 2 + plugs, found
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
