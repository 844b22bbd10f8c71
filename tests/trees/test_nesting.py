"""umview in umview: what a nested view is made of, and how it ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.setting import TRACER, umview

pytestmark = pytest.mark.view
_DEADLINE = 30.0
_LONGEST = 240.0  # for what a program of a test says, on a machine that is slow
_MIB = 1 << 20
_OTHER = {"seccomp": "ptrace", "ptrace": "seccomp"}[TRACER]

ADDRESSES = "ip -o addr show scope global | awk '{print $4}' | sort | xargs"

# Answers each connection with a word; has the port before the next program starts.
SERVER = """
import os, socket, sys
address, word, *then = sys.argv[1:]
server = socket.create_server((address, 80))
if os.fork() == 0:
    if then:
        os.execvp(then[0], then)
    os._exit(0)
server.settimeout(30)
while True:
    client, peer = server.accept()
    with client:
        client.sendall(f"{word} {peer[0]}\\n".encode())
    if not then:
        break
    if peer[0] == os.environ.get("LAST"):
        break
"""
_SHOWS_AND_GOES_ON = f'{ADDRESSES}; exec "$@"'
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], 80), 30) as sock:
    print(sock.makefile().read(), end="")
"""


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ends(pid: int) -> bool:
    """Tell whether a process is gone, or about to be."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def nested(user: User, *words: str, outer: str = "umnet") -> list[str]:
    """Return what runs umview with these words in a view, from a test."""
    return user.command(umview("-p", outer, *umview(*words)), "native")


def run(
    user: User, *words: str, outer: str = "umnet"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        nested(user, *words, outer=outer),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=user.folder,
        env=user.environment(),
    )


@contextlib.contextmanager
def started(
    user: User, *words: str, outer: str = "umnet"
) -> Iterator[subprocess.Popen[str]]:
    """Start a nested view; the command's input ends with the block."""
    with running(user, umview("-p", outer, *umview(*words))) as process:
        yield process


