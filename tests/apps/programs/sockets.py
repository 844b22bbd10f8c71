"""Have a few sockets, say their ports, and run a command; a port's name stands for it.

Two listeners, one of them for both families, a connection and a datagram socket.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

listener4 = socket.create_server(("127.0.0.1", 0), backlog=7)
listener6 = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
client = socket.create_connection(listener4.getsockname())
accepted, _ = listener4.accept()
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagram.bind(("0.0.0.0", 0))
numbers = {
    "pid": os.getpid(),
    "tcp4": listener4.getsockname()[1],
    "tcp6": listener6.getsockname()[1],
    "udp4": datagram.getsockname()[1],
}
sys.stdout.write(json.dumps(numbers) + "\n")
sys.stdout.flush()
command = [str(numbers.get(word, word)) for word in sys.argv[1:]]
sys.exit(subprocess.run(command, check=False, close_fds=True).returncode)
