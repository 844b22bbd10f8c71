"""A hundred thousand connections between two views: nothing of them stays."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import psutil

from tests.apps.lab import Place, in_places, require
from tests.apps.test_servers import nginx

_AT_ONCE = 50
_WARM_UP, _ROUNDS, _REQUESTS = 10_000, 3, 30_000
_MORE = 4 << 20  # bytes of memory that any of the processes may have more
_SECONDS = 60


def _processes() -> list[psutil.Process]:
    """Return the views' supervisors and stack servers, which are all below us."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name() == "stackd" or "umview" in " ".join(process.cmdline()[:3])
    ]


def _sockets(process: psutil.Process) -> int:
    """Count the sockets of a process (a supervisor keeps pidfds of threads, too)."""
    count = 0
    for fd in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(fd.readlink()).startswith("socket:")
    return count


def _load(place: Place, count: int) -> None:
    got = place.client.run(
        *("ab", "-q", "-n", str(count), "-c", str(_AT_ONCE), place.url()), timeout=300
    )
    assert re.search(rf"Complete requests: +{count}\n", got.out), got
    assert re.search(r"Failed requests: +0\n", got.out), got


@in_places("ethernet")
def test_nothing_stays_of_many_connections(place: Place) -> None:
    require("nginx", "ab")
    with place.server.serve(*nginx(place, ""), port=place.listen):
        _load(place, _WARM_UP)
        before = {
            process: (_sockets(process), process.memory_info().rss)
            for process in _processes()
        }
        assert sum(process.name() == "stackd" for process in before) >= 2
        for _ in range(_ROUNDS):
            _load(place, _REQUESTS)
        deadline = time.monotonic() + _SECONDS
        for process, (sockets, rss) in before.items():
            while _sockets(process) > sockets:
                assert time.monotonic() < deadline, (process, sockets)
                time.sleep(0.1)
            assert process.memory_info().rss < rss + _MORE, (process, rss)
