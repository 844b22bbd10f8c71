"""Datagrams that leave the view: what comes back is what comes back natively."""

from __future__ import annotations

import select
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User

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
