"""Fixtures for all tests: an ordinary user's folder, and a check that nothing stays."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.apps.lab import PLACES, Place, User, Where, open_place, place_params

_PR_SET_CHILD_SUBREAPER = 36
_LEAVE_TIME = 5.0


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> None:
    """Let programs start with the signals of a terminal, however the tests were.

    Who is started in the background by a script, or by nohup(1), ignores some, and so
    do all that it starts.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _sanitised_stackd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the stack server of the tests has checks built in, see what they report.

    UMVIEW_STACKD names its folder. It writes to UMVIEW_REPORTS, a file for each process
    (tests/core/sanitised.c); those of a root's test run belong to "nobody".
    """
    folder = os.environ.get("UMVIEW_STACKD")
    if not folder:
        yield
        return
    reports = tmp_path_factory.mktemp("reports")
    reports.chmod(0o777)
    os.environ["UMVIEW_STACKD"] = str(Path(folder).resolve())
    os.environ["UMVIEW_REPORTS"] = str(reports)
    yield
    said = [path.read_text(errors="replace") for path in reports.iterdir()]
    assert "".join(said) == ""


@pytest.fixture(scope="session")
def _reaper() -> None:
    """Make processes that lose their parent ours, so that the leak check sees them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@contextlib.contextmanager
def _ordinary_user() -> Iterator[User]:
    """Give an ordinary user with an own folder, and see that nothing of his stays.

    The folder's name is short: paths of unix sockets are made in it. At the end every
    process that was started meanwhile must be gone, and umview's part of the runtime
    directory and of the world's temporary directory must be as it was.
    """
    before = _children()
    with tempfile.TemporaryDirectory(prefix="umt-", ignore_cleanup_errors=True) as name:
        ordinary = User(Path(name), Path(name, "run"))
        ordinary.runtime.mkdir(0o700)
        for path in (ordinary.folder, ordinary.runtime):
            ordinary.own(path)
        uid = ordinary.folder.stat().st_uid
        in_tmp = _ours_in_tmp(uid)
        yield ordinary
        _check_processes(before)
        ours = ordinary.runtime / "umview"
        left = sorted(path.name for path in ours.rglob("*"))
        assert not left, f"left in the runtime directory: {left}"
        left = sorted(_ours_in_tmp(uid) - in_tmp)
        assert not left, f"left in /tmp/umview-{uid}: {left}"


@pytest.fixture
def user(_reaper: None) -> Iterator[User]:
    """Give a test its ordinary user."""
    with _ordinary_user() as ordinary:
        yield ordinary


@pytest.fixture(scope="module")
def module_user(_reaper: None) -> Iterator[User]:
    """Give all tests of a module one ordinary user."""
    with _ordinary_user() as ordinary:
        yield ordinary


@pytest.fixture(params=["native", pytest.param("view", marks=pytest.mark.view)])
def where(request: pytest.FixtureRequest) -> Where:
    """Run the test natively and in a view."""
    kind: Where = request.param
    return kind


@pytest.fixture(params=place_params(*PLACES))
def place(request: pytest.FixtureRequest, user: User) -> Iterator[Place]:
    """Run the test with its server and client in each of the places."""
    with open_place(user, request.param) as opened:
        yield opened


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _check_processes(before: set[psutil.Process]) -> None:
    """Fail if a process of the test's is left; end it, so that the next has peace."""
    _, alive = psutil.wait_procs(_children() - before, timeout=_LEAVE_TIME)
    said = []
    for process in alive:
        try:
            said.append(f"{process.pid} {' '.join(process.cmdline())}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=_LEAVE_TIME)
    assert not said, f"processes left: {said}"


def _ours_in_tmp(uid: int) -> set[str]:
    """Return what the user's views have where XDG_RUNTIME_DIR is missing."""
    return {path.name for path in Path(f"/tmp/umview-{uid}").glob("*")}
