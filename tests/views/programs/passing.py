"""Hand sockets to a program elsewhere: to another view, out of one, or into one.

Usage: passing.py give PATH PORT | take PATH PORT. The giver makes sockets of each kind
and hands them over at the unix socket PATH; the taker tries all that leads anywhere,
PORT of the host's loopback among it, and prints what came of it, a line each. Then both
move data through the connection that was handed over while it was open.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable

_FASTOPEN = 0x20000000
KINDS = ("fresh", "bound", "listening", "connected", "datagram", "datagram-connected")


def _outcome(call: Callable[..., object], *args: object) -> str:
    try:
        call(*args)
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, repr(exc))
    return "ok"


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def give(path: str) -> None:
    """Make the sockets, hand them over, and answer what comes through one of them."""
    fresh, bound = socket.socket(), socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    joined = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    joined.connect(peer.getsockname())
    given = (fresh, bound, server, client, datagram, joined)
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(path)
        waiting.listen()
        _say("ready")
        taker, _ = waiting.accept()
        socket.send_fds(taker, [b"x"], [sock.fileno() for sock in given])
    accepted.settimeout(10)
    data = accepted.recv(100)
    accepted.sendall(data[::-1])
    taker.recv(1)  # until the taker has done
    for name, sock in zip(KINDS, given, strict=True):
        _say(name, _outcome(sock.getsockname))


def take(path: str, port: str) -> None:
    """Take the sockets and try them."""
    with socket.socket(socket.AF_UNIX) as near:
        near.connect(path)
        _, fds, _, _ = socket.recv_fds(near, 1, len(KINDS))
        # By what they are for the giver: elsewhere a surrogate is a unix socket.
        socks = {
            name: socket.socket(
                socket.AF_INET,
                socket.SOCK_DGRAM if "datagram" in name else socket.SOCK_STREAM,
                fileno=fd,
            )
            for name, fd in zip(KINDS, fds, strict=True)
        }
        client = socks["connected"]
        client.settimeout(10)
        client.sendall(b"through")
        _say("data", client.recv(100))
        for name, sock in socks.items():
            _try(name, sock, ("127.0.0.1", int(port)))


def _try(name: str, sock: socket.socket, host: tuple[str, int]) -> None:
    sock.settimeout(1)
    for call, args in (
        ("sendto", (b"escaped", _FASTOPEN, host)),
        ("sendmsg", ([b"escaped"], [], _FASTOPEN, host)),
        ("sendto", (b"escaped", host)),
        ("connect", (host,)),
        ("send", (b"escaped",)),
        ("bind", (("127.0.0.1", 0),)),
        ("listen", ()),
        ("setsockopt", (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)),
        ("getsockopt", (socket.SOL_SOCKET, socket.SO_TYPE)),
        ("getsockname", ()),
        ("recvmsg", (1, 100, socket.MSG_DONTWAIT)),
        ("shutdown", (socket.SHUT_WR,)),
    ):
        _say(name, call, _outcome(getattr(sock, call), *args))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
