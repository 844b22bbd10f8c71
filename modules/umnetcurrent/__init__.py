"""The network of the view around this one; around the outermost one is the host's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from umview.module import PlainMount
from umview.view import Stack, StackKind

if TYPE_CHECKING:
    from umview.module import Context


class Mount(PlainMount):
    """The enclosing view's default stack itself: its addresses, ports and sockets."""

    def add(self, context: Context) -> Stack:
        """Return it."""
        return context.enclosing or super().add(context)


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umnetcurrent`` asks for.

    Raises:
        UmviewError: An option is given: there are none.
    """
    return Mount(StackKind.NATIVE, options)
