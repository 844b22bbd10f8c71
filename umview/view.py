"""What a view consists of, as plain values.

Values are named tuples all over umview: dataclasses cost 15 of the 70 ms that a start
takes, half of them to import the module `inspect`.
"""

from __future__ import annotations

import socket
from collections.abc import Container, Sequence
from enum import IntEnum, IntFlag
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import NamedTuple, Protocol, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network


FOLDERS = ("/proc/net/", "/proc/sys/net/", "/sys/class/net")
"""Where files tell of the network; with "/" at the end, what lies below it only."""


NET = "/dev/net/"
"""Where stacks are usually mounted."""

DEFAULT = f"{NET}default"
"""Where the stack is that programs get that ask for none."""


def free_path(module: str, taken: Container[str]) -> str:
    """Return a path that is free for a module's stack."""
    if DEFAULT not in taken:
        return DEFAULT
    number = 1
    while (path := f"{NET}{module}{number}") in taken:
        number += 1
    return path


class StackKind(IntEnum):
    """What a stack does with the sockets of its view (enum um_stack_kind)."""

    NET = 0
    NULL = 1
    NATIVE = 2
    APART = 3
    LINK = 4


class Road(IntEnum):
    """Where a route leads (enum um_road)."""

    LOCAL = 0
    RELAY = 1
    REFUSED = 2
    UNREACHABLE = 3
    PACKET = 4


class Filter(IntFlag):
    """The optional calls that are stopped, and what stops all of them (UM_FILTER_*)."""

    NONE = 0
    FILES = 1
    TRACE = 2
    OVERLAY = 4


class Route(NamedTuple):
    """A route of a stack.

    Attributes:
        to: The destinations.
        road: Where they are reached.
        card: The index of its card.
        source: The address that a socket gets which takes it; None for none.
    """

    to: Network
    road: Road
    card: int
    source: Address | None = None


class Card(NamedTuple):
    """A network interface of a stack.

    Attributes:
        number: Its interface index; 1 is the loopback card, and only that.
        name: Its name, at most 15 bytes long.
        mac: Its Ethernet address, 6 bytes.
        mtu: The longest packet that it takes.
        addresses: Its addresses, each with its prefix.
        gateways: The routers of the default routes that leave by this card.
        has_carrier: Whether what it is plugged into is there.
    """

    number: int
    name: str
    mac: bytes
    mtu: int
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...] = ()
    has_carrier: bool = True

    @property
    def is_loopback(self) -> bool:
        """Whether this is ``lo``."""
        return self.number == 1


LOOPBACK = (IPv4Interface("127.0.0.1/8"), IPv6Interface("::1/128"))


def lo(*versions: int) -> Card:
    """Return the loopback card of a stack with these versions of IP."""
    own = tuple(one for one in LOOPBACK if one.version in versions)
    return Card(1, "lo", bytes(6), 65536, own)


class TcpState(IntEnum):
    """The states of a socket that a view tells apart (netinet/tcp.h)."""

    ESTABLISHED = 1
    SYN_SENT = 2
    FIN_WAIT2 = 5
    CLOSE = 7
    CLOSE_WAIT = 8
    LISTEN = 10


class Socket(NamedTuple):
    """A socket of a view, for the tables that tell of them (struct um_socket_info).

    Attributes:
        stack: The number of its stack.
        cookie: The number that the kernel gives once.
        family: AF_INET, AF_INET6 or AF_NETLINK.
        type: SOCK_STREAM, SOCK_DGRAM or SOCK_RAW.
        protocol: IPPROTO_*.
        state: As in <netinet/tcp.h>.
        local: Its address as 16 bytes, IPv4 as ::ffff:a.b.c.d.
        local_port: Its port.
        remote: The address of its peer.
        remote_port: The peer's port.
        inode: That of the program's descriptor.
        card: The index of the card that it is bound to, or 0.
        waiting: Bytes to be read; of a listener, connections to be accepted.
        backlog: Of a listener.
        is_v6only: Whether IPV6_V6ONLY is set.
    """

    stack: int
    cookie: int
    family: int
    type: int
    protocol: int
    state: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    inode: int
    card: int
    waiting: int
    backlog: int
    is_v6only: bool


def in_family(family: int, address: bytes) -> bytes:
    """Return an address of a `Socket` as the tables of its family have it."""
    if family == socket.AF_INET:
        return address[12:]
    is_any4 = address[10] and not any(address[12:])
    return bytes(16) if is_any4 else address


def is_listed(sock: Socket) -> bool:
    """Whether a socket is in the kernel's tables: raw, or with a port in use."""
    if sock.type == socket.SOCK_STREAM:
        return sock.state != TcpState.CLOSE
    return sock.type == socket.SOCK_RAW or sock.local_port != 0


class Service(Protocol):
    """Something that serves the view from the supervisor, once it is asked to."""

    def filenos(self) -> Sequence[int]:
        """Return the descriptors whose readability means that it is wanted."""
        ...

    def start(self) -> None:
        """Take those descriptors over and serve, in threads of its own."""
        ...


class Steward(Protocol):
    """Who knows what becomes of a stack's cards while it runs."""

    def hear(self, message: bytes) -> tuple[Card, ...]:
        """Take what the stack server says about a card, and do what follows.

        Args:
            message: As it came on the line (csrc/stackd/packet_road.h).

        Returns:
            The cards as they are now.
        """
        ...

    def name_servers(self) -> Sequence[Address]:
        """Return those that /etc/resolv.conf names, but for link-local addresses."""
        ...

    def note_neighbour(self, card: Card, address: IPv4Address, mac: bytes) -> None:
        """Take it that a neighbour of a card is at that Ethernet address.

        Raises:
            OSError: EOPNOTSUPP if the card is on no Ethernet.
        """
        ...


class Stack(NamedTuple):
    """A stack of a view.

    Attributes:
        number: Its number on the switchboard.
        kind: What it does with sockets.
        cards: Its cards; none where the kind is NULL or NATIVE.
        services: What serves it from the supervisor.
        steward: Who keeps its cards; None where they do not change.
    """

    number: int
    kind: StackKind
    cards: tuple[Card, ...] = ()
    services: tuple[Service, ...] = ()
    steward: Steward | None = None

    @property
    def carriers(self) -> tuple[bool, ...]:
        """Which of its cards have a carrier."""
        return tuple(card.has_carrier for card in self.cards)
