"""What programs get on netlink, decoded by pyroute2: it shares no code with ours."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_interface
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # type: ignore[import-untyped]
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # type: ignore[import-untyped]

from umview import netlink
from umview.abi import rtnetlink as rt
from umview.view import Card, Stack, StackKind, lo

from .views import EMPTY, STACK

PORT = 4711
SEQUENCE = 99
DUMP = rt.Flag.REQUEST | rt.Flag.DUMP


def ask(
    kind: int, body: bytes, flags: int = rt.Flag.REQUEST, stack: Stack = STACK
) -> list[bytes]:
    request = rt.encode(rt.Message(kind, flags, SEQUENCE, 0, body))
    return netlink.answer(stack, PORT, request)


def messages(datagrams: list[bytes]) -> list[rt.Message]:
    return [message for datagram in datagrams for message in rt.decode(datagram)]


def error_of(message: rt.Message) -> int:
    assert message.type == rt.Type.NLMSG_ERROR
    return -int.from_bytes(message.body[:4], "little", signed=True)


def decoded(form: type[Any], datagrams: list[bytes]) -> list[dict[str, Any]]:
    """Return what pyroute2 reads; NLMSG_DONE is checked and left out."""
    found = messages(datagrams)
    assert found[-1].type == rt.Type.NLMSG_DONE
    result = []
    for message in found:
        assert message.sequence == SEQUENCE
        assert message.port == PORT
        assert message.flags & rt.Flag.MULTI
        if message.type != rt.Type.NLMSG_DONE:
            result.append(decode_one(form, message))
    return result


def decode_one(form: type[Any], message: rt.Message) -> dict[str, Any]:
    read = form(rt.encode(message))
    read.decode()
    return {**dict(read["attrs"]), **{k: v for k, v in read.items() if k != "attrs"}}


def dump(form: type[Any], kind: int, family: int = 0) -> list[dict[str, Any]]:
    return decoded(form, ask(kind, bytes((family,)), DUMP))


def test_links() -> None:
    lo, nat = dump(ifinfmsg, rt.Type.RTM_GETLINK)
    assert (lo["IFLA_IFNAME"], nat["IFLA_IFNAME"]) == ("lo", "nat0")
    assert (lo["index"], nat["index"]) == (1, 2)
    assert (lo["IFLA_MTU"], nat["IFLA_MTU"]) == (65536, 65500)
    assert nat["IFLA_ADDRESS"] == "52:54:00:12:34:56"
    assert (lo["ifi_type"], nat["ifi_type"]) == (772, 1)
    assert lo["flags"] & 8  # IFF_LOOPBACK
    assert nat["flags"] & 1  # IFF_UP
    assert nat["IFLA_OPERSTATE"] == "UP"


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (0, ["127.0.0.1/8", "10.0.2.15/24", "::1/128", "fd00::15/64"]),
        (255, ["127.0.0.1/8", "10.0.2.15/24", "::1/128", "fd00::15/64"]),
        (socket.AF_INET, ["127.0.0.1/8", "10.0.2.15/24"]),
        (socket.AF_INET6, ["::1/128", "fd00::15/64"]),
    ],
)
def test_addresses(family: int, expected: list[str]) -> None:
    found = dump(ifaddrmsg, rt.Type.RTM_GETADDR, family)
    assert [f"{one['IFA_ADDRESS']}/{one['prefixlen']}" for one in found] == expected


def test_address_attributes_of_ipv4() -> None:
    _, nat = dump(ifaddrmsg, rt.Type.RTM_GETADDR, socket.AF_INET)
    assert nat["IFA_LOCAL"] == "10.0.2.15"
    assert nat["IFA_BROADCAST"] == "10.0.2.255"
    assert nat["IFA_LABEL"] == "nat0"
    assert nat["index"] == 2


def in_main(routes: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [
        (
            route.get("RTA_DST"),
            route["dst_len"],
            route.get("RTA_GATEWAY"),
            route["RTA_OIF"],
        )
        for route in routes
        if route["RTA_TABLE"] == 254
    ]


def test_routes_of_ipv4() -> None:
    assert in_main(dump(rtmsg, rt.Type.RTM_GETROUTE, socket.AF_INET)) == [
        (None, 0, "10.0.2.2", 2),
        ("10.0.2.0", 24, None, 2),
    ]


def test_routes_of_ipv6() -> None:
    assert in_main(dump(rtmsg, rt.Type.RTM_GETROUTE, socket.AF_INET6)) == [
        ("::1", 128, None, 1),
        ("fd00::", 64, None, 2),
        (None, 0, "fd00::2", 2),
    ]


def test_local_routes_are_in_the_table_local() -> None:
    local = [
        route.get("RTA_DST")
        for route in dump(rtmsg, rt.Type.RTM_GETROUTE)
        if route["RTA_TABLE"] == 255 and route["type"] == 2
    ]
    assert local == ["127.0.0.0", "127.0.0.1", "10.0.2.15", "::1", "fd00::15"]


def route_get(address: str, oif: int = 0) -> rt.Message:
    packed = ip_interface(address).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    attrs = {rt.Route.DST.value: packed}
    if oif:
        attrs[rt.Route.OIF.value] = rt.u32(oif)
    body = rt.route_body(
        family=family,
        prefix=8 * len(packed),
        table=0,
        protocol=0,
        scope=0,
        kind=0,
        flags=0,
        attrs=attrs,
    )
    (message,) = messages(ask(rt.Type.RTM_GETROUTE, body))
    return message


@pytest.mark.parametrize(
    ("address", "gateway", "source", "oif"),
    [
        ("1.2.3.4", "10.0.2.2", "10.0.2.15", 2),
        ("10.0.2.77", None, "10.0.2.15", 2),
        ("10.0.2.15", None, "10.0.2.15", 1),
        ("127.1.2.3", None, "127.0.0.1", 1),
        ("2001:db8::1", "fd00::2", "fd00::15", 2),
        ("fd00::77", None, "fd00::15", 2),
        ("::1", None, "::1", 1),
    ],
)
def test_way_to_one_address(
    address: str, gateway: str | None, source: str, oif: int
) -> None:
    message = route_get(address)
    assert message.type == rt.Type.RTM_NEWROUTE
    assert not message.flags & rt.Flag.MULTI
    way = decode_one(rtmsg, message)
    assert way["RTA_DST"] == address
    assert way.get("RTA_GATEWAY") == gateway
    assert way["RTA_PREFSRC"] == source
    assert way["RTA_OIF"] == oif


def test_way_out_of_a_card_without_gateway_is_unreachable() -> None:
    assert error_of(route_get("1.2.3.4", oif=1)) == errno.ENETUNREACH


@pytest.mark.parametrize(
    ("index", "attribute", "name"),
    [(2, None, "nat0"), (0, rt.Link.IFNAME, "lo"), (0, rt.Link.ALT_IFNAME, "nat0")],
)
def test_one_link(index: int, attribute: rt.Link | None, name: str) -> None:
    attrs = {attribute.value: rt.text(name)} if attribute else {}
    body = rt.link_body(hardware=0, index=index, flags=0, attrs=attrs)
    (message,) = messages(ask(rt.Type.RTM_GETLINK, body))
    assert decode_one(ifinfmsg, message)["IFLA_IFNAME"] == name


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (rt.link_body(hardware=0, index=9, flags=0, attrs={}), errno.ENODEV),
        (rt.link_body(hardware=0, index=0, flags=0, attrs={}), errno.EINVAL),
        (b"", errno.EINVAL),
    ],
)
def test_one_link_that_is_not_there(body: bytes, code: int) -> None:
    (message,) = messages(ask(rt.Type.RTM_GETLINK, body))
    assert error_of(message) == code


def test_rules_look_up_the_three_tables() -> None:
    tables = [
        message.body[4]
        for message in messages(ask(rt.Type.RTM_GETRULE, b"\2", DUMP))
        if message.type == rt.Type.RTM_NEWRULE
    ]
    assert tables == [255, 254, 253]


@pytest.mark.parametrize("kind", [rt.Type.RTM_GETNEIGH, rt.Type.RTM_GETADDR])
def test_empty_dump_is_only_done(kind: int) -> None:
    (message,) = messages(ask(kind, b"\0", DUMP, EMPTY))
    assert message.type == rt.Type.NLMSG_DONE
    assert message.body == bytes(4)


@pytest.mark.parametrize("flags", [rt.Flag.REQUEST, DUMP])
@pytest.mark.parametrize("kind", [38, 66, 90, 1022])
def test_unknown_question_is_eopnotsupp(kind: int, flags: int) -> None:
    (message,) = messages(ask(kind, bytes(16), flags))
    assert error_of(message) == errno.EOPNOTSUPP


@pytest.mark.parametrize("kind", [16, 17, 19, 20, 21, 24, 25, 28, 29, 32, 33])
def test_change_is_eperm(kind: int) -> None:
    (message,) = messages(ask(kind, bytes(16), rt.Flag.REQUEST | rt.Flag.ACK))
    assert error_of(message) == errno.EPERM
    assert message.sequence == SEQUENCE
    header = struct.unpack_from("=IHHII", message.body, 4)
    assert header[1] == kind


@pytest.mark.parametrize(
    ("kind", "index", "expected"),
    [(16, 1, 0), (20, 1, 0), (16, 2, errno.EPERM), (17, 1, errno.EPERM)],
)
def test_lo_is_set_up_in_a_namespace(kind: int, index: int, expected: int) -> None:
    body = struct.pack("=4xI", index) + bytes(8)
    stack = Stack(1, StackKind.APART, (lo(4, 6),))
    (message,) = messages(ask(kind, body, rt.Flag.REQUEST | rt.Flag.ACK, stack))
    assert error_of(message) == expected


def test_ack_is_sent_where_it_is_asked_for() -> None:
    body = rt.link_body(hardware=0, index=1, flags=0, attrs={})
    datagrams = ask(rt.Type.RTM_GETLINK, body, rt.Flag.REQUEST | rt.Flag.ACK)
    assert len(datagrams) == 2  # as from the kernel: pyroute2 relies on it
    found = messages(datagrams)
    assert [message.type for message in found] == [
        rt.Type.RTM_NEWLINK,
        rt.Type.NLMSG_ERROR,
    ]
    assert error_of(found[1]) == 0


def test_several_requests_in_one_datagram_are_all_answered() -> None:
    one = rt.encode(rt.Message(rt.Type.RTM_GETLINK, DUMP, 1, 0, b"\0"))
    two = rt.encode(rt.Message(rt.Type.RTM_GETADDR, DUMP, 2, 0, b"\0"))
    found = messages(netlink.answer(STACK, PORT, one + two))
    done = [one.sequence for one in found if one.type == rt.Type.NLMSG_DONE]
    assert done == [1, 2]


@pytest.mark.parametrize("data", [b"", b"\0" * 15, b"\xff" * 40, bytes(64)])
def test_garbage_is_ignored(data: bytes) -> None:
    assert netlink.answer(STACK, PORT, data) == []


def test_long_dump_goes_out_in_datagrams_that_glibc_reads() -> None:
    cards = tuple(
        Card(n, f"card{n}", bytes(6), 1500, (ip_interface(f"10.{n}.0.1/16"),))
        for n in range(2, 60)
    )
    datagrams = ask(rt.Type.RTM_GETLINK, b"\0", DUMP, Stack(0, StackKind.NET, cards))
    assert len(datagrams) > 1
    assert all(len(datagram) < 4096 for datagram in datagrams)
    assert len(messages(datagrams)) == len(cards) + 1


def test_cut_attributes_are_left_out() -> None:
    assert rt.attributes(struct.pack("=HHI", 8, 4, 7) + b"\x20\0\1\0x") == {
        4: struct.pack("=I", 7)
    }
