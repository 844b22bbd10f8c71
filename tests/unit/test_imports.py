"""Imports go one way: from the command line down to bytes and errors."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = (
    {"pytest_plugin", "viewos"},
    {"network"},
    {"api", "cli", "ctl", "config", "ethernet", "mstack"},
    {"front", "doors"},
    {"keeper", "supervisor"},
    {"process"},
    {"requests"},
    {"changes", "nesting"},
    {"described", "ending"},
    {"views"},
    {"policies"},
    {"rc"},
    {"job", "names", "netlink", "ioctl", "sockdiag", "files"},
    {"procnet", "trace"},
    {"module", "tracer", "running", "runtime", "link", "dns_answer", "trace_args"},
    {"special"},
    {"enter"},
    {"control", "loop", "mark", "processes"},
    {"packets"},
    {"_ffi", "trace_names"},
    {"policy"},
    {"boundary", "view", "abi.inet_diag", "abi.ifreq"},
    {"abi.rtnetlink", "abi.sockaddr"},
    {"abi.shown"},
    {"abi"},
    {"errors", "_core", "_msocket"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SOURCES = sorted((ROOT / "umview").rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "umview").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of umview that a file imports when it runs."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "umview":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            top, _, below = (node.module or "").partition(".")
            if top == "umview":
                yield below


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    own = LEVEL.get(name_of(path), 0)
    for name in imported(path):
        if name != "__version__":
            assert LEVEL[name] > own, f"{name_of(path)} imports {name}"


def test_only_one_file_imports_the_core() -> None:
    assert [name_of(path) for path in SOURCES if "_core" in set(imported(path))] == [
        "_ffi"
    ]


def test_abi_touches_nothing_but_bytes() -> None:
    for path in (ROOT / "umview" / "abi").glob("*.py"):
        text = path.read_text()
        for module in ("os", "socket", "fcntl"):
            assert f"import {module}\n" not in text


def test_start_imports_nothing_slow() -> None:
    code = (
        "import sys, umview.cli, umview.front, umview.module\n"
        "umview.module.find('umnet')\n"
        "print(*sys.modules)"
    )
    paths = [str(ROOT), str(ROOT / "modules")]
    run = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path[:0] = {paths}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())
    slow = {"dns", "rich", "psutil", "pathlib", "argparse", "asyncio", "ctypes", "ssl"}
    slow |= {"ptrace", "json"}
    assert not loaded & slow
    assert "umview._ffi" not in loaded  # the front stays without the C core
