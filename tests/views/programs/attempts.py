"""Ways to reach the host's network from inside a view; one function each.

Usage: attempts.py NAME [ARG...]. Prints what came of it, a line each.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_MSG_FASTOPEN = 0x20000000


def _message(sock: socket.socket, flags: int, name: object) -> str:
    return _outcome(sock.sendmsg, [b"escaped"], [], flags, name)


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def _outcome(call: Callable[..., object], *args: object) -> str:
    try:
        call(*args)
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, repr(exc))
    return "ok"


def io_uring() -> None:
    params = ctypes.create_string_buffer(120)
    result = _libc.syscall(425, 8, params)
    _say(result, errno.errorcode.get(ctypes.get_errno()))


def families(*numbers: str) -> None:
    for number in numbers:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 5):
            _say(number, kind, _outcome(socket.socket, int(number), kind, 0))


def packet() -> None:
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        _say(_outcome(socket.socket, socket.AF_PACKET, kind, socket.htons(3)))
    _say(_outcome(socket.socket, socket.AF_INET, 10, socket.htons(3)))


def netlink_protocols() -> None:
    answered = 4  # NETLINK_SOCK_DIAG
    for protocol in {*range(1, 23)} - {answered}:
        _say(protocol, _outcome(socket.socket, socket.AF_NETLINK, 3, protocol))


def netlink_route() -> None:
    """Print, in hexadecimal, all that the kernel says of links, addresses, routes."""
    for request in (18, 22, 26, 30):  # RTM_GETLINK, GETADDR, GETROUTE, GETNEIGH
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        sock.settimeout(5)
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHIIBxxx", 20, request, 0x301, 1, 0, 0) + bytes(12))
        ended = False
        while not ended:
            data = sock.recv(1 << 16)
            _say(data.hex())
            while len(data) >= 16 and not ended:
                size, kind = struct.unpack_from("=IH", data)
                ended = kind in (2, 3)  # NLMSG_ERROR, NLMSG_DONE
                data = data[(size + 3) & ~3 :]


def cards() -> None:
    _say([name for _, name in socket.if_nameindex()])


def reach(port: str, *addresses: str) -> None:
    """Try each way of talking TCP and UDP to a port of the addresses."""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        name = (address, int(port))
        for how in ("connect", "sendto", "sendmsg", "connect_ex"):
            with socket.socket(family) as sock:
                sock.settimeout(3)
                if how == "connect":
                    result = _outcome(sock.connect, name)
                elif how == "sendto":
                    result = _outcome(sock.sendto, b"escaped", _MSG_FASTOPEN, name)
                elif how == "sendmsg":
                    result = _outcome(
                        sock.sendmsg, [b"escaped"], [], _MSG_FASTOPEN, name
                    )
                else:
                    sock.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
                    result = _outcome(sock.connect, name)
                    if result == "ok":
                        result = _outcome(sock.send, b"escaped")
                _say("tcp", address, how, result)
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            _say("udp", address, "sendto", _outcome(sock.sendto, b"escaped", name))
            _say(
                "udp",
                address,
                "sendmsg",
                _message(sock, 0, name),
            )
            _outcome(sock.connect, name)
            _outcome(sock.send, b"escaped")


def inherited(port: str, *fds: str) -> None:
    """Try to use sockets of the host that the view's first process was given."""
    name = ("127.0.0.1", int(port))
    for fd in fds:
        sock = socket.socket(fileno=int(fd))
        sock.settimeout(3)
        _say(
            sock.type, "sendto", _outcome(sock.sendto, b"escaped", _MSG_FASTOPEN, name)
        )
        _say(sock.type, "sendmsg", _message(sock, 0, name))
        _say(sock.type, "bind", _outcome(sock.bind, ("127.0.0.1", 0)))
        _say(sock.type, "listen", _outcome(sock.listen))
        _say(sock.type, "connect", _outcome(sock.connect, name))
        _say(sock.type, "send", _outcome(sock.send, b"escaped"))


def unix_names(*paths: str) -> None:
    for path in paths:
        name = "\0" + path[1:] if path.startswith("@") else path
        with socket.socket(socket.AF_UNIX) as sock:
            _say(path, _outcome(sock.connect, name))


def serve() -> None:
    """Wait for a connection that never comes."""
    server = socket.create_server(("127.0.0.1", 0))
    _say(os.getpid())
    server.accept()


def not_dumpable() -> None:
    _say(_libc.prctl(4, 0, 0, 0, 0), _libc.prctl(3, 0, 0, 0, 0))
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    accepted.sendall(b"fine")
    _say(client.recv(4))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.sendto(b"too", sock.getsockname())
    _say(sock.recvfrom(4)[0])


def orphan() -> None:
    """Wait in accept until the supervisor is gone; then see what is left."""
    server = socket.create_server(("127.0.0.1", 0))
    plain = socket.socketpair()
    _say(os.getpid())
    _say("accept", _outcome(server.accept))
    _say("socket", _outcome(socket.socket))
    _say("getsockname", _outcome(server.getsockname))
    plain[0].send(b"x")
    _say("unix", plain[1].recv(1))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
