"""Policies: what they are asked, what a denied call has done, what they are told."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.apps.lab import User
from tests.setting import Tracer
from tests.trees.policed import command, install, lines_of, python, run

TRACERS: tuple[Tracer, ...] = ("seccomp", "ptrace")

# Denies what has to do with port 99, wonders about 95, and writes all down.
_POLICY = """
import errno, json, os
from umview.policy import Deed, Policy

class Watch(Policy):
    deeds = Deed(1023)
    file = -1

    def __init__(self, path):
        self.path = os.path.abspath(path)

    def start(self):
        self.file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, act, error):
        line = {
            "deed": act.deed.name, "protocol": act.protocol, "socket": act.socket,
            "local": [str(act.local.address), act.local.port],
            "remote": act.remote and [str(act.remote.address), act.remote.port],
            "error": error, "stack": act.stack, "view": act.view,
            "program": os.path.basename(act.program), "pid": act.pid,
        }
        os.write(self.file, (json.dumps(line) + "\\n").encode())

    def decide(self, act):
        incoming = act.deed in (Deed.ACCEPT, Deed.RECEIVE)
        port = act.local.port
        if act.remote and not incoming:
            port = act.remote.port
        if port == 95:
            raise ValueError("95")
        odd = act.deed is Deed.ACCEPT and act.remote.port % 2 and port == 97
        from_98 = incoming and act.remote.port == 98
        error = errno.EACCES if port == 99 or odd or from_98 else 0
        self.write(act, error)
        return error

    def note(self, act):
        self.write(act, act.error)

    def stop(self):
        os.close(self.file)

def parse(options):
    return Watch(*options)
"""


@pytest.fixture
def folder(user: User) -> Path:
    """Give a folder with that module."""
    site = user.folder / "site"
    site.mkdir()
    install(site, "umwatch", _POLICY)
    return site


def told(
    user: User, tracer: Tracer, folder: Path, source: str
) -> tuple[dict[str, Any], list[Any]]:
    """Return what a program says as JSON, and what the policy has seen."""
    words = ("-p", "umnet", "-p", "umwatch,seen.jsonl", *python(_HEAD + source))
    done = run(user, tracer, folder, *words)
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads(done.stdout)
    return said, lines_of(user.folder / "seen.jsonl")


_HEAD = """
import ctypes, errno, json, os, select, signal, socket, struct, sys, threading
said = {}
def attempt(what, call):
    try:
        said[what] = call()
    except OSError as exc:
        said[what] = errno.errorcode[exc.errno]
def tcp(): return socket.socket()
def udp(): return socket.socket(type=socket.SOCK_DGRAM)
HERE = "127.0.0.1"
def inet(host, port):
    host = socket.inet_aton(host)
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), host)
"""

_DENIED = (
    _HEAD
    + """
server = tcp()
server.bind((HERE, 0))
server.listen()
port = server.getsockname()[1]

sock = tcp()
attempt("connect", lambda: sock.connect((HERE, 99)))
attempt("... again to another", lambda: sock.connect((HERE, port)))
sock.close()
sock = tcp()
sock.setblocking(False)
attempt("non-blocking", lambda: sock.connect_ex((HERE, 99)))
attempt("unspecified", lambda: tcp().connect(("0.0.0.0", 99)))
six = socket.socket(socket.AF_INET6)
attempt("mapped", lambda: six.connect(("::ffff:127.0.0.1", 99)))
attempt("IPv6", lambda: socket.socket(socket.AF_INET6).connect(("::1", 99)))
fast = tcp()
attempt("fast open", lambda: fast.sendto(b"x", socket.MSG_FASTOPEN, (HERE, 99)))
attempt("... elsewhere", lambda: fast.sendto(b"x", socket.MSG_FASTOPEN, (HERE, port)))
attempt("bind", lambda: tcp().bind((HERE, 99)))
attempt("bind UDP", lambda: udp().bind((HERE, 99)))
attempt("policy fails", lambda: tcp().connect((HERE, 95)))

