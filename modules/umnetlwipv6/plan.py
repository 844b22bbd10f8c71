"""The options of ``-p umnetlwipv6`` and ``-p umnet``: text in, a checked plan out."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from umview.errors import UmviewError
from umview.runtime import is_name
from umview.view import Address, Interface

if TYPE_CHECKING:
    from .announce import Announcement

NAT = "nat0"
"""The card that leads out by sockets of the host: no packets, no stack server."""

PROXIES = (IPv4Address("10.0.2.3"), IPv6Address("fd00::3"))
"""Where the name server behind nat0 answers, whatever the view's own addresses are."""

_ADDRESSES = (ip_interface("10.0.2.15/24"), ip_interface("fd00::15/64"))
_GATEWAYS: tuple[Address, ...] = (IPv4Address("10.0.2.2"), IPv6Address("fd00::2"))

# Patterns are compiled where they are used: most views have no such option.
_CARD = r"(?P<kind>vd|tp|tn)(?P<number>[0-9]{1,3})"
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = rf"{_LABEL}(\.{_LABEL})*"
_FORWARD = (
    r"(?:(?P<host>\[[^]]*\]|[^:]*):)?(?P<from>[0-9]+):(?P<to>[0-9]+)(?P<udp>/udp)?"
)
_NAME_MAX = 64  # what struct new_utsname holds
_SCHEMES = {"vd": "vde://", "tp": "tap://"}
_MTU_MIN, _MTU_MAX = 1280, 65500
_ETHERNET = 1500
_AGNO = (
    20  # bytes that agno:// adds to each frame, for whose length a switch has a limit
)
_CARDS_MAX = 31  # UM_MAX_CARDS, lo among them


_ASKS4 = frozenset({"dhcp"})
_ASKS6 = frozenset({"dhcp6", "rd", "slaac"})
_NOTHING: frozenset[str] = frozenset()
_ASKING = {
    "eth": _NOTHING,
    **{word: frozenset({word}) for word in _ASKS4 | _ASKS6},
    "auto": _ASKS4 | _ASKS6,
    "auto4": _ASKS4,
    "auto6": _ASKS6,
}
"""The words by which a card asks its network for something, and what that is."""
_NEEDED = frozenset({"dhcp", "rd", "slaac"})
"""Of these words, those that have to be answered before the command starts."""


class Forward(NamedTuple):
    """A port of the host that leads into the view."""

    address: Address
    host_port: int
    port: int
    kind: socket.SocketKind


class CardPlan(NamedTuple):
    """A card that is asked for.

    Attributes:
        name: Its name.
        vnl: What it is plugged into; empty for a direct wire and for nat0.
        wire: The name of that wire; empty for a VNL.
        mtu: The longest packet that it is to take.
        mac: Its Ethernet address; empty for a random one.
        addresses: Its addresses.
        gateways: The routers of its default routes, at most one for a family.
        asks: What it asks its network for: dhcp, dhcp6, rd, slaac.
        needs: What of that has to come before the command starts.
    """

    name: str
    vnl: str = ""
    wire: str = ""
    mtu: int = _ETHERNET
    mac: bytes = b""
    addresses: tuple[Interface, ...] = ()
    gateways: tuple[Address, ...] = ()
    asks: frozenset[str] = _NOTHING
    needs: frozenset[str] = _NOTHING

    @property
    def is_nat(self) -> bool:
        """Whether this is nat0."""
        return self.name == NAT


class Plan(NamedTuple):
    """What is to be set up.

    Attributes:
        cards: Besides ``lo``.
        versions: The versions of IP that the stack has.
        dns: The name servers that /etc/resolv.conf names, where they are given.
        domain: The domain that names are searched in.
        hostname: The view's host name.
        forwards: The ports of the host that lead into the view.
        host: Whether the gateways of nat0 lead to the host's loopback.
        routes: Whether packets are forwarded from card to card.
        announced: What cards announce to their links as routers, by their names.
        files: Whether /etc/resolv.conf and its like are the view's.
    """

    cards: tuple[CardPlan, ...] = ()
    versions: tuple[int, ...] = (4, 6)
    dns: tuple[Address, ...] = ()
    domain: str | None = None
    hostname: str | None = None
    forwards: tuple[Forward, ...] = ()
    host: bool = False
    routes: bool = False
    announced: Mapping[str, Announcement] = MappingProxyType({})
    files: bool = True

    @property
    def nat(self) -> CardPlan | None:
        """The card nat0, where there is one."""
        return next((card for card in self.cards if card.is_nat), None)


