"""Signals, stops and deaths in the middle of calls, and what must be left of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from kit import (
    V4,
    child,
    exact,
    listener,
    name_of,
    outcome,
    polled,
    settled,
    show,
    udp,
)

_libc = ctypes.CDLL(None, use_errno=True)


def _handle(
    number: int, restart: bool, work: Callable[[], object] = lambda: None
) -> list[int]:
    hits: list[int] = []

    def handler(*_: object) -> None:
        hits.append(1)
        work()

    signal.signal(number, handler)
    signal.siginterrupt(number, not restart)
    return hits


@contextlib.contextmanager
def _alarms(restart: bool, every: float = 0.02) -> Iterator[list[int]]:
    hits = _handle(signal.SIGALRM, restart)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield hits
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _later(work: Callable[[], object], after: float = 0.2) -> Iterator[None]:
    """Do work in a thread that takes no signals, a while after the block began."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM, signal.SIGUSR1])
    timer = threading.Timer(after, work)
    timer.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM, signal.SIGUSR1])
    yield
    timer.join()


def _sleeps(pid: int) -> None:
    """Wait until a process waits in a call."""

    def state() -> str:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0]

    settled(state, "S")
    time.sleep(0.03)


def _full() -> tuple[socket.socket, list[socket.socket]]:
    """Return a listener whose queue is full, and who fills it."""
    server = listener(backlog=0)
    return server, [socket.create_connection(server.getsockname())]


def _address(sock: socket.socket) -> bytes:
    port = struct.pack("!H", sock.getsockname()[1])
    return struct.pack("=H", socket.AF_INET) + port + socket.inet_aton(V4) + bytes(8)


def case_connect_interrupted_and_gone_on() -> None:
    server, _filler = _full()
    client = socket.socket()
    with _alarms(restart=False):
        result = _libc.connect(client.fileno(), _address(server), 16)
        show(result, name_of(ctypes.get_errno()), polled(client))
    client.setblocking(False)
    show(name_of(client.connect_ex(server.getsockname())))
    accepted, _ = server.accept()
    show(accepted.fileno() > 0, settled(lambda: polled(client), "OUT"))


def case_connect_restarted() -> None:
    server, _filler = _full()
    client = socket.socket()
    with _alarms(restart=True), _later(server.accept):
        result = _libc.connect(client.fileno(), _address(server), 16)
        show(result, polled(client))


