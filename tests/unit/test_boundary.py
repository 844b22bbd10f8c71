from __future__ import annotations

import errno
import logging

import pytest

from umview.boundary import Done, Failed, Verdict, answer
from umview.errors import os_error


def test_answer_gives_the_handlers_verdict() -> None:
    verdict = Done(3, ((0x1000, b"x"),))
    assert answer("ioctl", lambda: verdict) is verdict


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENODEV])
def test_oserror_fails_with_its_errno(code: int) -> None:
    def handler() -> Verdict:
        raise os_error(code)

    assert answer("ioctl", handler) == Failed(code)


@pytest.mark.parametrize("exc", [OSError("no errno"), KeyError("defect")])
def test_defect_is_logged_and_fails_with_eio(
    exc: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def handler() -> Verdict:
        raise exc

    with caplog.at_level(logging.ERROR):
        assert answer("ioctl", handler) == Failed(errno.EIO)
    assert caplog.records[0].exc_info is not None
