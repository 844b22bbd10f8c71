"""Stack servers in this process, with a clock and a wire that tests move by hand.

lwIP keeps its state in globals, so each stack is a copy of the library of its own.
Whatever the wire does to a frame, the test says; nothing depends on time.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import shutil
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum, IntFlag
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from umview._core import lib

_TREE = Path(__file__).parent.parent.parent
BUILT = _TREE / os.environ.get("UMVIEW_STACKD", "build/stackd")
"""Where the stack server is; see test-sanitised in the Makefile."""

_FORMAT = struct.Struct("=QQIi16sHHI16sHHIIIHHhBB6sHI4x")
_LENGTH = struct.Struct("=H")  # before each frame of a message on a wire
_LONGEST = 1 << 17
_TICK_MS = 10
_LONG, _LONG_TICK_MS = 60, 100
_WIRE_MTU = 65500


class Kind(IntEnum):
    """enum um_packet_kind."""

    CARD = lib.UM_PACKET_CARD
    ADDRESS = lib.UM_PACKET_ADDRESS
    GATEWAY = lib.UM_PACKET_GATEWAY
    FORWARD = lib.UM_PACKET_FORWARD
    CONNECT = lib.UM_PACKET_CONNECT
    LISTEN = lib.UM_PACKET_LISTEN
    START = lib.UM_PACKET_START
    CLOSE = lib.UM_PACKET_CLOSE
    PORT = lib.UM_PACKET_PORT
    GROUP = lib.UM_PACKET_GROUP
    SEND = lib.UM_PACKET_SEND
    OPTIONS = lib.UM_PACKET_OPTIONS
    ADMIT = lib.UM_PACKET_ADMIT
    READY = lib.UM_PACKET_READY
    HAS = lib.UM_PACKET_HAS
    ROUTER = lib.UM_PACKET_ROUTER
    DNS = lib.UM_PACKET_DNS
    DOMAIN = lib.UM_PACKET_DOMAIN
    ASK = lib.UM_PACKET_ASK
    CONNECTED = lib.UM_PACKET_CONNECTED
    ACCEPTED = lib.UM_PACKET_ACCEPTED
    ENDED = lib.UM_PACKET_ENDED
    LOST = lib.UM_PACKET_LOST
    FOUND = lib.UM_PACKET_FOUND
    RECEIVED = lib.UM_PACKET_RECEIVED
    PLUG = lib.UM_PACKET_PLUG


class Flag(IntFlag):
    """The flags of a message."""

    NONE = 0
    REMOVE = lib.UM_PACKET_REMOVE
    V6ONLY = lib.UM_PACKET_V6ONLY
    DHCP = lib.UM_PACKET_DHCP
    DHCP6 = lib.UM_PACKET_DHCP6
    SLAAC = lib.UM_PACKET_SLAAC
    BARE = lib.UM_PACKET_BARE
    AT_ONCE = lib.UM_PACKET_AT_ONCE
    ROUTERS = lib.UM_PACKET_ROUTERS
    TRAINS = lib.UM_PACKET_TRAINS
    WIRE = lib.UM_PACKET_WIRE
    ONLY_V4 = lib.UM_PACKET_ONLY_V4


class Name(NamedTuple):
    """An end of a connection; card: of a link-local address."""

    address: str
    port: int = 0
    card: int = 0

    def pack(self) -> tuple[bytes, int, int, int]:
        """Return the fields of a struct um_packet_name."""
        address = ipaddress.ip_address(self.address)
        if address.version == 4:
            address = ipaddress.ip_address(f"::ffff:{address}")
        return address.packed, self.port, 0, self.card

    @classmethod
    def unpack(cls, raw: bytes, port: int, card: int) -> Name:
        """Read the fields of a struct um_packet_name."""
        address = ipaddress.IPv6Address(raw)
        return cls(str(address.ipv4_mapped or address), port, card)


_NOWHERE = Name("::")


class Packet(NamedTuple):
    """A message (struct um_packet) with its data and its descriptor."""

    kind: Kind
    id: int = 0
    listener: int = 0
    error: int = 0
    local: Name = _NOWHERE
    remote: Name = _NOWHERE
    card: int = 0
    flags: Flag = Flag.NONE
    protocol: int = 0
    mtu: int = 0
    prefix: int = 0
    ttl: int = 64
    tos: int = 0
    mac: bytes = bytes(6)
    mss: int = 0
    data: bytes = b""
    end: socket.socket | None = None

    def pack(self) -> bytes:
        """Return the message's bytes."""
        head = _FORMAT.pack(
            self.id,
            self.listener,
            self.kind,
            self.error,
            *self.local.pack(),
            *self.remote.pack(),
            self.card,
            self.flags,
            self.protocol,
            self.mtu,
            self.prefix,
            self.ttl,
            self.tos,
            self.mac,
            self.mss,
            len(self.data),
        )
        return head + self.data

    @classmethod
    def unpack(cls, raw: bytes, end: socket.socket | None) -> Packet:
        """Read a message."""
        f = _FORMAT.unpack_from(raw)
        return cls(
            Kind(f[2]),
            f[0],
            f[1],
            f[3],
            Name.unpack(f[4], f[5], f[7]),
            Name.unpack(f[8], f[9], f[11]),
            f[12],
            Flag(f[13]),
            f[14],
            f[15],
            f[16],
            f[17],
            f[18],
            f[19],
            f[20],
            raw[_FORMAT.size :],
            end,
        )


