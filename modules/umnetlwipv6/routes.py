"""The route table of a stack: what its cards and their addresses make of it.

Of equal prefixes the first route counts, so the order of the cards is their metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from umview.view import LOOPBACK, Address, Card, Network, Road, Route

from .plan import NAT, PROXIES

_LO = 1
_ANYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
_EVERYBODY = tuple(
    map(ip_network, ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "fe80::/10"))
)


def table(cards: Sequence[Card]) -> list[Route]:
    """Return the routes of a stack with these cards, ``lo`` among them."""
    versions = {own.version for card in cards[:1] for own in card.addresses}
    routes = [
        Route(own.network, Road.LOCAL, _LO, own.ip)
        for own in LOOPBACK
        if own.version in versions
    ]
    # What is said to all goes to an Ethernet rather than to nat0, where it ends.
    for card in sorted(cards[1:], key=_is_nat):
        routes += _everybody(card)
    for card in cards[1:]:
        routes += _near(card)
    for card in cards[1:]:
        routes += _far(card)
    return routes


def _is_nat(card: Card) -> bool:
    return card.name == NAT


def _source(card: Card, version: int) -> Address | None:
    """Return what a card sends from: its first address that is good anywhere."""
    own = [one.ip for one in card.addresses if one.version == version]
    return min(own, key=lambda ip: ip.version == 6 and ip.is_link_local, default=None)


def _here(card: Card, to: Network) -> Address | None:
    """Return what a card sends from to those on its link."""
    own = [one.ip for one in card.addresses if one.version == to.version]
    if to.version == 6:
        own.sort(key=lambda ip: not ip.is_link_local)
    return own[0] if own else None


def _everybody(card: Card) -> Iterator[Route]:
    # No network of the host's is to hear what a view says to all.
    road = Road.UNREACHABLE if _is_nat(card) else Road.PACKET
    for to in _EVERYBODY:
        if source := _here(card, to):
            yield Route(to, road, card.number, source)


def _near(card: Card) -> Iterator[Route]:
    road = Road.UNREACHABLE if _is_nat(card) else Road.PACKET
    for own in card.addresses:
        single = ip_network(own.ip)
        yield Route(single, Road.LOCAL, _LO, own.ip)
        if own.network != single:
            yield Route(own.network, road, card.number, own.ip)


def _far(card: Card) -> Iterator[Route]:
    if not _is_nat(card):
        for gateway in card.gateways:
            if source := _source(card, gateway.version):
                to = _ANYWHERE[gateway.version]
                yield Route(to, Road.PACKET, card.number, source)
        return
    for peer in (*card.gateways, *PROXIES):
        if source := _source(card, peer.version):
            yield Route(ip_network(peer), Road.REFUSED, card.number, source)
    for to in _ANYWHERE.values():
        if source := _source(card, to.version):
            yield Route(to, Road.RELAY, card.number, source)
