"""``umctl``: look at views that run, change them, enter them, and end them."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeAlias

from umview import control, doors
from umview.control import Caller, Message
from umview.errors import FAILED, UmviewError

_SECONDS = 3.0
_LONGEST = 86400.0
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_PATIENCE = 1.0  # seconds, after which it is said what is waited for
_WHAT = """\
Look at views that run, change them, enter them, and end them.

Outside of views, VIEW and -V VIEW name one of yours, as `umctl ls` shows them; where
only one runs they may be left out. Inside of a view the one that is meant is the own
one, and those that can be named are the ones in it."""
_EPILOG = """\
Examples:
  umctl ls                              what runs, and who is connected to whom
  umctl mount -t umnetlwipv6 -o vd0=vde:///tmp/lan,dhcp none /dev/net/lan
                                        one more stack for the view, while it runs
  umctl umount /dev/net/lan             ... and no more
  umctl attach web bash                 a shell in the view called web
  umctl attach web --pid 4711           a program that runs goes on in it
  umctl shutdown -V web 10              end it, by SIGTERM, after 10 s by SIGKILL

The exit status is 0, or 125 with a line that says why; of attach it is the command's,
126 if that cannot be executed, 127 if there is none of that name.
"""
_LS = """\
Of each view: its tracer, and the process that keeps it; its stacks with their paths,
and policies, which have none; cards, up or not, with their addresses; the processes
in it, but for those of views in it; its TCP, UDP and ping sockets.
"""
_MOUNT = """\
Returns when the stack is there, with its addresses. Programs take it by its path:
  umctl mount -t umnet -o ip=10.9.0.1/24 none /dev/net/work
  mstack /dev/net/work ip addr
What is mounted at /dev/net/default is from then on what programs get that ask for none.
"""
_UMOUNT = """\
Fails while sockets are on the stack, and says which processes have them.
"""
_ADD = """\
Of a module that has a stack the path is printed where that is mounted.
  umctl add umfilter,deny=10.0.0.0/8
"""
_ENTER = """\
The exit status is the command's; 125 if it cannot enter the view, 126 if it cannot be
executed, 127 if there is none of that name. A program that runs keeps the sockets that
it has; its next ones are the view's.
"""
_SHUTDOWN = """\
All get SIGTERM, those in views inside of it, too; those that are left after SECONDS get
SIGKILL. Returns when all have ended.
"""

_Row: TypeAlias = dict[str, Any]


def main() -> int:
    """Run umctl.

    Returns:
        The exit status.
    """
    return run(_parser(), sys.argv[1:])


def run(parser: argparse.ArgumentParser, words: Sequence[str]) -> int:
    """Do what a command line asks for.

    Args:
        parser: Reads it; its results have a function "run".
        words: The command line.

    Returns:
        The exit status.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        args = parser.parse_args(words)
        args.run(args)
    except UmviewError as exc:
        sys.stderr.write(f"{parser.prog.split()[0]}: {exc}\n")
        return FAILED
    return 0


class _Help(argparse.RawDescriptionHelpFormatter):
    """Shows usage as umview does."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None = None,
    ) -> None:
        """Write "Usage" as umview does."""
        prefix = "Usage: " if prefix is None else prefix
        super().add_usage(usage, actions, groups, prefix)


class Parser(argparse.ArgumentParser):
    """Reads a command line, and has one line to say of a wrong one."""

    def __init__(self, **words: Any) -> None:  # noqa: ANN401 - as argparse has them
        super().__init__(
            allow_abbrev=False, formatter_class=_Help, add_help=False, **words
        )
        self._positionals.title, self._optionals.title = "Arguments", "Options"
        self.add_argument("-h", "--help", action="help", help="show this text")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong."""
        raise UmviewError(f"{message}; `{self.prog} --help` shows what can be said")


