"""The modules of examples/modules, installed by pip without a network, and at work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import User, require
from tests.setting import Tracer
from tests.trees.policed import install, lines_of, python, run

TREE = Path(__file__).parents[2]
TRACERS: tuple[Tracer, ...] = ("seccomp", "ptrace")
_MODULES = ("umfilter", "umrecord", "umecho")
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install")
_OFFLINE = ("--no-index", "--no-build-isolation", "--no-deps", "--no-compile")


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """Install the modules into a folder, from copies of their own."""
    with tempfile.TemporaryDirectory(prefix="umt-pip-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        sources = []
        for module in _MODULES:
            source = folder / f"src-{module}"
            shutil.copytree(TREE / "examples" / "modules" / module, source)
            sources.append(str(source))
        shutil.copy(TREE / "csrc" / "stackd" / "packet_road.h", folder / "src-umecho")
        target = folder / "site"
        subprocess.run(
            [*_PIP, *_OFFLINE, "--target", str(target), *sources],
            check=True,
            timeout=300,
        )
        yield target


_ECHO = """
import socket, threading
for address in ("192.0.2.1", "2001:db8::7"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_connection((address, 4711)) as sock:
        data = bytes(range(256)) * 2000
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        with sock.makefile("rb") as answer:
            assert answer.read(len(data)) == data
            sender.join()
            sock.shutdown(socket.SHUT_WR)
            assert answer.read() == b""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(60)
        sock.sendto(b"hello", (address, 99))
        data, peer = sock.recvfrom(99)
        assert (data, peer[:2]) == (b"hello", (address, 99))
print("echoed")
"""


@pytest.mark.parametrize("tracer", TRACERS)
def test_umecho_answers_at_every_address(
    tracer: Tracer, user: User, site: Path
) -> None:
    done = run(user, tracer, site, "-p", "umecho", *python(_ECHO))
    assert (done.stdout, done.stderr) == ("echoed\n", "")


def test_umecho_answers_pings(user: User, site: Path) -> None:
    require("ping")
    script = "ping -c1 -W60 198.51.100.9 && ping -c1 -W60 2001:db8::9"
    done = run(user, "seccomp", site, "-p", "umecho", "sh", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("1 received") == 2


def test_umecho_has_the_addresses_that_it_is_given(user: User, site: Path) -> None:
    module = "umecho,ip=10.3.2.1/8,ip=fd03::1/64"
    done = run(user, "seccomp", site, "-p", module, "ip", "-o", "addr", "show", "echo0")
    assert re.findall(r"inet6? (\S+)", done.stdout) == ["10.3.2.1/8", "fd03::1/64"]


_TRY = """
import errno, json, socket, sys
said = {}
for text in sys.argv[1:]:
    host, _, port = text.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
        said[text] = "ok"
    except OSError as exc:
        said[text] = errno.errorcode[exc.errno]
print(json.dumps(said))
"""


@pytest.mark.parametrize("tracer", TRACERS)
def test_umfilter_goes_by_its_lists(tracer: Tracer, user: User, site: Path) -> None:
    rules = "deny=10.0.0.0/8,allow=:443,allow=[2001:db8::/32]:80-81,log=denied.log"
    expected = {
        "192.0.2.1:443": "ok",
        "192.0.2.1:80": "EACCES",
        "10.1.2.3:443": "EACCES",
        "2001:db8::1:80": "ok",
        "2001:db8::1:81": "ok",
        "2001:db8::1:82": "EACCES",
        "2001:db9::1:80": "EACCES",
        "2001:db9::1:443": "ok",
    }
    words = ("-p", "umecho", "-p", f"umfilter,{rules}", *python(_TRY), *expected)
    done = run(user, tracer, site, *words)
    assert done.stderr == ""
    assert json.loads(done.stdout) == expected
    log = (user.folder / "denied.log").read_text().splitlines()
    assert len(log) == 4
    assert "denied CONNECT tcp" in log[0]
    assert "192.0.2.1:80 pid=" in log[0]
    assert "[2001:db8::1]:82 pid=" in log[2]


def test_umfilter_knows_programs(user: User, site: Path) -> None:
    require("nc")
    script = f"""
{python(_TRY)[0]} -c '{_TRY}' 192.0.2.1:80
echo hello | nc -w60 -N 192.0.2.1 80 || echo refused
"""
    words = ("-p", "umecho", "-p")
    rule = "umfilter,deny=nc.openbsd@,deny=nc.traditional@,deny=/usr/bin/ncat@"
    done = run(user, "seccomp", site, *words, rule, "sh", "-c", script)
    assert '"ok"' in done.stdout
    assert "hello" not in done.stdout
    assert "refused" in done.stdout


def test_umfilter_looks_at_who_comes_in(user: User, site: Path) -> None:
    source = """
import socket
server = socket.create_server(("127.0.0.1", 8080))
for host in ("127.0.0.2", "127.0.0.1"):
    sock = socket.create_connection(("127.0.0.1", 8080), source_address=(host, 0))
print(server.accept()[1][0])
"""
    rule = "umfilter,deny=127.0.0.2"
    done = run(user, "seccomp", site, "-p", "umecho", "-p", rule, *python(source))
    assert (done.stdout, done.stderr) == ("127.0.0.1\n", "")


@pytest.mark.parametrize("tracer", TRACERS)
def test_umrecord_writes_every_connection(
    tracer: Tracer, user: User, site: Path
) -> None:
    source = """
import socket
with socket.create_connection(("192.0.2.1", 443)) as sock:
    sock.sendall(b"x")
    sock.recv(1)
with socket.socket() as sock:
    sock.connect_ex(("127.0.0.1", 9))
with socket.socket(type=socket.SOCK_DGRAM) as sock:
    sock.sendto(b"x", ("192.0.2.1", 53))
with socket.socket() as sock:
    sock.connect_ex(("10.1.1.1", 1))
kept = socket.create_connection(("192.0.2.1", 444))
"""
    policies = ("-p", "umfilter,deny=10.0.0.0/8", "-p", "umrecord,file=made.jsonl")
    done = run(user, tracer, site, "-p", "umecho", *policies, *python(source))
    assert (done.returncode, done.stderr) == (0, "")
    lines = lines_of(user.folder / "made.jsonl")
    found = [
        (one["deed"], one["protocol"], *one["remote"], one["result"])
        for one in sorted(lines, key=lambda one: one["begin"])
    ]
    assert found == [
        ("connected", 6, "192.0.2.1", 443, "ok"),
        ("failed", 6, "127.0.0.1", 9, "ECONNREFUSED"),
        ("send", 17, "192.0.2.1", 53, "ok"),
        ("failed", 6, "10.1.1.1", 1, "EACCES"),
        ("connected", 6, "192.0.2.1", 444, "ok"),
    ]
    for one in lines:
        assert one["stack"] == "/dev/net/default"
        assert one["begin"] <= one["end"]
        assert one["local"][0] in ("10.66.0.2", "127.0.0.1", "0.0.0.0")
        assert "python3" in one["program"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("umfilter,deny=10.0.0.0/99", "umfilter: deny=10.0.0.0/99: "),
        ("umfilter,deny=:99-1", "umfilter: deny=:99-1: ports are"),
        ("umfilter,deny=a b:c", "umfilter: deny=a b:c: a rule is"),
        ("umfilter,maybe=1", "umfilter: unknown option 'maybe=1'; known options: "),
        ("umfilter,log=/nowhere/log", "umfilter: log: cannot write to '/nowhere/log'"),
        ("umrecord", "umrecord: where to? say file=FILE"),
        ("umrecord,file=/nowhere/x", "umrecord: file: cannot write to '/nowhere/x'"),
        ("umecho,ip=x", "umecho: ip=x: no address"),
        ("umecho,on", "umecho: unknown option 'on'; known options: ip=ADDRESS/PREFIX"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    text: str, error: str, user: User, site: Path
) -> None:
    done = run(user, "seccomp", site, "-p", text, "true")
    assert done.returncode == 125
    assert done.stderr.startswith(f"umview: {error}")
    assert len(done.stderr.splitlines()) == 1


# ---- the ones that docs/modules.md shows ----


def _shown(name: str) -> str:
    """Return the module that the documentation shows, which begins with its name."""
    lines = (TREE / "docs" / "modules.md").read_text().splitlines()
    (head,) = (line for line in lines if line.startswith(f'    """{name}: '))
    begin = lines.index(head)
    block = []
    for line in lines[begin:]:
        if line and not line.startswith("    "):
            break
        if line.startswith("    $"):
            break
        block.append(line[4:])
    return "\n".join(block)


def test_the_stack_of_the_documentation(user: User) -> None:
    source = _shown("umisland")
    assert len([line for line in source.splitlines() if line.strip()]) <= 44
    folder = user.folder / "site"
    folder.mkdir()
    install(folder, "umisland", source)
    module = "umisland,ip=192.0.2.7/24"
    done = run(user, "seccomp", folder, "-p", module, "ip", "-o", "addr")
    assert "192.0.2.7/24" in done.stdout
    assert done.stderr == ""
    done = run(user, "seccomp", folder, "-p", "umisland,ip=x", "true")
    assert done.stderr == "umview: umisland: ip=x: not an address; try ip=10.1.1.1/24\n"


def test_the_policy_of_the_documentation(user: User) -> None:
    folder = user.folder / "site"
    folder.mkdir()
    install(folder, "umquiet", _shown("umquiet"))
    targets = {"127.0.0.1:25": "EACCES", "127.0.0.1:26": "ECONNREFUSED"}
    words = ("-p", "umnet", "-p", "umquiet", *python(_TRY), *targets)
    assert json.loads(run(user, "ptrace", folder, *words).stdout) == targets
