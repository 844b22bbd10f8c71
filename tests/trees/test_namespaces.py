"""Network namespaces that programs of several views make."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.setting import umview

pytestmark = pytest.mark.view

_SERVE = """
import os, socket, sys
with socket.create_server(("127.0.0.1", 7000)):
    sys.exit(os.spawnvp(os.P_WAIT, sys.argv[1], sys.argv[1:]))
"""
_CONNECT = """
import socket
print([name for _, name in socket.if_nameindex()])
print(socket.socket().connect_ex(("127.0.0.1", 7000)))
"""
_APART = ("unshare", "--map-root-user", "--net", SYSTEM_PYTHON, "-c")


def test_those_of_two_views_do_not_meet(user: User) -> None:
    """Nor do they find the network of the view: each view has one loopback for them."""
    if user.run(["unshare", "--user", "true"], "native").returncode:
        pytest.skip("users may not make namespaces on this machine")
    connect = shlex.join([*_APART, _CONNECT])
    inner = shlex.join(umview("-p", "umnet", *_APART, _CONNECT))
    script = (
        "mkfifo fifo; exec 3<>fifo; "
        f"{shlex.join([*_APART, _SERVE, 'sh', '-c', 'echo up; read x'])} <&3 | "
        f"{{ read up; {connect}; {inner}; {connect}; echo >&3; }}"
    )
    command = user.command(umview("-p", "umnet", "sh", "-c", script), "native")
    got = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=user.environment(),
        cwd=user.folder,
        check=False,
    )
    alone, met = "['lo']\n111\n", "['lo']\n0\n"
    assert got.stdout == met + alone + met, got
