"""Messages of sock_diag(7) for internet sockets: requests in, sockets out.

Numbers are in the machine's byte order but for ports and addresses.
"""

from __future__ import annotations

import struct
import sys
from enum import IntEnum
from typing import NamedTuple

from umview.abi import rtnetlink as rt

_REQUEST = struct.Struct("=BBBBI")  # family, protocol, extensions, pad, states
_OLD_REQUEST = struct.Struct("=BBBB")  # family, source and destination length, ext.
_PORTS = struct.Struct("!HH")
_CARD_COOKIE = struct.Struct("=IQ")
_CARD_COOKIE_AT, _IDENTITY = 36, 48
_QUEUES = struct.Struct("=IIIII")  # expires, rqueue, wqueue, uid, inode
_TCP = 6
_PROTOCOL = 3  # INET_DIAG_REQ_PROTOCOL: for protocols above 255
_SHUTDOWN, _V6ONLY = 8, 11
SHORTEST = 2
"""The least that a request has: its family and protocol (struct sock_diag_req)."""
NO_COOKIE = (1 << 64) - 1


class Type(IntEnum):
    """Message types (linux/sock_diag.h, linux/inet_diag.h)."""

    TCP_OLD = 18
    BY_FAMILY = 20
    DESTROY = 21


class Request(NamedTuple):
    """Which sockets are wanted.

    Attributes:
        family: AF_INET or AF_INET6.
        protocol: IPPROTO_*; IPPROTO_RAW stands for raw sockets of any.
        states: A bit for each state.
        ports: Local and remote, of one socket.
        cookie: Of one socket, or NO_COOKIE.
    """

    family: int
    protocol: int
    states: int
    ports: tuple[int, int]
    cookie: int


def decode(kind: int, body: bytes) -> Request | None:
    """Read a request of the type BY_FAMILY or TCP_OLD; None if it is too short."""
    if kind == Type.TCP_OLD:
        size = _OLD_REQUEST.size + _IDENTITY
        if len(body) < size + 4:
            return None
        states = int.from_bytes(body[size : size + 4], sys.byteorder)
        return Request(body[0], _TCP, states, *_identity(body[_OLD_REQUEST.size :]))
    size = _REQUEST.size + _IDENTITY
    if len(body) < size:
        return None
    family, protocol, _, _, states = _REQUEST.unpack_from(body)
    found = rt.attributes(body[size:])
    protocol = int.from_bytes(found.get(_PROTOCOL, bytes((protocol,))), sys.byteorder)
    return Request(family, protocol, states, *_identity(body[_REQUEST.size :]))


def _identity(raw: bytes) -> tuple[tuple[int, int], int]:
    local, remote = _PORTS.unpack_from(raw)
    cookie: int = _CARD_COOKIE.unpack_from(raw, _CARD_COOKIE_AT)[1]
    return (local, remote), cookie


def encode(
    *,
    family: int,
    state: int,
    ports: tuple[int, int],
    local: bytes,
    remote: bytes,
    card: int,
    cookie: int,
    queues: tuple[int, int],
    uid: int,
    inode: int,
    is_v6only: bool | None,
) -> bytes:
    """Return the body of the message that tells of a socket.

    Args:
        family: AF_INET or AF_INET6.
        state: As in <netinet/tcp.h>.
        ports: Local and remote.
        local: Its address, 4 or 16 bytes.
        remote: Its peer's.
        card: The index of the card that it is bound to, or 0.
        cookie: Its SO_COOKIE.
        queues: What waits to be read and to be sent; of a listener, how many
            connections wait and how many may.
        uid: Whose it is.
        inode: Its inode.
        is_v6only: None for an IPv4 socket.
    """
    attrs = {_SHUTDOWN: b"\0"}
    if is_v6only is not None:
        attrs[_V6ONLY] = bytes((is_v6only,))
    return (
        bytes((family, state, 0, 0))
        + _PORTS.pack(*ports)
        + local.ljust(16, b"\0")
        + remote.ljust(16, b"\0")
        + _CARD_COOKIE.pack(card, cookie)
        + _QUEUES.pack(0, *queues, uid, inode)
        + rt.pack_attributes(attrs.items())
    )


def inode_of_unix(body: bytes) -> int:
    """Return the inode in a message that tells of a unix socket."""
    return int.from_bytes(body[4:8], sys.byteorder)
