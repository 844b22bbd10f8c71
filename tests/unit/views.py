"""The stack that the tests of handlers ask: that of a plain ``-p umnet``."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from umview.view import Card, Stack, StackKind

LO = Card(1, "lo", bytes(6), 65536, (ip_interface("127.0.0.1/8"), ip_interface("::1")))
NAT = Card(
    2,
    "nat0",
    bytes.fromhex("525400123456"),
    65500,
    (ip_interface("10.0.2.15/24"), ip_interface("fd00::15/64")),
    (ip_address("10.0.2.2"), ip_address("fd00::2")),
)
STACK = Stack(0, StackKind.NET, (LO, NAT))
EMPTY = Stack(0, StackKind.NET)
