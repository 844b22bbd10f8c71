"""The options of ``-p umnet``: text in, a checked plan out."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import NamedTuple

from umview.errors import UmviewError
from umview.view import Address, Interface

_ADDRESSES = (ip_interface("10.0.2.15/24"), ip_interface("fd00::15/64"))
_GATEWAYS: tuple[Address, ...] = (IPv4Address("10.0.2.2"), IPv6Address("fd00::2"))
PROXIES = (IPv4Address("10.0.2.3"), IPv6Address("fd00::3"))
"""Where the name server of the view answers, whatever the view's own addresses are."""

# Patterns are compiled where they are used: most views have no such option.
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME = rf"{_LABEL}(\.{_LABEL})*"
_FORWARD = (
    r"(?:(?P<host>\[[^]]*\]|[^:]*):)?(?P<from>[0-9]+):(?P<to>[0-9]+)(?P<udp>/udp)?"
)
_NAME_MAX = 64  # what struct new_utsname holds


class Forward(NamedTuple):
    """A port of the host that leads into the view."""

    address: Address
    host_port: int
    port: int
    kind: socket.SocketKind


class Plan(NamedTuple):
    """What ``-p umnet`` is to set up.

    Attributes:
        addresses: Of the card nat0; those of a family that is off are left out.
        gateways: The same for the gateways, at most one for a family.
        dns: The name servers that /etc/resolv.conf names.
        forwards: The ports of the host that lead into the view.
        host: Whether the gateways lead to the host's loopback.
        domain: The domain that names are searched in.
        hostname: The view's host name.
        files: Whether /etc/resolv.conf and its like are the view's.
    """

    addresses: tuple[Interface, ...] = ()
    gateways: tuple[Address, ...] = ()
    dns: tuple[Address, ...] = ()
    forwards: tuple[Forward, ...] = ()
    host: bool = False
    domain: str | None = None
    hostname: str | None = None
    files: bool = True

    def has(self, version: int) -> bool:
        """Return whether the view has this version of IP (4 or 6)."""
        return any(address.version == version for address in self.addresses)


def parse(options: Sequence[str]) -> Plan:
    """Return the plan that the options ask for.

    Args:
        options: As on the command line: ``name`` or ``name=value``.

    Raises:
        UmviewError: An option is unknown or its value has no sense.
    """
    plan = Plan()
    versions = {4, 6}
    for option in options:
        name, equals, value = option.partition("=")
        if option in ("v4", "v6"):
            versions &= {int(option[1])}
        elif option == "host":
            plan = plan._replace(host=True)
        elif option == "nofiles":
            plan = plan._replace(files=False)
        elif equals and name in _VALUES:
            plan = _VALUES[name](plan, value)
        else:
            raise UmviewError(f"unknown option '{option}'; known options: {_KNOWN}")
    if not versions:
        raise UmviewError("v4 and v6 exclude each other: leave both out to have both")
    return _completed(plan, versions)


def _completed(plan: Plan, versions: set[int]) -> Plan:
    """Fill in what the options left open, and drop the families that are off."""
    addresses: list[Interface] = []
    gateways: list[Address] = []
    for own, gateway in zip(_ADDRESSES, _GATEWAYS, strict=True):
        version = own.version
        mine = [one for one in plan.addresses if one.version == version]
        routers = [one for one in plan.gateways if one.version == version]
        if version not in versions:
            if mine or routers:
                raise UmviewError(f"IPv{version} is off, but {(mine + routers)[0]} set")
            continue
        if len(routers) > 1:
            raise UmviewError(f"two IPv{version} gateways: only one can be the default")
        addresses += mine or [own]
        usual = _gateway(mine[0]) if mine else gateway
        gateways += routers or [usual]
        _check_gateway(gateways[-1], addresses)
    dns = plan.dns or tuple(one for one in PROXIES if one.version in versions)
    return plan._replace(addresses=tuple(addresses), gateways=tuple(gateways), dns=dns)


def _gateway(own: Interface) -> Address:
    """Return the usual gateway of a network: its second address, or its first."""
    start = int(own.network.network_address)
    usual = start + 1 if start + 2 == int(own.ip) else start + 2
    return IPv4Address(usual) if own.version == 4 else IPv6Address(usual)


def _check_gateway(gateway: Address, addresses: Sequence[Interface]) -> None:
    if not any(gateway in one.network for one in addresses):
        raise UmviewError(
            f"the gateway {gateway} is in no network of the view: give it by gw="
        )
    if any(gateway == one.ip for one in addresses):
        raise UmviewError(
            f"the gateway {gateway} is the view's own address: give another by gw="
        )


def _ip(plan: Plan, value: str) -> Plan:
    try:
        address = ip_interface(value)
    except ValueError:
        raise UmviewError(f"ip={value}: not an address like 10.0.2.15/24") from None
    if "/" not in value:
        raise UmviewError(f"ip={value}: the prefix is missing, as in {value}/24")
    own = address.ip
    if own.is_loopback or own.is_multicast or own.is_unspecified:
        raise UmviewError(f"ip={value}: a card cannot have this address")
    return plan._replace(addresses=(*plan.addresses, address))


def _gw(plan: Plan, value: str) -> Plan:
    return plan._replace(gateways=(*plan.gateways, _address("gw", value)))


def _dns(plan: Plan, value: str) -> Plan:
    return plan._replace(dns=(*plan.dns, _address("dns", value)))


def _domain(plan: Plan, value: str) -> Plan:
    return plan._replace(domain=_name("domain", value))


def _hostname(plan: Plan, value: str) -> Plan:
    return plan._replace(hostname=_name("hostname", value))


def _fwd(plan: Plan, value: str) -> Plan:
    match = re.fullmatch(_FORWARD, value)
    if not match:
        raise UmviewError(
            f"fwd={value}: write [HOSTADDR:]HOSTPORT:PORT[/udp], as in fwd=8080:80"
        )
    host = match["host"]
    if host is None:
        host = "127.0.0.1"
    elif host.startswith("["):
        host = host[1:-1]
    forward = Forward(
        _address("fwd", host),
        _port(match["from"]),
        _port(match["to"]),
        socket.SOCK_DGRAM if match["udp"] else socket.SOCK_STREAM,
    )
    return plan._replace(forwards=(*plan.forwards, forward))


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 1 << 16:
        raise UmviewError(f"fwd: there is no port {text}: ports are 1 to 65535")
    return port


def _address(option: str, text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise UmviewError(f"{option}: '{text}' is not an IP address") from None


def _name(option: str, text: str) -> str:
    if len(text) > _NAME_MAX or not re.fullmatch(_NAME, text):
        raise UmviewError(f"{option}={text}: not a host or domain name")
    return text


_VALUES: dict[str, Callable[[Plan, str], Plan]] = {
    "dns": _dns,
    "domain": _domain,
    "fwd": _fwd,
    "gw": _gw,
    "hostname": _hostname,
    "ip": _ip,
}
_KNOWN = (
    "fwd=[HOSTADDR:]HOSTPORT:PORT[/udp], host, ip=ADDRESS/PREFIX, gw=ADDRESS, "
    "dns=ADDRESS, domain=NAME, hostname=NAME, v4, v6, nofiles"
)
