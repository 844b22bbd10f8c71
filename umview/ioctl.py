"""Answer the SIOC* calls about interfaces: they show a view's cards.

Nothing can be changed: that is EPERM, as for every user without CAP_NET_ADMIN. Only
what a DHCP server has to say can be said: where it has found a neighbour (SIOCSARP).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface

from umview.abi import ifreq
from umview.abi.ifreq import Siocgif
from umview.boundary import Done
from umview.errors import os_error
from umview.view import Card, Stack

_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_LO_FLAGS = 0x49  # UP LOOPBACK RUNNING
_CARD_FLAGS = 0x1043  # UP BROADCAST RUNNING MULTICAST
_RUNNING = 0x40
_QUEUE = 1000
_SIOCSARP = 0x8955
_SIOCETHTOOL = 0x8946
_SIOCGMIIPHY, _SIOCGMIIREG = 0x8947, 0x8948
_WIRELESS = range(0x8B00, 0x8C00)
_UNSUPPORTED = {_SIOCETHTOOL, _SIOCGMIIPHY, _SIOCGMIIREG, *_WIRELESS}
_CHANGES = {
    *(0x890B, 0x890C),  # SIOCADDRT, SIOCDELRT
    *(0x8914, 0x8916, 0x8918, 0x891A, 0x891C),  # FLAGS ADDR DSTADDR BRDADDR NETMASK
    *(0x891E, 0x8920, 0x8922, 0x8923, 0x8924),  # METRIC MEM MTU NAME HWADDR
    *(0x8930, 0x8931, 0x8932, 0x8934, 0x8936),  # SLAVE ADDMULTI DELMULTI PFLAGS DIFADDR
    *(0x8937, 0x8943, 0x8949, 0x8971),  # HWBROADCAST TXQLEN SMIIREG MAP
    *(0x8953, 0x8960, 0x8962),  # DARP DRARP SRARP
}


def answer(stack: Stack, request: int, arg: int, data: bytes) -> Done:
    """Answer one call.

    Args:
        stack: The stack of the socket.
        request: The SIOC* number.
        arg: The address of the program's struct.
        data: That struct.

    Raises:
        OSError: ENODEV if there is no such card, EADDRNOTAVAIL if it has no IPv4
            address, EPERM for changes, EOPNOTSUPP for ethtool and wireless requests,
            ENOTTY for unknown ones.
    """
    if request == _SIOCSARP:
        return _note_neighbour(stack, data)
    if request == Siocgif.CONF:
        return _conf(stack, arg, data)
    if request in _CHANGES:
        raise os_error(errno.EPERM)
    if request == Siocgif.NAME:
        card = _card(stack, lambda one: one.number == ifreq.index(data))
        return Done(0, ((arg, ifreq.with_name(data, card.name)),))
    if request not in _VALUES and request not in _UNSUPPORTED:
        raise os_error(errno.ENOTTY)
    # "eth0:1" is an alias of eth0, from the days before a card had many addresses
    name = ifreq.name(data).partition(":")[0]
    card = _card(stack, lambda one: one.name == name)
    if request in _UNSUPPORTED:
        raise os_error(errno.EOPNOTSUPP)
    value = _VALUES[Siocgif(request)](card)
    return Done(0, ((arg, ifreq.with_value(data, value)),))


def _note_neighbour(stack: Stack, data: bytes) -> Done:
    wanted = ifreq.decode_arpreq(data)
    card = _card(stack, lambda one: one.name == wanted.card)
    if not stack.steward:
        raise os_error(errno.EPERM)
    stack.steward.note_neighbour(card, wanted.address, wanted.mac)
    return Done(0)


def _card(stack: Stack, wanted: Callable[[Card], bool]) -> Card:
    for card in stack.cards:
        if wanted(card):
            return card
    raise os_error(errno.ENODEV)


def _conf(stack: Stack, arg: int, data: bytes) -> Done:
    """Answer SIOCGIFCONF: all IPv4 addresses, or the space that they need."""
    room, buffer = ifreq.decode_ifconf(data)
    entries = [
        ifreq.ifconf_entry(card.name, own.ip)
        for card in stack.cards
        for own in card.addresses
        if isinstance(own, IPv4Interface)
    ]
    if not buffer:
        return Done(0, ((arg, ifreq.encode_ifconf(len(entries) * ifreq.IFREQ, 0)),))
    if room < 0:
        raise os_error(errno.EINVAL)
    listed = b"".join(entries[: room // ifreq.IFREQ])
    head = (arg, ifreq.encode_ifconf(len(listed), buffer))
    return Done(0, ((buffer, listed), head) if listed else (head,))


def _own(card: Card) -> IPv4Interface:
    for own in card.addresses:
        if isinstance(own, IPv4Interface):
            return own
    raise os_error(errno.EADDRNOTAVAIL)


def _broadcast(card: Card) -> bytes:
    own = _own(card)
    if card.is_loopback:
        return ifreq.address_value(IPv4Address(0))
    return ifreq.address_value(own.network.broadcast_address)


def _hardware(card: Card) -> bytes:
    kind = _ARPHRD_LOOPBACK if card.is_loopback else _ARPHRD_ETHER
    return ifreq.hardware_value(kind, card.mac)


_VALUES: dict[Siocgif, Callable[[Card], bytes]] = {
    Siocgif.FLAGS: lambda card: ifreq.flags_value(
        _LO_FLAGS
        if card.is_loopback
        else _CARD_FLAGS & ~(0 if card.has_carrier else _RUNNING)
    ),
    Siocgif.ADDR: lambda card: ifreq.address_value(_own(card).ip),
    Siocgif.DSTADDR: lambda card: ifreq.address_value(_own(card).ip),
    Siocgif.BRDADDR: _broadcast,
    Siocgif.NETMASK: lambda card: ifreq.address_value(_own(card).netmask),
    Siocgif.METRIC: lambda _: ifreq.int_value(0),
    Siocgif.MTU: lambda card: ifreq.int_value(card.mtu),
    Siocgif.HWADDR: _hardware,
    Siocgif.INDEX: lambda card: ifreq.int_value(card.number),
    Siocgif.TXQLEN: lambda _: ifreq.int_value(_QUEUE),
    Siocgif.MAP: lambda _: ifreq.map_value(),
}
