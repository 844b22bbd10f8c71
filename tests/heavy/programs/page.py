"""Serve a page that uses what a browser's network has, and reports what has arrived.

Usage: page.py PORT [CERTIFICATE KEY]

The page has images, one WebSocket, and many requests at once. When all has come it
turns its mark green and reports. It has not finished loading before: its last image
is held back until the report is there. So a browser that takes a screenshot of what it
has loaded shows the green mark. With ``?close`` the page closes its window as soon as
somebody has asked for /close.

Standard error is the log of the requests; the report is a line of JSON on standard
output.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socket
import ssl
import struct
import sys
import threading
import zlib
from io import BufferedIOBase

IMAGES = 24
COLUMNS = 6
CELL = 80  # the width and the height of an image in the page
REQUESTS = 50
SIZE = 20_000  # bytes of an answer
MESSAGE = 200_000  # bytes of a WebSocket message
DONE = (0, 192, 0)  # the colour of the mark when all has come
_LIMIT = 40.0

_PAGE = f"""<!DOCTYPE html>
<title>waiting</title>
<style>
body {{ margin: 0; background: white }}
div {{ width: {COLUMNS * CELL}px }}
img {{ width: {CELL}px; height: {CELL}px; float: left }}
#mark {{ clear: left; height: {CELL}px; background: red }}
</style>
<div>
{"".join(f'<img class=i src="/image/{number}">' for number in range(IMAGES))}
<div id=mark></div>
</div>
<img src="/hold">
<script>
const {{host, protocol, search}} = location;
const images = [...document.querySelectorAll(".i")].map(image => image.decode()
    .then(() => image.naturalWidth));
const requests = Array.from({{length: {REQUESTS}}}, (_, number) =>
    fetch("/data/" + number).then(answer => answer.text())
        .then(text => [...text].every(c => c == String(number % 10)) && text.length));
const echo = new Promise((resolve, reject) => {{
    const channel = new WebSocket(protocol.replace("http", "ws") + "//" + host + "/");
    const got = [];
    channel.binaryType = "arraybuffer";
    channel.onopen = () => {{
        channel.send("word");
        channel.send(new Uint8Array({MESSAGE}).fill(7));
    }};
    channel.onmessage = event => {{
        got.push(typeof event.data == "string" ? event.data
            : new Uint8Array(event.data).filter(byte => byte == 7).length);
        if (got.length == 2) channel.close();
    }};
    channel.onerror = reject;
    channel.onclose = event => resolve([...got, event.wasClean]);
}});
const post = report => fetch("/report", {{method: "POST",
    body: JSON.stringify(report)}});
Promise.all([Promise.all(images), Promise.all(requests), echo]).then(
    async ([images, requests, echo]) => {{
        document.querySelector("#mark").style.background = "rgb{DONE}";
        await post({{images, requests, echo}});
        if (search == "?close") {{
            await fetch("/wait");
            close();
        }}
    }}, error => post({{error: String(error)}}));
</script>
"""


def colour(number: int) -> tuple[int, int, int]:
    """Return the red, green and blue of an image."""
    return (number * 37 % 256, number * 91 % 256, number * 53 % 256)


def picture(number: int) -> bytes:
    """Return an image of one colour as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + _crc(kind + data)

    row = b"\0" + bytes(colour(number)) * CELL
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", CELL, CELL, 8, 2, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(row * CELL)),
            chunk(b"IEND", b""),
        )
    )


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def say(line: str) -> None:
    """Write a line of standard output at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Server(http.server.ThreadingHTTPServer):
    """The server, IPv4 and IPv6, and what its requests wait for."""

    address_family = socket.AF_INET6
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("::", port), Handler)
        self.reported = threading.Event()
        self.closing = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer a request, or talk WebSocket."""
        if self.headers.get("Upgrade") == "websocket":
            self._echo()
            return
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind in ("", "?close"):
            self._answer("text/html", _PAGE.encode())
        elif kind == "image":
            self._answer("image/png", picture(int(rest)))
        elif kind == "data":
            self._answer("text/plain", str(int(rest) % 10).encode() * SIZE)
        elif kind == "hold":
            self.server.reported.wait(_LIMIT)
            self._answer("image/png", picture(0))
        elif kind == "wait":
            self.server.closing.wait(_LIMIT)
            self._answer("text/plain", b"")
        elif kind == "close":
            self.server.closing.set()
            self._answer("text/plain", b"")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Take the report."""
        report = self.rfile.read(int(self.headers["Content-Length"]))
        say(json.dumps(json.loads(report)))
        self.server.reported.set()
        self._answer("text/plain", b"")

    def _answer(self, kind: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def _echo(self) -> None:
        """Send every message of a WebSocket back, up to its end (RFC 6455)."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        closing = False
        while not closing:
            first, payload = _read_frame(self.rfile)
            closing = first & 15 == 8
            self.wfile.write(_frame(first, payload))


def _read_frame(source: BufferedIOBase) -> tuple[int, bytes]:
    """Read a frame; return its first byte and its unmasked payload."""
    first, second = source.read(2)
    length = second & 127
    if length >= 126:
        form = ">H" if length == 126 else ">Q"
        (length,) = struct.unpack(form, source.read(struct.calcsize(form)))
    mask = source.read(4)
    masked = source.read(length)
    whole = mask * (length // 4 + 1)
    mixed = int.from_bytes(masked, "big") ^ int.from_bytes(whole[:length], "big")
    return first, mixed.to_bytes(length, "big")


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return struct.pack(">BB", first, length) + payload
    if length < 1 << 16:
        return struct.pack(">BBH", first, 126, length) + payload
    return struct.pack(">BBQ", first, 127, length) + payload


def main() -> None:
    """Serve until a signal comes."""
    server = Server(int(sys.argv[1]))
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[2:4])
        # The handshake is made by the thread of the connection, not by accept().
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    say("ready")
    server.serve_forever()


if __name__ == "__main__":
    main()
