"""A million stopped calls, of all kinds, under a storm of signals: nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where
from tests.setting import TRACER

_STORM = Path(__file__).parents[1] / "views" / "programs" / "storm.py"
_LOST = {
    # A datagram goes with an answer that is lost (docs/compatibility.md, Signals).
    ("view", "seccomp"): 10,
    ("view", "ptrace"): 0,
    ("native", TRACER): 0,
}


@pytest.mark.parametrize(
    ("where", "count"),
    [
        pytest.param("native", 20_000, id="native"),
        pytest.param("view", 500_000, id="view", marks=pytest.mark.view),
    ],
)
def test_a_million_stopped_calls(user: User, where: Where, count: int) -> None:
    """Half of them with SA_RESTART, half of them without."""
    argv = [SYSTEM_PYTHON, str(_STORM), "mixed", str(count)]
    done = user.run(argv, where, timeout=400)
    assert not done.stderr
    assert done.returncode == 0
    for line in done.stdout.splitlines():
        _, wrong, _, lost, _, left = line.split()
        assert (wrong, left) == ("0", "0")
        assert int(lost) <= _LOST[where, TRACER]
    assert len(done.stdout.splitlines()) == 2
