from __future__ import annotations

import errno
import json
import re
import struct
from collections.abc import Sequence

import pytest
from ptrace.syscall import SYSCALL_NAMES  # type: ignore[import-untyped]

from umview._ffi import NR_MSOCKET, Outcome, Part, Piece, Traced
from umview.abi import shown
from umview.abi.sockaddr import sockaddr
from umview.trace import Log, json_line, text_line
from umview.trace_args import control_messages, option_value
from umview.view import Road

NUMBERS = {name: number for number, name in SYSCALL_NAMES.items()}
NUMBERS["msocket"] = NR_MSOCKET
HTTP = struct.pack("=H", 2) + bytes((0, 80, 10, 0, 2, 2)) + bytes(8)


def call(
    name: str,
    args: Sequence[int],
    result: int = 0,
    *pieces: Piece,
    outcome: Outcome = Outcome.ANSWERED,
    road: Road | None = None,
) -> Traced:
    padded = (*args, *[0] * (6 - len(args)))
    nr = NUMBERS.get(name, 437)
    return Traced(10**18, 1500, result, padded, nr, 42, outcome, 0, road, pieces)


def piece(
    arg: int, data: bytes, part: Part = Part.VALUE, *, is_out: bool = False, n: int = 0
) -> Piece:
    return Piece(arg, part, is_out, n, len(data), data)


def text(traced: Traced) -> str:
    line = text_line(traced, "umnet")
    stamped = re.fullmatch(r"42 \d\d:\d\d:\d\d\.000000 (.*)", line)
    assert stamped
    return stamped[1]


def test_an_answer_has_its_place_and_its_time() -> None:
    traced = call("connect", [3, 1, 16], 0, piece(1, HTTP), road=Road.RELAY)
    assert text(traced) == (
        "connect(3, {sa_family=AF_INET, sin_port=htons(80), "
        'sin_addr=inet_addr("10.0.2.2")}, 16) = 0 [umnet, relay] <0.000002>'
    )
    got = json.loads(json_line(traced, "umnet"))
    assert got["args"]["addr"]["sin_addr"] == "10.0.2.2"
    assert (got["time"], got["seconds"]) == (10**9, 1.5e-6)
    assert (got["stack"], got["road"], got["tid"]) == ("umnet", "relay", 42)


def test_an_error_has_its_name() -> None:
    traced = call("listen", [2**32 + 3, 2**32 - 1], -errno.EADDRINUSE)
    assert text(traced) == (
        "listen(3, -1) = -1 EADDRINUSE (Address already in use) [umnet] <0.000002>"
    )
    got = json.loads(json_line(traced, None))
    assert (got["result"], got["error"]) == (-1, "EADDRINUSE")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.KERNEL, "? (left to the kernel) [umnet] <0.000002>"),
        (Outcome.INTERRUPTED, "? ERESTARTSYS (interrupted) [umnet]"),
        (Outcome.GONE, "? (the thread ended) [umnet]"),
    ],
)
def test_what_was_not_answered_has_no_result(outcome: Outcome, said: str) -> None:
    traced = call("listen", [3, 5], outcome=outcome)
    assert text(traced) == f"listen(3, 5) = {said}"
    got = json.loads(json_line(traced, None))
    assert (got["outcome"], got["result"]) == (outcome.name.lower(), None)


@pytest.mark.parametrize(
    ("traced", "said"),
    [
        (call("socket", [2, 0x80801]), "AF_INET, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC"
         ", IPPROTO_IP"),
        (call("socket", [16, 3, 4]), "AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG"),
        (call("socket", [99, 9, 300]), "99, 9, 300"),
        (call("shutdown", [3, 1]), "3, SHUT_WR"),
        (call("openat", [2**32 - 100, 1, 0o2000000], 3, piece(1, b"/etc/hosts")),
         'AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC'),
        (call("openat", [5, 1, 0o102, 0o644], 3), "5, 0x1, O_RDWR|O_CREAT, 0644"),
        (call("msocket", [1, 2, 0x80001, 0], 3, piece(0, b"/dev/net/a")),
         '"/dev/net/a", AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP'),
        (call("msocket", [0, 16, 0, 4]),
         "NULL, AF_NETLINK, SOCK_DEFAULT, NETLINK_SOCK_DIAG"),
        (call("openat2", [5, 1, 2, 24], 3, piece(1, b"x"), piece(2, bytes(24))),
         '5, "x", {flags=O_RDONLY, mode=0, resolve=0}, 24'),
        (call("setns", [4, 0x40000000]), "4, CLONE_NEWNET"),
        (call("prctl", [4, 0]), "PR_SET_DUMPABLE, 0, 0, 0, 0"),
        (call("accept4", [3, 7, 8, 0x800], 4, piece(2, b"\x80\0\0\0", Part.ROOM),
              piece(1, HTTP, is_out=True)),
         '3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.2.2")}, '
         "[128 => 16], SOCK_NONBLOCK"),
        (call("accept", [3, 0, 0], 4), "3, NULL, NULL"),
        (call("getsockopt", [3, 1, 4, 7, 8], 0, piece(4, b"\4\0\0\0", Part.ROOM),
              piece(3, b"\x6f\0\0\0", is_out=True)),
         "3, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]"),
        (call("setsockopt", [3, 77, 78, 0, 4]), "3, 77, 78, NULL, 4"),
        (call("setsockopt", [3, 270, 11, 7, 4], 0, piece(3, b"\1\0\0\0")),
         "3, SOL_NETLINK, NETLINK_EXT_ACK, [1], 4"),
        (call("ioctl", [3, 0x541B, 7], 0, piece(2, bytes(4)),
              piece(2, b"\5\0\0\0", is_out=True)), "3, FIONREAD, [5]"),
        (call("ioctl", [3, 0x8921, 7], 0,
              piece(2, b"lo".ljust(16, b"\0") + b"\0\0\1" + bytes(21), is_out=True)),
         '3, SIOCGIFMTU, {ifr_name="lo", ifr_mtu=65536}'),
        (call("sethostname", [7, 3], 0, piece(0, b"box")), '"box", 3'),
    ],
)  # fmt: skip
def test_arguments_are_shown_by_what_they_mean(traced: Traced, said: str) -> None:
    rest = text(traced).partition("(")[2]
    assert rest.rpartition(") = ")[0] == said
    assert json.loads(json_line(traced, None))["call"]


