"""Arguments of stopped calls, from registers and copied memory to what is shown.

Each form is a function of a `Call` and the number of an argument; `form` says which
one an argument has.
"""

from __future__ import annotations

import errno
import functools
import socket
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from umview import _ffi
from umview import trace_names as names
from umview._ffi import Part, Piece, Traced
from umview.abi import ifreq, shown
from umview.abi.ifreq import Siocgif
from umview.abi.shown import Shown, i32, u32
from umview.abi.sockaddr import FAMILIES, inet, inet6, sockaddr

_INT = struct.Struct("=i")
_PAIR = struct.Struct("=ii")
_TIME = struct.Struct("=qq")
_HEADER = struct.Struct("=QI4xQQQQI4x")  # struct msghdr
_CMSG = struct.Struct("=Qii")
_ADDRESS = 4
_AT_FDCWD = -100
_TYPE_MASK = 0xF
_UTSNAME = 65
_O_CREAT = 0o100
_NETLINK = 16
_LEVEL, _OPTION = 1, 2  # where setsockopt and getsockopt have them


class Call(NamedTuple):
    """A traced call with its name."""

    name: str
    traced: Traced

    def register(self, arg: int) -> int:
        """Return an argument as it is."""
        return self.traced.args[arg]

    def piece(
        self, arg: int, part: Part = Part.VALUE, *, message: int = 0
    ) -> Piece | None:
        """Return what is known of an argument's target, the latest first."""
        wanted = (arg, part, message)
        for piece in reversed(self.traced.pieces):
            if (piece.arg, piece.part, piece.message) == wanted:
                return piece
        return None


Form: TypeAlias = Callable[[Call, int], Shown]


# ---- plain ones ----


def _int(call: Call, arg: int) -> Shown:
    return shown.number(i32(call.register(arg)))


def _unsigned(call: Call, arg: int) -> Shown:
    return shown.number(call.register(arg))


def _pointer(call: Call, arg: int) -> Shown:
    return shown.pointer(call.register(arg))


def _named(table: Mapping[int, str]) -> Form:
    return lambda call, arg: shown.name(i32(call.register(arg)), table)


def _bits(table: Mapping[int, str]) -> Form:
    return lambda call, arg: shown.flags(u32(call.register(arg)), table)


def _directory(call: Call, arg: int) -> Shown:
    return shown.name(i32(call.register(arg)), {_AT_FDCWD: "AT_FDCWD"})


def _kind(call: Call, arg: int) -> Shown:
    value = u32(call.register(arg))
    table = names.MSOCKET_TYPES if call.name == "msocket" else names.SOCKET_TYPES
    kind = shown.name(value & _TYPE_MASK, table)
    rest = shown.flags(value & ~_TYPE_MASK, names.SOCKET_FLAGS)
    if not value & ~_TYPE_MASK:
        return kind
    return Shown(f"{kind.text}|{rest.text}", [kind.plain, *_list(rest)])


def _list(value: Shown) -> list[object]:
    return value.plain if isinstance(value.plain, list) else [value.plain]


def _protocol(call: Call, arg: int) -> Shown:
    domain = 1 if call.name == "msocket" else 0
    is_netlink = i32(call.register(domain)) == _NETLINK
    table = names.NETLINK_PROTOCOLS if is_netlink else names.PROTOCOLS
    return shown.name(i32(call.register(arg)), table)


def open_flags(value: int) -> Shown:
    """Show the flags of open(2)."""
    access = shown.name(value & 3, names.ACCESS)
    rest = shown.flags(value & ~3, names.OPEN)
    if not value & ~3:
        return Shown(access.text, [access.plain])
    return Shown(f"{access.text}|{rest.text}", [access.plain, *_list(rest)])


def _open_flags(call: Call, arg: int) -> Shown:
    return open_flags(u32(call.register(arg)))


def _mode(call: Call, arg: int) -> Shown:
    return _octal(u32(call.register(arg)))


def _octal(value: int) -> Shown:
    return Shown(f"0{value:o}" if value else "0", value)


# ---- what a pointer leads to ----


