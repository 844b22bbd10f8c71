"""What a module offers to umview, and how one is found.

A module is a package with the two functions of `Module`. umview's own are found by
name; others register the entry point ``umview.modules`` (name = package). The entry
points are only read where a name is not one of ours: scanning the metadata of all
installed packages costs more time than the rest of umview's start.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from umview.errors import UmviewError
from umview.view import Filter, Stack, StackKind

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from umview._ffi import Switchboard

BUILT_IN = ("umnet", "umnetlwipv6", "umnetnative", "umnetnull")


class Mount(Protocol):
    """A stack that is asked for: a module with its options."""

    def prepare(self) -> None:
        """Get what takes time: cards, addresses. It is not for the switchboard yet.

        While views run this is called in a thread of its own.

        Raises:
            UmviewError: It cannot be had.
        """
        ...

    def add(self, switchboard: Switchboard) -> Stack:
        """Configure the stack on a switchboard, after `prepare`, without waiting.

        Raises:
            UmviewError: What it needs of the host cannot be had.
        """
        ...

    def furnish(self, switchboard: Switchboard) -> Filter:
        """Configure what a view has once: files and names, those of its first stack.

        Returns:
            Which optional calls have to be stopped for it.
        """
        ...


class Module(Protocol):
    """The face of a module's package."""

    def parse(self, options: Sequence[str]) -> Mount:
        """Read the options of ``-p MODULE,OPTION...``.

        Raises:
            UmviewError: One of them is unknown or has no sense; the text names the
                known ones.
        """
        ...


class PlainMount:
    """A stack that has nothing to configure."""

    def __init__(self, kind: StackKind, options: Sequence[str]) -> None:
        """Make one.

        Args:
            kind: What the stack does with sockets.
            options: Those of the command line: there must be none.

        Raises:
            UmviewError: There is one.
        """
        if options:
            raise UmviewError(f"unknown option '{options[0]}'; it has no options")
        self._kind = kind

    def prepare(self) -> None:
        """Need nothing."""

    def add(self, switchboard: Switchboard) -> Stack:
        """Configure the stack on a switchboard."""
        some = self._kind is not StackKind.NULL
        return Stack(
            switchboard.add_stack(self._kind, ipv4=some, ipv6=some), self._kind
        )

    def furnish(self, switchboard: Switchboard) -> Filter:  # noqa: ARG002
        """Leave the files and names as the host has them."""
        return Filter.NONE


def find(name: str) -> Module:
    """Return the module of that name.

    Raises:
        UmviewError: There is none.
    """
    if name in BUILT_IN:
        return cast("Module", import_module(name))
    others = _registered()
    if name not in others:
        known = ", ".join(sorted({*BUILT_IN, *others}))
        raise UmviewError(f"unknown module '{name}'; known modules: {known}")
    return cast("Module", others[name].load())


def _registered() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="umview.modules")}


class Asked(NamedTuple):
    """A stack as it was asked for.

    Attributes:
        module: The module's name.
        options: Its options.
        mount: What they mean.
    """

    module: str
    options: tuple[str, ...]
    mount: Mount


def ask(text: str) -> Asked:
    """Return what ``MODULE[,OPTION...]`` asks for.

    Raises:
        UmviewError: The module or one of its options is unknown or wrong.
    """
    name, *options = text.split(",")
    module = find(name)
    try:
        return Asked(name, tuple(options), module.parse(options))
    except UmviewError as exc:
        raise UmviewError(f"{name}: {exc}") from exc
