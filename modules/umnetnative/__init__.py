"""The host's network, reached through the same machinery."""

from __future__ import annotations

from collections.abc import Sequence

from umview.module import PlainMount
from umview.view import StackKind


def parse(options: Sequence[str]) -> PlainMount:
    """Return the stack that ``-p umnetnative`` asks for.

    Raises:
        UmviewError: An option is given: there are none.
    """
    return PlainMount(StackKind.NATIVE, options)
