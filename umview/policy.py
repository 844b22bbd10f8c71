"""What a module may say to the calls of a view, and what it is told of them.

A policy is asked before a call is carried out, and answers with an errno or with 0. It
sees names and programs, never bytes: these pass umview's Python by, whatever a
policy says.
"""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from umview.view import Address


class Deed(IntFlag):
    """What an act is (UM_DEED_*)."""

    NONE = 0
    # asked: Policy.decide() says whether it is done
    BIND = 1  # take a name
    LISTEN = 2
    CONNECT = 4  # a stream to a peer, or a datagram socket
    ACCEPT = 8  # a stream of a peer, before the program gets it
    SEND = 16  # a datagram to a peer that the socket has not been allowed yet
    RECEIVE = 32  # the same the other way; what the socket was allowed to send comes
    # told: Policy.note() hears of it
    CONNECTED = 64  # it stands
    ACCEPTED = 128
    FAILED = 256  # it could not be made; the error says why
    ENDED = 512  # one that was connected or accepted; told within some seconds


ASKED = Deed.BIND | Deed.LISTEN | Deed.CONNECT | Deed.ACCEPT | Deed.SEND | Deed.RECEIVE


class Name(NamedTuple):
    """An end of a connection."""

    address: Address
    port: int


class Act(NamedTuple):
    """What a program wants to do, or what has come of it.

    Attributes:
        deed: What it is; one of `Deed`.
        pid: The thread that does it; of ENDED, the one that had the socket last.
        program: The path of its program; "" if that cannot be told any more.
        view: The number of its view.
        stack: The path of the stack, as ``/dev/net/default``.
        socket: The number that its socket has alone (SO_COOKIE).
        protocol: IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, ...
        local: The name that it has, or that it takes (BIND).
        remote: The peer's name; None where there is none.
        error: Of FAILED: the errno.
    """

    deed: Deed
    pid: int
    program: str
    view: int
    stack: str
    socket: int
    protocol: int
    local: Name
    remote: Name | None = None
    error: int = 0


class Policy:
    """What a module without a stack has a say in. To be derived from.

    All methods are called in the thread that answers the views: the program waits
    meanwhile, and so do netlink and others.

    Attributes:
        deeds: Which acts it wants to know of. Others do not cost anything.
    """

    deeds = Deed.NONE

    def start(self) -> None:
        """Take what it needs, before the first call.

        Raises:
            UmviewError: It cannot be had.
        """

    def decide(self, act: Act) -> int:  # noqa: ARG002
        """Return 0, or the errno that the call fails with.

        A connection that comes in (ACCEPT) is closed then, and a datagram (RECEIVE)
        dropped, whichever errno it is. An exception is EPERM.
        """
        return 0

    def note(self, act: Act) -> None:
        """Hear what has come of it."""

    def stop(self) -> None:
        """Give back what start() has taken, after the last call."""