peer = udp()
peer.bind((HERE, 0))
peer.settimeout(30)
to = peer.getsockname()
sock = udp()
attempt("connect UDP", lambda: sock.connect((HERE, 99)))
attempt("... has no peer", lambda: sock.getpeername())
attempt("sendto", lambda: sock.sendto(b"x", (HERE, 99)))
attempt("sendmsg", lambda: sock.sendmsg([b"x"], [], 0, (HERE, 99)))
attempt("sendto another", lambda: sock.sendto(b"1", to))
attempt("disconnect", lambda: [sock.connect(to), os.dup(sock.fileno()) * 0][1])

libc = ctypes.CDLL(None, use_errno=True)
def kept_at(data):
    room = ctypes.create_string_buffer(data, len(data))
    return room, ctypes.addressof(room)
def sendmmsg(*messages):
    kept = []
    slots = b""
    for data, address in messages:
        to, of_to = kept_at(inet(*address))
        data, of_data = kept_at(data)
        iov, of_iov = kept_at(struct.pack("=QQ", of_data, len(data)))
        kept += to, data, iov
        slots += struct.pack("=QQQQQQQQ", of_to, 16, of_iov, 1, 0, 0, 0, 0)
    room, _ = kept_at(slots)
    fd = udp()
    done = libc.sendmmsg(fd.fileno(), room, len(messages), 0)
    if done < 0:
        raise OSError(ctypes.get_errno(), "")
    return done
attempt("sendmmsg", lambda: sendmmsg((b"x", (HERE, 99)), (b"2", to)))
attempt("sendmmsg in part", lambda: sendmmsg((b"3", to), (b"x", (HERE, 99))))

stranger = udp()
stranger.bind((HERE, 98))
stranger.sendto(b"never", to)
# The question about this one is asked after that about the stranger.
udp().sendto(b"4", to)
attempt("got", lambda: [peer.recv(9).decode() for _ in range(3)])
attempt("accepted", lambda: [server.accept()[0].recv(9).decode() for _ in range(2)])
print(json.dumps(said))
"""
)


@pytest.mark.parametrize("tracer", TRACERS)
def test_a_denied_call_has_done_nothing(
    tracer: Tracer, user: User, folder: Path
) -> None:
    words = ("-p", "umnet", "-p", "umwatch,seen.jsonl", *python(_DENIED))
    done = run(user, tracer, folder, *words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == {
        "connect": "EACCES",
        "... again to another": None,
        "non-blocking": 13,
        "unspecified": "EACCES",
        "mapped": "EACCES",
        "IPv6": "EACCES",
        "fast open": "EACCES",
        "... elsewhere": 1,
        "bind": "EACCES",
        "bind UDP": "EACCES",
        "policy fails": "EPERM",
        "connect UDP": "EACCES",
        "... has no peer": "ENOTCONN",
        "sendto": "EACCES",
        "sendmsg": "EACCES",
        "sendto another": 1,
        "disconnect": 0,
        "sendmmsg": "EACCES",
        "sendmmsg in part": 1,
        "got": ["1", "3", "4"],
        "accepted": ["", "x"],
    }
    assert "umwatch: no decision; it is denied" in done.stderr
    assert "ValueError: 95" in done.stderr
    seen = lines_of(user.folder / "seen.jsonl")
    assert all(one["program"].startswith("python3") for one in seen if one["program"])
    denied = Counter(one["deed"] for one in seen if one["error"] == 13)
    assert denied["CONNECT"] == 7
    assert denied["FAILED"] == 7  # the same ones
    assert denied["SEND"] == 3
    assert denied["BIND"] == 2
    assert denied["RECEIVE"] == 1


@pytest.mark.parametrize("tracer", TRACERS)
def test_a_connection_is_told_from_its_beginning_to_its_end(
    tracer: Tracer, user: User, folder: Path
) -> None:
    said, seen = told(
        user,
        tracer,
        folder,
        """
