"""Which tracer a view gets where seccomp, or ptrace as well, is not to be had."""

from __future__ import annotations

import subprocess

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.setting import UMVIEW, within

pytestmark = pytest.mark.view

_TALK = """
import socket
server = socket.create_server(("127.0.0.1", 80))
client = socket.create_connection(server.getsockname())
client.send(b"heard\\n")
print(server.accept()[0].recv(10).decode(), end="")
"""
_FALLBACKS = [
    pytest.param("container", "a listener is held already", id="container"),
    pytest.param("old-kernel", "this kernel has no user notification", id="old-kernel"),
    pytest.param("no-addfd", "Linux 5.14 or later", id="no-addfd"),
]


def _run(
    user: User, setting: str, *words: str, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run umview with these words in a setting of its own ("": in none)."""
    plain = [str(UMVIEW), *words]
    got = user.run(within(setting, *plain) if setting else plain, "native")
    assert got.returncode == expect, got
    return got


@pytest.mark.parametrize(("setting", "why"), _FALLBACKS)
def test_auto_is_ptrace_where_no_listener_can_be_had(
    user: User, setting: str, why: str
) -> None:
    got = _run(user, setting, "-v", SYSTEM_PYTHON, "-c", _TALK)
    assert got.stdout == "heard\n"
    assert "umview: tracer: ptrace (" in got.stderr
    assert why in got.stderr


@pytest.mark.parametrize("tracer", ["auto", "seccomp", "ptrace"])
def test_one_that_is_asked_for_is_taken(user: User, tracer: str) -> None:
    got = _run(user, "", "--tracer", tracer, "-v", SYSTEM_PYTHON, "-c", _TALK)
    assert got.stdout == "heard\n"
    taken = "seccomp" if tracer == "auto" else tracer
    assert f"umview: tracer: {taken}\n" in got.stderr


@pytest.mark.parametrize(("setting", "why"), _FALLBACKS)
def test_seccomp_that_is_asked_for_fails_in_one_line(
    user: User, setting: str, why: str
) -> None:
    got = _run(user, setting, "--tracer", "seccomp", "true", expect=125)
    (line,) = got.stderr.splitlines()
    assert why in line


@pytest.mark.parametrize("tracer", ["auto", "ptrace"])
def test_no_tracer_at_all_is_one_line(user: User, tracer: str) -> None:
    got = _run(user, "no-ptrace", "--tracer", tracer, "true", expect=125)
    (line,) = got.stderr.splitlines()
    assert "Operation not permitted" in line


def test_calls_that_another_takes_first_are_no_view(user: User) -> None:
    """Its "continue" would lead past a tracer: fail before the command is there."""
    got = _run(user, "network", "echo", "ran", expect=125)
    (line,) = got.stderr.splitlines()
    assert "do not reach umview" in line
    assert got.stdout == ""


@pytest.mark.parametrize("outer", ["seccomp", "ptrace"])
@pytest.mark.parametrize("inner", ["auto", "seccomp", "ptrace"])
def test_umview_in_a_view_has_the_tracer_that_is_there(
    user: User, outer: str, inner: str
) -> None:
    nested = [str(UMVIEW), "--tracer", inner, "echo", "ran"]
    is_there = inner in ("auto", outer)
    got = _run(user, "", "--tracer", outer, *nested, expect=0 if is_there else 125)
    if is_there:
        assert (got.stdout, got.stderr) == ("ran\n", "")
        return
    assert got.stdout == ""
    (line,) = got.stderr.splitlines()
    assert line.startswith(f"umview: --tracer {inner}: ")
