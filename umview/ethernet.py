"""A switch for views under test: an Ethernet whose links can be cut and spoiled.

It speaks the protocol of VDE's switches, so whatever libvdeplug can plug in may join: a
client connects to FOLDER/ctl, says where its frames are to go (a datagram socket) and
which port it wants, hears where the switch takes frames, and is there until that
connection ends. A vde_switch with a wirefilter for each port could do much of this, in
three processes for each host; but what is lost could not be said for a pair of hosts,
and no seed would make a run like the last one.

A frame from one port to another may be lost or late by what is said of the whole
network and of either port; frames between two ports keep their order, as on a cable.
The fate of a frame is decided by its number among those of its two ports, and the seed.

The process belongs to an `umview.network.Network`: it takes its orders from stdin, a
JSON object a line, answers each by a line on stdout, and ends with stdin.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import NamedTuple

_MAGIC, _VERSION = 0xFEEDFACE, 3
_REQUEST = struct.Struct("=III")  # magic, version, and the port's number above a byte
_ADDRESS = struct.Struct("=H108s")  # struct sockaddr_un
_FRAME_MAX = 1 << 16
_FRAMES_AT_ONCE = 64
_QUEUE = 512  # frames that wait for a port's reader; the next is lost
_FREE = 1000  # ports of those who ask for none are numbered from here
_GROUP = 1  # of a multicast address


class Spoiled(NamedTuple):
    """What befalls frames.

    Attributes:
        loss: How many of a hundred are lost.
        delay: How late they come, in seconds.
        jitter: By how much more at most, in seconds.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0


_SOUND = Spoiled()


class _Port:
    """A client.

    Attributes:
        number: Its own, or what it asked for.
        control: Ends when the client does.
        data: Frames, both ways.
        queue: What its reader has no room for now.
    """

    def __init__(
        self, number: int, control: socket.socket, data: socket.socket
    ) -> None:
        self.number = number
        self.control = control
        self.data = data
        self.queue: deque[bytes] = deque()


class _Pair:
    """The frames from one port to another.

    Attributes:
        dice: Decide on their fate.
        last: When the last one arrives.
    """

    def __init__(self, seed: str) -> None:
        self.dice = Random(seed)
        self.last = 0.0


