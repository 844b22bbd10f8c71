"""What a view consists of, as plain values.

Values are named tuples all over umview: dataclasses cost 15 of the 70 ms that a start
takes, half of them to import the module `inspect`.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class StackKind(IntEnum):
    """What a stack does with the sockets of its view (enum um_stack_kind)."""

    NET = 0
    NULL = 1
    NATIVE = 2


class Road(IntEnum):
    """Where a route leads (enum um_road)."""

    LOCAL = 0
    RELAY = 1
    REFUSED = 2
    UNREACHABLE = 3


class Filter(IntFlag):
    """The optional calls that are stopped (UM_FILTER_*)."""

    NONE = 0
    FILES = 1
    NAME = 2


class Card(NamedTuple):
    """A network interface of a stack.

    Attributes:
        number: Its interface index; 1 is the loopback card, and only that.
        name: Its name, at most 15 bytes long.
        mac: Its Ethernet address, 6 bytes.
        mtu: The longest packet that it takes.
        addresses: Its addresses, each with its prefix.
        gateways: The routers of the default routes that leave by this card.
    """

    number: int
    name: str
    mac: bytes
    mtu: int
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...] = ()

    @property
    def is_loopback(self) -> bool:
        """Whether this is ``lo``."""
        return self.number == 1


class Service(Protocol):
    """Something that serves the view from the supervisor, once it is asked to."""

    def filenos(self) -> Sequence[int]:
        """Return the descriptors whose readability means that it is wanted."""
        ...

    def start(self) -> None:
        """Take those descriptors over and serve, in threads of its own."""
        ...


class Stack(NamedTuple):
    """A stack of a view.

    Attributes:
        number: Its number on the switchboard.
        kind: What it does with sockets.
        cards: Its cards; none where the kind is not NET.
        services: What serves it from the supervisor.
    """

    number: int
    kind: StackKind
    cards: tuple[Card, ...] = ()
    services: tuple[Service, ...] = ()