@contextlib.contextmanager
def running(user: User, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        user.command(argv, "native"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=user.folder,
        env=user.environment(),
    ) as process:
        assert process.stdin
        assert process.stdout
        late = threading.Timer(_LONGEST, process.kill)  # it ends what is read, too
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            process.stdin.close()
            process.wait(_DEADLINE)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().rstrip("\n")


# ---- what it has ----


def test_nested_view_has_its_own_addresses(user: User) -> None:
    got = run(user, "-p", "umnet,v4,ip=10.7.0.1/24", "sh", "-c", ADDRESSES)
    assert (got.stdout, got.stderr, got.returncode) == ("10.7.0.1/24\n", "", 0)


def test_view_around_a_nested_one_keeps_its_own(user: User) -> None:
    script = f"{shlex.join(umview('-p', 'umnetnull', 'true'))}; {ADDRESSES}"
    got = user.run(["sh", "-c", script], "view", "v4")
    assert (got.stdout, got.stderr) == ("10.0.2.15/24\n", "")


def test_port_of_a_nested_view_is_its_own(user: User) -> None:
    server = [SYSTEM_PYTHON, "-Sc", SERVER, "127.0.0.1"]
    client = [SYSTEM_PYTHON, "-Sc", CLIENT, "127.0.0.1"]
    inner = umview("-p", "umnet", *server, "inner", *client)
    got = user.run([*server, "outer", *inner], "view", LAST="127.0.0.1", timeout=60)
    assert got.stdout == "inner 127.0.0.1\n", got


@pytest.mark.parametrize("levels", [1, 4])
def test_umnetcurrent_is_the_network_around(user: User, levels: int) -> None:
    inner = [SYSTEM_PYTHON, "-Sc", CLIENT, "10.0.2.15"]
    for _ in range(levels):
        inner = umview("-p", "umnetcurrent", *inner)
    server = [SYSTEM_PYTHON, "-Sc", SERVER, "10.0.2.15", "outer"]
    got = user.run([*server, *inner], "view", LAST="10.0.2.15", timeout=60)
    assert (got.stdout, got.stderr) == ("outer 10.0.2.15\n", "")


def test_umnetcurrent_outermost_is_the_hosts_network(user: User) -> None:
    show = ["cat", "/proc/net/fib_trie"]
    natively = user.run(show, "native").stdout
    got = user.run(umview("-p", "umnetcurrent", *show), "native")
    assert got.stdout == natively


def test_five_levels_have_five_networks(user: User) -> None:
    """Each with its own stack; the innermost one is on a wire to the outermost."""
    inner = [SYSTEM_PYTHON, "-Sc", CLIENT, "10.1.0.1"]
    for module in (
        "umnetlwipv6,wire=nest,ip=10.1.0.5/24",
        "umnet,v4,ip=10.4.0.1/24",
        "umnetnull",
        "umnet,v4,ip=10.2.0.1/24",
    ):
        show = 'echo none; exec "$@"' if module == "umnetnull" else _SHOWS_AND_GOES_ON
        inner = umview("-p", module, "sh", "-c", show, "sh", *inner)
    server = [SYSTEM_PYTHON, "-Sc", SERVER, "10.1.0.1", "outer", *inner]
    outer = umview("-p", "umnetlwipv6,wire=nest,ip=10.1.0.1/24", *server)
    got = user.run(outer, "native", LAST="10.1.0.5", timeout=60)
    assert got.stderr == ""
    assert got.stdout.split("\n") == [
        "10.2.0.1/24",
        "none",
        "10.4.0.1/24",
        "10.1.0.5/24",
        "outer 10.1.0.5",
        "",
    ]


# A hundred views, each with its own address and a server on port 80. The next ones are
# started when the last ones serve; all of them serve until the input ends.
SIBLINGS = """
import os, subprocess, sys
count, *umview = sys.argv[1:]
print(os.getppid(), flush=True)

def start(number):
    module = f"umnet,v4,ip=10.{number}.0.1/24"
    words = [*umview, "-p", module, "/usr/bin/python3", "-ISc", SERVES, str(number)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

SERVES = '''
import socket, sys
address = f"10.{sys.argv[1]}.0.1"
server = socket.create_server((address, 80))
client = socket.create_connection((address, 80))
peer, name = server.accept()
assert name == client.getsockname()
print(*name[:1], *peer.getsockname()[1:], flush=True)
sys.stdin.read()
'''

views = []
for first in range(0, int(count), 10):
    views += [start(number) for number in range(first, first + 10)]
    for view in views[first:]:
        print(view.stdout.readline().decode(), end="", flush=True)
sys.stdin.readline()
for view in views:
    view.stdin.close()
print(sum(view.wait() == 0 for view in views), flush=True)
"""


def test_hundred_siblings_have_a_server_on_port_80_each(user: User) -> None:
    count = 100
    program = [SYSTEM_PYTHON, "-ISc", SIBLINGS, str(count), *umview()]
    with running(user, umview("-p", "umnet", *program)) as process:
        supervisor = psutil.Process(int(line_of(process)))
        before = supervisor.memory_info().rss
        seen = [line_of(process) for _ in range(count)]
        grown = supervisor.memory_info().rss - before
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        assert line_of(process) == str(count)
    assert seen == [f"10.{number}.0.1 80" for number in range(count)]
    assert grown < count * _MIB


# ---- a failure to nest is a failure ----


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bad"], "option --bad"),
        (["-p", "umnope"], "unknown module 'umnope'"),
        (["-p", "umnetnull,x"], "umnetnull: unknown option 'x'"),
        (["-p", "umnetlwipv6,vd0=vde:///no/such/switch"], "vde:///no/such/switch"),
        (["-p", "umnetnative"], "the view around this one has not the host's network"),
        (["--trace"], "give it to the outermost umview"),
        (["--overlay"], "give it to the outermost umview"),
        (["-V", "a/b"], "a/b: a name is"),
        (["-V", "outer"], "outer: another view has this name"),
        (["--tracer", _OTHER], f"calls are stopped by {TRACER} here"),
    ],
    ids=[
        *("option", "module", "sense", "switch", "native"),
        *("trace", "overlay", "name", "taken", "tracer"),
    ],
)
def test_view_that_cannot_be_had_is_one_line_and_125(
    user: User, words: list[str], said: str
) -> None:
    inner = [word for word in umview() if word != TRACER or "--tracer" not in words]
    inner = [word for word in inner if word != "--tracer" or "--tracer" not in words]
    outer = umview("-V", "outer", "-p", "umnet", *inner, *words, "touch", "ran")
    got = user.run(outer, "native")
    assert got.returncode == 125
    (line,) = got.stderr.splitlines()
    assert line.startswith("umview: ")
    assert said in line
    assert not (user.folder / "ran").exists()