def parse(options: Iterable[str]) -> Plan:
    """Return the plan that the options ask for.

    Args:
        options: As on the command line: ``name`` or ``name=value``. A card's words
            follow it.

    Raises:
        UmviewError: An option is unknown or its value has no sense.
    """
    plan = Plan()
    for option in options:
        name, _, value = option.partition("=")
        if option in _FLAGS:
            plan = _FLAGS[option](plan)
        elif option in _ASKING:
            plan = _changed(plan, option, _asking)
        elif "=" in option and name in _VALUES:
            plan = _VALUES[name](plan, value)
        elif "=" in option and name in _CARD_VALUES:
            plan = _changed(plan, option, _CARD_VALUES[name])
        elif card := _card(option, len(plan.cards)):
            plan = _with(plan, card)
        else:
            raise UmviewError(f"unknown option '{option}'; known options: {_KNOWN}")
    if not plan.versions:
        raise UmviewError("v4 and v6 exclude each other: leave both out to have both")
    cards = tuple(_completed(card, plan.versions) for card in plan.cards)
    for name in plan.announced:
        if not any(card.name == name and not card.is_nat for card in plan.cards):
            raise UmviewError(f"ra: no card for packets is called {name}")
    if (plan.forwards or plan.host) and not plan.nat:
        raise UmviewError("fwd= and host lead through nat0: add nat0")
    return plan._replace(cards=cards)


# ---- cards ----


def _card(option: str, count: int) -> CardPlan | None:
    name, equals, value = option.partition("=")
    if option == NAT:
        return CardPlan(NAT)
    if name == "wire" and equals:
        if not is_name(value):
            raise UmviewError(
                f"wire={value}: a name is up to 64 letters, digits, dots, - and _"
            )
        return CardPlan(f"wr{count}", wire=value, mtu=_MTU_MAX)
    match = re.fullmatch(_CARD, name)
    if not match:
        return None
    if match["kind"] == "tn":
        raise UmviewError(
            f"{name}: VDE plugs into no tun interface; take a tap, as in tp0=tap0"
        )
    vnl = _absolute(value if "://" in value else _SCHEMES[match["kind"]] + value)
    return CardPlan(name, vnl, mtu=_ETHERNET - _AGNO * vnl.startswith("agno://"))


def _absolute(vnl: str) -> str:
    """Return a VNL whose switch is found from any directory: the supervisor's is /."""
    path = vnl.removeprefix("vde://")
    is_relative = vnl.startswith("vde://") and path and path[0] not in "/["
    return f"vde://{os.path.abspath(path)}" if is_relative else vnl


def _with(plan: Plan, card: CardPlan) -> Plan:
    if any(other.name == card.name for other in plan.cards):
        raise UmviewError(f"two cards are called {card.name}")
    if len(plan.cards) == _CARDS_MAX - 1:
        raise UmviewError(f"{card.name}: a stack has at most {_CARDS_MAX - 1} cards")
    return plan._replace(cards=(*plan.cards, card))


def _changed(
    plan: Plan, option: str, change: Callable[[CardPlan, str], CardPlan]
) -> Plan:
    """Return the plan with its last card changed by a word."""
    if not plan.cards:
        raise UmviewError(f"{option}: name a card first, as in vd0,{option}")
    value = option.partition("=")[2] or option
    *others, card = plan.cards
    return plan._replace(cards=(*others, change(card, value)))


def _completed(card: CardPlan, versions: Sequence[int]) -> CardPlan:
    """Fill in what the options left open, and check what they say together."""
    for one in (*card.addresses, *card.gateways):
        if one.version not in versions:
            raise UmviewError(f"IPv{one.version} is off, but {one} set")
    for version in versions:
        routers = [one for one in card.gateways if one.version == version]
        if len(routers) > 1:
            raise UmviewError(
                f"{card.name}: two IPv{version} gateways: only one can be the default"
            )
    for version, asks in ((4, _ASKS4), (6, _ASKS6)):
        if version not in versions:
            card = card._replace(asks=card.asks - asks, needs=card.needs - asks)
    if card.is_nat:
        card = _completed_nat(card, versions)
    for gateway in card.gateways:
        _check_gateway(card, gateway)
    return card


def _completed_nat(card: CardPlan, versions: Sequence[int]) -> CardPlan:
    addresses: list[Interface] = []
    gateways: list[Address] = []
    for own, gateway in zip(_ADDRESSES, _GATEWAYS, strict=True):
        if own.version not in versions:
            continue
        mine = [one for one in card.addresses if one.version == own.version]
        routers = [one for one in card.gateways if one.version == own.version]
        addresses += mine or [own]
        gateways += routers or [_usual_gateway(mine[0]) if mine else gateway]
    return card._replace(addresses=tuple(addresses), gateways=tuple(gateways))


def _usual_gateway(own: Interface) -> Address:
    """Return the usual gateway of a network: its second address, or its first."""
    start = int(own.network.network_address)
    usual = start + 1 if start + 2 == int(own.ip) else start + 2
    return IPv4Address(usual) if own.version == 4 else IPv6Address(usual)


def _check_gateway(card: CardPlan, gateway: Address) -> None:
    if any(gateway == one.ip for one in card.addresses):
        raise UmviewError(
            f"the gateway {gateway} is {card.name}'s own address: give another by gw="
        )
    is_near = any(gateway in one.network for one in card.addresses)
    if not (is_near or (gateway.is_link_local and gateway.version == 6)):
        raise UmviewError(
            f"the gateway {gateway} is in no network of {card.name}: correct gw="
        )


# ---- the words of a card ----


