"""umrecord: every connection of a view is a line of a file, as JSON."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Sequence

from umview.errors import UmviewError
from umview.policy import Act, Deed, Name, Policy


class Recorder(Policy):
    """Writes what has ended, and remembers what has begun."""

    deeds = Deed.SEND | Deed.CONNECTED | Deed.ACCEPTED | Deed.FAILED | Deed.ENDED

    def __init__(self, path: str) -> None:
        """Take note of the path; `start` opens it."""
        self._path = path
        self._file = -1
        self._open: dict[int, tuple[float, Act]] = {}

    def start(self) -> None:
        """Open the file."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(self._path, flags, 0o666)
        except OSError as exc:
            raise UmviewError(
                f"file: cannot write to '{self._path}': {exc.strerror}; name another"
            ) from None

    def decide(self, act: Act) -> int:
        """Allow a datagram to whomever it goes, and write that down."""
        now = time.time()
        self._write(act, now, now)
        return 0

    def note(self, act: Act) -> None:
        """Write what has ended."""
        now = time.time()
        if act.deed is Deed.FAILED:
            self._write(act, now, now)
        elif act.deed is not Deed.ENDED:
            self._open[act.socket] = now, act
        elif act.socket in self._open:
            begin, began = self._open.pop(act.socket)
            self._write(began, begin, now)

    def stop(self) -> None:
        """Write what has not ended, and close the file."""
        for begin, act in self._open.values():
            self._write(act, begin, None)
        self._open.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, act: Act, begin: float, end: float | None) -> None:
        line = {
            "begin": begin,
            "end": end,
            "deed": str(act.deed.name).lower(),
            "pid": act.pid,
            "program": act.program,
            "stack": act.stack,
            "protocol": act.protocol,
            "local": _text(act.local),
            "remote": _text(act.remote) if act.remote else None,
            "result": errno.errorcode.get(act.error, "ok"),
        }
        os.write(self._file, (json.dumps(line) + "\n").encode())


def _text(name: Name) -> tuple[str, int]:
    return str(name.address), name.port


def parse(options: Sequence[str]) -> Recorder:
    """Return the policy that ``-p umrecord,file=FILE`` asks for.

    Raises:
        UmviewError: An option is unknown, or there is no file.
    """
    path = None
    for option in options:
        word, _, value = option.partition("=")
        if word != "file" or not value:
            raise UmviewError(f"unknown option '{option}'; known options: file=FILE")
        path = os.path.abspath(value)
    if path is None:
        raise UmviewError("where to? say file=FILE")
    return Recorder(path)
