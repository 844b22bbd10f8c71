"""Print how fast views are, as ratios to native figures of the same run.

Every row is measured in rounds: native, views and peers one after the other, in turn
forwards and backwards, so that whatever else the machine does meets all of them. A
ratio is the median of the rounds' ratios. docs/benchmarks.md tells how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import packets
import places
import views as further
from packets import PACKET_ROWS, ROLES, PacketRow, Sample
from places import MeasureError
from rich.console import Console
from rich.table import Table
from rows import ROWS, Bench, Better, Row

_HERE = Path(__file__).resolve().parent
_UMVIEW = Path(sys.executable).with_name("umview")
_NOBODY = 65534
_NATIVE, _SECCOMP, _PTRACE = "native", "seccomp", "ptrace"
_VIEWS = (_SECCOMP, _PTRACE)
_Measured = Callable[[], float | Sample]
_ALL: tuple[Row | PacketRow, ...] = (*ROWS, *PACKET_ROWS)
_PACKETS = "packets"
_FURTHER = "views"
_BUSY = 0.5  # a load from which on rows that use several CPUs suffer


@dataclass(frozen=True, slots=True)
class Effort:
    """How much time a run of the whole benchmark takes."""

    rounds: int
    seconds: float
    views: int


_FULL = Effort(rounds=5, seconds=0.4, views=10)
_QUICK = Effort(rounds=2, seconds=0.15, views=3)


@dataclass(slots=True)
class Result:
    """The figures of one row, by place and round; a place that failed has a reason."""

    row: Row | PacketRow
    figures: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, place: str) -> float | None:
        """Return a place's figure, or None if it has none."""
        figures = self.figures.get(place)
        return statistics.median(figures) if figures else None

    def ratio(self, place: str) -> float | None:
        """Return a place's speed as a part of the base's, which is mostly native."""
        base = self.figures.get(self.row.base, [])
        pairs = list(zip(base, self.figures.get(place, []), strict=False))
        if not pairs or self.row.better is Better.AT_MOST:
            return None
        if self.row.better is Better.HIGH:
            return statistics.median(other / one for one, other in pairs)
        return statistics.median(one / other for one, other in pairs)

    def spent(self, place: str) -> dict[str, float]:
        """Return the CPU time for a gigabyte, by role; empty where none is told."""
        runs = self.cpu.get(place, [])
        return {
            role: statistics.median(run[role] for run in runs)
            for role in ROLES
            if runs and role in runs[0]
        }

    def shown(self, place: str) -> float | None:
        """Return what tells how good a place is: its ratio, or its own figure."""
        at_most = self.row.better is Better.AT_MOST
        return self.median(place) if at_most else self.ratio(place)

    def target(self, tracer: str) -> float | None:
        """Return what a view of a tracer is meant to show."""
        return self.row.target if tracer == _SECCOMP else self.row.ptrace_target

    def reached(self, tracer: str) -> bool | None:
        """Return whether a view meets the row's target; None where there is none."""
        seen, target = self.shown(tracer), self.target(tracer)
        if seen is None or target is None:
            return None
        return seen <= target if self.row.better is Better.AT_MOST else seen >= target


def main(argv: Sequence[str]) -> int:
    """Run the benchmark.

    Returns:
        0 if every row has its native and its views' figures, targets reached or not;
        1 if one has not, or no view can run.
    """
    options = _parse(argv)
    if os.geteuid() == 0:
        _run_unprivileged()
    effort = _QUICK if options.quick else _FULL
    console = Console(stderr=True)
    load = os.getloadavg()[0]
    if load > _BUSY:
        console.print(f"The machine is busy (load {load:.1f}): ratios are rough.")
    with _prepared(effort) as bench:
        tried = [places.view(_UMVIEW, name) for name in _VIEWS]
        if not all(isinstance(row, PacketRow) for row in options.only):
            tried += [*places.stoppers(), *places.networks()]
        faults = {place.name: places.why_not(place) for place in tried}
        faults |= {packets.VDENS: packets.why_not_vdens()}
        missing = {name: reason for name, reason in faults.items() if reason}
        results = []
        for number, row in enumerate(options.only, 1):
            console.print(f"{number}/{len(options.only)} {row.title}", highlight=False)
            results.append(_measure(row, bench, missing, effort.rounds))
        costs: list[further.Figure] = []
        if options.further:
            console.print("what a further view costs")
            costs += further.measure([str(_UMVIEW)], effort.views)
    if options.json:
        plain = _plain(results, missing) | {"views": [one._asdict() for one in costs]}
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
    else:
        if results:
            _print(results, missing)
        for cost in costs:
            sys.stdout.write(f"{cost.figure:>10}  {cost.title}\n")
    views = [name for name in _VIEWS if name not in missing]
    complete = bool(views) and all(
        result.median(place) is not None
        for result in results
        for place in (_NATIVE, *views)
    )
    return 0 if complete else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument(
        "--quick", action="store_true", help="rougher, in a quarter of the time"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[row.name for row in _ALL] + [_PACKETS, _FURTHER],
        help=f"only these rows: {_PACKETS} (all by packets), "
        f"{_FURTHER} (what a further view costs, a table of its own), "
        + ", ".join(row.name for row in _ALL),
    )
    options = parser.parse_args(argv)
    named = set(options.only or [row.name for row in _ALL] + [_FURTHER])
    if _PACKETS in named:
        named |= {row.name for row in PACKET_ROWS}
    options.only = [row for row in _ALL if row.name in named]
    options.further = _FURTHER in named
    return options


def _run_unprivileged() -> None:
    """Start again as nobody: no figure may owe anything to root's rights."""
    identity = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    command = ["setpriv", *identity, sys.executable, *sys.argv]
    os.execvp(command[0], command)


