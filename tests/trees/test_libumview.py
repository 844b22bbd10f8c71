"""libumview: how programs are built with it, and what it does outside of views."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.lab import User, require

_TREE = Path(__file__).parents[2]
_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <umview/msocket.h>

int main(int argc, char **argv)
{
    int fd = msocket(argc > 1 ? argv[1] : NULL, AF_INET, SOCK_STREAM, 0);
    int made = msocket(NULL, PF_UNSPEC, SOCK_DEFAULT, 0);
    printf("%d %d", fd < 0 ? fd : 1, made);
    if (fd < 0 && msocket(argv[1], AF_INET, SOCK_STREAM, 0) < 0) {
        perror("");
        printf(" %s", umview_msocket_error());
    }
    return 0;
}
"""


def _said(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _config(*words: str) -> list[str]:
    command = [sys.executable, "-m", "umview.config", *words]
    return subprocess.check_output(command, text=True, timeout=60).split()


@pytest.fixture
def built(user: User) -> Path:
    """Build the program as the documentation says."""
    program = user.folder / "program"
    (user.folder / "program.c").write_text(_PROGRAM)
    _said(
        *("gcc", "-Wall", "-Werror", "-o", str(program)),
        *(str(user.folder / "program.c"), *_config("--cflags", "--libs")),
    )
    return program


def test_without_a_view_null_is_the_kernels_stack(built: Path) -> None:
    assert _said(str(built)) == "1 0"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nowhere", "/nowhere: no such file, and this process is in no view"),
        ("/etc/passwd", "/etc/passwd: no stack special file"),
    ],
)
def test_without_a_view_a_path_that_is_no_stack(
    built: Path, path: str, why: str
) -> None:
    assert _said(str(built), path) == f"-1 0 {why}"


def test_pkg_config_says_the_same(built: Path) -> None:
    require("pkg-config")
    (folder,) = _config("--pkgconfigdir")
    flags = _said("pkg-config", "--cflags", "--libs", "umview", PKG_CONFIG_PATH=folder)
    _said("gcc", "-o", f"{built}2", f"{built}.c", *flags.split())
    assert _said(f"{built}2") == "1 0"


def test_a_system_has_it_where_its_linker_looks(built: Path) -> None:
    root = built.parent / "root"
    _said(
        *("make", "-s", "-f", "csrc/libumview/Makefile", "-C", str(_TREE), "install"),
        *(f"OUT={built}.made", f"DESTDIR={root}", "PREFIX=/usr", "LIBDIR=/usr/lib"),
    )
    _said(
        *("gcc", "-o", f"{built}3", f"{built}.c", f"-I{root}/usr/include"),
        *(f"-L{root}/usr/lib", "-lumview"),
    )
    assert _said(f"{built}3", LD_LIBRARY_PATH=f"{root}/usr/lib") == "1 0"
    found = (root / "usr/lib/pkgconfig/umview.pc").read_text()
    assert "libdir=/usr/lib\n" in found


def test_only_what_is_public_can_be_seen() -> None:
    table = _said(
        "nm", "-D", "--defined-only", str(_TREE / "umview/lib/libumview.so.0")
    )
    names = {line.split()[-1] for line in table.splitlines()}
    assert names == {"msocket", "umview_msocket_error"}


def test_python_has_it_too() -> None:
    code = (
        "import sys, umview\n"
        "assert not {'ctypes', 'socket'} & set(sys.modules)\n"
        "import socket\n"
        "print(umview.msocket(None, socket.AF_INET6).family.name)\n"
        "print(umview.msocket(None, 0, umview.SOCK_DEFAULT))\n"
        "try: umview.msocket('/nowhere')\n"
        "except FileNotFoundError as exc: print(exc.strerror)\n"
    )
    assert _said(sys.executable, "-c", code).splitlines() == [
        "AF_INET6",
        "None",
        "/nowhere: no such file, and this process is in no view",
    ]
