"""Modules of others that are not what they should be."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from umview import module
from umview.errors import UmviewError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing = 1\n", "umbad has no function parse, so it is no module of umview"),
        ("import umnope\n", "umbad cannot be loaded: ModuleNotFoundError: No module"),
        ("x = (\n", "umbad cannot be loaded: SyntaxError: '(' was never closed"),
        ("1 / 0\n", "umbad cannot be loaded: ZeroDivisionError: division by zero"),
    ],
    ids=["parse", "import", "syntax", "exception"],
)
def test_a_bad_module_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "umbad.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "umbad", raising=False)
    entry = EntryPoint("umbad", "umbad", "umview.modules")
    monkeypatch.setattr(module, "_registered", lambda: {"umbad": entry})
    with pytest.raises(UmviewError) as failed:
        module.ask("umbad")
    assert str(failed.value).startswith(said)
    assert "\n" not in str(failed.value)
