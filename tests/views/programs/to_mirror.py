"""Talk to mirror.py, and to ports where nobody is; print what is seen.

Argv: for each family the address under which the host's loopback is found, and the
port of the mirror. What is printed names neither.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import sys

ERRQUEUE = 0x2000
FAMILIES = (
    (socket.AF_INET, socket.IPPROTO_IP, 11, socket.IP_TTL, socket.IP_TOS),
    (
        socket.AF_INET6,
        socket.IPPROTO_IPV6,
        25,
        socket.IPV6_UNICAST_HOPS,
        socket.IPV6_TCLASS,
    ),
)


def say(*values: object) -> None:
    """Print a line."""
    sys.stdout.write(" ".join(map(str, values)) + "\n")


def wait(sock: socket.socket) -> None:
    """Wait until something is there, data or an error."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLERR)
    if not poll.poll(5000):
        say("nothing came")


def ask(sock: socket.socket, text: bytes, name: tuple[str, int]) -> None:
    """Send, and show the answer with what came along."""
    sock.sendto(text, name)
    wait(sock)
    data, control, _, _ = sock.recvmsg(100, 256, socket.MSG_DONTWAIT)
    say(data.decode(), [(level, kind, value[0]) for level, kind, value in control])


def tried(sock: socket.socket, size: int, name: tuple[str, int]) -> object:
    """Send so many bytes; return the count or the errno."""
    try:
        return sock.sendto(bytes(size), name)
    except OSError as exc:
        return errno.errorcode[exc.errno or 0]


def read_queue(sock: socket.socket, address: str) -> None:
    """Show the error queue."""
    while True:
        try:
            data, control, flags, name = sock.recvmsg(2000, 512, ERRQUEUE)
        except BlockingIOError:
            return
        say(len(data), data[:10], hex(flags), name[0] == address)
        for level, kind, value in control:
            if len(value) < 32:
                say(level, kind, value[0])
                continue
            offender = value[20:24] if level == socket.IPPROTO_IP else value[24:40]
            family = socket.AF_INET if len(offender) == 4 else socket.AF_INET6
            say(level, kind, struct.unpack("IBBBBII", value[:16])[:5])
            say(offender == socket.inet_pton(family, address))


def main() -> None:
    """Go through both families."""
    for i, (family, level, recverr, ttl, tos) in enumerate(FAMILIES):
        address, port = sys.argv[1 + 2 * i], int(sys.argv[2 + 2 * i])
        name = (address, port)
        sock = socket.socket(family, socket.SOCK_DGRAM)
        ask(sock, b"first", name)
        # RECVTTL and RECVTOS, or HOPLIMIT and TCLASS
        for option in (12, 13) if family == socket.AF_INET else (51, 66):
            sock.setsockopt(level, option, 1)
        for number in (9, 5, 60):
            sock.setsockopt(level, ttl, number)
            sock.setsockopt(level, tos, 4 * number)
            ask(sock, b"x" * number, name)
        ask(sock, bytes(60000), name)
        silent = socket.socket(family, socket.SOCK_DGRAM)
        for turn in range(2):
            say(turn, silent.sendto(b"nobody", (address, 9)))
        with contextlib.suppress(BlockingIOError):
            say(silent.recvfrom(1, socket.MSG_DONTWAIT))
        silent.connect((address, 9))
        silent.send(b"x")
        wait(silent)
        say(silent.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        sock.setsockopt(level, recverr, 1)
        for size in (10, 3000):
            say(tried(sock, size, (address, 9)))
            wait(sock)
            say(tried(sock, 4, name))
            read_queue(sock, address)
            say(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        sock.connect((address, port))
        other = socket.socket(family, socket.SOCK_DGRAM)
        other.sendto(b"x", name)
        sock.send(b"connected")
        wait(sock)
        say(sock.recv(100, socket.MSG_DONTWAIT))


main()