server = tcp()
server.bind((HERE, 0))
server.listen()
said["server"] = server.getsockname()
client = socket.create_connection(server.getsockname())
end, said["client"] = server.accept()
client.close()
end.close()
free = tcp()
free.bind((HERE, 0))
said["free"] = free.getsockname()
attempt("refused", lambda: socket.create_connection(free.getsockname()))
slow = tcp()
slow.setblocking(False)
attempt("later", lambda: slow.connect_ex(free.getsockname()))
one = udp()
one.connect(server.getsockname())
one.close()
print(json.dumps(said))
""",
    )
    assert said["refused"] == "ECONNREFUSED"
    server, client, free = said["server"], said["client"], said["free"]
    short = [
        (one["deed"], one["protocol"], one["local"], one["remote"], one["error"])
        for one in seen
        if one["deed"] not in ("BIND", "LISTEN", "CONNECT", "ACCEPT", "SEND")
    ]
    assert ("CONNECTED", 6, client, server, 0) in short
    assert ("ACCEPTED", 6, server, client, 0) in short
    assert ("ENDED", 6, client, server, 0) in short
    assert ("ENDED", 6, server, client, 0) in short
    failed = [one for one in short if one[0] == "FAILED"]
    assert [(one[3], one[4]) for one in failed] == [(free, 111)] * 2
    pairs = Counter(one["socket"] for one in seen if one["deed"] == "ENDED")
    began = [one for one in seen if one["deed"] in ("CONNECTED", "ACCEPTED")]
    assert pairs == Counter(one["socket"] for one in began)
    assert len(began) == 3
    assert {one["stack"] for one in seen} == {"/dev/net/default"}
    assert {one["view"] for one in seen} == {0}


@pytest.mark.parametrize("tracer", TRACERS)
def test_threads_that_accept_share_what_is_allowed(
    tracer: Tracer, user: User, folder: Path
) -> None:
    """Peers with an odd port are denied; each other one is accepted once."""
    said, seen = told(
        user,
        tracer,
        folder,
        """
server = tcp()
server.bind((HERE, 97))
server.listen(64)
got = []
def accept():
    while True:
        sock, peer = server.accept()
        got.append(peer[1])
        data = sock.recv(9)
        sock.sendall(data)
        if data == b"end":
            return
threads = [threading.Thread(target=accept, daemon=True) for _ in range(4)]
for one in threads: one.start()
answers = {}
def call(data):
    with tcp() as sock:
        sock.connect((HERE, 97))
        port = sock.getsockname()[1]
        try:
            sock.sendall(data)
            answers[port] = sock.recv(9).decode()
        except OSError:
            answers[port] = ""
    return port
def calls():
    for _ in range(10): call(b"x")
callers = [threading.Thread(target=calls) for _ in range(6)]
for one in callers: one.start()
for one in callers: one.join()
said["wrong"] = [port for port in answers if (answers[port] == "x") == port % 2]
said["twice"] = len(got) - len(set(got))
left = 4
while left:
    left -= answers[call(b"end")] == "end"
for one in threads: one.join()
said["odd"] = [port for port in got if port % 2]
print(json.dumps(said))
""",
    )
    assert said == {"wrong": [], "twice": 0, "odd": []}
    assert any(one["deed"] == "ACCEPT" and one["error"] for one in seen)


@pytest.mark.parametrize("tracer", TRACERS)
def test_signals_while_a_policy_is_asked(
    tracer: Tracer, user: User, folder: Path
) -> None:
    said, _ = told(
        user,
        tracer,
        folder,
        """
server = tcp()
server.bind((HERE, 0))
server.listen(64)
def accept():
    while True:
        server.accept()[0].close()
threading.Thread(target=accept, daemon=True).start()
to = server.getsockname()
libc = ctypes.CDLL(None, use_errno=True)
raw, bad = inet(*to), inet(HERE, 99)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
results = []
for number in range(60):
    for address in (raw, bad):
        sock = tcp()
        done = libc.connect(sock.fileno(), address, 16)
        results.append(done and ctypes.get_errno())
        sock.close()
signal.setitimer(signal.ITIMER_REAL, 0)
# One may be on its way yet, and Python's end puts the default back.
signal.signal(signal.SIGALRM, signal.SIG_IGN)
said["results"] = sorted(set(results[::2])), sorted(set(results[1::2]))
print(json.dumps(said))
""",
    )
    assert said == {"results": [[0], [13]]}


_THREE = """
for port in (99, 98):
    attempt(str(port), lambda: tcp().connect((HERE, port)))
