"""Defaults of many kinds, one within the other. Usage: nested.py UMVIEW MSTACK."""

from __future__ import annotations

import socket
import subprocess
import sys

import umview

_UMVIEW, _MSTACK = sys.argv[1:]
_SHOW = ["ip", "-br", "-4", "addr", "show", "nat0"]


def show(what: str, *before: str) -> None:
    """Say which stack a command has for its default."""
    said = subprocess.check_output([*before, *_SHOW], text=True, timeout=60)
    print(what, said.split()[2], flush=True)  # noqa: T201


show("plain")
umview.msocket("/dev/net/b", socket.AF_UNSPEC, umview.SOCK_DEFAULT)
show("default")
show("mstack", _MSTACK, "/dev/net/c")
show("twice", _MSTACK, "/dev/net/c", _MSTACK, "/dev/net/default")
show("nested", _UMVIEW, "-p", "umnet,ip=10.9.2.1/24")
show("current", _UMVIEW, "-p", "umnetcurrent")
show("both", _MSTACK, "/dev/net/c", _UMVIEW, "-p", "umnetcurrent")
