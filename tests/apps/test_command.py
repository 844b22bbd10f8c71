"""umview as a command: exit statuses, signals, streams, daemons, and several views."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence

import psutil
import pytest

from tests.apps.lab import (
    SYSTEM_PYTHON,
    Site,
    User,
    Where,
    free_port,
    require,
)
from tests.setting import IS_NESTED, umview

_RETRY = 0.01


def bash(script: str) -> list[str]:
    """Return the command that runs a script."""
    return ["bash", "-c", script]


@pytest.mark.parametrize("status", [0, 3, 77, 125, 255])
def test_exit_status_is_the_commands(user: User, where: Where, status: int) -> None:
    assert user.run(bash(f"exit {status}"), where).returncode == status


@pytest.mark.view
@pytest.mark.parametrize(
    ("command", "status"), [("/etc/passwd", 126), ("/no/such/program", 127)]
)
def test_exit_status_of_a_command_that_cannot_run(
    user: User, command: str, status: int
) -> None:
    got = user.run([command], "view")
    assert got.returncode == status
    assert len(got.stderr.splitlines()) == 1, got.stderr
    assert command in got.stderr


@pytest.mark.parametrize("what", ["TERM", "KILL", "SEGV", "USR1"])
def test_exit_status_names_the_signal(user: User, where: Where, what: str) -> None:
    script = f"bash -c 'ulimit -c 0; kill -{what} $$'; exit $?"
    status = 128 + getattr(signal, f"SIG{what}")
    if where == "native":
        assert user.run(bash(script), where).returncode == status
    else:
        got = user.run(bash(f"ulimit -c 0; kill -{what} $$"), where)
        assert got.returncode == status


@pytest.mark.view
@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("nosuchmodule", ["umnet", "umnetnull", "umnetnative"]),
        ("umnet,nosuchoption", ["fwd", "host", "ip", "gw", "dns", "nofiles"]),
        ("umnet,fwd=nonsense", ["fwd"]),
        ("umnet,ip=nonsense", ["ip"]),
    ],
    ids=["module", "option", "fwd", "ip"],
)
def test_mistake_in_an_option_is_one_line_and_125(
    user: User, module: str, named: Sequence[str]
) -> None:
    got = user.run(umview("-p", module, "true"), "native")
    assert got.returncode == 125
    assert got.stdout == ""
    assert len(got.stderr.splitlines()) == 1, got.stderr
    assert all(word in got.stderr for word in named), got.stderr


@pytest.mark.view
def test_forward_of_a_taken_port_is_one_line_and_125(user: User) -> None:
    taken = free_port()
    with user.popen(
        [SYSTEM_PYTHON, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(taken)],
        "native",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        got = user.run(["true"], "view", f"fwd={taken}:80")
        server.terminate()
    assert got.returncode == 125
    assert len(got.stderr.splitlines()) == 1, got.stderr
    assert str(taken) in got.stderr


@pytest.mark.view
def test_word_of_the_command_is_no_option_of_umview(user: User) -> None:
    got = user.run(["echo", "-p", "umnet", "--help", "-V", "ls", "--"], "view")
    assert got.stdout == "-p umnet --help -V ls --\n"
    assert got.returncode == 0


@pytest.mark.view
def test_null_network_has_no_family(user: User) -> None:
    script = (
        "import socket\n"
        "for family in (socket.AF_INET, socket.AF_INET6):\n"
        "    try:\n"
        "        socket.socket(family, socket.SOCK_STREAM)\n"
        "    except OSError as exc:\n"
        "        print(exc.errno)\n"
    )
    got = user.run(umview("-p", "umnetnull", SYSTEM_PYTHON, "-c", script), "native")
    assert got.stdout == "97\n97\n", got


@pytest.mark.view
def test_native_network_is_the_hosts(user: User) -> None:
    require("curl")
    host = Site(user, "host", "native")
    try:
        port = free_port()
        with host.serve(
            SYSTEM_PYTHON, "-m", "http.server", str(port), port=port, host="127.0.0.1"
        ):
            url = f"http://127.0.0.1:{port}/"
            fetch = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url]
            got = user.run(umview("-p", "umnetnative", *fetch), "native")
            assert got.stdout == "200", got
    finally:
        host.close()


def test_pipes_and_redirections(user: User, where: Where) -> None:
    got = user.run(["cat"], where, stdin="through a pipe\n")
    assert got.stdout == "through a pipe\n"
    got = user.run(bash("echo out; echo err >&2"), where)
    assert (got.stdout, got.stderr) == ("out\n", "err\n")
    got = user.run(
        bash("seq 100000 | sort -rn | head -1; echo ${PIPESTATUS[@]}"), where
    )
    assert got.stdout.startswith("100000\n")


def test_big_stream_passes_whole(user: User, where: Where) -> None:
    got = user.run(bash("head -c 50000000 /dev/zero | wc -c"), where)
    assert got.stdout.strip() == "50000000"


def test_extra_descriptor_is_inherited(user: User, where: Where) -> None:
    read_end, write_end = os.pipe()
    try:
        with user.popen(
            bash(f"echo 'by number' >&{write_end}"), where, pass_fds=(write_end,)
        ) as process:
            assert process.wait(20) == 0
        assert os.read(read_end, 100) == b"by number\n"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_command_dies_of_a_closed_pipe(user: User, where: Where) -> None:
    with user.popen(["yes"], where, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        status = process.wait(20)
    assert status in (-signal.SIGPIPE, 128 + signal.SIGPIPE)


@pytest.mark.parametrize("what", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_umview_reaches_the_command(
    user: User, where: Where, what: signal.Signals
) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(what)}, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with user.popen(
        [SYSTEM_PYTHON, "-c", script], where, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(what)
        assert process.wait(20) == 9


@pytest.mark.view
def test_two_views_serve_on_port_80_at_the_same_time(user: User) -> None:
    require("curl")
    ports = [free_port(), free_port()]
    views = [
        Site(user, f"view{number}", "view", f"fwd={port}:80")
        for number, port in enumerate(ports)
    ]
    try:
        for number, view in enumerate(views):
            www = view.folder / "www"
            www.mkdir()
            (www / "index.html").write_text(f"view {number}\n")
            view.begin(
                SYSTEM_PYTHON, "-m", "http.server", "--directory", str(www), "80"
            )
        for view in views:
            view.ask("reach", host="127.0.0.1", port=80, timeout=15)
        for number, port in enumerate(ports):
            url = f"http://127.0.0.1:{port}/"
            assert user.run(["curl", "-sS", url], "native").stdout == f"view {number}\n"
            got = views[number].run("curl", "-sS", "http://10.0.2.15/")
            assert got.out == f"view {number}\n"
    finally:
        for view in views:
            view.close()


@pytest.mark.view
def test_host_loopback_is_closed_unless_asked_for(user: User) -> None:
    require("curl")
    host = Site(user, "host", "native")
    try:
        port = free_port()
        with host.serve(
            SYSTEM_PYTHON, "-m", "http.server", "--bind", "::", str(port), port=port
        ):
            for address in ("10.0.2.2", "[fd00::2]", "127.0.0.1", "[::1]"):
                fetch = ["curl", "-sS", "-m", "5", f"http://{address}:{port}/"]
                assert user.run(fetch, "view").returncode in (7, 28), address
            fetch = ["curl", "-sS", "-o", "/dev/null", f"http://10.0.2.2:{port}/"]
            assert user.run(fetch, "view", "host").returncode == 0
    finally:
        host.close()


@pytest.mark.view
def test_daemon_that_forks_away_keeps_its_network(user: User) -> None:
    require("curl")
    port = free_port()
    pid_file = user.folder / "pid"
    daemon = (
        f"cd {user.folder}; setsid {SYSTEM_PYTHON} -m http.server 80"
        f" </dev/null >/dev/null 2>&1 & echo $! > {pid_file};"
        " until (: </dev/tcp/127.0.0.1/80) 2>/dev/null; do sleep 0.02; done"
    )
    got = user.run(bash(daemon), "view", f"fwd={port}:80")
    assert got.returncode == 0
    served = psutil.Process(int(pid_file.read_text()))
    try:
        url = f"http://127.0.0.1:{port}/pid"
        for _ in range(3):
            fetched = user.run(["curl", "-sS", url], "native")
            assert fetched.stdout == pid_file.read_text(), fetched
    finally:
        served.terminate()
    deadline = time.monotonic() + 5
    while user.run(["curl", "-sS", url], "native").returncode != 7:
        assert time.monotonic() < deadline, "the forward outlives the view"
        time.sleep(_RETRY)


@pytest.mark.view
def test_killed_supervisor_leaves_nothing_and_is_reported(user: User) -> None:
    """Kill every process of umview's own while a call waits: all must end."""
    with user.popen(
        bash("echo $$; exec nc -l 80"),
        "view",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as front:
        assert front.stdout is not None
        pid = int(front.stdout.readline())
        parents = psutil.Process(pid).parents()
        supervisor = next(process for process in parents if process.ppid() == front.pid)
        supervisor.kill()
        status = front.wait(10)
        assert front.stderr is not None
        said = front.stderr.read()
        with_end = psutil.pid_exists(pid)
        if with_end:
            psutil.Process(pid).terminate()
    assert status == 125, said
    assert len(said.splitlines()) >= 1


@pytest.mark.view
def test_killed_front_takes_the_command_along(user: User) -> None:
    with user.popen(
        bash("echo $$; exec sleep 60"), "view", stdout=subprocess.PIPE
    ) as front:
        assert front.stdout is not None
        command = psutil.Process(int(front.stdout.readline()))
        front.kill()
        front.wait(10)
        _, alive = psutil.wait_procs([command], timeout=5)
        for process in alive:
            process.kill()
    assert not alive, "the command goes on without the front"


@pytest.mark.view
@pytest.mark.skipif(IS_NESTED, reason="a nested view has no folder of its own")
def test_nothing_stays_in_tmp_where_no_runtime_directory_is(user: User) -> None:
    name = user.folder.name
    folder = f"/tmp/umview-{user.folder.stat().st_uid}/{name}"
    view = umview("-p", "umnet", "-V", name)
    got = user.run([*view, "ls", "-d", folder], "native", XDG_RUNTIME_DIR="")
    assert got.stdout == f"{folder}\n", got
    assert not os.path.exists(folder)


def _end_orphaned_sleeps(others: set[psutil.Process]) -> None:
    """End commands that live on without umview; they are ours when that has died.

    One that umview was just starting becomes "sleep" only later, or ends by itself.
    """
    deadline = time.monotonic() + 10
    while orphans := set(psutil.Process().children()) - others:
        assert time.monotonic() < deadline, orphans
        for process in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name() == "sleep":
                    process.kill()
        psutil.wait_procs(orphans, timeout=0.1)


@pytest.mark.view
@pytest.mark.parametrize("victim", ["front", "supervisor", "both"])
def test_sigkill_at_any_point_leaves_nothing(user: User, victim: str) -> None:
    """Kill umview's processes at moments spread over its start and a little after."""
    others = set(psutil.Process().children())
    for moment_ms in range(0, 200, 20):
        with user.popen(["sleep", "60"], "view", stderr=subprocess.DEVNULL) as front:
            with contextlib.suppress(subprocess.TimeoutExpired):
                front.wait(moment_ms / 1000)
            one = psutil.Process(front.pid)
            below = one.children(recursive=True)
            victims = {"front": [one], "supervisor": below[:1]}
            for process in victims.get(victim, [one, *below[:1]]):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if below or victim != "supervisor":
                front.wait(10)
        _end_orphaned_sleeps(others)
    # What the killed ones could not remove goes with the next view.
    assert user.run(["true"], "view").returncode == 0
