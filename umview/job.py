"""What umview was asked to put into a view, and what it was started with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from umview.module import Asked, AskedPolicy


class Tracing(NamedTuple):
    """A log of calls.

    Attributes:
        fd: Where it is written; None: to the user's stderr, by the front.
        is_json: Whether its lines are objects of JSON.
    """

    fd: int | None
    is_json: bool


class Job(NamedTuple):
    """A command, or a program that runs already, with its view.

    Attributes:
        name: What the view is to be called.
        mounts: The stacks of the view, its default one first.
        policies: What has a say in what its programs do.
        command: The command and its arguments; none with pid.
        pid: The running program that enters the view, or 0.
        is_verbose: Whether to say what is set up.
        mask: The signals that the command finds blocked.
        ignores_children: Whether it finds SIGCHLD ignored. umview itself must not: it
            could not wait for anybody.
        inherited: The open descriptors above 2 that it finds.
        tracer: What stops its calls: seccomp, ptrace, or auto (what works).
        tracing: The log of calls that is wanted.
        is_overlaid: Whether stacks are shown as files.
    """

    name: str
    mounts: Sequence[Asked]
    policies: Sequence[AskedPolicy]
    command: Sequence[str]
    pid: int
    is_verbose: bool
    mask: frozenset[int]
    ignores_children: bool
    inherited: tuple[int, ...]
    tracer: str
    tracing: Tracing | None = None
    is_overlaid: bool = False


class Rc(NamedTuple):
    """What an rc file says.

    Attributes:
        name: The view's name; None: none is said.
        is_overlaid: Whether its stacks are shown as files.
        words: Its modules, as those of -p.
    """

    name: str | None = None
    is_overlaid: bool = False
    words: tuple[str, ...] = ()
