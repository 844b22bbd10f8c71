"""The road by packets behaves as the kernel's TCP: the probes of the other roads.

The far ends are in a second view, on the same switch; natively they are on loopback.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where
from tests.switch import Switch, open_switch
from tests.views.conftest import PROBES, cases, session_user

pytestmark = pytest.mark.view

_LIMIT = 180.0
_FAR, _NEAR = 1, 2
_CASES = [
    (probe, case) for probe, case in cases() if probe == "roads" and "-relay" in case
]
_KNOWN = {
    "send_after_far_closed": "the reset that answers what was sent comes later",
    "waiting_sender_and_a_reset": (
        "a sender that waits gets EPIPE of a reset, where TCP says ECONNRESET"
    ),
    "reset_after_a_half_close": (
        "a reset is shown by a byte of the program's own, which it cannot send any more"
    ),
}
_AT_TIMES = {
    "connect_without_waiting": (
        "that a connection stands may come as two edges of EPOLLOUT instead of one"
    ),
}

Seen = dict[str, list[str]]


def _environment(switch: Switch, here: int, there: int) -> dict[str, str]:
    names = {
        number: f"{switch.host(number)} {switch.host6(number)}"
        for number in (here, there)
    }
    outside = {"UM_OUTSIDE": names[there], "UM_BACK": names[there]}
    return {"UM_HERE": names[here], **outside}


@contextlib.contextmanager
def _far_ends(
    user: User, where: Where, *card: str, **environment: str
) -> Iterator[Path]:
    path = user.folder / f"peer-{where}"
    argv = [SYSTEM_PYTHON, str(PROBES / "ends.py"), str(path)]
    process = subprocess.Popen(
        user.command(argv, where, *card),
        stdout=subprocess.PIPE,
        text=True,
        cwd=user.folder,
        env=user.environment() | environment,
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        yield path
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _run(user: User, peer: Path, where: Where, *card: str, **environment: str) -> Seen:
    argv = [SYSTEM_PYTHON, str(PROBES / "kit.py"), "roads"]
    argv += [case for _, case in _CASES]
    done = user.run(
        argv, where, *card, timeout=_LIMIT, UM_PEER=str(peer), **environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def seen() -> Iterator[tuple[Seen, Seen]]:
    """Give what the cases show natively, and by packets."""
    with session_user() as user, open_switch(user, 5) as switch:
        with _far_ends(user, "native") as peer:
            native = _run(user, peer, "native")
        far = _environment(switch, _FAR, _NEAR)
        near = _environment(switch, _NEAR, _FAR)
        with _far_ends(user, "stack", switch.card(_FAR), **far) as peer:
            packets = _run(user, peer, "stack", switch.card(_NEAR), **near)
        yield native, packets


@pytest.mark.parametrize("case", [case for _, case in _CASES])
def test_a_case_is_equal(seen: tuple[Seen, Seen], case: str) -> None:
    native, packets = seen[0][case], seen[1][case]
    name = case.partition("-")[0]
    reason = _KNOWN.get(name) or _AT_TIMES.get(name)
    if reason and native != packets:
        pytest.xfail(reason)
    assert packets == native
    assert name not in _KNOWN, f"no longer differs: {reason}"
