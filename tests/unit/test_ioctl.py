from __future__ import annotations

import errno
import socket
import struct

import pytest

from umview import ioctl
from umview.abi import ifreq
from umview.abi.ifreq import Siocgif

from .views import EMPTY, STACK

ARG = 0x7000


def of(name: str) -> bytes:
    return ifreq.with_name(b"\xaa" * ifreq.IFREQ, name)


def value(request: int, name: str) -> bytes:
    done = ioctl.answer(STACK, request, ARG, of(name))
    ((address, written),) = done.writes
    assert done.value == 0
    assert address == ARG
    assert len(written) == ifreq.IFREQ
    assert ifreq.name(written) == name
    return written[16:]


def ipv4(request: int, name: str) -> str:
    family, address = struct.unpack_from("=H2x4s", value(request, name))
    assert family == socket.AF_INET
    return socket.inet_ntoa(address)


def test_addresses_of_a_card() -> None:
    assert ipv4(Siocgif.ADDR, "nat0") == "10.0.2.15"
    assert ipv4(Siocgif.NETMASK, "nat0") == "255.255.255.0"
    assert ipv4(Siocgif.BRDADDR, "nat0") == "10.0.2.255"
    assert ipv4(Siocgif.BRDADDR, "lo") == "0.0.0.0"
    assert ipv4(Siocgif.DSTADDR, "lo") == "127.0.0.1"


@pytest.mark.parametrize(
    ("request_", "name", "expected"),
    [
        (Siocgif.INDEX, "nat0", 2),
        (Siocgif.MTU, "nat0", 65500),
        (Siocgif.MTU, "lo", 65536),
        (Siocgif.METRIC, "lo", 0),
        (Siocgif.TXQLEN, "lo", 1000),
    ],
)
def test_numbers_of_a_card(request_: int, name: str, expected: int) -> None:
    assert struct.unpack_from("=i", value(request_, name)) == (expected,)


def test_flags_are_16_bits() -> None:
    assert struct.unpack_from("=H", value(Siocgif.FLAGS, "lo")) == (0x49,)
    assert value(Siocgif.FLAGS, "lo")[2:] == b"\xaa" * 22


def test_hardware_address() -> None:
    raw = value(Siocgif.HWADDR, "nat0")
    assert struct.unpack_from("=H6s", raw) == (1, bytes.fromhex("525400123456"))


def test_map_is_empty() -> None:
    assert value(Siocgif.MAP, "nat0") == bytes(24)


def test_name_of_an_index() -> None:
    asked = ifreq.with_value(bytes(ifreq.IFREQ), ifreq.int_value(2))
    done = ioctl.answer(STACK, Siocgif.NAME, ARG, asked)
    assert ifreq.name(done.writes[0][1]) == "nat0"


def test_alias_means_its_card() -> None:
    assert ipv4(Siocgif.ADDR, "nat0:1") == "10.0.2.15"


def test_conf_without_buffer_tells_the_length() -> None:
    done = ioctl.answer(STACK, Siocgif.CONF, ARG, ifreq.encode_ifconf(7, 0))
    assert done.writes == ((ARG, ifreq.encode_ifconf(80, 0)),)


@pytest.mark.parametrize(("room", "count"), [(400, 2), (80, 2), (79, 1), (39, 0)])
def test_conf_lists_what_fits(room: int, count: int) -> None:
    asked = ifreq.encode_ifconf(room, 0x9000)
    done = ioctl.answer(STACK, Siocgif.CONF, ARG, asked)
    written = dict(done.writes)
    assert written[ARG] == ifreq.encode_ifconf(40 * count, 0x9000)
    listed = written.get(0x9000, b"")
    names = [ifreq.name(listed[i : i + 40]) for i in range(0, len(listed), 40)]
    assert names == ["lo", "nat0"][:count]
    if count:
        assert listed[20:24] == bytes((127, 0, 0, 1))


@pytest.mark.parametrize(
    ("request_", "name", "code"),
    [
        (Siocgif.ADDR, "eth0", errno.ENODEV),
        (Siocgif.INDEX, "", errno.ENODEV),
        (0x8946, "eth0", errno.ENODEV),
        (0x8946, "nat0", errno.EOPNOTSUPP),
        (0x8B01, "nat0", errno.EOPNOTSUPP),
        (0x8914, "nat0", errno.EPERM),
        (0x8916, "nat0", errno.EPERM),
        (0x8924, "nat0", errno.EPERM),
        (0x890B, "", errno.EPERM),
        (0x89FF, "nat0", errno.ENOTTY),
    ],
)
def test_failures(request_: int, name: str, code: int) -> None:
    with pytest.raises(OSError) as caught:
        ioctl.answer(STACK, request_, ARG, of(name))
    assert caught.value.errno == code


def test_index_that_is_not_there_is_enodev() -> None:
    with pytest.raises(OSError) as caught:
        ioctl.answer(EMPTY, Siocgif.NAME, ARG, bytes(ifreq.IFREQ))
    assert caught.value.errno == errno.ENODEV


def test_negative_length_of_conf_is_einval() -> None:
    with pytest.raises(OSError) as caught:
        ioctl.answer(STACK, Siocgif.CONF, ARG, ifreq.encode_ifconf(-1, 0x9000))
    assert caught.value.errno == errno.EINVAL
