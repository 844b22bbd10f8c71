from __future__ import annotations

import socket
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from umnetlwipv6 import files
from umnetlwipv6 import plan as plans
from umnetlwipv6.plan import CardPlan, Forward, Plan
from umview.errors import UmviewError
from umview.view import Card, lo

NO_NAT = CardPlan("none")


def parse(options: list[str]) -> Plan:
    """Return the plan of ``-p umnet``."""
    return plans.parse(["nat0", *options])


def nat_of(options: list[str]) -> CardPlan:
    return parse(options).nat or NO_NAT


def cards_of(plan: Plan) -> list[Card]:
    own = [one for card in plan.cards for one in card.addresses]
    return [lo(*plan.versions), Card(2, "nat0", bytes(6), 1500, tuple(own))]


def test_default_plan() -> None:
    plan, nat = parse([]), nat_of([])
    assert list(map(str, nat.addresses)) == ["10.0.2.15/24", "fd00::15/64"]
    assert list(map(str, nat.gateways)) == ["10.0.2.2", "fd00::2"]
    assert not plan.dns
    assert not plan.forwards
    assert not plan.host
    assert plan.files


@pytest.mark.parametrize(("option", "version"), [("v4", 4), ("v6", 6)])
def test_one_family_only(option: str, version: int) -> None:
    nat = nat_of([option])
    for values in (nat.addresses, nat.gateways):
        assert [value.version for value in values] == [version]
    assert parse([option]).versions == (version,)


def test_flags() -> None:
    plan = parse(["host", "nofiles"])
    assert plan.host
    assert not plan.files


@pytest.mark.parametrize(
    ("own", "gateway"),
    [
        ("192.168.7.5/24", "192.168.7.2"),
        ("192.168.7.2/24", "192.168.7.1"),
        ("fd11::1/64", "fd11::2"),
    ],
)
def test_own_address_brings_its_usual_gateway(own: str, gateway: str) -> None:
    nat = nat_of([f"ip={own}"])
    version = ip_interface(own).version
    assert ip_interface(own) in nat.addresses
    assert ip_address(gateway) in nat.gateways
    assert len([one for one in nat.addresses if one.version == version]) == 1
    assert [one for one in nat.addresses if one.version != version]


def test_several_addresses_gateway_and_servers() -> None:
    plan = parse(
        ["ip=10.1.0.1/16", "ip=10.2.0.1/16", "gw=10.2.0.9", "dns=9.9.9.9", "dns=::9"]
    )
    (nat,) = plan.cards
    assert list(map(str, nat.addresses)) == [
        "10.1.0.1/16",
        "10.2.0.1/16",
        "fd00::15/64",
    ]
    assert list(map(str, nat.gateways)) == ["10.2.0.9", "fd00::2"]
    assert list(map(str, plan.dns)) == ["9.9.9.9", "::9"]


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("8080:80", ("127.0.0.1", 8080, 80, socket.SOCK_STREAM)),
        ("5353:53/udp", ("127.0.0.1", 5353, 53, socket.SOCK_DGRAM)),
        ("0.0.0.0:1:65535", ("0.0.0.0", 1, 65535, socket.SOCK_STREAM)),
        ("[::1]:8080:80/udp", ("::1", 8080, 80, socket.SOCK_DGRAM)),
    ],
)
def test_forward(text: str, forward: tuple[str, int, int, socket.SocketKind]) -> None:
    address, *rest = forward
    (found,) = parse([f"fwd={text}"]).forwards
    assert found == Forward(ip_address(address), *rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [
        "",
        "nope",
        "host=1",
        "v5",
        "fwd",
        "fwd=",
        "fwd=80",
        "fwd=0:80",
        "fwd=80:65536",
        "fwd=80:80/tcp",
        "fwd=::1:80:80",
        "fwd=[::1:80:80",
        "fwd=name:80:80",
        "fwd=80:80:80:80",
        "fwd=-1:80",
        "ip=10.0.2.15",
        "ip=10.0.2.300/24",
        "ip=127.0.0.2/8",
        "ip=224.0.0.1/24",
        "ip=::/64",
        "gw=10.0.3.1",
        "gw=10.0.2.15",
        "gw=x",
        "dns=x",
        "dns=",
        "domain=a..b",
        "domain=-a",
        "hostname=a b",
        "hostname=" + "a" * 64,
        "hostname=a\nb",
        "auto",
        "mtu=1500",
        "mac=02:00:00:00:00:01",
        "vd",
        "vd0x",
        "wire=",
        "vd0,mtu=12",
        "vd0,mtu=65501",
        "vd0,mac=01:00:00:00:00:01",
        "vd0,dhcp=1",
        "tn0",
        "vd0,ra=/nosuch",
        "vd0,ra=/dev/null,ra=/etc/passwd",
    ],
)
def test_nonsense_is_refused_in_one_line(option: str) -> None:
    with pytest.raises(UmviewError) as caught:
        parse(option.split(","))
    assert "\n" not in str(caught.value).replace(option, "")


