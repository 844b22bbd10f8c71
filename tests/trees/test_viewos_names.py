"""The commands of View-OS: there by their own names, and doing what umctl does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import umview
from tests.apps.lab import SYSTEM_PYTHON, User

_BIN = Path(sys.prefix) / "bin"
_SECONDS = 60.0


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_BIN / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )


@pytest.mark.view
def test_services_are_modules(own: User) -> None:
    with umview.View("umnet"):
        assert _run("um_add_service", "umnetnull").stdout == "/dev/net/umnetnull1\n"
        listed = _run("um_ls_service").stdout.splitlines()
        assert [line.split()[0] for line in listed] == ["module", "umnet", "umnetnull"]
        assert _run("um_del_service", "umnetnull").returncode == 0
        assert len(_run("um_ls_service").stdout.splitlines()) == 2
        wrong = _run("um_del_service", "umnetnull")
        assert wrong.returncode == 125
        assert wrong.stderr.startswith("um_del_service: umnetnull: ")


@pytest.mark.view
def test_names_inside_and_outside(own: User) -> None:
    with umview.View("umnet,hostname=box") as view:
        assert _run("viewname").stdout == f"{view.name}\n"
        inside = view.run(
            [str(_BIN / "vuname"), "-n", "-V"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert inside.stdout == f"box {view.name}\n"
        assert _run("viewname", "other").returncode == 0
        assert _run("viewname", "-V", "other").stdout == "other\n"
        assert _run("vuname", "-s").stdout == f"{os.uname().sysname}\n"
        assert _run("viewname", view.name).returncode == 0


@pytest.mark.view
def test_a_program_is_attached_and_the_view_shut_down(own: User) -> None:
    code = "import sys, os; sys.stdin.read(1); os.system('ip -br addr'); input()"
    with (
        umview.View("umnet"),
        subprocess.Popen(
            [SYSTEM_PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as program,
    ):
        assert _run("um_attach", str(program.pid)).returncode == 0
        assert program.stdin
        assert program.stdout
        program.stdin.write(b"x")
        program.stdin.flush()
        assert b"127.0.0.1/8" in program.stdout.readline()
        assert b"10.0.2.15/24" in program.stdout.readline()
        assert _run("umshutdown", "5").returncode == 0
        assert program.wait(_SECONDS) != 0
    assert _run("um_attach", "x").returncode == 125


@pytest.mark.parametrize(
    "name",
    [
        *("um_add_service", "um_attach", "um_del_service", "um_ls_service"),
        *("umshutdown", "viewname", "vuname"),
    ],
)
def test_each_has_a_help_text(name: str) -> None:
    told = _run(name, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"Usage: {name} ")