@contextmanager
def _prepared(effort: Effort) -> Iterator[Bench]:
    """Compile netbench in a private folder, which is home and runtime folder too."""
    with tempfile.TemporaryDirectory(prefix="umview-bench-") as name:
        folder = Path(name)
        os.environ.update(HOME=name, XDG_RUNTIME_DIR=name)
        source, netbench = _HERE / "netbench.c", folder / "netbench"
        flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-pthread"]
        subprocess.run(["gcc", *flags, "-o", netbench, source], check=True)
        yield Bench(netbench, source, folder, effort.seconds)


def _around(row: Row | PacketRow, bench: Bench) -> dict[str, _Measured]:
    """Return how a row is measured in each of its places."""
    if isinstance(row, PacketRow):
        networks = packets.networks(row, _UMVIEW, _VIEWS)
        return {one.name: partial(row.measure, bench, one) for one in networks}
    views = [places.view(_UMVIEW, name, *row.options) for name in _VIEWS]
    around = [places.native(), *views, *places.stoppers()]
    around += places.networks() if row.network else []
    return {place.name: partial(row.measure, bench, place) for place in around}


def _measure(
    row: Row | PacketRow, bench: Bench, missing: Container[str], rounds: int
) -> Result:
    """Measure one row in all its places; a place that fails once is left out."""
    result = Result(row)
    around = _around(row, bench)
    names = [name for name in around if name not in missing]
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else names[::-1]:
            if name in result.failures:
                continue
            try:
                figure = around[name]()
            except MeasureError as exc:
                result.failures[name] = str(exc)
                result.figures.pop(name, None)
                result.cpu.pop(name, None)
                continue
            if isinstance(figure, Sample):
                result.cpu.setdefault(name, []).append(figure.cpu)
                figure = figure.value
            result.figures.setdefault(name, []).append(figure)
    return result


def _print(results: list[Result], missing: dict[str, str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 165)
    peers = [peer.name for peer in (*places.stoppers(), *places.networks())]
    of_calls = [one for one in results if not isinstance(one.row, PacketRow)]
    of_packets = [one for one in results if isinstance(one.row, PacketRow)]
    if of_calls:
        title = "Speed of a view; ratios: 1 = native, higher is faster"
        console.print(_table(title, of_calls, peers, _peer_cell))
    if of_packets:
        title = "View to view by packets; ratios: 1 = native, by a switch 1 = vdens"
        console.print(_table(title, of_packets, [packets.VDENS], _own_cell))
        costs = _costs(of_packets)
        if costs.row_count:
            console.print(costs)
    for name, reason in missing.items():
        console.print(f"{name} cannot run here: {reason}", highlight=False)
    for result in results:
        for name, reason in result.failures.items():
            console.print(f"{result.row.name}, {name}: {reason}", highlight=False)


def _table(
    title: str,
    results: list[Result],
    peers: list[str],
    peer_cell: Callable[[Result, str], str],
) -> Table:
    table = Table(title=title)
    titles = ("", "native", "seccomp", "ratio", "target", "ptrace", "ratio", "target")
    for number, heading in enumerate((*titles, *peers)):
        table.add_column(heading, justify="right" if number else "left")
    for result in results:
        native = _figure(result.median(_NATIVE), result.row.unit)
        views = [cell for name in _VIEWS for cell in _view_cells(result, name)]
        others = [peer_cell(result, name) for name in peers]
        table.add_row(result.row.title, native, *views, *others)
    return table


def _costs(results: list[Result]) -> Table:
    """Return the table of the CPU time that streams by packets take."""
    table = Table(title="CPU time for a gigabyte, in seconds")
    for number, heading in enumerate(("", "", *ROLES, "all")):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for result in results:
        for place in result.cpu:
            spent = result.spent(place)
            if spent:
                cells = [_figure(spent[role]) for role in ROLES]
                total = _figure(sum(spent.values()))
                table.add_row(result.row.title, place, *cells, total)
    return table


def _view_cells(result: Result, tracer: str) -> list[str]:
    """Return a view's figure, ratio and target, green if reached and red if not."""
    wanted = result.target(tracer)
    target = "-" if wanted is None else f"{wanted:g}"
    if wanted is not None and result.row.better is Better.AT_MOST:
        target = f"≤ {target} {result.row.unit}"
    word, colour = {True: ("", "green"), False: ("not ", "red"), None: ("", "white")}[
        result.reached(tracer)
    ]
    return [
        _figure(result.median(tracer), result.row.unit),
        _figure(result.ratio(tracer)),
        f"[{colour}]{word}{target}[/]",
    ]


def _peer_cell(result: Result, name: str) -> str:
    unit = result.row.unit if result.row.better is Better.AT_MOST else ""
    return _figure(result.shown(name), unit)


def _own_cell(result: Result, name: str) -> str:
    return _figure(result.median(name), result.row.unit)


def _figure(value: float | None, unit: str = "") -> str:
    """Write a figure with three digits that count."""
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}".strip()


def _plain(results: list[Result], missing: dict[str, str]) -> dict[str, object]:
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "cannot_run": missing,
        "rows": [
            {
                "name": result.row.name,
                "title": result.row.title,
                "unit": result.row.unit,
                "better": result.row.better.name.lower(),
                "targets": {name: result.target(name) for name in _VIEWS},
                "reached": {name: result.reached(name) for name in _VIEWS},
                "medians": {name: result.median(name) for name in result.figures},
                "ratios": {name: result.ratio(name) for name in result.figures},
                "figures": result.figures,
                "cpu_seconds_per_gb": {name: result.spent(name) for name in result.cpu},
                "failures": result.failures,
            }
            for result in results
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
