"""Do a sequence of socket calls and tell, step by step, what came of it.

Read worlds and steps as JSON lines and answer each with its trace: what each step gave,
and what poll(2) and FIONREAD then say of every socket. The same sequence is run
natively and in a view (test_sequences.py); the traces must be equal. Sequences are
random, so every step makes sense in every state: it does something or is skipped, and
which of the two depends on nothing but the steps before.

What is done takes effect at once natively, but a moment later by the relay road, and
by send() of a datagram. So a run may be given the wanted trace: it then waits, before
it notes a state, until it is the wanted one; not for long, and not any more once it has
gone another way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import select
import signal
import socket
import sys
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ends
import kit

_UNREAD_MAX = 8000  # below a quarter of a unix socket's buffer: it stays writable
_SLOTS_MAX = 6
_DONTWAIT = socket.MSG_DONTWAIT

OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.SOL_SOCKET, socket.SO_OOBINLINE, 0),
    (socket.SOL_SOCKET, socket.SO_TYPE, 1),
    (socket.SOL_SOCKET, socket.SO_ACCEPTCONN, 1),
    (socket.SOL_SOCKET, socket.SO_DOMAIN, 1),
    (socket.SOL_SOCKET, socket.SO_PROTOCOL, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 50),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 900),
    (socket.IPPROTO_IP, socket.IP_TOS, 8),
    (socket.IPPROTO_IP, socket.IP_TTL, 9),
)
RECEIVE_FLAGS = (0, socket.MSG_PEEK, socket.MSG_TRUNC, socket.MSG_WAITALL)

# What Linux shows and a view does not (docs/compatibility.md) is left out of the random
# sequences: a socket that would show it is no longer looked at. One line each: when
# such a difference goes, the line goes.
PEER_CLOSED_LOCALLY = "close() of a joined peer shows HUP and forbids to send"
SHUT_FOR_READING = "shutdown for reading cuts what is on its way to the caller"
UNCONNECTED = "send() and recv() without a connection have a unix socket's errors"
SHUT_UNCONNECTED = "what shutdown() without a connection leaves, differs"
BOUND_AFTER_END = "bind() and listen() of a refused or ended socket differ"
COPIES_OF_REFUSED = "copies and epoll entries of a refused socket stay behind"
SHUT_TWICE = "a relayed connection that was shut down may say ENOTCONN too early"
RESET_OF_A_COPY = "a relayed reset looks like an end if a copy of the socket is left"
RESET_AFTER_END = "a relayed reset is lost after an orderly end in one direction"
SHUT_AND_CONNECTED = "shutdown() does not count as having told that connect() is done"
SHUT_LISTENER = "a listener that was shut down shows IN instead of OUT"
URGENT = "urgent data: not by relay; locally FIONREAD counts it"
SENT_TO_CLOSED = "the reset that answers what is sent by relay to who is gone"
NO_PEER = "send() of a datagram without a peer is dropped"
NOBODY_THERE = "an ICMP error wakes poll() as IN"


def act(sock: socket.socket, name: str, *args: object) -> object:
    """Make one call on a socket; return what came of it as a JSON value."""
    return kit.outcome(_CALLS[name], sock, *args)


def look(sock: socket.socket) -> object:
    """Return what poll(2) and FIONREAD say."""
    return [kit.polled(sock), kit.outcome(_queued, sock, termios.FIONREAD)]


def _queued(sock: socket.socket, request: int) -> int:
    return int.from_bytes(fcntl.ioctl(sock, request, bytes(4)), sys.byteorder)


def _shown(data: bytes) -> str:
    return f"{len(data)} {data[:4].hex()} {data[-4:].hex()}"


def _recv(sock: socket.socket, how: int, count: int, flags: int) -> str:
    # MSG_TRUNC means to drop: what is in the buffer then, is nothing.
    shown = len if flags & socket.MSG_TRUNC else _shown
    flags |= _DONTWAIT
    if how == 0:
        return f"{shown(sock.recv(count, flags))}"
    if how == 1:
        data, name = sock.recvfrom(count, flags)
        return f"{shown(data)} {name is None}"
    data, _, out, name = sock.recvmsg(count, 0, flags)
    return f"{shown(data)} {out} {name is None}"


def _send(sock: socket.socket, how: int, data: bytes, flags: int) -> int:
    flags |= _DONTWAIT | socket.MSG_NOSIGNAL
    if how == 0:
        return sock.send(data, flags)
    return sock.sendmsg([data[:3], data[3:]], [], flags)


def _get(sock: socket.socket, index: int) -> int:
    level, name, _ = OPTIONS[index % len(OPTIONS)]
    return sock.getsockopt(level, name)


def _set(sock: socket.socket, index: int) -> None:
    level, name, value = OPTIONS[index % len(OPTIONS)]
    sock.setsockopt(level, name, value)


def _peer(sock: socket.socket) -> bool:
    return sock.getpeername() is not None


_CALLS: dict[str, Callable[..., object]] = {
    "recv": _recv,
    "send": _send,
    "get": _get,
    "set": _set,
    "error": kit.pending_error,
    "shutdown": socket.socket.shutdown,
    "peer": _peer,
    "atmark": lambda sock: _queued(sock, 0x8905),
}


@dataclass(eq=False, slots=True)
class Sock:
    """What the steps so far have made of a socket, as far as later ones must know.

    Attributes:
        peer: The socket that it is connected with.
        sent: How many bytes it has sent.
        got: How many it has received.
        descriptors: How many are open.
        pending: If it listens, who connected and is not accepted yet.
        shut: How it was shut down: 1 for reading, 2 for writing.
        refused: Whether its last connect was refused.
        watched: Whether it is, or was, in an epoll set.
        moved: Whether one of its descriptors was closed.
        over: Why nothing is done to it any more, and it is not looked at.
    """

    peer: Sock | None = None
    sent: int = 0
    got: int = 0
    descriptors: int = 1
    pending: list[Sock] | None = None
    shut: int = 0
    refused: bool = False
    watched: bool = False
    moved: bool = False
    over: str = ""


@dataclass(eq=False, slots=True)
class Slot:
    """A descriptor of ours (here), or a socket of the other process (far)."""

    of: Sock
    here: socket.socket | None
    far: ends.Far | None = None

    def act(self, name: str, *args: object) -> object:
        """Make a call, here or there."""
        if self.here:
            return act(self.here, name, *args)
        assert self.far
        return self.far.act(name, *args)

    def look(self) -> object:
        """Look at it."""
        if self.of.over:
            return None
        if self.here:
            return look(self.here)
        assert self.far
        return self.far.look()


class World:
    """The sockets that the steps of one sequence work on.

    Args:
        name: "pair" with a road (a connection is there from the start), or "life":
            all sockets are made by the steps.
    """

    def __init__(self, name: str) -> None:
        kind, _, road = name.partition(" ")
        self.slots: list[Slot] = []
        self._keep = contextlib.ExitStack()
        self._outer = road.startswith("relay")
        self._epoll = self._keep.enter_context(select.epoll())
        self._refusing = self._keep.enter_context(socket.socket())
        self._refusing.bind((kit.V4, 0))
        if kind == "pair":
            self._make_pair(ends.Road(road))

    def close(self) -> None:
        """Close what is open."""
        self._keep.close()

    def do(self, name: str, index: int, args: Sequence[Any]) -> object:
        """Do one step to the slot of this index; return what came of it."""
        if name == "open":
            return self._open()
        if name == "wait":
            return self._wait()
        if not self.slots:
            return "no socket"
        slot = self.slots[index % len(self.slots)]
        if slot.of.over:
            return slot.of.over
        step = getattr(self, f"_{name}", None)
        return step(slot, *args) if step else slot.act(name, *args)

    def look(self) -> list[Any]:
        """Look at all."""
        return [slot.look() for slot in self.slots]

    def _make_pair(self, road: ends.Road) -> None:
        if self._outer:
            near, far = road.pair()
            self._add(near)
            self.slots.append(Slot(Sock(), None, far))
        else:
            server, one, other = kit.pair()
            server.close()
            self._add(one)
            self._add(other)
        one_of, other_of = (slot.of for slot in self.slots)
        one_of.peer, other_of.peer = other_of, one_of

    def _add(self, here: socket.socket, of: Sock | None = None) -> object:
        here.setblocking(False)
        self.slots.append(Slot(of or Sock(), self._keep.enter_context(here)))
        return None

    def _open(self) -> object:
        if len(self.slots) == _SLOTS_MAX:
            return "enough"
        return self._add(socket.socket())

    def _dup(self, slot: Slot) -> object:
        if not slot.here or len(self.slots) == _SLOTS_MAX:
            return "enough"
        if slot.of.refused:
            return COPIES_OF_REFUSED
        slot.of.descriptors += 1
        return self._add(slot.here.dup(), slot.of)

    def _close(self, slot: Slot) -> object:
        if slot.here:
            with contextlib.suppress(OSError):
                self._epoll.unregister(slot.here)
            slot.here.close()
        elif slot.far:
            slot.far.close()
        self.slots.remove(slot)
        slot.of.descriptors -= 1
        slot.of.moved = True
        if not slot.of.descriptors:
            self._ended(slot.of)
        return None

    def _ended(self, of: Sock) -> None:
        """Note that a socket is closed for good, for its peers' sake."""
        of.over = "closed"
        for other in [of.peer, *(of.pending or ())]:
            if other and not self._outer:
                other.over = PEER_CLOSED_LOCALLY
            elif other and (of.shut or other.shut):
                other.over = RESET_AFTER_END
            elif other and other.moved:
                other.over = RESET_OF_A_COPY

    def _bind(self, slot: Slot, where: int) -> object:
        """Bind to any port, of any address or of loopback, or to a taken one."""
        if not slot.here:
            return "not here"
        if slot.of.refused or slot.of.shut:
            return BOUND_AFTER_END
        name = (("", 0), (kit.V4, 0), self._refusing.getsockname())[where]
        return kit.outcome(slot.here.bind, name)

    def _listen(self, slot: Slot) -> object:
        if not slot.here:
            return "not here"
        if slot.of.refused or slot.of.shut:
            return BOUND_AFTER_END
        done = kit.outcome(slot.here.listen, 5)
        if done is None and slot.of.pending is None:
            slot.of.pending = []
        return done

    def _connect(self, slot: Slot, to: int) -> object:
        """Connect to one of the other sockets' names, or where nobody listens."""
        target = self.slots[to % len(self.slots)]
        if not slot.here or not target.here:
            return "not here"
        if slot.of is target.of:
            return "itself"
        if slot.of.shut:
            return SHUT_AND_CONNECTED
        name = target.here.getsockname()
        refused = target.of.pending is None
        if refused:
            name = self._refusing.getsockname()
        done = kit.name_of(slot.here.connect_ex((kit.V4, name[1])))
        slot.of.refused = refused
        if refused and (slot.of.descriptors > 1 or slot.of.watched):
            slot.of.over = COPIES_OF_REFUSED
        if done == "EINPROGRESS" and not refused and target.of.pending is not None:
            target.of.pending.append(slot.of)
        return done

    def _accept(self, slot: Slot) -> object:
        if not slot.here or len(self.slots) == _SLOTS_MAX:
            return "enough"
        try:
            sock, name = slot.here.accept()
        except OSError as exc:
            return kit.name_of(exc.errno)
        of = Sock()
        self._add(sock, of)
        if slot.of.pending:
            of.peer = slot.of.pending.pop(0)
            of.peer.peer = of
            of.over = of.peer.over
        return name == kit.outcome(sock.getpeername)

    def _send(self, slot: Slot, how: int, count: int, flags: int) -> object:
        of = slot.of
        if of.peer is None:
            return UNCONNECTED
        if of.peer.over or (self._outer and of.peer.shut & 1):
            return SENT_TO_CLOSED
        if of.sent - of.peer.got + count > _UNREAD_MAX:
            return "enough"
        if flags & socket.MSG_OOB:
            return URGENT
        data = bytes((of.sent + i) * 7 % 251 for i in range(count))
        done = slot.act("send", how, data, flags)
        if isinstance(done, int):
            of.sent += done
        return done

    def _recv(self, slot: Slot, how: int, count: int, flags: int) -> object:
        if slot.of.peer is None:
            return UNCONNECTED
        done = slot.act("recv", how, count, flags)
        if not flags & socket.MSG_PEEK and (got := str(done).split()[0]).isdigit():
            slot.of.got += int(got)
        return done

    def _peer(self, slot: Slot) -> object:
        if self._outer and slot.of.shut:
            return SHUT_TWICE
        return slot.act("peer")

    def _shutdown(self, slot: Slot, how: int) -> object:
        if slot.of.pending is not None:
            return SHUT_LISTENER
        if slot.of.peer is None:
            return SHUT_UNCONNECTED
        if how != socket.SHUT_WR and not self._outer:
            return SHUT_FOR_READING
        if slot.of.shut and self._outer:
            return SHUT_TWICE
        slot.of.shut |= how + 1
        return slot.act("shutdown", how)

    def _watch(self, slot: Slot, flags: int) -> object:
        """Add a socket to the epoll set, or change how it is watched."""
        if not slot.here:
            return "not here"
        if slot.of.refused:
            return COPIES_OF_REFUSED
        slot.of.watched = True
        try:
            self._epoll.register(slot.here, flags)
        except FileExistsError:
            self._epoll.modify(slot.here, flags)
        return None

    def _wait(self) -> object:
        numbers = {
            slot.here.fileno(): i for i, slot in enumerate(self.slots) if slot.here
        }
        events = [(numbers[fd], mask) for fd, mask in self._epoll.poll(0)]
        return [
            [number, kit.mask_text(mask)]
            for number, mask in sorted(events)
            if not self.slots[number].of.over
        ]


