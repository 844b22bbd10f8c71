"""Tell our process number, wait for one connection, greet it and end."""

from __future__ import annotations

import os
import socket
import sys

with socket.create_server(("", int(sys.argv[1]))) as server:
    sys.stdout.write(f"pid {os.getpid()}\n")
    sys.stdout.flush()
    accepted, _ = server.accept()
    accepted.sendall(b"accepted\n")
    accepted.close()
