"""Views with a module that is not umview's: its folder, as pip would leave it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.setting import Tracer

_SITE = """\
Metadata-Version: 2.1
Name: {0}
Version: 1
"""


def install(folder: Path, name: str, source: str) -> None:
    """Put a module of one file into a folder."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(_SITE.format(name))
    (info / "entry_points.txt").write_text(f"[umview.modules]\n{name} = {name}\n")


def command(tracer: Tracer, *words: str) -> list[str]:
    """Return the command line of umview, as a Python that finds such modules."""
    return [sys.executable, "-m", "umview.cli", "--tracer", tracer, *words]


def run(
    user: User, tracer: Tracer, folder: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run umview to its end."""
    return user.run(
        command(tracer, *words), "native", timeout=120, PYTHONPATH=str(folder)
    )


def python(source: str) -> tuple[str, ...]:
    """Return the command that runs a program."""
    return SYSTEM_PYTHON, "-c", source


def lines_of(path: Path) -> list[Any]:
    """Return what is in a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
