"""A program that runs natively and is then moved into a view.

Usage: running.py network PORT | crowd PORT | wait KIND | idle. PORT is a TCP and UDP
port of the host's loopback that answers with what it is sent. It prints "ready", with
what the test has to know; what it does in the view, it does when a line comes on its
standard input.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

_LIMIT = 0.5
_CROWD = 3
_FUTEX = {"x86_64": 202, "aarch64": 98}[os.uname().machine]
_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _outcome(call: Callable[..., object], *args: object) -> str:
    try:
        call(*args)
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, repr(exc))
    return "ok"


def _serve(listener: socket.socket) -> None:
    while True:
        sock, _ = listener.accept()
        with sock:
            sock.sendall(sock.recv(100))


def _serve_datagrams(sock: socket.socket) -> None:
    while True:
        data, peer = sock.recvfrom(100)
        sock.sendto(data, peer)


def _ask(sock: socket.socket, *to: object) -> None:
    """Send something through a socket, connected or to an address; get it back."""
    if to:
        sock.sendto(b"ping", *to)  # type: ignore[call-overload]
    else:
        sock.sendall(b"ping")
    assert sock.recv(100) == b"ping"


def network(port: str) -> None:
    """Hold sockets of each kind over the move, and make new ones afterwards."""
    host = ("127.0.0.1", int(port))
    listener = socket.create_server(("127.0.0.1", 0))
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.bind(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    threading.Thread(target=_serve_datagrams, args=(datagram,), daemon=True).start()
    fresh, bound = socket.socket(), socket.socket()
    bound.bind(("127.0.0.1", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected = socket.create_connection(host)
    _say("ready", listener.getsockname()[1], datagram.getsockname()[1])
    sys.stdin.readline()
    _say("connected", _outcome(_ask, connected))
    _say("fresh", _outcome(fresh.connect, host), _outcome(_ask, fresh))
    _say("bound", _outcome(bound.listen), bound.getsockname()[0])
    _say("sender", _outcome(_ask, sender, host))
    _say("new", _outcome(socket.socket().connect, host))
    _say("new bind", _outcome(socket.socket().bind, listener.getsockname()))
    cards = "import socket; print(*(name for _, name in socket.if_nameindex()))"
    child = subprocess.run(
        [sys.executable, "-c", cards], capture_output=True, text=True, check=True
    )
    _say("child", child.stdout.strip())
    with open("/etc/resolv.conf", encoding="ascii") as file:
        _say("names", "10.0.2.3" in file.read())


def _connect_until_refused(host: tuple[str, int], seen: set[str]) -> None:
    said = "ok"
    while said == "ok":
        with socket.socket() as sock:
            said = _outcome(sock.connect, host)
            if said == "ok":
                _ask(sock)
    seen.add(said)


def crowd(port: str) -> None:
    """Connect in several threads, and work in one; tell what ended that."""
    seen: set[str] = set()
    host = ("127.0.0.1", int(port))
    threads = [
        threading.Thread(target=_connect_until_refused, args=(host, seen))
        for _ in range(_CROWD)
    ]
    for thread in threads:
        thread.start()
    _say("ready")
    count = 0
    while any(thread.is_alive() for thread in threads):
        count += 1
    _say(*sorted(seen))


def _called(result: int) -> str:
    return str(result) if result >= 0 else errno.errorcode[ctypes.get_errno()]


def _sleep() -> str:
    return _called(_libc.nanosleep(ctypes.byref(_span()), None))


def _span() -> _Timespec:
    return _Timespec(0, int(_LIMIT * 1e9))


def _poll(fd: int, wait_ms: int) -> str:
    pollfd = (ctypes.c_int32 * 2)(fd, select.POLLIN)
    return _called(_libc.poll(pollfd, 1, wait_ms))


def _ppoll() -> str:
    mask = ctypes.c_uint64(1 << (signal.SIGUSR1 - 1))
    return _called(_libc.ppoll(None, 0, ctypes.byref(_span()), ctypes.byref(mask), 8))


def _epoll(fd: int, wait_ms: int) -> str:
    epoll = select.epoll()
    if fd >= 0:
        epoll.register(fd, select.EPOLLIN)
    events = (ctypes.c_uint8 * 12)()
    return _called(_libc.epoll_wait(epoll.fileno(), events, 1, wait_ms))


def _futex() -> str:
    word = ctypes.c_int32(0)
    span = ctypes.byref(_span())
    return _called(_libc.syscall(_FUTEX, ctypes.byref(word), 0, 0, span, None, 0))


def _signal() -> str:
    mask = (ctypes.c_uint64 * 16)(1 << (signal.SIGUSR2 - 1))
    return _called(_libc.sigtimedwait(mask, None, ctypes.byref(_span())))


def _receive() -> str:
    ours, theirs = socket.socketpair()
    span = bytes(ctypes.c_long(0)) + bytes(ctypes.c_long(int(_LIMIT * 1e6)))
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
    with theirs:
        return _called(_libc.recv(ours.fileno(), ctypes.c_char_p(b"x"), 1, 0))


def _accept() -> str:
    listener = socket.create_server(("127.0.0.1", 0))
    span = bytes(ctypes.c_long(0)) + bytes(ctypes.c_long(int(_LIMIT * 1e6)))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, span)
    return _called(_libc.accept(listener.fileno(), None, None))


KINDS: dict[str, Callable[[], str]] = {
    "nanosleep": _sleep,
    "poll": lambda: _poll(-1, int(_LIMIT * 1000)),
    "poll-stdin": lambda: _poll(0, -1),
    "ppoll": _ppoll,
    "epoll": lambda: _epoll(-1, int(_LIMIT * 1000)),
    "epoll-stdin": lambda: _epoll(0, -1),
    "futex": _futex,
    "sigtimedwait": _signal,
    "recv": _receive,
    "accept": _accept,
    "read-stdin": lambda: _called(_libc.read(0, ctypes.c_char_p(b"x"), 1)),
}


def wait(kind: str) -> None:
    """Wait in a call; tell what it gave, and whether its time was over."""
    _say("ready")
    start = time.monotonic()
    said = KINDS[kind]()
    _say(said, kind.endswith("stdin") or time.monotonic() - start >= _LIMIT)
    sys.stdin.readline()


def idle() -> None:
    """Wait for lines; say each again, and whether a socket can be had."""
    _say("ready")
    for line in sys.stdin:
        _say(line.strip(), _outcome(socket.socket))


USES: dict[str, Callable[..., None]] = {
    "network": network,
    "crowd": crowd,
    "wait": wait,
    "idle": idle,
}

if __name__ == "__main__":
    USES[sys.argv[1]](*sys.argv[2:])