def case_connect_with_a_time_limit() -> None:
    server, _filler = _full()
    client = socket.socket()
    limit = struct.pack("ll", 0, 150_000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    begin = time.monotonic()
    result = _libc.connect(client.fileno(), _address(server), 16)
    show(result, name_of(ctypes.get_errno()), time.monotonic() - begin < 1)
    show(polled(client))


def case_connect_again_with_a_time_limit() -> None:
    server, _filler = _full()
    client = socket.socket()
    limit = struct.pack("ll", 0, 50_000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    for _ in range(3):
        result = _libc.connect(client.fileno(), _address(server), 16)
        show(result, name_of(ctypes.get_errno()))


def case_exception_out_of_accept() -> None:
    class LateError(Exception):
        pass

    def raise_it(*_: object) -> None:
        raise LateError

    signal.signal(signal.SIGALRM, raise_it)
    server = listener()
    for _ in range(5):
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            server.accept()
        except LateError:
            show("late")
    client = socket.create_connection(server.getsockname())
    show(server.accept()[1] == client.getsockname())


def case_exception_out_of_recvfrom() -> None:
    class LateError(Exception):
        pass

    def raise_it(*_: object) -> None:
        raise LateError

    signal.signal(signal.SIGALRM, raise_it)
    sock, sender = udp(), udp()
    sock.settimeout(None)
    for call in (sock.recvfrom, sock.recvmsg):
        for _ in range(3):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            try:
                call(10)
            except LateError:
                show("late")
        sender.sendto(b"data", sock.getsockname())
        show(call(10)[0])


def case_calls_in_a_handler() -> None:
    server = listener()
    clients: list[socket.socket] = []

    def connect() -> None:
        if not clients:
            clients.append(socket.create_connection(server.getsockname()))

    _handle(signal.SIGALRM, restart=False, work=connect)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    accepted, name = server.accept()
    show(name == clients[0].getsockname())
    clients[0].sendall(b"nested")
    show(exact(accepted, 6))


def case_child_ends_during_accept() -> None:
    hits = _handle(signal.SIGCHLD, restart=True)
    server = listener()
    pid = os.fork()
    if pid == 0:
        time.sleep(0.05)
        os._exit(3)
    with _later(lambda: socket.create_connection(server.getsockname())):
        accepted, _ = server.accept()
        show(accepted.fileno() > 0, len(hits), os.waitpid(pid, 0)[1])


def case_stopped_and_continued() -> None:
    def accept() -> None:
        show_fd.send(server.accept()[0].recv(9))

    def receive() -> None:
        show_fd.send(sock.recvfrom(9)[0])

    def receive_message() -> None:
        show_fd.send(sock.recvmsg(9)[0])

    for work in (accept, receive, receive_message):
        server, sock = listener(), udp()
        sock.settimeout(None)
        shown, show_fd = socket.socketpair()
        with child(work) as pid:
            for _ in range(3):
                _sleeps(pid)
                os.kill(pid, signal.SIGSTOP)
                os.waitpid(pid, os.WUNTRACED)
                os.kill(pid, signal.SIGCONT)
            if work is accept:
                with socket.create_connection(server.getsockname()) as client:
                    client.sendall(b"went on")
            else:
                udp().sendto(b"went on", sock.getsockname())
            show(work.__name__, shown.recv(9))


def case_data_while_stopped() -> None:
    server, sock = listener(), udp()
    sock.settimeout(None)
    shown, show_fd = socket.socketpair()

    def work() -> None:
        show_fd.send(server.accept()[0].recv(9))
        show_fd.send(sock.recvfrom(9)[0])

    with child(work) as pid:
        _sleeps(pid)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        client = socket.create_connection(server.getsockname())
        client.sendall(b"meanwhile")
        udp().sendto(b"this too", sock.getsockname())
        os.kill(pid, signal.SIGCONT)
        show(shown.recv(9), shown.recv(9))


def case_one_thread_of_many() -> None:
    """A signal to one thread in accept disturbs no other."""
    _handle(signal.SIGUSR1, restart=False)
    server = listener()
    results: list[str] = []
    lock = threading.Lock()

    def accept() -> None:
        fd = _libc.accept(server.fileno(), None, None)
        said = "accepted" if fd >= 0 else name_of(ctypes.get_errno())
        with lock:
            results.append(said)

    threads = [threading.Thread(target=accept) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    for thread in threads[:2]:
        assert thread.ident
        signal.pthread_kill(thread.ident, signal.SIGUSR1)
        thread.join(5)
    show(sorted(results))
    clients = [socket.create_connection(server.getsockname()) for _ in range(2)]
    for thread in threads[2:]:
        thread.join(5)
    show(sorted(results), len(clients))


def case_signal_waited_for_beside_accept() -> None:
    """A blocked signal is waited for beside an accept, which does not notice."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    server = listener()
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(server.accept()[1]))
    thread.start()
    os.kill(os.getpid(), signal.SIGUSR1)
    show(signal.sigwait([signal.SIGUSR1]))
    client = socket.create_connection(server.getsockname())
    thread.join(5)
    show(taken == [client.getsockname()])


def case_blocked_signal_comes_after_the_call() -> None:
    hits = _handle(signal.SIGUSR1, restart=False)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    sock = udp()
    show(sock.sendto(b"data", sock.getsockname()), sock.recvfrom(9)[0], len(hits))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    show(len(hits))


def case_ignored_signals_do_not_interrupt() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    sock, sender = udp(), udp()
    sock.settimeout(None)

    def disturb() -> None:
        for _ in range(20):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGWINCH)
            os.kill(os.getpid(), signal.SIGURG)
        sender.sendto(b"data", sock.getsockname())

    buf, name, size = bytes(9), ctypes.create_string_buffer(16), ctypes.c_int(16)
    with _later(disturb, 0.05):
        show(_libc.recvfrom(sock.fileno(), buf, 9, 0, name, ctypes.byref(size)))


def case_killed_in_the_middle() -> None:
    """Processes die at any instant of any call; the rest goes on as if never there."""
    server, sock = listener(backlog=128), udp()
    rng = random.Random(7)

    def work() -> None:
        while True:
            client = socket.socket()
            client.settimeout(1)
            with contextlib.suppress(OSError):
                client.connect(server.getsockname())
                client.sendall(b"x")
            mine = udp()
            mine.sendto(b"", mine.getsockname())
            mine.recvfrom(1)
            mine.sendmsg([b"y"], [], 0, sock.getsockname())
            with contextlib.suppress(OSError):
                accepted, _ = server.accept()
                accepted.close()
            client.close()
            mine.close()

    server.setblocking(False)
    for _ in range(30):
        pid = os.fork()
        if pid == 0:
            work()
        time.sleep(0.005 + rng.random() / 50)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    server.setblocking(True)
    client = socket.create_connection(server.getsockname())
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    data = b""
    while data != b"last":
        data = exact(server.accept()[0], 9)
    show(data)
    sock.setblocking(False)
    while outcome(sock.recv, 9) == b"y":
        pass
    sock.settimeout(5)
    sock.sendto(b"end", sock.getsockname())
    show(sock.recvfrom(9)[0])


def case_exit_with_threads_in_calls() -> None:
    for end in ("exit", "kill"):
        server, sock = listener(), udp()
        sock.settimeout(None)

        def work() -> None:
            calls: list[Callable[[], object]] = [
                server.accept,  # noqa: B023
                lambda: sock.recvfrom(1),  # noqa: B023
                lambda: sock.recvmsg(1),  # noqa: B023
            ]
            for call in calls * 5:
                threading.Thread(target=call, daemon=True).start()
            time.sleep(0.1)
            if end == "kill":  # noqa: B023
                os.kill(os.getpid(), signal.SIGKILL)

        pid = os.fork()
        if pid == 0:
            work()
            os._exit(4)
        show(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        client = socket.create_connection(server.getsockname())
        show(server.accept()[1] == client.getsockname())
        sock.sendto(b"x", sock.getsockname())
        show(sock.recvfrom(9)[0], outcome(sock.recvfrom, 1, socket.MSG_DONTWAIT))


def case_terminated_while_waiting() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        server = listener()
        pid = os.fork()
        if pid == 0:
            signal.signal(number, signal.SIG_DFL)
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            server.accept()
        _sleeps(pid)
        os.kill(pid, number)
        show(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
