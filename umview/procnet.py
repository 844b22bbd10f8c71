"""The files of /proc/net that tell of cards, routes, counters and sockets of a view.

Tools such as ifconfig, route, netstat and lsof read them where others ask by netlink.
A file that is not made here does not exist in a view. Unix sockets are the host's, but
for those that stand for a view's TCP and UDP sockets. Of what the kernel counts (snmp,
netstat) the host's file gives the columns, and every number that is no setting is 0.

Source: proc_pid_net(5); the exact columns as observed on Linux 6.18.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence

from umview.errors import os_error
from umview.view import Address, Card, Interface, Socket, TcpState, in_family, is_listed

_RTF_UP, _RTF_GATEWAY, _RTF_LOCAL6 = 1, 2, 0x80200001
_HOST_SCOPE, _LINK_SCOPE, _GLOBAL_SCOPE = 0x10, 0x20, 0
_PERMANENT = 0x80
_METRIC_LOCAL, _METRIC_CONNECTED, _METRIC_DEFAULT = 0, 256, 1024
_ALL_HOSTS, _ALL_NODES = "010000E0", "ff020000000000000000000000000001"
_ALL_NODES_HERE = "ff010000000000000000000000000001"
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
_IGMP = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
_NETLINK = (
    "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    "
    "Drops    Inode\n"
)
_PACKET = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
_WIDE = " " * 24  # what an IPv6 address takes more
_TAIL = "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_TCP = f"  sl  local_address rem_address   {_TAIL}"
_TCP6 = f"  sl  local_address{_WIDE} remote_address{_WIDE}{_TAIL}"
_DATAGRAM = " ref pointer drops"
_ROUTE_WIDTH, _TCP_WIDTH, _UDP_WIDTH = 127, 149, 127
_SETTINGS = {"Forwarding", "DefaultTTL", "RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn"}

Sockets = Sequence[Socket]


def compose(name: str, cards: Sequence[Card], sockets: Callable[[], Sockets]) -> str:
    """Return the text of /proc/net/`name`.

    Args:
        name: The file.
        cards: The stack's cards.
        sockets: Lists the stack's sockets.

    Raises:
        OSError: ENOENT where a view has no such file.
    """
    if name in _OF_CARDS:
        return _OF_CARDS[name](cards)
    if name in _OF_SOCKETS:
        return _OF_SOCKETS[name](sockets())
    raise os_error(errno.ENOENT)


# ---- cards and routes ----


def _dev(cards: Sequence[Card]) -> str:
    one = "       0       0    0    0    0     0          0         0"
    two = "        0       0    0    0    0     0       0          0"
    return _DEV + "".join(f"{card.name:>6}:{one}{two}\n" for card in cards)


def _own(cards: Sequence[Card], version: int) -> Iterator[tuple[Card, Interface]]:
    for card in cards:
        for own in card.addresses:
            if own.version == version:
                yield card, own


def _if_inet6(cards: Sequence[Card]) -> str:
    return "".join(
        f"{own.packed.hex()} {card.number:02x} {own.network.prefixlen:02x} "
        f"{_scope(card, own):02x} "
        f"{_PERMANENT:02x} {card.name:>8}\n"
        for card, own in _own(cards, 6)
    )


def _scope(card: Card, own: Interface) -> int:
    if card.is_loopback:
        return _HOST_SCOPE
    return _LINK_SCOPE if own.is_link_local else _GLOBAL_SCOPE


def _route(cards: Sequence[Card]) -> str:
    return "".join(f"{line:{_ROUTE_WIDTH}}\n" for line in _routes4(cards))


def _routes4(cards: Sequence[Card]) -> Iterator[str]:
    yield _ROUTE
    for card in cards:
        for gateway in card.gateways:
            if gateway.version == 4:
                flags = _RTF_UP | _RTF_GATEWAY
                yield _route4(card, "0" * 8, _word(gateway), flags, "0" * 8)
        for own in card.addresses:
            if own.version == 4 and not card.is_loopback:
                network = own.network
                to, mask = _word(network.network_address), _word(network.netmask)
                yield _route4(card, to, "0" * 8, _RTF_UP, mask)


def _route4(card: Card, to: str, gateway: str, flags: int, mask: str) -> str:
    return f"{card.name}\t{to}\t{gateway}\t{flags:04X}\t0\t0\t0\t{mask}\t0\t0\t0"


def _word(address: Address) -> str:
    """Return an IPv4 address as the kernel prints it: as a number of this machine."""
    return f"{int.from_bytes(address.packed, sys.byteorder):08X}"


def _ipv6_route(cards: Sequence[Card]) -> str:
    own6 = list(_own(cards, 6))
    lines = [
        _route6(card, own.network.network_address.packed, own.network.prefixlen)
        for card, own in own6
        if not card.is_loopback
    ]
    for card in cards:
        for gateway in card.gateways:
            if gateway.version == 6:
                flags = _RTF_UP | _RTF_GATEWAY
                lines.append(
                    _route6(card, bytes(16), 0, gateway, _METRIC_DEFAULT, flags)
                )
    lines += [
        _route6(card, own.packed, 128, None, _METRIC_LOCAL, _RTF_LOCAL6)
        for card, own in own6
    ]
    return "".join(lines)


def _route6(
    card: Card,
    to: bytes,
    prefix: int,
    gateway: Address | None = None,
    metric: int = _METRIC_CONNECTED,
    flags: int = _RTF_UP,
) -> str:
    via = gateway.packed if gateway else bytes(16)
    return (
        f"{to.hex()} {prefix:02x} {'0' * 32} 00 {via.hex()} "
        f"{metric:08x} 00000001 00000000 {flags:08x} {card.name:>8}\n"
    )


def _igmp(cards: Sequence[Card]) -> str:
    return _IGMP + "".join(
        f"{card.number}\t{card.name:<10}:     1      V3\n"
        f"\t\t\t\t{_ALL_HOSTS}     1 0:00000000\t\t0\n"
        for card in cards
    )


def _igmp6(cards: Sequence[Card]) -> str:
    return "".join(
        f"{card.number:<4} {card.name:<15} {group}     1 {flags} 0\n"
        for card in cards
        for group, flags in ((_ALL_NODES, "0000000C"), (_ALL_NODES_HERE, "00000008"))
    )


def _dev_mcast(cards: Sequence[Card]) -> str:
    return "".join(
        f"{card.number:<4} {card.name:<15} 1     0     {group}\n"
        for card in cards
        if not card.is_loopback
        for group in ("333300000001", "01005e000001")
    )


# ---- sockets ----


def _tcp(sockets: Sockets) -> str:
    text = f"{_TCP:{_TCP_WIDTH}}\n"
    for number, sock in enumerate(_listed(sockets, socket.AF_INET, 6)):
        line = f"{_line(number, 4, sock)} {_tcp_end(sock)}"
        text += f"{line:{_TCP_WIDTH}}\n"
    return text


def _tcp6(sockets: Sockets) -> str:
    return f"{_TCP6}\n" + "".join(
        f"{_line(number, 4, sock)} {_tcp_end(sock)}\n"
        for number, sock in enumerate(_listed(sockets, socket.AF_INET6, 6))
    )


def _datagrams(protocol: int, head: str, width: int) -> Callable[[Sockets], str]:
    """Return what makes the table of a protocol's datagram sockets."""

    def table(sockets: Sockets) -> str:
        text = f"{head}{_DATAGRAM}".ljust(width) + "\n"
        for number, sock in enumerate(_listed(sockets, socket.AF_INET, protocol)):
            text += f"{_line(number, 5, sock)} 2 {'0' * 16} 0".ljust(width) + "\n"
        return text

    return table


