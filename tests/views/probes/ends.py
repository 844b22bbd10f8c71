"""Connections by each road, with one text for all: near is ours, far is an End.

A road leads from a probe to the other end: in this process ("local"), or in another
process, outside the view when the probe runs in one ("relay"). "-back" means that the
connection was made by the far end, so that near is what was accepted.

This file is also the program of that other process: it is started on the host, and
does to its sockets what probes ask for over a unix socket.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, TypeAlias, TypeVar

import acts
import kit

STREAM = ("local", "local-back", "relay", "relay-back")
DATAGRAM = ("local", "relay")
# Where the probe finds the other process, its addresses, and the forwarded port.
CONTROL = os.environ.get("UM_PEER", "")
OUTSIDE = os.environ.get("UM_OUTSIDE", f"{kit.V4} {kit.V6}").split()
INWARD = [int(word) for word in os.environ.get("UM_INWARD", "0 0").split()]
# Where this process listens, and where the near end is for a far one.
HERE = os.environ.get("UM_HERE", f"{kit.V4} {kit.V6}").split()
BACK = os.environ.get("UM_BACK", f"{kit.V4} {kit.V6}").split()

Call = TypeVar("Call", bound=Callable[..., None])


def over(roads: tuple[str, ...]) -> Callable[[Call], Call]:
    """Return a decorator: the case is run over each of the roads."""

    def mark(case: Call) -> Call:
        case.__dict__["roads"] = roads
        return case

    return mark


def own(family: int) -> str:
    """Return the address that this process listens at."""
    return HERE[family != socket.AF_INET]


class End:
    """The far end: a socket, and what may be asked of it; all values are plain."""

    def __init__(self) -> None:
        self._server = self._sock = socket.socket()
        self._sender: Any = None

    # What the end is.

    def listen(self, family: int, backlog: int = 16) -> int:
        """Listen and return the port."""
        self._server = kit.listener(family, own(family), backlog)
        return _port(self._server)

    def accept(self) -> None:
        """Become what is accepted."""
        self._become(self._server.accept()[0])

    def connect(self, family: int, port: int) -> object:
        """Become a connection to a port of the near end's."""
        self._become(socket.socket(family))
        name = (BACK[family != socket.AF_INET], port)
        return kit.outcome(self._sock.connect, name)

    def datagrams(self, family: int) -> int:
        """Become a datagram socket and return its port."""
        self._become(kit.udp(family, own(family)))
        return _port(self._sock)

    def closed_port(self, kind: int, family: int) -> int:
        """Return a port at which nobody is."""
        if kind == socket.SOCK_STREAM:
            return kit.refusing(family, own(family))[1]
        return kit.closed_port(kind, family)

    def close_listener(self) -> None:
        """Close what listens."""
        self._server.close()

    # Calls on it.

    def send(self, data: bytes, flags: int = socket.MSG_NOSIGNAL) -> object:
        """Send once."""
        return kit.outcome(self._sock.send, data, flags)

    def send_all(self, data: bytes) -> object:
        """Send it all."""
        return kit.outcome(self._sock.sendall, data)

    def recv(self, count: int, flags: int = 0) -> object:
        """Receive once; waits for 5 s at most."""
        return kit.outcome(self._sock.recv, count, flags)

    def exact(self, count: int) -> object:
        """Receive exactly so many bytes, or what comes until the end."""
        return kit.outcome(kit.exact, self._sock, count)

    def urgent(self) -> object:
        """Receive the urgent byte."""
        self._sock.setblocking(False)
        return kit.outcome(self._sock.recv, 1, socket.MSG_OOB)

    def drain(self) -> object:
        """Receive until the end and count."""
        return kit.outcome(kit.drain, self._sock)

    def mask(self, wanted: str) -> str:
        """Return what poll(2) says once it says the wanted, or after two seconds."""
        return kit.mask_after(self._sock, wanted)

    def error(self) -> str:
        """Take SO_ERROR."""
        return kit.pending_error(self._sock)

    def shutdown(self, how: int) -> object:
        """Shut down."""
        return kit.outcome(self._sock.shutdown, how)

    def close(self) -> None:
        """Close in good order."""
        self._sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        linger = struct.pack("ii", 1, 0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._sock.close()

    def recvfrom(self, count: int) -> object:
        """Receive a datagram, and remember whom it came from."""

        def receive() -> bytes:
            data, self._sender = self._sock.recvfrom(count)
            return data

        return kit.outcome(receive)

    def answer(self, data: bytes) -> object:
        """Send a datagram to the sender of the last one."""
        return kit.outcome(self._sock.sendto, data, self._sender)

    def act(self, name: str, *args: object) -> object:
        """Make a call of acts.py, which never waits."""
        self._sock.setblocking(False)
        return acts.act(self._sock, name, *args)

    def look(self) -> object:
        """Look as acts.py does."""
        return acts.look(self._sock)

    def _become(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(5)


class Remote:
    """An End in the other process."""

    def __init__(self) -> None:
        self._control = Client(CONTROL, "AF_UNIX")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return what lets the other process make the call of this name."""

        def call(*args: object) -> Any:  # noqa: ANN401 - an End knows
            self._control.send((name, args))
            done, value = self._control.recv()
            assert done, f"{name}{args}: {value}"
            return value

        return call


Far: TypeAlias = End | Remote
Name: TypeAlias = tuple[str, int]


class Road:
    """A way from the probe to a far end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._outer = name.startswith("relay")
        self._back = name.endswith("-back")
        self.far = self.another()

    def another(self) -> Far:
        """Return one more far end."""
        return Remote() if self._outer else End()

    def address(self, family: int) -> str:
        """Return the address of the far ends."""
        return OUTSIDE[family != socket.AF_INET] if self._outer else own(family)

    def pair(self, family: int = socket.AF_INET) -> tuple[socket.socket, Far]:
        """Return the two ends of a connection."""
        if not self._back:
            near = socket.socket(family)
            near.connect(self.target(family))
            self.far.accept()
            return near, self.far
        with self.inlet(family) as server:
            self.far.connect(family, self.inlet_port(server))
            return server.accept()[0], self.far

    def target(self, family: int = socket.AF_INET, backlog: int = 16) -> Name:
        """Let the far end listen and return its name, as we have to call it."""
        return self.address(family), self.far.listen(family, backlog)

    def forget(self) -> None:
        """In a forked process: let the copy of a far end of this network go."""
        if isinstance(self.far, End):
            self.far.close()

    def inlet(self, family: int = socket.AF_INET) -> socket.socket:
        """Return a listener that the far end can reach, at inlet_port()."""
        server = socket.socket(family)
        server.bind((own(family), INWARD[1] if self._outer else 0))
        server.listen()
        return server

    def inlet_port(self, server: socket.socket) -> int:
        """Return the port at which the far end finds an inlet."""
        return (self._outer and INWARD[0]) or _port(server)

    def nobody(self, kind: int, family: int = socket.AF_INET) -> Name:
        """Return a name over this road at which nobody is."""
        return self.address(family), self.far.closed_port(kind, family)

    def datagrams(self, family: int = socket.AF_INET) -> tuple[Name, Far]:
        """Return the name of a datagram socket at the far end, and that end."""
        return (self.address(family), self.far.datagrams(family)), self.far


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def _serve(control: Connection) -> None:
    """Do what one probe asks for, until it is gone."""
    end = End()
    while True:
        try:
            name, args = control.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            reply = (True, getattr(end, name)(*args))
        except Exception as exc:  # noqa: BLE001 - the probe reports it
            reply = (False, repr(exc))
        control.send(reply)


def main() -> None:
    """Serve probes at the unix socket that the command line names; a fork for each."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Listener(sys.argv[1], "AF_UNIX") as listener:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            control = listener.accept()
            if os.fork() == 0:
                listener.close()
                _serve(control)
                os._exit(0)
            control.close()


if __name__ == "__main__":
    main()
