"""Two views on a switch: the least that has to work before anything else."""

from __future__ import annotations

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.stacks.lab import ECHO_SERVER, open_host
from tests.switch import Switch

_CLIENT = """
import socket, sys
s = socket.create_connection((sys.argv[1], 80), timeout=20)
s.sendall(b"hello")
s.shutdown(socket.SHUT_WR)
print(s.makefile().read())
"""


@pytest.mark.parametrize("family", [4, 6])
def test_a_stream_between_two_views(user: User, switch: Switch, family: int) -> None:
    with (
        open_host(user, "server", switch.card(1)) as server,
        open_host(user, "client", switch.card(2)) as client,
        server.serve(SYSTEM_PYTHON, "-c", ECHO_SERVER, port=80),
    ):
        host = switch.host(1) if family == 4 else switch.host6(1)
        done = client.run(SYSTEM_PYTHON, "-c", _CLIENT, host)
    assert done.out.split() == ["hello"]
