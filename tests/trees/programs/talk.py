"""As talk.c, in Python: hold sockets on many stacks, and talk over all of them."""

from __future__ import annotations

import select
import socket
import sys

import umview

_MS = 60_000


def each(sockets: list[socket.socket], events: int) -> list[socket.socket]:
    """Return them in the order in which they show the events."""
    poll = select.poll()
    for one in sockets:
        poll.register(one, events)
    seen: list[socket.socket] = []
    while len(seen) < len(sockets):
        ready = poll.poll(_MS)
        assert ready, "nothing happens"
        for fd, _ in ready:
            poll.unregister(fd)
            seen += [one for one in sockets if one.fileno() == fd]
    return seen


def main() -> None:
    words = sys.argv[1:]
    sockets = []
    for stack, address, port in zip(words[::3], words[1::3], words[2::3], strict=True):
        one = umview.msocket(stack, type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        one.connect_ex((address, int(port)))
        sockets.append(one)
    for one in each(sockets, select.POLLOUT):
        one.sendall(b"hello\n")
    answers = {one: one.recv(64).decode() for one in each(sockets, select.POLLIN)}
    for one in sockets:
        sys.stdout.write(f"{one.getsockname()[0]} {answers[one]}")


main()
