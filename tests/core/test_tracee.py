"""Calls run in a stopped thread, in C, under the address and undefined checks."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.apps.lab import require

_HERE = Path(__file__).parent
_CSRC = _HERE.parent.parent / "csrc" / "switchboard"


def test_injected_calls_leave_no_trace(tmp_path: Path) -> None:
    require("gcc")
    program = tmp_path / "check_tracee"
    sources = (_HERE / "check_tracee.c", _CSRC / "tracee.c")
    flags = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-fsanitize=address,undefined")
    subprocess.run(
        ["gcc", *flags, f"-I{_CSRC}", "-o", program, *sources], check=True, timeout=60
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 0
