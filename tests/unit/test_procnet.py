from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from umview import procnet
from umview.view import Socket

from .views import LISTENER, LO, NAT

HEADS = {"dev": 2, "arp": 1, "raw": 1, "raw6": 1, "route": 1, "tcp": 1, "tcp6": 1}
HEADS |= {"udp": 1, "udp6": 1, "icmp": 1, "icmp6": 1, "udplite": 1, "udplite6": 1}
HEADS |= {"igmp": 1, "netlink": 1, "packet": 1}


def text(name: str, *sockets: Socket) -> str:
    return procnet.compose(name, (LO, NAT), lambda: sockets)


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "count"), HEADS.items())
def test_heads_are_the_kernels(name: str, count: int) -> None:
    native = Path("/proc/net", name)
    if not native.exists():  # a kernel without IPv6
        return
    head = native.read_text().splitlines(keepends=True)[:count]
    assert text(name).splitlines(keepends=True)[:count] == head


def test_cards_of_dev() -> None:
    lines = text("dev").splitlines()[2:]
    assert [line.partition(":")[0] for line in lines] == ["    lo", "  nat0"]
    assert all(line.split()[1:] == ["0"] * 16 for line in lines)


def test_addresses_of_if_inet6() -> None:
    assert text("if_inet6").splitlines() == [
        "00000000000000000000000000000001 01 80 10 80       lo",
        "fd000000000000000000000000000015 02 40 00 80     nat0",
    ]


def test_routes() -> None:
    assert [line.split() for line in text("route").splitlines()[1:]] == [
        ["nat0", "00000000", "0202000A", "0003", *"000", "00000000", *"000"],
        ["nat0", "0002000A", "00000000", "0001", *"000", "00FFFFFF", *"000"],
    ]


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["snmp", "netstat", "snmp6", "sockstat", "sockstat6"])
def test_counters_have_the_kernels_columns(name: str) -> None:
    def words(table: str) -> list[list[str]]:
        return [
            [word for word in line.split() if not word.lstrip("-").isdigit()]
            for line in table.splitlines()
        ]

    native = Path("/proc/net", name)
    if native.exists():  # a kernel without IPv6
        assert words(text(name)) == words(native.read_text())


def test_counters_are_the_views() -> None:
    lines = text("snmp", LISTENER._replace(state=1)).splitlines()
    columns, values = (line.split() for line in lines if line.startswith("Tcp:"))
    tcp = dict(zip(columns, values, strict=True))
    assert (tcp["CurrEstab"], tcp["InSegs"], tcp["RtoAlgorithm"]) == ("1", "0", "1")


def test_listener_is_a_line_of_its_table() -> None:
    lines = text("tcp", LISTENER).splitlines()
    assert len(lines) == 2
    words = lines[1].split()
    assert words[1:5] == ["0100007F:1F90", "00000000:0000", "0A", "00000000:00000001"]
    assert words[9] == "4711"
    assert "4711" not in text("tcp6", LISTENER) + text("udp", LISTENER)


def test_any_address_of_an_ipv6_socket_is_all_zero() -> None:
    any4 = b"\0" * 10 + b"\xff\xff" + bytes(4)
    sock = LISTENER._replace(family=10, local=any4, remote=any4)
    assert text("tcp6", sock).splitlines()[1].split()[1] == "0" * 32 + ":1F90"


def test_closed_socket_is_in_no_table() -> None:
    assert len(text("tcp", LISTENER._replace(state=7)).splitlines()) == 1


def test_unix_sockets_that_stand_for_others_are_not_shown() -> None:
    with socket.socket(socket.AF_UNIX) as one:
        inode = os.fstat(one.fileno()).st_ino
        assert f" {inode}\n" in text("unix")
        assert f" {inode}\n" not in text("unix", LISTENER._replace(inode=inode))


def test_what_is_not_made_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        text("nf_conntrack")
