"""Who keeps a stack's cards: addresses, routers, name servers, carriers.

The stack server tells what it gets by DHCP and from routers; the tables of the
switchboard and the view's files follow. Before the stack is mounted, its line is read
here (`Steward.wait`); later the switchboard passes on what comes.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

from umview.errors import UmviewError, os_error
from umview.view import Address, Card

from . import files
from .plan import PROXIES, CardPlan, Plan
from .routes import table

if TYPE_CHECKING:
    from umview._ffi import Switchboard
    from umview.packets import News
    from umview.stackserver import StackServer

log = logging.getLogger(__name__)

_FIRST = 2  # the loopback card is 1
_NEEDED_SECONDS = 20.0  # DHCP asks again after 2, 4 and 8 s
_WANTED_SECONDS = 10.0
_MORE_SECONDS = 1.5  # after the last thing that came


class Steward:
    """The cards of a stack, and what follows from them.

    In this order: `wait`, `serve`, `furnish`, and `hear` from then on.
    """

    _switchboard: Switchboard
    _stack: int

    def __init__(self, plan: Plan, cards: tuple[Card, ...]) -> None:
        """Start with the cards as the plan has them."""
        self.cards = cards
        self._plan = plan
        self._plans = dict(enumerate(plan.cards, _FIRST))
        self._servers: dict[int, tuple[Address, ...]] = {}
        self._domains: dict[int, str] = {}
        self._texts: dict[str, str] | None = None  # of the files of a view, ...
        self._view = 0  # ... this one

    def serve(self, switchboard: Switchboard, stack: int) -> None:
        """Set the tables of a stack, now and whenever the cards change."""
        self._switchboard, self._stack = switchboard, stack
        self._set_tables()

    def hear(self, message: bytes) -> tuple[Card, ...]:
        """Take what the stack server says about a card; see `umview.view.Steward`."""
        if self._take(message):
            self._set_tables()
            if self._texts is not None:
                self._set_files()
        return self.cards

    def note_neighbour(self, card: Card, address: IPv4Address, mac: bytes) -> None:
        """See `umview.view.Steward`."""
        from umview.packets import neighbour_message

        if card.number not in self._plans or self._plans[card.number].is_nat:
            raise os_error(errno.EOPNOTSUPP)
        message = neighbour_message(card.number, address, mac)
        self._switchboard.tell_server(self._stack, message)

    def name_servers(self) -> tuple[Address, ...]:
        """See `umview.view.Steward`."""
        return tuple(ip_address(text) for text in self._dns() if "%" not in text)

    def furnish(self, view: int) -> None:
        """Set a view's files, now and whenever they change."""
        self._view = view
        self._texts = {}
        self._set_files()

    # ---- before it is mounted ----

    def wait(self, server: StackServer) -> None:
        """Wait for what the cards need, and a while for what they ask for besides.

        Raises:
            UmviewError: Something that they need does not come.
        """
        for early in server.heard():
            self._take(early)
        begin = time.monotonic()
        last: float | None = None
        while self._missing(lambda plan: plan.asks):
            if self._missing(lambda plan: plan.needs):
                end = begin + _NEEDED_SECONDS
            elif last is None:
                end = begin + _WANTED_SECONDS
            else:
                end = last + _MORE_SECONDS
            now = time.monotonic()
            if now >= end:
                break
            message = server.listen(end - now)
            if message and self._take(message):
                last = time.monotonic()
        for name, ask in self._missing(lambda plan: plan.needs):
            raise UmviewError(
                f"{name}: {ask}: no answer within {_NEEDED_SECONDS:.0f} s; "
                "give addresses by ip=, or look after the network's server"
            )
        for card, plan in self._plans.items():
            if plan.asks and not any(self._has(card, ask) for ask in plan.asks):
                log.warning(
                    "%s: %s: no answer within %.0f s; started without",
                    plan.name,
                    ", ".join(sorted(plan.asks)),
                    _WANTED_SECONDS,
                )

    def _missing(
        self, which: Callable[[CardPlan], frozenset[str]]
    ) -> list[tuple[str, str]]:
        return [
            (plan.name, ask)
            for card, plan in self._plans.items()
            for ask in sorted(which(plan))
            if not self._has(card, ask)
        ]

    def _has(self, card: int, ask: str) -> bool:
        from .news import has

        servers = self._servers.get(card, ())
        return has(self.cards[card - 1], self._plans[card], servers, ask)

    # ---- news ----

    def _take(self, message: bytes) -> bool:
        """Change what is known; return whether something is new."""
        from umview.packets import read_news

        before = self.cards, self._servers, self._domains
        news = read_news(message)
        if not news:
            return False
        if news.card == 0:  # the stack server is dead
            for card in self._plans:
                self._take_of(news._replace(card=card))
        elif news.card in self._plans:
            self._take_of(news)
        return before != (self.cards, self._servers, self._domains)

    def _take_of(self, news: News) -> None:
        from umview.packets import NewsKind

        from .news import with_address, with_router

        number = news.card
        card, plan = self.cards[number - 1], self._plans[number]
        match news.kind:
            case NewsKind.HAS if news.own.version in self._plan.versions:
                if news.error:
                    log.warning(
                        "%s: %s is given up: another on its network has it",
                        plan.name,
                        news.own.ip,
                    )
                self._put(with_address(card, plan, news))
            case NewsKind.ROUTER if news.peer.version in self._plan.versions:
                self._put(with_router(card, plan, news))
            case NewsKind.DNS:
                self._servers = {**self._servers, number: news.servers}
            case NewsKind.DOMAIN:
                self._domains = {**self._domains, number: news.domain}
            case NewsKind.FOUND:
                self._put(card._replace(has_carrier=True, mtu=news.mtu))
            case NewsKind.LOST if not plan.is_nat:
                self._put(card._replace(has_carrier=False))
            case _:
                pass

    def _put(self, card: Card) -> None:
        at = card.number - 1
        self.cards = (*self.cards[:at], card, *self.cards[at + 1 :])

    # ---- what follows ----

    def _set_tables(self) -> None:
        self._switchboard.set_tables(self._stack, self.cards, table(self.cards))

    def _set_files(self) -> None:
        """Set the files whose text is not what it was."""
        assert self._texts is not None
        texts = files.texts(self._plan, self.cards, self._dns(), self._domain())
        for path, text in texts.items():
            if self._texts.get(path) == text:
                continue
            content = text.encode("utf-8", "surrogateescape")
            for name in files.names(path):
                self._switchboard.set_file(self._view, name, content)
        self._texts = texts

    def _dns(self) -> list[str]:
        """Return the name servers: those that are given, or else the cards'."""
        if self._plan.dns:
            return [str(one) for one in self._plan.dns]
        found: list[str] = []
        for number, plan in self._plans.items():
            if plan.is_nat:
                found += (
                    str(one) for one in PROXIES if one.version in self._plan.versions
                )
            for one in self._servers.get(number, ()):
                near = one.version == 6 and one.is_link_local
                found.append(f"{one}%{plan.name}" if near else str(one))
        return list(dict.fromkeys(found))

    def _domain(self) -> str | None:
        learned = (text for text in self._domains.values() if text)
        return self._plan.domain or next(learned, None)
