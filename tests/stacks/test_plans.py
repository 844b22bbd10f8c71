"""Address plans: what DHCP servers, routers and name servers give to a view's cards."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from subprocess import PIPE

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Finished, Site, User, require
from tests.stacks.lab import open_host, open_kernel, require_namespaces
from tests.switch import Switch, open_switch

pytestmark = pytest.mark.view

_DOMAIN = "lab.test"
_NAME = f"here.{_DOMAIN}"
_RANGE = range(50, 60)

_RADVD = """
interface vd0 {
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvOtherConfigFlag %(other)s;
    prefix %(prefix)s { AdvValidLifetime %(lifetime)d; AdvPreferredLifetime 3; };
    RDNSS %(server)s { };
};
"""


_LISTENER = """
import socket, struct
names = {20: "NEWADDR", 21: "DELADDR", 24: "NEWROUTE", 25: "DELROUTE"}
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
s.bind((0, 1 << 8 | 1 << 10))  # RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE
print("listens")
while True:
    print("RTM_" + names[struct.unpack_from("=IH", s.recv(1 << 16))[1]])
"""


_ECHO = """
import socket
s = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, peer = s.accept()
    with c:
        print(peer[0])
        while data := c.recv(1 << 16):
            c.sendall(data)
"""

_STREAM = """
import os, socket, sys, threading
s = socket.create_connection((sys.argv[1], 80), timeout=30)
data, got = os.urandom(1 << 20), bytearray()
def send():
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send)
thread.start()
while part := s.recv(1 << 16):
    got += part
thread.join()
assert got == data
"""


_REACH = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
assert s.getsockname()[0] == "10.0.2.15", s
"""


_UNTIL_ROUTED = """
import subprocess, sys, time
for _ in range(300):
    found = subprocess.run(["ip", "-6", "route"], capture_output=True, text=True).stdout
    if "default via fe80::" in found:
        break
    time.sleep(.1)
else:
    raise SystemExit(found)
for _ in range(300):
    if not subprocess.run(["ping", "-c1", "-W1", sys.argv[1]]).returncode:
        break
    time.sleep(.1)
else:
    raise SystemExit("no answer")
"""


def _dnsmasq(switch: Switch, user: User, *words: str) -> list[str]:
    return [
        *("dnsmasq", "-d", "-C", "/dev/null", "--no-resolv", "--no-hosts"),
        *("--user=root", "--group=", "--pid-file=", "--no-ping", "--log-dhcp"),
        f"--dhcp-leasefile={user.folder}/leases",
        f"--domain={_DOMAIN}",
        f"--address=/{_NAME}/{switch.host(77)}",
        *words,
    ]


def _range4(switch: Switch) -> str:
    first, last = switch.host(_RANGE[0]), switch.host(_RANGE[-1])
    return f"--dhcp-range={first},{last},2m"


