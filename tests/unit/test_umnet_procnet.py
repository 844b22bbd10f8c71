from __future__ import annotations

from pathlib import Path

import pytest

from umnet import procnet

from .views import LO, NAT

FILES = procnet.files((LO, NAT))
HEADS = {"dev": 2, "arp": 1, "raw": 1, "raw6": 1, "route": 1, "tcp": 1, "tcp6": 1}
HEADS |= {"udp": 1, "udp6": 1}


@pytest.mark.kernel
@pytest.mark.parametrize(("name", "count"), HEADS.items())
def test_heads_are_the_kernels(name: str, count: int) -> None:
    native = Path("/proc/net", name)
    if not native.exists():  # a kernel without IPv6
        return
    head = native.read_text().splitlines(keepends=True)[:count]
    assert FILES[name].splitlines(keepends=True)[:count] == head


def test_cards_of_dev() -> None:
    lines = FILES["dev"].splitlines()[2:]
    assert [line.partition(":")[0] for line in lines] == ["    lo", "  nat0"]
    assert all(line.split()[1:] == ["0"] * 16 for line in lines)


def test_addresses_of_if_inet6() -> None:
    assert FILES["if_inet6"].splitlines() == [
        "00000000000000000000000000000001 01 80 10 80       lo",
        "fd000000000000000000000000000015 02 40 00 80     nat0",
    ]


def test_routes() -> None:
    assert [line.split() for line in FILES["route"].splitlines()[1:]] == [
        ["nat0", "00000000", "0202000A", "0003", *"000", "00000000", *"000"],
        ["nat0", "0002000A", "00000000", "0001", *"000", "00FFFFFF", *"000"],
    ]


@pytest.mark.parametrize("name", ["arp", "raw", "raw6", "tcp", "tcp6", "udp", "udp6"])
def test_tables_of_sockets_show_nothing_of_the_host(name: str) -> None:
    assert len(FILES[name].splitlines()) == 1
