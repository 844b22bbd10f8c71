"""A socket stays on its stack, whoever holds it. Usage: handed.py FIRST SECOND."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import subprocess
import sys

import umview

_SIOCGIFADDR = 0x8915
_FIRST, _SECOND = sys.argv[1:]


def address(sock: socket.socket) -> str:
    """Return the address of nat0 on the stack that a socket is on."""
    raw = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("16s24x", b"nat0"))
    return socket.inet_ntoa(raw[20:24])


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201


def in_other_process(sock: socket.socket, stack: str) -> None:
    """Hand a socket to a process whose default stack is another one."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        umview.msocket(stack, socket.AF_UNSPEC, umview.SOCK_DEFAULT)
        _, control, _, _ = theirs.recvmsg(1, socket.CMSG_SPACE(4))
        (number,) = array.array("i", control[0][2])
        with socket.socket(fileno=number) as got, socket.socket() as own:
            got.connect(("192.0.2.1", 53))
            say(got.getsockname()[0], address(got), address(own))
        os._exit(0)
    socket.send_fds(ours, [b"x"], [sock.fileno()])
    os.wait()


def accepted() -> None:
    """Accept on one stack while the default is another."""
    with umview.msocket(_SECOND) as listener, umview.msocket(_SECOND) as client:
        listener.bind(("10.9.0.2", 80))
        listener.listen()
        client.connect(("10.9.0.2", 80))
        peer, name = listener.accept()
        with peer:
            say(name[0], peer.getsockname(), address(peer), address(socket.socket()))


def same_names() -> None:
    """Have the same address and port on both, at the same time."""
    both = [umview.msocket(one) for one in (_FIRST, _SECOND)]
    for one in both:
        one.bind(("127.0.0.1", 7))
        one.listen()
    for index, stack in enumerate((_FIRST, _SECOND)):
        with umview.msocket(stack) as client:
            client.connect(("127.0.0.1", 7))
            both[index].accept()[0].close()
            both[1 - index].setblocking(False)
            try:
                both[1 - index].accept()
            except BlockingIOError:
                say("only there")
            both[1 - index].setblocking(True)


def spawned() -> None:
    """Start programs in every way there is, from a process with another default."""
    code = "from handed import *; say(address(socket.socket()))"
    argv = [sys.executable, "-c", code, _FIRST, _SECOND]
    os.environ["PYTHONPATH"] = os.path.dirname(__file__)
    umview.msocket(_SECOND, socket.AF_UNSPEC, umview.SOCK_DEFAULT)
    subprocess.run(argv, check=True, timeout=60)  # by vfork(2)
    os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)
    if os.fork() == 0:
        os.execv(argv[0], argv)
    os.wait()


if __name__ == "__main__":
    with umview.msocket(_FIRST, type=socket.SOCK_DGRAM) as udp:
        in_other_process(udp, _SECOND)
    accepted()
    same_names()
    spawned()
