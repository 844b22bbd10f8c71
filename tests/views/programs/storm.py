"""Calls under a storm of signals: 5,000 a second, none may lose or double anything.

Usage: storm.py NAME COUNT. Prints what was seen; equal natively and in a view.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

_EVERY = 0.0002
_LIMIT = 15.0
T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def _storm(restart: bool) -> Iterator[None]:
    """Let a signal come every 200 µs; calls are restarted, or made again by Python."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, not restart)
    signal.setitimer(signal.ITIMER_REAL, _EVERY, _EVERY)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _child() -> Iterator[bool]:
    """Fork: the block runs in both, as the child where it says True."""
    pid = os.fork()
    if pid == 0:
        _watch()
        try:
            yield True
        finally:
            os._exit(0)
    _watch()
    yield False
    os.waitpid(pid, 0)


def _watch() -> None:
    """End this process when it hangs; the thread that watches gets no signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    timer = threading.Timer(_LIMIT, os._exit, (9,))
    timer.daemon = True
    timer.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])


def _again(call: Callable[..., T], *args: object) -> T:
    """Repeat a call that a signal ended.

    In a view a signal may end any stopped call before it is answered, also those that
    Linux never interrupts (docs/compatibility.md). Nothing may be left of it.
    """
    while True:
        try:
            return call(*args)
        except InterruptedError:
            continue


def _connect(sock: socket.socket, name: tuple[str, int]) -> None:
    """Connect, and go on with that after signals, as connect(2) tells to do."""
    data = struct.pack("=H", socket.AF_INET) + struct.pack("!H", name[1])
    data += socket.inet_aton(name[0]) + bytes(8)
    while _libc.connect(sock.fileno(), data, len(data)) < 0:
        number = ctypes.get_errno()
        if number == errno.EISCONN:
            return
        if number not in (errno.EINTR, errno.EALREADY):
            raise OSError(number, "connect")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def _exact(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def accept(count: int, restart: bool) -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    before = _descriptors()
    seen = []
    with _child() as is_child:
        if is_child:
            for i in range(count):
                with socket.create_connection(server.getsockname()) as client:
                    client.sendall(struct.pack("I", i))
                    client.recv(1)
            return
        with _storm(restart):
            for _ in range(count):
                accepted, name = server.accept()
                seen.append(struct.unpack("I", _exact(accepted, 4))[0])
                if _again(accepted.getpeername) != name:
                    _say("a wrong name")
                accepted.close()
    _say(sorted(seen) == list(range(count)), _descriptors() - before)


def connect(count: int, restart: bool) -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    before = _descriptors()
    reader, writer = os.pipe()
    with _child() as is_child:
        if is_child:
            seen = []
            while True:
                accepted, _ = server.accept()
                data = _exact(accepted, 4)
                if data == b"stop":
                    break
                seen.append(struct.unpack("I", data)[0] if data else -1)
            os.write(writer, str(sorted(seen) == list(range(count))).encode())
            return
        name = server.getsockname()
        with _storm(restart):
            for i in range(count):
                with _again(socket.socket) as client:
                    _connect(client, name)
                    client.sendall(struct.pack("I", i))
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"stop")
    _say(os.read(reader, 10), _descriptors() - before - 2)


def datagrams(count: int, restart: bool) -> None:
    """Answer each datagram; both sides are stormed, with all kinds of calls.

    Datagrams may be lost or doubled (a call that was ended after it had sent is made
    again), but none may be changed or come from somebody else.
    """
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (here, there):
        sock.bind(("127.0.0.1", 0))
    here.settimeout(0.1)
    there_name = there.getsockname()
    with _child() as is_child:
        with _storm(restart):
            if is_child:
                while data := (got := there.recvmsg(2000, 64))[0]:
                    there.sendmsg([data[:2], data[2:]], [], 0, got[3])
                return
            wrong = 0
            for i in range(count):
                data, answer = _numbered(i), b""
                here.sendto(data, there_name)
                while answer != data:
                    try:
                        answer, name = here.recvfrom(2000)
                    except TimeoutError:
                        here.sendto(data, there_name)
                        continue
                    number = struct.unpack_from("I", answer)[0]
                    wrong += answer != _numbered(number) or name != there_name
        for _ in range(5):
            here.sendto(b"", there_name)
    _say("wrong", wrong)


def _numbered(i: int) -> bytes:
    return struct.pack("I", i) * (1 + i % 300)


def unix(count: int, restart: bool) -> None:
    """Send on a plain unix socket, whose sendmsg and recvmsg are looked at, too."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _child() as is_child, _storm(restart):
        if is_child:
            for _ in range(count):
                there.sendmsg([there.recvmsg(2000)[0]])
            return
        wrong = 0
        for i in range(count):
            data = _numbered(i)
            here.sendmsg([data])
            wrong += here.recvmsg(2000)[0] != data
    _say("wrong", wrong)


def sockets(count: int, restart: bool) -> None:
    """Make, name and close sockets: no descriptor may be left behind."""
    before = _descriptors()
    ports = set()
    with _storm(restart):
        for _ in range(count):
            with _again(socket.socket) as sock:
                _again(sock.setsockopt, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _again(sock.bind, ("127.0.0.1", 0))
                _again(sock.listen)
                ports.add(_again(sock.getsockname)[1])
                if not _again(sock.getsockopt, socket.SOL_SOCKET, socket.SO_REUSEADDR):
                    _say("an option is lost")
    _say(len(ports) > 1, _descriptors() - before)


def stream(count: int, restart: bool) -> None:
    """Move bytes through a local connection with sendmsg and recvmsg."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    block = bytes(range(256)) * 16
    with _child() as is_child, _storm(restart):
        if is_child:
            for _ in range(count):
                view = memoryview(block)
                while view:
                    view = view[client.sendmsg([view[:1000], view[1000:]]) :]
            return
        same = True
        for _ in range(count):
            data = b""
            while len(data) < len(block):
                data += accepted.recvmsg(len(block) - len(data), 64)[0]
            same = same and data == block
    _say(same)


if __name__ == "__main__":
    for again in (False, True):
        globals()[sys.argv[1]](int(sys.argv[2]), again)
