"""One process, sockets on many stacks: in C, Python, Go and Perl."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, built_go, free_port, require
from tests.setting import UMVIEW
from tests.stacks.lab import open_host

pytestmark = pytest.mark.view
_PROGRAMS = Path(__file__).parent / "programs"
_EXAMPLES = Path(__file__).parents[2] / "examples" / "msocket"
_ROOM = (SYSTEM_PYTHON, str(_PROGRAMS / "greeter.py"))
_TRACERS = ("seccomp", "ptrace")
_FIRST, _SECOND, _THIRD = (
    "/dev/net/default",
    "/dev/net/umnetlwipv61",
    "/dev/net/umnetlwipv62",
)


def build(user: User, source: Path) -> str:
    """Build a program that uses libumview, as the documentation says."""
    config = [sys.executable, "-m", "umview.config", "--cflags", "--libs"]
    flags = subprocess.check_output(config, text=True, timeout=60).split()
    program = user.folder / source.stem
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-o", str(program), str(source), *flags],
        check=True,
        timeout=60,
    )
    return str(program)


def in_view(tracer: str, mounts: Sequence[str], *command: str) -> list[str]:
    """Return what runs a command in a view with these stacks."""
    modules = [word for mount in mounts for word in ("-p", mount)]
    return [str(UMVIEW), "--tracer", tracer, *modules, *command]


@contextlib.contextmanager
def greeters(user: User) -> Iterator[int]:
    """Let somebody greet on the host, and on either of two wires at the same address.

    Yields:
        The port on the host; it is 80 on the wires.
    """
    port = free_port()
    with (
        open_host(user, "one", "wire=one,ip=10.0.0.2/24") as one,
        open_host(user, "two", "wire=two,ip=10.0.0.2/24") as two,
        one.serve(*_ROOM, "80", "one", says="greets"),
        two.serve(*_ROOM, "80", "two", says="greets"),
        user.popen(
            [*_ROOM, str(port), "host"], "native", stdout=subprocess.PIPE
        ) as host,
    ):
        assert host.stdout
        assert host.stdout.readline() == "greets\n"
        yield port


def test_one_process_talks_over_three_stacks_at_once(user: User) -> None:
    """On two of them own and peer's address are the same.

    Each run has an address of its own: to its peers it is another host, whose
    connections are not those that the last one left behind.
    """
    programs = (
        [build(user, _PROGRAMS / "talk.c")],
        [sys.executable, str(_PROGRAMS / "talk.py")],
    )
    runs = itertools.product(programs, _TRACERS)
    with greeters(user) as port:
        to = [_FIRST, "10.0.2.2", str(port)]
        to += [_SECOND, "10.0.0.2", "80", _THIRD, "10.0.0.2", "80"]
        for number, (program, tracer) in enumerate(runs, 3):
            own = f"10.0.0.{number}"
            wires = (f"umnetlwipv6,wire={x},ip={own}/24" for x in ("one", "two"))
            argv = in_view(tracer, ("umnet,host", *wires), *program, *to)
            said = user.run(argv, "native", timeout=60)
            assert (said.stdout, said.stderr) == (
                f"10.0.2.15 host\n{own} one\n{own} two\n",
                "",
            )


@pytest.mark.parametrize("language", ["c", "py"])
def test_the_example_leads_from_one_network_to_another(
    user: User, language: str
) -> None:
    source = _EXAMPLES / f"proxy.{language}"
    proxy = [build(user, source)] if language == "c" else [sys.executable, str(source)]
    port = free_port()
    mounts = ("umnet,host", "umnetlwipv6,wire=lan,ip=10.0.0.1/24")
    argv = in_view(
        "seccomp",
        mounts,
        *(*proxy, _SECOND.replace("2", "1"), "80", _FIRST, "10.0.2.2", str(port)),
    )
    ask = "import socket; s = socket.create_connection(('10.0.0.1', 80), 30)\n"
    ask += "s.sendall(b'hello'); print(s.recv(99).decode(), end='')"
    with (
        user.popen(
            [*_ROOM, str(port), "host"], "native", stdout=subprocess.PIPE
        ) as host,
        user.popen(argv, "native", stdout=subprocess.PIPE) as process,
        open_host(user, "lan", "wire=lan,ip=10.0.0.2/24") as guest,
    ):
        assert host.stdout
        assert process.stdout
        assert host.stdout.readline() == "greets\n"
        assert "leads to" in process.stdout.readline()
        said = guest.run(SYSTEM_PYTHON, "-c", ask)
        assert said.out == "host\n"
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("tracer", _TRACERS)
def test_other_languages_say_the_number(user: User, tracer: str) -> None:
    """What a static Go program and Perl know of umview is one number."""
    require("perl")
    mounts = ("umnet,ip=10.9.0.1/24", "umnet,ip=10.9.0.2/24")
    perl = ["perl", str(_PROGRAMS / "names.pl")]
    with built_go(str(_PROGRAMS / "names.go"), cgo=False) as go:
        for program in (perl, [str(go)]):
            argv = in_view(tracer, mounts, *program, _FIRST, "/dev/net/umnet1")
            said = user.run(argv, "native", timeout=60)
            assert (said.stdout, said.stderr) == ("10.9.0.1 10.9.0.2\n", "")
