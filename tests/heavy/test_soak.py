"""Mixed traffic between three views; an hour of it is `make soak`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.lab import User, require

_ROOT = Path(__file__).parents[2]
_SECONDS = 45


@pytest.mark.view
def test_mixed_traffic_leaves_nothing_behind(user: User) -> None:
    """Nothing goes wrong, and neither memory nor descriptors grow."""
    require("vde_switch")
    argv = [sys.executable, "-m", "tests.heavy.soak", "--seconds", str(_SECONDS)]
    done = subprocess.run(
        user.command(argv, "native"),
        capture_output=True,
        text=True,
        timeout=10 * _SECONDS,
        check=False,
        cwd=_ROOT,
        env=user.environment()
        | {name: os.environ[name] for name in os.environ if name.startswith("UMVIEW_")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
