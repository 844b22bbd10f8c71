"""The commands of View-OS under their own names: each is one of umctl's."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from umview import ctl
from umview.ctl import Parser

_STATUS = "The exit status is 0, or 125 with a line that says why."


def _main(
    name: str, text: str, run: Callable[[argparse.Namespace], None], *arguments: str
) -> int:
    """Be a command.

    Args:
        name: Its name.
        text: What it does.
        run: What of umctl does it.
        arguments: Its arguments; those with a "?" at the end may be left out.
    """
    parser = Parser(prog=name, description=text, epilog=_STATUS)
    ctl.add_view(parser)
    for argument in arguments:
        word = argument.rstrip("?")
        number = None if word == argument else "?"
        parser.add_argument(word, nargs=number, metavar=word.upper())
    parser.set_defaults(run=run)
    return ctl.run(parser, sys.argv[1:])


def um_add_service() -> int:
    """Load a module into a view: umctl add."""
    return _main("um_add_service", "Load MODULE[,OPTION...].", ctl.add_module, "module")


def um_del_service() -> int:
    """Unload a module: umctl del."""
    return _main(
        "um_del_service",
        "Unload a module: its name, or its stack's path.",
        ctl.delete_module,
        "module",
    )


def um_ls_service() -> int:
    """List the modules of a view: umctl modules."""

    def run(args: argparse.Namespace) -> None:
        args.json = args.known = False
        ctl.list_modules(args)

    return _main("um_ls_service", "List the modules that are loaded.", run)


def um_attach() -> int:
    """Let a program that runs enter a view: umctl attach VIEW --pid PID."""

    def run(args: argparse.Namespace) -> None:
        ctl.attach_program(args.view, ctl.pid_of(args.pid))

    return _main("um_attach", "Let the program PID, which runs, enter.", run, "pid")


def viewname() -> int:
    """Show or change the name of a view: umctl name."""
    return _main(
        "viewname", "Show the name of a view, or change it.", ctl.name_view, "name?"
    )


def umshutdown() -> int:
    """End a view: umctl shutdown."""
    return _main(
        "umshutdown",
        "End all processes of a view, by SIGTERM; by SIGKILL after SECONDS.",
        ctl.shut_down,
        "seconds?",
    )


_FIELDS = (
    ("s", "kernel-name", "sysname"),
    ("n", "nodename", "nodename"),
    ("r", "kernel-release", "release"),
    ("v", "kernel-version", "version"),
    ("m", "machine", "machine"),
)


def vuname() -> int:
    """Show what uname(1) shows, and the name of the view."""

    def run(args: argparse.Namespace) -> None:
        told = os.uname()
        words = [
            getattr(told, field)
            for letter, _, field in _FIELDS
            if args.all or getattr(args, letter)
        ]
        if args.all or args.V:
            words.append(ctl.name_of(None))
        sys.stdout.write(" ".join(words or [told.sysname]) + "\n")

    parser = Parser(
        prog="vuname",
        description="Show what uname shows, and the view's name.",
        epilog=_STATUS,
    )
    parser.add_argument("-a", "--all", action="store_true", help="all of these")
    for letter, word, field in _FIELDS:
        parser.add_argument(
            f"-{letter}", f"--{word}", dest=letter, action="store_true", help=field
        )
    parser.add_argument(
        "-V", "--viewname", dest="V", action="store_true", help="the view's name"
    )
    parser.set_defaults(run=run)
    return ctl.run(parser, sys.argv[1:])
