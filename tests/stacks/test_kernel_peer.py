"""A view and the Linux kernel's stack on one switch, each as the other's peer."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Site, User, require
from tests.stacks.lab import open_host, open_kernel
from tests.switch import Switch, open_switch

_SIZE = 8 << 20

# Echoes streams on port 80 and datagrams on port 90; what comes to port 81 is reset,
# what comes to port 82 is answered only when its sender has said all.
_SERVER = """
import selectors, socket, struct, threading

def listen(port):
    return socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
    )

def echo(c):
    while data := c.recv(1 << 16):
        c.sendall(data)

def reset(c):
    c.recv(1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

def whole(c):
    parts = []
    while data := c.recv(1 << 16):
        parts.append(data)
    c.sendall(b"".join(parts))

def serve(work, listener):
    while True:
        c, _ = listener.accept()
        with c:
            work(c)

def datagrams(s):
    while True:
        s.sendto(*s.recvfrom(1 << 16))

s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 90))
work = [(datagrams, s)]
for port, what in ((80, echo), (81, reset), (82, whole)):
    work.append((serve, what, listen(port)))
for fn, *args in work:
    threading.Thread(target=fn, args=args).start()
print("serves", flush=True)
"""

_STREAM = """
import os, socket, sys, threading
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.create_connection((host, port), timeout=60)
data, got = os.urandom(size), bytearray()
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send)
thread.start()
while part := s.recv(1 << 16):
    got += part
thread.join()
print(got == data, len(got))
"""

_ERROR = """
import errno, socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), getattr(socket, sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, kind)
s.settimeout(60)
try:
    s.connect((host, port))
    s.send(b"x")
    while s.recvfrom(1)[0]:
        pass
    print("closed")
except OSError as exc:
    print(errno.errorcode[exc.errno])
"""

_DATAGRAMS = """
import ipaddress, os, socket, sys
host = str(ipaddress.ip_address(sys.argv[1]))
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(30)
for size in (0, 1, 1452, 1453, 1472, 1473, 30000, 65487):
    data = os.urandom(size)
    s.sendto(data, (host, 90))
    got, peer = s.recvfrom(1 << 16)
    print(size, got == data, peer[:2] == (host, 90))
