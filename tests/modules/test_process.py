"""Who outlives whom: front, supervisor, command and what the command leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where, require
from tests.setting import TRACER

pytestmark = pytest.mark.view
_DEADLINE = 10.0

# What a process finds when it is started, apart from its network.
INHERITED = """
import os, resource, signal
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
print([n for n in range(1, 32) if n not in (9, 13, 19, 25)
       and signal.getsignal(n) is not signal.SIG_DFL])
print(resource.getrlimit(resource.RLIMIT_NOFILE), os.getcwd(), os.umask(0))
print(sorted(os.listdir('/proc/self/fd')), os.getsid(0) == os.getsid(os.getppid()))
"""


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs_python(pid: int) -> bool:
    """Tell whether a process that was started as umview has become so."""
    return "python" in os.readlink(f"/proc/{pid}/exe")


def views(user: User) -> list[str]:
    try:
        return sorted(os.listdir(user.runtime / "umview"))
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("how", ["plain", "nohup", "closed", "chld"])
def test_command_inherits_what_umview_was_given(user: User, how: str) -> None:
    def seen(where: Where) -> str:
        argv = user.command([SYSTEM_PYTHON, "-Sc", INHERITED], where)
        if how == "nohup":
            argv = ["/usr/bin/nohup", *argv]
        if how == "chld":
            argv = ["/bin/sh", "-c", 'trap "" CHLD; exec "$@"', "sh", *argv]
        if how == "closed":
            argv = ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *argv]
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            cwd=user.folder,
            env=user.environment(),
        ).stdout

    assert seen("view") == seen("native")


def test_pipe_ends_with_the_command_while_the_view_goes_on(user: User) -> None:
    script = "(read line < go) >/dev/null 2>&1 & echo done"
    os.mkfifo(user.folder / "go")
    user.own(user.folder / "go")
    run = user.run(["sh", "-c", script], "view")
    assert run.stdout == "done\n"
    assert len(views(user)) == 1
    (user.folder / "go").write_text("\n")
    wait_until(lambda: views(user) == [])


def test_output_that_the_command_closes_is_closed(user: User) -> None:
    script = "exec >&-; read line < go"
    os.mkfifo(user.folder / "go")
    user.own(user.folder / "go")
    with user.popen(["sh", "-c", script], "view", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.poll() is None
        (user.folder / "go").write_text("\n")
        assert process.wait(_DEADLINE) == 0


def test_nothing_is_left_once_umview_returns(user: User) -> None:
    user.run(["true"], "view")
    assert list(user.runtime.iterdir()) == []


def test_stop_by_a_signal_stops_umview_too(user: User) -> None:
    argv = ["sh", "-c", "echo; kill -STOP $$; exit 3"]
    with user.popen(argv, "view", stdout=subprocess.PIPE) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
        process.send_signal(signal.SIGCONT)
        assert process.wait(_DEADLINE) == 3


def test_command_ends_with_a_killed_umview(user: User) -> None:
    """As a kill of the command would end it; what it has started goes on."""
    require("ip")
    script = (
        "(read line < go; ip -o -4 addr show nat0 > seen) >/dev/null 2>&1 & "
        "echo; exec sleep 100"
    )
    os.mkfifo(user.folder / "go")
    user.own(user.folder / "go")
    with user.popen(["sh", "-c", script], "view", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait(_DEADLINE)
        assert process.stdout.read() == ""  # the command is gone too
    assert len(views(user)) == 1
    (user.folder / "go").write_text("\n")
    wait_until(lambda: views(user) == [])
    assert "10.0.2.15" in (user.folder / "seen").read_text()


def test_command_that_stands_still_ends_with_a_killed_umview(user: User) -> None:
    argv = ["sh", "-c", "echo; kill -STOP $$"]
    with user.popen(argv, "view", stdout=subprocess.PIPE) as process:
        os.waitpid(process.pid, os.WUNTRACED)
        process.kill()
        process.wait(_DEADLINE)
        wait_until(lambda: views(user) == [])


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.03, 0.05, 0.08])
def test_early_interrupt_is_silent_and_ends_all(user: User, delay: float) -> None:
    for _ in range(3):
        argv = user.command(["sleep", "20"], "view")
        with subprocess.Popen(
            argv,
            stderr=subprocess.PIPE,
            text=True,
            env=user.environment(),
            process_group=0,
        ) as process:
            wait_until(lambda: runs_python(process.pid))
            time.sleep(delay)  # any moment will do; what counts is that they differ
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=_DEADLINE)
        assert (said, process.returncode) in (("", -signal.SIGINT), ("", 130))
    wait_until(lambda: views(user) == [])


def test_next_umview_cleans_up_after_killed_ones(user: User) -> None:
    argv = ["sh", "-c", "echo $PPID; kill -STOP $$"]
    with user.popen(argv, "view", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        supervisor = int(process.stdout.readline())
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
        (command,) = map(int, children.read_text().split())
        os.kill(supervisor, signal.SIGSTOP)  # else it would clean up after the front
        for pid in (process.pid, command, supervisor):
            os.kill(pid, signal.SIGKILL)
        process.wait(_DEADLINE)
    assert len(views(user)) == 1
    # one that is being killed may take a moment to let go of its lock
    wait_until(lambda: user.run(["true"], "view").returncode == 0 and views(user) == [])


def test_name_in_use_is_one_line_and_125(user: User) -> None:
    def command(*argv: str) -> list[str]:
        with_p = user.command(list(argv), "view")
        at = with_p.index("-p")
        return [*with_p[:at], "-V", "box", *with_p[at:]]

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*argv),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=user.environment(),
        )

    first = subprocess.Popen(
        command("sh", "-c", "echo; exec cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=user.environment(),
    )
    with first:
        assert first.stdout is not None
        first.stdout.readline()
        assert views(user) == ["box"]
        second = run("true")
        assert first.stdin is not None
        first.stdin.close()
    assert second.returncode == 125
    (line,) = second.stderr.splitlines()
    assert line.startswith("umview: -V box")
    assert run("true").returncode == 0


def test_verbose_says_what_is_set_up(user: User) -> None:
    argv = user.command(["true"], "view")
    argv.insert(argv.index("-p"), "-v")
    run = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=user.environment(),
    )
    assert f"umview: tracer: {TRACER}" in run.stderr
    assert "10.0.2.15/24" in run.stderr
