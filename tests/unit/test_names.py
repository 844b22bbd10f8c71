from __future__ import annotations

import socket
import threading
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, cast

import pytest

from umview import dns_answer
from umview.names import Proxy

if TYPE_CHECKING:
    from umview._ffi import Switchboard

PATIENCE = 10.0
SLOW = 100


class Switch:
    """Takes the maps to the proxy's ports."""

    def __init__(self) -> None:
        self.ports: dict[int, int] = {}

    def add_map(self, *_: object, protocol: int, to_port: int, **__: object) -> None:
        self.ports[protocol] = to_port


def test_slow_answers_delay_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    class Answerer:
        def reply(self, wire: bytes, *, udp: bool) -> bytes:
            if wire == b"slow":
                released.wait(PATIENCE)
            return wire

    monkeypatch.setattr(dns_answer, "Answerer", Answerer)
    switch = Switch()
    proxy = Proxy()
    proxy.serve(cast("Switchboard", switch), 0, IPv4Address("10.0.2.3"))
    proxy.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", switch.ports[socket.IPPROTO_UDP]))
        for _ in range(SLOW):
            client.send(b"slow")
        client.send(b"quick")
        assert client.recv(16) == b"quick"
        released.set()
        assert [client.recv(16) for _ in range(SLOW)] == [b"slow"] * SLOW
