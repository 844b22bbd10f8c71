"""Show what umview does, with ordinary programs, as an ordinary user.

Run by ``make demo``. Two views serve on port 80 at the same time and are reached from
the host; then come clients, a name lookup, a static Go program and an asyncio program,
each in a view of its own, a view inside a view and a view with two stacks. The exit
status says whether all was as expected.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parent.parent
_UMVIEW = _ROOT / ".venv/bin/umview"
_MSTACK = _ROOT / ".venv/bin/mstack"
_HELLO = _ROOT / "build/hello"
_LIMIT = 60.0  # for one command, on a busy machine
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to see: a command, and a pattern that its output must match.

    What the pattern's groups match is shown, or the whole match if it has none.
    """

    what: str
    command: list[str]
    expected: str
    status: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check showed."""

    what: str
    text: str
    seconds: float
    good: bool


def _umview(options: str, *command: str | Path) -> list[str]:
    return [str(_UMVIEW), "-p", options, *map(str, command)]


def _show(command: list[str]) -> str:
    """Return a command as somebody would type it."""
    short = {str(path): path.name for path in (_UMVIEW, _MSTACK)}
    short[sys.executable] = "python3"
    words = (short.get(word, word).removeprefix(f"{_ROOT}/") for word in command)
    return shlex.join(words)


def _free_port() -> int:
    """Return a port of the host's loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until somebody answers HTTP behind a forward.

    A forward accepts before the server behind it does, so a connection says nothing:
    only an answer does.

    Raises:
        TimeoutError: Nobody answered in time.
        ChildProcessError: The server ended.
    """
    deadline = time.monotonic() + _LIMIT
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ChildProcessError(f"the server ended with {server.returncode}")
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1) as client,
        ):
            client.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            if client.recv(1):
                return
        time.sleep(0.02)
    raise TimeoutError(f"no server behind port {port} after {_LIMIT:.0f} s")


@contextlib.contextmanager
def _web_server(console: Console, port: int, page: str) -> Iterator[None]:
    """Serve a page on port 80 of a view that ``port`` of the host leads to.

    The log of requests is of no interest; what umview says of a failure is: the
    server's errors go to a file, and to the screen if it does not serve.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "index.html").write_text(page + "\n", encoding="utf-8")
        command = _umview(
            f"umnet,fwd={port}:80",
            *(sys.executable, "-m", "http.server", "80", "--directory", folder),
        )
        console.print(f"[dim]$ {_show(command)} &", highlight=False)
        log = Path(folder, "log")
        with log.open("wb") as errors:
            server = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            try:
                _wait_for_port(port, server)
            except OSError:
                console.print(log.read_text(errors="replace"), markup=False)
                raise
            yield
        finally:
            server.terminate()
            try:
                server.wait(timeout=_LIMIT)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _run(console: Console, check: Check) -> Seen:
    console.print(f"[dim]$ {_show(check.command)}", highlight=False)
    start = time.monotonic()
    try:
        done = subprocess.run(
            check.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Seen(check.what, str(exc), time.monotonic() - start, good=False)
    seconds = time.monotonic() - start
    found = re.search(check.expected, done.stdout)
    good = found is not None and done.returncode == check.status
    if found is None or not good:
        text = f"{done.stdout.strip()} [{done.returncode}]"
    else:
        text = ", ".join(found.groups() or [found[0]])
    return Seen(check.what, text, seconds, good)


def _checks(red: int, blue: int) -> list[Check]:
    """List what to see.

    Args:
        red: The port of the host that leads to port 80 of the first view.
        blue: The same for the second view.
    """
    curl = ["curl", "-sS", "--max-time", "30"]
    to_red, to_blue = (f"http://127.0.0.1:{port}/" for port in (red, blue))
    return [
        Check("First view, port 80, from the host", [*curl, to_red], "hello from red"),
        Check(
            "Second view, port 80, from the host", [*curl, to_blue], "hello from blue"
        ),
        Check(
            "curl in a view, to a server of the host (option host)",
            _umview("umnet,host", *curl, f"http://10.0.2.2:{red}/"),
            "hello from red",
        ),
        Check(
            "The same without the option",
            _umview("umnet", *curl, f"http://10.0.2.2:{red}/"),
            "(?i)failed to connect|couldn't connect",
            status=7,
        ),
        Check(
            "ping of the view's own address",
            _umview("umnet", "ping", "-c", "1", "10.0.2.15"),
            "1 received, 0% packet loss",
        ),
        Check(
            "ping over IPv6",
            _umview("umnet", "ping", "-c", "1", "fd00::15"),
            "1 received, 0% packet loss",
        ),
        Check(
            "Name lookup by the C library",
            _umview("umnet", "getent", "ahostsv4", "localhost"),
            r"127\.0\.0\.1(?= +STREAM)",
        ),
        Check(
            "Name lookup at the view's own name server",
            _umview("umnet", "dig", "+noall", "+answer", "+stats", "localhost"),
            r"(127\.0\.0\.1)\n(?s:.*)(SERVER: 10\.0\.2\.3)",
        ),
        Check(
            "A static Go program, web server and 50 clients",
            _umview("umnet", _HELLO),
            '50 times "hello".*',
        ),
        Check(
            "Python asyncio, server and 300 clients",
            _umview("umnet", sys.executable, _ROOT / "examples/crowd.py", "300"),
            "300 of 300 .*",
        ),
        Check(
            "No network at all",
            _umview("umnetnull", *curl, to_red),
            "(?i)failed to connect|couldn't connect",
            status=7,
        ),
        Check(
            "curl in a view inside a view, out through both",
            _umview(
                "umnet,host,ip=10.1.0.9/24,gw=10.1.0.2",
                *_umview("umnet", *curl, f"http://10.1.0.2:{red}/"),
            ),
            "hello from red",
        ),
        Check(
            "curl on the second stack of a view that has no network else",
            _umview(
                "umnetnull",
                *("-p", "/dev/net/way=umnet,host", _MSTACK, "/dev/net/way"),
                *(*curl, f"http://10.0.2.2:{red}/"),
            ),
            "hello from red",
        ),
        Check("Who this was", _umview("umnet", "id"), r"uid=(?!0\()\S+"),
    ]


def _end_leftovers() -> list[str]:
    """Wait for every process of the demo's to end; end and name what stays.

    Orphans are our children (see main), so that nothing can hide.
    """
    _, alive = psutil.wait_procs(
        psutil.Process().children(recursive=True), timeout=_LIMIT
    )
    names = [f"{process.pid} {process.name()}" for process in alive]
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
    return names


def main() -> int:
    """Run the demo. Return: the exit status."""
    console = Console()
    if os.getuid() == 0:
        console.print("demo: run it as an ordinary user (make demo does)")
        return 1
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.monotonic()
    red, blue = _free_port(), _free_port()
    seen: list[Seen] = []
    try:
        with (
            _web_server(console, red, "hello from red"),
            _web_server(console, blue, "hello from blue"),
        ):
            seen += [_run(console, check) for check in _checks(red, blue)]
    except OSError as exc:
        seen.append(Seen("Two views serving on port 80", str(exc), 0.0, good=False))
    left = _end_leftovers()
    seen.append(Seen("Processes left behind", ", ".join(left) or "none", 0.0, not left))

    table = Table(title="What was seen")
    table.add_column("What")
    table.add_column("Seen", overflow="fold")
    table.add_column("Seconds", justify="right")
    table.add_column("")
    for row in seen:
        mark = "[green]as expected" if row.good else "[bold red]NOT EXPECTED"
        table.add_row(row.what, row.text, f"{row.seconds:.2f}", mark)
    console.print(table)
    bad = sum(not row.good for row in seen)
    console.print(
        f"{len(seen) - bad} of {len(seen)} as expected, "
        f"{time.monotonic() - start:.1f} s",
        highlight=False,
    )
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
