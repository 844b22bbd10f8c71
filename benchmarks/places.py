"""Where a measured command runs: on the host, in a view, or with a peer.

A peer is what people use today. Some make a network without privileges (pasta,
slirp4netns): they are given the addresses of a view's default network, so that the
same command line reaches the host's loopback everywhere but on the host. Others stop
calls (strace, proot): with them a command has the host's network.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

VIEW_HOST = "10.0.2.2"  # leads to the host's loopback in views and networks
_HOST = "127.0.0.1"
_VIEW_CARD = "10.0.2.15"
_START_SECONDS = 5  # the longest that a peer may take to be ready
_TUN = "/dev/net/tun"  # the networks are an Ethernet card in a namespace
_PEER_MTU = "65520"  # the largest of slirp4netns, and pasta's default


class MeasureError(Exception):
    """A measurement that gave no figure; the text says why."""


class Place(Protocol):
    """A network that a command can be run in."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def host(self) -> str:
        """The address that leads to the host's loopback."""

    def start(
        self, argv: Sequence[str]
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """Run a command with pipes; it and its helpers are gone at the exit."""


@dataclass(frozen=True, slots=True)
class Prefixed:
    """A place that is entered by words in front of the command."""

    name: str
    host: str
    prefix: tuple[str, ...] = ()

    @contextlib.contextmanager
    def start(self, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """Run a command; see Place."""
        with _child([*self.prefix, *argv]) as process:
            yield process


@dataclass(frozen=True, slots=True)
class Slirp4netns:
    """A network namespace with slirp4netns beside it.

    slirp4netns wants the namespace's process before it starts, and the command must
    not run before slirp4netns is ready: so a shell makes the namespace, says so, and
    becomes the command when it is given a line.
    """

    name: str = "slirp4netns"
    host: str = VIEW_HOST

    @contextlib.contextmanager
    def start(self, argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """Run a command; see Place."""
        shell = ["sh", "-c", 'echo made && read -r _ && exec "$@"', "sh", *argv]
        unshare = ["unshare", "--user", "--map-root-user", "--net", "--", *shell]
        with _child(unshare) as process:
            if read_line(process) != "made":
                raise MeasureError(reason(process))
            with self._attach(process.pid):
                stdin = _pipe(process.stdin)
                stdin.write("\n")
                stdin.flush()
                yield process

    @staticmethod
    @contextlib.contextmanager
    def _attach(pid: int) -> Iterator[None]:
        ready, said = os.pipe()
        options = ["--configure", f"--mtu={_PEER_MTU}", f"--ready-fd={said}"]
        command = ["slirp4netns", *options, str(pid), "tap0"]
        with (
            open(ready, "rb") as reader,
            open(said, "wb") as writer,
            _child(command, pass_fds=[said]) as helper,
        ):
            writer.close()
            if not _readable(reader) or not reader.read(1):
                raise MeasureError(reason(helper))
            try:
                yield
            finally:
                helper.terminate()  # it would outlive the namespace


def view(umview: Path, tracer: str, *options: str) -> Place:
    """Return the place that is a view with the stack umnet, named after its tracer.

    Args:
        umview: The program.
        tracer: What stops the calls.
        options: umnet's options besides ``host``.
    """
    stack = ",".join(["umnet", "host", *options])
    prefix = (str(umview), "--tracer", tracer, "-p", stack)
    return Prefixed(tracer, VIEW_HOST, prefix)


def native() -> Place:
    """Return the place that is the host itself."""
    return Prefixed("native", _HOST)


def why_not(peer: Place) -> str | None:
    """Return why a peer cannot run here, or None if it can."""
    if peer in networks() and not os.access(_TUN, os.R_OK | os.W_OK):
        return f"{_TUN} is missing or closed to ordinary users"
    try:
        run(peer, ["echo", "runs"], _START_SECONDS)
    except MeasureError as exc:
        return str(exc)
    return None


def stoppers() -> list[Place]:
    """Return the peers that stop calls by ptrace(2), whether they can run here or not.

    strace is let stop only what concerns the network, by a filter as a view has it; the
    arguments its filter cannot tell apart, so send() and recv() are stopped, too.
    """
    strace = "strace --seccomp-bpf -f -qq -o /dev/null -e trace=%network"
    return [
        Prefixed("strace", _HOST, tuple(strace.split())),
        Prefixed("proot", _HOST, ("proot", "--verbose=-1")),
    ]


def networks() -> list[Place]:
    """Return the peers that make a network, whether they can run here or not.

    Source:
        pasta(1): unless ``--no-map-gw`` is given, the gateway's address leads to the
        host; slirp4netns(1): 10.0.2.2 does, unless ``--disable-host-loopback`` is.
    """
    network = ["--address", _VIEW_CARD, "--netmask", "24", "--gateway", VIEW_HOST]
    # Without these pasta looks for new listeners every second, on both sides.
    closed = [word for way in "tuTU" for word in (f"-{way}", "none")]
    pasta = ["pasta", "--quiet", "--ipv4-only", "--config-net", *network, *closed, "--"]
    return [Prefixed("pasta", VIEW_HOST, tuple(pasta)), Slirp4netns()]


def run(place: Place, argv: Sequence[str], timeout: float) -> str:
    """Run a command in a place to its end.

    Args:
        place: Where.
        argv: The command, which must print something.
        timeout: When to give it up.

    Returns:
        What it printed.

    Raises:
        MeasureError: It could not be started, failed, printed nothing, or took longer.
    """
    with place.start(argv) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise MeasureError(f"no answer in {timeout:.0f} s") from None
    if process.returncode or not out.strip():
        raise MeasureError(_last_line(err) or f"status {process.returncode}")
    return out


def read_line(process: subprocess.Popen[str], seconds: float = _START_SECONDS) -> str:
    """Return the next line that a process prints, "" if none comes in time."""
    stdout = _pipe(process.stdout)
    return stdout.readline().strip() if _readable(stdout, seconds) else ""


@contextlib.contextmanager
def _child(
    argv: Sequence[str], pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start a process with pipes in a session of its own, and end it at the exit."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise MeasureError(f"{argv[0]} is not installed") from None
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End a child and all that it started, which is its session.

    Closed pipes end most of them, and a view's supervisor goes by itself after its
    last process; signals are for what is left, such as the child that pasta forgets
    when it fails to start.
    """
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    for sign in (0, signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)  # ends the loop when nobody is left
                time.sleep(0.005)
    process.wait()


def _readable(stream: IO[str] | IO[bytes], seconds: float = _START_SECONDS) -> bool:
    return bool(select.select([stream], [], [], seconds)[0])


def reason(process: subprocess.Popen[str]) -> str:
    """Return why a process that should serve does not: its last words."""
    try:
        return _last_line(process.communicate(timeout=1)[1]) or "it ended"
    except subprocess.TimeoutExpired:
        return f"not ready in {_START_SECONDS} s"


def _last_line(text: str) -> str:
    """Return the last line that says something; pasta's own log troubles do not."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "to syslog" not in line]
    return telling[-1] if telling else ""


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise AssertionError("every child of this file has its three pipes")
    return pipe
