"""The structs of the SIOC* calls on interfaces (netdevice(7)), x86-64 and aarch64."""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import IPv4Address
from typing import NamedTuple

IFREQ = 40
"""Bytes of a struct ifreq: a name of 16, and a union of 24."""
_NAME = 16
_UNION = IFREQ - _NAME
_I32 = struct.Struct("=i")
_SOCKADDR_IN = struct.Struct("=H2x4s8x")
_HARDWARE = struct.Struct("=H6s")
_IFCONF = struct.Struct("=i4xQ")
_ARPREQ = struct.Struct("=H2x4s8xH6s8x4x16x16s")  # arp_pa, arp_ha, flags, mask, dev
_AF_INET = 2


class Siocgif(IntEnum):
    """The requests that ask about a card (linux/sockios.h)."""

    NAME = 0x8910
    CONF = 0x8912
    FLAGS = 0x8913
    ADDR = 0x8915
    DSTADDR = 0x8917
    BRDADDR = 0x8919
    NETMASK = 0x891B
    METRIC = 0x891D
    MTU = 0x8921
    HWADDR = 0x8927
    INDEX = 0x8933
    TXQLEN = 0x8942
    MAP = 0x8970


class Arpreq(NamedTuple):
    """A struct arpreq: where a neighbour of a card is."""

    address: IPv4Address
    mac: bytes
    card: str


def decode_arpreq(data: bytes) -> Arpreq:
    """Read a struct arpreq (arp(7))."""
    _, address, _, mac, card = _ARPREQ.unpack_from(data)
    return Arpreq(
        IPv4Address(address), mac, card.partition(b"\0")[0].decode("ascii", "replace")
    )


def name(ifreq: bytes) -> str:
    """Return the card's name that a struct ifreq holds."""
    return ifreq[:_NAME].partition(b"\0")[0].decode("ascii", "replace")


def index(ifreq: bytes) -> int:
    """Return the interface index that a struct ifreq holds."""
    value: int = _I32.unpack_from(ifreq, _NAME)[0]
    return value


def with_name(ifreq: bytes, card: str) -> bytes:
    """Return a struct ifreq with its name replaced."""
    return card.encode("ascii").ljust(_NAME, b"\0") + ifreq[_NAME:]


def with_value(ifreq: bytes, value: bytes) -> bytes:
    """Return a struct ifreq with the first bytes of its union replaced."""
    return ifreq[:_NAME] + value + ifreq[_NAME + len(value) :]


def int_value(value: int) -> bytes:
    """Return ifr_ifindex, ifr_metric, ifr_mtu or ifr_qlen."""
    return _I32.pack(value)


def flags_value(flags: int) -> bytes:
    """Return ifr_flags: the low 16 bits."""
    return struct.pack("=H", flags & 0xFFFF)


def address_value(address: IPv4Address) -> bytes:
    """Return ifr_addr and its like for an IPv4 address."""
    return _SOCKADDR_IN.pack(_AF_INET, address.packed)


def hardware_value(kind: int, mac: bytes) -> bytes:
    """Return ifr_hwaddr: an ARPHRD_* number and an Ethernet address."""
    return _HARDWARE.pack(kind, mac).ljust(16, b"\0")


def map_value() -> bytes:
    """Return ifr_map of a card without memory and interrupts."""
    return bytes(_UNION)


def decode_ifconf(data: bytes) -> tuple[int, int]:
    """Return the length and the address of the buffer that a struct ifconf names."""
    length: int
    address: int
    length, address = _IFCONF.unpack_from(data)
    return length, address


def encode_ifconf(length: int, address: int) -> bytes:
    """Return a struct ifconf."""
    return _IFCONF.pack(length, address)


def ifconf_entry(card: str, address: IPv4Address) -> bytes:
    """Return one struct ifreq of the list that SIOCGIFCONF gives."""
    return with_value(with_name(bytes(IFREQ), card), address_value(address))
