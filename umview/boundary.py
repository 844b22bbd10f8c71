"""The one place where a Python exception becomes the errno a program sees."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

log = logging.getLogger(__name__)


class Done(NamedTuple):
    """The handler answered.

    Attributes:
        value: What the call returns.
        writes: What is written into the program's memory before: (address, bytes).
    """

    value: int
    writes: tuple[tuple[int, bytes], ...] = ()


class Failed(NamedTuple):
    """The call fails: the program gets -1 and this errno (always > 0)."""

    errno: int


class Given(NamedTuple):
    """The call is an open, and gives the program a descriptor.

    Attributes:
        fd: Our descriptor, taken over by who answers the call.
        flags: Those of the call.
    """

    fd: int
    flags: int


Verdict: TypeAlias = Done | Failed | Given


def answer(name: str, handler: Callable[[], Verdict]) -> Verdict:
    """Run one handler and turn whatever it does into a verdict.

    Args:
        name: The call's name, for the log only.
        handler: The call's handler with its arguments bound.

    Returns:
        The handler's verdict. An OSError becomes Failed with its errno. Any other
        exception is a defect of ours: it is logged with its traceback and becomes
        Failed(EIO), so that the program goes on.
    """
    try:
        return handler()
    except OSError as exc:
        if exc.errno:
            return Failed(exc.errno)
        log.exception("%s: OSError without an errno", name)
    except Exception:
        log.exception("%s: handler failed", name)
    return Failed(errno.EIO)