def receive(line: socket.socket) -> Packet:
    """Take a message from a line; its flags say whether that waits.

    Raises:
        BlockingIOError: There is none.
    """
    raw, fds, _, _ = socket.recv_fds(line, _LONGEST, 1)
    assert raw, "the stack server is gone"
    return Packet.unpack(raw, socket.socket(fileno=fds[0]) if fds else None)


class Card:
    """A card of a stack server, whose wire's other end is ours."""

    def __init__(self, stack: Stack, number: int) -> None:
        self._stack, self._number = stack, number
        self._plug, self._theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self.wire: socket.socket | None = None

    def plug(self, mtu: int, flags: Flag, mac: bytes) -> None:
        """Add it, with a link."""
        self.link_up(mtu, flags & Flag.BARE)
        flags &= ~Flag.BARE
        card = Packet(Kind.CARD, card=self._number, mtu=mtu, flags=flags, mac=mac)
        self._stack.send(card, self._theirs)
        self._theirs.close()

    def link_up(self, mtu: int, flags: Flag = Flag.NONE) -> None:
        """Give it a wire, as its plug process does."""
        self.link_down()
        self.wire, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.wire.setblocking(False)
        with theirs:
            all_flags = flags | Flag.TRAINS
            message = Packet(Kind.FOUND, id=1, mtu=mtu, flags=all_flags).pack()
            socket.send_fds(self._plug, [message], [theirs.fileno()])

    def link_down(self) -> None:
        """Take its wire away."""
        if self.wire:
            self.wire.close()
        self.wire = None

    def frames(self) -> Iterator[bytes]:
        """Take the frames that were sent by it."""
        while self.wire:
            try:
                train = self.wire.recv(_LONGEST)
            except BlockingIOError:
                return
            while train:
                (length,) = _LENGTH.unpack_from(train)
                yield train[_LENGTH.size : _LENGTH.size + length]
                train = train[_LENGTH.size + length :]

    def bring(self, frame: bytes, now_ms: int) -> None:
        """Put a frame on its wire, when there is room; without one it is lost."""
        while self.wire:
            try:
                self.wire.send(_LENGTH.pack(len(frame)) + frame)
            except BlockingIOError:
                self._stack.step(now_ms)
            else:
                return

    def close(self) -> None:
        """End it."""
        self._plug.close()
        self.link_down()


