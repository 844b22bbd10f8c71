from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from umview import runtime
from umview.errors import UmviewError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


def test_directory_is_private_and_goes_away(
    environ: dict[str, str], tmp_path: Path
) -> None:
    made = runtime.create("box", environ)
    assert made.path == str(tmp_path / "umview" / "box")
    assert stat.S_IMODE(Path(made.path).stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(made.path).parent.stat().st_mode) == 0o700
    (Path(made.path) / "socket").touch()
    made.remove()
    made.release()
    assert list(tmp_path.iterdir()) == []


def test_name_in_use_is_refused(environ: dict[str, str]) -> None:
    made = runtime.create("box", environ)
    with pytest.raises(UmviewError, match=r"-V box.*running"):
        runtime.create("box", environ)
    other = runtime.create("other", environ)
    for one in (made, other):
        one.remove()
        one.release()
    runtime.create("box", environ).release()


def test_directories_of_the_dead_are_removed(
    environ: dict[str, str], tmp_path: Path
) -> None:
    dead = runtime.create("dead", environ)
    (Path(dead.path) / "socket").touch()
    dead.release()  # as the kernel does for a killed process
    alive = runtime.create("alive", environ)
    assert os.listdir(tmp_path / "umview") == ["alive"]
    alive.remove_stale()
    assert os.listdir(tmp_path / "umview") == ["alive"]
    alive.release()
    alive.remove_stale()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "a" * 65, "ä"])
def test_name_without_sense_is_refused(environ: dict[str, str], name: str) -> None:
    with pytest.raises(UmviewError):
        runtime.create(name, environ)


@pytest.mark.parametrize("given", [None, "", "/nowhere/at/all", "/etc/passwd"])
def test_without_runtime_directory_it_is_under_tmp(given: str | None) -> None:
    environ = {} if given is None else {"XDG_RUNTIME_DIR": given}
    root = Path(f"/tmp/umview-{os.getuid()}")
    was_there = root.exists()
    made = runtime.create(f"test-{os.getpid()}", environ)
    assert made.path == f"{root}/test-{os.getpid()}"
    made.remove()
    made.release()
    assert not Path(made.path).exists()
    assert root.exists() <= was_there, "the last view leaves nothing"


def test_views_that_come_and_go_at_once_leave_nothing(
    environ: dict[str, str], tmp_path: Path
) -> None:
    def come_and_go(worker: int) -> None:
        for number in range(100):
            made = runtime.create(f"{worker}-{number}", environ)
            assert Path(made.path).is_dir()
            made.remove()
            made.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(8)))
    assert list(tmp_path.iterdir()) == []


def test_directory_of_somebody_else_is_refused(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "umview").symlink_to("elsewhere")
    with pytest.raises(UmviewError, match="XDG_RUNTIME_DIR"):
        runtime.create("box", environ)
