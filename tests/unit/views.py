"""The stack that the tests of handlers ask: that of a plain ``-p umnet``."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from umview.view import Card, Socket, Stack, StackKind

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
LISTENER = Socket(
    stack=0,
    cookie=77,
    family=2,
    type=1,
    protocol=6,
    state=10,
    local=b"\0" * 10 + b"\xff\xff\x7f\0\0\1",
    local_port=8080,
    remote=b"\0" * 10 + b"\xff\xff" + bytes(4),
    remote_port=0,
    inode=4711,
    card=0,
    waiting=1,
    backlog=7,
    is_v6only=False,
)