def test_native_network_in_a_view_that_has_it(user: User) -> None:
    got = run(user, "-p", "umnetnative", "echo", "in", outer="umnetnative")
    assert (got.stdout, got.stderr) == ("in\n", "")


def test_relative_words_name_files_of_the_users_directory(user: User) -> None:
    (user.folder / "ra").write_text("vd0 nonsense\n")
    got = run(user, "-p", "umnetlwipv6,wire=x,ra=ra", "true")
    assert "ra=ra: line 1" in got.stderr


def test_view_that_takes_long_keeps_nobody_waiting(user: User) -> None:
    """A network without an answer is asked for 20 seconds."""
    slow = shlex.join(umview("-p", "umnetlwipv6,wire=nobody,dhcp", "echo", "slow"))
    quick = shlex.join(umview("-p", "umnetnull", "echo", "quick"))
    script = f"{slow} & {quick}; {ADDRESSES}; kill -KILL $!"
    got = user.run(["sh", "-c", script], "view", "v4")
    assert got.stdout == "quick\n10.0.2.15/24\n", got


# ---- who outlives whom ----


def test_daemon_of_a_nested_view_stays_in_it(user: User) -> None:
    os.mkfifo(user.folder / "go")
    user.own(user.folder / "go")
    waits = shlex.quote(f"read line < go; {ADDRESSES} > seen")
    daemon = f"(setsid sh -c {waits}) >/dev/null 2>&1 &"
    inner = umview("-p", "umnet,v4,ip=10.7.0.1/24", "sh", "-c", f"{daemon} echo done")
    script = f"{shlex.join(inner)}; {ADDRESSES}"
    got = user.run(["sh", "-c", script], "view", "v4")
    assert got.stdout == "done\n10.0.2.15/24\n", got
    (user.folder / "go").write_text("\n")
    wait_until(lambda: not list(user.runtime.iterdir()))
    assert (user.folder / "seen").read_text() == "10.7.0.1/24\n"


def _keeper_of(command: int) -> psutil.Process:
    """Return the parent of a nested view's command."""
    parent = psutil.Process(command).parent()
    assert parent
    return parent


_SHOWS = "echo $$; while read line; do ip -o -4 addr show nat0 2>&1 | head -1; done"


def test_killed_keeper_takes_the_network_with_it(user: User) -> None:
    """Those that it kept are in no other view, and in no network."""
    inner = umview("-p", "umnet,v4,ip=10.7.0.1/24", "sh", "-c", _SHOWS)
    after = f"{shlex.join(inner)}; echo $?; {ADDRESSES}"
    with started(user, "-p", "umnetcurrent", "sh", "-c", after) as process:
        assert process.stdin
        keeper = _keeper_of(int(line_of(process)))
        process.stdin.write("\n")
        process.stdin.flush()
        assert "10.7.0.1/24" in line_of(process)
        keeper.kill()
        assert line_of(process) == "125"
        assert "10.0.2.15/24" in line_of(process)
        process.stdin.write("\n")
        process.stdin.flush()
        assert "Network is down" in line_of(process)
        process.stdin.close()
        assert process.stderr
        said = process.stderr.read()
    assert "the view's keeper ended (killed by signal 9)" in said


