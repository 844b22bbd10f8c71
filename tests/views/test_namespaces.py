"""How network namespaces that a program makes in a view differ from Linux's."""

from __future__ import annotations

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where

# One namespace serves until its standard input ends; another connects to it.
_TWO = """
import socket, subprocess, sys
apart = ["unshare", "--map-root-user", "--net", sys.executable, "-c"]
serve = "import socket; s = socket.create_server(('127.0.0.1', 7000)); print(); input()"
connect = "import socket; print(socket.socket().connect_ex(('127.0.0.1', 7000)))"
pipe = subprocess.PIPE
with subprocess.Popen([*apart, serve], stdin=pipe, stdout=pipe, text=True) as server:
    server.stdout.readline()
    print(subprocess.run([*apart, connect], stdout=pipe, text=True).stdout.strip())
    server.communicate("\\n")
"""

_CLONE3 = """
import ctypes, os, socket, struct
flags, signal = 0x50000000, 17  # CLONE_NEWUSER | CLONE_NEWNET, SIGCHLD
packed = struct.pack("8Q", flags, 0, 0, 0, signal, 0, 0, 0)
arguments = ctypes.create_string_buffer(packed)
if (pid := ctypes.CDLL(None).syscall(435, arguments, 64)) == 0:
    os.write(1, " ".join(name for _, name in socket.if_nameindex()).encode())
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.fixture(autouse=True)
def _namespaces(user: User) -> None:
    if user.run(["unshare", "--user", "true"], "native").returncode:
        pytest.skip("users may not make namespaces on this machine")


def test_all_namespaces_of_a_view_are_one(user: User, where: Where) -> None:
    got = user.run([SYSTEM_PYTHON, "-c", _TWO], where)
    assert got.stdout == ("101\n" if where == "native" else "0\n"), got


def test_clone3_leaves_a_program_its_network(user: User, where: Where) -> None:
    got = user.run([SYSTEM_PYTHON, "-c", _CLONE3], where)
    assert got.stdout == ("lo" if where == "native" else "lo nat0"), got


def test_files_are_shown_in_another_pid_namespace(user: User) -> None:
    """Under ptrace a program takes them from a process that it has no number for."""
    cat = ["cat", "/etc/resolv.conf"]
    got = user.run(["unshare", "--user", "--pid", "--fork", *cat], "view")
    assert got.stdout == user.run(cat, "view").stdout
