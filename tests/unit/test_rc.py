"""The rc file: what is read, and what is said of one that has no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from umview import cli, module, rc
from umview.errors import UmviewError
from umview.job import Rc


def read(path: Path, text: str) -> Rc:
    path.write_text(text)
    return rc.read(str(path))


def test_all_that_can_be_said(tmp_path: Path) -> None:
    said = read(
        tmp_path / "rc.toml",
        """
        [view]
        name = "work"
        overlay = true
        modules = ["umnetnull"]

        [[mount]]
        path = "/dev/net/default"
        type = "umnet"
        options = "host,v4"
        source = "none"

        [[mount]]
        path = "/dev/net/other"
        type = "umnetnull"
        """,
    )
    assert (said.name, said.is_overlaid) == ("work", True)
    assert said.words == (
        "/dev/net/default=umnet,host,v4",
        "/dev/net/other=umnetnull",
        "umnetnull",
    )


def test_nothing_has_to_be_said(tmp_path: Path) -> None:
    assert read(tmp_path / "rc.toml", "") == Rc()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[view", "Expected ']'"),
        ("[views]", "unknown table 'views'"),
        ("view = 1", "[view]: it is a table"),
        ("[view]\nnames = 1", "[view]: unknown key 'names'; known keys: name, overlay"),
        ("[view]\nname = 1", "[view] name: give a string"),
        ("[view]\noverlay = 1", "[view] overlay: give true or false"),
        ("[view]\nmodules = 1", "[view] modules: give a list of strings"),
        ("[view]\nmodules = [1]", "[view] modules: give a list of strings"),
        ("[mount]", "mount: it is a list of tables: write [[mount]]"),
        ("[[mount]]", "[[mount]] 1: path is missing"),
        ("[[mount]]\npath='/x'", "[[mount]] 1: type is missing"),
        ("[[mount]]\npath='x'\ntype='umnet'", "[[mount]] 1 path: give an absolute one"),
        ("[[mount]]\npath='/x'\ntype=3", "[[mount]] 1 type: give a string"),
        ("mount = [1]", "[[mount]] 1: it is a table"),
    ],
)
def test_nonsense_is_refused_by_file_table_and_key(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "rc.toml"
    with pytest.raises(UmviewError) as caught:
        read(path, text)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UmviewError, match="No such file"):
        rc.read(str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(UmviewError, match=r"binary: "):
        rc.read(str(tmp_path / "binary"))


def test_the_users_own_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert cli._own_rc() is None
    own = tmp_path / "umview" / "rc.toml"
    own.parent.mkdir()
    own.touch()
    assert cli._own_rc() == str(own)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli._own_rc() is None
    (tmp_path / ".config").symlink_to(tmp_path)
    assert cli._own_rc() == f"{tmp_path}/.config/umview/rc.toml"


@pytest.mark.parametrize(
    ("words", "others", "paths"),
    [
        ((), (), {"/dev/net/default": "umnet"}),
        (("umnetnull",), (), {"/dev/net/default": "umnetnull"}),
        (
            ("umnetnull", "umnet", "umnet"),
            (),
            {
                "/dev/net/default": "umnetnull",
                "/dev/net/umnet1": "umnet",
                "/dev/net/umnet2": "umnet",
            },
        ),
        (
            ("/dev/net/work=umnetnull",),
            (),
            {"/dev/net/default": "umnet", "/dev/net/work": "umnetnull"},
        ),
        (
            ("umnetnull",),
            ("/dev/net/default=umnet", "/dev/net/x=umnet"),
            {"/dev/net/default": "umnetnull", "/dev/net/x": "umnet"},
        ),
        (
            ("umnetnull", "/dev/net/default=umnet"),
            (),
            {"/dev/net/default": "umnet", "/dev/net/umnetnull1": "umnetnull"},
        ),
        (
            ("/dev/net/x=umnet",),
            ("/dev/net/default=umnetnull", "/dev/net/x=umnetnull"),
            {"/dev/net/default": "umnetnull", "/dev/net/x": "umnet"},
        ),
    ],
)
def test_every_stack_gets_a_path(
    words: tuple[str, ...], others: tuple[str, ...], paths: dict[str, str]
) -> None:
    stacks, policies = module.ask_all(words, others)
    assert {one.path: one.module for one in stacks} == paths
    assert policies == []


@pytest.mark.parametrize(
    "path", ["/", "/dev/net/", "/a//b", "/a/../b", "/" + 300 * "x"]
)
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(UmviewError, match="path"):
        module.ask(f"{path}=umnet")
