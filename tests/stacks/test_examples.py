"""The examples do what they say, and leave nothing."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import User, require

_EXAMPLES = Path(__file__).parents[2] / "examples"
_SECONDS = 60


@contextlib.contextmanager
def _example(user: User, name: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run an example for the length of the block, and end it as Ctrl-C does."""
    process = subprocess.Popen(
        user.command([str(_EXAMPLES / name), *args], "native"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=user.folder,
        env=user.environment(),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=_SECONDS)


@pytest.mark.view
def test_a_view_changes_continent_and_its_programs_go_on(user: User) -> None:
    require("vde_switch")
    require("socat")
    with _example(user, "continent") as process:
        assert process.stdin
        assert process.stdout
        said = []
        for address in ("198.51.100.7", "203.0.113.7", "198.51.100.7"):
            for line in process.stdout:
                said.append(line.partition(";")[0])
                if line.endswith(f" {address}\n"):
                    break
            process.stdin.write("\n")
            process.stdin.flush()
    assert len(said) >= 3
    assert len(set(said)) == 1  # the process and the address are the same
