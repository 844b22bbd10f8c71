"""Probes of the contract: contract.py CASE prints what Linux prints, in a view too."""

from __future__ import annotations

import array
import asyncio
import ctypes
import fcntl
import os
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

_SHORT = 0.2  # long enough for a call to block; nothing depends on more
_ACCEPT4 = {"x86_64": 288, "aarch64": 242}[os.uname().machine]
_libc = ctypes.CDLL(None, use_errno=True)


def show(*values: object) -> None:
    sys.stdout.write(" ".join(map(str, values)) + "\n")


def pair(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        return client, server.accept()[0]


def is_ended(sock: socket.socket) -> bool:
    """Tell whether the peer has said that no more will come, without waiting."""
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


# ---- nothing else is stopped ----


def other_calls() -> None:
    """Make calls that have nothing to do with the network between two that have."""
    folder = tempfile.mkdtemp()
    path = f"{folder}/file"
    one, two = socket.socketpair()
    marks = [socket.socket()]
    threads = [threading.Thread(target=time.sleep, args=(0,)) for _ in range(4)]
    for _ in range(200):
        os.getpid()
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, b"x" * 100)
        os.pread(fd, 100, 0)
        os.fstat(fd)
        os.close(fd)
        os.stat(path)
        os.listdir(folder)
        read, write = os.pipe()
        os.write(write, b"x")
        os.read(read, 1)
        os.close(read)
        os.close(write)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    one.send(b"x")
    two.recv(1)
    os.unlink(path)
    os.rmdir(folder)
    marks.append(socket.socket())


# ---- it is a socket ----


def real_socket() -> None:
    sock = socket.socket()
    found = os.fstat(sock.fileno())
    link = os.readlink(f"/proc/self/fd/{sock.fileno()}")
    show(stat.S_ISSOCK(found.st_mode), link == f"socket:[{found.st_ino}]")
    show(found.st_ino == os.fstat(os.dup(sock.fileno())).st_ino)


def handed_over() -> None:
    """Give a connection to another process by SCM_RIGHTS; it goes on there."""
    client, served = pair()
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        _, [(_, _, data)], _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
        sock = socket.socket(fileno=array.array("i", data)[0])
        sock.sendall(sock.recv(100).upper())
        os._exit(0)
    fds = array.array("i", [served.fileno()])
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    served.close()
    client.sendall(b"passed")
    show(client.recv(100), client.recv(100))
    os.wait()


def forked() -> None:
    """Parent and child have the same connection; it ends with the last of them."""
    client, served = pair()
    ready, go = os.pipe(), os.pipe()
    if os.fork() == 0:
        client.close()
        served.sendall(b"child")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    show(client.recv(100))
    served.sendall(b"parent")
    served.close()
    show(client.recv(100), is_ended(client))
    os.write(go[1], b"x")
    os.wait()
    show(client.recv(100))


# ---- blocking and closing ----


def round_trips() -> None:
    """Make 1,000 round trips; tell of what the parent does meanwhile."""
    client, served = pair()

    def echo() -> None:
        while data := served.recv(100):
            served.sendall(data)

    thread = threading.Thread(target=echo)
    thread.start()
    parent = Path("/proc", str(os.getppid()), "task")

    def tasks() -> dict[str, int]:
        """Return how often each thread of the parent has waited."""
        lines = {
            task.name: (task / "status").read_text(errors="replace").splitlines()
            for task in parent.iterdir()
        }
        return {
            name: int(line.split()[1])
            for name, status in lines.items()
            for line in status
            if line.startswith("voluntary_ctxt_switches")
        }

    before = tasks()
    for _ in range(1000):
        client.sendall(b"ping")
        client.recv(100)
    after = tasks()
    client.close()
    thread.join()
    show("new threads", len(after.keys() - before.keys()))
    show("waits", sum(after.values()) - sum(before.values()))


def closing() -> None:
    """A connection is closed with its last descriptor, and the peer is told."""
    client, served = pair()
    copy = client.dup()
    client.close()
    show(is_ended(served))
    copy.close()
    show(served.recv(100))
    served.close()


# ---- as Linux ----


def shutting_down() -> None:
    client, served = pair()
    client.sendall(b"all")
    client.shutdown(socket.SHUT_WR)
    show(served.recv(100), served.recv(100))
    served.sendall(b"answer")
    show(client.recv(100))
    try:
        client.send(b"x")
    except BrokenPipeError as exc:
        show(exc.errno)


def peer_over_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        client = socket.create_connection(server.getsockname()[:2])
        _, name = server.accept()
        show(name[0], name == client.getsockname())


def accept_closed_on_exec() -> None:
    """accept4(SOCK_CLOEXEC) gives a socket that blocks and is closed on exec."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        fd = _libc.syscall(
            _ACCEPT4, server.fileno(), None, None, int(socket.SOCK_CLOEXEC)
        )
        nonblocking = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
        show(nonblocking, fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        threading.Timer(_SHORT, client.sendall, [b"late"]).start()
        show(os.read(fd, 100))


# ---- many ----


async def _converse(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = []
    for word in (b"one\n", b"two\n"):
        writer.write(word)
        said.append(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return said == [b"one\n", b"two\n"]


async def _clients(count: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=count)
    port = server.sockets[0].getsockname()[1]
    all_of_them = await asyncio.gather(*(_converse(port) for _ in range(count)))
    show(all_of_them.count(True))
    server.close()


def ten_clients() -> None:
    asyncio.run(_clients(10))


def thousand_clients() -> None:
    asyncio.run(_clients(1000))


CASES: dict[str, Callable[[], None]] = {
    case.__name__: case
    for case in (
        *(real_socket, handed_over, forked, closing, shutting_down, peer_over_ipv6),
        *(accept_closed_on_exec, ten_clients, thousand_clients),
        *(other_calls, round_trips),
    )
}

if __name__ == "__main__":
    CASES[sys.argv[1]]()
