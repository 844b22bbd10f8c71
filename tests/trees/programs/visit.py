"""Come from outside into a view by a stack special file. Usage: visit.py FILE WHAT."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
import threading

import umview

_FILE = sys.argv[1]
_PR_SET_DUMPABLE = 4


def name_servers() -> str:
    """Return what /etc/resolv.conf says, where there is one."""
    try:
        with open("/etc/resolv.conf", encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


_NAME_SERVERS = name_servers()


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201


def bound(sock: socket.socket, port: int = 0) -> socket.socket:
    """Let it listen, on one of the kernel's own ports unless another is said."""
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


def outcome() -> str:
    """Say what becomes of msocket."""
    try:
        return str(umview.msocket(_FILE).getsockname()[0])
    except OSError as exc:
        return f"{errno.errorcode[exc.errno or 0]} {exc.strerror}"


def reaches(listener: socket.socket, client: socket.socket) -> bool:
    """Whether a client comes to a listener by its address on lo."""
    client.settimeout(30)
    client.connect(("127.0.0.1", listener.getsockname()[1]))
    peer, name = listener.accept()
    with peer, client:
        peer.sendall(b"x")
        return client.recv(1) == b"x" and name == client.getsockname()


def sockets() -> None:
    """Have the kernel's sockets, old and new, beside those of the view."""
    old, fresh, spare = bound(socket.socket()), socket.socket(), socket.socket()
    theirs = bound(umview.msocket(_FILE), 80)
    new, late = bound(socket.socket()), socket.socket()
    say(reaches(old, socket.socket()), reaches(new, fresh))
    say(name_servers() == _NAME_SERVERS)
    say(reaches(theirs, umview.msocket(_FILE)), theirs.getsockname()[1])
    other = socket.socket()
    other.settimeout(30)
    say(errno.errorcode[other.connect_ex(("127.0.0.1", 80))])
    # its children: the kernel's network, and the view by its real name
    code = (
        "import socket, umview, sys\n"
        "socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30)\n"
        "with umview.msocket('/dev/net/default') as s:\n"
        "    s.settimeout(30)\n"
        "    s.connect(('127.0.0.1', 80))\n"
        "    print(s.getpeername()[1], flush=True)\n"
    )
    port = str(new.getsockname()[1])
    subprocess.run([sys.executable, "-c", code, port], check=True, timeout=60)
    for listener in (theirs, new):
        listener.accept()[0].close()
    umview.msocket(_FILE, socket.AF_UNSPEC, umview.SOCK_DEFAULT)
    say(reaches(theirs, socket.socket()), reaches(new, spare), reaches(old, late))


def threads() -> None:
    """Let one of many threads bring in all the others, busy or waiting."""
    listener = bound(socket.socket())
    accepted: list[bool] = []
    outcomes: list[str] = []
    go = threading.Barrier(9)

    def accept() -> None:
        peer, _ = listener.accept()
        accepted.append(peer.recv(1) == b"x")

    def enter() -> None:
        go.wait()
        outcomes.append(outcome())

    waiting = threading.Thread(target=accept)
    several = [threading.Thread(target=enter) for _ in range(8)]
    for thread in (waiting, *several):
        thread.start()
    go.wait()
    for thread in several:
        thread.join()
    socket.create_connection(listener.getsockname(), 30).sendall(b"x")
    waiting.join()
    say(accepted, outcomes == ["0.0.0.0"] * 8)


def forks() -> None:
    """Enter in a child: the parent stays outside."""
    if os.fork() == 0:
        say(outcome())
        os._exit(0)
    os.wait()
    with open("/proc/self/status", encoding="ascii") as file:
        filters = [line for line in file if line.startswith("Seccomp:")]
    say(filters[0].split()[1])
    say(outcome())
    if os.fork() == 0:
        say(outcome())
        os._exit(0)
    os.wait()


def hidden() -> None:
    """Let nobody look into this process."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    say(outcome())


def stays() -> None:
    """Go on in the view when its command has ended."""
    theirs = bound(umview.msocket(_FILE), 80)
    say("in")
    sys.stdin.readline()
    say(reaches(theirs, umview.msocket(_FILE)))


globals()[sys.argv[2]]()
