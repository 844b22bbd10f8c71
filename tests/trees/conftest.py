"""Views of the Python API, as an ordinary user's, that leave nothing."""

from __future__ import annotations

import pytest

from tests.apps.lab import User


@pytest.fixture
def own(user: User, monkeypatch: pytest.MonkeyPatch) -> User:
    """Let this process's views be a user's, whose folders are empty in the end."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(user.runtime))
    return user
