"""What to do when a card cannot be plugged in."""

from __future__ import annotations

import errno
import re

_SCHEME = re.compile(r"([a-z0-9_]+)://")


def advice(vnl: str, error: int) -> str:
    """Return what the user can do, or nothing if the error says it.

    Args:
        vnl: What the card was to be plugged into.
        error: Why it was not (an errno).
    """
    schemes = _SCHEME.findall(vnl) or [""]
    if error == errno.EPROTONOSUPPORT:
        wanted = " or ".join(schemes)
        return f"no plug-in {wanted} is installed; Debian's are libvdeplug-NAME"
    if error == errno.EPIPE and schemes[0] == "cmd":
        return "the command has ended at once"
    if error == errno.ENODEV:
        return f"man libvdeplug_{schemes[0]} says how it is written"
    closed = error in {errno.EPERM, errno.EACCES}
    if closed and schemes[0] == "tap":
        return "root can open it to you: ip tuntap add NAME mode tap user YOU"
    if schemes != ["vde"]:
        return ""
    path = vnl.removeprefix("vde://").partition("[")[0]
    if error in {errno.ENOENT, errno.ECONNREFUSED}:
        start = f"vde_switch -s {path}" if path else "vde_switch"
        return f"no switch runs there; {start} starts one"
    if closed:
        return "the switch is another's, who can start it with -m 666"
    return ""
