"""Answer the requests that programs send on NETLINK_ROUTE sockets.

A view's cards, addresses and routes can be read, not changed: a change is EPERM, as
for every user without CAP_NET_ADMIN.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from umview.abi import rtnetlink as rt
from umview.errors import os_error
from umview.view import Address, Card, Interface, Network, Stack, StackKind

_AF_BRIDGE = 7
_FAMILIES = (socket.AF_INET, socket.AF_INET6, _AF_BRIDGE)
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_LO_FLAGS = 0x10049  # UP LOOPBACK RUNNING LOWER_UP
_CARD_FLAGS = 0x11043  # UP BROADCAST RUNNING MULTICAST LOWER_UP
_NO_CARRIER = ~0x10040  # RUNNING LOWER_UP
_OPER_UNKNOWN, _OPER_DOWN, _OPER_UP = 0, 2, 6
_IFA_F_PERMANENT = 0x80
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_HOST = 0, 253, 254
_TABLE_DEFAULT, _TABLE_MAIN, _TABLE_LOCAL = 253, 254, 255
_PROTO_UNSPEC, _PROTO_KERNEL, _PROTO_BOOT = 0, 2, 3
_UNICAST, _LOCAL, _BROADCAST, _MULTICAST = 1, 2, 3, 5
_METRIC_LOCAL, _METRIC_CONNECTED, _METRIC_DEFAULT = 0, 256, 1024  # IPv6 only
_RTM_F_CLONED = 0x200
_CACHE_INFO = bytes(32)  # struct rta_cacheinfo
_FOR_EVER = b"\xff" * 8 + bytes(8)  # struct ifa_cacheinfo
_STATS64 = bytes(25 * 8)
_STATS = bytes(25 * 4)
_QUEUE = 1000
_RULES = ((0, _TABLE_LOCAL), (32766, _TABLE_MAIN), (32767, _TABLE_DEFAULT))
_LO = (1).to_bytes(4, "little")
_GROUP_LINK = 1
_GROUPS = ((socket.AF_INET, 5, 7), (socket.AF_INET6, 9, 11))
"""Of each family, the groups (RTNLGRP_*) of addresses and of routes."""
_DELETED = 1  # of a type's two low bits, see rt.FIRST_ROUTE_TYPE
_GET = 2  # of a type's two low bits, see rt.FIRST_ROUTE_TYPE


def answer(stack: Stack, port: int, data: bytes) -> list[bytes]:
    """Return the datagrams that answer what a program sent.

    Args:
        stack: The stack of its socket.
        port: The netlink address of its socket.
        data: What it sent: one message or several.
    """
    replies: list[bytes] = []
    for request in rt.decode(data):
        if request.flags & rt.Flag.REQUEST and request.type >= rt.FIRST_ROUTE_TYPE:
            replies += rt.packed(_replies(stack, request._replace(port=port)))
        elif request.flags & rt.Flag.ACK:
            replies.append(rt.encode(rt.error(request, 0)))
    return replies


def _replies(stack: Stack, request: rt.Message) -> Iterator[rt.Message]:
    try:
        if request.type & 3 != _GET:
            _change(stack, request)
        elif request.flags & rt.Flag.DUMP:
            yield from _dump(stack, request)
            return
        elif request.type not in _SINGLES:
            raise os_error(errno.EOPNOTSUPP)
        else:
            yield _SINGLES[rt.Type(request.type)](stack, request)
    except OSError as exc:
        yield rt.error(request, exc.errno or errno.EIO)
    else:
        if request.flags & rt.Flag.ACK:
            yield rt.error(request, 0)


def changes(before: Stack, after: Stack) -> Iterator[tuple[int, bytes]]:
    """Yield what is told of a change: a group (RTNLGRP_*), and a datagram for it.

    As in the kernel, an address comes before its routes, and goes after them.
    """
    old, new = list(_told(before)), list(_told(after))
    for told in reversed(old):
        if told not in new and told.group != _GROUP_LINK:
            gone = rt.Message(told.new + _DELETED, 0, 0, 0, told.body)
            yield told.group, rt.encode(gone)
    for told in new:
        if told not in old:
            yield told.group, rt.encode(rt.Message(told.new, 0, 0, 0, told.body))


class _Told(NamedTuple):
    group: int
    new: rt.Type
    body: bytes


def _told(stack: Stack) -> Iterator[_Told]:
    for body in _links(stack, socket.AF_UNSPEC):
        yield _Told(_GROUP_LINK, rt.Type.RTM_NEWLINK, body)
    for family, addresses, routes in _GROUPS:
        for body in _addresses(stack, family):
            yield _Told(addresses, rt.Type.RTM_NEWADDR, body)
        for body in _routes(stack, family):
            yield _Told(routes, rt.Type.RTM_NEWROUTE, body)


def _change(stack: Stack, request: rt.Message) -> None:
    """Refuse a change, unless it is of what who makes a namespace finds done.

    Tools that lock a program up give ``lo`` its address and set it up.

    Raises:
        OSError: EPERM.
    """
    wanted = request.type in (rt.Type.RTM_NEWLINK, rt.Type.RTM_NEWADDR)
    is_lo = request.body[4:8] == _LO  # of ifinfomsg and of ifaddrmsg
    if not (stack.kind is StackKind.APART and wanted and is_lo):
        raise os_error(errno.EPERM)


def _dump(stack: Stack, request: rt.Message) -> Iterator[rt.Message]:
    if request.type not in _DUMPS:
        raise os_error(errno.EOPNOTSUPP)
    new, bodies = _DUMPS[rt.Type(request.type)]
    family = rt.family(request.body)
    # a family that serves no such question is taken for "any", as in the kernel
    for body in bodies(stack, family if family in _FAMILIES else socket.AF_UNSPEC):
        yield rt.reply(request, new, body, rt.Flag.MULTI)
    yield rt.reply(request, rt.Type.NLMSG_DONE, rt.done_body(), rt.Flag.MULTI)


# ---- links ----


def _links(stack: Stack, family: int) -> Iterator[bytes]:
    if family != _AF_BRIDGE:
        yield from map(_link, stack.cards)


def _one_link(stack: Stack, request: rt.Message) -> rt.Message:
    wanted = rt.decode_link_request(request.body)
    if not wanted.number and not wanted.name:
        raise os_error(errno.EINVAL)
    for card in stack.cards:
        if card.number == wanted.number or (
            not wanted.number and card.name == wanted.name
        ):
            return rt.reply(request, rt.Type.RTM_NEWLINK, _link(card))
    raise os_error(errno.ENODEV)


def _link(card: Card) -> bytes:
    lo = card.is_loopback
    flags = _LO_FLAGS if lo else _CARD_FLAGS
    state = _OPER_UNKNOWN if lo else _OPER_UP
    if not card.has_carrier:
        flags, state = flags & _NO_CARRIER, _OPER_DOWN
    return rt.link_body(
        hardware=_ARPHRD_LOOPBACK if lo else _ARPHRD_ETHER,
        index=card.number,
        flags=flags,
        attrs={
            rt.Link.IFNAME: rt.text(card.name),
            rt.Link.TXQLEN: rt.u32(_QUEUE),
            rt.Link.OPERSTATE: bytes((state,)),
            rt.Link.LINKMODE: b"\0",
            rt.Link.MTU: rt.u32(card.mtu),
            rt.Link.GROUP: rt.u32(0),
            rt.Link.PROMISCUITY: rt.u32(0),
            rt.Link.NUM_TX_QUEUES: rt.u32(1),
            rt.Link.NUM_RX_QUEUES: rt.u32(1),
            rt.Link.CARRIER: bytes((card.has_carrier,)),
            rt.Link.QDISC: rt.text("noqueue"),
            rt.Link.ADDRESS: card.mac,
            rt.Link.BROADCAST: bytes(6) if lo else b"\xff" * 6,
            rt.Link.STATS64: _STATS64,
            rt.Link.STATS: _STATS,
        },
    )


# ---- addresses ----


def _addresses(stack: Stack, family: int) -> Iterator[bytes]:
    for version in (4, 6):
        if family not in (socket.AF_UNSPEC, _family(version)):
            continue
        for card in stack.cards:
            for own in card.addresses:
                if own.version == version:
                    yield _address(card, own)


def _address(card: Card, own: Interface) -> bytes:
    attrs: dict[int, bytes] = {rt.Addr.ADDRESS: own.packed}
    if own.version == 4:
        attrs[rt.Addr.LOCAL] = own.packed
        if not card.is_loopback:
            attrs[rt.Addr.BROADCAST] = own.network.broadcast_address.packed
        attrs[rt.Addr.LABEL] = rt.text(card.name)
    attrs[rt.Addr.CACHEINFO] = _FOR_EVER
    attrs[rt.Addr.FLAGS] = rt.u32(_IFA_F_PERMANENT)
    return rt.address_body(
        family=_family(own.version),
        prefix=own.network.prefixlen,
        flags=_IFA_F_PERMANENT,
        scope=_scope(card, own),
        index=card.number,
        attrs=attrs,
    )


def _scope(card: Card, own: Interface) -> int:
    if card.is_loopback:
        return _SCOPE_HOST
    is_near = own.version == 6 and own.is_link_local
    return _SCOPE_LINK if is_near else _SCOPE_UNIVERSE


# ---- routes ----


def _routes(stack: Stack, family: int) -> Iterator[bytes]:
    for version, routes in ((4, _routes4), (6, _routes6)):
        if family in (socket.AF_UNSPEC, _family(version)):
            for card in stack.cards:
                yield from routes(card)


def _routes4(card: Card) -> Iterator[bytes]:
    own4 = [own for own in card.addresses if own.version == 4]
    source = own4[0].ip if own4 else None
    for gateway in card.gateways:
        if gateway.version == 4:
            yield _route(card, ip_network("0.0.0.0/0"), gateway=gateway)
    for own in own4:
        if card.is_loopback:
            yield _local(card, own.network, own.ip)
        else:
            yield _route(card, own.network, source=own.ip, scope=_SCOPE_LINK)
        yield _local(card, ip_network(own.ip), own.ip)
        last = ip_network(own.network.broadcast_address)
        yield _local(card, last, source, kind=_BROADCAST, scope=_SCOPE_LINK)


def _routes6(card: Card) -> Iterator[bytes]:
    own6 = [own for own in card.addresses if own.version == 6]
    for own in own6:
        yield _route(card, own.network, metric=_METRIC_CONNECTED)
    for gateway in card.gateways:
        if gateway.version == 6:
            yield _route(
                card, ip_network("::/0"), gateway=gateway, metric=_METRIC_DEFAULT
            )
    for own in own6:
        yield _local(card, ip_network(own.ip), None, metric=_METRIC_LOCAL)
    if own6 and not card.is_loopback:
        yield _local(
            card,
            ip_network("ff00::/8"),
            None,
            kind=_MULTICAST,
            scope=_SCOPE_UNIVERSE,
            metric=_METRIC_CONNECTED,
        )


def _local(
    card: Card,
    to: Network,
    source: Address | None,
    *,
    kind: int = _LOCAL,
    scope: int = _SCOPE_HOST,
    metric: int | None = None,
) -> bytes:
    """Return a route of the table ``local``."""
    return _route(
        card,
        to,
        source=source,
        table=_TABLE_LOCAL,
        kind=kind,
        scope=_SCOPE_UNIVERSE if to.version == 6 else scope,
        metric=metric,
    )


def _route(
    card: Card,
    to: Network,
    *,
    gateway: Address | None = None,
    source: Address | None = None,
    table: int = _TABLE_MAIN,
    kind: int = _UNICAST,
    scope: int = _SCOPE_UNIVERSE,
    metric: int | None = None,
    flags: int = 0,
) -> bytes:
    attrs: dict[int, bytes] = {rt.Route.TABLE: rt.u32(table)}
    if to.prefixlen:
        attrs[rt.Route.DST] = to.network_address.packed
    if metric is not None:
        attrs[rt.Route.PRIORITY] = rt.u32(metric)
    if source is not None:
        attrs[rt.Route.PREFSRC] = source.packed
    if gateway is not None:
        attrs[rt.Route.GATEWAY] = gateway.packed
    attrs[rt.Route.OIF] = rt.u32(card.number)
    if to.version == 6 or flags:
        attrs[rt.Route.CACHEINFO] = _CACHE_INFO
    if to.version == 6:
        attrs[rt.Route.PREF] = b"\0"
    return rt.route_body(
        family=_family(to.version),
        prefix=to.prefixlen,
        table=table,
        protocol=_protocol(gateway, flags),
        scope=scope,
        kind=kind,
        flags=flags,
        attrs=attrs,
    )


def _protocol(gateway: Address | None, flags: int) -> int:
    """Return who made a route; nobody made the answer to "which way?"."""
    if flags:
        return _PROTO_UNSPEC
    return _PROTO_KERNEL if gateway is None else _PROTO_BOOT


def _one_route(stack: Stack, request: rt.Message) -> rt.Message:
    """Answer ``ip route get``: which way would a packet to there go?"""
    family, packed, oif = rt.decode_route_request(request.body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise os_error(errno.EOPNOTSUPP)
    if len(packed) != (4 if family == socket.AF_INET else 16):
        raise os_error(errno.EINVAL)
    to = ip_address(packed)
    body = _way(stack, to, oif)
    return rt.reply(request, rt.Type.RTM_NEWROUTE, body)


def _way(stack: Stack, to: Address, oif: int) -> bytes:
    single = ip_network(to)
    cards = [card for card in stack.cards if oif in (0, card.number)]
    for card in stack.cards:
        for own in card.addresses:
            if to == own.ip or (card.is_loopback and to in own.network):
                return _route(
                    stack.cards[0],
                    single,
                    source=own.ip,
                    table=_TABLE_LOCAL,
                    kind=_LOCAL,
                    flags=_RTM_F_CLONED,
                )
    for card in cards:
        for own in card.addresses:
            if to in own.network:
                return _route(card, single, source=own.ip, flags=_RTM_F_CLONED)
    for card in cards:
        for gateway in card.gateways:
            if gateway.version == to.version:
                return _route(
                    card,
                    single,
                    gateway=gateway,
                    source=_source(card, gateway),
                    flags=_RTM_F_CLONED,
                )
    raise os_error(errno.ENETUNREACH)


def _source(card: Card, peer: Address) -> Address | None:
    return next((own.ip for own in card.addresses if peer in own.network), None)


# ---- rules and neighbours ----


def _rules(_stack: Stack, family: int) -> Iterator[bytes]:
    for version in (4, 6):
        if family not in (socket.AF_UNSPEC, _family(version)):
            continue
        for priority, table in _RULES:
            if not (version == 6 and table == _TABLE_DEFAULT):
                yield rt.rule_body(
                    family=_family(version),
                    table=table,
                    attrs={
                        rt.Rule.TABLE: rt.u32(table),
                        rt.Rule.SUPPRESS_PREFIXLEN: rt.u32(0xFFFFFFFF),
                        rt.Rule.PROTOCOL: bytes((_PROTO_KERNEL,)),
                        **({rt.Rule.PRIORITY: rt.u32(priority)} if priority else {}),
                    },
                )


def _neighbours(_stack: Stack, _family: int) -> Iterator[bytes]:
    """Yield none: no card of a view has found a neighbour."""
    yield from ()


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


_DUMPS: dict[rt.Type, tuple[rt.Type, Callable[[Stack, int], Iterator[bytes]]]] = {
    rt.Type.RTM_GETLINK: (rt.Type.RTM_NEWLINK, _links),
    rt.Type.RTM_GETADDR: (rt.Type.RTM_NEWADDR, _addresses),
    rt.Type.RTM_GETROUTE: (rt.Type.RTM_NEWROUTE, _routes),
    rt.Type.RTM_GETRULE: (rt.Type.RTM_NEWRULE, _rules),
    rt.Type.RTM_GETNEIGH: (rt.Type.NLMSG_NOOP, _neighbours),
}
_SINGLES: dict[rt.Type, Callable[[Stack, rt.Message], rt.Message]] = {
    rt.Type.RTM_GETLINK: _one_link,
    rt.Type.RTM_GETROUTE: _one_route,
}
