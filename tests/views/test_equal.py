"""The same probe natively and in a view: what it shows must be equal.

Probe files (probes/*.py) hold the cases; a file runs once natively and once in a view,
each case in a process of its own, so that the hundreds of cases cost two starts a file.
"""

from __future__ import annotations

import ast
import itertools

import pytest

from tests.views.conftest import PROBES, Probes
from tests.views.known import KNOWN

pytestmark = pytest.mark.view


def _cases() -> list[tuple[str, str]]:
    return [
        (path.stem, node.name[5:])
        for path in sorted(PROBES.glob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("case_")
    ]


def _difference(native: list[str], view: list[str]) -> str:
    pairs = itertools.zip_longest(native, view, fillvalue="(nothing)")
    return "\n".join(f"native: {a}\nview:   {b}" for a, b in pairs if a != b)


@pytest.mark.parametrize(
    ("probe", "case"), [pytest.param(*case, id=".".join(case)) for case in _cases()]
)
def test_case_is_equal(probes: Probes, probe: str, case: str) -> None:
    native = probes.seen(probe, "native")[case]
    view = probes.seen(probe, "view")[case]
    assert not any(line.startswith(("raised:", "no end")) for line in native), native
    if (probe, case) in KNOWN:
        assert native != view, f"no longer differs: {KNOWN[probe, case]}"
        pytest.xfail(KNOWN[probe, case])
    assert native == view, "\n" + _difference(native, view)


@pytest.mark.parametrize("probe", sorted({probe for probe, _ in _cases()}))
def test_nothing_is_said_beside_it(probes: Probes, probe: str) -> None:
    for where in ("native", "view"):
        assert "stderr" not in probes.seen(probe, where)


def test_known_differences_name_cases() -> None:
    assert not set(KNOWN) - set(_cases())
