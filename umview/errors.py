"""The failures that umview itself reports."""

from __future__ import annotations

import os

FAILED = 125
"""The exit status of umview's own failures."""


class UmviewError(Exception):
    """Something that the user can mend; its text is one line: what, why, what to do."""


def os_error(code: int) -> OSError:
    """Return the exception that makes a program's call fail.

    Args:
        code: The errno that the program shall see.
    """
    return OSError(code, os.strerror(code))
