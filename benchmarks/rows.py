"""The rows of the benchmark: what is measured, and the ratio to reach.

Adding a row is adding an entry to ROWS.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psutil
from places import MeasureError, Place, read_line, run

SPARE_SECONDS = 8  # beyond a run's own time; netbench gives up by itself before that
_COMPILE_FACTOR = 2  # a compiler needs longer to be measured than a call
_MIB = 1024 * 1024
_BESIDE = 0.77  # 1.3 times native's time
_TREE = "/usr/include/linux"  # some hundred files; the C compiler's package has them
_GREP = (
    f"grep -r _LINUX_IN6_H {_TREE} | wc -l"  # alone it ends at /dev/null's first hit
)
_COMMANDS = "i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done"
_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port};
        return 200 "benchmark";
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs to know."""

    netbench: Path
    source: Path  # the C file that is compiled
    folder: Path  # private, removed at the end
    seconds: float  # the length of one run


Measure = Callable[[Bench, Place], float]


class Better(Enum):
    """How two figures of a row are compared."""

    HIGH = "the ratio is view / native"
    LOW = "the ratio is native / view"
    AT_MOST = "no ratio: the view's own figure is limited"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        target: The ratio to reach (1 = native), or the limit of Better.AT_MOST; None
            where none is set.
        ptrace_target: The same for a view of the tracer ptrace.
        network: Whether the figure can differ from native in a network namespace.
        base: The place that ratios are to.
        options: Options of umnet that this row is about.
    """

    name: str
    title: str
    unit: str
    better: Better
    target: float | None
    measure: Measure
    ptrace_target: float | None = None
    network: bool = False
    base: str = "native"
    options: tuple[str, ...] = ()


def _turns(what: str) -> Measure:
    """Measure system calls in one process."""

    def measure(bench: Bench, place: Place) -> float:
        extra = [str(bench.source)] if what == "open" else []
        return _netbench(bench, place, what, f"{bench.seconds}", *extra)

    return measure


def _compile(bench: Bench, place: Place) -> float:
    seconds = bench.seconds * _COMPILE_FACTOR
    gcc = ["gcc", "-O2", "-c", str(bench.source), "-o", str(bench.folder / "out.o")]
    return _netbench(bench, place, "spawn", f"{seconds}", *gcc)


def _work(*command: str) -> Measure:
    """Measure a program from its start to its end, in ms."""

    def measure(bench: Bench, place: Place) -> float:
        return _netbench(bench, place, "spawn", f"{bench.seconds}", *command)

    return measure


def _tar(bench: Bench, place: Place) -> float:
    # Into a file: tar(1) does not read the files for an archive that is /dev/null.
    archive = str(bench.folder / "tree.tar")
    return _work("tar", "-C", _TREE, "-cf", archive, ".")(bench, place)


def _to_host(what: str, server: str, *extra: str, pinned: bool = False) -> Measure:
    """Measure a client against a server on the host, on a fresh port."""

    def measure(bench: Bench, place: Place) -> float:
        with on_one_cpu(pinned), _server(bench, server) as port:
            words = [what, place.host, str(port), *extra, f"{bench.seconds}"]
            return _netbench(bench, place, *words)

    return measure


def _inside(what: str, *extra: str, pinned: bool = False) -> Measure:
    """Measure a client against a server in the same place."""

    def measure(bench: Bench, place: Place) -> float:
        with on_one_cpu(pinned):
            words = [what, "self", "0", *extra, f"{bench.seconds}"]
            return _netbench(bench, place, *words)

    return measure


def _http(bench: Bench, place: Place) -> float:
    """Measure wrk's requests a second to an nginx on the host; wrk counts in seconds.

    Raises:
        MeasureError: nginx or wrk is missing, or wrk saw an error.
    """
    with _nginx(bench) as port:
        url = f"http://{place.host}:{port}/"
        argv = ["wrk", "--threads", "1", "--connections", "16", "--duration", "1s", url]
        if not shutil.which("wrk"):
            raise MeasureError("wrk is not installed")
        out = run(place, argv, 1 + SPARE_SECONDS)
    found = re.search(r"^Requests/sec:\s*([\d.]+)", out, re.MULTILINE)
    if not found or "Socket errors" in out or "Non-2xx" in out:
        raise MeasureError(f"wrk: {' '.join(out.split())}")
    return float(found[1])


def _start(_bench: Bench, place: Place) -> float:
    """Measure the milliseconds that running ``true`` takes, from start to end.

    By a pidfd: Popen.wait() with a timeout looks again after up to 50 ms only.
    """
    begin = time.perf_counter()
    with place.start(["true"]) as process:
        pidfd = os.pidfd_open(process.pid)
        ended, _, _ = select.select([pidfd], [], [], SPARE_SECONDS)
        took = time.perf_counter() - begin
        os.close(pidfd)
        if not ended:
            raise MeasureError("it does not end")
        if process.wait():
            raise MeasureError(f"status {process.returncode}")
    return took * 1e3


def _memory(bench: Bench, place: Place) -> float:
    """Measure the MiB of every process that a place adds beyond the command.

    The proportional set size: what is shared with other processes counts in shares.
    Of a process that hides it (pasta makes itself undumpable) the resident set size,
    which counts what is shared in full.
    """
    with place.start([str(bench.netbench), "idle"]) as process:
        if read_line(process) != "ready":
            raise MeasureError("the command did not start")
        added = [
            child
            for child in psutil.Process().children(recursive=True)
            if child.name() != bench.netbench.name
        ]
        return sum(_resident(child) for child in added) / _MIB


def _x11(test: str, count: int) -> Measure:
    """Measure what a client of an X server on the host needs for one request, in µs.

    Args:
        test: The test of x11perf.
        count: How often; x11perf makes it four times that for small counts.
    """

    def measure(_bench: Bench, place: Place) -> float:
        with on_one_cpu(True), _x_server() as display:
            argv = ["x11perf", "-repeat", "1", "-reps", str(count), f"-{test}"]
            words = ["env", f"DISPLAY={display}", *argv]
            out = run(place, words, SPARE_SECONDS)
        found = re.search(r"reps @ +([\d.]+) msec", out)
        if not found:
            raise MeasureError(f"x11perf: {' '.join(out.split())}")
        return float(found[1]) * 1e3

    return measure


def _beside(name: str, title: str, unit: str, measure: Measure, *options: str) -> Row:
    """Return a row of work that is not network: its target is the same everywhere."""
    return Row(
        name,
        title,
        unit,
        Better.LOW,
        _BESIDE,
        measure,
        ptrace_target=_BESIDE,
        options=options,
    )


ROWS = (
    _beside("getpid", "getpid", "ns", _turns("getpid")),
    _beside("compile", "gcc -c of a C file", "ms", _compile),
    _beside("commands", "50 commands by a shell", "ms", _work("sh", "-c", _COMMANDS)),
    _beside("python", "python3 -c pass", "ms", _work("python3", "-c", "pass")),
    _beside("tar", "tar of a tree", "ms", _tar),
    _beside("grep", "grep -r in a tree", "ms", _work("sh", "-c", _GREP)),
    Row("open", "open, read, close", "µs", Better.LOW, 0.2, _turns("open")),
    _beside(
        "open-nofiles",
        "open, read, close; nofiles",
        "µs",
        _turns("open"),
        "nofiles",
    ),
    Row(
        "up",
        "1 stream to host, up",
        "Gbit/s",
        Better.HIGH,
        0.9,
        _to_host("up", "sink", "1"),
        network=True,
    ),
    Row(
        "down",
        "1 stream to host, down",
        "Gbit/s",
        Better.HIGH,
        0.85,
        _to_host("down", "source", "1"),
        network=True,
    ),
    Row(
        "up-4",
        "4 streams to host, up",
        "Gbit/s",
        Better.HIGH,
        0.8,
        _to_host("up", "sink", "4"),
        network=True,
    ),
    Row(
        "down-4",
        "4 streams to host, down",
        "Gbit/s",
        Better.HIGH,
        0.8,
        _to_host("down", "source", "4"),
        network=True,
    ),
    Row(
        "loopback",
        "1 stream inside",
        "Gbit/s",
        Better.HIGH,
        1.5,
        _inside("up", "1"),
        network=True,
    ),
    Row(
        "connect-host",
        "connect+echo+close to host, 1 CPU",
        "/s",
        Better.HIGH,
        0.4,
        _to_host("connect", "echo", pinned=True),
        network=True,
    ),
    Row(
        "connect-inside",
        "connect+echo+close inside, 1 CPU",
        "/s",
        Better.HIGH,
        0.9,
        _inside("connect", pinned=True),
        network=True,
    ),
    Row(
        "tcp-host",
        "TCP round trip to host, 1 CPU",
        "µs",
        Better.LOW,
        0.37,
        _to_host("tcp", "echo", pinned=True),
        network=True,
    ),
    Row(
        "tcp-inside",
        "TCP round trip inside, 1 CPU",
        "µs",
        Better.LOW,
        1.0,
        _inside("tcp", pinned=True),
        network=True,
    ),
    Row(
        "udp-host",
        "UDP round trip to host, 1 CPU",
        "µs",
        Better.LOW,
        0.37,
        _to_host("udp", "udp", pinned=True),
        network=True,
    ),
    Row(
        "udp-inside",
        "UDP round trip inside, 1 CPU",
        "µs",
        Better.LOW,
        1.0,
        _inside("udp", pinned=True),
        network=True,
    ),
    Row(
        "http",
        "HTTP keep-alive to host",
        "/s",
        Better.HIGH,
        0.45,
        _http,
        network=True,
    ),
    Row(
        "unixmsg",
        "sendmsg+recvmsg, plain unix pair",
        "µs",
        Better.LOW,
        None,
        _turns("unixmsg"),
    ),
    Row(
        "x11-trip",
        "X11 round trip, 1 CPU",
        "µs",
        Better.LOW,
        None,
        _x11("pointer", 2000),
    ),
    Row(
        "x11-image",
        "X11 image of 500x500, 1 CPU",
        "µs",
        Better.LOW,
        0.9,
        _x11("putimage500", 50),
    ),
    Row(
        "start",
        "start and end of true",
        "ms",
        Better.AT_MOST,
        120,
        _start,
        ptrace_target=120,
        network=True,
    ),
    Row(
        "memory",
        "memory added",
        "MiB",
        Better.AT_MOST,
        40,
        _memory,
        ptrace_target=40,
        network=True,
    ),
)


def _resident(process: psutil.Process) -> int:
    try:
        size: int = process.memory_full_info().pss
    except psutil.AccessDenied:
        size = process.memory_info().rss
    return size


def _netbench(bench: Bench, place: Place, *words: str) -> float:
    timeout = bench.seconds * _COMPILE_FACTOR + SPARE_SECONDS
    return float(run(place, [str(bench.netbench), *words], timeout).split()[0])


@contextlib.contextmanager
def on_one_cpu(pinned: bool) -> Iterator[None]:
    """Let what is started meanwhile inherit one CPU.

    A wake-up across CPUs costs ten times what is measured in these rows, and happens
    or not as the scheduler likes.
    """
    before = os.sched_getaffinity(0)
    if pinned:
        os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _server(bench: Bench, kind: str) -> Iterator[int]:
    """Run a server on the host's loopback and yield its port."""
    with subprocess.Popen(
        [bench.netbench, "serve", kind], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield int(read_line(process))
        finally:
            process.kill()


@contextlib.contextmanager
def _x_server() -> Iterator[str]:
    """Run an X server without a screen and yield its display."""
    argv = ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    if not shutil.which(argv[0]):
        raise MeasureError(f"{argv[0]} is not installed")
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield f":{read_line(process)}"
        finally:
            process.terminate()


@contextlib.contextmanager
def _nginx(bench: Bench) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    config = bench.folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=bench.folder, port=port), "utf-8")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    nginx = shutil.which("nginx", path=path)
    if not nginx:
        raise MeasureError("nginx is not installed")
    with subprocess.Popen([nginx, "-e", "stderr", "-c", config]) as process:
        try:
            _await_port(port)
            yield port
        finally:
            process.terminate()


def _await_port(port: int) -> None:
    deadline = time.monotonic() + SPARE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.005)  # nginx has no way to say that it listens
    raise MeasureError("nginx does not listen")
