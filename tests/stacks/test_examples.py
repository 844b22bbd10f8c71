"""The examples do what they say, and leave nothing."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import User, free_port, require
from tests.setting import umview

from .lab import open_kernel

_EXAMPLES = Path(__file__).parents[2] / "examples"
_SECONDS = 60


@contextlib.contextmanager
def _example(user: User, name: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run an example for the length of the block, and end it as Ctrl-C does."""
    process = subprocess.Popen(
        user.command([str(_EXAMPLES / name), *args], "native"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=user.folder,
        env=user.environment(),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=_SECONDS)


def _fetch(user: User, *command: str) -> str:
    """Return what a curl gets, when the server is there."""
    deadline = time.monotonic() + _SECONDS
    while True:
        done = subprocess.run(
            user.command(command, "native"),
            capture_output=True,
            text=True,
            check=False,
            cwd=user.folder,
            env=user.environment(),
            timeout=_SECONDS,
        )
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)


@pytest.mark.view
def test_an_appliance_is_reached_at_its_own_address(user: User) -> None:
    folder, port = user.folder / "lan", free_port()
    curl = ("curl", "-sS", "--max-time", "10")
    card = f"vd0=vde://{folder},ip=10.0.5.7/24,ip=fd00:5::7/64"
    visitor = umview("-p", f"umnetlwipv6,{card}", *curl)
    commands = [
        [*curl, f"http://127.0.0.1:{port}/"],
        [*visitor, "http://10.0.5.80/"],
        [*visitor, "http://[fd00:5::80]/"],
    ]
    with _example(user, "appliance", str(folder), str(port)):
        pages = [_fetch(user, *command) for command in commands]
    assert pages == ["A page of the appliance at 10.0.5.80\n"] * 3
    assert not folder.exists()


@pytest.mark.view
def test_an_appliance_has_visitors_with_the_kernels_stack(user: User) -> None:
    require("curl")
    folder, port = user.folder / "lan", free_port()
    with _example(user, "appliance", str(folder), str(port)):
        _fetch(user, "curl", "-sS", "--max-time", "10", f"http://127.0.0.1:{port}/")
        with open_kernel(user, "kernel", f"vd0=vde://{folder},ip=10.0.5.9/24") as host:
            page = host.run("curl", "-sS", "--max-time", "30", "http://10.0.5.80/").out
    assert page == "A page of the appliance at 10.0.5.80\n"


@pytest.mark.view
def test_a_view_changes_continent_and_its_programs_go_on(user: User) -> None:
    require("vde_switch", "socat")
    said = b""
    with _example(user, "continent") as process:
        assert process.stdin
        for address in ("198.51.100.7", "203.0.113.7", "198.51.100.7"):
            said += _hear(process, f"the server sees {address}\n".encode())
            process.stdin.write("\n")
            process.stdin.flush()
    lines = said.rpartition(b"\n")[0].splitlines()
    who = {line.partition(b";")[0] for line in lines}
    assert len(who) == 1, said  # the process and its address are the same


def _hear(process: subprocess.Popen[str], text: bytes) -> bytes:
    """Wait until a process says something; return what it said until then."""
    assert process.stdout
    said = b""
    while text not in said:
        ready, _, _ = select.select([process.stdout], [], [], _SECONDS)
        part = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        assert part, f"it ended, or said nothing for {_SECONDS} s: {said!r}"
        said += part
    return said
