"""The log of calls: umview --trace, for real programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Site, User, free_port, require
from tests.setting import umview
from tests.views.conftest import SETUPS, Probes, command

pytestmark = pytest.mark.view

TALK = Path(__file__).with_name("programs") / "talk.py"
TALKING = [SYSTEM_PYTHON, "-I", str(TALK)]
STAMPS = re.compile(r"(\d+) \d\d:\d\d:\d\d\.\d{6} (.*?)( <\d+\.\d{6}>)?")


def loopback(port: int, last: int = 1) -> str:
    return (
        f"{{sa_family=AF_INET, sin_port=htons({port}), "
        f'sin_addr=inet_addr("127.0.0.{last}")}}'
    )


QS = '"' + 64 * "q" + '"...'
MESSAGE = r'msg_data="one\n\"two\"", msg_len=9'
CLOEXEC = "SOCK_CLOEXEC"
STREAMS = f"""\
socket(AF_INET, SOCK_STREAM|{CLOEXEC}, IPPROTO_IP) = 3 [umnet]
socket(AF_INET, SOCK_STREAM|{CLOEXEC}, IPPROTO_IP) = 4 [umnet]
setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0 [umnet]
bind(3, {loopback(7001)}, 16) = 0 [umnet]
listen(3, 5) = 0 [umnet]
connect(4, {loopback(7001)}, 16) = 0 [umnet, local]
setsockopt(4, SOL_SOCKET, SO_LINGER, {{l_onoff=1, l_linger=5}}, 8) = 0 [umnet, local]
accept4(3, {loopback(0)}, [16], {CLOEXEC}) = 5 [umnet, local]
getsockname(5, {loopback(7001)}, [128 => 16]) = 0 [umnet, local]
getsockname(5, {loopback(7001)}, [16]) = 0 [umnet, local]
socket(AF_INET6, SOCK_STREAM|{CLOEXEC}, IPPROTO_IP) = 5 [umnet]
connect(5, {{sa_family=AF_INET6, sin6_port=htons(7009), sin6_flowinfo=0, \
sin6_addr=inet_pton(AF_INET6, "::1"), sin6_scope_id=0}}, 28) \
= -1 ECONNREFUSED (Connection refused) [umnet, local]
"""
DATAGRAMS = f"""\
socket(AF_INET, SOCK_DGRAM|{CLOEXEC}, IPPROTO_IP) = 3 [umnet]
socket(AF_INET, SOCK_DGRAM|{CLOEXEC}, IPPROTO_IP) = 4 [umnet]
bind(3, {loopback(7002)}, 16) = 0 [umnet]
bind(4, {loopback(7002, 2)}, 16) = 0 [umnet]
sendto(4, {QS}, 100, 0, {loopback(7002)}, 16) = 100 [umnet, local]
recvfrom(3, {QS}, 200, 0, {loopback(7002, 2)}, [16]) = 100 [umnet, local]
sendmsg(4, {{msg_name={loopback(7002)}, msg_namelen=16, {MESSAGE}, msg_iovlen=2, \
msg_controllen=0, msg_flags=0}}, 0) = 9 [umnet, local]
setsockopt(3, IPPROTO_IP, IP_RECVTOS, [1], 4) = 0 [umnet]
recvmsg(3, {{msg_name={loopback(7002, 2)}, msg_namelen=16, {MESSAGE}, msg_iovlen=1, \
msg_control=[{{cmsg_level=IPPROTO_IP, cmsg_type=IP_TOS, cmsg_data=[0]}}], \
msg_controllen=24, msg_flags=0}}, 0) = 9 [umnet, local]
recvfrom(3, 0x0, 100, 0, 0x0, [16]) \
= -1 EAGAIN (Resource temporarily unavailable) [umnet]
"""


def traced(user: User, *words: str) -> list[str]:
    """Run talk.py and return the lines of its log."""
    log = user.folder / "calls"
    done = user.run(umview(*words, f"--trace={log}", *TALKING), "native")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return log.read_text().splitlines()


def steady(text: str) -> str:
    """Return a call without what differs from run to run."""
    text = re.sub(r"0x[0-9a-f]+", "0x0", text)
    return re.sub(r"htons\((?!70)\d+\)", "htons(0)", text)


def test_lines_say_what_was_asked_and_answered(user: User) -> None:
    lines = [STAMPS.fullmatch(line) for line in traced(user)]
    calls = [steady(line[2]) for line in lines if line]
    wanted = (STREAMS + DATAGRAMS).splitlines()
    assert len(calls) == len(lines)
    assert calls[: len(wanted)] == wanted
    assert len({line[1] for line in lines[: len(wanted)] if line}) == 1
    assert all(line[3] for line in lines[: len(wanted)] if line)


def test_interrupted_and_abandoned_calls_have_a_line(user: User) -> None:
    fates = [line.partition(" = ")[2] for line in traced(user) if " accept4(" in line]
    assert fates[1] == "? ERESTARTSYS (interrupted)"
    assert fates[2].startswith("5 [umnet, local] <")
    assert fates[3:] == ["? (the thread ended)"]


def test_json_has_an_object_a_line(user: User) -> None:
    calls: list[dict[str, Any]] = [json.loads(line) for line in traced(user, "--json")]
    bind = calls[3]
    assert bind.pop("tid") > 0
    assert bind.pop("time") > 1e9
    assert 0 < bind.pop("seconds") < 10
    assert bind == {
        "call": "bind",
        "args": {
            "sockfd": 3,
            "addr": {
                "sa_family": "AF_INET",
                "sin_port": 7001,
                "sin_addr": "127.0.0.1",
            },
            "addrlen": 16,
        },
        "outcome": "answered",
        "result": 0,
        "error": None,
        "stack": "umnet",
        "road": None,
    }
    refused = calls[11]
    assert (refused["result"], refused["error"]) == (-1, "ECONNREFUSED")
    assert [one["outcome"] for one in calls if one["call"] == "accept4"] == [
        "answered",
        "interrupted",
        "answered",
        "gone",
    ]


def test_without_a_file_lines_go_to_stderr_uncut(user: User) -> None:
    many = "import socket\nfor _ in range(20000): socket.socket().close()"
    done = user.run(umview("--trace", SYSTEM_PYTHON, "-Ic", many), "native")
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (0, 20000)
    call = f"socket(AF_INET, SOCK_STREAM|{CLOEXEC}, IPPROTO_IP) = 3 [umnet]"
    odd = [line for line in lines if (STAMPS.fullmatch(line) or [""] * 3)[2] != call]
    assert odd == []


def test_other_processes_are_followed(user: User) -> None:
    log = user.folder / "calls"
    script = f"{SYSTEM_PYTHON} -Ic 'import socket; socket.socket()' & wait"
    done = user.run(umview(f"--trace={log}", "bash", "-c", script), "native")
    assert done.returncode == 0
    assert " socket(AF_INET, " in log.read_text()


def test_what_is_left_to_the_kernel_is_told_if_it_concerns_sockets(user: User) -> None:
    log = user.folder / "calls"
    program = (
        "import socket; a, b = socket.socketpair(); a.sendmsg([b'x'])\n"
        f"open({str(TALK)!r}).close(); open('/etc/hosts').close()"
    )
    user.run(umview(f"--trace={log}", SYSTEM_PYTHON, "-Ic", program), "native")
    text = log.read_text()
    assert re.search(r' sendmsg\(3, \{.*"x".*\}, 0\) = \? \(left to the kernel\)', text)
    assert str(TALK) not in text
    assert 'openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_CLOEXEC) = ' in text


@pytest.fixture
def host(user: User) -> Iterator[Site]:
    """Give a site on the host, for servers."""
    site = Site(user, "host", "native")
    yield site
    site.close()


def test_curl_leaves_by_relay(host: Site, user: User) -> None:
    require("curl")
    log, port = user.folder / "calls", free_port()
    page = user.folder / "page"
    page.write_text("page")
    server = [SYSTEM_PYTHON, "-m", "http.server", "--directory", str(user.folder)]
    with host.serve(*server, str(port), port=port, host="127.0.0.1"):
        url = f"http://10.0.2.2:{port}/page"
        words = ("-p", "umnet,host", f"--trace={log}", "curl", "-sS", url)
        done = user.run(umview(*words), "native")
    assert (done.stdout, done.stderr) == ("page", "")
    address = (
        rf"\{{sa_family=AF_INET, sin_port=htons\({port}\), "
        r'sin_addr=inet_addr\("10\.0\.2\.2"\)\}'
    )
    text = log.read_text()
    assert re.search(rf" connect\(\d+, {address}, 16\) = .* \[umnet, relay\] <", text)
    assert re.search(rf" getpeername\(\d+, {address}, \[128 => 16\]\) = 0 \[", text)


def test_dig_and_its_answer(user: User) -> None:
    require("dig")
    log = user.folder / "calls"
    words = (f"--trace={log}", "dig", "+short", "@10.0.2.3", "localhost.", "A")
    assert user.run(umview(*words), "native").stdout == "127.0.0.1\n"
    text = log.read_text()
    asked = r' send\w+\(.*msg_data=".*\\tlocalhost.* = \d+ \[umnet, relay\] <'
    told = r" recv\w+\(.*sin_port=htons\(53\), .*\"10\.0\.2\.3\".* \[umnet, relay\] <"
    assert re.search(asked, text)
    assert re.search(told, text)


@pytest.mark.parametrize("probe", ["datagrams", "signals"])
def test_tracing_changes_no_result(probes: Probes, probe: str) -> None:
    (setup,) = SETUPS
    argv, environment = command(probes.peer, setup, "kit.py", probe)
    log = probes.user.folder / "calls"
    at = argv.index("-p")
    argv[at:at] = [f"--trace={log}"]
    done = probes.user.run(argv, "native", timeout=120, **environment)
    seen = dict(json.loads(line) for line in done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (0, "")
    untraced = probes.seen(probe, setup)
    assert seen.keys() == untraced.keys()
    odd = [case for case in seen if seen[case] != untraced[case]]
    # some cases show one of two things, natively as well
    assert [one for one in odd if not probes.natively_also(probe, one, seen[one])] == []
    assert log.stat().st_size > 0
    log.unlink()


@pytest.mark.parametrize(
    ("file", "reason"), [("/no/such/file", "No such file"), ("/", "Is a directory")]
)
def test_a_file_that_cannot_be_written_is_one_line(
    user: User, file: str, reason: str
) -> None:
    done = user.run(umview(f"--trace={file}", "true"), "native")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 125
    assert line.startswith(f"umview: --trace: cannot write to '{file}': {reason}")


def test_a_full_disk_ends_the_log_and_not_the_program(user: User) -> None:
    program = "import socket; socket.socket(); print('ran')"
    words = ("--trace=/dev/full", SYSTEM_PYTHON, "-Ic", program)
    done = user.run(umview(*words), "native")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.splitlines() == [
        "umview: the log of calls ends here: No space left on device"
    ]
