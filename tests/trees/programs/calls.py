"""msocket by its number, for the programs of the tests: nothing of umview is used."""

from __future__ import annotations

import ctypes
import errno
import os
import socket

NR_MSOCKET = 30061
SOCK_DEFAULT = 0
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def msocket(path: str | None, domain: int, kind: int, protocol: int = 0) -> int | str:
    """Return what the call returns, or the name of its errno."""
    name = None if path is None else ctypes.c_char_p(os.fsencode(path))
    result = _syscall(
        ctypes.c_long(NR_MSOCKET),
        name,
        ctypes.c_long(domain),
        ctypes.c_long(kind),
        ctypes.c_long(protocol),
    )
    return int(result) if result >= 0 else errno.errorcode[ctypes.get_errno()]


def open_at(
    path: str | None,
    kind: int = socket.SOCK_STREAM,
    domain: int = socket.AF_INET,
    protocol: int = 0,
) -> socket.socket:
    """Return a socket of the stack at path."""
    fd = msocket(path, domain, kind, protocol)
    if isinstance(fd, str):
        raise OSError(getattr(errno, fd), fd)
    return socket.socket(domain, kind, protocol, fileno=fd)
