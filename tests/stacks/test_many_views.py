"""Twenty-four views on one switch, each a server and a client of all the others."""

from __future__ import annotations

import contextlib
import json

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.stacks.lab import open_host
from tests.switch import Switch

_COUNT = 24

# Answers datagrams and streams on port 80 with the own number.
_SERVER = """
import socket, sys, threading
own = sys.argv[1].encode()

def streams():
    listener = socket.create_server(
        ("::", 80), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
    )
    print("listens", flush=True)
    while True:
        c, _ = listener.accept()
        c.sendall(own)
        c.close()

threading.Thread(target=streams).start()
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 80))
print("receives", flush=True)
while True:
    data, peer = s.recvfrom(100)
    s.sendto(own + b" " + data, peer)
"""

# Asks every host; a datagram may get lost where so many send at once.
_CLIENT = """
import json, socket, sys
said = {}
for name in sys.argv[1:]:
    with socket.create_connection((name, 80), timeout=60) as s:
        by_stream = s.makefile().read()
    s = socket.socket(
        socket.AF_INET6 if ":" in name else socket.AF_INET, socket.SOCK_DGRAM
    )
    s.settimeout(2)
    for attempt in range(15):
        s.sendto(b"%d" % attempt, (name, 80))
        try:
            by_datagram = s.recv(100).split()[0].decode()
            break
        except TimeoutError:
            continue
    said[name] = [by_stream, by_datagram]
print(json.dumps(said))
"""


def test_all_talk_to_all(user: User, switch: Switch) -> None:
    numbers = range(1, _COUNT + 1)
    with contextlib.ExitStack() as stack:
        hosts = {
            number: stack.enter_context(
                open_host(user, f"host{number}", switch.card(number))
            )
            for number in numbers
        }
        for number, host in hosts.items():
            command = (SYSTEM_PYTHON, "-c", _SERVER, str(number))
            server = stack.enter_context(host.serve(*command, says="listens"))
            server.wait_for("receives")
        names = {
            (switch.host, switch.host6)[number % 2](number): number
            for number in numbers
        }
        clients = [
            host.begin(SYSTEM_PYTHON, "-c", _CLIENT, *names) for host in hosts.values()
        ]
        for client in clients:
            done = client.finish(timeout=120)
            assert done.status == 0, done.err
            assert json.loads(done.out) == {
                name: [str(number)] * 2 for name, number in names.items()
            }
