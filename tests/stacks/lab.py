"""What the tests of stacks share: hosts, which are views on a switch or a wire."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.apps.lab import Site, User, require

ECHO_SERVER = """
import socket
s = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("serves", flush=True)
while True:
    c, _ = s.accept()
    with c:
        while data := c.recv(1 << 16):
            c.sendall(data)
"""
"""A program in Python: what port 80 is sent, it sends back."""


@contextlib.contextmanager
def open_host(user: User, name: str, *options: str) -> Iterator[Site]:
    """Start a view with a library stack, for the length of the block.

    Args:
        user: Whose it is.
        name: What its folder is called.
        options: Those of ``-p umnetlwipv6``, as ``switch.card(1)``.
    """
    site = Site(user, name, "stack", *options)
    with contextlib.closing(site):
        yield site


def require_namespaces(user: User) -> None:
    """Skip the test where an ordinary user may make no network namespace."""
    command = user.command(["unshare", "-Urn", "true"], "native")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces for ordinary users on this machine")


@contextlib.contextmanager
def open_kernel(user: User, name: str, *options: str) -> Iterator[Site]:
    """Start a network namespace, so the kernel's stack, for the length of the block.

    Args:
        user: Whose it is.
        name: What its folder is called.
        options: As of a view, as ``switch.card(1)``: vdN=, ip=, gw=, mtu=, forward.
    """
    require("ethtool", "ip", "vde_plug")
    require_namespaces(user)
    site = Site(user, name, "kernel", *options)
    with contextlib.closing(site):
        yield site
