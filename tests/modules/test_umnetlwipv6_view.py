"""Views on a virtual Ethernet: Debian's vde_switch between stacks of lwIP."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import require

_UMVIEW = Path(__file__).parent.parent.parent / ".venv/bin/umview"
_SECONDS = 30

_SERVER = """
import socket, sys
kind = getattr(socket, sys.argv[1])
s = socket.socket(socket.AF_INET6, kind)
s.bind(("::", 8000))
if kind is socket.SOCK_STREAM:
    s.listen()
print("listens", flush=True)
while kind is socket.SOCK_STREAM:
    c, _ = s.accept()
    while data := c.recv(1 << 16):
        c.sendall(data)
    c.close()
while True:
    s.sendto(*s.recvfrom(1 << 16))
"""

_STREAM = """
import os, socket, sys, threading
for host in sys.argv[1:]:
    s = socket.create_connection((host, 8000), timeout=20)
    data, got, peer = os.urandom(1 << 20), b"", s.getpeername()[0]
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=send)
    thread.start()
    while part := s.recv(1 << 16):
        got += part
    thread.join()
    print(got == data, peer)
    try:
        socket.create_connection((host, 8001), timeout=20)
    except ConnectionRefusedError:
        print("refused")
"""

_DATAGRAMS = """
import os, socket, sys
for host in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(20)
    for size in (0, 1, 1472, 1473, 30000):
        data = os.urandom(size)
        s.sendto(data, (host, 8000))
        got, peer = s.recvfrom(1 << 16)
        print(got == data, peer[0])
"""

_HOSTS = ("10.0.0.2", "fd00:5::2")


def _command(switch: str, number: int, *command: str) -> list[str]:
    own = f"ip=10.0.0.{number}/24,ip=fd00:5::{number}/64"
    return [str(_UMVIEW), "-p", f"umnetlwipv6,vd0={switch},{own}", *command]


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[str]:
    require("vde_switch")
    folder = tmp_path / "switch"
    process = subprocess.Popen(
        [shutil.which("vde_switch") or "", "-s", folder, "-M", f"{folder}.mgmt"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write("showinfo\n")  # its answer tells that it is there
    process.stdin.flush()
    for line in process.stdout:
        if "Success" in line:
            break
    yield f"vde://{folder}"
    with contextlib.suppress(BrokenPipeError):
        process.communicate("shutdown\n", timeout=_SECONDS)
    process.wait(_SECONDS)


@contextlib.contextmanager
def _server(switch: str, kind: str) -> Iterator[None]:
    command = _command(switch, 2, "/usr/bin/python3", "-c", _SERVER, kind)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "listens\n"
            yield
        finally:
            process.terminate()


def test_streams_by_both_families(switch: str) -> None:
    with _server(switch, "SOCK_STREAM"):
        text = _run(_command(switch, 3, "/usr/bin/python3", "-c", _STREAM, *_HOSTS))
    assert text.splitlines() == [
        line for host in _HOSTS for line in (f"True {host}", "refused")
    ]


def test_datagrams_with_and_without_fragments(switch: str) -> None:
    with _server(switch, "SOCK_DGRAM"):
        command = _command(switch, 3, "/usr/bin/python3", "-c", _DATAGRAMS, *_HOSTS)
        text = _run(command)
    assert text.splitlines() == [f"True {host}" for host in _HOSTS for _ in range(5)]


@pytest.mark.parametrize("host", _HOSTS)
def test_echoes(switch: str, host: str) -> None:
    require("ping")
    with _server(switch, "SOCK_DGRAM"):
        text = _run(_command(switch, 3, "ping", "-c2", "-i.2", "-W9", host))
    assert "2 packets transmitted, 2 received" in text


def test_a_switch_that_is_not_there() -> None:
    command = _command("vde:///nosuch", 2, "true")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    reason = os.strerror(2)
    assert (done.returncode, done.stdout, done.stderr) == (
        125,
        "",
        f"umview: umnetlwipv6: vd0: cannot plug into vde:///nosuch: {reason}: "
        "no switch runs there; vde_switch -s /nosuch starts one\n",
    )
