"""Views by an rc file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.lab import User
from tests.setting import umview

_BIN = Path(sys.prefix) / "bin"
_RC = """
[view]
name = "by-rc"
modules = ["umnetnull"]

[[mount]]
path = "/dev/net/default"
type = "umnet"
options = "ip=10.4.0.1/24"

[[mount]]
path = "/dev/net/work"
type = "umnet"
options = "ip=10.5.0.1/24"
"""


def _run(user: User, *words: str, config: str = "") -> subprocess.CompletedProcess[str]:
    return user.run(umview(*words), "native", XDG_CONFIG_HOME=config)


def _modules(user: User, *words: str, config: str = "") -> dict[str, str]:
    umctl = str(_BIN / "umctl")
    told = _run(user, *words, umctl, "modules", "--json", config=config)
    assert told.returncode == 0, told
    return {row["path"]: row["options"] for row in json.loads(told.stdout)}


@pytest.mark.view
def test_an_rc_file_says_what_a_view_has(user: User) -> None:
    path = user.folder / "own.toml"
    path.write_text(_RC)
    assert _modules(user, "-f", str(path)) == {
        "/dev/net/default": "ip=10.4.0.1/24",
        "/dev/net/work": "ip=10.5.0.1/24",
        "/dev/net/umnetnull1": "",
    }
    name = _run(user, "-f", str(path), str(_BIN / "umctl"), "name")
    assert name.stdout == "by-rc\n"
    addresses = _run(user, "-f", str(path), "ip", "-br", "addr")
    assert "10.4.0.1/24" in addresses.stdout


@pytest.mark.view
def test_the_command_line_comes_before_the_rc_file(user: User) -> None:
    folder = user.folder / "umview"
    folder.mkdir()
    (folder / "rc.toml").write_text(_RC)
    folder.chmod(0o755)
    config = str(user.folder)
    assert _modules(user, "-p", "umnet,host", config=config) == {
        "/dev/net/default": "host",
        "/dev/net/work": "ip=10.5.0.1/24",
        "/dev/net/umnetnull1": "",
    }
    named = _run(user, "-V", "mine", str(_BIN / "umctl"), "name", config=config)
    assert named.stdout == "mine\n"


@pytest.mark.view
def test_a_wrong_rc_file_is_a_failure_of_umview(user: User) -> None:
    path = user.folder / "own.toml"
    path.write_text("[[mount]]\npath = '/dev/net/x'\ntype = 'umnope'\n")
    told = _run(user, "-f", str(path), "echo", "ran")
    assert (told.stdout, told.returncode) == ("", 125)
    assert told.stderr.startswith("umview: unknown module 'umnope'")
    told = _run(user, "-f", str(user.folder / "none"), "echo", "ran")
    assert (told.stdout, told.returncode) == ("", 125)