def test_killed_supervisor_is_told_by_every_front(user: User) -> None:
    with started(user, "-p", "umnet", "sh", "-c", "echo $$; read line") as process:
        keeper = _keeper_of(int(line_of(process)))
        supervisor = [*psutil.Process(keeper.pid).parents()][1]
        above = psutil.Process(process.pid).children()
        assert supervisor in above
        supervisor.kill()
        assert process.wait(_DEADLINE) == 125
        assert process.stdin
        process.stdin.close()  # what ran there goes on
        assert process.stderr
        said = process.stderr.read().splitlines()
        wait_until(lambda: ends(keeper.pid))
    assert said
    assert all(line.startswith("umview: the supervisor ended") for line in said), said


def test_killed_front_takes_the_command_with_it(user: User) -> None:
    with started(user, "-p", "umnet", "sh", "-c", "echo $$; cat") as process:
        command = int(line_of(process))
        front = _keeper_of(command).parent()
        assert front
        front.kill()
        assert process.wait(_DEADLINE) == 128 + signal.SIGKILL
        wait_until(lambda: ends(command))


def _descriptors(pid: int) -> int:
    """Count them, but for the threads that the switchboard remembers."""
    folder = f"/proc/{pid}/fd"
    found = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    return len([target for target in found if "pidfd" not in target])


def test_nothing_is_left_of_ended_views(user: User) -> None:
    """The supervisor has as many descriptors and threads as before."""
    inner = shlex.join(umview("-p", "umnetlwipv6,wire=x,nat0", "true"))
    script = f"echo $$; while read line; do {inner}; echo; done"
    with running(user, umview("-p", "umnet", "sh", "-c", script)) as process:
        assert process.stdin
        supervisor = _keeper_of(int(line_of(process)))
        for turn in range(4):
            process.stdin.write("\n")
            process.stdin.flush()
            line_of(process)
            if turn == 0:  # from now on all is there that is kept for the next ones
                before = supervisor.num_threads(), _descriptors(supervisor.pid)
        wait_until(
            lambda: (supervisor.num_threads(), _descriptors(supervisor.pid)) <= before
        )
        process.stdin.close()
        assert process.wait(_DEADLINE) == 0


# ---- names, and programs that run ----


def test_name_of_a_nested_view_is_free_again(user: User) -> None:
    inner = shlex.join(umview("-V", "box", "-p", "umnetnull", "echo", "in"))
    got = user.run(["sh", "-c", f"{inner}; {inner}"], "view")
    assert (got.stdout, got.stderr) == ("in\nin\n", "")


def test_program_of_a_view_enters_a_nested_one(user: User) -> None:
    enter = shlex.join(umview("-p", "umnet,v4,ip=10.7.0.1/24", "--pid")) + " $$"
    got = user.run(["sh", "-c", f"{enter}; {ADDRESSES}"], "view", "v4")
    assert (got.stdout, got.stderr) == ("10.7.0.1/24\n", "")


def test_program_outside_cannot_enter_a_nested_view(user: User) -> None:
    with user.popen(["sleep", "60"], "native") as outside:
        got = run(user, "-p", "umnet", "--pid", str(outside.pid))
    assert got.returncode == 125
    (line,) = got.stderr.splitlines()
    assert f"process {outside.pid} is no program of this view" in line


def test_verbose_says_what_is_set_up_in_a_nested_view(user: User) -> None:
    got = run(user, "-v", "-p", "umnet,ip=10.7.0.1/24", "true")
    assert "nat0 with 10.7.0.1/24" in got.stderr
    assert "10.0.2.15" not in got.stderr
