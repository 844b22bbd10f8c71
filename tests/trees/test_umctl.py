"""umctl: what is told of views, what can be changed while they run, and by whom."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import umview
from tests import setting
from tests.apps.lab import SYSTEM_PYTHON, User, require
from tests.switch import open_switch
from umview import doors
from umview.control import Door

_BIN = Path(sys.prefix) / "bin"
_SECONDS = 60.0
_LISTEN = """
import socket, sys, time
s = socket.create_server(("", 80))
print("listens", flush=True)
sys.stdin.read()
"""


def umctl(*words: str, command: str = "umctl") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_BIN / command), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )


def done(*words: str) -> str:
    """Return what umctl says, which has nothing to complain about."""
    told = umctl(*words)
    assert (told.stderr, told.returncode) == ("", 0), told
    return told.stdout


def refused(*words: str) -> str:
    """Return the one line of a umctl that fails."""
    told = umctl(*words)
    assert told.returncode == 125, told
    assert told.stdout == ""
    (line,) = told.stderr.splitlines()
    assert line.startswith("umctl: ")
    return line.removeprefix("umctl: ")


def listed(name: str) -> dict[str, Any]:
    (view,) = json.loads(done("ls", name, "--json"))
    assert isinstance(view, dict)
    return view


@pytest.fixture(params=["seccomp", "ptrace"])
def view(request: pytest.FixtureRequest, own: User) -> Iterator[umview.View]:
    with umview.View("umnet", tracer=request.param) as one:
        yield one


@pytest.fixture
def one(own: User) -> Iterator[umview.View]:
    """Give a view, where the tracer makes no difference."""
    with umview.View("umnet", tracer="seccomp") as view:
        yield view


# ---- which view ----


def test_ls_without_views_says_so(own: User) -> None:
    assert done("ls") == "no view runs\n"
    assert json.loads(done("ls", "--json")) == []


def test_a_view_that_is_not_there(own: User) -> None:
    missing = "no view is called nobody; `umctl ls` shows those that run"
    assert refused("ls", "nobody") == missing
    assert refused("attach", "nobody", "true") == missing
    assert refused("name") == "no view runs; start one with umview"


@pytest.mark.view
def test_of_several_views_one_has_to_be_named(own: User) -> None:
    with umview.View("umnetnull", name="a"), umview.View("umnetnull", name="b"):
        assert refused("modules") == "several views run, say which one: a, b"
        assert done("name", "-V", "b") == "b\n"
        assert [one["name"] for one in json.loads(done("ls", "--json"))] == ["a", "b"]


def test_whoever_is_another_user_is_not_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(str(tmp_path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(str(tmp_path / "control"))
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        if os.geteuid():
            assert door.accept() is None
            assert stranger.recv(1) == b""
    door.close()


# ---- ls ----


@pytest.mark.view
def test_ls_shows_what_is_in_a_view(view: umview.View) -> None:
    with view.popen(
        [SYSTEM_PYTHON, "-c", _LISTEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"listens\n"
        told = listed(view.name)
        table = done("ls", view.name)
        server.communicate()
    assert (told["name"], told["number"], told["parent"]) == (view.name, 0, None)
    assert told["modules"] == [
        {"module": "umnet", "options": "", "path": "/dev/net/default"}
    ]
    cards = {row["card"]: row for row in told["cards"]}
    assert cards["nat0"]["addresses"] == ["10.0.2.15/24", "fd00::15/64"]
    (sock,) = told["sockets"]
    assert (sock["protocol"], sock["state"]) == ("tcp", "listen")
    assert (sock["path"], sock["local"]) == ("/dev/net/default", "0.0.0.0:80")
    (running,) = [row for row in told["processes"] if "create_server" in row["command"]]
    for words in (
        f"{view.name}  {told['tracer']}, supervisor {told['keeper']}",
        "/dev/net/default  nat0  yes  65500  52:54:00:12:34:56  10.0.2.15/24 fd00::15",
        "/dev/net/default  tcp       listen  0.0.0.0:80  0.0.0.0:0",
        f"{running['pid']} ",
    ):
        assert words in table


@pytest.mark.view
def test_inside_a_view_only_that_one_is_seen(view: umview.View) -> None:
    ctl = str(_BIN / "umctl")
    with umview.View("umnetnull"):
        told = view.run(
            [ctl, "ls", "--json"], capture_output=True, text=True, check=True
        )
        assert [one["name"] for one in json.loads(told.stdout)] == [view.name]
        named = view.run([ctl, "name"], capture_output=True, text=True, check=True)
        assert named.stdout == f"{view.name}\n"
        other = view.run([ctl, "ls", "x"], capture_output=True, text=True, check=False)
        assert other.returncode == 125


# ---- mount and umount ----


def _addresses(view: umview.View, path: str) -> str:
    told = view.run(
        [str(_BIN / "mstack"), path, "ip", "-br", "addr"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{told.stdout}{told.stderr}"


@pytest.mark.view
def test_a_stack_is_mounted_and_unmounted_while_the_view_runs(
    view: umview.View,
) -> None:
    require("ip")
    path = "/dev/net/work"
    options = f"wire={view.name},ip=10.7.0.1/24"
    assert done("mount", "-t", "umnetlwipv6", "-o", options, "none", path) == ""
    assert "10.7.0.1/24" in _addresses(view, path)
    rows = json.loads(done("modules", "--json"))
    assert rows[1] == {"module": "umnetlwipv6", "options": options, "path": path}
    assert done("umount", path) == ""
    assert _addresses(view, path) == f"mstack: {path}: no stack is mounted there\n"
    assert len(json.loads(done("modules", "--json"))) == 1


@pytest.mark.view
def test_inside_a_view_stacks_are_mounted_too(view: umview.View) -> None:
    script = (
        "umctl mount -t umnet -o ip=10.5.0.1/24 none /dev/net/own && "
        "mstack /dev/net/own ip -br addr && umctl umount /dev/net/own && umctl modules"
    )
    environ = {**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}"}
    told = view.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, env=environ
    )
    assert "10.5.0.1/24" in told.stdout
    assert "/dev/net/own" not in told.stdout.splitlines()[-1]


@pytest.mark.view
def test_a_stack_that_cannot_be_mounted_is_refused_in_one_line(
    one: umview.View,
) -> None:
    before = listed(one.name)["modules"]
    for words, said in (
        (("-t", "umnet", "none", "work"), "work: give an absolute path"),
        (("-t", "umnet", "none", "/dev/net/../x"), "/dev/net/../x: give an absolute"),
        (("-t", "umnet", "none", "/dev/net/default"), "umount it first"),
        (("-t", "umnope", "none", "/dev/net/x"), "unknown module 'umnope'"),
        (("-t", "umnet", "-o", "nope", "none", "/dev/net/x"), "option 'nope'"),
        (("-t", "umnet", "-o", "fwd=1:1", "none", "/dev/net/x"), "umnet: fwd: "),
        (("-t", "umnet", "none"), "the following arguments are required: PATH"),
        ((), "the following arguments are required: -t, SOURCE, PATH"),
        (
            ("-t", "umnetlwipv6", "-o", "vd0=vde:///nowhere", "none", "/dev/net/x"),
            "vde_switch -s /nowhere starts one",
        ),
        (
            ("-t", "umnetlwipv6", "-o", "vd0=tap://um0", "none", "/dev/net/x"),
            "vd0: cannot plug into tap://um0",
        ),
    ):
        assert said in refused("mount", *words)
    assert "no stack is mounted there" in refused("umount", "/dev/net/x")
    assert listed(one.name)["modules"] == before


@pytest.mark.view
def test_umount_of_a_stack_in_use_says_who_uses_it(view: umview.View) -> None:
    path = "/dev/net/work"
    done("mount", "-t", "umnet", "-o", "ip=10.7.0.1/24", "none", path)
    with view.popen(
        [str(_BIN / "mstack"), path, SYSTEM_PYTHON, "-c", _LISTEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout
        assert server.stdout.readline() == b"listens\n"
        pid = listed(view.name)["processes"]
        (holder,) = (row["pid"] for row in pid if "create_server" in row["command"])
        assert refused("umount", path) == (
            f"{path}: 1 socket is on it, of process {holder} (python3): "
            "end what has them, or umount -l"
        )
        assert len(listed(view.name)["modules"]) == 2
        assert done("umount", "-l", path) == ""
        assert len(listed(view.name)["modules"]) == 1
        assert "no stack is mounted there" in _addresses(view, path)
        done("mount", "-t", "umnet", "-o", "ip=10.8.0.1/24", "none", path)
        server.communicate()
    assert "10.8.0.1/24" in _addresses(view, path)
    done("umount", path)


@pytest.mark.view
def test_mounting_again_and_again_leaves_nothing(one: umview.View) -> None:
    supervisor = psutil.Process(listed(one.name)["keeper"])
    found = doors.find(one.name)

    def around(text: str) -> None:
        found.caller.ask("mount", text=text, path="/dev/net/x")
        found.caller.ask("umount", path="/dev/net/x")

    texts = ("umnet,host", "umnetnull", f"umnetlwipv6,wire={one.name}")
    for text in texts:
        around(text)
    before = supervisor.num_fds()
    children = len(supervisor.children())
    for text in texts * 10:
        around(text)
    # what measures datagrams is made once, whenever the first one comes
    assert supervisor.num_fds() in (before, before + 2)
    found.caller.close()
    assert len(supervisor.children()) == children


@pytest.mark.view
def test_a_mount_that_waits_keeps_nobody_waiting(one: umview.View, own: User) -> None:
    """Nobody answers DHCP there, so this would fail after 20 s."""
    require("vde_switch")
    with open_switch(own) as switch:
        options = f"vd0={switch.vnl},dhcp"
        words = ["mount", "-t", "umnetlwipv6", "-o", options, "none", "/dev/net/lan"]
        with subprocess.Popen(
            [str(_BIN / "umctl"), *words], stderr=subprocess.PIPE, text=True
        ) as waiting:
            assert waiting.stderr
            assert waiting.stderr.readline() == "mount: this takes a while\n"
            assert done("name") == f"{one.name}\n"
            told = one.run(
                ["ip", "-br", "addr"], capture_output=True, text=True, check=True
            )
            assert "nat0" in told.stdout  # Python has answered that
            assert waiting.poll() is None
            waiting.terminate()
        assert len(listed(one.name)["modules"]) == 1


# ---- modules ----


@pytest.mark.view
def test_modules_are_loaded_listed_and_unloaded(one: umview.View) -> None:
    assert done("add", "umnetnull") == "/dev/net/umnetnull1\n"
    assert done("add", "umnet,host") == "/dev/net/umnet1\n"
    table = done("modules").splitlines()
    assert table[0].split() == ["module", "options", "path"]
    assert [line.split() for line in table[1:]] == [
        ["umnet", "/dev/net/default"],
        ["umnetnull", "/dev/net/umnetnull1"],
        ["umnet", "host", "/dev/net/umnet1"],
    ]
    assert "say which one: /dev/net/default, /dev/net/umnet1" in refused("del", "umnet")
    assert done("del", "/dev/net/umnet1") == ""
    assert done("del", "umnetnull") == ""
    assert "the view has no such" in refused("del", "umnetnull")
    assert "unknown module 'nope'" in refused("add", "nope")
    assert "umnetlwipv6" in done("modules", "--known").splitlines()


# ---- names ----


@pytest.mark.view
def test_a_view_gets_another_name(one: umview.View) -> None:
    old = one.name
    assert done("name", "another") == ""
    assert done("name", "-V", "another") == "another\n"
    assert "no view is called" in refused("name", "-V", old)
    assert "a name is up to 64" in refused("name", "no/name")
    with umview.View("umnetnull", name="third"):
        taken = "another: a view of this name is running; choose another name"
        assert refused("name", "-V", "third", "another") == taken
        assert "a view of this name" in refused("name", "-V", "third", old)
    done("name", old)
    with umview.View("umnetnull", name="another"):
        assert "a view of this name" in refused("name", "-V", old, "another")


# ---- enter ----


@pytest.mark.view
def test_attach_runs_a_command_in_the_view(view: umview.View) -> None:
    told = umctl("attach", view.name, "sh", "-c", "ip -br addr; exit 7")
    assert "10.0.2.15/24" in told.stdout
    assert told.returncode == 7


@pytest.mark.view
def test_attach_lets_a_running_program_enter(one: umview.View) -> None:
    code = "import sys, os; sys.stdin.read(1); os.system('ip -br addr')"
    with subprocess.Popen(
        [SYSTEM_PYTHON, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        done("attach", one.name, "--pid", str(program.pid))
        out, _ = program.communicate(b"x", timeout=_SECONDS)
    assert b"10.0.2.15/24" in out


@pytest.mark.view
def test_attach_of_what_cannot_be_is_refused(one: umview.View) -> None:
    for words, said in (
        ((), "name a command to run, or give --pid PID"),
        (("--pid",), "give one process id"),
        (("--pid", "x"), "x: a process id is a number"),
        (("--pid", "99999999"), "there is no process 99999999"),
        (("--pid", "1", "true"), "give one process id"),
    ):
        assert said in refused("attach", one.name, *words)
    for word, status, said in (
        ("/nowhere", 127, "No such file or directory"),
        ("/etc", 126, "Permission denied"),
    ):
        told = umctl("attach", one.name, word)
        assert (told.returncode, told.stderr) == (status, f"umctl: {word}: {said}\n")


@pytest.mark.view
def test_attach_of_a_command_that_is_none_ends_as_in_a_shell(one: umview.View) -> None:
    for command, status, why in (
        ("nope-there-is-none", 127, "No such file or directory"),
        ("/etc/passwd", 126, "Permission denied"),
    ):
        told = umctl("attach", one.name, command)
        assert told.returncode == status
        assert told.stderr == f"umctl: {command}: {why}\n"


# ---- views inside of views ----


@pytest.fixture
def inner(view: umview.View) -> Iterator[str]:
    """Give the name of a view inside of one, with one more inside."""
    nested = setting.umview("-V", "innermost", "-p", "umnetnull", "sleep", "600")
    script = f"{shlex.join(nested)} & echo up; exec sleep 600"
    command = setting.umview("-V", "inner", "-p", "umnet,ip=10.7.0.1/24")
    with view.popen([*command, "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        end = time.monotonic() + _SECONDS
        while len(json.loads(done("ls", "inner", "--json"))) < 2:
            assert time.monotonic() < end
        yield "inner"
        umctl("shutdown", "-V", "inner", "0")
        process.wait(_SECONDS)


@pytest.mark.view
def test_a_view_inside_another_is_told_of_and_changed(
    view: umview.View, inner: str
) -> None:
    outermost, middle, last = json.loads(done("ls", "--json"))
    assert (middle["name"], middle["parent"]) == ("inner", outermost["number"])
    assert (last["name"], last["parent"]) == ("innermost", middle["number"])
    assert [row["command"] for row in last["processes"]] == ["sleep 600"]
    assert "10.7.0.1/24" in done("attach", "inner", "ip", "-br", "addr")
    inside = json.loads(done("attach", "inner", str(_BIN / "umctl"), "ls", "--json"))
    assert [one["name"] for one in inside] == ["inner", "innermost"]
    outside = umctl("attach", "inner", str(_BIN / "umctl"), "ls", view.name)
    assert outside.returncode == 125
    done("mount", "-V", "inner", "-t", "umnet", "none", "/dev/net/more")
    assert len(json.loads(done("modules", "-V", "inner", "--json"))) == 2
    assert len(json.loads(done("modules", "-V", view.name, "--json"))) == 1
    done("umount", "-V", "inner", "/dev/net/more")
    assert "another view has this name" in refused("name", "-V", "inner", view.name)


@pytest.mark.view
def test_a_view_inside_another_is_shut_down_alone(
    view: umview.View, inner: str
) -> None:
    done("shutdown", "-V", inner)
    (left,) = json.loads(done("ls", "--json"))
    assert left["name"] == view.name
    assert view.run(["true"], check=False).returncode == 0


# ---- the end ----


@pytest.mark.view
def test_shutdown_ends_everybody_and_waits_for_it(own: User, view: umview.View) -> None:
    stubborn = "trap '' TERM; echo up; while :; do sleep 1; done"
    with view.popen(["sh", "-c", stubborn], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        begin = time.monotonic()
        done("shutdown", "0.5")
        assert time.monotonic() - begin >= 0.5
        assert process.wait(_SECONDS) in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert not (own.runtime / "umview" / view.name).exists()
    assert done("ls") == "no view runs\n"


@pytest.mark.view
def test_nonsense_is_refused_in_one_line(one: umview.View) -> None:
    for words, said in (
        ((), "the following arguments are required: COMMAND"),
        (("nope",), "invalid choice: 'nope'"),
        (("ls", "--nope"), "--nope"),
        (("shutdown", "soon"), "soon: give a number of seconds"),
        (("shutdown", "nan"), "nan: give a number of seconds"),
        (("shutdown", "--", "-1"), "-1: give a number of seconds"),
    ):
        assert said in refused(*words)
    assert done("name") == f"{one.name}\n"


@pytest.mark.view
def test_requests_that_are_nonsense_are_refused(one: umview.View) -> None:
    caller = doors.find(one.name).caller
    for data in (b"nonsense", b"[]", b'{"do": "nope"}', b'{"do": "name"}', b"\xff"):
        caller.sock.send(data)
        assert "error" in json.loads(caller.sock.recv(1 << 16))
    caller.close()
    assert done("name") == f"{one.name}\n"


@pytest.mark.view
def test_the_log_is_kept_and_followed(one: umview.View) -> None:
    assert "tracer: seccomp" in done("log")
    with subprocess.Popen(
        [str(_BIN / "umctl"), "log", "-f"], stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout
        while "tracer: " not in following.stdout.readline():
            pass
        done("mount", "-t", "umnet", "none", "/dev/net/x")
        while "umnet, lo with" not in (line := following.stdout.readline()):
            assert line
        one.shutdown()
        following.communicate(timeout=_SECONDS)
        assert following.returncode == 0


def test_help_names_every_command_and_shows_examples() -> None:
    text = done("--help")
    for word in ("ls", "mount", "umount", "add", "del", "modules", "name", "attach"):
        assert f"\n    {word} " in text
        assert done(word, "--help").startswith(f"Usage: umctl {word}")
    assert "Examples:" in text
