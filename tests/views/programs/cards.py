"""Print who reaches whom where sockets are bound to cards: each pair, TCP and UDP.

Usage: cards.py ADDRESS CARD - of a card that is not lo.
"""

from __future__ import annotations

import errno
import socket
import sys

_QUIET = 0.3


def attempt(kind: int, receiver: str, sender: str, to: str) -> str:
    """Return what comes of a connection or a datagram."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, kind) as one, socket.socket(family, kind) as two:
        for sock, card in ((one, receiver), (two, sender)):
            sock.settimeout(_QUIET)
            if card != "-":
                option = socket.SO_BINDTODEVICE
                sock.setsockopt(socket.SOL_SOCKET, option, card.encode())
        one.bind(("", 0))
        try:
            if kind == socket.SOCK_STREAM:
                one.listen()
            two.connect((to, one.getsockname()[1]))
            two.send(b"x")
        except OSError as exc:
            return errno.errorcode[exc.errno or 0]
        try:
            if kind == socket.SOCK_STREAM:
                one.accept()[0].close()
            else:
                one.recv(1)
        except TimeoutError:
            return "nothing"
    return "ok"


def main() -> None:
    """Try all."""
    address, card = sys.argv[1:]
    names = {"127.0.0.1": "lo", address: "card", "192.0.2.1": "beyond"}
    for receiver in ("-", "lo", card):
        for sender in ("-", "lo", card):
            for to, name in names.items():
                if name == "beyond" and (receiver != "-" or sender in ("-", card)):
                    continue
                kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
                seen = [attempt(kind, receiver, sender, to) for kind in kinds]
                words = (receiver, sender, name, *seen)
                print(*(word.replace(card, "card") for word in words))  # noqa: T201


if __name__ == "__main__":
    main()
