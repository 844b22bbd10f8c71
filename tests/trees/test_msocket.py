"""msocket by its number: which stack a path means, and whose default it becomes."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.apps.lab import User
from tests.setting import Tracer
from tests.trees.lab import Steps, steps_in_view

OTHER, NATIVE, NULL = (
    f"/dev/net/{name}1" for name in ("umnet", "umnetnative", "umnetnull")
)
_STACKS = ("umnet", "umnet", "umnetnative", "umnetnull")
_INET, _STREAM, _DEFAULT = int(socket.AF_INET), int(socket.SOCK_STREAM), 0


@pytest.fixture(params=["seccomp", "ptrace"])
def steps(request: pytest.FixtureRequest, user: User) -> Iterator[Steps]:
    """Give a program in a view with several stacks."""
    tracer: Tracer = request.param
    with steps_in_view(user, tracer, *_STACKS) as program:
        yield program


_REFUSED = [
    ("a path that is not there", ("/dev/net/nothing", _INET, _STREAM), "ENOENT"),
    ("no path", ("", _INET, _STREAM), "ENOENT"),
    ("a path that names no stack", ("/dev/null", _INET, _STREAM), "EAFNOSUPPORT"),
    ("... not even a default one", ("/dev/null", _INET, _DEFAULT), "EAFNOSUPPORT"),
    ("a family that no stack has", (None, 31, _STREAM), "EAFNOSUPPORT"),
    ("... by a path", (OTHER, 31, _STREAM), "EAFNOSUPPORT"),
    ("... as a default", (OTHER, 1, _DEFAULT), "EAFNOSUPPORT"),
    ("unix sockets of a stack", (OTHER, 1, _STREAM), "EAFNOSUPPORT"),
    ("all families at once", (OTHER, 0, _STREAM), "EAFNOSUPPORT"),
    ("the stack that has none", (NULL, _INET, _STREAM), "EAFNOSUPPORT"),
    ("a type that is none", (OTHER, _INET, 77), "EINVAL"),
    ("a protocol that does not fit", (OTHER, _INET, _STREAM, 17), "EPROTONOSUPPORT"),
]


def test_what_msocket_refuses(steps: Steps) -> None:
    for what, args, code in _REFUSED:
        assert steps(f"msocket(*{args})") == code, what
    assert steps("msocket.__globals__['_syscall'](30061, 1, 2, 1, 0)") == -1
    assert steps("errno.errorcode[__import__('ctypes').get_errno()]") == "EFAULT"


def test_flags_are_those_of_socket(steps: Steps) -> None:
    for path in (None, "/dev/net/default", "/dev/net/../net/./umnet1", NATIVE):
        flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        fd = steps(f"msocket({path!r}, {_INET}, {_STREAM | flags})")
        assert steps(f"os.get_inheritable({fd}), os.get_blocking({fd})") == (False,) * 2
        fd = steps(f"msocket({path!r}, {_INET}, {_STREAM})")
        assert steps(f"os.get_inheritable({fd}), os.get_blocking({fd})") == (True,) * 2


def test_every_stack_has_ports_of_its_own(steps: Steps) -> None:
    for path in ("/dev/net/default", OTHER):
        steps(f"listen({path!r}, 5000)")
        assert steps(f"open_at({path!r}).connect_ex(('127.0.0.1', 5000))") == 0
    assert steps("listen(None, 5000)") == "EADDRINUSE"


def test_the_kernels_network_by_its_path(steps: Steps) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert steps(f"open_at({NATIVE!r}).connect_ex(('127.0.0.1', {port}))") == 0
        assert steps(f"finds({port})") is False


def test_a_default_without_a_path_changes_nothing(steps: Steps) -> None:
    steps(f"listen({OTHER!r}, 5001)")
    assert steps(f"msocket({OTHER!r}, {_INET}, {_DEFAULT})") == 0
    for domain in (0, _INET, 10, 16):
        assert steps(f"msocket(None, {domain}, {_DEFAULT})") == 0
    assert steps(f"msocket(None, 1, {_DEFAULT})") == "EAFNOSUPPORT"
    assert steps("finds(5001)") is True


def test_a_default_is_for_one_family_or_all(steps: Steps) -> None:
    assert steps(f"msocket({NULL!r}, 10, {_DEFAULT})") == 0
    assert steps("socket.socket(10)") == "EAFNOSUPPORT"
    assert isinstance(steps("keep(socket.socket(2))"), int)
    assert steps(f"msocket({NULL!r}, 0, {_DEFAULT})") == 0
    for domain in (2, 10, 16, 17):
        assert steps(f"socket.socket({domain}, 3)") == "EAFNOSUPPORT"
    assert isinstance(steps("keep(socket.socket(1))"), int)
    assert steps(f"msocket('/dev/net/default', 0, {_DEFAULT})") == 0
    assert isinstance(steps("keep(socket.socket(10))"), int)


def test_who_gets_a_default_and_who_does_not(steps: Steps) -> None:
    steps(f"listen({OTHER!r}, 5002)")
    old, daemon = steps("bear()"), steps("bear(orphaned=True)")
    assert steps(f"in_thread('msocket(\"{OTHER}\", 2, 0)')") == 0
    assert steps("finds(5002)") is True
    assert steps("in_thread('finds(5002)')") is True
    assert steps("CHILDREN[bear()].says('finds(5002)')") is True
    assert steps("CHILDREN[bear(orphaned=True)].says('finds(5002)')") is True
    assert steps("elsewhere('print(steps.finds(5002))')") == "True"
    for there in (old, daemon):
        assert steps(f"CHILDREN[{there}].says('finds(5002)')") is False
    # what a child chooses is its own, and its parent may choose anew
    young = steps("bear()")
    assert steps(f"CHILDREN[{young}].says('msocket(\"/dev/net/default\", 2, 0)')") == 0
    assert steps(f"CHILDREN[{young}].says('finds(5002)')") is False
    assert steps("finds(5002)") is True


def test_no_program_leaves_its_place_by_its_limits(steps: Steps) -> None:
    steps(f"listen({OTHER!r}, 5003)")
    steps(f"msocket({OTHER!r}, 2, 0)")
    assert steps("raise_limit()") is True
    both = "resource.prlimit(0, RLIMIT_LOCKS, (resource.RLIM_INFINITY,) * 2)"
    assert steps(both) == "EPERM"
    assert steps("finds(5003)") is True


def test_a_question_gets_its_answer(steps: Steps) -> None:
    """Who asks whether calls are answered asks by this one, too (um_all_answered)."""
    asked = "msocket.__globals__['_syscall'](30061, -1, 0x756d7669, 0x65773f3f, 0)"
    assert steps(asked) == -1
    assert steps("errno.errorcode[__import__('ctypes').get_errno()]") == "EL2HLT"
