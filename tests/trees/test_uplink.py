"""nat0 of a view inside another: out by the enclosing view's stack, never round."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Site, User
from tests.setting import UMVIEW
from tests.stacks.lab import open_host

_ECHO = """
import socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
one = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
other = socket.socket(family, socket.SOCK_DGRAM)
other.bind((sys.argv[1], int(sys.argv[2])))

def datagrams():
    while True:
        data, peer = other.recvfrom(1 << 16)
        other.sendto(f"{peer[0]} ".encode() + data, peer)

threading.Thread(target=datagrams, daemon=True).start()
print("serves", flush=True)
while True:
    conn, peer = one.accept()
    with conn:
        conn.sendall(f"{peer[0]} ".encode())
        while data := conn.recv(1 << 16):
            conn.sendall(data)
"""
"""Says whom it sees, then what it is told: by TCP and UDP at an address and a port."""

_TELL = """
import socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
sock = socket.socket(family, getattr(socket, kind))
sock.settimeout(30)
try:
    sock.connect((host, port))
    peer = sock.getpeername()[0]
    sock.send(b"hello")
    said = sock.recv(99)
    if kind == "SOCK_STREAM":
        sock.shutdown(socket.SHUT_WR)
        while more := sock.recv(99):
            said += more
    print(said.decode(), peer, flush=True)
except OSError as exc:
    print(type(exc).__name__, exc.errno)
"""
"""Says hello there, and prints the answer and whom it came from."""

_LONG = """
import hashlib, os, socket, sys, threading
data = os.urandom(3 << 20)
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)

def send():
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)

threading.Thread(target=send).start()
got = b"".join(iter(lambda: sock.recv(1 << 16), b""))
print(got.partition(b" ")[2] == data)
"""

_KINDS = ("SOCK_STREAM", "SOCK_DGRAM")


def _inner(*words: str, module: str = "umnet") -> tuple[str, ...]:
    return (str(UMVIEW), "-p", module, *words)


def _tell(site: Site, host: str, port: int, kind: str, module: str = "umnet") -> str:
    command = (SYSTEM_PYTHON, "-c", _TELL, host, str(port), kind)
    return site.run(*_inner(*command, module=module), timeout=60).out.strip()


def _refused(host: str) -> tuple[str, str]:
    """Return what _TELL may say: a plain recv() gets an empty datagram for the error.

    As at the top; see docs/compatibility.md.
    """
    return "ConnectionRefusedError 111", host


@pytest.fixture
def outer(user: User) -> Iterator[Site]:
    """Give a view with nat0, in which others are made."""
    site = Site(user, "outer", "view")
    yield site
    site.close()


@pytest.fixture
def host_port(user: User) -> Iterator[int]:
    """Give a port of the host with an echo server, by TCP and UDP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    site = Site(user, "host", "native")
    with site.serve(SYSTEM_PYTHON, "-c", _ECHO, "127.0.0.1", str(port), says="serves"):
        yield port
    site.close()


@pytest.mark.parametrize("kind", _KINDS)
def test_inner_gateway_is_the_outer_loopback(outer: Site, kind: str) -> None:
    server = (SYSTEM_PYTHON, "-c", _ECHO, "127.0.0.1", "700")
    with outer.serve(*server, says="serves"):
        said = _tell(outer, "10.0.2.2", 700, kind, "umnet,host")
        assert said == "127.0.0.1 hello 10.0.2.2"
        # without the option the gateway leads nowhere, as at the top
        assert _tell(outer, "10.0.2.2", 700, kind) in _refused("10.0.2.2")


@pytest.mark.parametrize("kind", _KINDS)
def test_out_through_two_views_to_the_host(
    user: User, host_port: int, kind: str
) -> None:
    outer = Site(user, "outer", "view", "ip=10.1.0.9/24", "gw=10.1.0.2", "host")
    # the inner view's packets go on by the outer view's routes, whose gateway is the
    # host; the host's own loopback is not what the inner view's gateway means
    assert _tell(outer, "10.1.0.2", host_port, kind) == "127.0.0.1 hello 10.1.0.2"
    outer.close()


