"""umview --pid with runtimes that have threads and event loops of their own."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tests.apps.lab import User, built_go, require
from tests.views.test_running import line_of, moved, started, tell

pytestmark = pytest.mark.view

_PROGRAMS = Path(__file__).with_name("programs")


def _enters(user: User, *argv: str) -> None:
    """Move a program: its old server goes on, its new connections are the view's."""
    with started(user, *argv) as process:
        address = line_of(process)

        def ask() -> bytes:
            with urllib.request.urlopen(f"http://{address}/", timeout=20) as response:
                got: bytes = response.read()
            return got

        assert ask() == b"hello"
        tell(process, address)
        assert line_of(process) == "ok"
        moved(user, process.pid)
        for _ in range(3):
            assert ask() == b"hello"
        tell(process, address)
        assert line_of(process) == "refused"
        assert ask() == b"hello"


def test_node_enters_a_view(user: User) -> None:
    require("node")
    _enters(user, "node", str(_PROGRAMS / "entering.js"))


@pytest.mark.parametrize("cgo", [False, True], ids=["static", "cgo"])
def test_go_enters_a_view(user: User, cgo: bool) -> None:
    with built_go(str(_PROGRAMS / "entering.go"), cgo=cgo) as program:
        _enters(user, str(program))
