"""Programs that show sockets and cards show those of the view they run in."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from tests.apps.lab import PROGRAMS, User, Where, require

SOCKETS = str(PROGRAMS / "sockets.py")


def shown(user: User, where: Where, *command: str) -> tuple[dict[str, int], str]:
    """Run a command beside a program with sockets.

    Returns:
        The program's numbers: its pid and its ports; and what the command said.
    """
    got = user.run([sys.executable, SOCKETS, *command], where)
    first, _, rest = got.stdout.partition("\n")
    assert got.returncode == 0, got
    numbers: dict[str, int] = json.loads(first)
    return numbers, rest


def test_ss_shows_sockets_and_their_owner(user: User, where: Where) -> None:
    require("ss")
    numbers, text = shown(user, where, "ss", "-H", "-n", "-tuape")
    lines = [line for line in text.splitlines() if f"pid={numbers['pid']}," in line]
    seen = {tuple(line.split()[:2]) for line in lines}
    assert seen == {("tcp", "LISTEN"), ("tcp", "ESTAB"), ("udp", "UNCONN")}
    assert len(lines) == 5, text
    (listener,) = [
        line.split() for line in lines if "LISTEN" in line and "127.0.0.1" in line
    ]
    assert listener[2:5] == ["0", "7", f"127.0.0.1:{numbers['tcp4']}"]


def test_ss_filters_by_port_and_state(user: User, where: Where) -> None:
    require("ss")
    script = 'ss -H -tn state listening "sport = :$0" | wc -l'
    _, text = shown(user, where, "bash", "-c", script, "tcp4")
    assert text.strip() == "1"


def test_netstat_shows_sockets_and_their_owner(user: User, where: Where) -> None:
    require("netstat")
    numbers, text = shown(user, where, "netstat", "-tuanp")
    own = [line for line in text.splitlines() if f" {numbers['pid']}/" in line]
    assert len(own) == 5, text
    assert any(re.match(r"tcp6 .* :::\d+ +:::\* +LISTEN", line) for line in own)
    assert any(f"0.0.0.0:{numbers['udp4']}" in line for line in own)


def test_lsof_shows_sockets_of_a_process(user: User, where: Where) -> None:
    require("lsof")
    numbers, text = shown(user, where, "bash", "-c", "lsof -nP -i -a -p $PPID")
    lines = text.splitlines()[1:]
    assert {int(line.split()[1]) for line in lines} == {numbers["pid"]}
    assert sum("TCP" in line for line in lines) == 4, text
    assert f"UDP *:{numbers['udp4']}" in text
    assert f"TCP 127.0.0.1:{numbers['tcp4']} (LISTEN)" in text


def test_psutil_lists_connections(user: User, where: Where) -> None:
    script = (
        "import os, psutil\n"
        "for c in psutil.Process(os.getppid()).net_connections('inet'):\n"
        "    print(c.status, c.laddr.port)\n"
    )
    numbers, text = shown(user, where, sys.executable, "-c", script)
    assert f"LISTEN {numbers['tcp4']}" in text
    assert f"NONE {numbers['udp4']}" in text
    assert text.count("ESTABLISHED") == 2, text


@pytest.mark.view
def test_sockets_of_others_are_not_shown(user: User) -> None:
    require("ss", "netstat", "lsof")
    script = "ss -Htuan; netstat -tuan | tail -n +3; lsof -nP -i; wc -l </proc/net/tcp"
    got = user.run(["bash", "-c", script], "view")
    assert got.stdout == "1\n", got


@pytest.mark.view
def test_ss_sums_up_the_view(user: User) -> None:
    require("ss")
    got = user.run(["ss", "-s"], "view")
    assert re.search(r"TCP: +0 \(estab 0, closed 0,", got.stdout), got


CARDS = {
    "ip": ["ip", "-o", "link"],
    "ifconfig": ["ifconfig", "-a"],
    "netstat": ["netstat", "-i"],
    "python": [
        *(sys.executable, "-c"),
        "import psutil, socket; print(socket.if_nameindex(), psutil.net_if_addrs())",
    ],
    "node": ["node", "-p", "Object.keys(os.networkInterfaces())"],
    "cat": ["sh", "-c", "cat /sys/class/net/nat0/uevent /sys/class/net/lo/uevent"],
}


@pytest.mark.view
@pytest.mark.parametrize("program", CARDS)
def test_cards_are_the_views(user: User, program: str) -> None:
    require(CARDS[program][0])
    got = user.run(CARDS[program], "view")
    assert re.search(r"\blo\b", got.stdout), got
    assert re.search(r"\bnat0\b", got.stdout), got
    assert "eth0" not in got.stdout


@pytest.mark.view
def test_go_lists_cards_and_their_folder(user: User) -> None:
    require("go")
    source = user.folder / "cards.go"
    source.write_text(
        "package main\n"
        'import ("fmt"; "net"; "os")\n'
        "func main() {\n"
        "    cards, _ := net.Interfaces()\n"
        "    for _, card := range cards { fmt.Println(card.Name, card.MTU) }\n"
        '    files, _ := os.ReadDir("/sys/class/net")\n'
        "    for _, file := range files { fmt.Println(file.Name()) }\n"
        "}\n"
    )
    program = source.with_suffix("")
    built = user.run(["go", "build", "-o", str(program), str(source)], "native")
    assert built.returncode == 0, built
    got = user.run([str(program)], "view")
    assert got.stdout == "lo 65536\nnat0 65500\nlo\nnat0\n", got


@pytest.mark.view
def test_java_lists_cards(user: User) -> None:
    require("java")
    source = user.folder / "Cards.java"
    source.write_text(
        "import java.net.NetworkInterface;\n"
        "class Cards { public static void main(String[] a) throws Exception {\n"
        "  for (var card : java.util.Collections.list(\n"
        "      NetworkInterface.getNetworkInterfaces()))\n"
        '    System.out.println(card.getName() + " " + card.getIndex() + " "\n'
        "        + card.getMTU() + card.getInterfaceAddresses());\n"
        "} }\n"
    )
    got = user.run(["java", str(source)], "view")
    assert "lo 1 65536" in got.stdout, got
    assert "nat0 2 65500" in got.stdout, got
    assert "10.0.2.15/24" in got.stdout, got


@pytest.mark.view
def test_settings_are_the_views(user: User) -> None:
    names = ("ip_unprivileged_port_start", "ping_group_range", "ip_local_port_range")
    files = [f"/proc/sys/net/ipv4/{name}" for name in names]
    got = user.run(["cat", *files], "view")
    assert got.stdout == "0\n0\t2147483647\n32768\t60999\n", got
    got = user.run(["cat", "/proc/sys/net/ipv6/conf/nat0/disable_ipv6"], "view", "v4")
    assert got.stdout == "1\n", got


@pytest.mark.view
def test_folder_of_cards_goes_with_the_view(user: User) -> None:
    script = "cat /sys/class/net/lo/mtu; ls $XDG_RUNTIME_DIR/umview/*/class-net/0"
    got = user.run(["sh", "-c", script], "view")
    assert got.stdout == "65536\nlo\nnat0\n", got
    assert not Path(user.runtime, "umview").exists()
    assert os.listdir(user.runtime) == []
