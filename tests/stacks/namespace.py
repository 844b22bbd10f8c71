"""Give a network namespace of one's own its cards, then become a command in it.

Usage: unshare -Urn namespace.py WORD,... -- COMMAND...

The words are those of ``-p umnetlwipv6``: vdN=VNL, and for the card before them
ip=ADDRESS/PREFIX, gw=ADDRESS, mtu=BYTES; and forward. A card is a veth pair whose
other end a vde_plug joins to the VNL, so neither root nor /dev/net/tun is needed. It
needs the standard library only, for it runs on the system's interpreter.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_SECONDS = 30
_RETRY = 0.01
# The other end belongs to a program: nobody fills in there what a card would.
_OFFLOADS = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")


def _run(*command: str) -> None:
    """Run a program; what it says goes to standard error, the command's is not ours."""
    subprocess.run(command, check=True, stdout=sys.stderr)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _set(name: str, value: str) -> None:
    Path("/proc/sys/net", name).write_text(value)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _plug(name: str, vnl: str) -> None:
    """Make a card."""
    inner = f"{name}x"
    _ip("link", "add", name, "type", "veth", "peer", "name", inner)
    _set(f"ipv6/conf/{name}/accept_dad", "0")
    _set(f"ipv6/conf/{inner}/disable_ipv6", "1")
    for end in (name, inner):
        _run("ethtool", "-K", end, *_OFFLOADS)
        _ip("link", "set", end, "up")
    subprocess.Popen(
        ["vde_plug", vnl, f"pcap://{inner}"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_end_with_parent,
    )
    deadline = time.monotonic() + _SECONDS
    while not _is_tapped(inner):
        assert time.monotonic() < deadline, f"no vde_plug at {inner}"
        time.sleep(_RETRY)


def _is_tapped(name: str) -> bool:
    """Return whether somebody has a packet socket at a card."""
    number = str(socket.if_nametoindex(name))
    rows = Path("/proc/net/packet").read_text().splitlines()[1:]
    return any(row.split()[4] == number for row in rows)


def _furnish(words: list[str]) -> None:
    _ip("link", "set", "lo", "up")
    card = ""
    for word in filter(None, words):
        key, _, value = word.partition("=")
        if key == "ip":
            _ip("address", "add", value, "dev", card)
        elif key == "gw":
            _ip("route", "add", "default", "via", value, "dev", card)
        elif key == "mtu":
            _ip("link", "set", card, "mtu", value)
        elif key == "forward":
            _set("ipv4/ip_forward", "1")
            _set("ipv6/conf/all/forwarding", "1")
        else:
            card = key
            _plug(card, value)


def main() -> None:
    """Set up, and become the command."""
    end = sys.argv.index("--")
    _furnish(",".join(sys.argv[1:end]).split(","))
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])


if __name__ == "__main__":
    main()
