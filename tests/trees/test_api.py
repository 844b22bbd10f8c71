"""umview.View: views for programs in Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_interface
from pathlib import Path

import pytest

import umview
from tests.apps.lab import SYSTEM_PYTHON, User, require
from umview.errors import UmviewError

_SECONDS = 60.0
_LISTEN = """
import socket, sys, time
s = socket.create_server(("", int(sys.argv[1])))
print("listens", flush=True)
time.sleep(600)
"""
_HOLDER = """
import os, subprocess, sys, time
import umview
with umview.View("umnetnull") as v:
    stubborn = v.popen(["sh", "-c", "trap '' TERM; exec sleep 600"])
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["seccomp", "ptrace"])
def tracer(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.mark.view
def test_commands_of_a_view_are_in_one_network(own: User, tracer: str) -> None:
    require("ip", "curl")
    with umview.View("umnet,ip=10.7.0.1/24", tracer=tracer) as view:
        server = view.popen(
            [SYSTEM_PYTHON, "-c", _LISTEN, "80"], stdout=subprocess.PIPE, text=True
        )
        with server:
            assert server.stdout
            assert server.stdout.readline() == "listens\n"
            (row,) = view.sockets()
            assert (row["protocol"], row["state"]) == ("tcp", "listen")
            assert row["local"] == "0.0.0.0:80"
            assert ip_interface("10.7.0.1/24") in view.addresses()
            listed = view.run(
                ["ip", "-br", "addr"], capture_output=True, text=True, check=True
            )
            assert "10.7.0.1/24" in listed.stdout
            server.terminate()
        assert server.returncode == -signal.SIGTERM
        assert "10.7.0.1/24" in view.log()
    assert "10.7.0.1/24" in view.log()


@pytest.mark.view
def test_a_command_is_a_popen_like_any_other(own: User) -> None:
    with umview.View("umnetnull") as view:
        done = view.run(
            "pwd; cat; echo $A >&2; exit 3",
            shell=True,
            input=b"in",
            capture_output=True,
            cwd="/usr",
            env={"A": "b"},
        )
        assert (done.returncode, done.stdout, done.stderr) == (3, b"/usr\nin", b"b\n")
        read, write = os.pipe()
        with view.popen(["bash", "-c", f"echo hi >&{write}"], pass_fds=[write]) as one:
            assert one.wait(_SECONDS) == 0
        os.close(write)
        with open(read, "rb") as pipe:
            assert pipe.read() == b"hi\n"
        with view.popen(["sleep", "600"], start_new_session=True) as one:
            assert os.getsid(one.pid) == one.pid
            one.kill()
        assert one.returncode == -signal.SIGKILL
        with pytest.raises(subprocess.CalledProcessError) as failed:
            view.run(["false"], check=True)
        assert failed.value.cmd == ["false"]
        with pytest.raises(subprocess.TimeoutExpired):
            view.run(["sleep", "600"], timeout=0.1)
        for command, error in (
            ("no-such-command", FileNotFoundError),
            ("/etc/passwd", PermissionError),
        ):
            with pytest.raises(error):
                view.run([command])
        with pytest.raises(FileNotFoundError):
            view.run(["true"], cwd="/no/such/folder")


def test_what_cannot_be_is_said_in_a_line(own: User) -> None:
    for words, text in (
        (["umnett"], "unknown module 'umnett'"),
        (["umnet,ip=1"], "umnet: "),
        (["umnetlwipv6,vd0=vde:///no/such/switch"], "/no/such/switch"),
    ):
        with pytest.raises(UmviewError, match=text) as failed, umview.View(*words):
            pass
        assert "\n" not in str(failed.value)
    with pytest.raises(UmviewError, match="does not run"):
        umview.View().run(["true"])


@pytest.mark.view
def test_all_that_runs_in_it_ends_with_it(own: User, tracer: str) -> None:
    """Daemons and those who do not hear SIGTERM, too."""
    code = "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 601' &); sleep 602"
    with umview.View("umnetnull", tracer=tracer) as view:
        view.popen(["sh", "-c", code])
        before = time.monotonic()
        view.shutdown(0.5)
        assert time.monotonic() - before < _SECONDS
        with pytest.raises(UmviewError):
            view.run(["true"])


@pytest.mark.view
def test_a_view_ends_with_a_process_that_is_killed(own: User) -> None:
    with subprocess.Popen(
        own.command([sys.executable, "-c", _HOLDER], "native"),
        env=own.environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        holder.kill()
    deadline = time.monotonic() + _SECONDS
    while list(Path(own.runtime, "umview").glob("*")):
        assert time.monotonic() < deadline, "the view is there still"
        time.sleep(0.05)


@pytest.mark.view
def test_a_view_whose_supervisor_was_killed(own: User) -> None:
    with umview.View("umnetnull") as view:
        command = view.popen(["sleep", "600"])
        tell = [sys.executable, "-m", "umview.ctl", "ls", "--json"]
        (told,) = json.loads(subprocess.check_output(tell))
        os.kill(told["supervisor"], signal.SIGKILL)
        with pytest.raises(UmviewError):
            view.run(["true"])
    assert command.returncode == -signal.SIGKILL
    assert "the supervisor ended" in view.log()


_INSIDE = """
import subprocess
import umview
with umview.View("umnet,ip=10.8.0.1/24", name="inner") as inner:
    print(*inner.addresses())
    print(inner.run(["ip", "-br", "addr"], stdout=subprocess.PIPE, text=True).stdout)
    stubborn = "trap '' TERM; (setsid sh -c 'trap \\"\\" TERM; sleep 601' &); sleep 602"
    inner.popen(["sh", "-c", stubborn])
    inner.popen(["sleep", "600"])
    inner.shutdown(0.5)
print("over")
"""


@pytest.mark.view
def test_views_are_opened_inside_of_views(own: User, tracer: str) -> None:
    require("ip")
    with umview.View("umnet,ip=10.7.0.1/24", tracer=tracer) as view:
        words = [sys.executable, "-c", _INSIDE]
        done = view.run(words, capture_output=True, text=True, timeout=_SECONDS)
    addresses, *listed, over = done.stdout.splitlines() or [done.stderr]
    assert "10.8.0.1/24" in addresses.split(), done.stderr
    assert any("10.8.0.1/24" in line for line in listed)
    assert "10.7.0.1" not in done.stdout
    assert over == "over", done.stderr
