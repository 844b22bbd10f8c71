"""Small network tools: nc, socat, bash, ping and dig."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.apps.lab import PROGRAMS, Place, User, Where, require

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
NAME_SERVER = str(PROGRAMS / "name_server.py")


_PIPE_SIZE = 1 << 16


@pytest.fixture
def payload(user: User) -> Path:
    """Return a file of a few megabytes that nobody knows beforehand."""
    path = user.folder / "payload"
    path.write_bytes(os.urandom(3 << 20))
    return path


@FAMILIES
def test_nc_sends_a_file_to_nc(place: Place, payload: Path, family: int) -> None:
    require("nc")
    listen = ("nc", "-nv", f"-{family}", "-N", "-l", str(place.listen))
    with place.server.serve(*listen, says="Listening on") as server:
        place.client.run(
            *("nc", "-n", "-N", place.address(family), str(place.port)), stdin=payload
        )
        server.finish()
        assert server.output.read_bytes() == payload.read_bytes()


@FAMILIES
def test_nc_exchanges_datagrams(place: Place, family: int) -> None:
    require("nc")
    question = place.client.folder / "question"
    question.write_text("datagram\n")
    listen = ("nc", "-nv", f"-{family}", "-u", "-l", str(place.listen))
    with place.server.serve(*listen, says="Bound on") as server:
        place.client.run(
            *("nc", "-n", "-u", "-w", "1", place.address(family), str(place.port)),
            stdin=question,
        )
        server.wait_for("datagram\n")


@FAMILIES
def test_socat_echoes_what_socat_sends(
    place: Place, payload: Path, family: int
) -> None:
    require("socat")
    listen = f"TCP{family}-LISTEN:{place.listen},fork"
    with place.server.serve("socat", "-d", "-d", listen, "PIPE", says="listening on"):
        to = f"TCP{family}:{place.address(family, url=True)}:{place.port}"
        # Of more than a pipe holds socat locks itself up, natively too: it writes
        # 8192 bytes at once to a pipe that has promised room for 4096.
        question = place.client.folder / "question"
        question.write_bytes(payload.read_bytes()[:_PIPE_SIZE])
        echoed = place.client.folder / "echoed"
        script = f"socat -t 10 - {to} > {echoed}"
        place.client.run("bash", "-c", script, stdin=question)
        assert echoed.read_bytes() == question.read_bytes()


@FAMILIES
def test_socat_echoes_datagrams(place: Place, family: int) -> None:
    require("socat")
    question = place.client.folder / "question"
    question.write_text("datagram\n")
    listen = f"UDP{family}-LISTEN:{place.listen},fork"
    with place.server.serve("socat", "-d", "-d", listen, "PIPE", says="listening on"):
        to = f"UDP{family}:{place.address(family, url=True)}:{place.port}"
        got = place.client.run("socat", "-t", "1", "-", to, stdin=question)
        assert got.out == "datagram\n"


def test_bash_talks_through_dev_tcp(place: Place) -> None:
    require("socat", "bash")
    listen = f"TCP-LISTEN:{place.listen},fork"
    script = f"""
        exec 3<>/dev/tcp/{place.host}/{place.port}
        echo 'hello bash' >&3
        read -r line <&3
        echo "$line"
    """
    with place.server.serve("socat", "-d", "-d", listen, "PIPE", says="listening on"):
        assert place.client.run("bash", "-c", script).out == "hello bash\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ping_reaches_loopback(user: User, where: Where, address: str) -> None:
    require("ping")
    got = user.run(["ping", "-c", "2", "-i", "0.2", "-W", "5", address], where)
    assert "2 packets transmitted, 2 received, 0% packet loss" in got.stdout, got
    assert got.returncode == 0


@pytest.mark.view
@pytest.mark.parametrize("address", ["10.0.2.15", "fd00::15", "10.0.2.2", "10.0.2.3"])
def test_ping_reaches_the_addresses_of_a_view(user: User, address: str) -> None:
    require("ping")
    got = user.run(["ping", "-c", "2", "-i", "0.2", "-W", "5", address], "view")
    assert "2 packets transmitted, 2 received, 0% packet loss" in got.stdout, got
    assert got.returncode == 0


def test_ping_shows_a_large_echo_whole(user: User, where: Where) -> None:
    require("ping")
    got = user.run(["ping", "-c", "1", "-s", "8000", "-W", "5", "127.0.0.1"], where)
    assert re.search(
        r"8008 bytes from 127\.0\.0\.1: icmp_seq=1 ttl=64 time=", got.stdout
    )


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        (("one.test.", "A"), ["192.0.2.1"]),
        (("one.test.", "AAAA"), ["2001:db8::1"]),
        (("big.test.", "A"), [f"192.0.2.{number + 1}" for number in range(60)]),
        (("+tcp", "one.test.", "A"), ["192.0.2.1"]),
        (("nowhere.example.", "A"), []),
    ],
    ids=["A", "AAAA", "truncated", "tcp", "NXDOMAIN"],
)
def test_dig_asks_a_name_server(
    place: Place, question: tuple[str, ...], answers: list[str]
) -> None:
    require("dig")
    with place.server.serve(
        sys.executable, NAME_SERVER, str(place.listen), says="ready"
    ):
        at = (f"@{place.host}", "-p", str(place.port))
        got = place.client.run("dig", "+short", *at, *question)
        assert sorted(got.out.split()) == sorted(answers)


@pytest.mark.view
@pytest.mark.parametrize("server", ["10.0.2.3", "fd00::3"])
def test_dig_asks_the_name_server_of_the_view(user: User, server: str) -> None:
    require("dig")
    got = user.run(["dig", "+short", f"@{server}", "localhost.", "A"], "view")
    assert got.stdout == "127.0.0.1\n", got


@pytest.mark.view
def test_names_come_from_the_name_server_of_the_view(user: User) -> None:
    got = user.run(["cat", "/etc/resolv.conf"], "view")
    servers = re.findall(r"^nameserver (\S+)$", got.stdout, re.MULTILINE)
    assert servers == ["10.0.2.3", "fd00::3"], got
    got = user.run(["getent", "ahostsv4", "localhost"], "view")
    assert got.stdout.startswith("127.0.0.1 "), got


@pytest.mark.view
def test_name_without_records_of_a_type_exists_all_the_same(user: User) -> None:
    require("dig")
    got = user.run(["dig", "@10.0.2.3", "localhost.", "MX"], "view")
    assert "status: NOERROR" in got.stdout, got
    assert "ANSWER: 0" in got.stdout


@pytest.mark.view
@pytest.mark.parametrize("process", ["", "self/", "thread-self/", "1/"])
def test_proc_net_lists_the_cards_of_the_view(user: User, process: str) -> None:
    got = user.run(["cat", f"/proc/{process}net/dev"], "view")
    assert re.findall(r"^ *(\S+):", got.stdout, re.MULTILINE) == ["lo", "nat0"], got


@pytest.mark.view
def test_relative_path_leads_to_the_files_of_the_view(user: User) -> None:
    script = "cd /proc/self/net && cat dev; cd /etc && cat resolv.conf"
    got = user.run(["bash", "-c", script], "view")
    assert "nat0:" in got.stdout
    assert "nameserver 10.0.2.3" in got.stdout
