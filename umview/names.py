"""The name server of a view: a server on the host's loopback that a map leads to.

It costs two sockets until somebody asks. Then it takes threads of its own: a resolver
blocks for seconds where a server is slow, and the supervisor's loop must not. One
thread receives datagrams, one accepts connections, a pool of them answers.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from umview._ffi import Switchboard
    from umview.dns_answer import Answerer
    from umview.view import Address

log = logging.getLogger(__name__)

_PORT = 53
_WORKERS = 256  # made as needed; a query that waits for the network keeps one busy
_LONGEST = 65535
_IDLE = 10.0  # after which a silent TCP client is left


class Proxy:
    """A name server, on a UDP and a TCP port of the host's loopback."""

    def __init__(self) -> None:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for sock in (self._udp, self._tcp):
            sock.bind(("127.0.0.1", 0))
        self._tcp.listen()
        self._stopped = False

    def serve(self, switchboard: Switchboard, stack: int, address: Address) -> None:
        """Make this the name server at an address of a stack."""
        for protocol, sock in (
            (socket.IPPROTO_UDP, self._udp),
            (socket.IPPROTO_TCP, self._tcp),
        ):
            host, port = sock.getsockname()
            switchboard.add_map(
                stack,
                address,
                IPv4Address(host),
                protocol=protocol,
                port=_PORT,
                to_port=port,
            )

    def filenos(self) -> Sequence[int]:
        """Return the descriptors whose readability means that it is wanted."""
        return self._udp.fileno(), self._tcp.fileno()

    def start(self) -> None:
        """Serve, in threads that end with the process."""
        _in_thread(self._prepare)

    def stop(self) -> None:
        """Serve nobody any more."""
        self._stopped = True
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # who waits there wakes
            sock.close()

    def _prepare(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from umview.dns_answer import Answerer

        answerer = Answerer()
        pool = ThreadPoolExecutor(_WORKERS)
        _in_thread(partial(self._receive, answerer, pool))
        _in_thread(partial(self._accept, answerer, pool))

    def _receive(self, answerer: Answerer, pool: ThreadPoolExecutor) -> None:
        while True:
            try:
                wire, client = self._udp.recvfrom(_LONGEST)
            except OSError:
                if self._stopped:
                    return
                raise
            if self._stopped:
                return
            pool.submit(_work, partial(self._datagram, answerer, wire, client))

    def _accept(self, answerer: Answerer, pool: ThreadPoolExecutor) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                if self._stopped:
                    return
                raise
            pool.submit(_work, partial(_stream, answerer, connection))

    def _datagram(
        self, answerer: Answerer, wire: bytes, client: tuple[str, int]
    ) -> None:
        reply = answerer.reply(wire, udp=True)
        if reply is not None:
            self._udp.sendto(reply, client)


def _stream(answerer: Answerer, connection: socket.socket) -> None:
    """Answer the queries of one TCP client, each after its 2 bytes of length."""
    with connection, connection.makefile("rb") as stream:
        connection.settimeout(_IDLE)
        while len(head := stream.read(2)) == 2:
            reply = answerer.reply(stream.read(int.from_bytes(head)), udp=False)
            if reply is None:
                return
            connection.sendall(len(reply).to_bytes(2) + reply)


def _work(piece: Callable[[], None]) -> None:
    """Do a piece of work of the pool; a client that went away is no news."""
    try:
        piece()
    except OSError as exc:
        log.debug("name server: %s", exc)
    except Exception:
        log.exception("name server: no reply")


def _in_thread(run: Callable[[], None]) -> None:
    """Run something until the process ends; if it ends before, say so."""

    def thread() -> None:
        try:
            run()
        except Exception:
            log.exception("name server: stopped")

    threading.Thread(target=thread, daemon=True).start()
