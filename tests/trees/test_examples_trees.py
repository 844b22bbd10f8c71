"""The examples of trees and networks of views do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.lab import User, require

_EXAMPLES = Path(__file__).parents[2] / "examples"
_SECONDS = 300


@pytest.mark.view
def test_the_demo_shows_what_is_expected(user: User) -> None:
    """All of it: crowd.py and hello.go, too, which `make test-trees` has built."""
    require("curl", "dig", "getent", "ping")
    done = subprocess.run(
        user.command([sys.executable, str(_EXAMPLES / "demo.py")], "native"),
        capture_output=True,
        text=True,
        check=False,
        cwd=user.folder,
        env=user.environment() | {"COLUMNS": "200"},
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT EXPECTED" not in done.stdout


@pytest.mark.view
def test_a_replicated_store_survives_a_partition(user: User) -> None:
    require("etcd", "etcdctl")
    words = ["-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(_EXAMPLES)]
    done = subprocess.run(
        user.command(
            [sys.executable, "-m", "pytest", *words, str(_EXAMPLES / "replicated")],
            "native",
        ),
        capture_output=True,
        text=True,
        check=False,
        cwd=user.folder,
        env=user.environment(),
        timeout=_SECONDS,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
