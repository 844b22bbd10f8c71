"""What programs get on NETLINK_SOCK_DIAG, decoded by pyroute2."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.diag import inet_diag_msg  # type: ignore[import-untyped]

from umview import sockdiag
from umview.abi import inet_diag as diag
from umview.abi import rtnetlink as rt
from umview.view import Socket

from .views import LISTENER, STACK

PORT = 4711
DUMP = rt.Flag.REQUEST | rt.Flag.DUMP
ALL = 0xFFFFFFFF
DATAGRAM = LISTENER._replace(type=2, protocol=17, state=7, local_port=53)
RAW = LISTENER._replace(type=3, protocol=1, state=7, local_port=0)


def ask(
    *sockets: Socket,
    family: int = socket.AF_INET,
    protocol: int = 6,
    states: int = ALL,
    flags: int = DUMP,
    kind: int = diag.Type.BY_FAMILY,
    port: int = 0,
    cookie: int = diag.NO_COOKIE,
) -> list[rt.Message]:
    body = struct.pack("=BBBBI", family, protocol, 0, 0, states)
    body += struct.pack("!HH", port, 0) + bytes(32) + struct.pack("=IQ", 0, cookie)
    request = rt.encode(rt.Message(kind, flags, 5, 0, body))
    datagrams = sockdiag.answer(STACK, lambda: sockets, PORT, request)
    return [message for datagram in datagrams for message in rt.decode(datagram)]


def decoded(message: rt.Message) -> dict[str, Any]:
    read = inet_diag_msg(rt.encode(message))
    read.decode()
    return dict(read)


def error_of(messages: list[rt.Message]) -> int:
    (message,) = messages
    assert message.type == rt.Type.NLMSG_ERROR
    return -int.from_bytes(message.body[:4], "little", signed=True)


def test_listener_as_pyroute2_reads_it() -> None:
    one, done = ask(LISTENER)
    assert done.type == rt.Type.NLMSG_DONE
    assert (one.sequence, one.port) == (5, PORT)
    read = decoded(one)
    assert read["idiag_family"] == socket.AF_INET
    assert read["idiag_state"] == 10
    assert read["idiag_sport"] == 8080
    assert read["idiag_dport"] == 0
    assert read["idiag_src"] == "127.0.0.1"
    assert (read["idiag_rqueue"], read["idiag_wqueue"]) == (1, 7)
    assert (read["idiag_inode"], read["idiag_uid"]) == (4711, os.getuid())


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 1),
        ({"protocol": 17}, 1),
        ({"protocol": 255}, 1),
        ({"protocol": 136}, 0),
        ({"family": socket.AF_INET6}, 0),
        ({"states": 1 << 10}, 1),
        ({"states": 1 << 1}, 0),
        ({"kind": diag.Type.TCP_OLD, "protocol": 0}, 1),
    ],
)
def test_dump_holds_what_is_wanted(wanted: dict[str, int], count: int) -> None:
    *found, done = ask(LISTENER, DATAGRAM, RAW, **wanted)
    assert done.type == rt.Type.NLMSG_DONE
    assert len(found) == count


def test_one_socket_is_found_by_its_port_and_cookie() -> None:
    (one,) = ask(LISTENER, flags=rt.Flag.REQUEST, port=8080, cookie=77)
    assert decoded(one)["idiag_inode"] == 4711
    other = ask(LISTENER, flags=rt.Flag.REQUEST, port=8080, cookie=78)
    assert error_of(other) == errno.ENOENT


def test_sockets_of_another_stack_are_not_shown() -> None:
    assert len(ask(LISTENER._replace(stack=1))) == 1


def test_requests_that_fail() -> None:
    assert error_of(ask(kind=diag.Type.DESTROY, flags=1)) == errno.ENOENT
    own = {"kind": diag.Type.DESTROY, "flags": 1, "port": 8080}
    assert error_of(ask(LISTENER, **own)) == errno.EPERM
    assert error_of(ask(kind=19)) == errno.EINVAL
    assert ask(protocol=132)[0].body == struct.pack("=i", -errno.ENOENT)
    assert error_of(ask(protocol=132, flags=1)) == errno.ENOENT
    assert error_of(ask(family=socket.AF_PACKET)) == errno.ENOENT


@pytest.mark.kernel
def test_unix_sockets_are_the_kernels_but_for_surrogates() -> None:
    def inodes(*sockets: Socket) -> set[int]:
        body = struct.pack("=BBHIIIQ", socket.AF_UNIX, 0, 0, ALL, 0, 1, 2**64 - 1)
        request = rt.encode(rt.Message(diag.Type.BY_FAMILY, DUMP, 5, 0, body))
        found = sockdiag.answer(STACK, lambda: sockets, PORT, request)
        messages = [one for datagram in found for one in rt.decode(datagram)]
        assert messages[-1].type == rt.Type.NLMSG_DONE
        assert {message.port for message in messages} == {PORT}
        return {diag.inode_of_unix(message.body) for message in messages[:-1]}

    with socket.socket(socket.AF_UNIX) as one:
        inode = os.fstat(one.fileno()).st_ino
        assert inode in inodes()
        assert inode not in inodes(LISTENER._replace(inode=inode))