def _string(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    if piece is None:
        return _pointer(call, arg)
    return shown.string(piece.data, piece.length or None)


def _path(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    return _pointer(call, arg) if piece is None else shown.string(piece.data)


def _sockaddr(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    return _pointer(call, arg) if piece is None else sockaddr(piece.data)


def _length(call: Call, arg: int) -> Shown:
    """Show a length: a number, or where it is a pointer [given] or [given => made]."""
    room = call.piece(arg, Part.ROOM)
    value = call.piece(arg - 1)
    if room is None or len(room.data) < _INT.size:
        return _pointer(call, arg)
    (given,) = _INT.unpack(room.data)
    made = given if value is None else value.length
    plain = {"given": given, "made": made}
    if made == given:
        return Shown(f"[{given}]", plain)
    return Shown(f"[{given} => {made}]", plain)


def _time(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    if piece is None or len(piece.data) < _TIME.size:
        return _pointer(call, arg)
    return _fields(("tv_sec", "tv_nsec"), _TIME.unpack(piece.data))


def _fields(keys: tuple[str, ...], values: tuple[int, ...]) -> Shown:
    return shown.struct(zip(keys, map(shown.number, values), strict=True))


def _utsname(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    if piece is None:
        return _pointer(call, arg)
    texts = [
        piece.data[at : at + _UTSNAME].partition(b"\0")[0]
        for at in range(0, 6 * _UTSNAME, _UTSNAME)
    ]
    keys = ("sysname", "nodename", "release", "version", "machine", "domainname")
    kept = ("sysname", "nodename", "domainname")  # the first tells what this is
    pairs = dict(zip(keys, map(shown.string, texts), strict=True))
    return shown.struct((key, pairs[key]) for key in kept)


def _how(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    if piece is None or len(piece.data) < struct.calcsize("=QQQ"):
        return _pointer(call, arg)
    flags, mode, resolve = struct.unpack("=QQQ", piece.data)
    return shown.struct(
        (
            ("flags", open_flags(flags)),
            ("mode", _octal(mode)),
            ("resolve", shown.flags(resolve, {})),
        )
    )


# ---- options ----


@functools.cache
def _option_names() -> dict[tuple[int, int], str]:
    rows = _ffi.options()
    return {(row.level_number, row.name_number): row.name for row in rows} | {
        (names.SOL_NETLINK, number): text
        for number, text in names.NETLINK_OPTIONS.items()
    }


@functools.cache
def _level_names() -> dict[int, str]:
    levels = {row.level_number: row.level for row in _ffi.options()}
    return levels | {names.SOL_NETLINK: "SOL_NETLINK"}


def _level(call: Call, arg: int) -> Shown:
    return shown.name(i32(call.register(arg)), _level_names())


def _option_name(level: int, option: int) -> str | None:
    return _option_names().get((level, option))


def _option(call: Call, arg: int) -> Shown:
    option = i32(call.register(arg))
    name = _option_name(i32(call.register(_LEVEL)), option)
    return shown.number(option) if name is None else shown.word(name)


def _value(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    if piece is None:
        return _pointer(call, arg)
    level, option = (i32(call.register(at)) for at in (_LEVEL, _OPTION))
    return option_value(_option_name(level, option) or "", piece.data)


def option_value(name: str, data: bytes) -> Shown:
    """Show the value of an option of this name."""
    match name:
        case "SO_LINGER" if len(data) == _PAIR.size:
            return _fields(("l_onoff", "l_linger"), _PAIR.unpack(data))
        case (
            "SO_RCVTIMEO_OLD"
            | "SO_SNDTIMEO_OLD"
            | "SO_RCVTIMEO_NEW"
            | "SO_SNDTIMEO_NEW"
        ) if len(data) == _TIME.size:
            return _fields(("tv_sec", "tv_usec"), _TIME.unpack(data))
        case "SO_BINDTODEVICE" | "TCP_CONGESTION" | "TCP_ULP":
            return shown.string(data.partition(b"\0")[0])
        case "IP_ADD_MEMBERSHIP" | "IP_DROP_MEMBERSHIP" | "IP_MULTICAST_IF" if (
            len(data) >= 2 * _ADDRESS
        ):
            return _membership(data)
        case "IP_MULTICAST_IF" if len(data) == _ADDRESS:
            return inet(data)
        case "IPV6_JOIN_GROUP" | "IPV6_LEAVE_GROUP" if len(data) == 20:
            (card,) = _INT.unpack_from(data, 16)
            index = shown.number(card)
            return shown.struct(
                (("ipv6mr_multiaddr", inet6(data[:16])), ("ipv6mr_interface", index))
            )
    return _some(name, data)


def _some(name: str, data: bytes) -> Shown:
    """Show what is an int as a rule, sometimes a byte, and else unknown."""
    if len(data) == _INT.size:
        return shown.array([_int_value(name, _INT.unpack(data)[0])])
    if len(data) == 1:
        return shown.array([shown.number(data[0])])
    return shown.string(data)


def _membership(data: bytes) -> Shown:
    fields = [
        ("imr_multiaddr", inet(data[:4])),
        ("imr_address", inet(data[4:8])),
    ]
    if len(data) == 3 * _ADDRESS:
        fields.append(("imr_ifindex", shown.number(_INT.unpack_from(data, 8)[0])))
    return shown.struct(fields)


def _int_value(name: str, value: int) -> Shown:
    tables: dict[str, Mapping[int, str]] = {
        "SO_ERROR": errno.errorcode,
        "SO_TYPE": names.SOCKET_TYPES,
        "SO_DOMAIN": FAMILIES,
        "SO_PROTOCOL": names.PROTOCOLS,
    }
    return shown.name(value, tables.get(name, {}))


# ---- ioctl ----


def _request(call: Call, arg: int) -> Shown:
    value = u32(call.register(arg))
    return (
        shown.name(value, names.IOCTL) if value in names.IOCTL else _pointer(call, arg)
    )


def _ioctl_value(call: Call, arg: int) -> Shown:
    piece = call.piece(arg)
    if piece is None:
        return _pointer(call, arg)
    data, request = piece.data, u32(call.register(1))
    if len(data) == _INT.size:
        return shown.array([shown.number(_INT.unpack(data)[0])])
    if len(data) < ifreq.IFREQ:
        length = shown.number(_INT.unpack_from(data)[0])
        return shown.struct([("ifc_len", length)])
    fields = [("ifr_name", shown.string(ifreq.name(data).encode()))]
    if piece.is_out and request in {one.value for one in Siocgif}:
        fields += _card_value(Siocgif(request), data)
    return shown.struct(fields)


def _card_value(request: Siocgif, data: bytes) -> list[tuple[str, Shown]]:
    value = ifreq.index(data)
    match request:
        case Siocgif.NAME | Siocgif.INDEX:
            return [("ifr_ifindex", shown.number(value))]
        case Siocgif.FLAGS:
            return [("ifr_flags", Shown(hex(value & 0xFFFF), value & 0xFFFF))]
        case Siocgif.METRIC | Siocgif.MTU | Siocgif.TXQLEN:
            return [(f"ifr_{request.name.lower()}", shown.number(value))]
        case Siocgif.ADDR | Siocgif.DSTADDR | Siocgif.BRDADDR | Siocgif.NETMASK:
            return [(f"ifr_{request.name.lower()}", sockaddr(data[16:32]))]
        case Siocgif.HWADDR:
            mac = data[18:24].hex(":")
            return [("ifr_hwaddr", Shown(mac, mac))]
        case Siocgif.MAP | Siocgif.CONF:
            return []


# ---- messages ----


def _message(call: Call, arg: int) -> Shown:
    return _one_message(call, arg, 0) or _pointer(call, arg)


def _messages(call: Call, arg: int) -> Shown:
    pieces = [piece for piece in call.traced.pieces if piece.arg == arg]
    numbers = sorted({piece.message for piece in pieces})
    kept = [one for number in numbers if (one := _one_message(call, arg, number))]
    if not kept:
        return _pointer(call, arg)
    is_out = any(piece.is_out for piece in pieces)
    count = call.traced.result if is_out else u32(call.register(arg + 1))
    return shown.array(kept, is_cut=count > len(kept))


def _one_message(call: Call, arg: int, number: int) -> Shown | None:
    header = call.piece(arg, Part.HEADER, message=number)
    if header is None or len(header.data) < _HEADER.size:
        return None
    name_at, name_len, _, iov_count, control_at, control_len, flags = _HEADER.unpack(
        header.data
    )
    name = call.piece(arg, Part.NAME, message=number)
    data = call.piece(arg, Part.DATA, message=number)
    control = call.piece(arg, Part.CONTROL, message=number)
    fields = [
        ("msg_name", sockaddr(name.data) if name else shown.pointer(name_at)),
        ("msg_namelen", shown.number(name_len)),
    ]
    if data:
        # of all its buffers, one behind the other
        fields.append(("msg_data", shown.string(data.data, data.length)))
        fields.append(("msg_len", shown.number(data.length)))
    fields.append(("msg_iovlen", shown.number(iov_count)))
    if control:
        fields.append(("msg_control", control_messages(control.data)))
    elif control_at:
        fields.append(("msg_control", shown.pointer(control_at)))
    fields.append(("msg_controllen", shown.number(control_len)))
    fields.append(("msg_flags", shown.flags(flags, names.MSG)))
    return shown.struct(fields)


def control_messages(data: bytes) -> Shown:
    """Show the control messages of a msghdr (cmsg(3))."""
    found = []
    at = 0
    while at + _CMSG.size <= len(data):
        length, level, kind = _CMSG.unpack_from(data, at)
        if length < _CMSG.size:
            break
        content = data[at + _CMSG.size : at + length]
        found.append(_control(level, kind, content))
        at += length + -length % 8
    return shown.array(found, is_cut=at < len(data))


def _control(level: int, kind: int, data: bytes) -> Shown:
    name = _option_name(level, kind)
    value = _some(name or "", data)
    if level == socket.SOL_SOCKET and kind in names.CONTROL:
        name = names.CONTROL[kind]
        if name == "SCM_RIGHTS" and len(data) % _INT.size == 0:
            numbers = (shown.number(one) for (one,) in _INT.iter_unpack(data))
            value = shown.array(numbers)
    return shown.struct(
        (
            ("cmsg_level", shown.name(level, _level_names())),
            ("cmsg_type", shown.word(name) if name else shown.number(kind)),
            ("cmsg_data", value),
        )
    )


# ---- which form ----

_BY_TYPE: dict[str, Form] = {
    "int *": _length,
    "struct sockaddr *": _sockaddr,
    "struct user_msghdr *": _message,
    "struct mmsghdr *": _messages,
    "struct timespec *": _time,
    "struct old_utsname *": _utsname,
    "struct open_how *": _how,
}
_BY_CALL: dict[tuple[str, str], Form] = {
    ("accept4", "flags"): _bits(names.SOCKET_FLAGS),
    ("open", "flags"): _open_flags,
    ("openat", "flags"): _open_flags,
    ("clone", "flags"): _bits(names.CLONE),
}
_BY_NAME: dict[str, Form] = {
    "domain": _named(FAMILIES),
    "type": _kind,
    "protocol": _protocol,
    "dirfd": _directory,
    "level": _level,
    "optname": _option,
    "optval": _value,
    "flags": _bits(names.MSG),
    "buf": _string,
    "name": _string,
    "how": _named(names.SHUT),
    "cmd": _request,
    "arg": _ioctl_value,
    "filename": _path,
    "path": _path,
    "mode": _mode,
    "unshare_flags": _bits(names.CLONE),
    "nstype": _bits(names.CLONE),
    "option": _named(names.PRCTL),
}


def form(call: str, kind: str, name: str) -> Form:
    """Return how an argument is shown.

    Args:
        call: The call's name.
        kind: The argument's type in C.
        name: Its name.
    """
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if (call, name) in _BY_CALL:
        return _BY_CALL[call, name]
    plain = _pointer if "*" in kind else _int if kind == "int" else _unsigned
    return _BY_NAME.get(name, plain)


def creates(call: Call) -> bool:
    """Whether an open may make a file, so that its mode has a meaning."""
    flags = call.register(1 if call.name == "open" else 2)
    return bool(flags & _O_CREAT)
