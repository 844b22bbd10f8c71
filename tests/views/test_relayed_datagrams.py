"""Datagrams that leave the view: what comes back is what comes back natively."""

from __future__ import annotations

import select
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, require

pytestmark = pytest.mark.view

_PROGRAMS = Path(__file__).with_name("programs")
_GATEWAYS = ("10.0.2.2", "fd00::2")


@pytest.fixture
def user() -> Iterator[User]:
    with tempfile.TemporaryDirectory(prefix="umt-", ignore_cleanup_errors=True) as name:
        ordinary = User(Path(name), Path(name, "run"))
        ordinary.runtime.mkdir(0o700)
        for path in (ordinary.folder, ordinary.runtime):
            ordinary.own(path)
        yield ordinary


def test_mirror_and_closed_ports(user: User) -> None:
    mirror = [SYSTEM_PYTHON, str(_PROGRAMS / "mirror.py")]
    asker = [SYSTEM_PYTHON, str(_PROGRAMS / "to_mirror.py")]
    with user.popen(mirror, "native", stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert select.select([server.stdout], [], [], 20)[0]
        port4, port6 = server.stdout.readline().split()
        native = user.run([*asker, "127.0.0.1", port4, "::1", port6], "native")
        at4, at6 = _GATEWAYS
        view = user.run([*asker, at4, port4, at6, port6], "view", "host")
    assert (native.returncode, native.stderr) == (0, "")
    assert (view.returncode, view.stderr) == (0, "")
    assert view.stdout == native.stdout


_MISSING = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
print(sock.sendto(b"anybody?", ("10.0.2.77", 9)))
print(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
data, control, flags, name = sock.recvmsg(100, 200, 0x2000)
print(data, name, list(control[0][2][:8]), socket.inet_ntoa(control[0][2][20:24]))
"""


def test_missing_host_is_an_icmp_error(user: User) -> None:
    """Linux tells by ICMP, too, once nobody has answered its ARP requests for 3 s."""
    got = user.run([SYSTEM_PYTHON, "-c", _MISSING], "view")
    assert got.stdout.splitlines() == [
        "8",
        "113",
        "b'anybody?' ('10.0.2.77', 9) [113, 0, 0, 0, 2, 3, 1, 0] 10.0.2.15",
    ]


def test_ping_tells_of_a_missing_host(user: User) -> None:
    require("ping")
    got = user.run(["ping", "-c", "1", "-W", "5", "10.0.2.77"], "view")
    assert "From 10.0.2.15 icmp_seq=1 Destination Host Unreachable" in got.stdout
    assert got.returncode == 1
