"""From which of its addresses a host sends: in a view as by the kernel's stack."""

from __future__ import annotations

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.stacks.lab import open_host, open_kernel
from tests.switch import Switch

pytestmark = pytest.mark.view

_OWN = (
    "fd00:1::1/64",
    "2001:db8:1::1/64",
    "2001:db8:2::1/64",
    "2002:a00:1::1/64",
    "10.1.0.1/24",
    "10.2.0.1/24",
)
_TO = (
    *("fd00:1::2", "fd00:9::1", "fc00::1", "2001:db8:1::2", "2001:db8:3::1"),
    *("2001:db8:9::1", "2002:b00::1", "2001:0:1::1", "2600::1", "3ffe::1"),
    *("ff05::1", "ff0e::1", "10.1.0.9", "10.2.0.9", "10.9.9.9"),
)
_PROGRAM = """
import socket, sys, time
def source(to):
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect((to, 9))
        return s.getsockname()[0]
for _ in range(300):  # the kernel looks for duplicates first
    try:
        if source("2600::1") != "::" and source("2002:b00::1").startswith("2002"):
            break
    except OSError:
        pass
    time.sleep(0.1)
for to in sys.argv[1:]:
    print(to, source(to))
"""


def test_sources_are_chosen_as_by_the_kernel(user: User, switch: Switch) -> None:
    addresses = ",".join(f"ip={own}" for own in _OWN)
    card = f"vd0={switch.vnl},{addresses},gw=fd00:1::9,gw=10.1.0.9"
    command = (SYSTEM_PYTHON, "-c", _PROGRAM, *_TO)
    with open_host(user, "view", card) as view:
        ours = view.run(*command).out.splitlines()
    with open_kernel(user, "kernel", card) as kernel:
        theirs = kernel.run(*command, timeout=60).out.splitlines()
    assert ours == theirs
    assert len({line.split()[1] for line in ours}) == len(_OWN)