def add_view(parser: argparse.ArgumentParser) -> None:
    """Let a command have -V VIEW."""
    parser.add_argument(
        "-V", dest="view", metavar="VIEW", help="the view; see `umctl --help`"
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="umctl", description=_WHAT, epilog=_EPILOG)
    commands = parser.add_subparsers(
        required=True, title="Commands", metavar="COMMAND", help="--help tells of each"
    )

    def command(
        name: str,
        text: str,
        run: Callable[[argparse.Namespace], None],
        more: str = "",
    ) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=more or None,
        )
        one.set_defaults(run=run)
        if name not in ("ls", "attach"):
            add_view(one)
        return one

    ls = command(
        "ls", "list views: modules, cards, processes, sockets", list_views, _LS
    )
    ls.add_argument("view", nargs="?", metavar="VIEW", help="this one only")
    ls.add_argument("--json", action="store_true", help="as JSON, for scripts")
    mount = command("mount", "mount a stack at a path of a view", mount_stack, _MOUNT)
    mount.add_argument(
        "-t", dest="type", metavar="MODULE", required=True, help="whose stack it is"
    )
    mount.add_argument(
        "-o", dest="options", default="", help="as after `umview -p MODULE,`"
    )
    mount.add_argument("source", metavar="SOURCE", help="no stack has one: write none")
    mount.add_argument("path", metavar="PATH", help="as /dev/net/work")
    umount = command("umount", "take a stack away", umount_stack, _UMOUNT)
    umount.add_argument(
        "-l",
        dest="lazily",
        action="store_true",
        help="make no new sockets on it; it goes with its last one",
    )
    umount.add_argument("path", metavar="PATH", help="where it is mounted")
    add = command("add", "load a module", add_module, _ADD)
    add.add_argument("module", metavar="MODULE[,OPTION...]", help="as after umview -p")
    delete = command("del", "unload a module", delete_module)
    delete.add_argument(
        "module", metavar="MODULE|PATH", help="its name, or its stack's path"
    )
    modules = command("modules", "list the modules that are loaded", list_modules)
    modules.add_argument("--json", action="store_true", help="as JSON, for scripts")
    modules.add_argument(
        "--known", action="store_true", help="those that could be; this needs no view"
    )
    name = command("name", "show the name of a view, or give it another", name_view)
    name.add_argument("name", nargs="?", metavar="NEWNAME", help="the other one")
    attach = command(
        "attach", "let a command, or a program that runs, enter a view", _attach, _ENTER
    )
    attach.add_argument("view", metavar="VIEW", help="the view")
    attach.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND|--pid PID",
        help="a command with its arguments; or the process id of a program",
    )
    end = command("shutdown", "end all processes of a view", shut_down, _SHUTDOWN)
    end.add_argument(
        "seconds",
        nargs="?",
        metavar="SECONDS",
        help=f"until SIGKILL comes (default: {_SECONDS:.0f})",
    )
    logged = command("log", "show what umview has logged of a view", _log)
    logged.add_argument(
        "-f", dest="follow", action="store_true", help="and what it logs from now on"
    )
    return parser


def _ask(args: argparse.Namespace, do: str, **words: object) -> Message:
    """Ask something of the view that is meant; say so if it takes a while."""
    found = doors.find(args.view)
    found.caller.begin(do, view=found.number, **words)
    if not select.select((found.caller.sock,), (), (), _PATIENCE)[0]:
        sys.stderr.write(f"{do}: this takes a while\n")
    return found.caller.end()


# ---- ls ----


def list_views(args: argparse.Namespace) -> None:
    """Show views, each with what is in it."""
    if args.view is None:
        told = [caller.ask("describe") for caller in doors.callers()]
    else:
        found = doors.find(args.view)
        told = [found.caller.ask("describe", view=found.number)]
    views: list[_Row] = [view for one in told for view in _rows(one, "views")]
    if args.json:
        _print_json(views)
        return
    for view in views:
        _show(view, _depth(view, views))
    if not views:
        sys.stdout.write("no view runs\n")


def _rows(message: Message, what: str) -> list[_Row]:
    rows = message[what]
    assert isinstance(rows, list)
    return rows


def _depth(view: _Row, views: Iterable[_Row]) -> int:
    above = (view["supervisor"], view["parent"])
    for other in views:
        if (other["supervisor"], other["number"]) == above:
            return _depth(other, views) + 1
    return 0


def _show(view: _Row, depth: int) -> None:
    keeper = f"{'supervisor' if view['parent'] is None else 'keeper'} {view['keeper']}"
    _write(f"[bold]{view['name']}[/]  {view['tracer']}, {keeper}", depth)
    for what, columns in (
        ("modules", ("module", "options", "path")),
        ("cards", ("path", "card", "up", "mtu", "address", "addresses")),
        ("processes", ("pid", "command")),
        ("sockets", ("path", "protocol", "state", "local", "remote")),
    ):
        if view[what]:
            _write(_table(view[what], columns), depth + 1)


