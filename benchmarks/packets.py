"""What is measured between two networks that are joined by packets.

A server and its client are in two views, each with a stack server, on a direct wire or
on a switch of the VDE project. What they are compared with: both on the host, which is
native, and two network namespaces that vdens plugs into the same switch. There the
kernel's stack sends the packets.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import places
import psutil
from places import MeasureError, Place, Prefixed, read_line
from rows import SPARE_SECONDS, Bench, Better, on_one_cpu

VDENS = "vdens"
_TUN = "/dev/net/tun"
_HOSTS = ("10.9.0.1", "10.9.0.2")  # the server's and the client's
_ENTER = 'ip addr add "$0"/24 dev vde0 && ip link set vde0 up && exec "$@"'
_ROLES = {
    "netbench": "programs",
    "python": "supervisors",  # and fronts, which do nothing
    "stackd": "stack servers",
    VDENS: VDENS,
    "vde_switch": "switch",
}
ROLES = tuple(_ROLES.values())
_GB = 1e9
_PR_SET_CHILD_SUBREAPER = 36


class Link(Protocol):
    """What two networks are plugged into."""

    @property
    def words(self) -> str:
        """A view's words for a card there; {folder} is the benchmark's."""

    @property
    def vnl(self) -> str | None:
        """Its name for vdens, or None if nobody else can be plugged in."""

    def run(self, bench: Bench) -> contextlib.AbstractContextManager[None]:
        """Have it for the length of the block."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A direct wire between two views."""

    mtu: int
    vnl: None = None

    @property
    def words(self) -> str:
        """See Link."""
        return f"wire=bench,mtu={self.mtu}"

    def run(self, _bench: Bench) -> contextlib.AbstractContextManager[None]:
        """See Link: the views make it."""
        return contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch of the VDE project, whose frames have 1,500 bytes."""

    vnl: str = "vde://{folder}/switch"

    @property
    def words(self) -> str:
        """See Link."""
        return f"vd0={self.vnl}"

    @contextlib.contextmanager
    def run(self, bench: Bench) -> Iterator[None]:
        """See Link."""
        program = shutil.which("vde_switch")
        if not program:
            raise MeasureError("vde_switch is not installed")
        with subprocess.Popen(
            [program, "-s", str(bench.folder / "switch")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdin
                assert process.stdout
                process.stdin.write("showinfo\n")  # its answer tells that it is there
                process.stdin.flush()
                if not any("Success" in line for line in process.stdout):
                    raise MeasureError("vde_switch does not start")
                yield
            finally:
                process.kill()
                shutil.rmtree(bench.folder / "switch", ignore_errors=True)


class Network(Protocol):
    """A kind of network: what has an address of its own on a link."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    def host(self, folder: Path, link: Link, number: int) -> Place:
        """Return the place that is the server's (0) or the client's (1)."""


@dataclass(frozen=True, slots=True)
class Loopback:
    """No network of its own: both are on the host."""

    name: str = "native"

    def host(self, _folder: Path, _link: Link, _number: int) -> Place:
        """See Network."""
        return places.native()


@dataclass(frozen=True, slots=True)
class View:
    """A view with a stack server; its name is that of its tracer."""

    name: str
    umview: Path

    def host(self, folder: Path, link: Link, number: int) -> Place:
        """See Network."""
        words = link.words.format(folder=folder)
        stack = f"umnetlwipv6,{words},ip={_HOSTS[number]}/24"
        prefix = (str(self.umview), "--tracer", self.name, "-p", stack)
        return Prefixed(self.name, _HOSTS[number], prefix)


