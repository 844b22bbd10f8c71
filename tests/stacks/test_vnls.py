"""Cards in whatever a VNL can name: each plug-in of libvdeplug that fits, in use."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Site, User, require
from tests.setting import umview
from tests.stacks.lab import ECHO_SERVER, open_host, open_kernel
from tests.switch import Switch

_CLIENT = """
import os, socket, sys, threading
for host in sys.argv[1:]:
    s = socket.create_connection((host, 80), timeout=60)
    data, got = os.urandom(1 << 18), bytearray()
    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=send)
    thread.start()
    while part := s.recv(1 << 16):
        got += part
    thread.join()
    print(got == data)
"""


def _card(vnl: str, number: int) -> str:
    return f"vd0={vnl},ip=10.0.7.{number}/24,ip=fd00:7::{number}/64"


def _hosts(number: int) -> tuple[str, str]:
    return f"10.0.7.{number}", f"fd00:7::{number}"


def _udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _pair(kind: str, user: User, switch: Switch) -> tuple[str, str]:
    """Return two VNLs that lead to each other; the first is opened first."""
    node = f"{user.folder}/node"
    if kind in {"switch", "hub", "multi", "bonding"}:
        return f"{kind}://{node}", f"vde://{node}"
    if kind == "ptp":
        return f"ptp://{node}", f"ptp://{node}"
    if kind == "cmd":
        return f"cmd://vde_plug {switch.vnl}", switch.vnl
    if kind == "agno":
        (user.folder / "key").write_text("0123456789abcdef0123456789abcdef\n")
        vnl = f"agno://{user.folder}/key{{{switch.vnl}}}"
        return vnl, vnl
    one, other = _udp_port(), _udp_port()
    return (
        f"udp://127.0.0.1:{one}->127.0.0.1:{other}",
        f"udp://127.0.0.1:{other}->127.0.0.1:{one}",
    )


def _ready(site: Site) -> contextlib.AbstractContextManager[None]:
    """Wait until its view stands, for others may need what it opens."""
    site.run("true")
    return contextlib.nullcontext()


def _check(server: Site, client: Site, hosts: tuple[str, ...]) -> None:
    with server.serve(SYSTEM_PYTHON, "-c", ECHO_SERVER, says="serves"):
        done = client.run(SYSTEM_PYTHON, "-c", _CLIENT, *hosts, timeout=60)
    assert done.out.split() == ["True"] * len(hosts)
    for host in hosts:
        said = client.run("ping", "-c2", "-i.2", "-W20", "-s3000", host).out
        assert "2 packets transmitted, 2 received" in said


@pytest.mark.parametrize(
    "kind", ["agno", "bonding", "cmd", "hub", "multi", "ptp", "switch", "udp"]
)
def test_two_views_meet(user: User, switch: Switch, kind: str) -> None:
    require("ping", "vde_plug")
    one, other = _pair(kind, user, switch)
    with (
        open_host(user, "server", _card(one, 1)) as server,
        _ready(server),
        open_host(user, "client", _card(other, 2)) as client,
    ):
        _check(server, client, _hosts(1))
        _check(client, server, _hosts(2))


def test_vxvde_joins_views_of_two_network_namespaces(
    user: User, switch: Switch
) -> None:
    """The namespaces stand for two hosts on a local network, which the switch is."""

    def view(number: int, *command: str) -> list[str]:
        card = _card("vxvde://239.1.2.3/if=vd0", number)
        return umview("-p", f"umnetlwipv6,{card}", *command)

    with (
        open_kernel(user, "one", switch.card(1)) as one,
        open_kernel(user, "other", switch.card(2)) as other,
    ):
        for host in (one, other):
            host.run("ip", "route", "add", "239.0.0.0/8", "dev", "vd0")
        command = view(1, SYSTEM_PYTHON, "-c", ECHO_SERVER)
        with one.serve(*command, says="serves"):
            done = other.run(*view(2, SYSTEM_PYTHON, "-c", _CLIENT, *_hosts(1)))
    assert done.out.split() == ["True", "True"]


_HOST = """
import socket, threading

def listen(family, address):
    s = socket.create_server((address, 0), family=family)
    t = socket.socket(family, socket.SOCK_DGRAM)
    t.bind((address, 0))
    threading.Thread(target=streams, args=(s,)).start()
    threading.Thread(target=datagrams, args=(t,)).start()
    return s.getsockname()[1], t.getsockname()[1]

def streams(s):
    while True:
        c, _ = s.accept()
        with c:
            while data := c.recv(1 << 16):
                c.sendall(data)

def datagrams(s):
    while True:
        s.sendto(*s.recvfrom(1 << 16))

ports = *listen(socket.AF_INET, "127.0.0.1"), *listen(socket.AF_INET6, "::1")
print("ports", *ports, flush=True)
"""

_THROUGH_SLIRP = """
import os, socket, sys, threading
host, stream, datagram = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
s = socket.create_connection((host, stream), timeout=60)
data, got = os.urandom(1 << 18), bytearray()
thread = threading.Thread(target=s.sendall, args=(data,))
thread.start()
while len(got) < len(data):
    got += s.recv(1 << 16)
thread.join()
print(got == data)
s = socket.socket(s.family, socket.SOCK_DGRAM)
s.settimeout(30)
# It puts no fragments of IPv6 together.
for size in (1, 1000, 4000)[: 2 if ":" in host else 3]:
    data = os.urandom(size)
    s.sendto(data, (host, datagram))
    print(s.recvfrom(1 << 16) == (data, (host, datagram, 0, 0)[: len(s.getsockname())]))
