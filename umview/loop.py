"""The supervisor's loop: descriptors that are readable, times, work in threads."""

from __future__ import annotations

import itertools
import math
import os
import select
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

_T = TypeVar("_T")


class Loop:
    """What is waited for, and what is done then. All of it is for one thread."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._times: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()  # keeps the order of equal times

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever a descriptor is readable."""
        self._callbacks[fd] = callback
        self._poll.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Stop that; to be called before the descriptor is closed."""
        del self._callbacks[fd]
        self._poll.unregister(fd)

    def watches(self, fd: int) -> bool:
        """Whether a descriptor is watched."""
        return fd in self._callbacks

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, after some time."""
        import heapq  # here, for a start goes without

        entry = (time.monotonic() + seconds, next(self._count), callback)
        heapq.heappush(self._times, entry)

    def in_thread(
        self, work: Callable[[], _T], then: Callable[[Callable[[], _T]], None]
    ) -> None:
        """Do what takes time in a thread of its own.

        Args:
            work: What is to be done there; it must not touch the switchboard.
            then: Called in the loop's thread afterwards, with a function that returns
                what work returned, or raises what it raised.
        """
        done, told = os.pipe2(os.O_CLOEXEC)
        result: list[Callable[[], _T]] = []

        def run() -> None:
            try:
                value = work()
                result.append(lambda: value)
            except BaseException as exc:  # noqa: BLE001 - it is raised over there
                result.append(_raiser(exc))
            os.close(told)

        def finish() -> None:
            self.unwatch(done)
            os.close(done)
            then(result[0])

        self.watch(done, finish)
        threading.Thread(target=run, daemon=True).start()

    def step(self) -> None:
        """Wait for something, and do what there is to do."""
        for fd, _ in self._poll.poll(self._milliseconds()):
            if fd in self._callbacks:
                self._callbacks[fd]()
        if self._times:
            self._call()

    def _call(self) -> None:
        import heapq

        while self._times and self._times[0][0] <= time.monotonic():
            heapq.heappop(self._times)[2]()

    def _milliseconds(self) -> int | None:
        if not self._times:
            return None
        return max(0, math.ceil((self._times[0][0] - time.monotonic()) * 1000))


def _raiser(exc: BaseException) -> Callable[[], NoReturn]:
    def get() -> NoReturn:
        raise exc

    return get
