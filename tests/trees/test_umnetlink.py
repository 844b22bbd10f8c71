"""umnetlink: a stack whose families are those of others."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import User
from tests.setting import Tracer, umview
from tests.trees.lab import Steps, steps_in_view
from umview._ffi import Switchboard
from umview.view import StackKind

FIRST, SECOND, LINK = (
    f"/dev/net/{name}" for name in ("default", "umnet1", "umnetlink1")
)
_STACKS = (
    "umnet",
    "umnet,ip=10.9.0.1/24,ip=fd99::1/64",
    f"umnetlink,4={SECOND},6={FIRST}",
    f"umnetlink,ipv6={SECOND},rest=/dev/net/umnetlink1",
)


@pytest.fixture(params=["seccomp", "ptrace"])
def steps(request: pytest.FixtureRequest, user: User) -> Iterator[Steps]:
    tracer: Tracer = request.param
    with steps_in_view(user, tracer, *_STACKS) as program:
        yield program


def bound(steps: Steps, path: str, family: int, address: str) -> object:
    """Bind a socket of a stack to an address, which only its own stack has."""
    kind = int(socket.SOCK_STREAM)
    fd = steps(f"msocket({path!r}, {family}, {kind})")
    if not isinstance(fd, int):
        return fd
    return steps(f"socket.socket(fileno={fd}).bind(({address!r}, 0))")


def test_a_family_is_that_of_the_stack_named_for_it(steps: Steps) -> None:
    four, six = int(socket.AF_INET), int(socket.AF_INET6)
    assert bound(steps, LINK, four, "10.9.0.1") is None
    assert bound(steps, LINK, four, "10.0.2.15") == "EADDRNOTAVAIL"
    assert bound(steps, LINK, six, "fd00::15") is None
    assert bound(steps, LINK, six, "fd99::1") == "EADDRNOTAVAIL"


def test_a_family_that_none_is_named_for(steps: Steps) -> None:
    netlink = int(socket.AF_NETLINK)
    assert steps(f"msocket({LINK!r}, {netlink}, 3)") == "EAFNOSUPPORT"
    assert steps(f"msocket({FIRST!r}, {netlink}, 3) > 2") is True


def test_a_link_of_links(steps: Steps) -> None:
    path = "/dev/net/umnetlink2"
    four, six = int(socket.AF_INET), int(socket.AF_INET6)
    assert bound(steps, path, four, "10.9.0.1") is None
    assert bound(steps, path, six, "fd99::1") is None
    assert steps(f"msocket({path!r}, 16, 3)") == "EAFNOSUPPORT"


def test_as_the_default_it_gives_each_family(steps: Steps) -> None:
    assert steps(f"msocket({LINK!r}, 0, 0)") in ("EAFNOSUPPORT", 0)
    assert steps(f"msocket({LINK!r}, 2, 0)") == 0
    assert steps(f"msocket({LINK!r}, 10, 0)") == 0
    assert steps("socket.socket().bind(('10.9.0.1', 0))") is None
    assert steps("socket.socket(10).bind(('fd00::15', 0))") is None
    assert steps("socket.socket().bind(('10.0.2.15', 0))") == "EADDRNOTAVAIL"


def test_what_it_is_made_of_can_only_be_taken_lazily(tmp_path: Path) -> None:
    board = Switchboard(str(tmp_path))
    stacks = [board.add_stack(StackKind.NET, ipv4=True, ipv6=True) for _ in range(2)]
    link = board.add_stack(StackKind.LINK, ipv4=True, ipv6=True)
    board.set_member(link, stacks[0])
    board.set_member(link, stacks[1], socket.AF_INET6)
    for wrong in ((link, link, 0), (stacks[0], stacks[1], 0), (link, stacks[0], 77)):
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            board.set_member(*wrong)
    for stack in stacks:
        with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
            board.remove_stack(stack)
    assert board.remove_stack(link)
    assert all(board.remove_stack(stack) for stack in stacks)
    board.close()


def test_a_stack_that_is_not_there_is_an_error(user: User) -> None:

    words = ("-p", "umnet", "-p", "umnetlink,4=/dev/net/work", "true")
    done = user.run(umview(*words), "native")
    assert done.returncode == 125
    assert "/dev/net/work" in done.stderr
    assert len(done.stderr.splitlines()) == 1
