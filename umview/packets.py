"""What is said to stack servers and plug processes, and what they say.

The messages of csrc/stackd/packet_road.h, as bytes and as values.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Any, NamedTuple

from umview._ffi import MAPPED, ffi, lib, pack, prefix_of

if TYPE_CHECKING:
    from umview.view import Address, Interface


class CardAt(IntFlag):
    """How a card of a stack server is to be (UM_PACKET_*)."""

    NONE = 0
    DHCP = lib.UM_PACKET_DHCP
    DHCP6 = lib.UM_PACKET_DHCP6
    SLAAC = lib.UM_PACKET_SLAAC
    ROUTERS = lib.UM_PACKET_ROUTERS
    ONLY_V4 = lib.UM_PACKET_ONLY_V4


class PlugAt(IntFlag):
    """What a card is to be plugged into (UM_PACKET_*)."""

    VNL = 0
    WIRE = lib.UM_PACKET_WIRE
    BARE = lib.UM_PACKET_BARE


class Ready(NamedTuple):
    """What a stack server says of a card (UM_PACKET_READY).

    Attributes:
        card: Its index.
        error: An errno: why there is none; or 0.
        mac: Its Ethernet address.
        mtu: The longest packet that it takes.
    """

    card: int
    error: int
    mac: bytes
    mtu: int


def card_message(card: int, mtu: int, mac: bytes, flags: CardAt) -> bytes:
    """Return the message to a stack server that makes a card (UM_PACKET_CARD)."""
    packet = _packet(lib.UM_PACKET_CARD, card)
    packet.mtu, packet.flags = mtu, flags
    ffi.buffer(packet.mac)[0 : len(mac)] = mac
    return bytes(ffi.buffer(packet))


def plug_message(mtu: int, flags: PlugAt, where: bytes) -> bytes:
    """Return the message to a plug process that plugs it in (UM_PACKET_PLUG)."""
    packet = _packet(lib.UM_PACKET_PLUG, 0)
    packet.mtu, packet.flags, packet.len = mtu, flags, len(where)
    return bytes(ffi.buffer(packet)) + where


def address_message(card: int, own: Interface) -> bytes:
    """Return the message that gives a card an address (UM_PACKET_ADDRESS).

    It counts at once: a command would start a second later if its uniqueness had to be
    found out first.
    """
    packet = _packet(lib.UM_PACKET_ADDRESS, card)
    ffi.buffer(packet.local.addr)[:] = pack(own.ip)
    packet.prefix, packet.flags = prefix_of(own), lib.UM_PACKET_AT_ONCE
    return bytes(ffi.buffer(packet))


def gateway_message(card: int, gateway: Address) -> bytes:
    """Return the message that names a card's gateway (UM_PACKET_GATEWAY)."""
    packet = _packet(lib.UM_PACKET_GATEWAY, card)
    ffi.buffer(packet.remote.addr)[:] = pack(gateway)
    return bytes(ffi.buffer(packet))


def _packet(kind: int, card: int) -> Any:  # noqa: ANN401  # struct um_packet *
    packet = ffi.new("struct um_packet *")
    packet.kind, packet.card = kind, card
    return packet


def read_ready(message: bytes) -> Ready | None:
    """Read what a stack server says; None if it is of something else."""
    packet = ffi.from_buffer("struct um_packet *", message)
    if packet.kind != lib.UM_PACKET_READY:
        return None
    return Ready(packet.card, packet.error, bytes(ffi.buffer(packet.mac)), packet.mtu)


def neighbour_message(card: int, address: Address, mac: bytes) -> bytes:
    """Return the message that says where a neighbour is (UM_PACKET_NEIGHBOUR)."""
    packet = _packet(lib.UM_PACKET_NEIGHBOUR, card)
    ffi.buffer(packet.remote.addr)[:] = pack(address)
    ffi.buffer(packet.mac)[:] = mac
    return bytes(ffi.buffer(packet))


def announce_message(card: int, advertisement: bytes) -> bytes:
    """Return the message that makes a card a router (UM_PACKET_ANNOUNCE)."""
    packet = _packet(lib.UM_PACKET_ANNOUNCE, card)
    packet.len = len(advertisement)
    return bytes(ffi.buffer(packet)) + advertisement


def forward_message() -> bytes:
    """Return the message that turns forwarding on (UM_PACKET_FORWARD)."""
    packet = _packet(lib.UM_PACKET_FORWARD, 0)
    packet.flags = 1
    return bytes(ffi.buffer(packet))


class NewsKind(IntEnum):
    """What a stack server says about a card by itself (UM_PACKET_*)."""

    HAS = lib.UM_PACKET_HAS
    ROUTER = lib.UM_PACKET_ROUTER
    DNS = lib.UM_PACKET_DNS
    DOMAIN = lib.UM_PACKET_DOMAIN
    LOST = lib.UM_PACKET_LOST
    FOUND = lib.UM_PACKET_FOUND


_NEWS = frozenset(NewsKind)


class News(NamedTuple):
    """Something that a stack server says about a card.

    Attributes:
        kind: What it is about.
        card: The card's index; 0 for all.
        is_gone: Whether what is named is there no longer.
        own: An address of the card with its prefix (HAS).
        peer: A router (ROUTER).
        data: Name servers or a domain.
        mtu: The longest packet that the link takes (FOUND).
        error: Why it is gone: EADDRINUSE, another on the link has the address.
    """

    kind: NewsKind
    card: int
    is_gone: bool
    own: Interface
    peer: Address
    data: bytes
    mtu: int = 0
    error: int = 0

    @property
    def servers(self) -> tuple[Address, ...]:
        """The name servers (DNS): all that the card knows of now."""
        return tuple(
            _unpack(self.data[at : at + 16]) for at in range(0, len(self.data), 16)
        )

    @property
    def domain(self) -> str:
        """The domain that names are searched in (DOMAIN), or nothing."""
        return self.data.decode("ascii", "replace")


def read_news(message: bytes) -> News | None:
    """Read what a stack server says; None if it is not about a card."""
    packet: Any = ffi.from_buffer("struct um_packet *", message)
    if packet.kind not in _NEWS:
        return None
    local = _unpack(bytes(packet.local.addr))
    prefix = max(packet.prefix - 128 + local.max_prefixlen, 0)
    return News(
        kind=NewsKind(packet.kind),
        card=packet.card,
        is_gone=bool(packet.flags & lib.UM_PACKET_REMOVE),
        own=ip_interface((local, prefix)),
        peer=_unpack(bytes(packet.remote.addr)),
        data=message[ffi.sizeof("struct um_packet") :],
        mtu=packet.mtu,
        error=packet.error,
    )


def _unpack(packed: bytes) -> Address:
    return ip_address(packed[12:] if packed.startswith(MAPPED) else packed)
