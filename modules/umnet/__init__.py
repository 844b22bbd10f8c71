"""The default network of a view: ``lo``, and ``nat0`` that leads out by the host.

What goes beyond the card's network leaves by the relay road: by sockets of the host.
The gateway and the name server are no machines: the routes say what is found there.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from umview.errors import UmviewError
from umview.names import Proxy
from umview.view import (
    FOLDERS,
    LOOPBACK,
    Address,
    Card,
    Filter,
    Network,
    Road,
    Stack,
    StackKind,
    lo,
)

from . import files
from .plan import PROXIES, Forward, Plan
from .plan import parse as parse_plan

if TYPE_CHECKING:
    from umview._ffi import Switchboard

log = logging.getLogger(__name__)

_LO = 1
_NAT = 2
_NAT_MTU = 65500
_NAT_MAC = bytes.fromhex("525400123456")
# No network of the host's is to hear what a view says to all or to its neighbours.
_NEIGHBOURS = ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "fe80::/10")
_SWITCH = "/etc/nsswitch.conf"
_BACKLOG = 4096  # the kernel cuts it down to net.core.somaxconn


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umnet,OPTION...`` asks for.

    Raises:
        UmviewError: An option is unknown or its value has no sense.
    """
    return Mount(parse_plan(options))


class Mount:
    """The stack of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def add(self, switchboard: Switchboard) -> Stack:
        """Configure the stack on a switchboard.

        Raises:
            UmviewError: A port of the host that is to lead here cannot be had.
        """
        plan = self._plan
        stack = switchboard.add_stack(StackKind.NET, ipv4=plan.has(4), ipv6=plan.has(6))
        cards = _cards(plan)
        for card in cards:
            for address in card.addresses:
                switchboard.add_address(stack, card.number, address)
        for to, road, index, source in _routes(plan):
            switchboard.add_route(stack, to, road, index, source)
        for gateway in plan.gateways if plan.host else ():
            loopback = LOOPBACK[gateway.version == 6].ip
            switchboard.add_map(stack, gateway, loopback)
        proxy = Proxy()
        for server in PROXIES:
            if plan.has(server.version):
                proxy.serve(switchboard, stack, server)
        for forward in plan.forwards:
            _forward(switchboard, stack, plan, forward)
        own = ", ".join(map(str, plan.addresses))
        log.info("stack %d: umnet, lo and nat0 with %s", stack, own)
        return Stack(stack, StackKind.NET, cards, (proxy,))

    def furnish(self, switchboard: Switchboard) -> Filter:
        """Configure the view's files and names."""
        plan = self._plan
        needed = Filter.NONE
        if plan.files:
            needed |= Filter.FILES
            for path, text in _texts(plan):
                content = text.encode("utf-8", "surrogateescape")
                for name in {path, os.path.realpath(path)}:
                    switchboard.add_file(name, content)
            for folder in FOLDERS:
                switchboard.add_folder(folder)
        if plan.hostname or plan.domain:
            needed |= Filter.NAME
            switchboard.set_hostname(plan.hostname, plan.domain)
        for path in files.NAME_SERVICES:
            switchboard.refuse_unix(path)
        return needed


def _cards(plan: Plan) -> tuple[Card, ...]:
    return (
        lo(*(version for version in (4, 6) if plan.has(version))),
        Card(_NAT, "nat0", _NAT_MAC, _NAT_MTU, plan.addresses, plan.gateways),
    )


def _routes(plan: Plan) -> list[tuple[Network, Road, int, Address | None]]:
    """Return the route table: destination, road, card, and the source to take."""
    routes: list[tuple[Network, Road, int, Address | None]] = [
        (own.network, Road.LOCAL, _LO, own.ip)
        for own in LOOPBACK
        if plan.has(own.version)
    ]
    for own in plan.addresses:
        single = ip_network(own.ip)
        routes.append((single, Road.LOCAL, _LO, own.ip))
        if own.network != single:
            routes.append((own.network, Road.UNREACHABLE, _NAT, own.ip))
    sources = {own.version: own.ip for own in reversed(plan.addresses)}
    for peer in (*plan.gateways, *PROXIES):
        if peer.version in sources:
            source = sources[peer.version]
            routes.append((ip_network(peer), Road.REFUSED, _NAT, source))
    for network in map(ip_network, _NEIGHBOURS):
        if network.version in sources:
            source = sources[network.version]
            routes.append((network, Road.UNREACHABLE, _NAT, source))
    for version, anywhere in ((4, "0.0.0.0/0"), (6, "::/0")):
        if version in sources:
            routes.append((ip_network(anywhere), Road.RELAY, _NAT, sources[version]))
    return routes


def _forward(
    switchboard: Switchboard, stack: int, plan: Plan, forward: Forward
) -> None:
    family = socket.AF_INET if forward.address.version == 4 else socket.AF_INET6
    where = f"{forward.address} port {forward.host_port}"
    protocol = (
        socket.IPPROTO_TCP if forward.kind is socket.SOCK_STREAM else socket.IPPROTO_UDP
    )
    sock = socket.socket(family, forward.kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, protocol == 6)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(forward.address), forward.host_port))
        if forward.kind is socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise UmviewError(
            f"umnet: fwd: cannot listen on {where} of the host: {exc.strerror}; "
            "choose another port"
        ) from exc
    switchboard.add_forward(stack, sock, forward.port, *_gateways(plan))
    log.info("forward: %s of the host leads to port %d", where, forward.port)


def _gateways(plan: Plan) -> tuple[Address, Address]:
    """Return what peers on the host's loopback are shown as, in either family."""
    by_version = {gateway.version: gateway for gateway in plan.gateways}
    return by_version.get(4, LOOPBACK[0].ip), by_version.get(6, LOOPBACK[1].ip)


def _texts(plan: Plan) -> list[tuple[str, str]]:
    try:
        with open(_SWITCH, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError:
        text = ""
    return [
        ("/etc/resolv.conf", files.resolv_conf(plan)),
        ("/etc/hosts", files.hosts(plan, plan.hostname or os.uname().nodename)),
        (_SWITCH, files.nsswitch_conf(text)),
    ]
