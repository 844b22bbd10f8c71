"""Router advertisements of a view that is a router: ``ra=FILE``.

A line of the file has a card, a word and a value; what follows ``#`` is for people:

    vd0 prefix fd00:5::/64     hosts make themselves addresses in this network
    vd0 dns fd00:5::1          they ask this name server
    vd0 domain lab.test        they search names there
    vd0 lifetime 1800          seconds for which the view is their router; 0: never

Source: RFC 4861, 4.2 and 4.6; RFC 8106, 5.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from umview.errors import UmviewError

_HEADER = struct.Struct(
    "!BBHBBHII"
)  # type, code, sum, hop limit, flags, lifetime, 0, 0
_PREFIX = struct.Struct("!BBBBIII16s")
_TYPE, _HOP_LIMIT = 134, 64
_ON_LINK_AND_AUTONOMOUS = 0xC0
_SOURCE, _PREFIX_INFO, _MTU, _RDNSS, _DNSSL = 1, 3, 5, 25, 31
_VALID, _PREFERRED = 86400, 14400
_LIFETIME, _LIFETIME_MAX = 1800, 9000


class Announcement(NamedTuple):
    """What a card announces.

    Attributes:
        prefixes: The networks of its link.
        dns: Name servers.
        domains: Where names are searched.
        lifetime: For how many seconds it is a router.
    """

    prefixes: tuple[IPv6Network, ...] = ()
    dns: tuple[IPv6Address, ...] = ()
    domains: tuple[str, ...] = ()
    lifetime: int = _LIFETIME


def read(path: str) -> dict[str, Announcement]:
    """Return what the cards of a view announce, by their names.

    Raises:
        UmviewError: The file cannot be read, or a line of it has no sense.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UmviewError(f"ra={path}: cannot be read: {exc}") from None
    found: dict[str, Announcement] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        try:
            if words:
                card, word, value = words
                found[card] = _with(found.get(card, Announcement()), word, value)
        except ValueError:
            raise UmviewError(
                f"ra={path}: line {number}: not a line like 'vd0 prefix fd00:5::/64'; "
                "known words: prefix, dns, domain, lifetime"
            ) from None
    return found


def _with(known: Announcement, word: str, value: str) -> Announcement:
    match word:
        case "prefix":
            return known._replace(prefixes=(*known.prefixes, IPv6Network(value)))
        case "dns":
            return known._replace(dns=(*known.dns, IPv6Address(value)))
        case "domain":
            _labels(value)
            return known._replace(domains=(*known.domains, value))
        case "lifetime" if 0 <= int(value) <= _LIFETIME_MAX:
            return known._replace(lifetime=int(value))
        case _:
            raise ValueError(word)


def encode(announcement: Announcement, mac: bytes, mtu: int) -> bytes:
    """Return the ICMPv6 message, without its checksum.

    Args:
        announcement: What it says.
        mac: The card's Ethernet address.
        mtu: The longest packet of its link.
    """
    lifetime = announcement.lifetime
    head = _HEADER.pack(_TYPE, 0, 0, _HOP_LIMIT, 0, lifetime, 0, 0)
    parts = [head, bytes((_SOURCE, 1)) + mac, struct.pack("!BBHI", _MTU, 1, 0, mtu)]
    parts += (
        _PREFIX.pack(
            *(_PREFIX_INFO, 4, net.prefixlen, _ON_LINK_AND_AUTONOMOUS),
            *(_VALID, _PREFERRED, 0, net.network_address.packed),
        )
        for net in announcement.prefixes
    )
    if announcement.dns:
        servers = b"".join(one.packed for one in announcement.dns)
        parts.append(_named(_RDNSS, servers))
    if announcement.domains:
        parts.append(_named(_DNSSL, b"".join(map(_labels, announcement.domains))))
    return b"".join(parts)


def _named(option: int, data: bytes) -> bytes:
    data += bytes(-len(data) % 8)
    return struct.pack("!BBHI", option, 1 + len(data) // 8, 0, _LIFETIME) + data


def _labels(domain: str) -> bytes:
    """Return a domain as DNS has it.

    Raises:
        ValueError: It is none.
    """
    labels = [label.encode("ascii") for label in domain.rstrip(".").split(".")]
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(domain)
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
