"""Set a stack up: its cards, its stack server, what leads out by the host."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

from umview import module, runtime
from umview.errors import UmviewError
from umview.view import (
    Card,
    Filter,
    Stack,
    StackKind,
    lo,
)

from . import files, inside
from .nat import Nat, behind
from .plan import CardPlan, Plan
from .steward import Steward

if TYPE_CHECKING:
    from umview.module import Context
    from umview.packets import CardAt
    from umview.stackserver import Plug, StackServer

log = logging.getLogger(__name__)

_NAT_MTU = 65500
_NAT_MAC = bytes.fromhex("525400123456")


class Mount(module.Mount):
    """The stack of a plan."""

    _steward: Steward

    def __init__(self, name: str, plan: Plan) -> None:
        """Make one.

        Args:
            name: The module's, for messages.
            plan: What is to be set up.
        """
        self._name = name
        self._plan = plan
        self._server: StackServer | None = None  # kept: its plug processes end with it
        self._nat: Nat | None = None

    def prepare(self, enclosing: Stack | None) -> None:
        """Start the stack server, plug the cards in and wait for their addresses.

        Raises:
            UmviewError: A card cannot be plugged in or gets no address, or a port of
                the host that is to lead here cannot be had.
        """
        try:
            self._prepare(behind(enclosing))
        except UmviewError as exc:
            raise UmviewError(f"{self._name}: {exc}") from exc

    def _prepare(self, outside: Stack | None) -> None:
        plan = self._plan
        if outside:
            for card in plan.cards:
                inside.check(card)
        if plan.nat:
            self._nat = Nat(plan, plan.nat, outside)
        if any(not card.is_nat for card in plan.cards):
            from umview.stackserver import StackServer

            self._server = StackServer()
        cards = _plugged(self._server, plan)
        self._steward = Steward(plan, cards)
        if self._server:
            _configure(self._server, plan, cards)
            self._steward.wait(self._server)

    def add(self, context: Context) -> Stack:
        """Configure the stack on a switchboard."""
        plan, steward, switchboard = self._plan, self._steward, context.switchboard
        stack = switchboard.add_stack(
            StackKind.NET, ipv4=4 in plan.versions, ipv6=6 in plan.versions
        )
        steward.serve(switchboard, stack)
        if self._nat:
            try:
                self._nat.lead(switchboard, stack)
            except UmviewError:
                switchboard.remove_stack(stack)
                raise
        if self._server:
            switchboard.add_line(stack, self._server.line)
        log.info(
            "stack %d: %s, %s",
            stack,
            self._name,
            "; ".join(map(_described, steward.cards)),
        )
        services = self._nat.services if self._nat else ()
        return Stack(stack, StackKind.NET, steward.cards, services, steward)

    def furnish(self, context: Context) -> Filter:
        """Configure the view's files and names; after `add`."""
        plan, switchboard, view = self._plan, context.switchboard, context.view
        if plan.files:
            self._steward.furnish(view)
        if plan.hostname or plan.domain:
            switchboard.set_hostname(view, plan.hostname, plan.domain)
        for path in files.NAME_SERVICES:
            switchboard.refuse_unix(view, path)
        return Filter.FILES if plan.files else Filter.NONE

    def remove(self) -> None:
        """Unplug the cards, and stop serving the stack."""
        if self._server:
            self._server.close()
        if self._nat:
            self._nat.close()


def _described(card: Card) -> str:
    own = ", ".join(map(str, card.addresses))
    return f"{card.name} with {own}" if own else card.name


# ---- cards ----


def _plugged(server: StackServer | None, plan: Plan) -> tuple[Card, ...]:
    """Return the cards; those for packets are plugged in."""
    cards = [lo(*plan.versions)]
    for number, card in enumerate(plan.cards, 2):
        if server and not card.is_nat:
            cards.append(_plug(server, number, card, plan))
        else:
            own = card.addresses, card.gateways
            cards.append(Card(number, card.name, _NAT_MAC, _NAT_MTU, *own))
    return tuple(cards)


def _plug(server: StackServer, number: int, card: CardPlan, plan: Plan) -> Card:
    from umview.stackserver import Plug

    plug = server.plugs[number] = Plug()
    _plug_in(plug, card, plan)
    flags = _flags(card, plan)
    ready = server.add_card(number, card.mtu, card.mac, flags, plug)
    if ready.error:
        raise UmviewError(f"{card.name}: cannot be had: {os.strerror(ready.error)}")
    own = card.addresses, card.gateways
    return Card(number, card.name, ready.mac, ready.mtu, *own, has_carrier=False)


def _plug_in(plug: Plug, card: CardPlan, plan: Plan) -> None:
    from umview.packets import PlugAt

    from .advice import advice

    if card.wire:
        # what is forwarded may come to a link that has errors
        bare = PlugAt.VNL if plan.routes else PlugAt.BARE
        where = runtime.wire(card.wire, os.environ)
        error = plug.plug(where, card.mtu, PlugAt.WIRE | bare)
    else:
        error = plug.plug(card.vnl, card.mtu, PlugAt.VNL)
    if card.wire and error == errno.EBUSY:
        raise UmviewError(
            f"wire {card.wire} has two ends already: choose another name, or a "
            "switch (vd0=) for three and more"
        )
    if error:
        where = card.vnl or f"wire {card.wire}"
        said = f"{card.name}: cannot plug into {where}: {os.strerror(error)}"
        hint = advice(card.vnl, error)
        raise UmviewError(f"{said}: {hint}" if hint else said)


def _flags(card: CardPlan, plan: Plan) -> CardAt:
    from umview.packets import CardAt

    words = {
        "dhcp": CardAt.DHCP,
        "dhcp6": CardAt.DHCP6,
        "rd": CardAt.ROUTERS,
        "slaac": CardAt.SLAAC,
    }
    flags = CardAt.NONE if 6 in plan.versions else CardAt.ONLY_V4
    for word in card.asks:
        flags |= words[word]
    return flags


def _configure(server: StackServer, plan: Plan, cards: tuple[Card, ...]) -> None:
    from . import announce

    for card in cards[1:]:
        if plan.cards[card.number - 2].is_nat:
            continue
        for own in card.addresses:
            server.add_address(card.number, own)
        for gateway in card.gateways:
            server.add_gateway(card.number, gateway)
        if card.name in plan.announced:
            announcement = plan.announced[card.name]
            server.announce(
                card.number, announce.encode(announcement, card.mac, card.mtu)
            )
    if plan.routes:
        server.forward()
