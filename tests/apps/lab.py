"""Run real programs natively, in a view, and across the border between the two.

A *site* is a network with an agent in it (agent.py): the host's, or that of a view. A
*place* says at which site a test's server lives, at which its client, and under which
address the client finds the server. A test that is written for a place therefore runs
in each of them unchanged.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pytest
from _pytest.mark import ParameterSet

from tests.setting import umview
from tests.switch import open_switch

SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = 65534
PROGRAMS = Path(__file__).parent / "programs"
Where = Literal["native", "view", "stack", "kernel"]
_AGENT = Path(__file__).with_name("agent.py")
_NAMESPACE = Path(__file__).parents[1] / "stacks" / "namespace.py"
_RETRY = 0.01
_PASSED = ("UMVIEW_STACKD", "UMVIEW_REPORTS")  # see conftest.py
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def require(*programs: str, optional: bool = False) -> None:
    """Skip the test where a program is missing; fail it in CI, which installs all.

    Args:
        programs: The programs that the test runs.
        optional: CI does not install them, either.
    """
    for program in programs:
        if shutil.which(program, path=_PATH) is None:
            if os.environ.get("CI") == "true" and not optional:
                pytest.fail(f"{program} is not installed")
            pytest.skip(f"{program} is not installed")


@contextlib.contextmanager
def built_go(source: str, *, cgo: bool) -> Iterator[Path]:
    """Build a Go program, in a folder that every user can reach.

    Args:
        source: Its file among the tests' programs.
        cgo: With C's resolver and loader, or static.
    """
    require("go", *(["gcc"] if cgo else []))
    with tempfile.TemporaryDirectory(prefix="umt-go-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = folder / Path(source).stem
        subprocess.run(
            ["go", "build", "-o", str(program), str(PROGRAMS / source)],
            check=True,
            timeout=300,
            env=os.environ
            | {
                "CGO_ENABLED": str(int(cgo)),
                "GOCACHE": str(folder / "cache"),
                "GOPATH": str(folder / "path"),
                "GOFLAGS": "-mod=mod",
                "GOPROXY": "off",
                "HOME": name,
            },
        )
        yield program


def in_view(argv: Sequence[str], where: Where, *umnet: str) -> list[str]:
    """Return argv itself, or what runs it in a view.

    Args:
        argv: The command.
        where: Natively, in a view with the default network, in one with a library
            stack, or with the kernel's stack in a network namespace.
        umnet: Options of the view's network.
    """
    if where == "native":
        return list(argv)
    if where == "kernel":
        own = ["unshare", "-Urn", "--", SYSTEM_PYTHON, "-I", str(_NAMESPACE)]
        return [*own, *umnet, "--", *argv]
    module = {"view": "umnet", "stack": "umnetlwipv6"}[where]
    return umview("-p", ",".join((module, *umnet)), *argv)


@dataclass(frozen=True, slots=True)
class User:
    """The ordinary user who runs the commands of a test.

    A test run of root's drops to "nobody", natively too, so that both sides compare.
    """

    folder: Path
    runtime: Path

    def environment(self) -> dict[str, str]:
        """Return the environment of the user's commands.

        Where the system's names come from systemd, its answer for "nobody" is that
        the account is locked, and sshd would refuse it; the files say otherwise.
        """
        return {
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "PATH": _PATH,
            "SYSTEMD_NSS_BYPASS_SYNTHETIC": "1",
            "TERM": "dumb",
            "TMPDIR": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.runtime),
            **{name: os.environ[name] for name in _PASSED if name in os.environ},
        }

    def command(self, argv: Sequence[str], where: Where, *umnet: str) -> list[str]:
        """Return what runs argv as the user, natively or in a view, from a test.

        Args:
            argv: The command.
            where: In a view, or natively.
            umnet: Options of the view's network.
        """
        drop = [
            "/usr/bin/setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
            "--",
        ]
        return [
            *(drop if os.geteuid() == 0 else []),
            *in_view(argv, where, *umnet),
        ]

    def own(self, path: Path) -> Path:
        """Give a file or folder to the user and return it."""
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        return path

    def run(
        self,
        argv: Sequence[str],
        where: Where,
        *umnet: str,
        timeout: float = 30,
        stdin: str = "",
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, natively or as the command of a view."""
        return subprocess.run(
            self.command(argv, where, *umnet),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.folder,
            env=self.environment() | environment,
        )

    @contextlib.contextmanager
    def popen(
        self,
        argv: Sequence[str],
        where: Where,
        *umnet: str,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Iterator[subprocess.Popen[str]]:
        """Start a command; one that still runs at the end of the block is killed."""
        process = subprocess.Popen(
            self.command(argv, where, *umnet),
            text=True,
            cwd=self.folder,
            env=self.environment(),
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(10)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program said, and its exit status (negative: the signal)."""

    status: int
    out: str
    err: str


class Program:
    """A program that an agent started.

    Attributes:
        argv: Its command.
        output: The file that its standard output goes to.
    """

    def __init__(self, site: Site, number: int, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self._site = site
        self._number = number
        self.output = site.folder / f"{number}.out"
        self._err = site.folder / f"{number}.err"

    def finish(self, timeout: float = 30) -> Finished:
        """Wait for the program's end.

        Raises:
            AssertionError: It still ran at the timeout; what it said is in the text.
        """
        reply = self._site.ask("wait", number=self._number, timeout=timeout)
        assert reply["status"] is not None, (
            f"{self.argv} still ran after {timeout} s\n{self.said()}"
        )
        return Finished(reply["status"], *self._read())

    def said(self) -> str:
        """Return all that the program wrote so far, for messages."""
        out, err = self._read()
        return f"--- stdout\n{out}\n--- stderr\n{err}"

    def wait_for(self, text: str, timeout: float = 15, times: int = 1) -> str:
        """Wait until the program has written text, and return what it wrote so far.

        Args:
            text: A part of what it writes.
            timeout: How long it may take.
            times: How often it has to come.

        Raises:
            AssertionError: It ended without doing so, or the timeout passed.
        """
        deadline = time.monotonic() + timeout
        while True:
            over = self._site.ask("wait", number=self._number, timeout=0)["status"]
            wrote = "".join(self._read())
            if wrote.count(text) >= times:
                return wrote
            assert over is None, f"{self.argv}: status {over}\n{self.said()}"
            assert time.monotonic() < deadline, (
                f"{self.argv}: no {text!r} in {timeout} s\n{self.said()}"
            )
            time.sleep(_RETRY)

    def end(self) -> None:
        """End the program and what it started, unless they ended by themselves."""
        self._site.ask("end", number=self._number)

    def _read(self) -> tuple[str, str]:
        return (
            self.output.read_text(errors="replace"),
            self._err.read_text(errors="replace"),
        )


class Site:
    """A network, and the agent that starts programs in it."""

    def __init__(self, user: User, name: str, where: Where, *umnet: str) -> None:
        self.user = user
        self.where = where
        self.folder = user.folder / name
        self.folder.mkdir()
        user.own(self.folder)
        self._log = (self.folder / "agent.err").open("wb")
        self._agent = subprocess.Popen(
            user.command(
                [SYSTEM_PYTHON, "-I", str(_AGENT), str(self.folder)], where, *umnet
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=user.folder,
            env=user.environment(),
            text=True,
        )

    def ask(self, do: str, **request: object) -> dict[str, Any]:
        """Let the agent do something and return its reply.

        Raises:
            AssertionError: The agent is gone, or reports an error.
        """
        requests, replies = self._streams()
        try:
            requests.write(json.dumps({"do": do, **request}) + "\n")
            requests.flush()
            line = replies.readline()
        except BrokenPipeError:
            line = ""
        assert line, f"the agent is gone: {self._agent.wait(10)}\n{self._complaint()}"
        reply: dict[str, Any] = json.loads(line)
        assert "error" not in reply, f"{do} {request}: {reply['error']}"
        return reply

    def begin(self, *argv: str, stdin: Path | None = None) -> Program:
        """Start a program."""
        reply = self.ask(
            "start",
            argv=argv,
            stdin=None if stdin is None else str(stdin),
            cwd=str(self.user.folder),
        )
        return Program(self, reply["number"], argv)

    def run(
        self,
        *argv: str,
        timeout: float = 30,
        status: int | None = 0,
        stdin: Path | None = None,
    ) -> Finished:
        """Run a program to its end.

        Args:
            argv: The command.
            timeout: How long it may take.
            status: The exit status that it must have; None: any.
            stdin: The file that it reads.

        Raises:
            AssertionError: The status is another, or the timeout passed.
        """
        program = self.begin(*argv, stdin=stdin)
        try:
            finished = program.finish(timeout)
        finally:
            program.end()
        assert status is None or finished.status == status, (
            f"{argv}: status {finished.status}, not {status}\n{program.said()}"
        )
        return finished

    @contextlib.contextmanager
    def serve(
        self, *argv: str, port: int | None = None, says: str = "", host: str = "::1"
    ) -> Iterator[Program]:
        """Run a server for the length of the block.

        Args:
            argv: The command.
            port: It is ready when this port of the site accepts connections.
            says: It is ready when it has written this.
            host: The address of the port.
        """
        program = self.begin(*argv)
        try:
            if says:
                program.wait_for(says)
            if port is not None:
                self.ask("reach", host=host, port=port, timeout=15)
            yield program
        except AssertionError as exc:
            exc.add_note(f"{argv}:\n{program.said()}")
            raise
        finally:
            program.end()

    def close(self) -> None:
        """End the agent and all that it started.

        Raises:
            AssertionError: The agent, and so the view, did not end well.
        """
        requests, replies = self._streams()
        with contextlib.suppress(BrokenPipeError):
            requests.close()
        try:
            status = self._agent.wait(20)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            status = self._agent.wait(10)
        replies.close()
        self._log.close()
        assert status == 0, f"agent ended with {status}\n{self._complaint()}"

    def _streams(self) -> tuple[IO[str], IO[str]]:
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        return self._agent.stdin, self._agent.stdout

    def _complaint(self) -> str:
        return (self.folder / "agent.err").read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server and its client live, and how the client finds the server.

    Attributes:
        name: native, inside (one view), outward (client in a view, server on the
            host), inward (server in a view, client on the host), across (each in
            a view of its own) or ethernet (each in a view, on one switch).
        server: The server's site.
        client: The client's site.
        listen: The port that the server binds, TCP or UDP.
        host: The server's IPv4 address as the client sees it.
        host6: The server's IPv6 address as the client sees it.
        port: The server's port as the client sees it.
    """

    name: str
    server: Site
    client: Site
    listen: int
    host: str
    host6: str
    port: int

    def address(self, family: int, *, url: bool = False) -> str:
        """Return the server's address, for a URL with IPv6's brackets."""
        if family == 4:
            return self.host
        return f"[{self.host6}]" if url else self.host6

    def url(self, path: str = "", family: int = 4) -> str:
        """Return the http URL of a path at the server."""
        return f"http://{self.address(family, url=True)}:{self.port}/{path}"


PLACES = tuple(os.environ.get("UMVIEW_PLACES", "native inside outward inward").split())
"""Where a test runs that does not say so."""


def in_places(*names: str) -> pytest.MarkDecorator:
    """Return the mark that runs a test of the fixture "place" in these places only."""
    return pytest.mark.parametrize("place", place_params(*names), indirect=True)


def place_params(*names: str) -> list[ParameterSet]:
    """Return the parameters of the fixture "place", marked if they start a view.

    The environment may name other places: UMVIEW_PLACES=ethernet runs all tests there.
    """
    if "UMVIEW_PLACES" in os.environ:
        names = PLACES
    return [
        pytest.param(name, marks=[] if name == "native" else [pytest.mark.view])
        for name in names
    ]


@contextlib.contextmanager
def open_place(user: User, name: str) -> Iterator[Place]:
    """Set the sites of a place up, and end them."""
    host_port = free_port()
    with contextlib.ExitStack() as stack:

        def site(label: str, where: Where, *umnet: str) -> Site:
            opened = Site(user, f"{name}-{label}", where, *umnet)
            stack.callback(opened.close)
            return opened

        if name == "native":
            host = site("host", "native")
            yield Place(name, host, host, host_port, "127.0.0.1", "::1", host_port)
        elif name == "inside":
            view = site("view", "view")
            yield Place(name, view, view, 80, "127.0.0.1", "::1", 80)
        elif name == "outward":
            host, view = site("host", "native"), site("view", "view", "host")
            yield Place(name, host, view, host_port, "10.0.2.2", "fd00::2", host_port)
        elif name == "ethernet":
            switch = stack.enter_context(open_switch(user))
            first = site("first", "stack", switch.card(1))
            second = site("second", "stack", switch.card(2))
            yield Place(name, first, second, 80, switch.host(1), switch.host6(1), 80)
        else:
            forwards = [
                f"fwd={address}{host_port}:80{kind}"
                for address in ("", "[::1]:")
                for kind in ("", "/udp")
            ]
            view = site("view", "view", *forwards)
            if name == "inward":
                host = site("host", "native")
                yield Place(name, view, host, 80, "127.0.0.1", "::1", host_port)
            else:
                other = site("other", "view", "host")
                yield Place(name, view, other, 80, "10.0.2.2", "fd00::2", host_port)


def free_port() -> int:
    """Return a port that is free on the host for TCP and UDP, IPv4 and IPv6.

    It is below those that Linux gives to clients: none can take it meanwhile.
    """
    for _ in range(100):
        port = random.randrange(10240, 32768)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                one = stack.enter_context(socket.socket(socket.AF_INET6, kind))
                one.bind(("::", port))
            return port
    raise AssertionError("no port is free for TCP and UDP")
