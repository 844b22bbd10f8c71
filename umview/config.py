"""``python -m umview.config``: how to build a program with this umview's library.

It prints what a compiler needs for <umview/msocket.h>, or where pkg-config finds it.
"""

from __future__ import annotations

import os
import sys

from umview.errors import FAILED

_HERE = os.path.dirname(os.path.abspath(__file__))
_SAYS = {
    "--cflags": f"-I{_HERE}/include",
    "--libs": f"-L{_HERE}/lib -Wl,-rpath,{_HERE}/lib -lumview",
    "--pkgconfigdir": f"{_HERE}/lib/pkgconfig",
}


def main() -> int:
    """Print what each word of the command line asks for.

    Returns:
        The exit status.
    """
    words = sys.argv[1:]
    if not words or not set(words) <= set(_SAYS):
        sys.stderr.write(f"umview.config: say one or more of {', '.join(_SAYS)}\n")
        return FAILED
    sys.stdout.write(" ".join(_SAYS[word] for word in words) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
