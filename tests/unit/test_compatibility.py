"""docs/compatibility.md says what the tables and the list of differences say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.views.known import KNOWN, ONLY
from umview import _ffi

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
REFERENCES = {
    name
    for found in re.findall(r"\[((?:test_)?\w+(?:\.\w+)?(?:,\s+[\w.]+)*)\]", PAGE)
    for name in re.split(r",\s+", found)
}


def test_tables_are_those_of_the_core() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), "make docs, then commit"


def test_every_option_has_one_row() -> None:
    rows = Counter((one.level, one.name) for one in _ffi.options())
    assert [name for name, count in rows.items() if count > 1] == []


def test_every_known_difference_is_on_the_page_and_no_other() -> None:
    cases = {*KNOWN, *(case for tracer in ONLY.values() for case in tracer)}
    known = {f"{probe}.{case.partition('-')[0]}" for probe, case in cases}
    named = {name for name in REFERENCES if not name.startswith("test_")}
    assert named == known | {"cpython"}


@pytest.mark.parametrize(
    "name", sorted(name for name in REFERENCES if name.startswith("test_"))
)
def test_tests_that_the_page_names_are_there(name: str) -> None:
    file, _, function = name.partition(".")
    (path,) = (ROOT / "tests").rglob(f"{file}.py")
    functions = {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert function in functions