@dataclass(frozen=True, slots=True)
class Vdens:
    """The kernel's stack in a network namespace, which vdens plugs in by a tap."""

    name: str = VDENS

    def host(self, folder: Path, link: Link, number: int) -> Place:
        """See Network."""
        vnl, own = (link.vnl or "").format(folder=folder), _HOSTS[number]
        return Prefixed(self.name, own, ("vdens", vnl, "sh", "-c", _ENTER, own))


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run gave.

    Attributes:
        value: The row's figure.
        cpu: Seconds of CPU time for a gigabyte, by role; empty where no bytes count.
    """

    value: float
    cpu: dict[str, float]


@dataclass(frozen=True, slots=True)
class PacketRow:
    """One line of the table.

    Attributes:
        base: The network that ratios are to.
        target: The ratio to reach.
        words: What netbench is asked for, before and behind the server's address.
        server: The kind of server.
        one_cpu: Whether all of it shares one CPU.
    """

    name: str
    title: str
    unit: str
    better: Better
    base: str
    target: float | None
    link: Link
    server: str
    words: tuple[str, ...]
    one_cpu: bool = False

    @property
    def ptrace_target(self) -> float | None:
        """The same for a view of the tracer ptrace, which only streams hardly meet."""
        return None if self.one_cpu else self.target

    def measure(self, bench: Bench, network: Network) -> Sample:
        """Run a client against a server at the other end of the link.

        Raises:
            MeasureError: It could not be started, failed, or took too long.
        """
        ends = [network.host(bench.folder, self.link, number) for number in (0, 1)]
        program = str(bench.netbench)
        serve = [program, "serve", self.server, ends[0].host]
        with (
            _adopting(),
            on_one_cpu(self.one_cpu),
            self.link.run(bench),
            ends[0].start(serve) as on,
        ):
            port = places.read_line(on)
            if not port.isdecimal():
                raise MeasureError(places.reason(on))
            what, *more = self.words
            client = [program, "paused", what, ends[0].host, port, *more]
            with ends[1].start([*client, f"{bench.seconds}"]) as process:
                sample = _watch(process, bench.seconds + SPARE_SECONDS)
            on.terminate()
        return sample


def _watch(process: subprocess.Popen[str], timeout: float) -> Sample:
    """Let a client go, and see what it costs until it has its figure."""
    assert process.stdin
    if read_line(process) != "ready":
        raise MeasureError(places.reason(process))
    before = _cpu()
    process.stdin.write("\n")
    process.stdin.flush()
    value, *moved = read_line(process, timeout).split() or [""]
    if not value:
        raise MeasureError(places.reason(process))
    after = _cpu()
    per_gb = {
        role: (after[role] - before[role]) * _GB / float(moved[0])
        for role in ROLES
        if moved
    }
    return Sample(float(value), per_gb)


def _cpu() -> dict[str, float]:
    """Return the seconds of CPU time that our processes have had, by role."""
    total = dict.fromkeys(ROLES, 0.0)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            role = _ROLES.get(process.name(), "programs")
            total[role] += times.user + times.system
    return total


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Be the parent of what our descendants leave behind, as stack servers are."""
    libc = ctypes.CDLL(None)
    before = set(psutil.Process().children())
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
        for process in set(psutil.Process().children()) - before:
            process.wait(SPARE_SECONDS)


def why_not_vdens() -> str | None:
    """Return why vdens cannot run here, or None if it can."""
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"{_TUN} is missing or closed to ordinary users"
    return None if shutil.which(VDENS) else "it is not installed (vdens)"


def networks(row: PacketRow, umview: Path, tracers: tuple[str, ...]) -> list[Network]:
    """Return all that a row is measured in."""
    found: list[Network] = [Loopback(), *(View(name, umview) for name in tracers)]
    return [*found, Vdens()] if row.link.vnl else found


def _wire(mtu: int, target: float) -> PacketRow:
    title = f"1 stream by a wire, MTU {mtu}"
    link = Wire(mtu)
    name = f"wire-{mtu}"
    words = ("up", "1")
    return PacketRow(
        name, title, "Gbit/s", Better.HIGH, "native", target, link, "sink", words
    )


def _beside(
    name: str, title: str, unit: str, better: Better, target: float, server: str
) -> PacketRow:
    """Return a row beside vdens, whose command is called as the row's name ends."""
    words = (name.partition("-")[2],)
    return PacketRow(
        name, title, unit, better, VDENS, target, Switch(), server, words, one_cpu=True
    )


PACKET_ROWS = (
    _wire(65500, 0.6),
    _wire(9000, 0.3),
    _wire(1500, 0.13),
    PacketRow(
        "switch",
        "1 stream by a switch",
        "Gbit/s",
        Better.HIGH,
        VDENS,
        1.0,
        Switch(),
        "sink",
        ("up", "1"),
    ),
    PacketRow(
        "switch-4",
        "4 streams by a switch",
        "Gbit/s",
        Better.HIGH,
        VDENS,
        1.0,
        Switch(),
        "sink",
        ("up", "4"),
    ),
    _beside(
        "switch-connect",
        "connect+echo+close by a switch, 1 CPU",
        "/s",
        Better.HIGH,
        0.5,
        "echo",
    ),
    _beside(
        "switch-tcp",
        "TCP round trip by a switch, 1 CPU",
        "µs",
        Better.LOW,
        0.9,
        "echo",
    ),
    _beside(
        "switch-udp",
        "UDP round trip by a switch, 1 CPU",
        "µs",
        Better.LOW,
        0.4,
        "udp",
    ),
)
