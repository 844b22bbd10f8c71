"""What fails by packets fails as in Linux, and what is lost is told."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.stacks.lab import open_host
from tests.switch import Switch

pytestmark = pytest.mark.view

_OURS = Path(__file__).parents[2] / "umview"

_NOBODY = """
import errno, socket, sys, threading
def name(call, *args):
    try:
        call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno]
said = {}
def stream(host):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    said[host] = name(s.connect, (host, 80)), name(s.connect, (host, 80))
def datagram(host):
    v6 = ":" in host
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(*((socket.IPPROTO_IPV6, 25) if v6 else (socket.IPPROTO_IP, 11)), 1)
    s.sendto(b"x", (host, 80))
    said[host + "/udp"] = name(s.recvfrom, 1)
    said[host + "/queue"] = s.recvmsg(9, 99, socket.MSG_ERRQUEUE)[0]
threads = [threading.Thread(target=work, args=(host,))
           for work in (stream, datagram) for host in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for host in sorted(said):
    print(host, said[host])
"""

_COMES_AND_GOES = """
import socket, sys
while sys.stdin.readline():
    s = socket.create_server(("::", 80), family=socket.AF_INET6, backlog=2,
                             dualstack_ipv6=True)
    print("listens", flush=True)
    c, _ = s.accept()
    s.close()
    c.sendall(b"closed")
    c.recv(1)
    c.close()
"""

_SEES_IT_GO = """
import socket, sys
s = socket.create_connection((sys.argv[1], 80), timeout=20)
s.recv(6)
for _ in range(3):
    try:
        socket.create_connection((sys.argv[1], 80), timeout=20)
    except ConnectionRefusedError:
        print("refused")
"""

_CROWD_SERVER = """
import socket
s = socket.create_server(("::", 80), family=socket.AF_INET6, backlog=2,
                         dualstack_ipv6=True)
print("listens", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(c.recv(9))
    c.close()
"""

_CROWD = """
import socket, sys, threading
def work():
    s = socket.create_connection((sys.argv[1], 80), timeout=60)
    s.sendall(b"hello")
    got.append(s.recv(9))
got = []
threads = [threading.Thread(target=work) for _ in range(60)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(got.count(b"hello"))
"""

_WAITS = """
import errno, socket, sys
def name(call, *args):
    try:
        return call(*args)
    except OSError as exc:
        return errno.errorcode[exc.errno]
s = socket.create_connection((sys.argv[1], 80), timeout=60)
print("stands", flush=True)
print(name(s.recv, 1), s.recv(1))
t = socket.socket()
print(name(t.connect, (sys.argv[1], 80)))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(name(u.sendto, b"x", (sys.argv[1], 80)))
own = socket.create_server(("127.0.0.1", 0))
print(name(socket.create_connection, own.getsockname()) is not None, flush=True)
"""


def _stack_servers() -> set[int]:
    """Return the stack servers of this tree."""
    found = set()
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"]
        if words == [f"{os.environ.get('UMVIEW_STACKD', _OURS)}/stackd"]:
            found.add(one.pid)
    return found


def test_nobody_has_the_address(user: User, switch: Switch) -> None:
    hosts = [switch.host(99), switch.host6(99)]
    with open_host(user, "alone", switch.card(1)) as view:
        said = view.run(SYSTEM_PYTHON, "-c", _NOBODY, *hosts, timeout=60).out
    assert sorted(said.splitlines()) == sorted(
        line
        for host in hosts
        for line in (
            f"{host} ('EHOSTUNREACH', 'EHOSTUNREACH')",
            f"{host}/queue b'x'",
            f"{host}/udp EHOSTUNREACH",
        )
    )


def test_a_listener_that_is_closed_refuses_at_once(user: User, switch: Switch) -> None:
    asks = user.folder / "asks"
    asks.write_text("once\n")
    with (
        open_host(user, "server", switch.card(1)) as server,
        open_host(user, "client", switch.card(2)) as client,
    ):
        program = server.begin(SYSTEM_PYTHON, "-c", _COMES_AND_GOES, stdin=asks)
        program.wait_for("listens")
        said = client.run(SYSTEM_PYTHON, "-c", _SEES_IT_GO, switch.host(1)).out
        program.end()
    assert said.split() == ["refused"] * 3


def test_many_at_once_meet_a_short_backlog(user: User, switch: Switch) -> None:
    with (
        open_host(user, "server", switch.card(1)) as server,
        open_host(user, "client", switch.card(2)) as client,
        server.serve(SYSTEM_PYTHON, "-c", _CROWD_SERVER, says="listens"),
    ):
        said = client.run(SYSTEM_PYTHON, "-c", _CROWD, switch.host(1), timeout=90).out
    assert said == "60\n"


def test_a_stack_server_dies_and_the_view_goes_on(user: User, switch: Switch) -> None:
    with (
        open_host(user, "server", switch.card(1)) as server,
        server.serve(SYSTEM_PYTHON, "-c", _CROWD_SERVER, says="listens"),
    ):
        before = _stack_servers()
        with open_host(user, "client", switch.card(2)) as client:
            program = client.begin(SYSTEM_PYTHON, "-c", _WAITS, switch.host(1))
            program.wait_for("stands")
            (pid,) = _stack_servers() - before
            os.kill(pid, signal.SIGKILL)
            said = program.finish().out.splitlines()
            log = client.folder / "agent.err"
            _until(lambda: "\n" in log.read_text())
            told = log.read_text()
    # The reset of a unix socket, as on the other roads; then what it comes from.
    assert said == ["stands", "ECONNRESET b''", "ENETDOWN", "ENETDOWN", "True"]
    (line,) = told.splitlines()
    assert "the stack server of stack 0 has died" in line


@pytest.mark.parametrize("killed", [False, True], ids=["ends", "is_killed"])
def test_a_stack_server_ends_with_its_view(
    user: User, switch: Switch, *, killed: bool
) -> None:
    before = _stack_servers()
    command = ["/bin/sh", "-c", "echo $$ $PPID; exec sleep 60"]
    with user.popen(command, "stack", switch.card(1), stdout=subprocess.PIPE) as front:
        assert front.stdout
        program, supervisor = map(int, front.stdout.readline().split())
        assert _stack_servers() - before
        if killed:
            os.kill(supervisor, signal.SIGKILL)
        else:
            os.kill(program, signal.SIGTERM)
        _until(lambda: not _stack_servers() - before)
        if killed:
            os.kill(program, signal.SIGKILL)
        front.wait(30)
    user.run(["true"], "view")  # cleans up after who was killed


def _until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.02)
