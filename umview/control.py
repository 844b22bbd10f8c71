"""The door of a view: requests from outside and inside, by a unix socket of its own.

``NAME/control`` in the runtime directory takes connections of the same user (and of
root): SEQPACKET, a JSON object for a message. A request names what is to be done in
"do"; its answer has what was asked for, or "error" with a line for the user. A
connection is served by the supervisor's loop and never waited for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from umview.errors import UmviewError

Message: TypeAlias = dict[str, object]
Handler: TypeAlias = Callable[..., Message | None]
"""Does what a visitor asks for; None: the answer comes later."""
log = logging.getLogger(__name__)

LONGEST = 1 << 20
"""The longest message, in bytes."""

DOOR = "/dev/umview"
"""Where programs of a view knock, by msocket: AF_UNIX, SOCK_SEQPACKET."""

TOLD = "told"
"""What a line of the log has that the front of a nested view has shown."""

_NAME = "control"
_LINES = 200  # of the log, kept
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid


def _encode(message: Message) -> bytes:
    import json  # here, for it takes 8 ms of a start

    return json.dumps(message).encode()


def _decode(data: bytes) -> Message:
    import json

    message: Message = json.loads(data)
    return message


class Door:
    """The socket that connections come to."""

    def __init__(self, folder: str, name: str = _NAME) -> None:
        """Open it.

        Args:
            folder: The view's directory.
            name: What it is called there.

        Raises:
            OSError: As bind(2).
        """
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            # by the descriptor: a path of a unix socket has at most 107 bytes
            self._sock.bind(f"/proc/self/fd/{here}/{name}")
        finally:
            os.close(here)
        self._sock.listen()
        self._sock.setblocking(False)

    def fileno(self) -> int:
        """Return what is readable when somebody knocks."""
        return self._sock.fileno()

    def accept(self) -> Visitor | None:
        """Let the next one in, if it is the same user or root."""
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return None
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(raw)
        if uid in (0, os.getuid()):
            return Visitor(sock, pid, uid)
        sock.close()
        return None

    def close(self) -> None:
        """Let nobody in any more; the name stays."""
        self._sock.close()


class Visitor:
    """A connection.

    Attributes:
        pid: Whose it is, as we number processes; 0 where we cannot see it.
        uid: Of which user.
        view: The view that it sees, with those in it; 0 for those outside.
    """

    def __init__(self, sock: socket.socket, pid: int, uid: int, view: int = 0) -> None:
        self.pid, self.uid, self.view = pid, uid, view
        self._sock = sock
        sock.setblocking(False)

    def fileno(self) -> int:
        """Return what is readable when it asks or leaves."""
        return self._sock.fileno()

    @property
    def has_left(self) -> bool:
        """Whether it is gone, and nobody reads an answer."""
        return self._sock.fileno() < 0

    def receive(self) -> bytes:
        """Take a message; none: it has left."""
        try:
            return self._sock.recv(LONGEST)
        except BlockingIOError:
            return b"{}"
        except OSError:
            return b""

    def send(self, message: Message) -> None:
        """Answer. Who does not read has a socket that is full, and gets nothing."""
        sized = _encode(message)
        with contextlib.suppress(OSError):
            room = max(len(sized), 1 << 16)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
            self._sock.send(sized)

    def send_bytes(self, data: bytes) -> None:
        """Send what is no object."""
        with contextlib.suppress(OSError):
            self._sock.send(data)

    def close(self) -> None:
        """Say good-bye."""
        self._sock.close()


def process_of(thread: int) -> tuple[int, int]:
    """Return the process of a thread, and its user.

    Raises:
        OSError: It has ended.
    """
    with open(f"/proc/{thread}/status", encoding="utf-8", errors="replace") as file:
        found = {name: text for name, _, text in (line.partition(":") for line in file)}
    return int(found["Tgid"]), int(found["Uid"].split()[1])


def answer(
    visitor: Visitor, data: bytes, handlers: Mapping[str, Handler]
) -> Message | None:
    """Do what a message asks for.

    Args:
        visitor: Who asks.
        data: The message.
        handlers: By the word in "do"; they get the visitor and the other words.

    Returns:
        The answer; None: it comes later.
    """
    try:
        request = _decode(data)
        handler = handlers[str(request.pop("do"))]
    except (ValueError, KeyError, AttributeError, TypeError):
        return {"error": f"not understood; known requests: {', '.join(handlers)}"}
    try:
        return handler(visitor, **request)
    except UmviewError as exc:
        return {"error": str(exc)}
    except TypeError as exc:  # the words are not those of the request
        log.debug("a request failed: %s", data, exc_info=True)
        return {"error": f"not understood: {exc}"}
    except Exception as exc:
        # a defect of ours: it must not end the views
        log.exception("a request failed: %s", data)
        return {"error": f"not understood: {exc}"}


class Over(UmviewError):  # noqa: N818 - a state of the view, not a defect
    """The view has ended before it answered."""


class Caller:
    """The other end: whoever wants something of a view."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @classmethod
    def inside(cls) -> Caller:
        """Knock at the door of the view that we are in.

        Raises:
            UmviewError: Nobody answers.
        """
        from umview import _ffi

        try:
            return cls(socket.socket(fileno=_ffi.open_door()))
        except OSError as exc:
            raise UmviewError(f"the view does not answer: {exc.strerror}") from exc

    @classmethod
    def outside(cls, folder: str) -> Caller:
        """Knock at a view's door.

        Args:
            folder: Its directory.

        Raises:
            OSError: As connect(2); ECONNREFUSED or ENOENT: nobody is at home.
        """
        here = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(f"/proc/self/fd/{here}/{_NAME}")
        except OSError:
            sock.close()
            raise
        finally:
            os.close(here)
        return cls(sock)

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def ask(self, do: str, **words: object) -> Message:
        """Ask for something.

        Raises:
            Over: The view has ended.
            UmviewError: It cannot be done.
        """
        self.begin(do, **words)
        return self.end()

    def begin(self, do: str, **words: object) -> None:
        """Ask for something; `end` gives the answer.

        Raises:
            UmviewError: The view has ended.
        """
        try:
            self.sock.send(_encode({"do": do, **words}))
        except OSError as exc:
            raise UmviewError(
                f"the view does not answer: {exc.strerror or exc}"
            ) from exc

    def end(self) -> Message:
        """Wait for the answer.

        Raises:
            UmviewError: It cannot be done, or the view has ended.
        """
        try:
            data = self.sock.recv(LONGEST)
        except OSError as exc:
            raise UmviewError(
                f"the view does not answer: {exc.strerror or exc}"
            ) from exc
        if not data:
            raise Over("the view has ended")
        reply = _decode(data)
        if "error" in reply:
            raise UmviewError(str(reply["error"]))
        return reply


class Recent(logging.Handler):
    """Keeps the last lines of the log, and sends them on.

    Attributes:
        lines: The last ones.
        followers: Who gets each as it comes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_LINES)
        self.followers: list[Visitor] = []
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        line = self.format(record)
        self.lines.append(line)
        self.followers = [one for one in self.followers if not one.has_left]
        for one in self.followers:
            one.send_bytes(f"{line}\n".encode())


@contextlib.contextmanager
def in_folder(path: str) -> Iterator[None]:
    """Be in somebody's directory while his words are read: they may name files.

    Raises:
        UmviewError: It is gone, or not for us.
    """
    try:
        os.chdir(path)
    except OSError as exc:
        raise UmviewError(f"cannot go to {path}: {exc.strerror}") from None
    try:
        yield
    finally:
        os.chdir("/")
