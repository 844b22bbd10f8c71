"""The overlay: /dev/net shows the stacks of a view as files, as Linux shows sockets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.setting import umview
from tests.trees.lab import PROGRAMS

pytestmark = pytest.mark.view

_UMCTL = Path(sys.prefix) / "bin" / "umctl"
_TRACERS = ("seccomp", "ptrace")
_ASK = "import calls, sys; print(*(calls.msocket(path, 2, 1) for path in sys.argv[1:]))"
_MAKE = """
import os, socket, sys
for path in sys.argv[1:]:
    socket.socket(socket.AF_UNIX).bind(path)
    os.chmod(path, 0o600)
"""


def overlaid(*command: str, tracer: str = "auto") -> list[str]:
    stacks = ("-p", "umnet", "-p", "umnetnull")
    return umview("--tracer", tracer, "--overlay", *stacks, *command)


@pytest.mark.parametrize("tracer", _TRACERS)
def test_stacks_are_files_as_sockets_are(user: User, tracer: str) -> None:
    """The same program natively, in a folder with two unix sockets, and in a view."""
    folder = user.folder / "dev" / "net"
    for made in (folder.parent, folder):
        made.mkdir()
        user.own(made)
    sockets = [str(folder / name) for name in ("default", "umnetnull1")]
    user.run([SYSTEM_PYTHON, "-c", _MAKE, *sockets], "native")
    probe = [SYSTEM_PYTHON, str(PROGRAMS / "files.py")]
    natively = user.run([*probe, str(folder)], "native")
    there = user.run(overlaid(*probe, "/dev/net", tracer=tracer), "native")
    assert natively.stderr == there.stderr == ""
    assert there.stdout.splitlines() == natively.stdout.splitlines()
    assert "chown 1" in there.stdout.splitlines()


@pytest.mark.parametrize("tracer", _TRACERS)
def test_mode_of_the_file_guards_the_stack(user: User, tracer: str) -> None:
    ask = f"PYTHONPATH={PROGRAMS} {SYSTEM_PYTHON} -c '{_ASK}'"
    ask += " /dev/net/default /dev/net/umnetnull1"
    script = f"""
        chmod 000 /dev/net/default && {ask}
        chmod 600 /dev/net/default && {ask}
    """
    got = user.run(overlaid("sh", "-c", script, tracer=tracer), "native")
    assert got.stdout == "EACCES EAFNOSUPPORT\n3 EAFNOSUPPORT\n", got


def test_without_the_overlay_nothing_is_shown(user: User) -> None:
    got = user.run(["ls", "/dev/net/default"], "view")
    assert (got.returncode, got.stdout) == (2, ""), got


def test_the_hosts_files_are_there_by_name(user: User) -> None:
    """What else is in the host's /dev/net is not listed, but can be named."""
    script = "stat -c %F /dev/null; ls /dev/net; test ! -e /dev/net/absent"
    got = user.run(overlaid("sh", "-c", script), "native")
    shown = "character special file\ndefault\numnetnull1\n"
    assert (got.returncode, got.stdout) == (0, shown), got


def test_a_view_inside_shows_its_own_stacks(user: User) -> None:
    inner = umview("-p", "umnetnull", "sh", "-c", "ls /dev/net; test -S /dev/net/$0")
    for name, status in {"default": 0, "umnetnull1": 1}.items():
        got = user.run(overlaid(*inner, name), "native", timeout=60)
        assert (got.stdout, got.returncode) == ("default\n", status), got


def test_stack_that_is_mounted_elsewhere(user: User) -> None:
    script = f"""
        {_UMCTL} mount -t umnetnull none /srv/none && stat -c %F /srv/none
        cd /dev/net && ls -l | grep -c ^s
    """
    got = user.run(overlaid("sh", "-c", script), "native", timeout=60)
    assert (got.stdout, got.stderr, got.returncode) == ("socket\n3\n", "", 0)


def test_folder_changes_with_the_mounts(user: User) -> None:
    script = f"""
        {_UMCTL} mount -t umnetnull none /dev/net/work && ls /dev/net
        test -S /dev/net/work && {_UMCTL} umount /dev/net/work && ls /dev/net
        test ! -e /dev/net/work
    """
    got = user.run(overlaid("sh", "-c", script), "native", timeout=60)
    shown = "default\numnetnull1\nwork\ndefault\numnetnull1\n"
    assert (got.stdout, got.stderr, got.returncode) == (shown, "", 0)
