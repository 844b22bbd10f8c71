"""``umview.msocket``: sockets on any stack of a view, by libumview.

In a file of its own, so that `import umview` needs neither ctypes nor socket.
"""

from __future__ import annotations

import ctypes
import functools
import os
import socket
from typing import Any, Final, Literal, overload

SOCK_DEFAULT: Final = 0
"""In the place of a type: open nothing, but make the stack the process's default."""

_LIBRARY = f"{os.path.dirname(__file__)}/lib/libumview.so.0"

Path = str | bytes | os.PathLike[str]


@overload
def msocket(  # type: ignore[overload-overlap] # 0 is an int, and no type of sockets
    path: Path | None, family: int, type: Literal[0], proto: int = 0
) -> None: ...
@overload
def msocket(
    path: Path | None,
    family: int = socket.AF_INET,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
) -> socket.socket: ...
def msocket(
    path: Path | None,
    family: int = socket.AF_INET,
    type: int = socket.SOCK_STREAM,
    proto: int = 0,
) -> socket.socket | None:
    """Open a socket on the stack at a path; see <umview/msocket.h>.

    Args:
        path: Where the stack is mounted, as ``/dev/net/work``; None is the process's
            default stack. Outside of any view: a stack special file of a view of
            yours, which the whole process enters then.
        family: As in `socket.socket`. With SOCK_DEFAULT AF_UNSPEC means all families
            that the stack has.
        type: As in `socket.socket`, or SOCK_DEFAULT: the stack becomes the default of
            this process, and of what it starts from now on, for this family.
        proto: As in `socket.socket`.

    Returns:
        The socket, which children do not inherit; None for SOCK_DEFAULT.

    Raises:
        OSError: ENOENT if there is no such path, EAFNOSUPPORT if no stack is there or
            it lacks the family, EACCES if the stack's file forbids it; those of
            socket(2); and those of a process that cannot enter a view.
    """
    library = _library()
    fd: int = library.msocket(
        None if path is None else os.fsencode(path),
        family,
        type and type | socket.SOCK_CLOEXEC,
        proto,
    )
    if fd < 0:
        text: bytes = library.umview_msocket_error()
        raise OSError(ctypes.get_errno(), os.fsdecode(text))
    if type == SOCK_DEFAULT:
        return None
    plain = type & ~(socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    opened = socket.socket(family, plain, proto, fileno=fd)
    if type & socket.SOCK_NONBLOCK:
        opened.setblocking(False)
    return opened


@functools.cache
def _library() -> Any:  # noqa: ANN401 - its functions are ctypes' own objects
    library = ctypes.CDLL(_LIBRARY, use_errno=True)
    library.msocket.argtypes = (ctypes.c_char_p, *(ctypes.c_int,) * 3)
    library.umview_msocket_error.restype = ctypes.c_char_p
    return library
