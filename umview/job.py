"""What umview was asked to run, and what it was started with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from umview.module import Mount


@dataclass(frozen=True, slots=True)
class Job:
    """A command with its view.

    Attributes:
        mounts: The stacks of the view, its default one first.
        command: The command and its arguments.
        is_verbose: Whether to say what is set up.
        mask: The signals that the command finds blocked.
        inherited: The open descriptors above 2 that it finds.
    """

    mounts: Sequence[Mount]
    command: Sequence[str]
    is_verbose: bool
    mask: frozenset[int]
    inherited: tuple[int, ...]
