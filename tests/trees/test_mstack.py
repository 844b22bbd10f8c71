"""mstack: a command with another default stack, and what inherits it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.lab import User, require
from tests.setting import UMVIEW

from .test_outside import view

pytestmark = pytest.mark.view
_MSTACK = str(UMVIEW.with_name("mstack"))
_HANDED = str(Path(__file__).parent / "programs" / "handed.py")
_NESTED = Path(__file__).parent / "programs" / "nested.py"
_STACKS = (
    "umnet,ip=10.9.0.1/24",
    "umnet,ip=10.9.0.2/24",
    "umnet,v4,ip=10.9.0.3/24",
    "umnetnull",
)
_SECOND, _FOURTH, _NULL = "/dev/net/umnet1", "/dev/net/umnet2", "/dev/net/umnetnull1"
_SHOW = ("ip", "-br", "addr", "show", "nat0")


@pytest.fixture(params=["seccomp", "ptrace"])
def tracer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _run(user: User, tracer: str, *command: str) -> subprocess.CompletedProcess[str]:
    modules = [word for stack in _STACKS for word in ("-p", stack)]
    argv = [str(UMVIEW), "--tracer", tracer, *modules, *command]
    return user.run(argv, "native", timeout=60)


def test_a_command_sees_the_cards_of_its_stack(user: User, tracer: str) -> None:
    require("ip")
    script = (
        "show='ip -br -4 addr show nat0'; $show\n"
        f"{_MSTACK} {_SECOND} $show\n"
        # other families stay where they were, netlink among them
        f"{_MSTACK} -o ipv4 {_SECOND} $show\n"
        f"{_MSTACK} -o n {_SECOND} $show\n"
        f"{_MSTACK} {_FOURTH} {_MSTACK} {_SECOND} $show\n"
        # a daemon whose parents have ended
        f"{_MSTACK} {_SECOND} sh -c '(while kill -0 $$; do sleep 0.01; done; '"
        "\"$show\"' >out; mv out done) 2>&- &'\n"
        "until [ -e done ]; do sleep 0.05; done; cat done\n"
    )
    said = _run(user, tracer, "sh", "-c", script)
    assert said.stderr == ""
    cards = [line.split()[2] for line in said.stdout.splitlines() if "nat0" in line]
    first, second = "10.9.0.1/24", "10.9.0.2/24"
    assert cards == [first, second, first, second, second, second]


def test_a_socket_stays_on_its_stack(user: User, tracer: str) -> None:
    command = (sys.executable, _HANDED, "/dev/net/default", _SECOND)
    said = _run(user, tracer, *command)
    assert said.stderr == ""
    assert said.stdout.splitlines() == [
        "10.9.0.1 10.9.0.1 10.9.0.2",
        "10.9.0.2 ('10.9.0.2', 80) 10.9.0.2 10.9.0.1",
        *["only there"] * 2,
        *["10.9.0.2"] * 3,
    ]


_TRY = """
import errno, socket, sys
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_UNIX):
    try:
        socket.socket(family, socket.SOCK_RAW if family == 16 else socket.SOCK_DGRAM)
        print("ok", end=" ")
    except OSError as exc:
        print(errno.errorcode[exc.errno], end=" ")
"""


@pytest.mark.parametrize(
    ("words", "outcome"),
    [
        ((_NULL,), ["EAFNOSUPPORT"] * 3 + ["ok"]),
        (("-o", "ip", _NULL), ["EAFNOSUPPORT"] * 3 + ["ok"]),
        (("-o", "-ipv4", _NULL), ["ok", "EAFNOSUPPORT", "EAFNOSUPPORT", "ok"]),
        (("-o", "#10", _NULL), ["ok", "EAFNOSUPPORT", "ok", "ok"]),
        ((_FOURTH,), ["ok"] * 4),
    ],
)
def test_families_of_a_list_and_no_others(
    user: User, words: tuple[str, ...], outcome: list[str]
) -> None:
    said = _run(user, "seccomp", _MSTACK, *words, sys.executable, "-c", _TRY)
    assert (said.stdout.split(), said.stderr) == (outcome, "")


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (("/dev/net/none", "true"), 125, "/dev/net/none: no stack is mounted there"),
        (("/etc/passwd", "true"), 125, "/etc/passwd: no stack, or one with none of: "),
        (("-o", "u", _SECOND, "true"), 125, "-o unix: unix sockets belong to no "),
        (("-o", "b", _SECOND, "true"), 125, f"{_SECOND}: no stack, or one without b"),
        (("-o", "6", _FOURTH, "true"), 125, f"{_FOURTH}: no stack, or one without i"),
        (("-o", "4x", _SECOND, "true"), 125, "-o: '4x' is no family; known words: "),
        (("-x", _SECOND, "true"), 125, "option -x not recognized; known options: "),
        ((_SECOND,), 125, "say a stack and a command: mstack "),
        ((_SECOND, "nobody-has-this"), 127, "nobody-has-this: command not found"),
        ((_SECOND, "/etc/passwd"), 126, "/etc/passwd: Permission denied"),
        ((_SECOND, "sh", "-c", "exit 7"), 7, ""),
        (("-v", "-o", "4,n", _SECOND, "true"), 0, f"{_SECOND} is the default for: i"),
    ],
)
def test_status_and_one_line(
    user: User, words: tuple[str, ...], status: int, why: str
) -> None:
    said = _run(user, "seccomp", _MSTACK, *words)
    assert said.returncode == status
    lines = said.stderr.splitlines()
    assert len(lines) == bool(why)
    assert "".join(lines).startswith(f"mstack: {why}" if why else "")


def test_from_outside_by_the_stacks_file(user: User, tracer: str) -> None:
    require("ip")
    with view(user, tracer, "umnet,ip=10.9.0.1/24") as (_, files):
        said = user.run([_MSTACK, str(files / "default"), *_SHOW], "native")
        assert said.stdout.split()[2] == "10.9.0.1/24", said
        said = user.run([_MSTACK, "/dev/net/none", "true"], "native")
        assert said.stderr == (
            "mstack: /dev/net/none: no such file, and this process is in no view\n"
        )


def test_defaults_within_each_other(user: User, tracer: str) -> None:
    """A view, a default, mstack, a view: each begins with what is around it."""
    require("ip")
    stacks = (
        "umnet,ip=10.9.1.1/24",
        "/dev/net/b=umnet,ip=10.9.1.2/24",
        "/dev/net/c=umnet,ip=10.9.1.3/24",
    )
    modules = [word for stack in stacks for word in ("-p", stack)]
    command = (sys.executable, str(_NESTED), str(UMVIEW), _MSTACK)
    said = _run(user, tracer, str(UMVIEW), *modules, *command)
    assert said.stderr == ""
    assert said.stdout.splitlines() == [
        "plain 10.9.1.1/24",
        "default 10.9.1.2/24",
        "mstack 10.9.1.3/24",
        "twice 10.9.1.1/24",
        "nested 10.9.2.1/24",
        "current 10.9.1.2/24",
        "both 10.9.1.3/24",
    ]
