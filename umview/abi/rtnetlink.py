"""Messages of rtnetlink(7): requests in, links, addresses, routes and rules out.

All numbers are in the machine's byte order, addresses in network order. A message is
a header, a fixed part that depends on its type, and attributes, each aligned to 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum, IntFlag
from typing import NamedTuple

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_IFINFO = struct.Struct("=BxHiII")  # family, hardware type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol,
# scope, type, flags
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")
_NLA_TYPE_MASK = 0x3FFF
_LONGEST = 3500


class Type(IntEnum):
    """Message types (linux/netlink.h, linux/rtnetlink.h)."""

    NLMSG_NOOP = 1
    NLMSG_ERROR = 2
    NLMSG_DONE = 3
    RTM_NEWLINK = 16
    RTM_GETLINK = 18
    RTM_NEWADDR = 20
    RTM_GETADDR = 22
    RTM_NEWROUTE = 24
    RTM_GETROUTE = 26
    RTM_GETNEIGH = 30
    RTM_NEWRULE = 32
    RTM_GETRULE = 34


FIRST_ROUTE_TYPE = 16
"""Of the types from here on, every fourth is NEW, DEL, GET and SET, in that order."""


class Flag(IntFlag):
    """Flags of a message's header."""

    REQUEST = 1
    MULTI = 2
    ACK = 4
    CAPPED = 0x100  # of an error: it holds the request's header only
    DUMP = 0x300  # ROOT | MATCH; the kernel takes either for a dump


class Link(IntEnum):
    """Attributes of a link (linux/if_link.h)."""

    ADDRESS = 1
    BROADCAST = 2
    IFNAME = 3
    MTU = 4
    QDISC = 6
    STATS = 7
    TXQLEN = 13
    OPERSTATE = 16
    LINKMODE = 17
    STATS64 = 23
    GROUP = 27
    PROMISCUITY = 30
    NUM_TX_QUEUES = 31
    NUM_RX_QUEUES = 32
    CARRIER = 33
    ALT_IFNAME = 53


class Addr(IntEnum):
    """Attributes of an address (linux/if_addr.h)."""

    ADDRESS = 1
    LOCAL = 2
    LABEL = 3
    BROADCAST = 4
    CACHEINFO = 6
    FLAGS = 8


class Route(IntEnum):
    """Attributes of a route (linux/rtnetlink.h)."""

    DST = 1
    SRC = 2
    OIF = 4
    GATEWAY = 5
    PRIORITY = 6
    PREFSRC = 7
    CACHEINFO = 12
    TABLE = 15
    PREF = 20


class Rule(IntEnum):
    """Attributes of a rule (linux/fib_rules.h)."""

    PRIORITY = 6
    SUPPRESS_PREFIXLEN = 14
    TABLE = 15
    PROTOCOL = 21


class Message(NamedTuple):
    """A message without its length.

    Attributes:
        type: RTM_* or NLMSG_*; any number in a request.
        flags: Those of the header.
        sequence: Chosen by the program, the same in the replies.
        port: The netlink address of the program's socket.
        body: What follows the header.
    """

    type: int
    flags: int
    sequence: int
    port: int
    body: bytes


