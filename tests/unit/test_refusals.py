"""What is said of programs that may not enter a view."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from umview import running
from umview.errors import UmviewError


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        (0, "hides its memory"),
        (1, "ptrace_scope is 1 on this host (only a process's own ancestors"),
        (2, "ptrace_scope is 2 on this host (only root"),
        (3, "ptrace_scope is 3 on this host (nobody"),
    ],
)
def test_forbidden_trace_names_its_reason(scope: int, said: str) -> None:
    text = running.forbidden(4711, scope)
    assert text.startswith("process 4711 may not be traced: ")
    assert said in text
    assert "start the program by umview" in text


def test_commands_from_outside_need_a_host_without_yama(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    running.check_outsider(0)
    with pytest.raises(UmviewError, match="umview -p umnetnative COMMAND"):
        running.check_outsider(1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    running.check_outsider(1)


def test_process_that_has_ended_is_said_to_have() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    assert "there is no process" in str(running.why_not(process.pid, errno.EPERM))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ESRCH, "there is no process"),
        (errno.EPERM, "may not be traced"),
        (errno.ENOEXEC, "32-bit"),
        (errno.EBUSY, "a seccomp filter of its own"),
        (errno.ETIMEDOUT, "cannot be stopped"),
        (errno.EMFILE, "Too many open files"),
    ],
)
def test_kernels_refusal_is_one_line(code: int, said: str) -> None:
    text = str(running.why_not(os.getpid(), code))
    assert said in text
    assert "\n" not in text
