"""The stack server of a stack with packet cards: its start, and its cards.

It and the cards' plug processes are no children of the supervisor's (`_ffi.spawn`).
Each ends with its line, of which the switchboard gets the stack server's; that notices
if it dies.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from umview import _ffi, packets
from umview.errors import UmviewError

if TYPE_CHECKING:
    from umview.packets import CardAt, PlugAt, Ready
    from umview.view import Address, Interface

_SECONDS = 30  # for a card: a plug-in may ask its user for nothing, but wait
_SWITCH_SECONDS = 5  # one that has no port left does not answer


class StackServer:
    """A stack server that has been started and gets its cards.

    Attributes:
        line: Our end of its line.
        plugs: The plug processes of its cards, by the cards' indices.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            UmviewError: Its program is missing, or there is no room for a process.
        """
        self.plugs: dict[int, Plug] = {}
        self.line, theirs = _pair()
        _start((theirs,))
        self._early: list[bytes] = []

    def close(self) -> None:
        """End it, unless the switchboard has its line, and its plug processes."""
        self.line.close()
        for plug in self.plugs.values():
            plug.close()

    def add_card(
        self, card: int, mtu: int, mac: bytes, flags: CardAt, plug: Plug
    ) -> Ready:
        """Make a card.

        Args:
            card: Its index.
            mtu: The longest packet that it is to take.
            mac: Its Ethernet address, or none for a random one.
            flags: How it is to be.
            plug: Its plug process, which ends with this object.

        Raises:
            UmviewError: The stack server has died or does not answer.
        """
        message = packets.card_message(card, mtu, mac, flags)
        self.plugs[card] = plug
        try:
            socket.send_fds(self.line, [message], [plug.card.fileno()])
            plug.card.close()
            while data := self.line.recv(1 << 16):
                if ready := packets.read_ready(data):
                    return ready
                self._early.append(data)
        except TimeoutError:
            raise UmviewError(
                f"the stack server does not answer within {_SECONDS} s"
            ) from None
        except OSError as exc:
            raise UmviewError(f"the stack server is lost: {exc.strerror}") from exc
        raise UmviewError("the stack server has died of this card")

    def add_address(self, card: int, own: Interface) -> None:
        """Give a card an address."""
        self.line.send(packets.address_message(card, own))

    def add_gateway(self, card: int, gateway: Address) -> None:
        """Name a card's gateway."""
        self.line.send(packets.gateway_message(card, gateway))

    def announce(self, card: int, advertisement: bytes) -> None:
        """Have a card send a router advertisement now and then."""
        self.line.send(packets.announce_message(card, advertisement))

    def forward(self) -> None:
        """Let it forward packets from card to card."""
        self.line.send(packets.forward_message())

    def heard(self) -> list[bytes]:
        """Return what it said besides while cards were added."""
        early, self._early = self._early, []
        return early

    def listen(self, seconds: float) -> bytes | None:
        """Return the next thing that it says, None if it is silent for so long.

        Raises:
            UmviewError: It has died.
        """
        self.line.settimeout(max(seconds, 0.001))
        try:
            data = self.line.recv(1 << 17)
        except TimeoutError:
            return None
        except OSError as exc:
            raise UmviewError(f"the stack server is lost: {exc.strerror}") from exc
        if not data:
            raise UmviewError("the stack server has died")
        return data


class Plug:
    """A plug process: what a card is plugged into, and keeps it plugged in.

    Attributes:
        card: The end of its line to the card, for the stack server.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            UmviewError: Its program is missing, or there is no room for a process.
        """
        self._line, theirs = _pair()
        self.card, line = _pair()
        _start((theirs, line), "plug")

    def close(self) -> None:
        """End it."""
        self._line.close()
        self.card.close()

    def plug(self, where: str, mtu: int, flags: PlugAt) -> int:
        """Plug the card in; if it was elsewhere and this fails, it stays there.

        Args:
            where: A VNL, or the path of a wire.
            mtu: The longest packet that is to be sent there.
            flags: What it is.

        Returns:
            0, or why it cannot be (an errno).

        Raises:
            UmviewError: The process has died or does not answer.
        """
        switch = where.startswith("vde://")
        seconds = _SWITCH_SECONDS if switch else _SECONDS
        self._line.settimeout(seconds)
        try:
            self._line.send(packets.plug_message(mtu, flags, os.fsencode(where)))
            ready = packets.read_ready(self._line.recv(1 << 16))
        except TimeoutError:
            full = ": are all its ports taken?" if switch else ""
            raise UmviewError(f"{where}: no answer within {seconds} s{full}") from None
        except OSError as exc:
            raise UmviewError(f"{where}: {exc.strerror}") from exc
        if not ready:
            raise UmviewError(f"{where}: its plug-in has died of it")
        return ready.error


def _pair() -> tuple[socket.socket, socket.socket]:
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as exc:
        raise UmviewError(f"cannot start a stack server: {exc.strerror}") from exc
    ours.settimeout(_SECONDS)
    return ours, theirs


def _start(theirs: tuple[socket.socket, ...], *arguments: str) -> None:
    """Start the program; close its descriptors here.

    Raises:
        UmviewError: It is missing, or there is no room for a process.
    """
    program = _program()
    if not os.path.exists(program):
        raise UmviewError(f"{program} is missing: `make build` makes it")
    try:
        _ffi.spawn((program, *arguments), [end.fileno() for end in theirs])
    except OSError as exc:
        raise UmviewError(f"cannot start a stack server: {exc.strerror}") from exc
    finally:
        for end in theirs:
            end.close()


def _program() -> str:
    """Return its path; tests have one of their own, with checks built in."""
    folder = os.environ.get("UMVIEW_STACKD", os.path.dirname(__file__))
    return f"{folder}/stackd"