def _datagrams6(protocol: int) -> Callable[[Sockets], str]:
    def table(sockets: Sockets) -> str:
        return f"{_TCP6}{_DATAGRAM}\n" + "".join(
            f"{_line(number, 5, sock)} 2 {'0' * 16} 0\n"
            for number, sock in enumerate(_listed(sockets, socket.AF_INET6, protocol))
        )

    return table


def _raw(sockets: Sockets) -> str:
    width = _UDP_WIDTH
    return f"{_TCP}{_DATAGRAM}\n" + "".join(
        f"{_line(number, 4, sock)} 2 {'0' * 16} 0".ljust(width) + "\n"
        for number, sock in enumerate(_listed(sockets, socket.AF_INET, None))
    )


def _raw6(sockets: Sockets) -> str:
    return f"{_TCP6}{_DATAGRAM}\n" + "".join(
        f"{_line(number, 5, sock)} 2 {'0' * 16} 0\n"
        for number, sock in enumerate(_listed(sockets, socket.AF_INET6, None))
    )


def _listed(sockets: Sockets, family: int, protocol: int | None) -> Iterator[Socket]:
    """Yield the sockets of a table; protocol None stands for raw sockets."""
    for sock in sockets:
        is_raw = sock.type == socket.SOCK_RAW
        if (
            sock.family == family
            and (is_raw if protocol is None else sock.protocol == protocol)
            and (protocol is None or not is_raw)
            and is_listed(sock)
        ):
            yield sock


def _line(number: int, width: int, sock: Socket) -> str:
    local = _name(sock, sock.local, sock.local_port)
    remote = _name(sock, sock.remote, sock.remote_port)
    if sock.type == socket.SOCK_RAW:
        local = _name(sock, sock.local, sock.protocol)
    return (
        f"{number:{width}}: {local} {remote} {sock.state:02X} "
        f"00000000:{sock.waiting:08X} 00:00000000 00000000 "
        f"{os.getuid():5} {0:8} {sock.inode}"
    )


