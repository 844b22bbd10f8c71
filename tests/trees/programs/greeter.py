"""Answer each line with a name. Usage: greeter.py PORT NAME."""

from __future__ import annotations

import socket
import sys

_port, _name = sys.argv[1:]
_server = socket.create_server(("", int(_port)))
print("greets", flush=True)  # noqa: T201
while True:
    _peer, _ = _server.accept()
    with _peer:
        while _peer.recv(64):
            _peer.sendall(f"{_name}\n".encode())