class Switch:
    """The switch; see above."""

    def __init__(self, folder: str, seed: str) -> None:
        """Listen for clients.

        Args:
            folder: Where; it is there and empty.
            seed: Decides what is lost and late.

        Raises:
            OSError: As bind(2).
        """
        self._folder = folder
        self._seed = seed
        self._poll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._ports: dict[int, _Port] = {}
        self._where: dict[bytes, int] = {}  # Ethernet address to port
        self._pairs: dict[tuple[int, int], _Pair] = {}
        self._groups: dict[int, int] = {}  # those that are not in it are together
        self._all = _SOUND
        self._spoiled: dict[int, Spoiled] = {}
        self._late: list[tuple[float, int, int, int, bytes]] = []  # a heap
        self._count = 0
        self._running = True
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"{folder}/ctl")
        self._listener.listen()
        self._listener.setblocking(False)
        self._watch(self._listener.fileno(), self._knocked)

    def run(self, orders: int, answers: int) -> None:
        """Switch frames until there are no more orders.

        Args:
            orders: The descriptor that they come from.
            answers: Where they are answered.
        """
        os.set_blocking(orders, False)
        self._watch(orders, partial(self._ordered, orders, answers, bytearray()))
        while self._running:
            for fd, events in self._poll.poll(self._until_next()):
                if fd in self._callbacks:
                    self._callbacks[fd](events)
            self._deliver_late()

    def _watch(self, fd: int, callback: Callable[[int], None]) -> None:
        self._callbacks[fd] = callback
        self._poll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._callbacks[fd]
        self._poll.unregister(fd)

    # ---- clients ----

    def _knocked(self, _: int) -> None:
        with contextlib.suppress(OSError):
            control, _address = self._listener.accept()
            control.setblocking(False)
            self._watch(control.fileno(), partial(self._plugged, control))

    def _plugged(self, control: socket.socket, _: int) -> None:
        """Hear what a client wants; one that cannot have it is sent away."""
        self._unwatch(control.fileno())
        with contextlib.suppress(OSError, struct.error, UnicodeError, ValueError):
            request = control.recv(4096)
            magic, version, wanted = _REQUEST.unpack_from(request)
            _, path = _ADDRESS.unpack_from(request, _REQUEST.size)
            number = wanted >> 8 or self._free_number()
            if (magic, version) == (_MAGIC, _VERSION) and number not in self._ports:
                self._add(number, control, path.rstrip(b"\0").decode())
                return
        control.close()

    def _free_number(self) -> int:
        number = _FREE
        while number in self._ports:
            number += 1
        return number

    def _add(self, number: int, control: socket.socket, theirs: str) -> None:
        """Give a client its port.

        Raises:
            OSError: Its socket, or ours, cannot be.
        """
        data = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            data.setblocking(False)
            ours = f"{self._folder}/{number}.{data.fileno()}"
            data.bind(ours)
            data.connect(theirs)
            control.send(_ADDRESS.pack(socket.AF_UNIX, ours.encode()))
        except BaseException:
            data.close()
            raise
        port = _Port(number, control, data)
        self._ports[number] = port
        self._watch(control.fileno(), partial(self._unplugged, port))
        self._watch(data.fileno(), partial(self._moved, port))

    def _unplugged(self, port: _Port, _: int) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if port.control.recv(4096):
                return  # nothing that we know of
        self._remove(port)

    def _remove(self, port: _Port) -> None:
        del self._ports[port.number]
        for sock in (port.control, port.data):
            self._unwatch(sock.fileno())
        with contextlib.suppress(OSError):
            os.unlink(port.data.getsockname())
        port.control.close()
        port.data.close()
        gone = [mac for mac, at in self._where.items() if at == port.number]
        for mac in gone:
            del self._where[mac]

    # ---- frames ----

    def _moved(self, port: _Port, events: int) -> None:
        if events & select.EPOLLOUT:
            self._empty_queue(port)
        if events & ~select.EPOLLOUT:
            self._receive(port)

    def _receive(self, port: _Port) -> None:
        for _ in range(_FRAMES_AT_ONCE):
            try:
                frame = port.data.recv(_FRAME_MAX)
            except OSError:  # nothing is left, or an error of a client that has gone
                return
            if len(frame) > 12:
                self._where[frame[6:12]] = port.number
                self._switch(port.number, frame)

    def _switch(self, source: int, frame: bytes) -> None:
        target = None if frame[0] & _GROUP else self._where.get(frame[:6])
        for number in self._ports if target is None else (target,):
            if number != source and self._reaches(source, number):
                self._spoil(source, number, frame)

    def _reaches(self, source: int, target: int) -> bool:
        return self._groups.get(source, 0) == self._groups.get(target, 0)

    def _spoil(self, source: int, target: int, frame: bytes) -> None:
        """Deliver a frame, sooner or later, or not at all."""
        parts = (
            self._all,
            self._spoiled.get(source, _SOUND),
            self._spoiled.get(target, _SOUND),
        )
        if parts == (_SOUND, _SOUND, _SOUND) and not self._late:
            self._send(target, frame)
            return
        pair = self._pair(source, target)
        luck, more = pair.dice.random(), pair.dice.random()
        passes = 1.0
        delay = 0.0
        for part in parts:
            passes *= 1 - part.loss / 100
            delay += part.delay + more * part.jitter
        if luck < passes:
            self._count += 1
            pair.last = max(pair.last, time.monotonic() + delay)
            late = (pair.last, self._count, source, target, frame)
            heapq.heappush(self._late, late)

    def _pair(self, source: int, target: int) -> _Pair:
        key = source, target
        if key not in self._pairs:
            self._pairs[key] = _Pair(f"{self._seed} {source} {target}")
        return self._pairs[key]

    def _until_next(self) -> float | None:
        if not self._late:
            return None
        return max(0.0, self._late[0][0] - time.monotonic())

    def _deliver_late(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, source, target, frame = heapq.heappop(self._late)
            if self._reaches(source, target):
                self._send(target, frame)

    def _send(self, number: int, frame: bytes) -> None:
        port = self._ports.get(number)
        if port is None or len(port.queue) >= _QUEUE:
            return
        port.queue.append(frame)
        if len(port.queue) == 1:
            self._empty_queue(port)
            if port.queue:
                self._poll.modify(port.data, select.EPOLLIN | select.EPOLLOUT)

    def _empty_queue(self, port: _Port) -> None:
        while port.queue:
            try:
                port.data.send(port.queue[0])
            except BlockingIOError:
                return
            except OSError:  # it is going
                pass
            port.queue.popleft()
        self._poll.modify(port.data, select.EPOLLIN)

    # ---- orders ----

    def _ordered(self, orders: int, answers: int, held: bytearray, _: int) -> None:
        data = os.read(orders, _FRAME_MAX)
        self._running = bool(data)
        held += data
        while b"\n" in held:
            line, held[:] = held.split(b"\n", 1)
            self._order(**json.loads(line))
            os.write(answers, b"\n")

    def _order(self, do: str, **words: object) -> None:
        handlers: dict[str, Callable[..., None]] = {
            "heal": self._heal,
            "partition": self._partition,
            "spoil": self._set_spoiled,
            "look": lambda: None,
        }
        handlers[do](**words)

    def _partition(self, groups: Iterable[Iterable[int]]) -> None:
        """Let nobody reach who is in another group."""
        self._groups = {
            port: number for number, ports in enumerate(groups, 1) for port in ports
        }

    def _heal(self) -> None:
        self._groups.clear()
        self._spoiled.clear()
        self._all = _SOUND

    def _set_spoiled(self, ports: Iterable[int] | None, **words: float) -> None:
        """Change what befalls frames of some ports; None: of all, wherever they go."""
        if ports is None:
            self._all = self._all._replace(**words)
        else:
            for port in ports:
                before = self._spoiled.get(port, _SOUND)
                self._spoiled[port] = before._replace(**words)


def main() -> None:
    """Be the switch, in the folder and with the seed of the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; stdin ends in time
    Switch(sys.argv[1], sys.argv[2]).run(0, 1)


if __name__ == "__main__":
    main()
