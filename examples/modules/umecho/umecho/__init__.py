"""umecho: a network in which every address answers, by a stack server in C."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_interface, ip_network

from umview import _ffi
from umview.errors import UmviewError
from umview.module import Context, Mount
from umview.view import Card, Interface, Road, Route, Stack, StackKind, lo

_CARD, _MTU = 2, 65535
_SERVE = "import sys; sys.path[:] = sys.argv[1:]; import umecho._echo as e"


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umecho,ip=ADDRESS/PREFIX...`` asks for.

    Raises:
        UmviewError: An option is unknown, or no address.
    """
    own: list[Interface] = []
    for option in options:
        word, _, value = option.partition("=")
        if word != "ip":
            raise UmviewError(
                f"unknown option '{option}'; known options: ip=ADDRESS/PREFIX"
            )
        try:
            own.append(ip_interface(value))
        except ValueError:
            raise UmviewError(f"{option}: no address; try ip=10.66.0.2/16") from None
    return Echo(own or [ip_interface("10.66.0.2/16"), ip_interface("fd00:66::2/64")])


class Echo(Mount):
    """A stack with one card, behind which everybody answers."""

    def __init__(self, own: Sequence[Interface]) -> None:
        """Take note of the card's addresses."""
        self._own = tuple(own)
        self._line: socket.socket | None = None

    def prepare(self, enclosing: Stack | None) -> None:  # noqa: ARG002
        """Start the stack server."""
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-c", f"{_SERVE}; e.lib.echo_serve(3)"]
            path = [os.path.abspath(one) for one in sys.path]
            _ffi.spawn([*command, *path], [theirs.fileno()])

    def add(self, context: Context) -> Stack:
        """Give the stack its card, its routes and the line."""
        assert self._line
        cards = lo(4, 6), Card(_CARD, "echo0", bytes(6), _MTU, self._own)
        routes = [
            Route(ip_network(own.ip), Road.LOCAL, 1, own.ip)
            for card in cards
            for own in card.addresses
        ]
        for own in self._own:
            everybody = ip_network("0.0.0.0/0" if own.version == 4 else "::/0")
            routes.append(Route(everybody, Road.PACKET, _CARD, own.ip))
        board = context.switchboard
        number = board.add_stack(StackKind.NET, ipv4=True, ipv6=True)
        board.set_tables(number, cards, routes)
        board.add_line(number, self._line)
        return Stack(number, StackKind.NET, cards)

    def remove(self) -> None:
        """Let the stack server end, if the switchboard has not got its line."""
        if self._line:
            self._line.close()
