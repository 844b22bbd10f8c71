"""A virtual Ethernet for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps.lab import User
from tests.switch import Switch, open_switch


@pytest.fixture
def switch(user: User) -> Iterator[Switch]:
    """Give a test a switch of its own."""
    with open_switch(user) as opened:
        yield opened
