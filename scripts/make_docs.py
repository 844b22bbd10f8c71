"""Write the tables of calls and options into docs/compatibility.md (make docs).

With --check nothing is written: exit status 1 tells that the page is not what the
tables of the C core say.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
sys.path.insert(0, str(ROOT))

from umview import _ffi  # noqa: E402 - found by the path above


def calls() -> str:
    """Return the table of calls."""
    rows = [(one.name, one.when or "always", one.answer) for one in _ffi.calls()]
    return table(("call", "stopped", "who answers"), rows)


def options() -> str:
    """Return the table of options."""
    rows = [
        (level(one), one.name, taken(one), effect(one), read(one))
        for one in _ffi.options()
    ]
    return table(("level", "option", "set", "effect", "read"), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def level(one: _ffi.OptionRow) -> str:
    """Return the short name of an option's level."""
    return one.level.removeprefix("IPPROTO_").removeprefix("SOL_")


def taken(one: _ffi.OptionRow) -> str:
    """Return whether an option can be set, and who says what is wrong with a value."""
    if not one.settable:
        return "no"
    if one.refused:
        return "refused"
    return "kernel" if one.checked else "view"


def effect(one: _ffi.OptionRow) -> str:
    """Return who acts on it."""
    who = {
        "view": one.own_set,
        "surrogate": one.on_surrogate,
        "relay": one.on_host,
    }
    return ", ".join(name for name, acts in who.items() if acts) or "-"


def read(one: _ffi.OptionRow) -> str:
    """Return who tells its value."""
    who = "view" if one.own_get else "kernel"
    return f"{who}; relay" if one.live else who


def page(text: str) -> str:
    """Return the page's text with its tables made anew."""
    for name, made in (("calls", calls()), ("options", options())):
        start = f"<!-- {name}: made by make docs -->\n"
        before, found, after = text.partition(start)
        _, end, rest = after.partition("<!-- end -->")
        if not found or not end:
            sys.exit(f"make-docs: {PAGE} has no place for the table of {name}")
        text = before + start + made + end + rest
    return text


def main() -> int:
    """Write the page, or with --check compare it."""
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if sys.argv[1:] == ["--check"]:
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
