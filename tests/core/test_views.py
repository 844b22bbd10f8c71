"""Views and places of the switchboard: programs that are put from one to another."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trees.lab import Board, open_board
from umview._ffi import EventKind
from umview.view import StackKind, lo

_DEFAULT = "/dev/net/default"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    with open_board(tmp_path) as opened:
        yield opened


def _stack(board: Board, kind: StackKind = StackKind.NET) -> int:
    number = board.switchboard.add_stack(kind, ipv4=True, ipv6=True)
    board.switchboard.set_tables(number, (lo(4, 6),), ())
    return number


def _mounted(board: Board, view: int, path: str = _DEFAULT) -> int:
    number = _stack(board)
    board.switchboard.set_mount(view, path, number)
    return number


def test_the_outermost_view_without_a_stack_is_the_kernels(board: Board) -> None:
    with board.steps() as steps:
        assert steps("socket.socket(38, 5)") != "ENETDOWN"
        assert board.switchboard.sockets() == []
        keeps = steps("keep(socket.socket())")
        assert steps(f"SOCKETS[{keeps}].getsockopt(1, 39)") == 2  # SO_DOMAIN
        assert board.switchboard.sockets() == []


def test_an_inner_view_has_what_its_root_had(board: Board) -> None:
    """Its own default, else its parent's choice, else the enclosing view's."""
    outer, other = _mounted(board, 0), _mounted(board, 0, "/dev/net/other")
    view = board.switchboard.add_view(0)
    with board.steps() as steps:

        def on() -> int:
            # cookies of sockets do not grow from one CPU to another
            before = {sock.cookie for sock in board.switchboard.sockets()}
            steps("keep(socket.socket())")
            found = board.switchboard.sockets()
            (stack,) = (one.stack for one in found if one.cookie not in before)
            return stack

        assert on() == outer
        board.switchboard.set_default(board.pid, other, [2])
        board.switchboard.set_place(board.pid, view)
        assert board.switchboard.view_of(board.pid) == view
        assert on() == other
        inner = _mounted(board, view)
        assert on() == inner
        board.switchboard.set_default(board.pid, outer, [2])
        assert on() == outer
        board.switchboard.set_default(board.pid, None, [2])
        assert on() == inner
        # paths are those of its own view
        assert steps("msocket('/dev/net/default', 2, 0)") == 0
        board.switchboard.set_mount(view, _DEFAULT, None)
        assert on() == inner  # chosen by name


def test_who_is_in_a_view_that_has_ended_gets_no_socket(board: Board) -> None:
    _mounted(board, 0)
    view = board.switchboard.add_view(0)
    inner = _mounted(board, view)
    below = board.switchboard.add_view(view)
    with board.steps(view) as steps:
        child = steps("bear()")
        board.switchboard.set_place(board.pid, below)
        board.switchboard.remove_view(view)
        for expression in (
            "socket.socket()",
            "msocket(None, 10, 2)",
            "msocket('/dev/net/default', 2, 1)",
            "msocket('/dev/umview', 1, 5)",
            "msocket('/dev/net/default', 2, 0)",
        ):
            assert steps(f"CHILDREN[{child}].says({expression!r})") == "ENETDOWN"
        assert steps("socket.socket()") == "ENETDOWN"  # by what encloses it
        board.switchboard.remove_view(below)
        with pytest.raises(OSError, match="down") as caught:
            board.switchboard.view_of(board.pid)
        assert caught.value.errno == errno.ENETDOWN
        board.switchboard.remove_stack(inner)


def test_a_file_guards_its_stack(board: Board, tmp_path: Path) -> None:
    file = tmp_path / "guard"
    file.touch(0o600)
    stack = _stack(board)
    board.switchboard.set_mount(0, "/dev/net/guarded", stack, str(file))
    with board.steps() as steps:
        for path in ("/dev/net/guarded", str(file)):
            assert isinstance(steps(f"msocket({path!r}, 2, 1)"), int)
        file.chmod(0o444)
        if os.geteuid():
            assert steps("msocket('/dev/net/guarded', 2, 1)") == "EACCES"
            assert steps("msocket('/dev/net/guarded', 2, 0)") == "EACCES"
        file.unlink()
        assert steps("msocket('/dev/net/guarded', 2, 1)") == "ENOENT"


def test_a_stack_goes_when_its_last_socket_has(board: Board) -> None:
    switchboard = board.switchboard
    _mounted(board, 0)
    stack = _mounted(board, 0, "/dev/net/other")
    with board.steps() as steps:
        kept = steps("listen('/dev/net/other', 5000)")
        steps("msocket('/dev/net/other', 2, 0)")
        assert switchboard.count_sockets(stack) == 1
        with pytest.raises(OSError, match="busy"):
            switchboard.remove_stack(stack)
        assert steps("finds(5000)") is True
        assert switchboard.remove_stack(stack, lazily=True) is False
        assert steps("socket.socket()") == "ENETDOWN"  # it had chosen that stack
        assert steps("msocket('/dev/net/default', 2, 0)") == 0
        assert steps("finds(5000)") is False
        steps(f"SOCKETS[{kept}].close()")
        assert board.wait_for(EventKind.UNUSED).stack == stack
        assert switchboard.remove_stack(stack) is True
        assert _stack(board) == stack


def test_what_cannot_be(board: Board) -> None:
    switchboard = board.switchboard
    stack, null = _stack(board), _stack(board, StackKind.NULL)
    with subprocess.Popen(["true"]) as ended:
        pass
    own = os.getpid()
    for code, call in (
        (errno.EINVAL, lambda: switchboard.add_view(77)),
        (errno.EINVAL, lambda: switchboard.remove_view(0)),
        (errno.EINVAL, lambda: switchboard.set_place(own, 77)),
        (errno.EINVAL, lambda: switchboard.set_mount(77, _DEFAULT, stack)),
        (errno.EINVAL, lambda: switchboard.set_mount(0, _DEFAULT, 77)),
        (errno.ENOENT, lambda: switchboard.set_mount(0, _DEFAULT, None)),
        (
            errno.ESRCH,
            lambda: switchboard.set_place(ended.pid, switchboard.add_view(0)),
        ),
        (errno.EAFNOSUPPORT, lambda: switchboard.set_default(own, stack, [1])),
        (errno.EAFNOSUPPORT, lambda: switchboard.set_default(own, null, [1])),
        (errno.EINVAL, lambda: switchboard.set_default(own, 77, [2])),
    ):
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            call()
        assert caught.value.errno == code


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE


def _make_and_remove(board: Board, count: int) -> None:
    switchboard = board.switchboard
    for _ in range(count):
        stack = _stack(board)
        view = switchboard.add_view(0)
        switchboard.set_mount(view, _DEFAULT, stack, "/tmp/nothing")
        switchboard.set_place(board.pid, view)
        switchboard.set_default(board.pid, stack, [2])
        switchboard.set_file(view, "/etc/hosts", b"nothing")
        switchboard.remove_view(view)
        assert switchboard.remove_stack(stack)


def test_a_thousand_views_leave_nothing(board: Board) -> None:
    with board.steps() as steps:
        _make_and_remove(board, 200)
        files, before = len(os.listdir("/proc/self/fd")), _resident()
        _make_and_remove(board, 1000)
        assert _resident() - before < 1 << 20
        assert len(os.listdir("/proc/self/fd")) == files
        assert steps("socket.socket()") == "ENETDOWN"