class Stack:
    """A stack server with cards from number 2 on."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.test_create.restype = ctypes.c_void_p
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.setblocking(False)  # recv_fds() drops its flags in Python 3.11
        self._server = ctypes.c_void_p(self._library.test_create(theirs.detach()))
        self.cards: list[Card] = []
        self.told: list[Packet] = []
        self.admits = True  # all who begin to connect
        self._ids = 0

    def plug(self, mtu: int, flags: Flag, mac: bytes) -> None:
        """Add a card, with a link."""
        self.cards.append(Card(self, len(self.cards) + 2))
        self.cards[-1].plug(mtu, flags, mac)

    def link_up(self, mtu: int, flags: Flag = Flag.NONE) -> None:
        """Give the first card a wire."""
        self.cards[0].link_up(mtu, flags)

    def link_down(self) -> None:
        """Take the first card's wire away."""
        self.cards[0].link_down()

    def bring(self, frame: bytes) -> None:
        """Put a frame on the first card's wire."""
        self.cards[0].bring(frame, 0)

    def send(self, packet: Packet, end: socket.socket | None = None) -> None:
        """Say something to the stack server."""
        if end is None:
            self.line.send(packet.pack())
        else:
            socket.send_fds(self.line, [packet.pack()], [end.fileno()])

    def add(self, interface: str, flags: Flag = Flag.NONE, card: int = 2) -> None:
        """Give a card an address."""
        own = ipaddress.ip_interface(interface)
        prefix = own.network.prefixlen + (96 if own.version == 4 else 0)
        local = Name(str(own.ip))
        message = Packet(
            Kind.ADDRESS, card=card, local=local, prefix=prefix, flags=flags
        )
        self.send(message)

    def new_id(self) -> int:
        """Return a number that names a connection or a listener."""
        self._ids += 1
        return self._ids

    def step(self, now_ms: int) -> int:
        """Let it do what is to be done; return how much that was."""
        self._library.test_clock(ctypes.c_uint32(now_ms))
        done: int = self._library.test_step(self._server)
        assert done >= 0
        while True:
            try:
                packet = receive(self.line)
            except BlockingIOError:
                return done
            if packet.kind is Kind.ASK and self.admits:
                self.send(Packet(Kind.ADMIT, packet.id))
            else:
                self.told.append(packet)

    def take(self, kind: Kind) -> Packet | None:
        """Take the first message of a kind that was told, if there is one."""
        for packet in self.told:
            if packet.kind is kind:
                self.told.remove(packet)
                return packet
        return None

    def checksum(self, data: bytes) -> int:
        """Return what it takes for the checksum of the data."""
        value: int = self._library.test_checksum(data, len(data))
        return value

    def close(self) -> None:
        """End it."""
        self._library.test_destroy(self._server)
        self.line.close()
        for card in self.cards:
            card.close()
        for packet in self.told:
            if packet.end:
                packet.end.close()


Rule = Callable[[int, bytes], list[bytes]]
"""What becomes of a frame of stack 0 or 1: usually itself, once.

On the second wire of a line of stacks they are 2 and 3.
"""


class Lab:
    """Stacks in a line: the last card of each leads to the first card of the next."""

    def __init__(self, stacks: list[Stack]) -> None:
        self.stacks = stacks
        self.now_ms = 1000
        self.seen: list[tuple[int, bytes]] = []
        self.rule: Rule = lambda _, frame: [frame]
        self._ends: list[socket.socket] = []

    def _move(self) -> int:
        moved = 0
        for wire, (one, other) in enumerate(pairwise(self.stacks)):
            if not (one.cards and other.cards):
                continue
            ends = one.cards[-1], other.cards[0]
            for end in range(2):
                for frame in ends[end].frames():
                    moved += 1
                    self.seen.append((2 * wire + end, frame))
                    for left in self.rule(2 * wire + end, frame):
                        ends[not end].bring(left, self.now_ms)
        return moved

    def settle(self) -> None:
        """Let both do all that they can do without time going by."""
        while sum(stack.step(self.now_ms) for stack in self.stacks) + self._move():
            pass

    def run(
        self, until: Callable[[], object], seconds: float = 10, tick_ms: int = _TICK_MS
    ) -> int:
        """Let time go by until something is so; return the milliseconds.

        Raises:
            AssertionError: It is not so after all these (simulated) seconds.
        """
        begun = self.now_ms
        self.settle()
        while not until():
            assert self.now_ms - begun < seconds * 1000, "it does not come about"
            self.now_ms += tick_ms
            self.settle()
        return self.now_ms - begun

    def wait(self, seconds: float) -> None:
        """Let so much time go by."""
        end = self.now_ms + int(seconds * 1000)
        tick_ms = _TICK_MS if seconds < _LONG else _LONG_TICK_MS
        self.run(lambda: self.now_ms >= end, seconds + 1, tick_ms)

    def ready(self) -> None:
        """Wait until duplicate addresses would have been detected."""
        self.wait(3)
        for stack in self.stacks:
            stack.told.clear()
        self.seen.clear()

    def hear(self, side: int, kind: Kind, seconds: float = 10) -> Packet:
        """Wait for a message of a stack."""
        found: deque[Packet] = deque()

        def look() -> bool:
            packet = self.stacks[side].take(kind)
            if packet:
                found.append(packet)
            return packet is not None

        self.run(look, seconds)
        return found[0]

    def own(self, end: socket.socket) -> socket.socket:
        """Close it at the end."""
        self._ends.append(end)
        return end

    def start(self, side: int, number: int) -> socket.socket:
        """Give a connection its surrogate; return the program's end."""
        program, ours = socket.socketpair()
        program.setblocking(False)
        self.stacks[side].send(Packet(Kind.START, number), ours)
        ours.close()
        return self.own(program)

    def listen(self, side: int, name: Name, flags: Flag = Flag.NONE) -> int:
        """Let a stack listen."""
        number = self.stacks[side].new_id()
        self.stacks[side].send(Packet(Kind.LISTEN, number, local=name, flags=flags))
        assert self.hear(side, Kind.READY).error == 0
        return number

    def dial(self, side: int, local: Name, remote: Name) -> int:
        """Let a stack connect."""
        number = self.stacks[side].new_id()
        self.stacks[side].send(Packet(Kind.CONNECT, number, local=local, remote=remote))
        return number

    def close(self) -> None:
        """End all."""
        for end in self._ends:
            end.close()
        for stack in self.stacks:
            stack.close()


