"""What an ordinary user may do in a view, and natively not."""

from __future__ import annotations

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User

pytestmark = pytest.mark.view

_BIND = """
import socket, sys
family, kind, port = (int(word) for word in sys.argv[1:])
with socket.socket(family, kind) as sock:
    sock.bind(("", port))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    print(sock.getsockname()[1])
"""

_PING = """
import socket, struct, sys
family, kind, protocol, request = (int(word) for word in sys.argv[1:5])
with socket.socket(family, kind, protocol) as sock:
    sock.settimeout(5)
    message = struct.pack("!BBHHH", request, 0, 0, 0, 7) + b"payload"
    if kind == socket.SOCK_RAW and family == socket.AF_INET:
        words = struct.unpack("!8H", message + b"\\0")
        total = sum(words)
        total = (total & 0xFFFF) + (total >> 16)
        message = message[:2] + struct.pack("!H", ~total & 0xFFFF) + message[4:]
    sock.sendto(message, (sys.argv[5], 0))
    data = b""
    while not data or data[0] == request:  # a raw socket hears its own question
        data = sock.recv(200)
        if kind == socket.SOCK_RAW and family == socket.AF_INET:
            data = data[20:]
    print(data[0], struct.unpack("!H", data[6:8])[0], data[8:])
"""


@pytest.mark.parametrize("port", [1, 22, 80, 443, 1023])
@pytest.mark.parametrize("kind", [1, 2], ids=["stream", "datagram"])
@pytest.mark.parametrize("family", [2, 10], ids=["v4", "v6"])
def test_ports_below_1024_are_everybodys(
    user: User, family: int, kind: int, port: int
) -> None:
    argv = [SYSTEM_PYTHON, "-c", _BIND, *map(str, (family, kind, port))]
    done = user.run(argv, "view")
    assert done.stdout == f"{port}\n", done.stderr


@pytest.mark.parametrize(
    ("family", "protocol", "request_type", "reply_type", "address"),
    [
        pytest.param(2, 1, 8, 0, "127.0.0.1", id="v4-lo"),
        pytest.param(2, 1, 8, 0, "10.0.2.15", id="v4-nat0"),
        pytest.param(2, 1, 8, 0, "10.0.2.2", id="v4-gateway"),
        pytest.param(10, 58, 128, 129, "::1", id="v6-lo"),
        pytest.param(10, 58, 128, 129, "fd00::2", id="v6-gateway"),
    ],
)
@pytest.mark.parametrize("kind", [2, 3], ids=["datagram", "raw"])
def test_echo_requests_are_everybodys(
    user: User,
    kind: int,
    family: int,
    protocol: int,
    request_type: int,
    reply_type: int,
    address: str,
) -> None:
    words = (family, kind, protocol, request_type, address)
    done = user.run([SYSTEM_PYTHON, "-c", _PING, *map(str, words)], "view")
    assert done.stdout == f"{reply_type} 7 b'payload'\n", done.stderr
