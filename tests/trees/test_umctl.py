"""umctl: what is told of views, and who may ask."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.apps.lab import User

_UMCTL = (sys.executable, "-m", "umview.ctl")


def _ask(user: User, *words: str) -> subprocess.CompletedProcess[str]:
    command = user.command([*_UMCTL, *words], "native")
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_ls_without_views_says_so(user: User) -> None:
    told = _ask(user, "ls")
    assert (told.stdout, told.returncode) == ("no view runs\n", 0)
    assert json.loads(_ask(user, "ls", "--json").stdout) == []


def test_a_view_that_is_not_there(user: User) -> None:
    told = _ask(user, "ls", "nobody-there")
    assert told.returncode == 125
    assert told.stderr == (
        "umctl: no view is called nobody-there; `umctl ls` shows those that run\n"
    )
