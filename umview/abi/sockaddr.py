"""Socket addresses, as `umview.abi.shown` shows values."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from umview.abi import shown
from umview.abi.shown import Shown

FAMILIES = {
    0: "AF_UNSPEC",
    1: "AF_UNIX",
    2: "AF_INET",
    10: "AF_INET6",
    16: "AF_NETLINK",
    17: "AF_PACKET",
    38: "AF_ALG",
    40: "AF_VSOCK",
}
_FAMILY = struct.Struct("=H")
_IN = struct.Struct("!2xH4s")
_IN6 = struct.Struct("!2xHI16s")
_SCOPE = struct.Struct("=24xI")
_NETLINK = struct.Struct("=4xiI")


def inet(address: bytes) -> Shown:
    """Show the 4 bytes of an IPv4 address."""
    text = str(IPv4Address(address))
    return Shown(f'inet_addr("{text}")', text)


def inet6(address: bytes) -> Shown:
    """Show the 16 bytes of an IPv6 address."""
    text = str(IPv6Address(address))
    return Shown(f'inet_pton(AF_INET6, "{text}")', text)


def _port(port: int) -> Shown:
    return Shown(f"htons({port})", port)


def sockaddr(data: bytes) -> Shown:
    """Show a sockaddr; the family's part only where all of it is there."""
    if len(data) < _FAMILY.size:
        return shown.string(data)
    (number,) = _FAMILY.unpack_from(data)
    family = ("sa_family", shown.name(number, FAMILIES))
    rest = [("sa_data", shown.string(data[_FAMILY.size :]))]
    match FAMILIES.get(number):
        case "AF_INET" if len(data) >= _IN.size:
            port, address = _IN.unpack_from(data)
            rest = [("sin_port", _port(port)), ("sin_addr", inet(address))]
        case "AF_INET6" if len(data) >= _SCOPE.size:
            port, flow, address = _IN6.unpack_from(data)
            (scope,) = _SCOPE.unpack_from(data)
            rest = [
                ("sin6_port", _port(port)),
                ("sin6_flowinfo", shown.number(flow)),
                ("sin6_addr", inet6(address)),
                ("sin6_scope_id", shown.number(scope)),
            ]
        case "AF_NETLINK" if len(data) >= _NETLINK.size:
            port, groups = _NETLINK.unpack_from(data)
            rest = [("nl_pid", shown.number(port)), ("nl_groups", shown.number(groups))]
        case "AF_UNIX":
            rest = [("sun_path", _unix_path(data[_FAMILY.size :]))]
        case _:
            pass  # shown as it is
    return shown.struct([family, *rest])


def _unix_path(path: bytes) -> Shown:
    if path[:1] == b"\0":
        whole = shown.string(path[1:])
        return Shown(f"@{whole.text}", f"\0{whole.plain}")
    return shown.string(path.partition(b"\0")[0])
