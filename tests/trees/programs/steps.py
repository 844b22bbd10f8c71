"""Do what is asked for, line by line: an expression comes, what it gives is told."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
import threading

import calls  # type: ignore[import-not-found]

msocket, open_at = calls.msocket, calls.open_at
RLIMIT_LOCKS = 10
SOCKETS: list[socket.socket] = []


def keep(sock: socket.socket) -> int:
    """Let a socket live on; return its place in the list."""
    SOCKETS.append(sock)
    return len(SOCKETS) - 1


def listen(path: str | None, port: int) -> int:
    """Listen on a stack, which is the sign by which others find out about theirs."""
    sock = open_at(path)
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return keep(sock)


def finds(port: int) -> bool:
    """Whether the stack that is the default has a listener at the port."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def in_thread(expression: str) -> object:
    """Return what an expression gives in a thread."""
    said: list[object] = []
    thread = threading.Thread(target=lambda: said.append(eval(expression)))
    thread.start()
    thread.join()
    return said[0]


def tell(expression: str) -> str:
    """Return what is said of what an expression gives."""
    try:
        return repr(eval(expression))
    except OSError as exc:
        return repr(errno.errorcode[exc.errno or 0])
    except Exception as exc:  # noqa: BLE001 - a mistake in the test
        return repr(repr(exc))


class Child:
    """A child that waits until it is asked."""

    def __init__(self, *, orphaned: bool = False) -> None:
        ours, theirs = socket.socketpair()
        self._told, self._sock = ours.makefile(), ours
        pid = os.fork()
        if pid:
            theirs.close()
            if orphaned:
                os.waitpid(pid, 0)
            return
        self._told.close()
        ours.close()
        if orphaned:
            os.setsid()
            if os.fork():
                os._exit(0)
        for line in theirs.makefile():
            theirs.sendall(f"{tell(line)}\n".encode())
        os._exit(0)

    def says(self, expression: str) -> object:
        """Return what an expression gives in it."""
        self._sock.sendall(f"{expression}\n".encode())
        return eval(self._told.readline())


CHILDREN: list[Child] = []


def bear(*, orphaned: bool = False) -> int:
    """Make a child; return its place in the list."""
    CHILDREN.append(Child(orphaned=orphaned))
    return len(CHILDREN) - 1


def elsewhere(code: str) -> str:
    """Return what a program says that is executed anew."""
    import subprocess

    folder = os.path.dirname(__file__)
    program = f"import sys; sys.path.insert(0, {folder!r}); import steps; {code}"
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def raise_limit() -> object:
    """Try to leave one's place; return the limit that tells of it."""
    resource.setrlimit(RLIMIT_LOCKS, (resource.RLIM_INFINITY,) * 2)
    return resource.getrlimit(RLIMIT_LOCKS)[0] != resource.RLIM_INFINITY


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(f"{tell(line)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
