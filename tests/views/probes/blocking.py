"""Calls that wait: signals, time limits, a full backlog."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

from kit import V4, child, listener, name_of, outcome, pair, polled, show, udp

_libc = ctypes.CDLL(None, use_errno=True)
_SA_RESTART = 0x10000000


@contextlib.contextmanager
def _alarms(
    restart: bool, first: float = 0.05, every: float = 0.05
) -> Iterator[list[int]]:
    """Let SIGALRM come again and again; calls are restarted or not."""
    hits: list[int] = []
    signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.siginterrupt(signal.SIGALRM, not restart)
    signal.setitimer(signal.ITIMER_REAL, first, every)
    try:
        yield hits
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _raw(call: Callable[[], int]) -> str:
    """Make a call of the C library, which Python does not repeat after a signal."""
    result = call()
    return name_of(ctypes.get_errno()) if result < 0 else "ok"


def _waits(how: str) -> Callable[[], int]:
    """Return a call of the C library that waits for ever."""
    keep: list[object] = []
    if how == "accept":
        server = listener()
        keep.append(server)
        return lambda: _libc.accept(server.fileno(), None, None)
    if how == "recv":
        ends = pair()
        keep.append(ends)
        return lambda: _libc.recv(ends[1].fileno(), bytes(4), 4, 0)
    sock = udp()
    sock.settimeout(None)
    fd = sock.fileno()
    keep.append(sock)
    name = ctypes.create_string_buffer(16)
    size = ctypes.c_int(16)
    if how == "recvfrom":
        return lambda: _libc.recvfrom(
            fd, bytes(4), 4, 0, name, ctypes.byref(size), keep and None
        )
    iov = (ctypes.c_void_p * 2)(ctypes.addressof(name), 16)
    header = (ctypes.c_void_p * 7)()
    header[2] = ctypes.addressof(iov)
    header[3] = 1
    keep.append(iov)
    return lambda: _libc.recvmsg(fd, header, 0, keep and None)


_HOWS = ("accept", "recv", "recvfrom", "recvmsg")


def case_interrupted() -> None:
    for how in _HOWS:
        call = _waits(how)
        with _alarms(restart=False):
            show(how, _raw(call))


def case_restarted() -> None:
    for how in ("accept", "recvfrom", "recvmsg"):
        call = _waits(how)
        done: list[str] = []
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGUSR1, lambda *_: None)
            signal.siginterrupt(signal.SIGUSR1, False)
            _raw(call)
            os._exit(1)
        time.sleep(0.1)
        for _ in range(5):
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.02)
        done.append(str(os.waitpid(pid, os.WNOHANG)[0]))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        show(how, done)


def case_restarted_and_answered() -> None:
    server = listener()
    with _alarms(restart=True, first=0.01, every=0.01):
        timer = threading.Timer(0.2, socket.create_connection, (server.getsockname(),))
        timer.start()
        fd = _libc.accept(server.fileno(), None, None)
        show(fd >= 0)
        timer.join()
    sock, sender = udp(), udp()
    sock.settimeout(None)
    buf = ctypes.create_string_buffer(10)
    name, size = ctypes.create_string_buffer(16), ctypes.c_int(16)
    with _alarms(restart=True, first=0.01, every=0.01):
        timer = threading.Timer(0.2, sender.sendto, (b"late", sock.getsockname()))
        timer.start()
        show(_libc.recvfrom(sock.fileno(), buf, 10, 0, name, ctypes.byref(size)))
        show(buf.raw[:4], size.value)
        timer.join()


def case_python_goes_on_after_signals() -> None:
    server = listener()
    with _alarms(restart=False, first=0.01, every=0.01) as hits:
        timer = threading.Timer(0.2, socket.create_connection, (server.getsockname(),))
        timer.start()
        accepted, _ = server.accept()
        show(accepted.fileno() > 0, len(hits) > 3)
        timer.join()


def case_receive_time_limit() -> None:
    for micros in (30_000, 120_000):
        server, client, _accepted = pair()
        limit = struct.pack("ll", 0, micros)
        for sock in (server, client):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        for call in (server.accept, lambda: client.recv(1), lambda: client.recvfrom(1)):  # noqa: B023
            begin = time.monotonic()
            show(outcome(call))
            took = time.monotonic() - begin
            show(micros / 1e6 - 0.005 <= took < micros / 1e6 + 0.5)


def case_time_limit_is_not_begun_anew() -> None:
    sock = udp()
    sock.settimeout(None)
    limit = struct.pack("ll", 0, 200_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    begin = time.monotonic()
    show(outcome(sock.recvfrom, 1), time.monotonic() - begin < 1)


def case_time_limit_and_signal() -> None:
    sock = udp()
    sock.settimeout(None)
    limit = struct.pack("ll", 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    name, size = ctypes.create_string_buffer(16), ctypes.c_int(16)
    with _alarms(restart=True, first=0.1, every=0):
        result = _libc.recvfrom(sock.fileno(), bytes(4), 4, 0, name, ctypes.byref(size))
        show(result, name_of(ctypes.get_errno()))


def case_full_backlog_blocks() -> None:
    server = listener(backlog=0)
    clients = []
    blocked = None
    for _ in range(10):
        client = socket.socket()
        client.settimeout(0.3)
        if outcome(client.connect, server.getsockname()) is not None:
            blocked = client
            break
        clients.append(client)
    show(len(clients), blocked is not None)
    for _ in clients:
        server.accept()


def case_full_backlog_goes_on_when_accepted() -> None:
    server = listener(backlog=1)
    connected: list[int] = []

    def connect() -> None:
        with socket.create_connection(server.getsockname()) as sock:
            connected.append(1)
            sock.recv(1)

    threads = [threading.Thread(target=connect) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        server.accept()[0].close()
    for thread in threads:
        thread.join()
    show(len(connected))


def case_full_backlog_nonblocking() -> None:
    server = listener(backlog=1)
    clients = []
    for _ in range(5):
        client = socket.socket()
        client.setblocking(False)
        show(name_of(client.connect_ex(server.getsockname())))
        clients.append(client)
    time.sleep(0.05)
    show([polled(client) for client in clients])
    show([client.getsockopt(1, socket.SO_ERROR) for client in clients])


def case_full_backlog_does_not_hold_up_others() -> None:
    server = listener(backlog=0)
    clients = [socket.socket() for _ in range(4)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    begin = time.monotonic()
    other = listener()
    for _ in range(100):
        socket.create_connection(other.getsockname()).close()
        other.accept()[0].close()
    show(time.monotonic() - begin < 3)


def case_interrupted_connect() -> None:
    server = listener(backlog=0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(server.getsockname())
    time.sleep(0.05)
    client = socket.socket()
    name = b"\2\0" + struct.pack("!H", server.getsockname()[1]) + socket.inet_aton(V4)
    with _alarms(restart=False, first=0.1, every=0):
        show(_raw(lambda: _libc.connect(client.fileno(), name + bytes(8), 16)))
    client.setblocking(False)
    show(polled(client), name_of(client.connect_ex(server.getsockname())))


def case_killed_while_waiting() -> None:
    for how in _HOWS:
        call = _waits(how)
        pid = os.fork()
        if pid == 0:
            call()
            os._exit(0)
        time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        show(how, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def case_killed_accepter_loses_nothing() -> None:
    server = listener()
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            server.accept()
            os._exit(0)
        time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    client = socket.create_connection(server.getsockname())
    show(server.accept()[1] == client.getsockname())


def case_close_by_another_thread() -> None:
    sock = udp()
    sock.settimeout(None)
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(outcome(sock.recvfrom, 10)))
    thread.start()
    time.sleep(0.1)
    sender = udp()
    sender.sendto(b"end", sock.getsockname())
    thread.join(5)
    show([value[0] if isinstance(value, tuple) else value for value in seen])


def case_wait_with_select_then_accept() -> None:
    server = listener()

    def work() -> None:
        with socket.create_connection(server.getsockname()) as client:
            client.recv(1)

    with child(work):
        show(len(select.select([server], [], [], 5)[0]))
        server.accept()[0].close()
    show(sys.platform)
