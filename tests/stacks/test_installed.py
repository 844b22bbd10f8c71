"""umview as pip installs it: programs, modules, stack server, library, plug-in."""

from __future__ import annotations

import faulthandler
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.apps.lab import User, require

pytestmark = pytest.mark.view
_TREE = Path(__file__).parents[2]
_PARTS = ("csrc", "modules", "scripts", "umview", "build/lwip")
_FILES = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
_BUILT = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
_SECONDS = 600  # two compilations
_PROJECT = tomllib.loads((_TREE / "pyproject.toml").read_text())["project"]
_CARD = "umnetlwipv6,wire=installed,ip=10.0.0.1/24"

# Has a name that only the stack at argv[1] lets it have.
_PROGRAM = """
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <umview/msocket.h>

int main(int argc, char **argv)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    int fd = msocket(argv[argc - 1], AF_INET, SOCK_STREAM, 0);
    if (fd < 0) {
        puts(umview_msocket_error());
        return 1;
    }
    inet_pton(AF_INET, "10.0.0.1", &name.sin_addr);
    puts(bind(fd, (struct sockaddr *)&name, sizeof name) == 0 ? "bound" : "not bound");
    return 0;
}
"""
_TEST = """
def test_it(view):
    assert view("umnetnull").run(["true"]).returncode == 0
"""
_LOAD = """
from importlib.metadata import entry_points
for one in entry_points(group="umview.modules"):
    print(one.name, hasattr(one.load(), "parse"))
"""


class _Installed:
    """An environment with an installed umview, and what that depends on."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._bin = user.folder / "place" / "bin"

    def run(self, program: str, *words: str) -> str:
        """Run one of its programs, or any other."""
        own = self._bin / program
        command = [str(own) if own.exists() else program, *words]
        done = subprocess.run(
            self._user.command(command, "native"),
            capture_output=True,
            text=True,
            check=False,
            cwd=self._user.folder,
            env=self._user.environment()
            | {"CFLAGS": "-O0", "PATH": f"{self._bin}:/usr/sbin:/usr/bin:/sbin:/bin"},
            timeout=_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _install(user: User) -> _Installed:
    """Install the tree into an environment of its own."""
    tree = user.folder / "tree"
    for part in _PARTS:
        shutil.copytree(_TREE / part, tree / part, ignore=_BUILT)
    (tree / "umview" / "stackd").unlink()
    for part in ("include", "lib"):
        shutil.rmtree(tree / "umview" / part)
    for name in _FILES:
        shutil.copy(_TREE / name, tree)
    installed = _Installed(user)
    place = str(user.folder / "place")
    installed.run(sys.executable, "-m", "venv", "--without-pip", place)
    # this Python's packages, but not what it has of umview
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(installed.run("python3", "-c", ask).strip())
    needed = user.folder / "needed.pth"
    needed.write_text(sysconfig.get_path("purelib") + "\n")
    installed.run("cp", str(needed), str(site))
    install = ["install", "-q", "--no-index", "--no-build-isolation", "--no-deps"]
    installed.run("python3", "-m", "pip", *install, str(tree))
    return installed


def test_an_installed_umview_has_all_its_parts(user: User) -> None:
    """One test, for the installation takes long."""
    # It may take longer than faulthandler_timeout, whose traces would only alarm.
    faulthandler.cancel_dump_traceback_later()
    require("pkg-config")
    installed = _install(user)
    here = installed.run("python3", "-c", "import umview; print(umview.__file__)")
    assert "/place/" in here

    for program in _PROJECT["scripts"]:
        assert "age: " in installed.run(program, "--help")
    loaded = installed.run("python3", "-c", _LOAD).split()
    names = _PROJECT["entry-points"]["umview.modules"]
    assert dict(zip(loaded[::2], loaded[1::2], strict=True)) == dict.fromkeys(
        names, "True"
    )

    (user.folder / "program.c").write_text(_PROGRAM)
    folder = installed.run("python3", "-m", "umview.config", "--pkgconfigdir").strip()
    flags = installed.run(
        "env",
        f"PKG_CONFIG_PATH={folder}",
        *("pkg-config", "--cflags", "--libs", "umview"),
    )
    config = installed.run("python3", "-m", "umview.config", "--cflags", "--libs")
    for one in (flags, config):
        installed.run("gcc", "-o", "program", "program.c", *one.split())

    script = "umctl name; mstack /dev/net/lan ip -br addr; ./program /dev/net/lan"
    said = installed.run(
        *("umview", "-V", "installed", "-p", "umnet", "-p", f"/dev/net/lan={_CARD}"),
        *("sh", "-c", script),
    )
    assert said.startswith("installed\n")
    assert "10.0.0.1/24" in said
    assert said.endswith("\nbound\n")

    (user.folder / "test_it.py").write_text(_TEST)
    said = installed.run("python3", "-m", "pytest", "-p", "no:cacheprovider", "-q")
    assert "1 passed" in said
