"""The files that a view sees in place of the host's: their text, from a plan."""

from __future__ import annotations

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


def resolv_conf(plan: Plan) -> str:
    """Return /etc/resolv.conf."""
    search = [f"search {plan.domain}"] if plan.domain else []
    return _text([*search, *(f"nameserver {server}" for server in plan.dns)])


def hosts(plan: Plan, hostname: str) -> str:
    """Return /etc/hosts.

    Args:
        plan: The view's plan.
        hostname: The name of the view, or that of the host where it has none.
    """
    names = hostname
    if plan.domain and "." not in hostname:
        names = f"{hostname}.{plan.domain} {hostname}"
    lines = ["127.0.0.1 localhost"] if plan.has(4) else []
    if plan.has(6):
        lines += [
            "::1 localhost ip6-localhost ip6-loopback",
            "ff02::1 ip6-allnodes",
            "ff02::2 ip6-allrouters",
        ]
    return _text([*lines, *(f"{own.ip} {names}" for own in plan.addresses)])


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
