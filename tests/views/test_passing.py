"""Sockets handed to programs of other views, out of a view, and into one.

Data flow through what is connected. A call is answered by the view that its caller is
in, or fails; nothing hangs, and nothing reaches the host's network from within a view.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where
from tests.views.test_escapes import host_port

pytestmark = pytest.mark.view

_PROGRAM = str(Path(__file__).with_name("programs") / "passing.py")


@pytest.mark.parametrize(
    ("giver", "taker"),
    [
        pytest.param("view", "view", id="between-views"),
        pytest.param("view", "native", id="out-of-a-view"),
        pytest.param("native", "view", id="into-a-view"),
    ],
)
def test_passed_sockets_carry_data_and_reach_nothing(
    user: User, giver: Where, taker: Where
) -> None:
    path = str(user.folder / "given")
    give = [SYSTEM_PYTHON, _PROGRAM, "give", path]
    with (
        host_port("127.0.0.1") as (port, arrived),
        user.popen(
            give, giver, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        take = [SYSTEM_PYTHON, _PROGRAM, "take", path, str(port)]
        done = user.run(take, taker, timeout=60)
        said, _ = process.communicate(timeout=20)
        assert not done.stderr
        lines = done.stdout.splitlines()
        assert lines[0] == "data b'hguorht'"
        assert len(lines) == 1 + 6 * 12, lines
        for kind in ("fresh", "bound", "datagram"):
            for call in ("connect", "bind", "listen"):
                assert f"{kind} {call} ok" not in lines
        assert not arrived
    # The giver's own descriptors are what they were, to it.
    assert [line.split()[1] for line in said.splitlines()] == ["ok"] * 6, said
