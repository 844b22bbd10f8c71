"""The stack server as a program: over a direct wire, and over VDE's switch."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import require

from .lab import Flag, Kind, Name, Packet, receive

_PROGRAM = Path(__file__).parent.parent.parent / "build" / "stackd" / "stackd"
_SECONDS = 30


class Server:
    """A stack server, with the switchboard's end of its line."""

    def __init__(self) -> None:
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.settimeout(_SECONDS)
        script = f'exec 3<&{theirs.fileno()} && exec "$0"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, _PROGRAM],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()

    def send(self, packet: Packet, end: socket.socket | None = None) -> None:
        socket.send_fds(self.line, [packet.pack()], [end.fileno()] if end else [])

    def hear(self, kind: Kind) -> Packet:
        """Wait for a message of this kind; others are dropped."""
        while (packet := receive(self.line)).kind is not kind:
            pass
        return packet

    def filters(self) -> int:
        """Return how many filters of system calls it is under."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("\nSeccomp_filters:")[2].split()[0])

    def close(self) -> tuple[int, str]:
        """Hang up; return its exit status and what it said."""
        self.line.close()
        _, said = self._process.communicate(timeout=_SECONDS)
        return self._process.returncode, said


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    pair = [Server(), Server()]
    yield pair
    assert [server.close() for server in pair] == [(0, ""), (0, "")]


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[str]:
    require("vde_switch")
    folder = tmp_path / "switch"
    command = [shutil.which("vde_switch") or "", "-s", str(folder)]
    command += ["-M", f"{folder}.mgmt"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    # The answer to a command tells that it is there.
    process.stdin.write("showinfo\n")
    process.stdin.flush()
    for line in process.stdout:
        if "Success" in line:
            break
    yield f"vde://{folder}"
    with contextlib.suppress(BrokenPipeError):
        process.communicate("shutdown\n", timeout=_SECONDS)
    process.wait(_SECONDS)


def _plug(servers: list[Server], vnl: str | None) -> None:
    """Give each server a card, on a wire or in a switch, and 10.9.0.1 or .2."""
    wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for side, server in enumerate(servers):
        card = Packet(
            Kind.CARD,
            card=2,
            mtu=1500 if vnl else 65500,
            flags=Flag.NONE if vnl else Flag.BARE,
            data=(vnl or "").encode(),
        )
        server.send(card, None if vnl else wire[side])
        own = Name(f"10.9.0.{side + 1}")
        server.send(Packet(Kind.ADDRESS, card=2, local=own, prefix=120))
        ready = server.hear(Kind.READY)
        assert (ready.error, ready.card) == (0, 2)
        assert ready.mac[0] & 3 == 2  # locally given, of one card
    for end in wire:
        end.close()


def _start(server: Server, number: int) -> socket.socket:
    program, ours = socket.socketpair()
    server.send(Packet(Kind.START, number), ours)
    ours.close()
    program.settimeout(_SECONDS)
    return program


def _join(servers: list[Server], port: int) -> list[socket.socket]:
    mine, yours = Name("10.9.0.1", port), Name("10.9.0.2", 80)
    servers[0].send(Packet(Kind.CONNECT, port, local=mine, remote=yours))
    servers[0].hear(Kind.CONNECTED)
    accepted = servers[1].hear(Kind.ACCEPTED)
    return [_start(servers[0], port), _start(servers[1], accepted.id)]


def _listen(server: Server) -> None:
    server.send(Packet(Kind.LISTEN, 1, local=Name("0.0.0.0", 80), backlog=16))
    assert server.hear(Kind.READY).error == 0


def _echo_a_lot(servers: list[Server], size: int) -> None:
    _listen(servers[1])
    one, other = _join(servers, 4000)
    data = os.urandom(size)

    def echo() -> None:
        while part := other.recv(1 << 16):
            other.sendall(part)
        other.close()

    def write() -> None:
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=work) for work in (echo, write)]
    for thread in threads:
        thread.start()
    got = bytearray()
    while part := one.recv(1 << 16):
        got += part
    for thread in threads:
        thread.join()
    one.close()
    assert bytes(got) == data
    for server in servers:
        assert server.hear(Kind.ENDED).error == 0


def test_a_wire_carries_streams(servers: list[Server]) -> None:
    _plug(servers, None)
    _echo_a_lot(servers, 20_000_000)


def test_a_switch_carries_streams(servers: list[Server], switch: str) -> None:
    _plug(servers, switch)
    _echo_a_lot(servers, 2_000_000)


def test_a_switch_that_goes_away_is_told(servers: list[Server], switch: str) -> None:
    _plug(servers, switch)
    with socket.socket(socket.AF_UNIX) as console:
        console.connect(switch.removeprefix("vde://") + ".mgmt")
        console.sendall(b"shutdown\n")
    for server in servers:
        assert server.hear(Kind.LOST).card == 2


def test_a_wire_whose_other_end_is_gone_is_told(servers: list[Server]) -> None:
    _plug(servers, None)
    assert servers.pop().close() == (0, "")
    servers.append(Server())
    assert servers[0].hear(Kind.LOST).card == 2


def test_many_connections_at_once(servers: list[Server]) -> None:
    _plug(servers, None)
    _listen(servers[1])
    with contextlib.ExitStack() as stack:
        pairs = [_join(servers, 5000 + i) for i in range(300)]
        for pair in pairs:
            for end in pair:
                stack.enter_context(end)
        for i, (one, _) in enumerate(pairs):
            one.send(b"%d" % i)
        for i, (_, other) in enumerate(pairs):
            assert other.recv(100) == b"%d" % i


def test_cards_come_first(servers: list[Server], switch: str) -> None:
    """Then the stack server may not open anything any more."""
    before = servers[0].filters()
    _plug(servers, None)
    assert servers[0].filters() == before + 1
    card = Packet(Kind.CARD, card=3, mtu=1500, data=switch.encode())
    servers[0].send(card)
    assert servers[0].hear(Kind.READY).error == errno.EPERM


def test_a_card_that_cannot_be_plugged_in_says_why(servers: list[Server]) -> None:
    vnl = b"vde:///nonexistent/switch"
    servers[0].send(Packet(Kind.CARD, card=2, mtu=1500, data=vnl))
    ready = servers[0].hear(Kind.READY)
    assert ready.error in (errno.ENOENT, errno.ECONNREFUSED)
    servers[0].send(Packet(Kind.CARD, card=2, mtu=1500, data=b"nosuch://x"))
    assert servers[0].hear(Kind.READY).error != 0
