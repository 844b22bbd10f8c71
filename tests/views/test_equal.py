"""The same probe natively and in a view: what it shows must be equal.

Probe files (probes/*.py) hold the cases; a file runs once natively and once in a view
of each setup, each case in a process of its own, so that the hundreds of cases cost two
starts a file.
"""

from __future__ import annotations

import itertools

import pytest

from tests.setting import TRACER
from tests.views.conftest import SETUPS, Probes, Setup, cases
from tests.views.known import KNOWN, ONLY

pytestmark = pytest.mark.view

_CASES = cases()
_KNOWN = KNOWN | ONLY[TRACER]
_setups = pytest.mark.parametrize("setup", SETUPS, ids=[one.name for one in SETUPS])


def _difference(native: list[str], view: list[str]) -> str:
    pairs = itertools.zip_longest(native, view, fillvalue="(nothing)")
    return "\n".join(f"native: {a}\nview:   {b}" for a, b in pairs if a != b)


@_setups
@pytest.mark.parametrize(
    ("probe", "case"), [pytest.param(*case, id=".".join(case)) for case in _CASES]
)
def test_case_is_equal(probes: Probes, setup: Setup, probe: str, case: str) -> None:
    native = probes.seen(probe, None)[case]
    view = probes.seen(probe, setup)[case]
    assert not any(line.startswith(("raised:", "no end")) for line in native), native
    if (probe, case) in _KNOWN:
        if native == view:
            pytest.fail(f"no longer differs: {_KNOWN[probe, case]}", pytrace=False)
        pytest.xfail(_KNOWN[probe, case])
    if native != view and not probes.natively_also(probe, case, view):
        pytest.fail("\n" + _difference(native, view), pytrace=False)


@_setups
@pytest.mark.parametrize("probe", sorted({probe for probe, _ in _CASES}))
def test_nothing_is_said_beside_it(probes: Probes, setup: Setup, probe: str) -> None:
    for where in (None, setup):
        assert "stderr" not in probes.seen(probe, where)


def test_known_differences_name_cases() -> None:
    for tracer in ONLY:
        assert not set(KNOWN | ONLY[tracer]) - set(_CASES)
