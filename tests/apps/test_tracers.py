"""strace and gdb follow a program that talks, and it goes on as if they were not there.

A stopped call has its notification first and is shown to the tracer as the program
made it: with the addresses of the network that the program sees. Where umview itself
traces by ptrace(2), which one may do at a time, they are refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.lab import PROGRAMS, SYSTEM_PYTHON, Place, Site, User, require
from tests.setting import TRACER, UMVIEW

GREETING = "a word from the server"
_ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sock.sendall(b"GET")
    print(sock.recv(100).decode())
"""


def _expect_refusal(request: pytest.FixtureRequest, site: Site) -> None:
    """Mark a test whose debugger runs at a site as one that must fail, if it must."""
    if site.where == "view" and TRACER == "ptrace":
        reason = "umview traces by ptrace(2), and one tracer is all that a process has"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture
def ask(place: Place) -> tuple[str, ...]:
    """Return the command of a client that prints what the server says."""
    script = Path(place.client.folder, "ask.py")
    script.write_text(_ASK)
    return SYSTEM_PYTHON, str(script), place.address(4), str(place.port)


def _listen(place: Place) -> tuple[str, ...]:
    answer = f"SYSTEM:head -c 3 >/dev/null; echo {GREETING}"
    return "socat", "-d", "-d", f"TCP-LISTEN:{place.listen},fork", answer


def test_strace_shows_the_calls(
    request: pytest.FixtureRequest, place: Place, ask: tuple[str, ...]
) -> None:
    require("strace", "socat")
    _expect_refusal(request, place.client)
    with place.server.serve(*_listen(place), says="listening on"):
        log = place.client.folder / "log"
        got = place.client.run("strace", "-f", "-o", str(log), *ask)
        calls = log.read_text()
    assert got.out == f"{GREETING}\n\n"
    address = f'sin_port=htons({place.port}), sin_addr=inet_addr("{place.address(4)}")'
    assert f"{address}}}, 16) = 0" in calls
    assert "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = " in calls
    assert "--- SIG" not in calls


def test_strace_looks_in_on_a_waiting_server(
    request: pytest.FixtureRequest, place: Place
) -> None:
    """A tracer that comes and goes leaves the call that it meets waiting."""
    require("strace")
    _expect_refusal(request, place.server)
    echo = (SYSTEM_PYTHON, str(PROGRAMS / "accept_once.py"), str(place.listen))
    with place.server.serve(*echo, says="pid ") as server:
        pid = server.said().partition("pid ")[2].split()[0]
        log = place.server.folder / "log"
        look = f"timeout 1 strace -p {pid} -o {log}"
        place.server.run("bash", "-c", f"{look}; [ $? = 124 ]")
        assert "accept" in log.read_text()
        script = f"cat </dev/tcp/{place.address(4)}/{place.port}"
        assert place.client.run("bash", "-c", script).out == "accepted\n"
        server.finish()


def test_gdb_stops_at_a_call(
    request: pytest.FixtureRequest, place: Place, ask: tuple[str, ...]
) -> None:
    require("gdb", "socat")
    _expect_refusal(request, place.client)
    with place.server.serve(*_listen(place), says="listening on"):
        steps = ("catch syscall connect", "run", "continue", "delete", "continue")
        commands = [word for step in steps for word in ("-ex", step)]
        got = place.client.run("gdb", "-nx", "-batch", *commands, "--args", *ask)
    assert "(call to syscall connect)" in got.out
    assert "(returned from syscall connect)" in got.out
    assert GREETING in got.out
    assert "exited normally" in got.out


@pytest.mark.view
def test_under_ptrace_debuggers_are_refused_with_a_reason(user: User) -> None:
    require("strace")
    argv = [str(UMVIEW), "--tracer", "ptrace", "strace", "true"]
    got = user.run(argv, "native")
    assert got.returncode == 1
    assert "Operation not permitted" in got.stderr
    assert "--tracer seccomp" in got.stderr
