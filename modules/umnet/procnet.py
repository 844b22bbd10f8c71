"""The files of /proc/net that tell of cards, routes and sockets, for a view's cards.

Tools such as ifconfig, route and netstat read them where others ask by netlink. The
tables of sockets have their heads only: no line of the host's may show.

Source: proc_pid_net(5); the exact columns as observed on Linux 6.18.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from umview.view import Address, Card

_RTF_UP, _RTF_GATEWAY = 1, 2
_HOST_SCOPE, _GLOBAL_SCOPE = 0x10, 0
_PERMANENT = 0x80
_DEV = (
    "Inter-|   Receive                                                "
    "|  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast"
    "|bytes    packets errs drop fifo colls carrier compressed\n"
)
_ROUTE = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU"
    "\tWindow\tIRTT"
)
_ARP = (
    "IP address       HW type     Flags       HW address            Mask     Device\n"
)
_WIDE = " " * 24  # what an IPv6 address takes more
_TAIL = "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_TCP = f"  sl  local_address rem_address   {_TAIL}"
_TCP6 = f"  sl  local_address{_WIDE} remote_address{_WIDE}{_TAIL}"
_DATAGRAM = " ref pointer drops"
_ROUTE_WIDTH, _TCP_WIDTH, _UDP_WIDTH = 127, 149, 127


def files(cards: Sequence[Card]) -> dict[str, str]:
    """Return the texts by the files' names."""
    datagram = f"{_TCP}{_DATAGRAM}"
    datagram6 = f"{_TCP6}{_DATAGRAM}\n"
    return {
        "arp": _ARP,
        "dev": _DEV + "".join(map(_dev, cards)),
        "if_inet6": "".join(line for card in cards for line in _if_inet6(card)),
        "raw": f"{datagram}\n",
        "raw6": datagram6,
        "route": "".join(f"{line:{_ROUTE_WIDTH}}\n" for line in _routes(cards)),
        "tcp": f"{_TCP:{_TCP_WIDTH}}\n",
        "tcp6": f"{_TCP6}\n",
        "udp": f" {datagram}".ljust(_UDP_WIDTH) + "\n",
        "udp6": datagram6,
    }


def _dev(card: Card) -> str:
    one = "       0       0    0    0    0     0          0         0"
    two = "        0       0    0    0    0     0       0          0"
    return f"{card.name:>6}:{one}{two}\n"


def _if_inet6(card: Card) -> Iterator[str]:
    scope = _HOST_SCOPE if card.is_loopback else _GLOBAL_SCOPE
    for own in card.addresses:
        if own.version == 6:
            yield (
                f"{own.packed.hex()} {card.number:02x} {own.network.prefixlen:02x} "
                f"{scope:02x} {_PERMANENT:02x} {card.name:>8}\n"
            )


def _routes(cards: Sequence[Card]) -> Iterator[str]:
    yield _ROUTE
    for card in cards:
        for gateway in card.gateways:
            if gateway.version == 4:
                flags = _RTF_UP | _RTF_GATEWAY
                yield _route(card, "0" * 8, _word(gateway), flags, "0" * 8)
        for own in card.addresses:
            if own.version == 4 and not card.is_loopback:
                network = own.network
                to, mask = _word(network.network_address), _word(network.netmask)
                yield _route(card, to, "0" * 8, _RTF_UP, mask)


def _route(card: Card, to: str, gateway: str, flags: int, mask: str) -> str:
    return f"{card.name}\t{to}\t{gateway}\t{flags:04X}\t0\t0\t0\t{mask}\t0\t0\t0"


def _word(address: Address) -> str:
    """Return an IPv4 address as the kernel prints it: as a number of this machine."""
    return f"{int.from_bytes(address.packed, sys.byteorder):08X}"