@pytest.mark.parametrize("kind", _KINDS)
def test_three_levels(user: User, host_port: int, kind: str) -> None:
    outer = Site(user, "outer", "view", "ip=10.1.0.9/24", "gw=10.1.0.2", "host")
    tell = (SYSTEM_PYTHON, "-c", _TELL, "10.1.0.2", str(host_port), kind)
    run = outer.run(*_inner(*_inner(*_inner(*tell))), timeout=90)
    assert run.out.strip() == "127.0.0.1 hello 10.1.0.2"
    outer.close()


@pytest.mark.parametrize("kind", _KINDS)
def test_no_network_outside_is_none_inside(
    user: User, host_port: int, kind: str
) -> None:
    tell = (SYSTEM_PYTHON, "-c", _TELL, "10.0.2.2", str(host_port), kind)
    inner = _inner(*tell, module="umnet,host")
    run = user.run([str(UMVIEW), "-p", "umnetnull", *inner], "native", timeout=60)
    assert run.stdout.strip() == "OSError 101", run.stderr


@pytest.mark.parametrize("kind", _KINDS)
def test_by_packets_of_the_outer_view(user: User, kind: str) -> None:
    with (
        open_host(user, "peer", "wire=up", "ip=10.7.0.2/24", "ip=fd07::2/64") as peer,
        open_host(user, "outer", "wire=up", "ip=10.7.0.1/24", "ip=fd07::1/64") as outer,
    ):
        for own, far in (("10.7.0.1", "10.7.0.2"), ("fd07::1", "fd07::2")):
            server = (SYSTEM_PYTHON, "-c", _ECHO, far, "700")
            with peer.serve(*server, says="serves"):
                assert _tell(outer, far, 700, kind) == f"{own} hello {far}"
        assert _tell(outer, "10.7.0.2", 701, kind) in _refused("10.7.0.2")
        # no gateway there: no way out
        assert _tell(outer, "192.0.2.1", 700, kind) == "OSError 101"


def test_long_transfer_and_ping_by_packets(user: User) -> None:
    with (
        open_host(user, "peer", "wire=up", "ip=10.7.0.2/24") as peer,
        open_host(user, "outer", "wire=up", "ip=10.7.0.1/24") as outer,
        peer.serve(SYSTEM_PYTHON, "-c", _ECHO, "10.7.0.2", "700", says="serves"),
    ):
        command = (SYSTEM_PYTHON, "-c", _LONG, "10.7.0.2", "700")
        assert outer.run(*_inner(*command), timeout=90).out == "True\n"
        outer.run(*_inner("ping", "-c", "2", "-i", "0.2", "10.7.0.2"), timeout=60)


def test_port_of_the_outer_view_leads_in(outer: Site) -> None:
    server = (SYSTEM_PYTHON, "-c", _ECHO, "10.0.2.15", "80")
    inner = _inner(*server, module="umnet,fwd=8080:80")
    with outer.serve(*inner, says="serves"):
        tell = (SYSTEM_PYTHON, "-c", _TELL, "127.0.0.1", "8080", "SOCK_STREAM")
        for _ in range(3):
            # as at the top: who comes from the loopback behind is shown as the gateway
            assert outer.run(*tell).out.strip() == "10.0.2.2 hello 127.0.0.1"
        taken = _inner("true", module="umnet,fwd=8080:80")
        run = outer.run(*taken, status=125)
        assert "of the enclosing view: Address already in use" in run.err
    assert outer.run(*tell).out.strip() == "ConnectionRefusedError 111"


def test_names_are_asked_of_the_outer_view(user: User) -> None:
    answerer = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.7.0.2", 53))
print("serves", flush=True)
while True:
    asked, peer = sock.recvfrom(512)
    end = asked.index(b"\\0", 12) + 5
    kind = asked[end - 4 : end - 2]
    found = kind == b"\\0\\x01"
    head = asked[:2] + b"\\x84\\0" + b"\\0\\1" + bytes((0, found)) + bytes(4)
    record = b"\\xc0\\x0c" + kind + b"\\0\\1" + bytes(4) + b"\\0\\4\\xc0\\0\\2\\7"
    sock.sendto(head + asked[12:end] + record * found, peer)
