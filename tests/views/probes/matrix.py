"""Every call on a stream socket in every state: what it returns, and poll afterwards.

A state is made anew for each call, by each road (ends.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from ends import Far, Name, Road
from kit import (
    V4,
    listener,
    name_of,
    outcome,
    polled,
    show,
    wait_for,
)

_libc = ctypes.CDLL(None, use_errno=True)
_UNSPECIFIED = bytes(32)
_FASTOPEN = 0x20000000
_SIOCATMARK = 0x8905
_LINES = b"0123456789"


@dataclass(slots=True)
class Scene:
    """A socket in some state, and what must live as long as it does."""

    sock: socket.socket
    road: Road
    kept: list[socket.socket] = field(default_factory=list)

    def somewhere(self) -> Name:
        """Return the name of a listener over the same road."""
        return self.road.target()

    def end(self) -> None:
        """Close all of it."""
        for sock in (self.sock, *self.kept):
            sock.close()


# ---- calls ----


def _raw(call: Callable[[], int]) -> str:
    return name_of(ctypes.get_errno()) if call() < 0 else "ok"


def _name(answer: object) -> object:
    """Return an address without what differs from run to run, or road to road."""
    if isinstance(answer, tuple):
        address = V4 if answer[0].startswith("10.0.2.") else answer[0]
        return (address, "port" if answer[1] else 0)
    return answer


def _queued(request: int) -> Callable[[Scene], object]:
    def ask(scene: Scene) -> object:
        buf = bytearray(4)
        failed = outcome(fcntl.ioctl, scene.sock, request, buf)
        return failed if isinstance(failed, str) else int.from_bytes(buf, "little")

    return ask


def _option(level: int, name: int) -> Callable[[Scene], object]:
    def ask(scene: Scene) -> object:
        answer = outcome(scene.sock.getsockopt, level, name, 4)
        return int.from_bytes(answer, "little") if isinstance(answer, bytes) else answer

    return ask


def _tcp_state(scene: Scene) -> object:
    answer = outcome(scene.sock.getsockopt, socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    if not isinstance(answer, bytes):
        return answer
    return "FIN_WAIT" if answer[0] in (4, 5) else answer[0]  # the ACK may be late


def _connect_waiting(scene: Scene) -> object:
    scene.sock.settimeout(None)
    scene.sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0)
    )
    result = outcome(scene.sock.connect, scene.somewhere())
    return result, _name(outcome(scene.sock.getpeername))


def _connect_twice(scene: Scene) -> object:
    name = scene.somewhere()
    return outcome(scene.sock.connect, name), outcome(scene.sock.connect, name)


def _connect_refused(scene: Scene) -> object:
    name = scene.road.nobody(socket.SOCK_STREAM)
    first = outcome(scene.sock.connect, name)
    return first, outcome(scene.sock.connect, name)


def _disconnect(scene: Scene) -> object:
    call = _raw(lambda: _libc.connect(scene.sock.fileno(), _UNSPECIFIED, 32))
    return call, _name(outcome(scene.sock.getpeername))


def _sendfile(scene: Scene) -> object:
    with open(__file__, "rb") as file:
        return outcome(os.sendfile, scene.sock.fileno(), file.fileno(), 0, 10)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    try:
        yield read_fd, write_fd
    finally:
        os.close(read_fd)
        os.close(write_fd)


def _splice_to(scene: Scene) -> object:
    with _pipe() as (read_fd, write_fd):
        os.write(write_fd, _LINES)
        fd, call = scene.sock.fileno(), _libc.splice
        return _raw(lambda: call(read_fd, None, fd, None, 10, 2))


def _splice_from(scene: Scene) -> object:
    with _pipe() as (_, write_fd):
        fd, call = scene.sock.fileno(), _libc.splice
        return _raw(lambda: call(fd, None, write_fd, None, 10, 2))


def _sends(*args: object) -> Callable[[Scene], object]:
    return lambda scene: outcome(scene.sock.sendto, *args)


def _sendto(flags: int) -> Callable[[Scene], object]:
    return lambda scene: outcome(
        scene.sock.sendto, b"x", flags | socket.MSG_NOSIGNAL, scene.somewhere()
    )


def _send(data: bytes, flags: int = 0) -> Callable[[Scene], object]:
    return lambda scene: outcome(scene.sock.send, data, flags | socket.MSG_NOSIGNAL)


def _recv(size: int, flags: int = 0) -> Callable[[Scene], object]:
    def call(scene: Scene) -> object:
        result = outcome(scene.sock.recv, size, flags)
        # with MSG_TRUNC the bytes are not copied
        return len(result) if isinstance(result, bytes) and flags & 0x20 else result

    return call


def _shutdown(how: int) -> Callable[[Scene], object]:
    return lambda scene: (
        outcome(scene.sock.shutdown, how),
        outcome(scene.sock.shutdown, how),
    )


Calls = dict[str, Callable[[Scene], object]]

# Those that a view stops, to answer them itself.
STOPPED: Calls = {
    "getsockname": lambda s: _name(outcome(s.sock.getsockname)),
    "getpeername": lambda s: _name(outcome(s.sock.getpeername)),
    "SO_ERROR": _option(socket.SOL_SOCKET, socket.SO_ERROR),
    "SO_ACCEPTCONN": _option(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    "TCP_INFO state": _tcp_state,
    "TCP_NODELAY": lambda s: outcome(s.sock.setsockopt, 6, socket.TCP_NODELAY, 1),
    "SO_REUSEPORT": lambda s: outcome(s.sock.setsockopt, 1, socket.SO_REUSEPORT, 1),
    "bind": lambda s: outcome(s.sock.bind, (V4, 0)),
    "listen": lambda s: outcome(s.sock.listen, 5),
    "accept": lambda s: _name(outcome(lambda: s.sock.accept()[1])),
    "connect": _connect_twice,
    "connect waiting": _connect_waiting,
    "connect refused": _connect_refused,
    "connect unspecified": _disconnect,
    "send fast open": _send(b"x", _FASTOPEN),
    "sendto": _sendto(0),
    "sendto fast open": _sendto(_FASTOPEN),
    "sendmsg to": lambda s: outcome(
        s.sock.sendmsg, [b"x"], [], socket.MSG_NOSIGNAL, s.somewhere()
    ),
    "recv truncated": _recv(4, socket.MSG_TRUNC),
    "recv errors": _recv(4, 0x2000),
    "recvfrom": lambda s: outcome(s.sock.recvfrom, 4),
    "recvmsg": lambda s: outcome(s.sock.recvmsg, 4, 64),
    "shutdown read": _shutdown(socket.SHUT_RD),
    "shutdown write": _shutdown(socket.SHUT_WR),
    "shutdown": _shutdown(socket.SHUT_RDWR),
    "shutdown 9": lambda s: outcome(s.sock.shutdown, 9),
    "FIONREAD": _queued(termios.FIONREAD),
    "SIOCOUTQ": _queued(termios.TIOCOUTQ),
    "SIOCATMARK": _queued(_SIOCATMARK),
}
# Those that the kernel carries out on what the program holds.
PLAIN: Calls = {
    "send": _send(b"x"),
    "send nothing": _send(b""),
    "send urgent": _send(b"x", socket.MSG_OOB),
    "send more": _send(b"x", socket.MSG_MORE),
    "write": lambda s: outcome(os.write, s.sock.fileno(), b"x"),
    "sendmsg": lambda s: outcome(s.sock.sendmsg, [b"x"], [], socket.MSG_NOSIGNAL),
    "sendfile": _sendfile,
    "splice to": _splice_to,
    "splice from": _splice_from,
    "recv": _recv(4),
    "recv nothing": _recv(0),
    "recv peek": _recv(4, socket.MSG_PEEK),
    "recv urgent": _recv(4, socket.MSG_OOB),
    "recv all": _recv(4, socket.MSG_WAITALL),
    "read": lambda s: outcome(os.read, s.sock.fileno(), 4),
}
# Those of both that send something, now.
SENDS = (
    *("sendto", "sendmsg to", "send", "send urgent", "write", "sendmsg"),
    *("sendfile", "splice to"),
)
# Linux leaves ERR behind, which no fresh surrogate can show (streams.disconnect).
_WITHOUT_MASK = frozenset({"connect unspecified"})


def ask(
    make: Callable[[Road], Scene],
    road: Road,
    calls: Calls,
    *without: str,
    unmasked: Collection[str] = _WITHOUT_MASK,
    reset_by: Collection[str] = (),
) -> None:
    """Show what calls say in a state, and what poll says then.

    Args:
        make: Makes the state, anew for each call.
        road: Where the peer is.
        calls: The calls.
        without: Those of them that are not for this state.
        unmasked: Those of them whose mask is not shown.
        reset_by: Those that the peer answers with a reset; it is waited for.
    """
    for name, call in calls.items():
        if name in without:
            continue
        scene = make(road)
        scene.sock.setblocking(False)
        answer = call(scene)
        if name in reset_by:
            wait_for(scene.sock, select.POLLERR)
        show(name, answer, "" if name in unmasked else polled(scene.sock))
        scene.end()


# ---- states ----


def fresh(road: Road) -> Scene:
    """Return a socket that nothing was done with."""
    return Scene(socket.socket(), road)


def bound(road: Road) -> Scene:
    """Return a socket with a port."""
    scene = fresh(road)
    scene.sock.bind((V4, 0))
    return scene


def listening(road: Road) -> Scene:
    """Return a listener that nobody has called."""
    return Scene(listener(), road)


def called(road: Road) -> Scene:
    """Return a listener with a connection in its queue."""
    scene = listening(road)
    scene.kept.append(socket.create_connection(scene.sock.getsockname()))
    wait_for(scene.sock)
    return scene


def shut_listener(road: Road) -> Scene:
    """Return a listener that was shut down."""
    scene = listening(road)
    scene.sock.shutdown(socket.SHUT_RD)
    return scene


def refused(road: Road) -> Scene:
    """Return a socket whose connect, waiting, was refused."""
    scene = fresh(road)
    outcome(scene.sock.connect, road.nobody(socket.SOCK_STREAM))
    return scene


def refused_later(road: Road) -> Scene:
    """Return a socket whose connect, not waiting, was refused, and it was told."""
    scene = refused_untold(road)
    scene.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return scene


def refused_untold(road: Road) -> Scene:
    """Return a socket whose connect, not waiting, was refused."""
    scene = fresh(road)
    scene.sock.setblocking(False)
    scene.sock.connect_ex(road.nobody(socket.SOCK_STREAM))
    wait_for(scene.sock, select.POLLERR)
    return scene


def connecting(road: Road) -> Scene:
    """Return a socket that is connecting: its listener's queue is full."""
    name = road.target(backlog=0)
    kept = []
    for _ in range(8):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(name)
        kept.append(sock)
    return Scene(kept.pop(), road, kept)