"""


class Ends(NamedTuple):
    """A server and a client on a switch, one of them a view."""

    server: Site
    client: Site
    hosts: dict[int, str]


class Pair(NamedTuple):
    """A view and a namespace, each with the server."""

    switch: Switch
    view: Site
    kernel: Site


@pytest.fixture(scope="module")
def pair(module_user: User) -> Iterator[Pair]:
    with (
        open_switch(module_user) as switch,
        open_host(module_user, "view", switch.card(1)) as view,
        open_kernel(module_user, "kernel", switch.card(2)) as kernel,
        view.serve(SYSTEM_PYTHON, "-c", _SERVER, says="serves"),
        kernel.serve(SYSTEM_PYTHON, "-c", _SERVER, says="serves"),
    ):
        yield Pair(switch, view, kernel)


@pytest.fixture(params=["from-view", "from-kernel"])
def ends(request: pytest.FixtureRequest, pair: Pair) -> Ends:
    switch, view, kernel = pair
    if request.param == "from-view":
        return Ends(kernel, view, {4: switch.host(2), 6: switch.host6(2)})
    return Ends(view, kernel, {4: switch.host(1), 6: switch.host6(1)})


@pytest.mark.parametrize("family", [4, 6])
def test_every_byte_of_a_stream_arrives(ends: Ends, family: int) -> None:
    words = (ends.hosts[family], "80", str(_SIZE))
    done = ends.client.run(SYSTEM_PYTHON, "-c", _STREAM, *words, timeout=60)
    assert done.out.split() == ["True", str(_SIZE)]


@pytest.mark.parametrize("family", [4, 6])
def test_an_answer_after_the_half_close(ends: Ends, family: int) -> None:
    words = (ends.hosts[family], "82", "1000000")
    done = ends.client.run(SYSTEM_PYTHON, "-c", _STREAM, *words, timeout=60)
    assert done.out.split() == ["True", "1000000"]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("port", "kind", "error"),
    [
        (81, "SOCK_STREAM", "ECONNRESET"),
        (99, "SOCK_STREAM", "ECONNREFUSED"),
        (99, "SOCK_DGRAM", "ECONNREFUSED"),
    ],
    ids=["reset", "refused", "udp-refused"],
)
def test_errors(ends: Ends, family: int, port: int, kind: str, error: str) -> None:
    words = (ends.hosts[family], str(port), kind)
    assert ends.client.run(SYSTEM_PYTHON, "-c", _ERROR, *words).out.split() == [error]


@pytest.mark.parametrize("family", [4, 6])
def test_datagrams_with_and_without_fragments(ends: Ends, family: int) -> None:
    done = ends.client.run(SYSTEM_PYTHON, "-c", _DATAGRAMS, ends.hosts[family])
    lines = done.out.splitlines()
    assert len(lines) == 8
    assert all(line.endswith(" True True") for line in lines), done.out


@pytest.mark.parametrize("size", [56, 1472, 1473, 65000])
@pytest.mark.parametrize("family", [4, 6])
def test_echoes(ends: Ends, family: int, size: int) -> None:
    require("ping")
    words = ("-c3", "-i.2", "-W20", "-s", str(size), ends.hosts[family])
    done = ends.client.run("ping", *words)
    assert "3 packets transmitted, 3 received" in done.out


@pytest.mark.parametrize("family", [4, 6])
def test_curl_fetches_from_python(ends: Ends, family: int) -> None:
    require("curl")
    content = random.Random(family).randbytes(3 << 20)
    folder = ends.server.folder / "www"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_bytes(content)
    got = ends.client.folder / "got"
    host = ends.hosts[family]
    url = f"http://{f'[{host}]' if family == 6 else host}:8080/file"
    web = ["-m", "http.server", "-b", "::", "-d", str(folder), "8080"]
    with ends.server.serve(SYSTEM_PYTHON, *web, port=8080):
        ends.client.run("curl", "-sS", "--noproxy", "*", "-o", str(got), url)
    assert got.read_bytes() == content


@pytest.mark.parametrize("family", [4, 6])
def test_socat_and_netcat(ends: Ends, family: int) -> None:
    require("nc", "socat")
    file = ends.client.folder / "said"
    file.write_bytes(random.Random(family).randbytes(1 << 20))
    host = ends.hosts[family]
    listen = f"TCP{family}-LISTEN:7000,reuseaddr,fork"
    with ends.server.serve("socat", listen, "EXEC:sha256sum", port=7000, host=host):
        done = ends.client.run("nc", "-N", host, "7000", stdin=file)
    assert done.out.split()[0] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("words", [(), ("-P4", "--bidir"), ("-u", "-b10M")])
def test_iperf3(ends: Ends, words: tuple[str, ...]) -> None:
    """It checks the amounts of both ends itself."""
    require("iperf3")
    with ends.server.serve(
        "iperf3", "-s", "-1", "--forceflush", says="Server listening"
    ):
        done = ends.client.run("iperf3", "-J", "-t1", *words, "-c", ends.hosts[4])
    end = json.loads(done.out)["end"]
    assert end["sum" if "-u" in words else "sum_received"]["bytes"] > 100_000


def test_the_kernel_knows_the_view_as_a_neighbour(pair: Pair) -> None:
    switch, view, kernel = pair
    mac = json.loads(view.run("ip", "-j", "link", "show", "vd0").out)[0]["address"]
    for host in (switch.host(1), str(ip_address(switch.host6(1)))):
        kernel.run("ping", "-c1", "-W20", host)
        neighbours = json.loads(kernel.run("ip", "-j", "neigh").out)
        assert mac in [one["lladdr"] for one in neighbours if one["dst"] == host]


class Route(NamedTuple):
    """A view and a namespace on two switches with a router of the kernel's between."""

    view: Site
    router: Site
    kernel: Site
    near: Switch
    far: Switch


@pytest.fixture
def route(user: User) -> Iterator[Route]:
    with (
        open_switch(user, 0) as near,
        open_switch(user, 1) as far,
        open_kernel(
            user, "router", near.card(9), far.card(9, "vd1"), "forward"
        ) as router,
        open_host(user, "view", near.card(1), *_gateways(near)) as view,
        open_kernel(user, "kernel", far.card(2), *_gateways(far)) as kernel,
        view.serve(SYSTEM_PYTHON, "-c", _SERVER, says="serves"),
        kernel.serve(SYSTEM_PYTHON, "-c", _SERVER, says="serves"),
    ):
        yield Route(view, router, kernel, near, far)


def _gateways(switch: Switch) -> tuple[str, str]:
    return f"gw={switch.host(9)}", f"gw={switch.host6(9)}"


@pytest.mark.parametrize("mtu", [1280, 1400])
def test_a_narrow_place_on_the_path(route: Route, mtu: int) -> None:
    """Both ends learn of it only by what the router says."""
    view, router, kernel, near, far = route
    for switch, number, card in ((near, 1, "vd0"), (far, 2, "vd1")):
        for host in (switch.host(number), switch.host6(number)):
            words = ("route", "add", host, "dev", card, "mtu", "lock", str(mtu))
            router.run("ip", *words)
    for client, host in (
        (view, far.host(2)),
        (view, far.host6(2)),
        (kernel, near.host(1)),
        (kernel, near.host6(1)),
    ):
        done = client.run(SYSTEM_PYTHON, "-c", _STREAM, host, "80", str(1 << 20))
        assert done.out.split() == ["True", str(1 << 20)], host
        client.run("ping", "-c1", "-W20", "-s9000", host)
        done = client.run(SYSTEM_PYTHON, "-c", _DATAGRAMS, host)
        assert all(x.endswith(" True True") for x in done.out.splitlines())
