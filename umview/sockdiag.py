"""Answer the requests that programs send on NETLINK_SOCK_DIAG sockets, as ss(8) does.

TCP, UDP and raw sockets are the view's. Unix sockets are the host's, so the kernel is
asked and its answer passed on, but for those that stand for sockets of the view. What
ss filters by (a program for the kernel's little machine, INET_DIAG_REQ_BYTECODE) is not
looked at: ss looks itself, too.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Container, Iterator, Sequence

from umview.abi import inet_diag as diag
from umview.abi import rtnetlink as rt
from umview.errors import os_error
from umview.view import Socket, Stack, in_family, is_listed

_NETLINK_SOCK_DIAG = 4
_ROOM = 1 << 16
_WAIT = 2.0
_AF_MAX = 46
_PROTOCOLS = (
    socket.IPPROTO_TCP,
    socket.IPPROTO_UDP,
    socket.IPPROTO_UDPLITE,
    socket.IPPROTO_RAW,
    socket.IPPROTO_MPTCP,
)

Sockets = Callable[[], Sequence[Socket]]


def answer(stack: Stack, sockets: Sockets, port: int, data: bytes) -> list[bytes]:
    """Return the datagrams that answer what a program sent.

    Args:
        stack: The stack of its socket.
        sockets: Lists the sockets of the view.
        port: The netlink address of its socket.
        data: What it sent: one message or several.
    """
    replies: list[bytes] = []
    for request in rt.decode(data):
        own = request._replace(port=port)
        if not request.flags & rt.Flag.REQUEST:
            continue
        if own.type == diag.Type.BY_FAMILY and rt.family(own.body) == socket.AF_UNIX:
            surrogates = {sock.inode for sock in sockets()}
            replies += _asked_of_the_kernel(own, surrogates)
        else:
            replies += rt.packed(_replies(stack, sockets, own))
    return replies


def _replies(
    stack: Stack, sockets: Sockets, request: rt.Message
) -> Iterator[rt.Message]:
    try:
        wanted = _wanted(request)
        found = [
            sock
            for sock in sockets()
            if sock.stack == stack.number and _is_wanted(sock, wanted)
        ]
        is_known = wanted.protocol in _PROTOCOLS
        if request.flags & rt.Flag.DUMP:
            for sock in found:
                yield rt.reply(request, request.type, _body(sock), rt.Flag.MULTI)
            done = rt.done_body(0 if is_known else errno.ENOENT)
            yield rt.reply(request, rt.Type.NLMSG_DONE, done, rt.Flag.MULTI)
            return
        found = [sock for sock in found if _is_named(sock, wanted)]
        if not found:
            raise os_error(errno.ENOENT)
        if request.type == diag.Type.DESTROY:
            raise os_error(errno.EPERM)
        yield rt.reply(request, diag.Type.BY_FAMILY, _body(found[0]))
    except OSError as exc:
        yield rt.error(request, exc.errno or errno.EIO)


def _wanted(request: rt.Message) -> diag.Request:
    """Read a request.

    Raises:
        OSError: EINVAL where it is too short or its type or family is unknown; ENOENT
            where the family's sockets are not shown.
    """
    if request.type not in tuple(diag.Type) or len(request.body) < diag.SHORTEST:
        raise os_error(errno.EINVAL)
    family = rt.family(request.body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise os_error(errno.ENOENT if family < _AF_MAX else errno.EINVAL)
    wanted = diag.decode(request.type, request.body)
    if wanted is None:
        raise os_error(errno.EINVAL)
    return wanted


def _is_wanted(sock: Socket, wanted: diag.Request) -> bool:
    is_raw = sock.type == socket.SOCK_RAW
    protocol = socket.IPPROTO_RAW if is_raw else sock.protocol
    return (
        (sock.family, protocol) == (wanted.family, wanted.protocol)
        and bool(wanted.states >> sock.state & 1)
        and is_listed(sock)
    )


def _is_named(sock: Socket, wanted: diag.Request) -> bool:
    is_it = wanted.cookie in (diag.NO_COOKIE, sock.cookie)
    return is_it and wanted.ports == (sock.local_port, sock.remote_port)


def _body(sock: Socket) -> bytes:
    is_raw = sock.type == socket.SOCK_RAW
    return diag.encode(
        family=sock.family,
        state=sock.state,
        ports=(sock.protocol if is_raw else sock.local_port, sock.remote_port),
        local=in_family(sock.family, sock.local),
        remote=in_family(sock.family, sock.remote),
        card=sock.card,
        cookie=sock.cookie,
        queues=(sock.waiting, sock.backlog),
        uid=os.getuid(),
        inode=sock.inode,
        is_v6only=sock.is_v6only if sock.family == socket.AF_INET6 else None,
    )


def _asked_of_the_kernel(
    request: rt.Message, surrogates: Container[int]
) -> Iterator[bytes]:
    """Pass a request for unix sockets on, and yield the datagrams that come back."""
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
    ) as kernel:
        kernel.settimeout(_WAIT)
        kernel.sendto(rt.encode(request._replace(port=0)), (0, 0))
        is_open = True
        while is_open:
            came = [*rt.decode(kernel.recv(_ROOM))]
            ends = (rt.Type.NLMSG_DONE, rt.Type.NLMSG_ERROR)
            is_open = bool(came) and all(
                message.flags & rt.Flag.MULTI and message.type not in ends
                for message in came
            )
            yield from rt.packed(
                one._replace(port=request.port)
                for one in came
                if one.type != diag.Type.BY_FAMILY
                or diag.inode_of_unix(one.body) not in surrogates
            )