def connected(road: Road) -> Scene:
    """Return an established connection."""
    return Scene(road.pair()[0], road)


def _with_far(road: Road) -> tuple[Scene, Far]:
    near, far = road.pair()
    return Scene(near, road), far


def with_data(road: Road) -> Scene:
    """Return a connection with something to read."""
    scene, far = _with_far(road)
    far.send_all(_LINES)
    wait_for(scene.sock)
    return scene


def peer_ended(road: Road) -> Scene:
    """Return a connection whose peer has shut its writing side down."""
    scene, far = _with_far(road)
    far.shutdown(socket.SHUT_WR)
    wait_for(scene.sock, select.POLLRDHUP)
    return scene


def peer_closed(road: Road) -> Scene:
    """Return a connection whose peer is gone, with nothing left unread."""
    scene, far = _with_far(road)
    far.close()
    wait_for(scene.sock, select.POLLRDHUP)
    return scene


def peer_closed_behind_data(road: Road) -> Scene:
    """Return a connection whose peer has sent something and is gone."""
    scene, far = _with_far(road)
    far.send_all(_LINES)
    far.close()
    wait_for(scene.sock, select.POLLRDHUP)
    return scene


def reset(road: Road) -> Scene:
    """Return a connection that was reset."""
    scene, far = _with_far(road)
    scene.sock.sendall(b"never read")
    far.mask("IN|OUT")
    far.close()
    wait_for(scene.sock, select.POLLERR)
    return scene