def _load(library: Path, folder: Path, count: int) -> Lab:
    stacks = []
    for number in range(count):
        copy = folder / f"stack{number}.so"
        shutil.copy(library, copy)
        stacks.append(Stack(copy))
    return Lab(stacks)


@contextmanager
def lab(
    library: Path,
    folder: Path,
    *,
    mtu: int = 1500,
    flags: tuple[Flag, Flag] = (Flag.NONE, Flag.NONE),
    addresses: bool = True,
) -> Iterator[Lab]:
    """Make two stacks on a wire: 10.9.0.1 and 10.9.0.2, fd09::1 and fd09::2."""
    one = _load(library, folder, 2)
    try:
        for side, stack in enumerate(one.stacks):
            stack.plug(mtu, flags[side], bytes([2, 0, 0, 0, 9, side + 1]))
            if addresses:
                stack.add(f"10.9.0.{side + 1}/24")
                stack.add(f"fd09::{side + 1}/64")
            assert one.hear(side, Kind.READY).error == 0
        yield one
    finally:
        one.close()


@contextmanager
def routed_lab(library: Path, folder: Path, mtus: tuple[int, int]) -> Iterator[Lab]:
    """Make two stacks, 0 and 2, with a router, 1, between them.

    On wire 0 are 10.1.0.1 and the router's 10.1.0.254 (fd01::1, fd01::fe), on wire 1
    the router's 10.2.0.254 and 10.2.0.1 (fd02::fe, fd02::1).

    Args:
        library: The stack server's.
        folder: Where its copies go.
        mtus: Of each wire.
    """
    one = _load(library, folder, 3)
    try:
        for side, wires in enumerate(([0], [0, 1], [1])):
            for wire in wires:
                mac = bytes([2, 0, 0, 0, wire + 1, side])
                one.stacks[side].plug(mtus[wire], Flag.NONE, mac)
                assert one.hear(side, Kind.READY).error == 0
        for side, card, net, host4, host6 in (
            (0, 2, 1, "1", "1"),
            (1, 2, 1, "254", "fe"),
            (1, 3, 2, "254", "fe"),
            (2, 2, 2, "1", "1"),
        ):
            stack = one.stacks[side]
            stack.add(f"10.{net}.0.{host4}/24", card=card)
            stack.add(f"fd0{net}::{host6}/64", Flag.AT_ONCE, card=card)
            if side != 1:
                for gateway in (f"10.{net}.0.254", f"fd0{net}::fe"):
                    stack.send(Packet(Kind.GATEWAY, card=2, remote=Name(gateway)))
        one.stacks[1].send(Packet(Kind.FORWARD, flags=Flag(1)))
        one.ready()
        yield one
    finally:
        one.close()