class Datagrams:
    """Three datagram sockets with names on loopback, two IPv4 and one IPv6."""

    def __init__(self) -> None:
        self._keep = contextlib.ExitStack()
        self._socks = [
            self._keep.enter_context(_bound(family))
            for family in (socket.AF_INET, socket.AF_INET, socket.AF_INET6)
        ]
        self._names = [sock.getsockname() for sock in self._socks]
        self._peers: list[int | None] = [None] * len(self._socks)

    def close(self) -> None:
        """Close all."""
        self._keep.close()

    def do(self, name: str, index: int, args: Sequence[Any]) -> object:
        """Do one step to the socket of this index; return what came of it."""
        index %= len(self._socks)
        step = getattr(self, f"_{name}", None)
        sock = self._socks[index]
        return step(index, *args) if step else act(sock, name, *args)

    def look(self) -> list[Any]:
        """Look at all."""
        return [look(sock) for sock in self._socks]

    def _index(self, name: object) -> object:
        """Return which socket has the name, instead of a port."""
        return self._names.index(name) if name in self._names else name

    def _to(self, index: int, to: int, how: int, count: int) -> object:
        """Send to one of the sockets."""
        to %= len(self._socks)
        sock, name = self._socks[index], self._names[to]
        if sock.family != self._socks[to].family:
            return "another family"
        if self._peers[index] is not None and self._peers[to] not in (None, index):
            return NOBODY_THERE
        data = _numbered(index, count)
        if how == 0:
            return kit.outcome(sock.sendto, data, name)
        return kit.outcome(sock.sendmsg, [data[:3], data[3:]], [], 0, name)

    def _send(self, index: int, how: int, count: int) -> object:
        """Send to whom it is connected with."""
        to = self._peers[index]
        if to is None:
            return NO_PEER
        if self._peers[to] not in (None, index):
            return NOBODY_THERE
        return act(self._socks[index], "send", how, _numbered(index, count), 0)

    def _recv(self, index: int, how: int, count: int, flags: int) -> object:
        sock = self._socks[index]
        try:
            if how == 0:
                return _shown(sock.recv(count, flags)[:count])
            if how == 1:
                data, name = sock.recvfrom(count, flags)
                return f"{_shown(data)} {self._index(name)}"
            data, _, out, name = sock.recvmsg(count, 0, flags)
            return f"{_shown(data)} {out} {self._index(name)}"
        except OSError as exc:
            return kit.name_of(exc.errno)

    def _connect(self, index: int, to: int) -> object:
        """Connect to one of the sockets."""
        to %= len(self._socks)
        if self._socks[index].family != self._socks[to].family:
            return "another family"
        self._peers[index] = to
        return kit.outcome(self._socks[index].connect, self._names[to])

    def _peer(self, index: int) -> object:
        peer = kit.outcome(self._socks[index].getpeername)
        return [self._index(peer), self._index(self._socks[index].getsockname())]


