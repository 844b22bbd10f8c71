"""A stack of a view's own on a virtual Ethernet: lwIP in a stack server.

What goes beyond the stack leaves by packets, through the card that its route names.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from umview.errors import UmviewError
from umview.stackserver import StackServer
from umview.view import (
    FOLDERS,
    LOOPBACK,
    Address,
    Card,
    Filter,
    Network,
    Road,
    Stack,
    StackKind,
    lo,
)

from .plan import CardPlan, Plan
from .plan import parse as parse_plan

if TYPE_CHECKING:
    from umview._ffi import Switchboard

log = logging.getLogger(__name__)

_LO = 1
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_NEIGHBOURS = ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "fe80::/10")


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umnetlwipv6,OPTION...`` asks for.

    Raises:
        UmviewError: An option is unknown or its value has no sense.
    """
    return Mount(parse_plan(options))


class Mount:
    """The stack of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def add(self, switchboard: Switchboard) -> Stack:
        """Configure the stack on a switchboard, and start its stack server.

        Raises:
            UmviewError: A card cannot be plugged in.
        """
        plan = self._plan
        stack = switchboard.add_stack(StackKind.NET, ipv4=True, ipv6=True)
        cards = [lo(4, 6)]
        server = StackServer() if plan.cards else None
        for card in plan.cards if server else ():
            assert server
            cards.append(_plug(server, plan.number(card), card))
        for one in cards:
            for address in one.addresses:
                switchboard.add_address(stack, one.number, address)
            for to, road, source in _routes(one):
                index = _LO if road is Road.LOCAL else one.number
                switchboard.add_route(stack, to, road, index, source)
        if server:
            switchboard.add_line(stack, server.line)
        text = ", ".join(card.name for card in cards)
        log.info("stack %d: umnetlwipv6, %s", stack, text)
        return Stack(stack, StackKind.NET, tuple(cards))

    def furnish(self, switchboard: Switchboard) -> Filter:
        """Configure the view's files."""
        plan = self._plan
        lines = [f"search {plan.domain}"] if plan.domain else []
        lines += [f"nameserver {server}" for server in plan.dns]
        content = "".join(f"{line}\n" for line in lines).encode()
        for name in {"/etc/resolv.conf", os.path.realpath("/etc/resolv.conf")}:
            switchboard.add_file(name, content)
        for folder in FOLDERS:
            switchboard.add_folder(folder)
        return Filter.FILES


_wires: dict[str, socket.socket] = {}
"""Ends of wires that wait for the stack at the other end."""


def _wire(name: str) -> socket.socket:
    if name in _wires:
        return _wires.pop(name)
    here, _wires[name] = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return here


def _plug(server: StackServer, index: int, card: CardPlan) -> Card:
    from umview._ffi import CardAt

    flags = CardAt.BARE if card.wire else CardAt.NONE
    where = _wire(card.wire) if card.wire else card.vnl
    ready = server.plug(index, card.mtu, card.mac, flags, where)
    if ready.error:
        reason = os.strerror(ready.error)
        raise UmviewError(
            f"umnetlwipv6: {card.name}: cannot plug into {card.vnl or card.wire}: "
            f"{reason}"
        )
    for own in card.addresses:
        server.add_address(index, own)
    for gateway in card.gateways:
        server.add_gateway(index, gateway)
    return Card(index, card.name, ready.mac, ready.mtu, card.addresses, card.gateways)


def _routes(card: Card) -> list[tuple[Network, Road, Address | None]]:
    """Return what a card adds to the route table: destination, road, source."""
    if card.is_loopback:
        return [(own.network, Road.LOCAL, own.ip) for own in LOOPBACK]
    routes: list[tuple[Network, Road, Address | None]] = []
    for own in card.addresses:
        single = ip_network(own.ip)
        routes.append((single, Road.LOCAL, own.ip))
        if own.network != single:
            routes.append((own.network, Road.PACKET, own.ip))
    sources: dict[int, Address] = {}
    for own in card.addresses:
        sources.setdefault(own.version, own.ip)
    routes += [
        (network, Road.PACKET, sources[network.version])
        for network in map(ip_network, _NEIGHBOURS)
        if network.version in sources
    ]
    for gateway in card.gateways:
        to = ip_network(_ANYWHERE[gateway.version])
        routes.append((to, Road.PACKET, sources[gateway.version]))
    return routes
