"""umview as pip installs it, with its stack server."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.lab import User

_TREE = Path(__file__).parents[2]
_PARTS = ("csrc", "modules", "scripts", "umview", "build/lwip")
_FILES = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
_START = "import sys, umview.cli; sys.exit(umview.cli.main())"
_BUILT = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
_SECONDS = 300  # two compilations


@pytest.mark.view
def test_an_installed_umview_has_its_stack_server(user: User) -> None:
    tree, place = user.folder / "tree", user.folder / "place"
    for part in _PARTS:
        shutil.copytree(_TREE / part, tree / part, ignore=_BUILT)
    for name in _FILES:
        shutil.copy(_TREE / name, tree)
    (tree / "umview" / "stackd").unlink()
    install = ["install", "-q", "--no-index", "--no-build-isolation", "--no-deps"]
    _run(user, "-m", "pip", *install, "--target", str(place), str(tree))
    options = "umnetlwipv6,wire=installed,ip=10.0.0.1/24"
    said = _run(
        user,
        *("-c", f"import sys; sys.path.insert(0, {str(place)!r}); {_START}"),
        *("-p", options, "ip", "-br", "addr"),
    )
    assert "10.0.0.1/24" in said
    assert (place / "umview" / "stackd").exists()
    _uses_the_library(user, place)


def _uses_the_library(user: User, place: Path) -> None:
    """Build a program with libumview, as pip has installed that, and run it."""
    source, program = user.folder / "null.c", user.folder / "null"
    source.write_text(
        "#include <umview/msocket.h>\n"
        "int main(void) { return msocket(0, 0, SOCK_DEFAULT, 0); }\n"
    )
    config = "import runpy; runpy.run_module('umview.config', run_name='__main__')"
    path = f"import sys; sys.path.insert(0, {str(place)!r}); {config}"
    flags = _run(user, "-c", path, "--cflags", "--libs").split()
    assert flags[0] == f"-I{place}/umview/include"
    subprocess.run(
        ["gcc", "-o", str(program), str(source), *flags], check=True, timeout=_SECONDS
    )
    subprocess.run([program], check=True, timeout=_SECONDS)


def _run(user: User, *words: str) -> str:
    """Run this Python, which has what umview depends on, as the user."""
    done = subprocess.run(
        user.command([sys.executable, *words], "native"),
        capture_output=True,
        text=True,
        check=False,
        cwd=user.folder,
        env=user.environment() | {"CFLAGS": "-O0"},  # quickly compiled
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
