"""Serve and ask by HTTP/3: quic.py serve PORT CERT KEY | quic.py CHECK HOST PORT CERT.

A request of /N is answered with N bytes, a body that is sent comes back.
"""

# ruff: noqa: T201
# mypy: disable-error-code="explicit-override"
# typing.override is of Python 3.12.

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ProtocolNegotiated, QuicEvent

LIMIT = 60.0
CONNECTIONS = 50
STREAMS = 50


class Http(QuicConnectionProtocol):
    """What the two ends share: HTTP/3 on a QUIC connection."""

    def quic_event_received(self, event: QuicEvent) -> None:
        """Hand an event over to HTTP."""
        if isinstance(event, ProtocolNegotiated):
            self.begin(H3Connection(self._quic))
        for http_event in self.http.handle_event(event):
            if isinstance(http_event, HeadersReceived | DataReceived):
                self.heard(http_event)

    def begin(self, http: H3Connection) -> None:
        """Start to speak HTTP."""
        self.http = http

    def heard(self, event: H3Event) -> None:
        """Take a part of a message."""
        raise NotImplementedError


class Server(Http):
    """Answer each request when it has come as a whole."""

    def begin(self, http: H3Connection) -> None:
        """Start to speak HTTP."""
        super().begin(http)
        self._paths: dict[int, str] = {}
        self._bodies: dict[int, bytes] = {}

    def heard(self, event: H3Event) -> None:
        """Take a part of a request."""
        assert isinstance(event, HeadersReceived | DataReceived)
        stream = event.stream_id
        if isinstance(event, HeadersReceived):
            self._paths[stream] = dict(event.headers)[b":path"].decode()
            self._bodies[stream] = b""
        else:
            self._bodies[stream] += event.data
        if event.stream_ended:
            size = int(self._paths.pop(stream)[1:])
            body = self._bodies.pop(stream) or b"x" * size
            self.http.send_headers(stream, [(b":status", b"200")])
            self.http.send_data(stream, body, end_stream=True)
            self.transmit()


class Client(Http):
    """Ask, and wait for the answers."""

    def begin(self, http: H3Connection) -> None:
        """Start to speak HTTP."""
        super().begin(http)
        self._bodies: dict[int, bytearray] = {}
        self._ends: dict[int, asyncio.Future[bytes]] = {}

    async def ask(self, path: str, body: bytes = b"") -> bytes:
        """Return the body of the answer."""
        stream = self._quic.get_next_available_stream_id()
        self._bodies[stream] = bytearray()
        self._ends[stream] = asyncio.get_running_loop().create_future()
        headers = [
            (b":method", b"POST" if body else b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", path.encode()),
        ]
        self.http.send_headers(stream, headers, end_stream=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await self._ends[stream]

    def heard(self, event: H3Event) -> None:
        """Take a part of an answer."""
        assert isinstance(event, HeadersReceived | DataReceived)
        if isinstance(event, HeadersReceived):
            assert dict(event.headers)[b":status"] == b"200", event
        else:
            self._bodies[event.stream_id] += event.data
        if event.stream_ended:
            body = bytes(self._bodies.pop(event.stream_id))
            self._ends[event.stream_id].set_result(body)


@contextlib.asynccontextmanager
async def call(host: str, port: int, certificate: str) -> AsyncIterator[Client]:
    """Connect to the server, whose certificate is for "localhost"."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(certificate)
    async with connect(
        host, port, configuration=configuration, create_protocol=Client
    ) as client:
        assert isinstance(client, Client)
        yield client


async def run_server(port: int, certificate: str, key: str) -> None:
    """Serve both families for ever."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    configuration.load_cert_chain(certificate, key)
    await serve("::", port, configuration=configuration, create_protocol=Server)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def check_big(host: str, port: int, certificate: str) -> None:
    """Fetch and send a large body."""
    async with call(host, port, certificate) as client:
        start = time.monotonic()
        assert await client.ask("/4000000") == b"x" * 4_000_000
        took = time.monotonic() - start
        body = bytes(range(256)) * 8000
        assert await client.ask("/0", body) == body
    print(f"{4 / took:.1f} MB/s", file=sys.stderr)


async def check_streams(host: str, port: int, certificate: str) -> None:
    """Ask for many things over one connection at once."""
    async with call(host, port, certificate) as client:
        sizes = [number * 1000 for number in range(STREAMS)]
        bodies = await asyncio.gather(*(client.ask(f"/{size}") for size in sizes))
        assert [len(body) for body in bodies] == sizes


async def check_connections(host: str, port: int, certificate: str) -> None:
    """Ask over many connections, all of which are open at once."""
    together = asyncio.Barrier(CONNECTIONS)

    async def ask(number: int) -> int:
        async with call(host, port, certificate) as client:
            await together.wait()
            return len(await client.ask(f"/{number}"))

    lengths = await asyncio.gather(*(ask(number) for number in range(CONNECTIONS)))
    assert lengths == list(range(CONNECTIONS))


async def main() -> None:
    """Do what the command line says."""
    if sys.argv[1] == "serve":
        await run_server(int(sys.argv[2]), sys.argv[3], sys.argv[4])
        return
    check = globals()[f"check_{sys.argv[1]}"]
    async with asyncio.timeout(LIMIT):
        await check(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
