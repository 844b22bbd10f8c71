"""What a view tells of itself: its cards and sockets, as values of JSON."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv6Address

from umview.control import Message
from umview.view import Socket, Stack, TcpState, is_listed

_PROTOCOLS = {
    socket.IPPROTO_TCP: "tcp",
    socket.IPPROTO_UDP: "udp",
    socket.IPPROTO_ICMP: "icmp",
    socket.IPPROTO_ICMPV6: "icmpv6",
}


def cards(stacks: Sequence[Stack]) -> list[Message]:
    """Return a row for each card."""
    return [
        {
            "stack": stack.number,
            "card": card.name,
            "up": True,
            "mtu": card.mtu,
            "address": card.mac.hex(":"),
            "addresses": [str(one) for one in card.addresses],
        }
        for stack in stacks
        for card in stack.cards
    ]


def sockets(found: Sequence[Socket]) -> list[Message]:
    """Return a row for each socket that has a name."""
    return [
        {
            "stack": one.stack,
            "protocol": _PROTOCOLS.get(one.protocol, str(one.protocol)),
            "state": _state(one),
            "local": _name(one.local, one.local_port),
            "remote": _name(one.remote, one.remote_port),
        }
        for one in found
        if one.family != socket.AF_NETLINK and is_listed(one)
    ]


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