def test_calls_nobody_knows_are_shown_by_number() -> None:
    traced = call("openat2", [])._replace(nr=0xFFF)
    assert text(traced).startswith("syscall_0xfff() = 0")


def test_many_messages_are_cut() -> None:
    header = struct.pack("=QI4xQQQQI4x", 0, 0, 1, 1, 0, 0, 0)
    pieces = [
        one
        for n in range(4)
        for one in (
            piece(1, header, Part.HEADER, n=n),
            piece(1, bytes((65 + n,)), Part.DATA, n=n),
        )
    ]
    line = text(call("sendmmsg", [3, 9, 6, 0x4000], 6, *pieces))
    assert line.count("msg_name=NULL") == 4
    assert 'msg_data="D"' in line
    assert "}, ...], 6, MSG_NOSIGNAL) = 6" in line


@pytest.mark.parametrize(
    ("data", "length", "said"),
    [
        (b"", None, '""'),
        (b'a"b\\c\n\r\t\0', None, r'"a\"b\\c\n\r\t\0"'),
        (b"\x001\xff\x7f", None, r'"\0001\377\177"'),
        (b"abc", 3, '"abc"'),
        (b"abc", 4, '"abc"...'),
    ],
)
def test_strings_are_as_in_c(data: bytes, length: int | None, said: str) -> None:
    got = shown.string(data, length)
    assert got.text == said
    assert str(got.plain).encode("latin-1") == data


def test_bits_without_a_name_stay() -> None:
    assert shown.flags(0b1101, {1: "A", 2: "B", 4: "C"}) == ("A|C|0x8", ["A", "C", 8])
    assert shown.flags(0, {1: "A"}) == ("0", [])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", '""'),
        (b"\1\0/run/x\0junk", '{sa_family=AF_UNIX, sun_path="/run/x"}'),
        (b"\1\0\0name", '{sa_family=AF_UNIX, sun_path=@"name"}'),
        (HTTP[:7], r'{sa_family=AF_INET, sa_data="\0P\n\0\2"}'),
        (b"\x63\0ab", '{sa_family=99, sa_data="ab"}'),
    ],
)
def test_addresses(data: bytes, said: str) -> None:
    assert sockaddr(data).text == said


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("SO_LINGER", struct.pack("=ii", 1, 9), "{l_onoff=1, l_linger=9}"),
        ("SO_LINGER", b"\1\0\0\0", "[1]"),
        ("SO_RCVTIMEO_OLD", struct.pack("=qq", 2, 5), "{tv_sec=2, tv_usec=5}"),
        ("SO_BINDTODEVICE", b"lo\0\0", '"lo"'),
        ("SO_TYPE", b"\2\0\0\0", "[SOCK_DGRAM]"),
        ("IP_MULTICAST_TTL", b"\3", "[3]"),
        (
            "IP_ADD_MEMBERSHIP",
            bytes((224, 0, 0, 9, 10, 0, 2, 15, 2, 0, 0, 0)),
            '{imr_multiaddr=inet_addr("224.0.0.9"), '
            'imr_address=inet_addr("10.0.2.15"), imr_ifindex=2}',
        ),
        (
            "IPV6_JOIN_GROUP",
            b"\xff\2" + bytes(13) + b"\1\2\0\0\0",
            '{ipv6mr_multiaddr=inet_pton(AF_INET6, "ff02::1"), ipv6mr_interface=2}',
        ),
        ("", b"abcdef", '"abcdef"'),
    ],
)
def test_option_values(name: str, data: bytes, said: str) -> None:
    assert option_value(name, data).text == said


def test_control_messages() -> None:
    rights = struct.pack("=Qii4s4x", 20, 1, 1, b"\7\0\0\0")
    ttl = struct.pack("=Qii4s4x", 20, 0, 2, b"\x40\0\0\0")
    assert control_messages(rights + ttl).text == (
        "[{cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[7]}, "
        "{cmsg_level=IPPROTO_IP, cmsg_type=IP_TTL, cmsg_data=[64]}]"
    )
    assert control_messages(struct.pack("=Qii", 3, 0, 0)).text == "[...]"


def test_a_log_that_cannot_be_written_ends(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space")

    log = Log({0: "umnet"}, refuse, is_json=False)
    log._lines.append("line\n")
    log.flush()
    log._lines.append("line\n")
    log.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "the log of calls ends here: No space"
    ]
