"""The files that a view sees in place of the host's: their text."""

from __future__ import annotations

import os
from collections.abc import Sequence

from umview.view import Card

from .plan import Plan

NAME_SERVICES = (
    *(
        f"{run}/{socket}"
        for run in ("/run", "/var/run")
        for socket in (
            "nscd/socket",
            "avahi-daemon/socket",
            "systemd/resolve/io.systemd.Resolve",
            "systemd/resolve/io.systemd.Resolve.Monitor",
        )
    ),
)
"""Unix sockets of the host's that would answer for names from outside the view."""

_SWITCH = "/etc/nsswitch.conf"


def texts(
    plan: Plan, cards: Sequence[Card], dns: Sequence[str], domain: str | None
) -> dict[str, str]:
    """Return the files by their paths.

    Args:
        plan: The view's plan.
        cards: Its cards.
        dns: Its name servers.
        domain: The domain that names are searched in.
    """
    try:
        with open(_SWITCH, encoding="utf-8", errors="surrogateescape") as file:
            switch = file.read()
    except OSError:
        switch = ""
    name = plan.hostname or os.uname().nodename
    return {
        "/etc/resolv.conf": resolv_conf(dns, domain),
        "/etc/hosts": hosts(cards, name, domain),
        _SWITCH: nsswitch_conf(switch),
    }


def names(path: str) -> set[str]:
    """Return what a file is opened by: its path, and what that leads to."""
    return {path, os.path.realpath(path)}


def resolv_conf(dns: Sequence[str], domain: str | None) -> str:
    """Return /etc/resolv.conf."""
    search = [f"search {domain}"] if domain else []
    return _text([*search, *(f"nameserver {server}" for server in dns)])


def hosts(cards: Sequence[Card], hostname: str, domain: str | None) -> str:
    """Return /etc/hosts.

    Args:
        cards: The view's cards.
        hostname: The name of the view, or that of the host where it has none.
        domain: The domain that it is in.
    """
    known = hostname
    if domain and "." not in hostname:
        known = f"{hostname}.{domain} {hostname}"
    own = [one for card in cards for one in card.addresses]
    lines = []
    if any(one.version == 4 and one.is_loopback for one in own):
        lines += ["127.0.0.1 localhost"]
    if any(one.version == 6 and one.is_loopback for one in own):
        lines += [
            "::1 localhost ip6-localhost ip6-loopback",
            "ff02::1 ip6-allnodes",
            "ff02::2 ip6-allrouters",
        ]
    far = [one for one in own if not (one.is_loopback or one.is_link_local)]
    return _text([*lines, *(f"{one.ip} {known}" for one in far)])


def nsswitch_conf(text: str) -> str:
    """Return /etc/nsswitch.conf: the host's, but names only by files and DNS.

    Args:
        text: The host's file, empty where there is none.
    """
    others = [
        line for line in text.splitlines() if not line.lstrip().startswith("hosts:")
    ]
    return _text([*others, "hosts: files dns"])


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