def _tcp_end(sock: Socket) -> str:
    is_connected = sock.state not in (TcpState.LISTEN, TcpState.SYN_SENT)
    return f"1 {'0' * 16} " + ("20 4 0 10 -1" if is_connected else "100 0 0 10 0")


def _name(sock: Socket, address: bytes, port: int) -> str:
    words = in_family(sock.family, address)
    numbers = struct.unpack(f"={len(words) // 4}I", words)
    return "".join(f"{number:08X}" for number in numbers) + f":{port:04X}"


def _sockstat(sockets: Sockets) -> str:
    tcp = sum(sock.protocol == 6 for sock in sockets)
    return (
        f"sockets: used {len(sockets)}\n"
        f"TCP: inuse {_count(sockets, socket.AF_INET, 6)} "
        f"orphan 0 tw 0 alloc {tcp} mem 0\n"
        f"UDP: inuse {_count(sockets, socket.AF_INET, 17)} mem 0\n"
        f"UDPLITE: inuse {_count(sockets, socket.AF_INET, 136)}\n"
        f"RAW: inuse {_count(sockets, socket.AF_INET, None)}\n"
        "FRAG: inuse 0 memory 0\n"
    )


def _sockstat6(sockets: Sockets) -> str:
    return (
        f"TCP6: inuse {_count(sockets, socket.AF_INET6, 6)}\n"
        f"UDP6: inuse {_count(sockets, socket.AF_INET6, 17)}\n"
        f"UDPLITE6: inuse {_count(sockets, socket.AF_INET6, 136)}\n"
        f"RAW6: inuse {_count(sockets, socket.AF_INET6, None)}\n"
        "FRAG6: inuse 0 memory 0\n"
    )


def _count(sockets: Sockets, family: int, protocol: int | None) -> int:
    return sum(1 for _ in _listed(sockets, family, protocol))


def _unix(sockets: Sockets) -> str:
    own = {str(sock.inode) for sock in sockets}
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        lines = list(file)
    return "".join(line for line in lines if _inode_of(line) not in own)


def _inode_of(line: str) -> str:
    words = line.split(maxsplit=7)
    return words[6].strip() if len(words) > 6 else ""


# ---- counters ----


def _counters(name: str) -> Callable[[Sockets], str]:
    """Return what makes the table of counters that the host's file has."""

    def table(sockets: Sockets) -> str:
        with open(f"/proc/net/{name}", encoding="ascii") as file:
            lines = file.read().splitlines()
        established = sum(
            sock.protocol == 6
            and sock.state in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT)
            for sock in sockets
        )
        columns: list[str] = []
        text = ""
        for line in lines:
            words = line.split(" ")
            if len(words) > 1 and words[1].lstrip("-").isdigit():
                values = zip(columns, words, strict=False)
                line = " ".join(
                    str(established) if column == "CurrEstab" else _cleared(column, one)
                    for column, one in values
                )
            columns = words
            text += f"{line}\n"
        return text

    return table


def _cleared(column: str, word: str) -> str:
    is_number = word.lstrip("-").isdigit()
    return "0" if is_number and column not in _SETTINGS else word


def _snmp6(_: Sockets) -> str:
    with open("/proc/net/snmp6", encoding="ascii") as file:
        return re.sub(r"\t\d+$", "\t0", file.read(), flags=re.MULTILINE)


_OF_CARDS: dict[str, Callable[[Sequence[Card]], str]] = {
    "arp": lambda _: _ARP,
    "dev": _dev,
    "dev_mcast": _dev_mcast,
    "if_inet6": _if_inet6,
    "igmp": _igmp,
    "igmp6": _igmp6,
    "ipv6_route": _ipv6_route,
    "packet": lambda _: _PACKET,
    "route": _route,
}
_OF_SOCKETS: dict[str, Callable[[Sockets], str]] = {
    "icmp": _datagrams(socket.IPPROTO_ICMP, _TCP, _UDP_WIDTH),
    "icmp6": _datagrams6(socket.IPPROTO_ICMPV6),
    "netlink": lambda _: _NETLINK,
    "netstat": _counters("netstat"),
    "raw": _raw,
    "raw6": _raw6,
    "snmp": _counters("snmp"),
    "snmp6": _snmp6,
    "sockstat": _sockstat,
    "sockstat6": _sockstat6,
    "tcp": _tcp,
    "tcp6": _tcp6,
    "udp": _datagrams(socket.IPPROTO_UDP, f" {_TCP}", _UDP_WIDTH),
    "udp6": _datagrams6(socket.IPPROTO_UDP),
    "udplite": _datagrams(socket.IPPROTO_UDPLITE, f" {_TCP}", _UDP_WIDTH),
    "udplite6": _datagrams6(socket.IPPROTO_UDPLITE),
    "unix": _unix,
}
