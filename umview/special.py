"""Stack special files: what stands for a mounted stack in the host's file system.

``net/VIEW/NAME`` in the runtime directory is a unix socket, for `ls` to show and for
`chmod` to guard. It is a door, too: a process outside of all views that calls
msocket() with its path is let in (csrc/libumview/msocket.c). What the two say is less
than a request: the process sends a byte when it may be looked into, and gets an errno
with a line of text, or 0 with the stack's path in the view.
"""

from __future__ import annotations

import contextlib
import os
import struct

from umview.control import Door, Visitor
from umview.view import NET

_NEW = ".new"  # no stack's: names are quoted
_ERROR = struct.Struct("=i")


class SpecialFile:
    """The file of one mounted stack; `remove` removes it."""

    def __init__(self, runtime: str, view: int, path: str) -> None:
        """Make it.

        Args:
            runtime: The runtime directory.
            view: The number of the view.
            path: Where in the view the stack is mounted.

        Raises:
            OSError: As bind(2) and rename(2); ENAMETOOLONG.
        """
        folder = f"{runtime}/net/{view}"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self.file = f"{folder}/{quoted(path)}"
        # bind(2) takes 107 bytes at most
        self._door = Door(folder, _NEW)
        os.chmod(f"{folder}/{_NEW}", 0o600)
        os.rename(f"{folder}/{_NEW}", self.file)

    def fileno(self) -> int:
        """Return what is readable when somebody knocks."""
        return self._door.fileno()

    def accept(self) -> Visitor | None:
        """Let the next one in, if it is the same user or root."""
        return self._door.accept()

    def remove(self) -> None:
        """Remove it."""
        self._door.close()
        with contextlib.suppress(OSError):
            os.unlink(self.file)


def quoted(path: str) -> str:
    """Return a file's name for a path: without NET, and with % for what it lacks."""
    name = path.removeprefix(NET).replace("%", "%25").replace("/", "%2F")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def reply(error: int, text: str) -> bytes:
    """Return what a process is told that wants to come in by a stack's file.

    Args:
        error: An errno, or 0.
        text: Why not; or the stack's path in the view.
    """
    return _ERROR.pack(error) + os.fsencode(text)
