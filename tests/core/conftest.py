"""The library of the stack server, which the Makefile builds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .lab import BUILT, Lab, lab

_LIBRARY = BUILT / "libstackd.so"


@pytest.fixture(scope="session")
def library() -> Path:
    assert _LIBRARY.exists(), "the Makefile builds it before the tests"
    return _LIBRARY


@pytest.fixture
def pair(library: Path, tmp_path: Path) -> Iterator[Lab]:
    """Two stacks on a wire of MTU 1,500, whose addresses are there."""
    with lab(library, tmp_path) as one:
        one.ready()
        yield one
