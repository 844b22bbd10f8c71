"""What mstack's LIST means."""

from __future__ import annotations

import socket

import pytest

from umview.errors import UmviewError
from umview.mstack import Families, families

_4, _6 = int(socket.AF_INET), int(socket.AF_INET6)
_N, _P = int(socket.AF_NETLINK), int(socket.AF_PACKET)
_IP = {_4, _6, _N, _P}


@pytest.mark.parametrize(
    ("text", "named", "some"),
    [
        ("all", set(), _IP),
        ("ip", set(), _IP),
        ("ipv4", {_4}, set()),
        ("4,+6,n", {_4, _6, _N}, set()),
        ("#2,#17", {_4, _P}, set()),
        ("-ipv6", set(), _IP - {_6}),
        ("-n,-p,+n", {_N}, {_4, _6}),
        ("+ip,-4", set(), _IP - {_4}),
        ("all,4", {_4}, _IP - {_4}),
        ("u,b,i", {1, 31, 23}, set()),
    ],
)
def test_list_names_families(text: str, named: set[int], some: set[int]) -> None:
    assert families(text) == Families(frozenset(named), frozenset(some))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no family"),
        ("4,", "'' is no family"),
        ("ipv5", "'ipv5' is no family"),
        ("#0", "'#0' is no family"),
        ("#64", "'#64' is no family"),
        ("#x", "'#x' is no family"),
        ("4,-4", "no family is left"),
        ("-all", "no family is left"),
    ],
)
def test_what_is_no_list(text: str, why: str) -> None:
    with pytest.raises(UmviewError, match=why):
        families(text)
