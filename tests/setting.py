"""How the tests start umview: under which tracer, and in which setting.

The environment of the test run says both, for all of its views:

UMVIEW_TRACER   what --tracer is given (default: nothing is)
UMVIEW_SETTING  what umview is started in: a setting of tests/settings/setting.c, or
                "view", a view with the host's network: all is nested then
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

Tracer = Literal["seccomp", "ptrace"]

UMVIEW = Path(sys.prefix) / "bin" / "umview"
_ROOT = Path(__file__).parents[1]
_PROGRAM = _ROOT / "build" / "setting"  # made by make
_TRACER = os.environ.get("UMVIEW_TRACER", "")
_SETTING = os.environ.get("UMVIEW_SETTING", "")

IS_NESTED = _SETTING == "view"
"""Whether each umview is started in a view."""

_HAS_LISTENER = not _SETTING or IS_NESTED
TRACER: Tracer = "seccomp" if _HAS_LISTENER and _TRACER != "ptrace" else "ptrace"
"""What stops the calls, unless a test asks for another: no setting has a listener."""


def umview(*words: str) -> list[str]:
    """Return the command line of umview with these words after it."""
    chosen = ["--tracer", _TRACER] if _TRACER else []
    plain = [str(UMVIEW), *chosen, *words]
    if IS_NESTED:
        return [str(UMVIEW), *chosen, "-p", "umnetnative", *plain]
    return within(_SETTING, *plain) if _SETTING else plain


def within(setting: str, *command: str) -> list[str]:
    """Return what runs a command in a setting."""
    assert _PROGRAM.exists(), f"{_PROGRAM} is not built: make build/setting"
    return [str(_PROGRAM), setting, *command]