def _asking(card: CardPlan, word: str) -> CardPlan:
    if card.is_nat:
        raise UmviewError(f"{word}: {NAT} is on no Ethernet: name another card first")
    asks, needs = card.asks | _ASKING[word], card.needs | {word} & _NEEDED
    return card._replace(asks=asks, needs=needs)


def _ip(card: CardPlan, value: str) -> CardPlan:
    try:
        own = ip_interface(value)
    except ValueError:
        raise UmviewError(f"ip={value}: not an address like 10.0.0.1/24") from None
    if "/" not in value:
        raise UmviewError(f"ip={value}: the prefix is missing, as in {value}/24")
    if own.ip.is_loopback or own.ip.is_multicast or own.ip.is_unspecified:
        raise UmviewError(f"ip={value}: a card cannot have this address")
    return card._replace(addresses=(*card.addresses, own))


def _gw(card: CardPlan, value: str) -> CardPlan:
    return card._replace(gateways=(*card.gateways, _address("gw", value)))


def _mtu(card: CardPlan, value: str) -> CardPlan:
    if card.is_nat or not (value.isdecimal() and _MTU_MIN <= int(value) <= _MTU_MAX):
        of = f"; {NAT} has its own" if card.is_nat else ""
        raise UmviewError(f"mtu={value}: a number from {_MTU_MIN} to {_MTU_MAX}{of}")
    return card._replace(mtu=int(value))


def _mac(card: CardPlan, value: str) -> CardPlan:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", value):
        raise UmviewError(f"mac={value}: not an address like 02:00:00:00:00:01")
    mac = bytes.fromhex(value.replace(":", ""))
    if card.is_nat or mac[0] & 1 or not any(mac):
        raise UmviewError(f"mac={value}: {card.name} cannot have this address")
    return card._replace(mac=mac)


# ---- the words of the view ----


def _dns(plan: Plan, value: str) -> Plan:
    return plan._replace(dns=(*plan.dns, _address("dns", value)))


def _domain(plan: Plan, value: str) -> Plan:
    return plan._replace(domain=_name("domain", value))


def _hostname(plan: Plan, value: str) -> Plan:
    return plan._replace(hostname=_name("hostname", value))


def _fwd(plan: Plan, value: str) -> Plan:
    match = re.fullmatch(_FORWARD, value)
    if not match:
        raise UmviewError(
            f"fwd={value}: write [HOSTADDR:]HOSTPORT:PORT[/udp], as in fwd=8080:80"
        )
    host = match["host"]
    if host is None:
        host = "127.0.0.1"
    elif host.startswith("["):
        host = host[1:-1]
    forward = Forward(
        _address("fwd", host),
        _port(match["from"]),
        _port(match["to"]),
        socket.SOCK_DGRAM if match["udp"] else socket.SOCK_STREAM,
    )
    return plan._replace(forwards=(*plan.forwards, forward))


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 1 << 16:
        raise UmviewError(f"fwd: there is no port {text}: ports are 1 to 65535")
    return port


def _address(option: str, text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise UmviewError(f"{option}: '{text}' is not an IP address") from None


def _name(option: str, text: str) -> str:
    if len(text) > _NAME_MAX or not re.fullmatch(_NAME, text):
        raise UmviewError(f"{option}={text}: not a host or domain name")
    return text


def _ra(plan: Plan, value: str) -> Plan:
    from .announce import read

    if 6 not in plan.versions:
        raise UmviewError(f"ra={value}: IPv6 is off")
    return plan._replace(announced=read(value), routes=True)


def _only(version: int) -> Callable[[Plan], Plan]:
    def change(plan: Plan) -> Plan:
        left = tuple(one for one in plan.versions if one == version)
        return plan._replace(versions=left)

    return change


_FLAGS: dict[str, Callable[[Plan], Plan]] = {
    "forward": lambda plan: plan._replace(routes=True),
    "host": lambda plan: plan._replace(host=True),
    "lo": lambda plan: plan,
    "nofiles": lambda plan: plan._replace(files=False),
    "v4": _only(4),
    "v6": _only(6),
}
_VALUES: dict[str, Callable[[Plan, str], Plan]] = {
    "dns": _dns,
    "domain": _domain,
    "fwd": _fwd,
    "hostname": _hostname,
    "ra": _ra,
}
_CARD_VALUES: dict[str, Callable[[CardPlan, str], CardPlan]] = {
    "ip": _ip,
    "gw": _gw,
    "mtu": _mtu,
    "mac": _mac,
}
_KNOWN = (
    "vdN[=VNL], tpN[=TAP], wire=NAME, nat0, lo; for the card before them: "
    "ip=ADDRESS/PREFIX, gw=ADDRESS, mtu=BYTES, mac=ADDRESS, eth, dhcp, dhcp6, rd, "
    "slaac, auto, auto4, auto6; for the view: dns=ADDRESS, domain=NAME, "
    "hostname=NAME, forward, ra=FILE, v4, v6, nofiles; with nat0: "
    "fwd=[HOSTADDR:]HOSTPORT:PORT[/udp], host"
)
