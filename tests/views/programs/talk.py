"""Make socket calls whose lines in the log of calls are known; say nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading

TCP, UDP = 7001, 7002
NOBODY = 7009
_LOOKS = 50
_CALLS = 20


def wait_until_it_waits(thread: int) -> None:
    """Return once a thread waits in a stopped call that has been received.

    It sleeps, and not for Python's own lock; and calls that came later are answered.
    """
    seen = 0
    while seen < _LOOKS:
        with open(f"/proc/{thread}/wchan") as kernel:
            where = kernel.read()
        seen = 0 if where in {"", "0"} or "futex" in where else seen + 1
    for _ in range(_CALLS):
        socket.socket().close()


def streams() -> None:
    with socket.socket() as listener, socket.socket() as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", TCP))
        listener.listen(5)
        client.connect(("127.0.0.1", TCP))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 5))
        accepted, _ = listener.accept()
        with accepted:
            accepted.getsockname()
        with socket.socket(socket.AF_INET6) as refused, contextlib.suppress(OSError):
            refused.connect(("::1", NOBODY))


def datagrams() -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as here,
        socket.socket(type=socket.SOCK_DGRAM) as there,
    ):
        here.bind(("127.0.0.1", UDP))
        there.bind(("127.0.0.2", UDP))
        there.sendto(b"q" * 100, ("127.0.0.1", UDP))
        here.recvfrom(200)
        there.sendmsg([b"one\n", b'"two"'], [], 0, ("127.0.0.1", UDP))
        here.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        here.recvmsg(100, 100)
        here.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            here.recvfrom(100)


def waiting() -> None:
    """Wait for a connection, first through a signal."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        main, name = threading.get_native_id(), listener.getsockname()

        def disturb() -> None:
            wait_until_it_waits(main)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            came.wait(10)
            client.connect(name)

        came = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: came.set())
        other = threading.Thread(target=disturb)
        other.start()
        accepted, _ = listener.accept()
        accepted.close()
        other.join(10)


def left_behind() -> None:
    """End while another process waits in a call."""
    read, write = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            os.write(write, b"\n")
            listener.accept()
        os.read(read, 1)
        wait_until_it_waits(child)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


streams()
datagrams()
waiting()
left_behind()