"""
    lookup = "import socket; print(socket.gethostbyname('one.example'))"
    with (
        open_host(user, "peer", "wire=up", "ip=10.7.0.2/24") as peer,
        open_host(user, "outer", "wire=up", "ip=10.7.0.1/24", "dns=10.7.0.2") as outer,
        peer.serve(SYSTEM_PYTHON, "-c", answerer, says="serves"),
    ):
        run = outer.run(*_inner(SYSTEM_PYTHON, "-c", lookup), timeout=60)
        assert run.out == "192.0.2.7\n"


@pytest.mark.parametrize(
    "vnl", ["slirp://", "udp://1->127.0.0.1:2", "cmd://true", "agno:///k{vxvde://}"]
)
def test_no_card_leads_round_the_outer_view(outer: Site, vnl: str) -> None:
    run = outer.run(*_inner("true", module=f"umnetlwipv6,vd0={vnl}"), status=125)
    assert "round the enclosing view" in run.err
    assert len(run.err.splitlines()) == 1


def test_each_family_by_its_own_stack(user: User) -> None:
    """Around the inner view each family is another stack's: umnetlink."""
    command = [
        *(str(UMVIEW), "-p", "/dev/net/a=umnet,v4,ip=10.1.0.9/24"),
        *("-p", "/dev/net/b=umnet,v6,ip=fd01::9/64"),
        *("-p", "/dev/net/default=umnetlink,4=/dev/net/a,6=/dev/net/b"),
    ]
    (user.folder / "echo.py").write_text(_ECHO)
    (user.folder / "tell.py").write_text(_TELL)
    script = f"""
PATH={UMVIEW.parent}:$PATH
mstack /dev/net/a {SYSTEM_PYTHON} echo.py 10.1.0.9 700 > a.out &
one=$!
mstack /dev/net/b {SYSTEM_PYTHON} echo.py fd01::9 700 > b.out &
other=$!
until [ -s a.out ] && [ -s b.out ]; do sleep 0.1; done
umview -p umnet {SYSTEM_PYTHON} tell.py 10.1.0.9 700 SOCK_STREAM
umview -p umnet {SYSTEM_PYTHON} tell.py fd01::9 700 SOCK_STREAM
kill $one $other
"""
    run = user.run([*command, "sh", "-c", script], "native", timeout=90)
    assert run.stdout.splitlines() == [
        "10.1.0.9 hello 10.1.0.9",
        "fd01::9 hello fd01::9",
    ], run.stderr


def test_stack_behind_is_unmounted_in_use(user: User) -> None:
    """What stands there for an inner socket keeps the stack until that has ended."""
    command = [
        *(str(UMVIEW), "-p", "/dev/net/a=umnet,v4,ip=10.1.0.9/24"),
        *("-p", "/dev/net/default=umnetlink,4=/dev/net/a"),
    ]
    held = """
import os, socket, sys, time
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(30)
one.connect(("10.1.0.9", 700))
one.send(b"hello")
print(one.recv(99).decode(), flush=True)
open("asked", "w").close()
while not os.path.exists("gone"):
    time.sleep(0.05)
one.close()
"""
    (user.folder / "echo.py").write_text(_ECHO)
    (user.folder / "held.py").write_text(held)
    script = f"""
PATH={UMVIEW.parent}:$PATH
mstack /dev/net/a {SYSTEM_PYTHON} echo.py 10.1.0.9 700 > a.out &
server=$!
until [ -s a.out ]; do sleep 0.1; done
umview -p umnet {SYSTEM_PYTHON} held.py &
inner=$!
until [ -e asked ]; do sleep 0.1; done
umctl umount -l /dev/net/a && kill $server
touch gone
wait $inner && umctl ls --json > listed && echo on
"""
    run = user.run([*command, "sh", "-c", script], "native", timeout=90)
    said = (run.stdout.splitlines(), run.returncode)
    assert said == (["10.1.0.9 hello", "on"], 0), run.stderr


def test_udp_forward_inside_is_refused(outer: Site) -> None:
    run = outer.run(*_inner("true", module="umnet,fwd=53:53/udp"), status=125)
    assert "by TCP only" in run.err