def decode(data: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram; a broken length ends it, as in the kernel.

    Args:
        data: What the program sent.
    """
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        body = data[offset + _HEADER.size : offset + length]
        yield Message(kind, flags, sequence, port, body)
        offset += _aligned(length)


def encode(message: Message) -> bytes:
    """Return a message as bytes, padded to a multiple of 4."""
    length = _HEADER.size + len(message.body)
    header = _HEADER.pack(
        length, message.type, message.flags, message.sequence, message.port
    )
    return _padded(header + message.body)


def error_body(code: int, request: Message) -> bytes:
    """Return the body of an NLMSG_ERROR.

    Args:
        code: The errno, 0 for an acknowledgement.
        request: What it is about; an acknowledgement holds its header only.
    """
    length = _HEADER.size + len(request.body)
    header = _HEADER.pack(
        length, request.type, request.flags, request.sequence, request.port
    )
    return _I32.pack(-code) + header + (request.body if code else b"")


def done_body(code: int = 0) -> bytes:
    """Return the body of an NLMSG_DONE; code: an errno, if the dump has failed."""
    return _I32.pack(-code)


def family(body: bytes) -> int:
    """Return the address family that a request asks for; AF_UNSPEC if it is empty."""
    return body[0] if body else 0


class LinkRequest(NamedTuple):
    """An RTM_GETLINK for one link; number 0 and an empty name mean not said."""

    number: int
    name: str


def decode_link_request(body: bytes) -> LinkRequest:
    """Read the body of an RTM_GETLINK that is no dump."""
    if len(body) < _IFINFO.size:
        return LinkRequest(0, "")
    index: int = _IFINFO.unpack_from(body)[2]
    found = attributes(body[_IFINFO.size :])
    name = found.get(Link.IFNAME) or found.get(Link.ALT_IFNAME, b"")
    return LinkRequest(index, name.rstrip(b"\0").decode("ascii", "replace"))


def decode_route_request(body: bytes) -> tuple[int, bytes, int]:
    """Read the body of an RTM_GETROUTE that is no dump.

    Returns:
        The address family, the destination (packed; empty where none is given) and
        the index of the card that it has to leave by (0: any).
    """
    found = attributes(body[_RTMSG.size :])
    index = found.get(Route.OIF, bytes(4))
    oif: int = _U32.unpack(index)[0] if len(index) == _U32.size else 0
    return family(body), found.get(Route.DST, b""), oif


def link_body(
    *, hardware: int, index: int, flags: int, attrs: Mapping[int, bytes]
) -> bytes:
    """Return the body of an RTM_NEWLINK.

    Args:
        hardware: ARPHRD_* number of the kind of card.
        index: The interface index.
        flags: IFF_* bits.
        attrs: Values by their `Link` number.
    """
    return _IFINFO.pack(0, hardware, index, flags, 0) + pack_attributes(attrs.items())


def address_body(
    *,
    family: int,
    prefix: int,
    flags: int,
    scope: int,
    index: int,
    attrs: Mapping[int, bytes],
) -> bytes:
    """Return the body of an RTM_NEWADDR; attrs by their `Addr` number."""
    fixed = _IFADDR.pack(family, prefix, flags, scope, index)
    return fixed + pack_attributes(attrs.items())


def route_body(
    *,
    family: int,
    prefix: int,
    table: int,
    protocol: int,
    scope: int,
    kind: int,
    flags: int,
    attrs: Mapping[int, bytes],
) -> bytes:
    """Return the body of an RTM_NEWROUTE; attrs by their `Route` number."""
    fixed = _RTMSG.pack(family, prefix, 0, 0, table, protocol, scope, kind, flags)
    return fixed + pack_attributes(attrs.items())


def rule_body(*, family: int, table: int, attrs: Mapping[int, bytes]) -> bytes:
    """Return the body of an RTM_NEWRULE that looks up a table."""
    fixed = _RTMSG.pack(family, 0, 0, 0, table, 0, 0, 1, 0)  # 1: FR_ACT_TO_TBL
    return fixed + pack_attributes(attrs.items())


def packed(messages: Iterator[Message]) -> Iterator[bytes]:
    """Yield messages as datagrams: those of a dump as many in each as fit.

    That is less than 4096 bytes, for that is the buffer that glibc and Go read them
    with, and glibc takes a longer one for a failure.
    """
    datagram = b""
    for message in messages:
        wire = encode(message)
        is_full = len(datagram) + len(wire) > _LONGEST
        if datagram and (is_full or not message.flags & Flag.MULTI):
            yield datagram
            datagram = b""
        datagram += wire
    if datagram:
        yield datagram


def reply(request: Message, kind: int, body: bytes, flags: int = 0) -> Message:
    """Return a message that answers a request."""
    return Message(kind, flags, request.sequence, request.port, body)


def error(request: Message, code: int) -> Message:
    """Return the NLMSG_ERROR of an errno, or the acknowledgement if it is 0."""
    flags = 0 if code else Flag.CAPPED
    return reply(request, Type.NLMSG_ERROR, error_body(code, request), flags)


def u32(value: int) -> bytes:
    """Return a number as the value of an attribute."""
    return _U32.pack(value)


def text(value: str) -> bytes:
    """Return a string as the value of an attribute."""
    return value.encode("ascii") + b"\0"


def attributes(data: bytes) -> dict[int, bytes]:
    """Return the attributes' values by number; what is cut off is left out."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def pack_attributes(values: Iterable[tuple[int, bytes]]) -> bytes:
    """Return attributes, given as (number, value), as bytes."""
    return b"".join(
        _padded(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value)
        for kind, value in values
    )


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
