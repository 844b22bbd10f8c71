"""The table of ports in C, alone, under the address and undefined-behaviour checks."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.apps.lab import require

_HERE = Path(__file__).parent
_CSRC = _HERE.parent.parent / "csrc" / "switchboard"


def test_ports_and_names_pass_their_checks(tmp_path: Path) -> None:
    require("gcc")
    program = tmp_path / "check_ports"
    sources = (_HERE / "check_ports.c", _CSRC / "ports.c", _CSRC / "names.c")
    flags = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-fsanitize=address,undefined")
    subprocess.run(["gcc", *flags, "-o", program, *sources], check=True, timeout=60)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 0
