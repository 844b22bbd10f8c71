"""What views tell of themselves, as values of JSON."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv6Address

from umview import processes
from umview._ffi import Switchboard
from umview.control import Message
from umview.module import Asked, AskedPolicy
from umview.view import Socket, TcpState, is_listed
from umview.views import Tree, View

_PROTOCOLS = {
    socket.IPPROTO_TCP: "tcp",
    socket.IPPROTO_UDP: "udp",
    socket.IPPROTO_ICMP: "icmp",
    socket.IPPROTO_ICMPV6: "icmpv6",
}


def views(tree: Tree, top: View, switchboard: Switchboard) -> list[Message]:
    """Tell of a view and of all that are nested in it."""
    sockets: dict[int, list[Socket]] = defaultdict(list)
    for one in switchboard.sockets():
        if one.family != socket.AF_NETLINK and is_listed(one):
            sockets[one.stack].append(one)
    found: dict[int, list[int]] = defaultdict(list)
    for pid, (view, _) in tree.processes().items():
        found[view.number].append(pid)
    return [
        {
            "name": view.name,
            "number": view.number,
            "parent": view.parent.number if view.parent else None,
            "keeper": view.keeper,
            "modules": modules(tree, view),
            "cards": list(_cards(tree, view)),
            "processes": [
                {"pid": pid, "command": processes.command_of(pid)}
                for pid in sorted(found[view.number])
                if pid != view.keeper
            ],
            "sockets": [
                _socket(path, one)
                for path, mounted in view.mounts.items()
                for one in sockets[mounted.stack]
            ],
        }
        for view in tree.within(top)
    ]


def modules(tree: Tree, view: View) -> list[Message]:
    """Return a row for each module of a view; policies have no path."""
    stacks = [_module(path, one.asked) for path, one in view.mounts.items()]
    return stacks + [_module(None, one.asked) for one in tree.policies.of(view)]


def _module(path: str | None, asked: Asked | AskedPolicy) -> Message:
    options = ",".join(asked.options)
    return {"module": asked.module, "options": options, "path": path}


def _cards(tree: Tree, view: View) -> Iterator[Message]:
    for path, card in tree.cards_of(view):
        yield {
            "path": path,
            "card": card.name,
            "up": card.has_carrier,
            "mtu": card.mtu,
            "address": card.mac.hex(":"),
            "addresses": [str(one) for one in card.addresses],
        }


def _socket(path: str, one: Socket) -> Message:
    return {
        "path": path,
        "protocol": _PROTOCOLS.get(one.protocol, str(one.protocol)),
        "state": _state(one),
        "local": _name(one.local, one.local_port),
        "remote": _name(one.remote, one.remote_port),
    }


def _state(one: Socket) -> str:
    try:
        return TcpState(one.state).name.lower().replace("_", "-")
    except ValueError:
        return "-"


def _name(address: bytes, port: int) -> str:
    full = IPv6Address(address)
    if full.ipv4_mapped:
        return f"{full.ipv4_mapped}:{port}"
    return f"[{full}]:{port}" if port or int(full) else "*"
