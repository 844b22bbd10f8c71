"""What tests of trees of views share: programs that call msocket."""

from __future__ import annotations

import sys
from pathlib import Path

NR_MSOCKET = 30061
PROGRAMS = Path(__file__).parent / "programs"


def program(name: str, *args: str) -> list[str]:
    """Return the command of a program of the tests' in Python."""
    return [sys.executable, str(PROGRAMS / name), *args]