"""


def _through_slirp(user: User, family: int, words: str) -> None:
    """Let a view reach servers of this host's loopback, as slirp's own address."""
    host, first = ("10.0.2.2", 1) if family == 4 else ("fd00::2", 3)
    site = Site(user, "host", "native")
    with (
        contextlib.closing(site),
        site.serve(SYSTEM_PYTHON, "-c", _HOST, says="ports") as server,
        open_host(user, "view", f"vd0=slirp://,{words}") as view,
    ):
        ports = server.wait_for("\n").split()[first : first + 2]
        done = view.run(SYSTEM_PYTHON, "-c", _THROUGH_SLIRP, host, *ports)
        assert done.out.split() == ["True"] * (4 if family == 4 else 3)
        view.run("ping", "-c1", "-W20", host)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        (4, "ip=10.0.2.15/24,gw=10.0.2.2"),
        (4, "dhcp"),
        (6, "ip=fd00::15/64,gw=fd00::2"),
        (6, "slaac"),
    ],
    ids=["ipv4", "dhcp", "ipv6", "slaac"],
)
def test_slirp_leads_to_the_host(user: User, family: int, words: str) -> None:
    require("ping")
    _through_slirp(user, family, words)


def _complaint(user: User, vnl: str) -> str:
    """Return what umview says of a card that cannot be plugged in."""
    done = user.run(["true"], "stack", f"vd0={vnl},ip=10.0.7.1/24")
    assert (done.returncode, done.stdout) == (125, "")
    begin, _, said = done.stderr.partition("umview: umnetlwipv6: ")
    assert (begin, said.count("\n"), said[-1:]) == ("", 1, "\n")
    return said[:-1]


@pytest.mark.parametrize(
    ("vnl", "says"),
    [
        (
            "vde:///nosuch",
            "No such file or directory: no switch runs there; "
            "vde_switch -s /nosuch starts one",
        ),
        (
            "nosuch://x",
            "Protocol not supported: no plug-in nosuch is installed; "
            "Debian's are libvdeplug-NAME",
        ),
        ("udp://1", "No such device: man libvdeplug_udp says how it is written"),
        ("ptp:///nosuch/x", "No such file or directory"),
        ("agno:///nosuch{vde:///nosuch}", "No such file or directory"),
        ("pcap://nosuch", "Operation not permitted"),
        ("cmd://nosuch", "Broken pipe: the command has ended at once"),
    ],
    ids=["no-switch", "no-plug-in", "not-so-written", "ptp", "agno", "pcap", "cmd"],
)
def test_a_card_that_cannot_be_plugged_in(user: User, vnl: str, says: str) -> None:
    assert _complaint(user, vnl) == f"vd0: cannot plug into {vnl}: {says}"


def test_a_tap_of_nobody(user: User) -> None:
    said = _complaint(user, "tap://umtnosuch")
    assert said.startswith("vd0: cannot plug into tap://umtnosuch: ")
    assert said.endswith(
        ": root can open it to you: ip tuntap add NAME mode tap user YOU"
    )


def test_a_switch_of_somebody_else(user: User, switch: Switch) -> None:
    (switch.folder / "ctl").chmod(0)
    if os.geteuid() == 0:
        pytest.skip("root may open everything")
    assert _complaint(user, switch.vnl) == (
        f"vd0: cannot plug into {switch.vnl}: Permission denied: "
        "the switch is another's, who can start it with -m 666"
    )


def test_a_switch_without_a_free_port(user: User, switch: Switch) -> None:
    vnl = f"{switch.vnl}[10000]"
    assert _complaint(user, vnl) == (
        f"{vnl}: no answer within 5 s: are all its ports taken?"
    )


def test_a_command_that_waits_for_ever_ends_with_its_view(user: User) -> None:
    """The fixture sees that nothing is left."""
    assert user.run(["true"], "stack", "vd0=cmd://sleep 1000").returncode == 0


def _require_tun() -> None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as exc:
        pytest.skip(f"/dev/net/tun: {exc.strerror}")


def test_a_tap_leads_to_the_kernel(user: User) -> None:
    _require_tun()
    card = "tp0=tap0,ip=10.0.7.1/24,ip=fd00:7::1/64"
    view = umview("-p", f"umnetlwipv6,{card}", SYSTEM_PYTHON, "-c", ECHO_SERVER)
    with open_kernel(user, "kernel") as kernel:
        for words in ("tuntap add tap0 mode tap", "link set tap0 up"):
            kernel.run("ip", *words.split())
        for own in ("10.0.7.2/24", "fd00:7::2/64"):
            kernel.run("ip", "address", "add", own, "dev", "tap0", "nodad")
        with kernel.serve(*view, says="serves"):
            done = kernel.run(SYSTEM_PYTHON, "-c", _CLIENT, *_hosts(1))
    assert done.out.split() == ["True", "True"]


def test_vdens_meets_a_view(user: User, switch: Switch) -> None:
    _require_tun()
    require("vdens", "ip")
    script = (
        "ip link set vde0 up; ip address add 10.0.7.2/24 dev vde0; "
        'exec /usr/bin/python3 -c "$0" 10.0.7.1'
    )
    with (
        open_host(user, "server", _card(switch.vnl, 1)) as server,
        server.serve(SYSTEM_PYTHON, "-c", ECHO_SERVER, says="serves"),
    ):
        done = subprocess.run(
            user.command(["vdens", switch.vnl, "sh", "-c", script, _CLIENT], "native"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=user.folder,
            env=user.environment(),
        )
    assert done.stdout.split() == ["True"], done.stderr
