"""What a module offers to umview, and how one is found.

A module is a package with the two functions of `Module`. umview's own are found by
name; others register the entry point ``umview.modules`` (name = package). The entry
points are only read where a name is not one of ours: scanning the metadata of all
installed packages costs more time than the rest of umview's start.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from umview.errors import UmviewError
from umview.view import DEFAULT, NET, Filter, Stack, StackKind, free_path

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from umview._ffi import Switchboard
    from umview.policy import Policy

_LONGEST = 200  # of a path; that of its special file has to be one, too
BUILT_IN = (
    "umnet",
    "umnetcurrent",
    "umnetlink",
    "umnetlwipv6",
    "umnetnative",
    "umnetnull",
)


class Context(NamedTuple):
    """Where a stack is to be.

    Attributes:
        switchboard: What has it.
        view: The number of its view.
        enclosing: The default stack of the enclosing view; None in the outermost
            view, which is enclosed by the kernel's.
        stack_at: Return the stack that is mounted at a path of the view, as
            ``/dev/net/work``; UmviewError where there is none.
    """

    switchboard: Switchboard
    view: int
    enclosing: Stack | None
    stack_at: Callable[[str], Stack]


class Mount:
    """A stack that is asked for: a module with its options. To be derived from.

    The methods are called in this order, each once; `add` and `furnish` in the thread
    that answers the view, which they must not keep waiting.
    """

    def prepare(self, enclosing: Stack | None) -> None:
        """Take of the host what it needs, as long as that may take.

        While views run this is called in a thread of its own, so it must not touch the
        switchboard. Where this or `add` fails, what was taken is given back by
        `remove`.

        Args:
            enclosing: As in `Context`. What a view inside another does must not reach
                what the enclosing one cannot.

        Raises:
            UmviewError: It cannot be had.
        """

    def add(self, context: Context) -> Stack:
        """Configure the stack on the switchboard.

        Raises:
            UmviewError: Something that it needs cannot be had.
        """
        raise NotImplementedError

    def furnish(self, context: Context) -> Filter:  # noqa: ARG002
        """Configure what a view has once: files and names, those of its first stack.

        Returns:
            Which optional calls have to be stopped for it; what the outermost view
            does without, a view inside it cannot have.
        """
        return Filter.FILES

    def remove(self) -> None:
        """Give back what `prepare` and `add` have taken, but for the switchboard's.

        After the stack has gone from the switchboard; also where they have failed.
        """


class Module(Protocol):
    """The face of a module's package."""

    def parse(self, options: Sequence[str]) -> Mount | Policy:
        """Read the options of ``-p MODULE,OPTION...``; change nothing.

        Raises:
            UmviewError: One of them is unknown or has no sense; the text names the
                known ones.
        """
        ...


class PlainMount(Mount):
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

    def add(self, context: Context) -> Stack:
        """Configure the stack on a switchboard."""
        some = self._kind is not StackKind.NULL
        number = context.switchboard.add_stack(self._kind, ipv4=some, ipv6=some)
        return Stack(number, self._kind)


def find(name: str) -> Module:
    """Return the module of that name.

    Raises:
        UmviewError: There is none, or it is not what it should be.
    """
    if name in BUILT_IN:
        return cast("Module", import_module(name))
    others = _registered()
    if name not in others:
        raise UmviewError(
            f"unknown module '{name}'; known modules: {', '.join(known())}"
        )
    try:
        found = others[name].load()
    except Exception as exc:
        raise UmviewError(
            _line(f"{name} cannot be loaded: {type(exc).__name__}: {exc}")
        ) from exc
    if not callable(getattr(found, "parse", None)):
        raise UmviewError(f"{name} has no function parse, so it is no module of umview")
    return cast("Module", found)


def known() -> list[str]:
    """Return the names of the modules that are installed."""
    return sorted({*BUILT_IN, *_registered()})


def _registered() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="umview.modules")}


class Asked(NamedTuple):
    """A stack as it was asked for.

    Attributes:
        module: The module's name.
        options: Its options.
        mount: What they mean.
        path: Where it is to be; None: wherever it is free.
    """

    module: str
    options: tuple[str, ...]
    mount: Mount
    path: str | None = None


class AskedPolicy(NamedTuple):
    """A policy as it was asked for; as `Asked`."""

    module: str
    options: tuple[str, ...]
    policy: Policy


def ask(text: str) -> Asked:
    """Return the stack that ``MODULE[,OPTION...]`` asks for.

    Raises:
        UmviewError: The module or one of its options is unknown or wrong, or it has
            no stack.
    """
    found = read(text)
    if isinstance(found, AskedPolicy):
        raise UmviewError(
            f"{found.module} is no stack but a policy: give it to a view by -p or "
            "`umctl add`"
        )
    return found


def ask_policy(text: str) -> AskedPolicy:
    """Return the policy that ``MODULE[,OPTION...]`` asks for.

    Raises:
        UmviewError: The module or one of its options is unknown or wrong, or it is
            no policy.
    """
    found = read(text)
    if isinstance(found, Asked):
        raise UmviewError(f"{found.module} is no policy but a stack: mount it")
    return found


def ask_all(
    words: Sequence[str], others: Sequence[str] = ()
) -> tuple[list[Asked], list[AskedPolicy]]:
    """Return what the words of ``-p`` ask for, with umnet where none is the default.

    Args:
        words: Those of the command line.
        others: Those of an rc file: what is to be where another stack is, is left out.

    Returns:
        The stacks, all with their paths, and the policies.

    Raises:
        UmviewError: A module or one of its options is unknown or wrong.
    """
    found = [read(word) for word in words]
    stacks = [one for one in found if isinstance(one, Asked)]
    policies = [one for one in found if isinstance(one, AskedPolicy)]
    taken = {one.path or DEFAULT for one in stacks}
    for one in map(read, others):
        if isinstance(one, AskedPolicy):
            policies.append(one)
        elif one.path not in taken:
            stacks.append(one)
    paths = {one.path for one in stacks if one.path}
    if DEFAULT not in paths and all(one.path for one in stacks):
        stacks.insert(0, ask("umnet"))
    for at, one in enumerate(stacks):
        path = one.path or free_path(one.module, paths)
        stacks[at] = one._replace(path=path)
        paths.add(path)
    return stacks, policies


def _line(text: str) -> str:
    """Return a text in which nothing can end its line or move a terminal's cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def read(text: str) -> Asked | AskedPolicy:
    """Return what ``[PATH=]MODULE[,OPTION...]`` asks for.

    Raises:
        UmviewError: The module or one of its options is unknown or wrong.
    """
    path = None
    if text.startswith("/"):
        path, _, text = text.partition("=")
        check_path(path)
    name, *options = text.split(",")
    module = find(name)
    try:
        made = module.parse(options)
    except UmviewError as exc:
        raise UmviewError(_line(f"{name}: {exc}")) from exc
    if isinstance(made, Mount):
        return Asked(name, tuple(options), made, path)
    if path:
        raise UmviewError(f"{name} is a policy, which has no path: leave {path} out")
    return AskedPolicy(name, tuple(options), made)


def check_path(path: str) -> None:
    """Make sure that a stack can be mounted at a path.

    Raises:
        UmviewError: It cannot.
    """
    if not path.startswith("/") or os.path.normpath(path) != path or path == "/":
        raise UmviewError(f"{path}: give an absolute path, as {NET}work")
    if len(path) > _LONGEST or not path.isprintable():
        raise UmviewError(f"{path}: a path is up to {_LONGEST} characters")
