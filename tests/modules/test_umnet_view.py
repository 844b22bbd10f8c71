"""What programs see of umnet: cards and routes by every interface, and names."""

from __future__ import annotations

import json
import sys

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, require

pytestmark = pytest.mark.view


def said(user: User, *argv: str, options: tuple[str, ...] = ()) -> str:
    require(argv[0])
    run = user.run(argv, "view", *options)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_ip_shows_the_cards_and_their_addresses(module_user: User) -> None:
    found = {
        card["ifname"]: [
            f"{one['local']}/{one['prefixlen']}" for one in card["addr_info"]
        ]
        for card in json.loads(said(module_user, "ip", "-j", "addr"))
    }
    assert found == {
        "lo": ["127.0.0.1/8", "::1/128"],
        "nat0": ["10.0.2.15/24", "fd00::15/64"],
    }


@pytest.mark.parametrize(("family", "gateway"), [("-4", "10.0.2.2"), ("-6", "fd00::2")])
def test_ip_shows_the_default_route(
    module_user: User, family: str, gateway: str
) -> None:
    routes = json.loads(said(module_user, "ip", "-j", family, "route"))
    assert [route["gateway"] for route in routes if route["dst"] == "default"] == [
        gateway
    ]


def test_ip_changes_nothing(module_user: User) -> None:
    run = module_user.run(["ip", "link", "set", "nat0", "down"], "view")
    assert run.returncode == 2
    assert "Operation not permitted" in run.stderr


def test_old_tools_show_only_the_views(module_user: User) -> None:
    assert "inet 10.0.2.15  netmask 255.255.255.0" in said(
        module_user, "ifconfig", "nat0"
    )
    cards = said(module_user, "ifconfig", "-a").splitlines()
    names = [line.partition(":")[0] for line in cards if line[:1].strip()]
    assert names == ["lo", "nat0"]
    assert "nat0" in said(module_user, "route", "-n")
    listed = said(module_user, "netstat", "-tuln").splitlines()
    assert not [line for line in listed if line.startswith(("tcp", "udp"))]


def test_pyroute2_and_libc_agree(module_user: User) -> None:
    script = """
import json, socket, sys
sys.path.append(sys.argv[1])
from pyroute2 import IPRoute
with IPRoute() as ip:
    links = [(one["index"], one.get_attr("IFLA_IFNAME")) for one in ip.get_links()]
    ways = [one.get_attr("RTA_GATEWAY") for one in ip.route("get", dst="192.0.2.9")]
print(json.dumps([links, socket.if_nameindex(), ways]))
"""
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    out = said(module_user, SYSTEM_PYTHON, "-c", script, packages)
    by_netlink, by_libc, ways = json.loads(out)
    assert by_netlink == by_libc == [[1, "lo"], [2, "nat0"]]
    assert ways == ["10.0.2.2"]


@pytest.mark.parametrize("server", ["10.0.2.3", "fd00::3"])
@pytest.mark.parametrize("road", ["+notcp", "+tcp"])
def test_name_server_answers(module_user: User, server: str, road: str) -> None:
    out = said(module_user, "dig", f"@{server}", road, "+tries=1", "localhost", "A")
    assert "status: NOERROR" in out
    assert "127.0.0.1" in out


@pytest.mark.parametrize("kind", ["MX", "TXT", "SRV", "HTTPS"])
def test_name_without_records_of_a_type_exists(module_user: User, kind: str) -> None:
    out = said(module_user, "dig", "@10.0.2.3", "+tries=1", "localhost", kind)
    assert "status: NOERROR" in out
    assert "ANSWER: 0" in out


def test_name_server_answers_many_at_once(module_user: User) -> None:
    script = """
import socket
text = "{:04x}01000001000000000000" "096c6f63616c686f7374" "00" "00010001"
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(100)]
for number, sock in enumerate(socks):
    sock.settimeout(10)
    sock.sendto(bytes.fromhex(text.format(number)), ("10.0.2.3", 53))
for number, sock in enumerate(socks):
    reply, peer = sock.recvfrom(512)
    assert peer == ("10.0.2.3", 53), peer
    assert int.from_bytes(reply[:2], "big") == number
    assert reply.endswith(bytes((127, 0, 0, 1)))
"""
    said(module_user, SYSTEM_PYTHON, "-c", script)


def test_files_are_the_views(module_user: User) -> None:
    options = ("hostname=box", "domain=lab.test", "dns=192.0.2.53", "v4")
    # grep opens with O_NOCTTY, as a compiler does that is not stopped
    script = (
        "uname -n; hostname -f; cat /etc/resolv.conf; grep hosts: /etc/nsswitch.conf"
    )
    assert said(module_user, "sh", "-c", script, options=options).splitlines() == [
        "box",
        "box.lab.test",
        "search lab.test",
        "nameserver 192.0.2.53",
        "hosts: files dns",
    ]


def test_nofiles_shows_the_hosts(module_user: User) -> None:
    with open("/etc/resolv.conf") as file:
        text = file.read()
    out = said(module_user, "cat", "/etc/resolv.conf", options=("nofiles",))
    assert out == text