print(json.dumps(said))
"""
_NO, _YES = {"99": "EACCES", "98": "ECONNREFUSED"}, {"99": "ECONNREFUSED"}


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("stack", ["umnet", "umnetcurrent"])
def test_a_policy_has_a_say_in_nested_views(
    stack: str, tracer: Tracer, user: User, folder: Path
) -> None:
    words = ("-p", "umnet", "-p", "umwatch,seen.jsonl")
    inner = command(tracer, "-p", stack, *python(_HEAD + _THREE))
    done = run(user, tracer, folder, *words, *inner)
    assert json.loads(done.stdout) == _NO, done.stderr
    seen = lines_of(user.folder / "seen.jsonl")
    assert {one["view"] for one in seen if one["deed"] == "CONNECT"} == {1}


@pytest.mark.parametrize("stack", ["umnet", "umnetcurrent"])
def test_a_policy_has_no_say_in_the_view_around(
    stack: str, user: User, folder: Path
) -> None:
    inner = command("seccomp", "-p", stack, "-p", "umwatch,seen.jsonl")
    program = python(_HEAD + _THREE)
    both = f"{shlex.join([*inner, *program])}; {shlex.join(program)}"
    done = run(user, "seccomp", folder, "-p", "umnet", "sh", "-c", both)
    inside, around = map(json.loads, done.stdout.splitlines())
    assert (inside, around) == (_NO, _NO | _YES), done.stderr


def test_policies_come_and_go(user: User, folder: Path) -> None:
    program = shlex.join(python(_HEAD + _THREE))
    umctl = shlex.join([sys.executable, "-m", "umview.ctl"])
    script = f"""{program}
{umctl} add umwatch,seen.jsonl
{program}
{umctl} modules
{umctl} del umwatch
{program}"""
    done = run(user, "seccomp", folder, "-p", "umnet", "sh", "-c", script)
    said = done.stdout.splitlines()
    answers = [json.loads(line) for line in said if line.startswith("{")]
    assert answers == [_NO | _YES, _NO, _NO | _YES], done.stderr
    assert any("umwatch" in line for line in said if not line.startswith("{"))


def test_the_hosts_own_network_cannot_be_policed(user: User, folder: Path) -> None:
    words = ("-p", "umnetnative", "-p", "umwatch,seen.jsonl", "true")
    done = run(user, "seccomp", folder, *words)
    assert done.returncode == 125
    assert done.stderr == (
        "umview: umwatch has no say in the kernel's own network, which calls go to "
        "unchanged: use it with another stack, as with -p umnet\n"
    )


@pytest.mark.parametrize("tracer", TRACERS)
def test_a_policed_view_has_no_sockets_of_the_host(
    tracer: Tracer, user: User, folder: Path
) -> None:
    source = """
libc = ctypes.CDLL(None, use_errno=True)
def msocket(path):
    fd = libc.syscall(30061, path, socket.AF_INET, socket.SOCK_STREAM, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "")
    return fd > 2
attempt("own", lambda: msocket(b"/dev/net/default"))
attempt("host", lambda: msocket(b"/dev/net/umnetnative1"))
print(json.dumps(said))
"""
    stacks = ("-p", "umnet", "-p", "umnetnative")
    done = run(
        user,
        tracer,
        folder,
        *stacks,
        "-p",
        "umwatch,seen.jsonl",
        *python(_HEAD + source),
    )
    assert json.loads(done.stdout) == {"own": True, "host": "EPERM"}


def test_a_policy_that_cannot_start_ends_umview(user: User, folder: Path) -> None:
    install(folder, "umbroken", _BROKEN)
    done = run(user, "seccomp", folder, "-p", "umbroken", "true")
    assert done.returncode == 125
    assert done.stderr == "umview: umbroken: it is broken: mend it\n"


_BROKEN = """
from umview.errors import UmviewError
from umview.policy import Policy

class Broken(Policy):
    def start(self):
        raise UmviewError("it is broken: mend it")

def parse(options):
    return Broken()
"""