def _write(what: object, depth: int = 0) -> None:
    from rich.console import Console
    from rich.padding import Padding

    # where nobody looks nothing is to be broken into lines
    width = None if sys.stdout.isatty() else 10_000
    console = Console(highlight=False, width=width)
    console.print(Padding(what, (0, 0, 0, 2 * depth), expand=False))  # type: ignore[arg-type]


def _table(rows: Sequence[_Row], columns: Sequence[str]) -> object:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row[column])) for column in columns))
    return table


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "-" if value is None else str(value)
    # what a process says of itself shall not write elsewhere on the screen
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _print_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


# ---- what a view consists of ----


def mount_stack(args: argparse.Namespace) -> None:
    """Mount a stack at a path."""
    options = [args.options] if args.options else []
    text = ",".join([args.type, *options])
    _ask(args, "mount", text=text, path=args.path, cwd=os.getcwd())


def umount_stack(args: argparse.Namespace) -> None:
    """Take a stack away."""
    _ask(args, "umount", path=args.path, lazily=args.lazily)


def add_module(args: argparse.Namespace) -> None:
    """Load a module; of one that has a stack, show where that is."""
    told = _ask(args, "add", text=args.module, cwd=os.getcwd())
    if path := told["path"]:
        sys.stdout.write(f"{path}\n")


def delete_module(args: argparse.Namespace) -> None:
    """Unload a module."""
    _ask(args, "del", module=args.module)


def list_modules(args: argparse.Namespace) -> None:
    """Show modules: those that are loaded, or those that are known."""
    if args.known:
        from umview import module

        sys.stdout.write("".join(f"{name}\n" for name in module.known()))
        return
    rows = _rows(_ask(args, "modules"), "modules")
    if args.json:
        _print_json(rows)
    elif rows:
        _write(_table(rows, ("module", "options", "path")))


def name_view(args: argparse.Namespace) -> None:
    """Show a view's name, or change it."""
    if args.name is None:
        sys.stdout.write(f"{name_of(args.view)}\n")
    else:
        _ask(args, "name", name=args.name)


def name_of(view: str | None) -> str:
    """Return what a view is called."""
    return doors.find(view).name


# ---- enter, end, watch ----


def _attach(args: argparse.Namespace) -> None:
    match args.command:
        case []:
            raise UmviewError("attach: name a command to run, or give --pid PID")
        case ["--pid", pid]:
            attach_program(args.view, pid_of(pid))
        case ["--pid", *_]:
            raise UmviewError("attach --pid: give one process id, and no command")
        case _:
            _enter(args.view, args.command)


def pid_of(text: str) -> int:
    """Return the process id that somebody has typed.

    Raises:
        UmviewError: It is none.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise UmviewError(f"{text}: a process id is a number, as ps shows it")
    return int(text)


def attach_program(view: str | None, pid: int) -> None:
    """Let a program that runs enter a view."""
    found = doors.find(view)
    found.caller.ask("take_in", pid=pid, view=found.number)


def _enter(view: str, command: Sequence[str]) -> NoReturn:
    from umview.enter import enter

    found = doors.find(view)
    failure = enter(found.caller, found.number, command)
    sys.stderr.write(f"umctl: {command[0]}: {failure.strerror}\n")
    sys.exit(_NOT_FOUND if failure.errno == errno.ENOENT else _NOT_EXECUTABLE)


def seconds_of(text: str | None) -> float:
    """Return the seconds that somebody has typed, or the usual ones.

    Raises:
        UmviewError: It is no such number.
    """
    try:
        seconds = _SECONDS if text is None else float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _LONGEST:
        raise UmviewError(f"{text}: give a number of seconds, as 10")
    return seconds


def shut_down(args: argparse.Namespace) -> None:
    """End a view."""
    with contextlib.suppress(control.Over):
        _ask(args, "shutdown", seconds=seconds_of(args.seconds))


def _log(args: argparse.Namespace) -> None:
    caller: Caller = doors.find(args.view).caller
    lines = caller.ask("log", follow=args.follow)["lines"]
    assert isinstance(lines, list)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    while args.follow and (data := caller.sock.recv(1 << 16)):
        sys.stdout.write(data.decode("utf-8", "replace"))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