@pytest.mark.parametrize(
    "options",
    [
        ["v4", "v6"],
        ["v4", "ip=fd11::1/64"],
        ["v6", "gw=10.0.2.1"],
        ["gw=10.0.2.1", "gw=10.0.2.9"],
        ["nat0"],
        ["vd0", "vd0"],
        ["v6", "vd0", "ip=10.0.0.1/24"],
        ["vd0", "ip=10.0.0.1/24", "gw=10.0.0.1"],
    ],
)
def test_contradictions_are_refused(options: list[str]) -> None:
    with pytest.raises(UmviewError):
        parse(options)


def test_unknown_option_names_all_known_ones() -> None:
    with pytest.raises(UmviewError) as caught:
        parse(["nope"])
    text = str(caught.value)
    assert all(f" {known}" in text for known in ("fwd=", "host", "ip=", "gw=", "dns="))
    assert all(f" {known}" in text for known in ("domain=", "hostname=", "v4", "v6"))
    assert " nofiles" in text


def test_resolv_conf() -> None:
    text = files.resolv_conf(["1.2.3.4"], "lab.test")
    assert text == "search lab.test\nnameserver 1.2.3.4\n"


def test_hosts_has_the_names_of_the_view() -> None:
    lines = files.hosts(cards_of(parse([])), "box", "lab.test").splitlines()
    assert "127.0.0.1 localhost" in lines
    assert "10.0.2.15 box.lab.test box" in lines
    assert "fd00::15 box.lab.test box" in lines


def test_hosts_of_one_family_has_no_other() -> None:
    assert ":" not in files.hosts(cards_of(parse(["v4"])), "box", None)
    assert "127.0.0.1" not in files.hosts(cards_of(parse(["v6"])), "box", None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "hosts: files dns\n"),
        ("passwd: files\n", "passwd: files\nhosts: files dns\n"),
        (
            "a: b\nhosts:  mymachines resolve [!UNAVAIL=return] files\nc: d\n",
            "a: b\nc: d\nhosts: files dns\n",
        ),
    ],
)
def test_nsswitch_conf_asks_files_and_dns(before: str, after: str) -> None:
    assert files.nsswitch_conf(before) == after


def test_plan_is_a_value() -> None:
    assert parse(["v4"]) == parse(["v4"])
    assert parse(["v4"]) != Plan()


# ---- cards on an Ethernet ----


def test_words_are_of_the_card_before_them() -> None:
    plan = plans.parse(
        [
            "vd0=/tmp/sw",
            "ip=10.0.0.1/24",
            "gw=10.0.0.9",
            "ip=fd05::1/64",
            "gw=fe80::1",
            "tp3=tap7",
            "mtu=9000",
            "auto",
            "wire=lab",
            "nat0",
            "forward",
            "lo",
        ]
    )
    vd0, tp3, wire, nat = plan.cards
    assert (vd0.name, vd0.vnl, vd0.mtu) == ("vd0", "vde:///tmp/sw", 1500)
    assert list(map(str, vd0.addresses)) == ["10.0.0.1/24", "fd05::1/64"]
    assert list(map(str, vd0.gateways)) == ["10.0.0.9", "fe80::1"]
    assert (tp3.vnl, tp3.mtu, tp3.addresses) == ("tap://tap7", 9000, ())
    assert tp3.asks == {"dhcp", "dhcp6", "rd", "slaac"}
    assert tp3.needs == set()
    assert (wire.wire, wire.vnl) == ("lab", "")
    assert (nat.is_nat, plan.routes) == (True, True)


@pytest.mark.parametrize(
    ("card", "vnl"),
    [
        ("vd0", "vde://"),
        ("vd12=", "vde://"),
        ("vd0=vxvde://239.0.0.1", "vxvde://239.0.0.1"),
        ("vd0=lan", f"vde://{Path.cwd()}/lan"),
        ("vd0=vde://lan[5]", f"vde://{Path.cwd()}/lan[5]"),
        ("tp0", "tap://"),
    ],
)
def test_where_a_card_is_plugged_in(card: str, vnl: str) -> None:
    assert [one.vnl for one in plans.parse([card]).cards] == [vnl]


@pytest.mark.parametrize(
    ("words", "asks", "needs"),
    [
        (["eth"], "", ""),
        (["dhcp"], "dhcp", "dhcp"),
        (["rd", "slaac"], "rd slaac", "rd slaac"),
        (["dhcp6"], "dhcp6", ""),
        (["auto4"], "dhcp", ""),
        (["auto6"], "dhcp6 rd slaac", ""),
        (["auto", "dhcp"], "dhcp dhcp6 rd slaac", "dhcp"),
        (["v4", "auto", "slaac"], "dhcp", ""),
    ],
)
def test_what_a_card_asks_for_and_what_has_to_come(
    words: list[str], asks: str, needs: str
) -> None:
    (card,) = plans.parse(["vd0", *words]).cards
    assert card.asks == set(asks.split())
    assert card.needs == set(needs.split())


@pytest.mark.parametrize("option", ["ip=10.0.0.1/24", "auto", "mtu=1500", "gw=::1"])
def test_a_word_without_a_card_says_what_to_write(option: str) -> None:
    with pytest.raises(UmviewError, match=f"name a card first, as in vd0,{option}"):
        plans.parse([option])


def test_ports_of_the_host_lead_through_nat0_only() -> None:
    with pytest.raises(UmviewError, match="add nat0"):
        plans.parse(["vd0", "fwd=80:80"])