def _bound(family: int) -> socket.socket:
    """Return a socket with a port that it asked for."""
    with kit.udp(family) as other:
        name = other.getsockname()
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(name)
    return sock


def _numbered(index: int, count: int) -> bytes:
    return bytes((index + i) * 7 % 251 for i in range(count))


def run(
    name: str, steps: Sequence[Any], wanted: Sequence[Any], patience: float
) -> list[Any]:
    """Run a sequence; return the result and the state after each of its steps.

    Args:
        name: The world.
        steps: What to do: name, index of the slot, arguments.
        wanted: The trace to wait for, if there is one.
        patience: How long a state may take to become the wanted one.
    """
    world = Datagrams() if name == "datagrams" else World(name)
    trace: list[Any] = []
    try:
        for i, (step, index, *args) in enumerate(steps):
            done = world.do(step, index, args)
            state = world.look()
            if i < len(wanted) and wanted[:i] == trace:
                end = time.monotonic() + patience
                while state != wanted[i][1] and time.monotonic() < end:
                    time.sleep(0.001)
                    state = world.look()
            trace.append([done, state])
    finally:
        world.close()
    return trace


def main() -> None:
    """Answer each line with a trace."""
    for line in sys.stdin:
        request = json.loads(line)
        signal.alarm(20)
        trace = run(*request)
        signal.alarm(0)
        sys.stdout.write(json.dumps(trace) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
