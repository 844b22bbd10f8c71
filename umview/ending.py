"""The end of a view that is asked for: of all processes that are in it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from umview import processes
from umview.errors import UmviewError
from umview.loop import Loop

_PAUSE = 0.02  # between two looks at what has not ended yet
_GRACE = 10.0  # for those who got SIGKILL


class Ending:
    """SIGTERM for everybody, and SIGKILL for those who stay.

    Who is started meanwhile gets its signal, too.
    """

    def __init__(
        self,
        loop: Loop,
        find: Callable[[], set[int]],
        seconds: float,
        then: Callable[[UmviewError | None], None],
    ) -> None:
        """Begin.

        Args:
            loop: The supervisor's.
            find: Returns the processes that are to end.
            seconds: When SIGKILL comes.
            then: Called when all have ended, or with what to say if some do not.
        """
        self._loop = loop
        self._find = find
        self._kill_at = time.monotonic() + seconds
        self._then = then
        self._sent: set[int] = set()
        self._step()

    def _step(self) -> None:
        now = time.monotonic()
        number = signal.SIGTERM if now < self._kill_at else signal.SIGKILL
        # a view may be gone before the last of those that were found in it
        left = {
            pid for pid in self._find() | self._sent if not processes.has_ended(pid)
        }
        for pid in left - self._sent if number is signal.SIGTERM else left:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        self._sent = left
        if left and now < self._kill_at + _GRACE:
            self._loop.after(_PAUSE, self._step)
            return
        error = None
        if left:
            pids = " ".join(map(str, sorted(left)))
            error = UmviewError(f"processes do not end: {pids}; look what holds them")
        self._then(error)
