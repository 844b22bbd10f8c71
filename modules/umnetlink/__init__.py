"""A stack made of others: sockets of each family are those of the stack named for it.

It has no addresses of its own; what a program gets is a socket of the other stack.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from umview.errors import UmviewError
from umview.module import Context, Mount
from umview.view import Stack, StackKind

_FAMILIES = {
    "ipv4": (socket.AF_INET,),
    "ipv6": (socket.AF_INET6,),
    "netlink": (socket.AF_NETLINK,),
    "packet": (socket.AF_PACKET,),
    "ip": (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET),
    "rest": (socket.AF_UNSPEC,),
}
_SHORT = {"4": "ipv4", "6": "ipv6", "n": "netlink", "p": "packet"}
_KNOWN = ", ".join(f"{name}=PATH" for name in _FAMILIES)


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umnetlink,FAMILY=PATH...`` asks for.

    Raises:
        UmviewError: A family is unknown or named twice, a path is none, or there is
            nothing to compose.
    """
    paths: dict[str, str] = {}
    for option in options:
        word, equals, path = option.partition("=")
        name = _SHORT.get(word, word)
        if name not in _FAMILIES:
            raise UmviewError(f"unknown option '{option}'; known options: {_KNOWN}")
        if not equals or not path.startswith("/"):
            raise UmviewError(
                f"{option}: which stack? give its path, as {name}=/dev/net/work"
            )
        if name in paths:
            raise UmviewError(f"{option}: {name} is {paths[name]} already")
        paths[name] = path
    if not paths:
        raise UmviewError(f"of which stacks? name one at least: {_KNOWN}")
    return _Link(paths)


class _Link(Mount):
    def __init__(self, paths: dict[str, str]) -> None:
        self._paths = paths

    def add(self, context: Context) -> Stack:
        """Compose it; what is named for a family alone goes before `ip` and `rest`."""
        stacks = {name: context.stack_at(path) for name, path in self._paths.items()}
        board = context.switchboard
        number = board.add_stack(StackKind.LINK, ipv4=True, ipv6=True)
        for name in reversed(_FAMILIES):
            if name in stacks:
                for family in _FAMILIES[name]:
                    board.set_member(number, stacks[name].number, family)
        return Stack(number, StackKind.LINK)
