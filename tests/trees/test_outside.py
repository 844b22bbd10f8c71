"""Processes outside of all views that open sockets on the stacks of one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import User
from tests.setting import UMVIEW

from .test_many_stacks import build, greeters

pytestmark = pytest.mark.view
_VISIT = Path(__file__).parent / "programs" / "visit.py"
_TALK = Path(__file__).parent / "programs" / "talk.c"
_NAME = "visited"
_SECONDS = 60


@pytest.fixture(params=["seccomp", "ptrace"])
def tracer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def view(
    user: User, tracer: str, *mounts: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a view until the block ends; yield it, and where its special files are."""
    modules = [word for mount in mounts for word in ("-p", mount)]
    process = subprocess.Popen(
        user.command(
            [
                *(str(UMVIEW), "-V", _NAME, "--tracer", tracer, *modules),
                *("sh", "-c", "echo up; read line"),
            ],
            "native",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=user.folder,
        env=user.environment(),
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield process, user.runtime / "umview" / _NAME / "net" / "0"
    finally:
        process.communicate(timeout=_SECONDS)


def _visit(user: User, file: Path, what: str) -> list[str]:
    argv = [sys.executable, str(_VISIT), str(file), what]
    said = user.run(argv, "native", timeout=_SECONDS)
    assert (said.stderr, said.returncode) == ("", 0)
    return said.stdout.splitlines()


def test_its_own_sockets_stay_the_kernels(user: User, tracer: str) -> None:
    with view(user, tracer, "umnet") as (_, files):
        assert _visit(user, files / "default", "sockets") == [
            "True True",
            "True",
            "True 80",
            "ECONNREFUSED",
            "80",
            "True True True",
        ]


def test_all_its_threads_enter_whatever_they_do(user: User, tracer: str) -> None:
    with view(user, tracer, "umnet") as (_, files):
        assert _visit(user, files / "default", "threads") == ["[True] True"]


def test_a_child_enters_alone(user: User, tracer: str) -> None:
    with view(user, tracer, "umnet") as (_, files):
        assert _visit(user, files / "default", "forks") == [
            "0.0.0.0",
            "0",
            "0.0.0.0",
            "0.0.0.0",
        ]


def test_its_stack_stays_when_the_command_has_ended(user: User, tracer: str) -> None:
    with view(user, tracer, "umnet") as (process, files):
        visitor = subprocess.Popen(
            user.command(
                [sys.executable, str(_VISIT), str(files / "default"), "stays"],
                "native",
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=user.folder,
            env=user.environment(),
        )
        assert visitor.stdout
        assert visitor.stdout.readline() == "in\n"
        process.communicate(timeout=_SECONDS)
        out, _ = visitor.communicate("\n", timeout=_SECONDS)
        assert out == "True\n"


def test_three_stacks_at_once(user: User, tracer: str) -> None:
    talk = build(user, _TALK)
    number = ("seccomp", "ptrace").index(tracer) + 3
    wires = (f"umnetlwipv6,wire={x},ip=10.0.0.{number}/24" for x in ("one", "two"))
    with (
        greeters(user) as port,
        view(user, tracer, "umnet,host", *wires) as (_, files),
    ):
        words = [str(files / "default"), "10.0.2.2", str(port)]
        words += [str(files / "umnetlwipv61"), "10.0.0.2", "80"]
        words += [str(files / "umnetlwipv62"), "10.0.0.2", "80"]
        said = user.run([talk, *words], "native", timeout=_SECONDS)
        assert (said.stdout, said.stderr) == (
            f"10.0.2.15 host\n10.0.0.{number} one\n10.0.0.{number} two\n",
            "",
        )


def test_what_cannot_be_is_said_in_a_line(user: User, tracer: str) -> None:
    with view(user, tracer, "umnet") as (process, files):
        file = files / "default"
        (said,) = _visit(user, file, "hidden")
        assert said.startswith(f"EPERM {file}: process ")
        file.chmod(0)
        (said,) = _visit(user, file, "hidden")
        assert said == f"EACCES {file}: Permission denied"
        # one that is in a view has its listener or its tracer already
        argv = [str(UMVIEW), "--tracer", tracer, sys.executable, str(_VISIT)]
        run = user.run([*argv, str(file), "hidden"], "native", timeout=_SECONDS)
        assert run.stdout.startswith("EAFNOSUPPORT ")
        process.communicate(timeout=_SECONDS)


def test_a_file_whose_supervisor_was_killed_is_no_stack(user: User) -> None:
    with view(user, "seccomp", "umnet") as (process, files):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        (supervisor,) = children.read_text().split()
        left = user.folder / "left"
        (files / "default").rename(left)
        subprocess.run(["kill", "-KILL", supervisor], check=True, timeout=_SECONDS)
        process.communicate(timeout=_SECONDS)
        assert _visit(user, left, "hidden") == [
            f"EAFNOSUPPORT {left}: the view of this stack has ended"
        ]
