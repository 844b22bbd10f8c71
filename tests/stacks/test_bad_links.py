"""Two views on two switches, and between these a wirefilter that spoils the link."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Site, User, require
from tests.stacks.lab import ECHO_SERVER, open_host
from tests.switch import Switch, open_switch

_SECONDS = 30

_CLIENT = """
import os, socket, sys, threading
s = socket.create_connection((sys.argv[1], 80))
data, got = os.urandom(int(sys.argv[2])), bytearray()
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send)
thread.start()
while part := s.recv(1 << 16):
    got += part
thread.join()
print(got == data, len(got))
"""


class Link(NamedTuple):
    """A client and a server with a link between them that can be spoiled."""

    client: Site
    server: Site
    near: Switch
    far: Switch
    user: User


@contextlib.contextmanager
def _open_filter(link: Link, *options: str) -> Iterator[None]:
    """Join the two switches for the length of the block."""
    require("wirefilter")
    plugs = f"{link.near.folder}:{link.far.folder}"
    process = subprocess.Popen(
        link.user.command(["wirefilter", "-v", plugs, *options], "native"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=link.user.folder,
        env=link.user.environment(),
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write("showinfo\n")  # its answer tells that it is there
        process.stdin.flush()
        for line in process.stdout:
            if "Success" in line:
                break
        yield
    finally:
        process.terminate()
        process.communicate(timeout=_SECONDS)


@contextlib.contextmanager
def _open_link(user: User, *words: str) -> Iterator[Link]:
    """Start a client and a server; words: more of their cards'."""
    with open_switch(user, 0) as near, open_switch(user, 1) as other:
        far = dataclasses.replace(other, number=near.number)
        with (
            open_host(user, "client", near.card(1), *words) as client,
            open_host(user, "server", far.card(2), *words) as server,
            server.serve(SYSTEM_PYTHON, "-c", ECHO_SERVER, says="serves"),
        ):
            yield Link(client, server, near, far, user)


@pytest.fixture(scope="module")
def link(module_user: User) -> Iterator[Link]:
    with _open_link(module_user) as opened:
        yield opened


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["-l", "5"], 1 << 20),
        (["-l", "3", "-L", "2"], 1 << 16),
        (["-d", "20+10"], 1 << 20),
        (["-d", "5+5", "-N"], 1 << 20),
        (["-D", "20"], 1 << 20),
        (["-b", "2M"], 1 << 20),
        (["-n", "10"], 1 << 20),
        (["-l", "2", "-D", "5", "-d", "5+3", "-N", "-n", "3"], 1 << 17),
    ],
    ids=[
        "loss",
        "bursts-of-loss",
        "delay",
        "other-order",
        "twice",
        "narrow",
        "damaged",
        "all-at-once",
    ],
)
def test_every_byte_of_a_stream_arrives(
    link: Link, family: int, options: list[str], size: int
) -> None:
    host = link.far.host(2) if family == 4 else link.far.host6(2)
    with _open_filter(link, *options):
        done = link.client.run(
            SYSTEM_PYTHON, "-c", _CLIENT, host, str(size), timeout=120
        )
    assert done.out.split() == ["True", str(size)]


def test_no_frame_is_longer_than_the_cards_mtu(user: User) -> None:
    require("ping")
    with _open_link(user, "mtu=1300") as link, _open_filter(link, "-m", "1316"):
        for host in (link.far.host(2), link.far.host6(2)):
            words = (host, str(1 << 18))
            done = link.client.run(SYSTEM_PYTHON, "-c", _CLIENT, *words)
            assert done.out.split() == ["True", words[1]]
            link.client.run("ping", "-c1", "-W20", "-s9000", host)
