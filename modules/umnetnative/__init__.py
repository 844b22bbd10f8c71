"""The host's network, reached through the same machinery."""

from __future__ import annotations

from collections.abc import Sequence

from umview.errors import UmviewError
from umview.module import PlainMount
from umview.view import Stack, StackKind


class Mount(PlainMount):
    """The kernel's stack, for who has it already."""

    def prepare(self, enclosing: Stack | None) -> None:
        """Take nothing.

        Raises:
            UmviewError: The view around this one has another network.
        """
        if enclosing and enclosing.kind is not StackKind.NATIVE:
            raise UmviewError(
                "umnetnative: the view around this one has not the host's network; "
                "-p umnetcurrent is the one that it has"
            )


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umnetnative`` asks for.

    Raises:
        UmviewError: An option is given: there are none.
    """
    return Mount(StackKind.NATIVE, options)
