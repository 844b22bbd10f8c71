"""What the tests of stacks share: hosts, which are views on a switch or a wire."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.apps.lab import Site, User


@contextlib.contextmanager
def open_host(user: User, name: str, *options: str) -> Iterator[Site]:
    """Start a view with a library stack, for the length of the block.

    Args:
        user: Whose it is.
        name: What its folder is called.
        options: Those of ``-p umnetlwipv6``, as ``switch.card(1)``.
    """
    site = Site(user, name, "stack", *options)
    with contextlib.closing(site):
        yield site
