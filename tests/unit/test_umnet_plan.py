from __future__ import annotations

import socket
from ipaddress import ip_address, ip_interface

import pytest

from umnet import files
from umnet.plan import Forward, Plan, parse
from umview.errors import UmviewError


def test_default_plan() -> None:
    plan = parse([])
    assert list(map(str, plan.addresses)) == ["10.0.2.15/24", "fd00::15/64"]
    assert list(map(str, plan.gateways)) == ["10.0.2.2", "fd00::2"]
    assert list(map(str, plan.dns)) == ["10.0.2.3", "fd00::3"]
    assert not plan.forwards
    assert not plan.host
    assert plan.files


@pytest.mark.parametrize(("option", "version"), [("v4", 4), ("v6", 6)])
def test_one_family_only(option: str, version: int) -> None:
    plan = parse([option])
    for values in (plan.addresses, plan.gateways, plan.dns):
        assert [value.version for value in values] == [version]
    assert not plan.has(10 - version)


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
    plan = parse([f"ip={own}"])
    version = ip_interface(own).version
    assert ip_interface(own) in plan.addresses
    assert ip_address(gateway) in plan.gateways
    assert len([one for one in plan.addresses if one.version == version]) == 1
    assert plan.has(10 - version)


def test_several_addresses_gateway_and_servers() -> None:
    plan = parse(
        ["ip=10.1.0.1/16", "ip=10.2.0.1/16", "gw=10.2.0.9", "dns=9.9.9.9", "dns=::9"]
    )
    assert list(map(str, plan.addresses)) == [
        "10.1.0.1/16",
        "10.2.0.1/16",
        "fd00::15/64",
    ]
    assert list(map(str, plan.gateways)) == ["10.2.0.9", "fd00::2"]
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
    ],
)
def test_nonsense_is_refused_in_one_line(option: str) -> None:
    with pytest.raises(UmviewError) as caught:
        parse([option])
    assert "\n" not in str(caught.value).replace(option, "")


@pytest.mark.parametrize(
    "options",
    [
        ["v4", "v6"],
        ["v4", "ip=fd11::1/64"],
        ["v6", "gw=10.0.2.1"],
        ["gw=10.0.2.1", "gw=10.0.2.9"],
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
    text = files.resolv_conf(parse(["domain=lab.test", "dns=1.2.3.4"]))
    assert text == "search lab.test\nnameserver 1.2.3.4\n"


def test_hosts_has_the_names_of_the_view() -> None:
    plan = parse(["domain=lab.test"])
    lines = files.hosts(plan, "box").splitlines()
    assert "127.0.0.1 localhost" in lines
    assert "10.0.2.15 box.lab.test box" in lines
    assert "fd00::15 box.lab.test box" in lines


def test_hosts_of_one_family_has_no_other() -> None:
    assert ":" not in files.hosts(parse(["v4"]), "box")
    assert "127.0.0.1" not in files.hosts(parse(["v6"]), "box")


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
