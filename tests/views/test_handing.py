"""Shells and super-servers hand their sockets to programs, inside a view."""

from __future__ import annotations

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where, require

pytestmark = pytest.mark.view

_TCP_OF_BASH = """
exec 3<>/dev/tcp/127.0.0.1/$1
printf 'hello\\n' >&3
read -r line <&3
printf '%s\\n' "$line"
(: >/dev/tcp/127.0.0.1/1) 2>/dev/null || echo refused
"""

_BASH = """
import socket, subprocess, sys
server = socket.create_server(("127.0.0.1", 0))
argv = ["bash", "-c", sys.argv[1], "bash", str(server.getsockname()[1])]
with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
    accepted, _ = server.accept()
    accepted.sendall(accepted.recv(9).upper())
print(process.returncode)
"""

# A server of its own choice is handed each connection: as a super-server does.
_HANDED = """
import socket, subprocess, sys, time
with socket.create_server(("127.0.0.1", 0)) as sock:
    port = sock.getsockname()[1]
argv = [word.replace("PORT", str(port)) for word in sys.argv[1:]]
with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
    for word in (b"one", b"two"):
        end = time.monotonic() + 10
        while True:
            try:
                client = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.02)
        client.sendall(word)
        client.shutdown(socket.SHUT_WR)
        print(client.recv(9), client.recv(9))
    process.terminate()
"""


def _said(user: User, where: Where, code: str, *args: str) -> list[str]:
    done = user.run([SYSTEM_PYTHON, "-u", "-c", code, *args], where, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_bash_opens_dev_tcp(user: User, where: Where) -> None:
    require("bash")
    assert _said(user, where, _BASH, _TCP_OF_BASH) == ["HELLO", "refused", "0"]


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(
            ["socat", "TCP-LISTEN:PORT,bind=127.0.0.1,fork", "EXEC:cat"],
            id="socat",
        ),
        pytest.param(
            ["socat", "TCP-LISTEN:PORT,bind=127.0.0.1,fork", "EXEC:cat,nofork"],
            id="socat-nofork",
        ),
        pytest.param(
            ["systemd-socket-activate", "-a", "--inetd", "-l", "127.0.0.1:PORT", "cat"],
            id="systemd-socket-activate",
        ),
    ],
)
def test_servers_are_handed_connections(
    user: User, where: Where, argv: list[str]
) -> None:
    require(argv[0], optional=argv[0] == "systemd-socket-activate")
    assert _said(user, where, _HANDED, *argv) == ["b'one' b''", "b'two' b''"]
