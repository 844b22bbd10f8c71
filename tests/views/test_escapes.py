"""Ways out of a view, each tried: none may reach the host's network.

And what a view must stand: a killed supervisor, a program that cannot be looked into, a
storm of signals on calls that block and on calls that are hot.
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where, require
from tests.setting import TRACER

pytestmark = pytest.mark.view

_PROGRAMS = Path(__file__).with_name("programs")
_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="gates of x86-64")
_AFNOSUPPORT, _NOSYS, _BUSY = "-97", "-38", "-16"


def _attempt(user: User, name: str, *args: object, umnet: str = "") -> list[str]:
    """Return the lines that one function of attempts.py prints in a view."""
    argv = [SYSTEM_PYTHON, str(_PROGRAMS / "attempts.py"), name, *map(str, args)]
    done = user.run(argv, "view", *([umnet] if umnet else []), timeout=60)
    assert not done.stderr
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.fixture
def gates(user: User) -> str:
    """Compile gates.c where the user can run it."""
    require("gcc")
    program = user.folder / "gates"
    source = _PROGRAMS / "gates.c"
    subprocess.run(["gcc", "-O1", "-o", program, source], check=True, timeout=60)
    program.chmod(0o755)
    return str(program)


@contextlib.contextmanager
def host_port(*addresses: str) -> Iterator[tuple[int, list[str]]]:
    """Listen on one port of the host, TCP and UDP; note what arrives there."""
    arrived: list[str] = []
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        socks = {}
        port = 0
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                sock = stack.enter_context(socket.socket(family, kind))
                sock.bind((address, port))
                port = sock.getsockname()[1]
                if kind == socket.SOCK_STREAM:
                    sock.listen()
                socks[sock.fileno()] = sock
                poll.register(sock, select.POLLIN)
        stop_reader, stop_writer = os.pipe()
        poll.register(stop_reader, select.POLLIN)

        def note() -> None:
            while True:
                for fd, _ in poll.poll():
                    if fd == stop_reader:
                        return
                    if socks[fd].type == socket.SOCK_STREAM:
                        socks[fd].accept()[0].close()
                        arrived.append("tcp")
                    else:
                        socks[fd].recv(100)
                        arrived.append("udp")

        thread = threading.Thread(target=note)
        thread.start()
        try:
            yield port, arrived
        finally:
            os.write(stop_writer, b"x")
            thread.join()
            os.close(stop_reader)
            os.close(stop_writer)


def test_io_uring_gives_enosys(user: User) -> None:
    assert _attempt(user, "io_uring") == ["-1 ENOSYS"]


@_X86
@pytest.mark.parametrize("number", [41, 42, 43, 44, 46, 49, 50, 425], ids=str)
def test_x32_gives_enosys(user: User, gates: str, number: int) -> None:
    done = user.run([gates, "x32", str(number), "2", "1", "0"], "view")
    assert done.stdout.split() == [_NOSYS]


@_X86
@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        pytest.param(["102", "1", "=2,1,0"], _AFNOSUPPORT, id="socketcall-socket"),
        pytest.param(["359", "2", "1", "0"], _AFNOSUPPORT, id="socket-inet"),
        pytest.param(["359", "10", "1", "0"], _AFNOSUPPORT, id="socket-inet6"),
        pytest.param(["359", "16", "3", "0"], _AFNOSUPPORT, id="socket-netlink"),
        pytest.param(["359", "17", "3", "0"], _AFNOSUPPORT, id="socket-packet"),
        pytest.param(["361", "0", "0", "0"], _AFNOSUPPORT, id="bind"),
        pytest.param(["362", "0", "0", "0"], _AFNOSUPPORT, id="connect"),
        pytest.param(["369", "0", "0", "0"], _AFNOSUPPORT, id="sendto"),
        pytest.param(["370", "0", "0", "0"], _AFNOSUPPORT, id="sendmsg"),
        pytest.param(["345", "0", "0", "0"], _AFNOSUPPORT, id="sendmmsg"),
        pytest.param(["102", "3", "=0,0,0"], _AFNOSUPPORT, id="socketcall-connect"),
        pytest.param(["102", "16", "=0,0,0"], _AFNOSUPPORT, id="socketcall-sendmsg"),
        pytest.param(["425", "8", "0"], _NOSYS, id="io_uring_setup"),
        pytest.param(["354", "1", "8", "0"], _BUSY, id="seccomp-listener"),
    ],
)
def test_i386_calls_fail(user: User, gates: str, call: list[str], wanted: str) -> None:
    native = user.run([gates, "i386", "20"], "native")
    if native.returncode or int(native.stdout) < 0:
        pytest.skip("this kernel has no i386 calls")
    assert user.run([gates, "i386", *call], "view").stdout.split() == [wanted]


def test_other_families_are_refused(user: User) -> None:
    # IPX, AX.25, AppleTalk, X.25, packet, key, RDS, PPPoX, LLC, CAN, TIPC, Bluetooth,
    # phonet, IEEE 802.15.4, NFC, vsock, QIPCRTR, SMC, XDP
    numbers = (4, 3, 5, 9, 17, 15, 21, 24, 26, 29, 30, 31, 35, 36, 39, 40, 42, 43, 44)
    for line in _attempt(user, "families", *numbers):
        assert line.split()[2] in ("EAFNOSUPPORT", "EPERM"), line


def test_packet_sockets_give_eperm(user: User) -> None:
    assert _attempt(user, "packet") == ["EPERM"] * 3


def test_netlink_protocols_that_no_view_has_are_refused(user: User) -> None:
    for line in _attempt(user, "netlink_protocols"):
        assert line.split()[1] in ("EPROTONOSUPPORT", "EAFNOSUPPORT"), line


# The default plan; a host may use one of these addresses itself.
_OF_THE_VIEW = {
    *("127.0.0.1", "10.0.2.15", "10.0.2.2", "10.0.2.3", "10.0.2.255"),
    *("::1", "fd00::15", "fd00::2", "fd00::3"),
}


def test_netlink_shows_nothing_of_the_host(user: User) -> None:
    seen = b"".join(map(bytes.fromhex, _attempt(user, "netlink_route")))
    assert b"nat0\0" in seen
    for name, addresses in psutil.net_if_addrs().items():
        if name == "lo":
            continue
        assert name.encode() + b"\0" not in seen
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                text = address.address.partition("%")[0]
                if text in _OF_THE_VIEW:
                    continue
                assert socket.inet_pton(address.family, text) not in seen
            elif address.address.strip("0:"):
                assert bytes.fromhex(address.address.replace(":", "")) not in seen


def test_cards_are_the_views(user: User) -> None:
    assert _attempt(user, "cards") == ["['lo', 'nat0']"]


_HERE = ("127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::")
_GATEWAYS = ("10.0.2.2", "fd00::2")


def test_hosts_loopback_is_out_of_reach(user: User) -> None:
    with host_port("127.0.0.1", "::1") as (port, arrived):
        lines = _attempt(user, "reach", port, *_HERE, *_GATEWAYS)
        assert not [line for line in lines if line.startswith("tcp") and "ok" in line]
        assert not arrived


def test_host_option_opens_the_hosts_loopback(user: User) -> None:
    with host_port("127.0.0.1", "::1") as (port, arrived):
        lines = _attempt(user, "reach", port, *_GATEWAYS, umnet="host")
        for address in _GATEWAYS:
            assert f"tcp {address} connect ok" in lines
            assert f"tcp {address} sendto ok" not in lines  # MSG_FASTOPEN
        _wait_until(lambda: {"tcp", "udp"} <= set(arrived))


def _wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_sockets_of_the_host_are_of_no_use(user: User) -> None:
    with host_port("127.0.0.1") as (port, arrived), contextlib.ExitStack() as stack:
        fds = []
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
            fds.append(sock.fileno())
        argv = [SYSTEM_PYTHON, str(_PROGRAMS / "attempts.py"), "inherited", str(port)]
        argv += map(str, fds)
        with user.popen(
            argv,
            "view",
            pass_fds=fds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            said, _ = process.communicate(timeout=30)
        assert "connect ok" not in said
        assert "Traceback" not in said
        assert not arrived


def test_resolver_daemons_are_refused(user: User) -> None:
    paths = (
        "/run/nscd/socket",
        "/var/run/nscd/socket",
        "/run/systemd/resolve/io.systemd.Resolve",
        "/run/avahi-daemon/socket",
    )
    lines = _attempt(user, "unix_names", *paths)
    assert lines == [f"{path} ECONNREFUSED" for path in paths]


def test_umviews_own_sockets_are_out_of_reach(user: User) -> None:
    argv = [SYSTEM_PYTHON, str(_PROGRAMS / "attempts.py")]
    with user.popen([*argv, "serve"], "view", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        server = psutil.Process(int(process.stdout.readline()))
        _wait_until_parked(server)
        words = [
            line.split() for line in Path("/proc/net/unix").read_text().splitlines()
        ]
        names = [word[7] for word in words if len(word) > 7 and "umv" in word[7]]
        done = user.run([*argv, "unix_names", *names], "native")
        server.kill()
    assert not [line for line in done.stdout.splitlines() if line.endswith(" ok")]
    assert not done.stderr


def test_program_that_cannot_be_looked_into_works(user: User) -> None:
    assert _attempt(user, "not_dumpable")[1:] == ["b'fine'", "b'too'"]


def test_killed_supervisor_hangs_nobody_and_leaves_nothing(user: User) -> None:
    argv = [SYSTEM_PYTHON, str(_PROGRAMS / "attempts.py"), "orphan"]
    with user.popen(
        argv, "view", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as front:
        assert front.stdout is not None
        program = psutil.Process(int(front.stdout.readline()))
        supervisor = program.parent()
        assert supervisor is not None
        assert supervisor.pid != front.pid
        _wait_until_parked(program)
        supervisor.kill()
        said, complaint = front.communicate(timeout=10)
    assert front.returncode == 125
    assert complaint.startswith("umview: ")
    assert len(complaint.splitlines()) == 1
    if TRACER == "ptrace":  # the kernel kills who has lost such a tracer
        assert not said
        psutil.wait_procs([program], timeout=10)
        assert not program.is_running()
        return
    assert said.splitlines() == [
        "accept ENOSYS",
        "socket ENOSYS",
        "getsockname ENOSYS",
        "unix b'x'",
    ]


def _wait_until_parked(process: psutil.Process) -> None:
    """Wait until the process sleeps in a stopped call."""
    end = time.monotonic() + 10
    path = Path(f"/proc/{process.pid}/wchan")
    while time.monotonic() < end:
        if (
            process.status() == psutil.STATUS_SLEEPING
            and "pipe" not in path.read_text()
        ):
            return
        select.select([], [], [], 0.01)


@pytest.mark.parametrize("where", ["native", "view"])
@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        pytest.param("accept", 1500, "True 0", id="accept"),
        pytest.param("connect", 1500, "b'True' 0", id="connect"),
        pytest.param("datagrams", 1500, "wrong 0", id="datagrams"),
        pytest.param("unix", 3000, "wrong 0", id="unix"),
        pytest.param("sockets", 1500, "True 0", id="sockets"),
        pytest.param("stream", 500, "True", id="stream"),
        pytest.param("names", 300, "wrong 0 0", id="names"),
        pytest.param("groups", 300, "wrong 0 0", id="groups"),
        pytest.param("loop", 300, "wrong 0 0", id="loop"),
        pytest.param("refused", 300, "wrong 0 0", id="refused"),
        pytest.param("many", 300, "wrong 0", id="many"),
        pytest.param("files", 300, "1 0", id="files"),
        pytest.param("addressed", 150, "True", id="addressed"),
    ],
)
def test_storm_of_signals_harms_nothing(
    user: User, where: Where, name: str, count: int, said: str
) -> None:
    argv = [SYSTEM_PYTHON, str(_PROGRAMS / "storm.py"), name, str(count)]
    done = user.run(argv, where, timeout=240)
    assert not done.stderr
    assert done.stdout.splitlines() == [said, said]
    assert done.returncode == 0


def test_signals_are_those_of_the_program(user: User) -> None:
    """A command that a signal ends gives 128+N also when it waits in a stopped call."""
    code = (
        "import os,signal,socket,threading\n"
        "s=socket.create_server(('127.0.0.1',0))\n"
        "threading.Timer(0.2,os.kill,(os.getpid(),signal.SIGTERM)).start()\n"
        "s.accept()\n"
    )
    done = user.run([SYSTEM_PYTHON, "-c", code], "view", timeout=20)
    assert done.returncode == 128 + signal.SIGTERM
