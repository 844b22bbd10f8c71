"""Which tracer is chosen, and what is said where none works."""

from __future__ import annotations

import errno

import pytest

from umview import tracer
from umview.errors import UmviewError


def chosen(wanted: str, seccomp: int, ptrace: int) -> str:
    return tracer.choose(wanted, lambda: seccomp, lambda: ptrace).text


@pytest.mark.parametrize("wanted", ["auto", "seccomp"])
def test_seccomp_is_taken_where_it_works(wanted: str) -> None:
    assert chosen(wanted, 0, 0) == "seccomp"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (errno.EBUSY, "a listener is held already"),
        (errno.EINVAL, "this kernel has no user notification"),
        (errno.EPERM, "Operation not permitted"),
    ],
)
def test_ptrace_is_taken_where_seccomp_fails(code: int, why: str) -> None:
    assert chosen("auto", code, 0) == f"ptrace ({why})"


def test_ptrace_is_taken_if_asked_for() -> None:
    assert chosen("ptrace", 0, 0) == "ptrace"


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("seccomp", ["a listener is held", "--tracer ptrace"]),
        ("ptrace", ["Operation not permitted", "--tracer seccomp"]),
        ("auto", ["a listener is held", "Operation not permitted"]),
    ],
)
def test_failure_is_one_line_with_its_reasons(wanted: str, named: list[str]) -> None:
    with pytest.raises(UmviewError) as caught:
        chosen(wanted, errno.EBUSY, errno.EPERM)
    assert all(word in str(caught.value) for word in named)
    assert "\n" not in str(caught.value)
