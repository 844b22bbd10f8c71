"""``umctl``: look at views that run, enter them, and end them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from umview import runtime
from umview.control import Caller
from umview.errors import FAILED, UmviewError

_TRY = 0.05  # seconds between two looks at what has not ended yet
_SECONDS = 3.0
_EPILOG = """\
A VIEW is named as `umctl ls` shows it; it may be left out where one view runs.
"""


def main() -> int:
    """Run umctl.

    Returns:
        The exit status.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    args = _parser().parse_args()
    try:
        status: int = args.run(args)
    except UmviewError as exc:
        sys.stderr.write(f"umctl: {exc}\n")
        return FAILED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="umctl", description=__doc__, epilog=_EPILOG, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, run: object) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(run=run)
        return one

    ls = command("ls", "list views, with what is in them", _ls)
    ls.add_argument("view", nargs="?", help="this one only")
    ls.add_argument("--json", action="store_true", help="for scripts")
    attach = command("attach", "let a command, or a program that runs, enter", _attach)
    attach.add_argument("view")
    attach.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        help="the command and its arguments; or --pid PID, a program that runs",
    )
    end = command("shutdown", "end all processes of a view, SIGTERM first", _shutdown)
    end.add_argument("view", nargs="?")
    end.add_argument(
        "seconds", nargs="?", type=float, default=_SECONDS, help="until SIGKILL comes"
    )
    logged = command("log", "show what a view logs from now on", _log)
    logged.add_argument("view", nargs="?")
    return parser


# ---- which views there are ----


def _views(name: str | None) -> Iterator[tuple[str, Caller]]:
    """Knock at the doors of the user's views.

    Raises:
        UmviewError: The one that is named does not run.
    """
    found = False
    for one, folder in runtime.views(os.environ):
        if name in (None, one):
            with contextlib.suppress(OSError):
                yield one, Caller(folder)
                found = True
    if name is not None and not found:
        raise UmviewError(f"no view is called {name}; `umctl ls` shows those that run")


def _one_view(name: str | None) -> tuple[str, Caller]:
    found = list(_views(name))
    if not found:
        raise UmviewError("no view runs; start one with umview")
    if len(found) > 1:
        names = ", ".join(one for one, _ in found)
        raise UmviewError(f"several views run, say which one: {names}")
    return found[0]


# ---- ls ----


def _ls(args: argparse.Namespace) -> int:
    views = [view for name, caller in _views(args.view) for view in _described(caller)]
    if args.json:
        json.dump(views, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return 0
    console = Console(highlight=False, soft_wrap=True)
    for view in views:
        _show(console, view)
    if not views:
        console.print("no view runs")
    return 0


def _described(caller: Caller) -> list[dict[str, Any]]:
    """Return all that a view tells of itself and of those in it, with processes."""
    told: dict[str, Any] = caller.ask("describe")
    views: list[dict[str, Any]] = told["views"]
    for view in views:
        entered = view.pop("entered")
        view["processes"] = [
            {"pid": process.pid, "command": _command_of(process)}
            for process in _processes([view["keeper"], *entered])
        ]
        view["tracer"] = told["tracer"]
    return views


def _processes(roots: Sequence[int]) -> list[psutil.Process]:
    """Return the processes of a view: below its keeper, and those that entered."""
    found: dict[int, psutil.Process] = {}
    for index, root in enumerate(roots):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            several = process.children(recursive=True)
            for one in [*([process] if index else []), *several]:
                found[one.pid] = one
    return [found[pid] for pid in sorted(found)]


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "?"


def _show(console: Console, view: dict[str, Any]) -> None:
    console.print(f"[bold]{view['name']}[/]  keeper {view['keeper']}, {view['tracer']}")
    for rows, columns in (
        (view["cards"], ("path", "card", "up", "mtu", "address", "addresses")),
        (view["processes"], ("pid", "command")),
        (view["sockets"], ("path", "protocol", "state", "local", "remote")),
    ):
        if rows:
            console.print(_table(rows, columns))
    console.print()


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    return table


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "yes" if value is True else "no" if value is False else str(value)


# ---- enter, end, watch ----


def _attach(args: argparse.Namespace) -> int:
    from umview._ffi import Stage, child_exec
    from umview.view import Filter

    _, caller = _one_view(args.view)
    match args.command:
        case []:
            raise UmviewError("attach: name a command to run, or give --pid PID")
        case ["--pid", pid] if pid.isascii() and pid.isdigit():
            caller.ask("take_in", pid=int(pid))
            return 0
        case ["--pid", *_]:
            raise UmviewError("attach --pid: a process id is a number, as ps shows it")
        case _:
            pass
    told = caller.ask("enter")
    caller.sock.setblocking(True)
    stage, code = child_exec(
        caller.sock.fileno(), Filter(int(str(told["filter"]))), args.command
    )
    if stage is Stage.EXEC:
        raise UmviewError(f"{args.command[0]}: {os.strerror(code)}")
    raise UmviewError(f"cannot enter the view: {os.strerror(code)}")


def _shutdown(args: argparse.Namespace) -> int:
    name, caller = _one_view(args.view)
    told: dict[str, Any] = caller.ask("describe")
    roots = [
        pid for view in told["views"] for pid in (view["keeper"], *view["entered"])
    ]
    end = time.monotonic() + args.seconds
    sent: set[int] = set()
    while processes := _processes(roots):
        late = time.monotonic() >= end
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if late:
                    process.kill()
                elif process.pid not in sent:
                    process.terminate()
        sent |= {process.pid for process in processes}
        time.sleep(_TRY)
        if time.monotonic() > end + _SECONDS:
            raise UmviewError(f"{name}: {len(processes)} processes do not end")
    return 0


def _log(args: argparse.Namespace) -> int:
    _, caller = _one_view(args.view)
    caller.ask("log")
    while data := caller.sock.recv(1 << 16):
        sys.stdout.write(data.decode("utf-8", "replace"))
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
