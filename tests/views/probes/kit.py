"""Run the cases of a probe file, each in a process of its own, and print what they saw.

This runs natively and in a view, with the system's interpreter; what it prints must be
equal. So a case shows nothing that differs from run to run: no port that the system
chose, no descriptor, no time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
LIMIT = 20.0
V4 = "127.0.0.1"
V6 = "::1"
ADDRESSES = ((socket.AF_INET, V4), (socket.AF_INET6, V6))

_shown: list[str] = []
_held: list[socket.socket] = []
_closed = random.sample(range(10240, 32768), 1000)


class Iov(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct mmsghdr, 64 bits."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iov)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),
        ("len", ctypes.c_uint32),
    )


def show(*values: object) -> None:
    """Add a line to what the case has seen."""
    _shown.append(" ".join(str(value) for value in values))


def outcome(call: Callable[..., object], *args: object) -> object:
    """Return what a call returns, or the name of its errno."""
    try:
        return call(*args)
    except TimeoutError as exc:
        return name_of(exc.errno) if exc.errno else "timed out"
    except OSError as exc:
        return name_of(exc.errno) if exc.errno else repr(exc)


def name_of(number: int | None) -> str:
    """Return the name of an errno; 0 is "ok"."""
    return errno.errorcode.get(number, str(number)) if number else "ok"


_POLL = {
    name: getattr(select, f"POLL{name}")
    for name in ("IN", "PRI", "OUT", "ERR", "HUP", "NVAL", "RDHUP")
}
_ALL = select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP


def mask_text(mask: int) -> str:
    """Return the names of the events in a mask of poll(2) or epoll(7)."""
    return "|".join(name for name, bit in _POLL.items() if mask & bit) or "-"


def polled(sock: socket.socket, wait: float = 0) -> str:
    """Return what poll(2) says of a socket, after at most `wait` seconds."""
    poll = select.poll()
    poll.register(sock, _ALL)
    events = poll.poll(wait * 1000)
    return mask_text(events[0][1]) if events else "-"


def wait_for(sock: socket.socket, events: int = select.POLLIN) -> None:
    """Wait until poll(2) shows one of the events."""
    poll = select.poll()
    poll.register(sock, events)
    if not poll.poll(5000):
        show("nothing came")


def settled(look: Callable[[], T], wanted: T) -> T:
    """Look until the wanted is seen, at most two seconds; return the last sight."""
    end = time.monotonic() + 2
    while (seen := look()) != wanted and time.monotonic() < end:
        time.sleep(0.005)
    return seen


def mask_after(sock: socket.socket, wanted: str) -> str:
    """Return what poll(2) says once it says the wanted, or after two seconds."""
    return settled(lambda: polled(sock), wanted)


def listener(
    family: int = socket.AF_INET, address: str | None = None, backlog: int = 16
) -> socket.socket:
    """Return a listening stream socket on loopback."""
    sock = socket.socket(family)
    sock.bind((address or (V4 if family == socket.AF_INET else V6), 0))
    sock.listen(backlog)
    return sock


def pair(
    family: int = socket.AF_INET,
) -> tuple[socket.socket, socket.socket, socket.socket]:
    """Return a listener, a client of it, and what it accepted."""
    server = listener(family)
    client = socket.socket(family)
    client.connect(server.getsockname())
    accepted, _ = server.accept()
    return server, client, accepted


def udp(family: int = socket.AF_INET, address: str | None = None) -> socket.socket:
    """Return a bound datagram socket on loopback, whose calls end after 5 s."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address or (V4 if family == socket.AF_INET else V6), 0))
    sock.settimeout(5)
    return sock


def closed_port(kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> int:
    """Return a port of loopback at which nobody is, another one each time.

    It is below those that Linux gives to clients: not even who asks there gets it.
    """
    while True:
        port = _closed.pop()
        with socket.socket(family, kind) as sock, contextlib.suppress(OSError):
            sock.bind((V4 if family == socket.AF_INET else V6, port))
            return port


def refusing(
    family: int = socket.AF_INET, address: str | None = None
) -> tuple[str, int]:
    """Return a name of loopback at which nobody listens, now and later."""
    sock = socket.socket(family)
    sock.bind((address or (V4 if family == socket.AF_INET else V6), 0))
    _held.append(sock)
    name: tuple[str, int] = sock.getsockname()[:2]
    return name


@contextlib.contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """Run work in a forked process during the block, and wait for its end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        _, status = os.waitpid(pid, 0)
        if status:
            show("child ended with", os.waitstatus_to_exitcode(status))


def exact(sock: socket.socket, count: int) -> bytes:
    """Return exactly so many bytes, or what came until the end."""
    data = bytearray()
    while len(data) < count and (chunk := sock.recv(count - len(data))):
        data += chunk
    return bytes(data)


def drain(sock: socket.socket) -> int:
    """Receive until the end and return how much it was."""
    total = 0
    while chunk := sock.recv(1 << 16):
        total += len(chunk)
    return total


def pending_error(sock: socket.socket) -> str:
    """Take SO_ERROR and return its name."""
    return name_of(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def cases(module: object) -> dict[str, Callable[[], None]]:
    """Return a probe's cases by name, in their order in the file.

    A case that is run over several roads (ends.over) is one for each: "name-road".
    """
    found: dict[str, Callable[[], None]] = {}
    for name, call in vars(module).items():
        if not name.startswith("case_"):
            continue
        if not hasattr(call, "roads"):
            found[name[5:]] = call
        for road in getattr(call, "roads", ()):
            found[f"{name[5:]}-{road}"] = functools.partial(_on_road, call, road)
    return found


def _on_road(case: Callable[[Any], None], name: str) -> None:
    import ends

    case(ends.Road(name))


def _run_case(call: Callable[[], None], write_fd: int) -> None:
    signal.alarm(int(LIMIT))
    try:
        call()
    except BaseException:  # noqa: BLE001 - it is shown, with its traceback
        show("raised:", traceback.format_exc(limit=-2))
    with os.fdopen(write_fd, "w") as pipe:
        json.dump(_shown, pipe)


def run_case(call: Callable[[], None]) -> list[str]:
    """Run one case in a child process and return the lines that it showed."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        os.setpgid(0, 0)
        try:
            _run_case(call, write_fd)
        finally:
            # With all that it has left, for they have the pipe, too.
            os.killpg(os.getpid(), signal.SIGKILL)
    os.close(write_fd)
    ready, _, _ = select.select([read_fd], [], [], LIMIT + 2)
    if not ready:
        os.killpg(pid, signal.SIGKILL)
    with os.fdopen(read_fd) as pipe:
        text = pipe.read() if ready else ""
    os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    lines: list[str] = json.loads(text) if text else [f"no end in {LIMIT} s"]
    return lines


def main() -> None:
    """Run the probe file and the cases that the command line names (or all).

    With --list it only tells the cases of the probe files that are named.
    """
    if sys.argv[1] == "--list":
        found = {name: list(cases(_load(name))) for name in sys.argv[2:]}
        sys.stdout.write(json.dumps(found))
        return
    known = cases(_load(sys.argv[1]))
    for name in sys.argv[2:] or known:
        sys.stdout.write(json.dumps([name, run_case(known[name])]) + "\n")
        sys.stdout.flush()


def _load(name: str) -> object:
    return importlib.import_module(name)


if __name__ == "__main__":
    sys.modules["kit"] = sys.modules["__main__"]
    main()
