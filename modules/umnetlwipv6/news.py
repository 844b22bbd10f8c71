"""What a stack server's news make of a card: values in, values out."""

from __future__ import annotations

from umview.packets import News
from umview.view import Address, Card

from .plan import CardPlan


def is_link_local(address: Address) -> bool:
    """Return whether an address is one that a card gave itself for its link."""
    return address.version == 6 and address.is_link_local


def with_address(card: Card, plan: CardPlan, news: News) -> Card:
    """Return the card with an address that it has got, or without one that it lost.

    Those that are good anywhere come first, as in Linux. What was learned with the
    last address of a family goes with it.
    """
    own = news.own
    if not news.is_gone and any(one.ip == own.ip for one in plan.addresses):
        return card
    addresses = [one for one in card.addresses if one.ip != own.ip]
    if not news.is_gone:
        addresses.append(own)
    addresses.sort(key=lambda one: is_link_local(one.ip))
    versions = {one.version for one in addresses}
    gateways = [one for one in card.gateways if one.version in versions]
    return card._replace(addresses=tuple(addresses), gateways=tuple(gateways))


def with_router(card: Card, plan: CardPlan, news: News) -> Card:
    """Return the card with a router that it has heard of, or without it.

    A gateway that was given is the only one of its family. A router that announces
    itself counts where it was asked for.
    """
    router = news.peer
    version = router.version
    wanted = {"dhcp"} if version == 4 else {"rd", "slaac"}
    is_given = any(one.version == version for one in plan.gateways)
    if is_given or router.is_unspecified or not wanted & plan.asks:
        return card
    others = [one for one in card.gateways if one != router]
    if version == 4:
        others = [one for one in others if one.version == 6]
    gateways = others if news.is_gone else [*others, router]
    return card._replace(gateways=tuple(gateways))


def has(card: Card, plan: CardPlan, servers: tuple[Address, ...], ask: str) -> bool:
    """Return whether what a card asks for has come.

    Args:
        card: The card.
        plan: What was wanted of it.
        servers: The name servers that it has been told.
        ask: One thing that is asked for.
    """
    if ask == "rd":
        return any(one.version == 6 for one in card.gateways)
    if ask == "dhcp6":
        return any(one.version == 6 for one in servers)
    version = 4 if ask == "dhcp" else 6
    given = [one.ip for one in plan.addresses]
    return any(
        own.version == version and own.ip not in given and not is_link_local(own.ip)
        for own in card.addresses
    )