def reset_told(road: Road) -> Scene:
    """Return a connection that was reset, and the program has read so."""
    scene = reset(road)
    outcome(scene.sock.recv, 1)
    return scene


def reset_behind_data(road: Road) -> Scene:
    """Return a connection that was reset behind data that were not read yet."""
    scene, far = _with_far(road)
    scene.sock.sendall(b"never read")
    far.mask("IN|OUT")
    far.send_all(_LINES)
    wait_for(scene.sock)
    far.close()
    wait_for(scene.sock, select.POLLERR)
    return scene


def _shut(road: Road, how: int) -> Scene:
    scene = connected(road)
    scene.sock.shutdown(how)
    return scene


def shut_read(road: Road) -> Scene:
    """Return a connection whose reading side was shut down here."""
    return _shut(road, socket.SHUT_RD)


def shut_write(road: Road) -> Scene:
    """Return a connection whose writing side was shut down here."""
    return _shut(road, socket.SHUT_WR)


def shut(road: Road) -> Scene:
    """Return a connection that was shut down here."""
    return _shut(road, socket.SHUT_RDWR)


def both_ended(road: Road) -> Scene:
    """Return a connection that both sides have shut down, this one first."""
    scene, far = _with_far(road)
    scene.sock.shutdown(socket.SHUT_WR)
    far.mask("IN|OUT|RDHUP")
    far.shutdown(socket.SHUT_WR)
    wait_for(scene.sock, select.POLLHUP)
    return scene


def both_ended_last(road: Road) -> Scene:
    """Return a connection that both sides have shut down, the peer first."""
    scene, far = _with_far(road)
    far.shutdown(socket.SHUT_WR)
    wait_for(scene.sock, select.POLLRDHUP)
    scene.sock.shutdown(socket.SHUT_WR)
    wait_for(scene.sock, select.POLLHUP)
    return scene


def disconnected(road: Road) -> Scene:
    """Return a socket that was connected, and is not any more."""
    scene = connected(road)
    _libc.connect(scene.sock.fileno(), _UNSPECIFIED, 32)
    return scene