def _one_run(user: User, options: str, *script: str) -> Finished:
    """Run a shell script as the command of a view of its own."""
    text = "; ".join(script)
    done = user.run(["sh", "-c", text], "stack", *options.split(","), timeout=60)
    return Finished(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def _dhcp_in_a_view(user: User, switch: Switch) -> Iterator[Site]:
    """Run dnsmasq, which wants to be root somewhere, in a view that is no-one's."""
    require("dnsmasq")
    require_namespaces(user)
    with open_host(user, "server", switch.card(1)) as site:
        command = ("unshare", "-Ur", *_dnsmasq(switch, user, _range4(switch)))
        with site.serve(*command, says="cleared cache"):
            yield site


def _addresses(text: str, name: str = "vd0") -> list[str]:
    """Return the addresses in the output of ``ip -j address``."""
    (card,) = [one for one in json.loads(text) if one["ifname"] == name]
    return [f"{own['local']}/{own['prefixlen']}" for own in card["addr_info"]]


def test_dhcp_gives_address_router_domain_and_name_server(
    user: User, switch: Switch
) -> None:
    with _dhcp_in_a_view(user, switch):
        done = _one_run(
            user,
            f"vd0={switch.vnl},dhcp",
            "ip -j address",
            "ip route",
            "cat /etc/resolv.conf",
            f"getent hosts {_NAME}",
            f"ping -c1 -W9 {switch.host(1)} | grep received",
        )
    addresses, *rest = done.out.splitlines()
    own, near = _addresses(addresses)
    assert int(own.split(".")[3].split("/")[0]) in _RANGE
    assert ip_interface(own).network.prefixlen == 24
    assert near.startswith("fe80::")
    text = "\n".join(rest)
    assert f"default via {switch.host(1)} dev vd0" in text
    assert f"search {_DOMAIN}\nnameserver {switch.host(1)}\n" in text
    assert f"{switch.host(77)} " in text
    assert "1 packets transmitted, 1 received" in text
    assert (done.status, done.err) == (0, "")


@contextlib.contextmanager
def _router(user: User, switch: Switch, *options: str) -> Iterator[Site]:
    """Give a switch a router with the kernel's stack."""
    words = [switch.card(1), "forward", *options]
    with open_kernel(user, "router", *words) as site:
        yield site


@contextlib.contextmanager
def _announced(
    site: Site, prefix: str, server: str, *, other: bool = False, lifetime: int = 60
) -> Iterator[None]:
    """Have a router announce itself and a prefix."""
    require("radvd")
    folder = site.user.folder
    config = folder / "radvd.conf"
    config.write_text(
        _RADVD
        % {
            "prefix": prefix,
            "server": server,
            "other": "on" if other else "off",
            "lifetime": lifetime,
        }
    )
    command = ("radvd", "-n", "-m", "stderr", "-C", str(config))
    with site.serve(*command, "-p", f"{folder}/radvd.pid", says="version"):
        yield


def test_slaac_gives_address_router_and_name_server(user: User, switch: Switch) -> None:
    network = f"fd00:{switch.number}::"
    with (
        _router(user, switch) as site,
        _announced(site, f"{network}/64", switch.host6(1)),
    ):
        done = _one_run(
            user,
            f"vd0={switch.vnl},mac=02:00:00:00:00:42,rd,slaac",
            "ip -j address",
            "ip -6 route",
            "cat /etc/resolv.conf",
            f"ping -c1 -W9 {switch.host6(1)} | grep received",
        )
    addresses, *rest = done.out.splitlines()
    own = ip_interface(f"{network}ff:fe00:42/64")
    assert _addresses(addresses)[0] == str(own)
    text = "\n".join(rest)
    assert "default via fe80::" in text
    assert f"nameserver {ip_address(switch.host6(1))}\n" in text
    assert "1 packets transmitted, 1 received" in text
    assert (done.status, done.err) == (0, "")


def test_auto_takes_what_both_families_offer(user: User, switch: Switch) -> None:
    require("dnsmasq")
    server = str(ip_address(switch.host6(1)))
    command = _dnsmasq(
        switch,
        user,
        _range4(switch),
        "--enable-ra",
        f"--dhcp-range={server},ra-stateless,64",
        f"--dhcp-option=option6:dns-server,[{server}]",
        f"--dhcp-option=option6:domain-search,six.{_DOMAIN}",
    )
    with _router(user, switch) as site, site.serve(*command, says="cleared cache"):
        done = _one_run(
            user,
            f"vd0={switch.vnl},auto",
            "ip -j address",
            "ip route",
            "ip -6 route",
            "cat /etc/resolv.conf",
            f"ping -c1 -W9 {switch.host(1)} | grep received",
            f"ping -c1 -W9 {server} | grep received",
        )
    addresses, *rest = done.out.splitlines()
    networks = [str(ip_interface(own).network) for own in _addresses(addresses)]
    own4, own6 = ip_interface(switch.host(1) + "/24"), ip_interface(f"{server}/64")
    assert networks == [str(own4.network), str(own6.network), "fe80::/64"]
    text = "\n".join(rest)
    assert text.count("default via ") == 2
    assert f"nameserver {switch.host(1)}\n" in text
    assert f"nameserver {server}\n" in text
    assert f"search {_DOMAIN}\n" in text
    assert text.count("1 packets transmitted, 1 received") == 2
    assert (done.status, done.err) == (0, "")


def test_dhcp6_alone_asks_for_name_servers(user: User, switch: Switch) -> None:
    require("dnsmasq")
    server = str(ip_address(switch.host6(1)))
    command = _dnsmasq(
        switch,
        user,
        f"--dhcp-range={server},static,64",
        f"--dhcp-option=option6:dns-server,[{server}]",
    )
    with _router(user, switch) as site, site.serve(*command, says="cleared cache"):
        done = _one_run(
            user,
            f"vd0={switch.vnl},ip={switch.host6(2)}/64,dhcp6",
            "cat /etc/resolv.conf",
            f"getent hosts {_NAME}",
        )
    assert done.out.startswith(f"nameserver {server}\n")
    assert switch.host(77) in done.out
    assert (done.status, done.err) == (0, "")


def test_dhcp_of_slirp(user: User, switch: Switch) -> None:
    require("slirpvde")
    command = ["slirpvde", "-D", "-s", str(switch.folder)]
    with user.popen(command, "native"):
        done = _one_run(
            user,
            f"vd0={switch.vnl},dhcp",
            "ip -j address",
            "ip route",
            "cat /etc/resolv.conf",
        )
    addresses, *rest = done.out.splitlines()
    assert _addresses(addresses)[0].startswith("10.0.2.")
    text = "\n".join(rest)
    assert "default via 10.0.2.2 dev vd0" in text
    assert "nameserver 10.0.2.3" in text
    assert (done.status, done.err) == (0, "")


def test_a_network_without_servers(user: User, switch: Switch) -> None:
    address = ["ip", "-j", "address"]
    vnl = f"vd0={switch.vnl}"
    with (
        user.popen(address, "stack", vnl, "dhcp", stdout=PIPE, stderr=PIPE) as needs,
        user.popen(address, "stack", vnl, "auto", stdout=PIPE, stderr=PIPE) as wants,
    ):
        text, complaint = wants.communicate(timeout=60)
        assert [own[:6] for own in _addresses(text)] == ["fe80::"]
        asked = "dhcp, dhcp6, rd, slaac"
        assert complaint == (
            f"umview: vd0: {asked}: no answer within 10 s; started without\n"
        )
        assert wants.returncode == 0
        text, complaint = needs.communicate(timeout=60)
        assert (needs.returncode, text) == (125, "")
        start = "umview: umnetlwipv6: vd0: dhcp: no answer within 20 s; "
        assert complaint.startswith(start)
        assert complaint.count("\n") == 1


def test_what_changes_while_a_view_runs_is_told(user: User, switch: Switch) -> None:
    one, two = "fd00:100::", "fd00:200::"
    own = f"vd0={switch.vnl}", "mac=02:00:00:00:00:42", "auto6"
    with (
        _router(user, switch, f"ip={one}1/64", f"ip={two}1/64") as router,
        contextlib.ExitStack() as stack,
    ):
        with _announced(router, f"{one}/64", f"{one}1"):
            client = stack.enter_context(open_host(user, "client", *own))
            listener = client.begin(SYSTEM_PYTHON, "-u", "-c", _LISTENER)
            listener.wait_for("listens")
            assert f"nameserver {one}1\n" in _cat(client, "/etc/resolv.conf")
        listener.wait_for("RTM_DELROUTE")  # radvd says farewell
        assert "default" not in client.run("ip", "-6", "route").out
        with _announced(router, f"{two}/64", f"{two}1"):
            listener.wait_for("RTM_NEWADDR")
            said = listener.wait_for("RTM_NEWROUTE", times=3)
            assert said.index("RTM_NEWADDR") < said.rindex("RTM_NEWROUTE")
            text = client.run("ip", "-j", "address").out
            new = f"{two}ff:fe00:42"
            assert f"{new}/64" in _addresses(text)
            assert "default via fe80::" in client.run("ip", "-6", "route").out
            assert f"nameserver {two}1\n" in _cat(client, "/etc/resolv.conf")
            assert f"{new} " in _cat(client, "/etc/hosts")
            packed = ip_address(new).packed.hex()
            assert packed in _cat(client, "/proc/net/if_inet6")
            client.run("ping", "-c1", "-W9", f"{two}1")


def _cat(site: Site, path: str) -> str:
    return site.run("cat", path).out


# ---- forwarding ----


@pytest.fixture
def far(user: User) -> Iterator[Switch]:
    """Give a test a second switch."""
    with open_switch(user, 1) as opened:
        yield opened


@contextlib.contextmanager
def _between(user: User, near: Switch, far: Switch) -> Iterator[tuple[Site, Site]]:
    """Open two hosts, each on a switch, and a view that forwards between them."""
    middle = [near.card(1), far.card(1, "vd1"), "forward"]
    ways = [
        f"gw={near.host(1)},gw={near.host6(1)}",
        f"gw={far.host(1)},gw={far.host6(1)}",
    ]
    with (
        open_host(user, "router", *middle),
        open_host(user, "near", near.card(2), ways[0]) as one,
        open_host(user, "far", far.card(2), ways[1]) as other,
    ):
        yield one, other


def test_a_view_forwards_between_two_switches(
    user: User, switch: Switch, far: Switch
) -> None:
    require("ping", "tracepath")
    with _between(user, switch, far) as (one, other):
        command = (SYSTEM_PYTHON, "-u", "-c", _ECHO)
        with other.serve(*command, port=80) as server:
            for first, host, ttl in (
                (switch.host(1), far.host(2), 63),
                (switch.host6(1), far.host6(2), 254),  # lwIP's answers start at 255
            ):
                assert f"ttl={ttl} " in one.run("ping", "-c1", "-W9", host).out
                one.run(SYSTEM_PYTHON, "-c", _STREAM, host)
                path = one.run("tracepath", "-n", "-m4", "-l1400", host).out
                hops = [line.split()[:2] for line in path.splitlines()]
                assert ["1:", str(ip_address(first))] in hops, path
                assert ["2:", str(ip_address(host))] in hops, path
            lines = server.output.read_text().split()
        peers = {ip_address(line.removeprefix("::ffff:")) for line in lines}
        assert peers >= {ip_address(switch.host(2)), ip_address(switch.host6(2))}


def test_a_stack_has_nat0_and_an_ethernet(user: User, switch: Switch) -> None:
    """The longest prefix chooses; of equals, the card that is named first."""
    with (
        socket.create_server(("127.0.0.1", 0)) as host,
        open_host(user, "far", switch.card(2)) as far,
    ):
        port = host.getsockname()[1]
        own = ["nat0", "host", switch.card(1), f"gw={switch.host(2)}"]
        with (
            far.serve(SYSTEM_PYTHON, "-u", "-c", _ECHO, port=80),
            open_host(user, "both", *own) as both,
        ):
            both.run(SYSTEM_PYTHON, "-c", _STREAM, switch.host(2))
            both.run(SYSTEM_PYTHON, "-c", _REACH, "10.0.2.2", str(port))
            host.accept()[0].close()
            routes = both.run("ip", "route").out
            ways = [line for line in routes.splitlines() if line.startswith("default")]
            assert [line.split()[4] for line in ways] == ["nat0", "vd0"]
            assert _cat(both, "/etc/resolv.conf").startswith("nameserver 10.0.2.3\n")


def test_without_addresses_a_card_has_its_link(user: User, switch: Switch) -> None:
    mac = "mac=02:00:00:00:00:77"
    near = "fe80::ff:fe00:77"
    with (
        open_host(user, "far", f"vd0={switch.vnl}", mac) as far,
        open_host(user, "near", f"vd0={switch.vnl}") as site,
        far.serve(SYSTEM_PYTHON, "-u", "-c", _ECHO, port=80),
    ):
        site.run("ping", "-c1", "-W9", f"{near}%vd0")
        site.run(SYSTEM_PYTHON, "-c", _STREAM, f"{near}%vd0")
        said = site.run(SYSTEM_PYTHON, "-c", _STREAM, near, status=1).err
        assert "Invalid argument" in said
        said = site.run(SYSTEM_PYTHON, "-c", _STREAM, "10.9.9.9", status=1).err
        assert "Network is unreachable" in said


def test_a_view_is_the_router_that_others_hear(user: User, switch: Switch) -> None:
    """Of hosts of both kinds: a view, and one with the kernel's stack."""
    network = "fd00:300::"
    announced = user.folder / "announced"
    announced.write_text(
        f"vd0 prefix {network}/64  # for all\nvd0 dns {network}1\n"
        f"vd0 domain {_DOMAIN}\n"
    )
    router = f"vd0={switch.vnl}", f"ip={network}1/64", f"ra={announced}"
    own = f"vd0={switch.vnl}", "mac=02:00:00:00:00:42", "slaac"
    with (
        open_host(user, "router", *router),
        open_host(user, "client", *own) as view,
        open_kernel(user, "kernel", f"vd0={switch.vnl}") as kernel,
    ):
        addresses = _addresses(view.run("ip", "-j", "address").out)
        assert f"{network}ff:fe00:42/64" in addresses
        assert _cat(view, "/etc/resolv.conf") == f"nameserver {network}1\n"
        assert "default via fe80::" in view.run("ip", "-6", "route").out
        kernel.run(SYSTEM_PYTHON, "-c", _UNTIL_ROUTED, f"{network}1")
        kernel.run("ping", "-c1", "-W9", f"{network}ff:fe00:42")
