"""What other process views of the network were seen to get wrong, row by row.

Programs that VUOS and its kin broke have to run here as they run natively: each probe
of programs/contract.py is run both ways, and says the same.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, require
from tests.setting import umview
from tests.trees.lab import PROGRAMS

pytestmark = pytest.mark.view

_GATES = Path(__file__).parents[1] / "views" / "programs" / "gates.c"
_FILES = 2000  # descriptors for the thousand, at either end
_TRACERS = pytest.mark.parametrize("tracer", ["seccomp", "ptrace"])
_NOSYS = "-38"
_MSOCKET = "30061"


def probe(case: str) -> list[str]:
    return [SYSTEM_PYTHON, str(PROGRAMS / "contract.py"), case]


def in_view(tracer: str, *command: str) -> list[str]:
    return umview("--tracer", tracer, *command)


def says_the_same(user: User, tracer: str, case: str) -> str:
    """Run a probe natively and in a view; return what both say."""
    command = ["prlimit", f"--nofile={2 * _FILES + 100}:", *probe(case)]
    natively = user.run(command, "native", timeout=60)
    there = user.run(in_view(tracer, *command), "native", timeout=120)
    assert natively.stderr == there.stderr == ""
    assert natively.returncode == there.returncode == 0
    assert there.stdout == natively.stdout
    return there.stdout


# ---- there every call is stopped; here none that has nothing to do with it ----


@_TRACERS
@pytest.mark.parametrize("options", ["", ",nofiles"])
def test_calls_of_other_things_are_not_stopped(
    user: User, tracer: str, options: str
) -> None:
    log = user.folder / "log"
    view = in_view(tracer, f"--trace={log}", "-p", f"umnet{options}")
    got = user.run([*view, *probe("other_calls")], "native", timeout=60)
    assert got.returncode == 0, got
    calls = [line.group(1) for line in re.finditer(r"(\w+)\(", log.read_text())]
    first = calls.index("socket")
    last = len(calls) - calls[::-1].index("socket")
    between = set(calls[first + 1 : last - 1])
    # of a view with files the opens for reading are looked at, too
    assert between <= (set() if options else {"open", "openat"})


# ---- there a socket is a regular file; here it is a socket ----


@_TRACERS
def test_socket_is_a_socket(user: User, tracer: str) -> None:
    assert says_the_same(user, tracer, "real_socket") == "True True\nTrue\n"


@_TRACERS
@pytest.mark.parametrize("case", ["handed_over", "forked"])
def test_socket_is_shared_between_processes(user: User, tracer: str, case: str) -> None:
    assert says_the_same(user, tracer, case)


# ---- there a blocking call costs a fork, and a copy keeps a connection ----


@_TRACERS
def test_blocking_calls_are_no_work_for_the_supervisor(user: User, tracer: str) -> None:
    got = user.run(in_view(tracer, *probe("round_trips")), "native", timeout=60)
    threads, waits = (int(line.split()[-1]) for line in got.stdout.splitlines())
    assert threads == 0
    assert waits < 200  # of the 2,000 receives that waited none was brought to it


@_TRACERS
def test_closing_closes(user: User, tracer: str) -> None:
    assert says_the_same(user, tracer, "closing") == "False\nb''\n"


# ---- there shutdown, accept and accept4 are wrong ----


@_TRACERS
@pytest.mark.parametrize(
    "case", ["shutting_down", "peer_over_ipv6", "accept_closed_on_exec"]
)
def test_calls_are_as_in_linux(user: User, tracer: str, case: str) -> None:
    assert says_the_same(user, tracer, case)


# ---- there ten clients of asyncio hang ----


@_TRACERS
@pytest.mark.parametrize(("case", "count"), [("ten", 10), ("thousand", 1000)])
def test_many_clients(user: User, tracer: str, case: str, count: int) -> None:
    assert says_the_same(user, tracer, f"{case}_clients") == f"{count}\n"


# ---- there a view in a view is none, with status 0 ----


@_TRACERS
def test_a_view_in_a_view_is_one(user: User, tracer: str) -> None:
    inner = umview("-p", "umnetlwipv6,wire=w,ip=10.9.8.7/24", "cat", "/proc/net/dev")
    got = user.run(in_view(tracer, *inner), "native", timeout=60)
    assert (got.returncode, got.stderr) == (0, "")
    cards = [line.split(":")[0].strip() for line in got.stdout.splitlines()[2:]]
    assert cards == ["lo", "wr0"]


def test_a_view_in_a_view_that_cannot_be_fails(user: User) -> None:
    inner = umview("-p", "umnet,nonsense", "echo", "ran")
    got = user.run(in_view("auto", *inner), "native", timeout=60)
    assert (got.returncode, got.stdout) == (125, "")
    assert len(got.stderr.splitlines()) == 1


# ---- there a card that cannot be had is no error, and the next command hangs ----


def test_a_card_that_cannot_be_had_is_an_error_at_once(user: User) -> None:
    view = umview("-p", "umnetlwipv6,vd0=tap://um-none,ip=10.9.8.7/24", "echo", "ran")
    got = user.run(view, "native", timeout=60)
    assert (got.returncode, got.stdout) == (125, "")
    assert len(got.stderr.splitlines()) == 1
    assert "tap://um-none" in got.stderr


# ---- there io_uring, openat2 and the calls of other ABIs go round the view ----


_OPENAT2 = """
import ctypes, os, struct
how = ctypes.create_string_buffer(struct.pack("=QQQ", os.O_RDONLY, 0, 0))
path = ctypes.c_char_p(b"/etc/resolv.conf")
call = ctypes.CDLL(None).syscall
print(os.read(call(437, -100, path, how, ctypes.c_size_t(24)), 100).split()[1].decode())
print(call(425, 8, ctypes.create_string_buffer(120)))
"""


@_TRACERS
def test_new_calls_do_not_go_round_the_view(user: User, tracer: str) -> None:
    command = [SYSTEM_PYTHON, "-c", _OPENAT2]
    got = user.run(in_view(tracer, *command), "native")
    assert got.stdout == "10.0.2.3\n-1\n", got


@_TRACERS
def test_other_abis_do_not_go_round_the_view(user: User, tracer: str) -> None:
    require("gcc")
    gates = str(user.folder / "gates")
    subprocess.run(["gcc", "-O1", "-o", gates, _GATES], check=True, timeout=60)

    def result(*words: str) -> str:
        return user.run(in_view(tracer, gates, *words), "native").stdout.strip()

    assert result("x32", "41", "2", "1", "0") == _NOSYS
    assert result("x32", _MSOCKET, "0", "2", "1", "0") == _NOSYS
    if int(user.run([gates, "i386", "20"], "native").stdout or -1) > 0:
        assert result("i386", "359", "2", "1", "0") == "-97"
        assert result("i386", _MSOCKET, "0", "2", "1", "0") == _NOSYS
