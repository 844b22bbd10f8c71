"""Direct wires between views, and links that go away and come back."""

from __future__ import annotations

import contextlib
import os
import time

from tests.apps.lab import SYSTEM_PYTHON, Program, Site, User
from tests.stacks.lab import ECHO_SERVER, open_host
from tests.switch import open_switch

_CLIENT = """
import os, socket, sys, threading
for host in sys.argv[1:]:
    s = socket.create_connection((host, 80), timeout=20)
    data, got = os.urandom(1 << 22), b""
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=send)
    thread.start()
    while part := s.recv(1 << 16):
        got += part
    thread.join()
    print(got == data)
"""


def _end(number: int) -> str:
    return f"wire=lab,ip=10.0.0.{number}/24,ip=fd00::{number}/64"


def test_a_wire_between_views(user: User) -> None:
    """Whichever comes first; either may end and come back."""
    first = open_host(user, "first", _end(1))
    server = first.__enter__()
    with server.serve(SYSTEM_PYTHON, "-c", ECHO_SERVER, port=80):
        for name in ("second", "third"):
            with open_host(user, name, _end(2)) as client:
                done = client.run(SYSTEM_PYTHON, "-c", _CLIENT, "10.0.0.1", "fd00::1")
            assert done.out.split() == ["True"] * 2
    with open_host(user, "fourth", _end(2)) as other:
        first.__exit__(None, None, None)
        with (
            other.serve(SYSTEM_PYTHON, "-c", ECHO_SERVER, port=80),
            open_host(user, "fifth", _end(1)) as client,
        ):
            done = client.run(SYSTEM_PYTHON, "-c", _CLIENT, "10.0.0.2", "fd00::2")
            assert done.out.split() == ["True"] * 2


def test_a_wire_has_two_ends(user: User) -> None:
    with (
        open_host(user, "first", _end(1)) as first,
        open_host(user, "second", _end(2)) as second,
    ):
        for site in (first, second):
            site.run("true")  # it is there
        done = user.run(["true"], "stack", _end(3))
    assert (done.returncode, done.stderr) == (
        125,
        "umview: umnetlwipv6: wire lab has two ends already: choose another name, "
        "or a switch (vd0=) for three and more\n",
    )


def test_a_wire_leaves_nothing(user: User) -> None:
    """Its last process may end a moment after the command."""
    assert user.run(["true"], "stack", _end(1)).returncode == 0
    deadline = time.monotonic() + 30
    while os.listdir(user.runtime):
        assert time.monotonic() < deadline
        time.sleep(0.01)


_SINK = """
import hashlib, socket
s = socket.create_server(("", 80))
print("listens", flush=True)
c, _ = s.accept()
total, seen = hashlib.sha256(), 0
while data := c.recv(1 << 16):
    total.update(data)
    seen += len(data)
    print(seen, flush=True)
print(total.hexdigest(), flush=True)
"""

_SOURCE = """
import hashlib, os, socket, sys
s = socket.create_connection((sys.argv[1], 80))
total = hashlib.sha256()
while not os.path.exists(sys.argv[2]):
    data = os.urandom(1 << 16)
    total.update(data)
    s.sendall(data)
s.close()
print(total.hexdigest())
"""


def _wait_for_carrier(site: Site, value: int) -> None:
    deadline = time.monotonic() + 30
    while site.run("cat", "/sys/class/net/vd0/carrier").out != f"{value}\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    flag = "<BROADCAST,MULTICAST,UP,LOWER_UP>" if value else "NO-CARRIER"
    assert flag in site.run("ip", "link", "show", "vd0").out


def _wait_for_more(program: Program) -> None:
    """Wait until the sink has got something that was not there yet."""
    lines = program.said().count("\n")
    deadline = time.monotonic() + 60
    while program.said().count("\n") < lines + 2:
        assert time.monotonic() < deadline, program.said()
        time.sleep(0.01)


def test_a_switch_goes_away_and_comes_back(user: User) -> None:
    """Its links' carriers with it; a connection waits and misses nothing."""
    end = user.folder / "end"
    with contextlib.ExitStack() as hosts:
        with open_switch(user) as switch:
            site = [
                hosts.enter_context(
                    open_host(user, f"host{number}", switch.card(number))
                )
                for number in (1, 2)
            ]
            sink = site[0].begin(SYSTEM_PYTHON, "-c", _SINK)
            sink.wait_for("listens")
            command = [SYSTEM_PYTHON, "-c", _SOURCE, switch.host(1), str(end)]
            source = site[1].begin(*command)
            _wait_for_more(sink)
        for one in site:
            _wait_for_carrier(one, 0)
        with open_switch(user):
            for one in site:
                _wait_for_carrier(one, 1)
            _wait_for_more(sink)
            end.touch()
            sent, got = source.finish(), sink.finish()
            assert (sent.status, got.status) == (0, 0)
            assert sent.out == got.out.splitlines(keepends=True)[-1]
