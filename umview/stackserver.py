"""The stack server of a stack with packet cards: its start, and its cards.

It is no child of the supervisor's, whose children are the view's processes, and which
waits for the last of them: an intermediate process leaves it to whoever takes orphans.
It ends with its line, whose other end the switchboard gets; that notices if it dies.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from umview import _ffi
from umview.errors import UmviewError

if TYPE_CHECKING:
    from umview._ffi import CardAt, Ready
    from umview.view import Address, Interface

_LINE = 3  # its descriptor there
_SECONDS = 30  # for a card: a plug-in may ask its user for nothing, but wait
_PROGRAM = str(Path(__file__).with_name("stackd"))


class StackServer:
    """A stack server that has been started and gets its cards."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            UmviewError: Its program is missing, or there is no room for a process.
        """
        if not os.path.exists(_PROGRAM):
            raise UmviewError(f"{_PROGRAM} is missing: `make build` makes it")
        try:
            self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            child = os.fork()
        except OSError as exc:
            raise UmviewError(f"cannot start a stack server: {exc.strerror}") from exc
        if child == 0:
            _become(theirs.fileno())
        theirs.close()
        os.waitpid(child, 0)
        self.line.settimeout(_SECONDS)
        self._early: list[bytes] = []

    def plug(
        self,
        card: int,
        mtu: int,
        mac: bytes,
        flags: CardAt,
        where: str | socket.socket,
    ) -> Ready:
        """Make a card.

        Args:
            card: Its index.
            mtu: The longest packet that it is to take.
            mac: Its Ethernet address, or none for a random one.
            flags: How it is to be.
            where: The VNL that it is plugged into, or the end of a direct wire.

        Raises:
            UmviewError: The stack server has died or does not answer.
        """
        vnl = where.encode() if isinstance(where, str) else b""
        ends = [] if isinstance(where, str) else [where.fileno()]
        message = _ffi.card_message(card, mtu, mac, flags, vnl)
        try:
            socket.send_fds(self.line, [message], ends)
            while data := self.line.recv(1 << 16):
                if ready := _ffi.read_ready(data):
                    return ready
                self._early.append(data)
        except TimeoutError:
            raise UmviewError(f"{where}: no answer within {_SECONDS} s") from None
        except OSError as exc:
            raise UmviewError(f"the stack server is lost: {exc.strerror}") from exc
        raise UmviewError(f"{where}: the stack server has died of this card")

    def add_address(self, card: int, own: Interface) -> None:
        """Give a card an address."""
        self.line.send(_ffi.address_message(card, own))

    def add_gateway(self, card: int, gateway: Address) -> None:
        """Name a card's gateway."""
        self.line.send(_ffi.gateway_message(card, gateway))

    def forward(self) -> None:
        """Let it forward packets from card to card."""
        self.line.send(_ffi.forward_message())

    def listen(self, seconds: float) -> bytes | None:
        """Return the next thing that it says, None if it is silent for so long.

        Raises:
            UmviewError: It has died.
        """
        if self._early:
            return self._early.pop(0)
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


def _become(line: int) -> NoReturn:
    try:
        os.setsid()
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            kept = os.dup(line)
            for fd in range(3):
                os.dup2(null, fd)
            if kept != _LINE:
                os.dup2(kept, _LINE)
            os.set_inheritable(_LINE, True)
            os.closerange(_LINE + 1, os.sysconf("SC_OPEN_MAX"))
            os.chdir("/")
            os.execv(_PROGRAM, [_PROGRAM])
    finally:
        os._exit(0)
