"""The options of ``-p umnetlwipv6``: text in, a checked plan out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import NamedTuple

from umview.errors import UmviewError
from umview.view import Address, Interface

_CARD = r"(?P<kind>vd|tp)(?P<number>[0-9]{1,3})"
_SCHEMES = {"vd": "vde://", "tp": "tap://"}
_MTU_MIN, _MTU_MAX = 1280, 65500
_ETHERNET = 1500
_FIRST = 2  # the loopback card is 1


class CardPlan(NamedTuple):
    """A card that is asked for.

    Attributes:
        name: Its name.
        vnl: What it is plugged into; empty for a direct wire.
        wire: The name of that wire; empty for a VNL.
        mtu: The longest packet that it is to take.
        mac: Its Ethernet address; empty for a random one.
        addresses: Its addresses.
        gateways: The routers of its default routes, at most one for a family.
    """

    name: str
    vnl: str
    wire: str
    mtu: int
    mac: bytes = b""
    addresses: tuple[Interface, ...] = ()
    gateways: tuple[Address, ...] = ()


class Plan(NamedTuple):
    """What ``-p umnetlwipv6`` is to set up.

    Attributes:
        cards: Besides ``lo``.
        dns: The name servers that /etc/resolv.conf names.
        domain: The domain that names are searched in.
    """

    cards: tuple[CardPlan, ...] = ()
    dns: tuple[Address, ...] = ()
    domain: str | None = None

    def has(self, version: int) -> bool:
        """Return whether a card has this version of IP (4 or 6)."""
        return any(own.version == version for own in self.addresses)

    @property
    def addresses(self) -> tuple[Interface, ...]:
        """The addresses of all cards."""
        return tuple(own for card in self.cards for own in card.addresses)

    def number(self, card: CardPlan) -> int:
        """Return the interface index of a card."""
        return _FIRST + self.cards.index(card)


def parse(options: Sequence[str]) -> Plan:
    """Return the plan that the options ask for.

    Args:
        options: As on the command line. A card's words follow it.

    Raises:
        UmviewError: An option is unknown or its value has no sense.
    """
    cards: list[CardPlan] = []
    plan = Plan()
    for option in options:
        name, equals, value = option.partition("=")
        if option == "lo":
            continue
        if card := _card(name, value, len(cards)):
            if any(other.name == card.name for other in cards):
                raise UmviewError(f"two cards are called {card.name}")
            cards.append(card)
        elif equals and name in _WORDS:
            if not cards:
                raise UmviewError(f"{option}: name a card first, as in vd0,{option}")
            cards[-1] = _WORDS[name](cards[-1], value)
        elif equals and name == "dns":
            plan = plan._replace(dns=(*plan.dns, _address("dns", value)))
        elif equals and name == "domain":
            plan = plan._replace(domain=value)
        else:
            raise UmviewError(f"unknown option '{option}'; known options: {_KNOWN}")
    for card in cards:
        _check_gateways(card)
    return plan._replace(cards=tuple(cards))


def _card(name: str, value: str, count: int) -> CardPlan | None:
    if name == "wire":
        if not value:
            raise UmviewError("wire=NAME: the name is missing")
        return CardPlan(f"wr{count}", "", value, _MTU_MAX)
    match = re.fullmatch(_CARD, name)
    if not match:
        return None
    vnl = value
    if "://" not in value:
        vnl = _SCHEMES[match["kind"]] + value
    return CardPlan(name, vnl, "", _ETHERNET)


def _check_gateways(card: CardPlan) -> None:
    for gateway in card.gateways:
        if gateway.version == 6:
            raise UmviewError(f"gw={gateway}: for IPv6 the router announces itself")
        if not any(gateway in own.network for own in card.addresses):
            raise UmviewError(
                f"the gateway {gateway} is in no network of {card.name}: correct gw="
            )
    if len(card.gateways) > 1:
        raise UmviewError(f"{card.name}: two gateways: only one can be the default")


def _ip(card: CardPlan, value: str) -> CardPlan:
    try:
        own = ip_interface(value)
    except ValueError:
        raise UmviewError(f"ip={value}: not an address like 10.0.0.1/24") from None
    if "/" not in value:
        raise UmviewError(f"ip={value}: the prefix is missing, as in {value}/24")
    if own.ip.is_loopback or own.ip.is_multicast or own.ip.is_unspecified:
        raise UmviewError(f"ip={value}: a card cannot have this address")
    if own.version == 4 and any(one.version == 4 for one in card.addresses):
        raise UmviewError(f"ip={value}: {card.name} has an IPv4 address already")
    return card._replace(addresses=(*card.addresses, own))


def _gw(card: CardPlan, value: str) -> CardPlan:
    return card._replace(gateways=(*card.gateways, _address("gw", value)))


def _mtu(card: CardPlan, value: str) -> CardPlan:
    if not (value.isdecimal() and _MTU_MIN <= int(value) <= _MTU_MAX):
        raise UmviewError(f"mtu={value}: a number from {_MTU_MIN} to {_MTU_MAX}")
    return card._replace(mtu=int(value))


def _mac(card: CardPlan, value: str) -> CardPlan:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value):
        raise UmviewError(f"mac={value}: not an address like 02:00:00:00:00:01")
    mac = bytes.fromhex(value.replace(":", ""))
    if mac[0] & 1 or not any(mac):
        raise UmviewError(f"mac={value}: a card cannot have this address")
    return card._replace(mac=mac)


def _address(option: str, text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise UmviewError(f"{option}: '{text}' is not an IP address") from None


_WORDS: dict[str, Callable[[CardPlan, str], CardPlan]] = {
    "ip": _ip,
    "gw": _gw,
    "mtu": _mtu,
    "mac": _mac,
}
_KNOWN = (
    "vdN[=VNL], tpN[=VNL or tap], wire=NAME, lo; for the card before them: "
    "ip=ADDRESS/PREFIX, gw=ADDRESS, mtu=BYTES, mac=ADDRESS; dns=ADDRESS, domain=NAME"
)
