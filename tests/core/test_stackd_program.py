"""The stack server as a program: over a direct wire, and over VDE's switch."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import require

from .lab import BUILT, Flag, Kind, Name, Packet, receive

_SECONDS = 30


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_SECONDS)
    return ours, theirs


class Process:
    """The program, with our end of its line."""

    def __init__(self, *more: socket.socket, word: str = "") -> None:
        self.line, theirs = _pair()
        fds = [end.fileno() for end in (theirs, *more)]
        moves = [f"{fd}<&{source}" for fd, source in enumerate(fds, 3)]
        script = f'exec {" ".join(moves)} && exec "$0" {word}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, BUILT / "stackd"],
            pass_fds=fds,
            stderr=subprocess.PIPE,
            text=True,
        )
        for end in (theirs, *more):
            end.close()

    def send(self, packet: Packet, end: socket.socket | None = None) -> None:
        socket.send_fds(self.line, [packet.pack()], [end.fileno()] if end else [])

    def hear(self, kind: Kind) -> Packet:
        """Wait for a message of this kind; others are dropped, or answered."""
        while (packet := receive(self.line)).kind is not kind:
            if packet.kind is Kind.ASK:
                self.send(Packet(Kind.ADMIT, packet.id))
        return packet

    def status(self) -> str:
        """Return its /proc/PID/status."""
        return Path(f"/proc/{self._process.pid}/status").read_text()

    def kill(self) -> None:
        """End it as a defect would."""
        self._process.kill()
        self._process.communicate(timeout=_SECONDS)
        self.line.close()

    def close(self) -> tuple[int, str]:
        """Hang up; return its exit status and what it said."""
        self.line.close()
        _, said = self._process.communicate(timeout=_SECONDS)
        return self._process.returncode, said


class Plug(Process):
    """A plug process; card: for the stack server."""

    def __init__(self) -> None:
        self.card, theirs = _pair()
        super().__init__(theirs, word="plug")

    def plug(self, where: str, mtu: int, flags: Flag = Flag.NONE) -> int:
        """Plug it in; return why it cannot be."""
        self.send(Packet(Kind.PLUG, mtu=mtu, flags=flags, data=where.encode()))
        return self.hear(Kind.READY).error


class Server(Process):
    """A stack server with the plug process of its one card."""

    def __init__(self) -> None:
        super().__init__()
        self.plug = Plug()

    def add_card(self) -> Packet:
        self.send(Packet(Kind.CARD, card=2, mtu=65500), self.plug.card)
        self.plug.card.close()
        return self.hear(Kind.READY)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    pair = [Server(), Server()]
    yield pair
    for server in pair:
        server.plug.card.close()
        assert [end.close() for end in (server, server.plug)] == [(0, "")] * 2


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


def _plug(servers: list[Server], where: str) -> None:
    """Give each a card on a switch (vde:///...), or both a wire."""
    is_vnl = "://" in where
    for side, server in enumerate(servers):
        mtu = 1500 if is_vnl else 65500
        flags = Flag.NONE if is_vnl else Flag.WIRE | Flag.BARE
        assert server.plug.plug(where, mtu, flags) == 0
        ready = server.add_card()
        assert (ready.error, ready.card) == (0, 2)
        assert ready.mac[0] & 3 == 2  # locally given, of one card
        own = Name(f"10.9.0.{side + 1}")
        server.send(Packet(Kind.ADDRESS, card=2, local=own, prefix=120))


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[str]:
    root = tmp_path / "umview"
    yield f"{root}/.wires/lab"
    assert not root.exists()


def _start(server: Server, number: int) -> socket.socket:
    program, ours = socket.socketpair()
    server.send(Packet(Kind.START, number), ours)
    ours.close()
    program.settimeout(_SECONDS)
    return program


def join(servers: list[Server], port: int) -> list[socket.socket]:
    mine, yours = Name("10.9.0.1", port), Name("10.9.0.2", 80)
    servers[0].send(Packet(Kind.CONNECT, port, local=mine, remote=yours))
    accepted = servers[1].hear(Kind.ACCEPTED)
    servers[0].hear(Kind.CONNECTED)
    return [_start(servers[0], port), _start(servers[1], accepted.id)]


def _listen(server: Server) -> None:
    server.send(Packet(Kind.LISTEN, 1, local=Name("0.0.0.0", 80)))
    assert server.hear(Kind.READY).error == 0


def _echo_a_lot(servers: list[Server], size: int) -> None:
    _listen(servers[1])
    one, other = join(servers, 4000)
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


def test_a_wire_carries_streams(wire: str, servers: list[Server]) -> None:
    _plug(servers, wire)
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


def test_a_wire_gets_another_end(wire: str, servers: list[Server]) -> None:
    """Whoever of the two came first."""
    _plug(servers, wire)
    servers[0].hear(Kind.FOUND)
    for _ in range(2):
        gone = servers.pop(0)
        for end in (gone, gone.plug):
            assert end.close() == (0, "")
        servers[0].hear(Kind.LOST)
        servers.append(Server())
        assert servers[1].plug.plug(wire, 9000, Flag.WIRE) == 0
        assert servers[1].add_card().error == 0
        assert servers[0].hear(Kind.FOUND).mtu == 9000


def test_a_wire_has_two_ends(wire: str, servers: list[Server]) -> None:
    _plug(servers, wire)
    third = Plug()
    assert third.plug(wire, 9000, Flag.WIRE) == errno.EBUSY
    third.card.close()
    assert third.close() == (0, "")


def test_a_killed_end_of_a_wire_does_no_harm(wire: str, servers: list[Server]) -> None:
    killed = Plug()
    assert killed.plug(wire, 9000, Flag.WIRE) == 0
    killed.kill()
    killed.card.close()
    assert Path(wire).exists()
    _plug(servers, wire)
    _listen(servers[1])
    for end in join(servers, 4000):
        end.close()


def test_a_card_moves_to_another_place(
    wire: str, servers: list[Server], switch: str
) -> None:
    """While its connections go on; if it cannot, it stays where it was."""
    _plug(servers, wire)
    _listen(servers[1])
    one, other = join(servers, 4000)
    one.send(b"by the wire")
    assert other.recv(100) == b"by the wire"
    for server in servers:
        assert server.plug.plug("vde:///nonexistent", 1500) != 0
    one.send(b"still")
    assert other.recv(100) == b"still"
    for server in servers:
        assert server.plug.plug(switch, 1500) == 0
    one.send(b"by the switch")
    assert other.recv(100) == b"by the switch"
    for end in (one, other):
        end.close()


def test_many_connections_at_once(wire: str, servers: list[Server]) -> None:
    _plug(servers, wire)
    _listen(servers[1])
    with contextlib.ExitStack() as stack:
        pairs = [join(servers, 5000 + i) for i in range(300)]
        for pair in pairs:
            for end in pair:
                stack.enter_context(end)
        for i, (one, _) in enumerate(pairs):
            one.send(b"%d" % i)
        for i, (_, other) in enumerate(pairs):
            assert other.recv(100) == b"%d" % i


def test_a_stack_server_is_sealed_from_the_start(servers: list[Server]) -> None:
    """Before it has read a frame; what the seal forbids, check_seal.c tries out."""
    own = Path("/proc/self/status").read_text()
    servers[0].add_card()
    status = servers[0].status()
    assert _field(status, "Seccomp") == 2  # SECCOMP_MODE_FILTER
    filters = "Seccomp_filters"
    assert _field(status, filters) == _field(own, filters) + 1
    assert _field(status, "NoNewPrivs") == 1


def _field(status: str, name: str) -> int:
    return int(status.partition(f"\n{name}:")[2].split()[0])


def test_what_a_sealed_process_cannot_do(tmp_path: Path) -> None:
    require("gcc")
    program = tmp_path / "check_seal"
    here = Path(__file__).parent
    sources = (here / "check_seal.c", here.parents[1] / "csrc/stackd/seal.c")
    flags = ("-D_GNU_SOURCE", "-Wall", "-Werror")
    subprocess.run(
        ["gcc", *flags, "-o", program, *sources, "-lseccomp"], check=True, timeout=60
    )
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_place_that_cannot_be_opened_says_why() -> None:
    plug = Plug()
    assert plug.plug("vde:///nonexistent/switch", 1500) == errno.ENOENT
    assert plug.plug("nosuch://x", 1500) != 0
    plug.card.close()
    assert plug.close() == (0, "")


def test_a_plug_in_that_hangs_ends_with_the_supervisor(tmp_path: Path) -> None:
    plug = Plug()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "ctl"))
        mute.listen()
        mute.settimeout(_SECONDS)
        plug.send(Packet(Kind.PLUG, mtu=1500, data=f"vde://{tmp_path}".encode()))
        with mute.accept()[0]:  # it waits for an answer now
            plug.card.close()
            assert plug.close() == (-signal.SIGIO, "")
