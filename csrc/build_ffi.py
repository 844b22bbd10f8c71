"""Describe the extension module ``umview._core`` to cffi (API mode).

``um_api.h`` is the one text of the interface, and ``packet_road.h`` that of what is
said to stack servers: the C files include them, and cffi reads them here, so that the
compiler refuses a mismatch. cffi has no preprocessor; the headers keep to enums,
structs, prototypes and ``#define NAME integer``.

UMVIEW_WERROR=1 in the environment turns the compiler's warnings into errors.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cffi import FFI

_CSRC = Path(__file__).parent
_FOLDERS = ("switchboard", "pump")
_HEADERS = ("um_api.h", "stackd/packet_road.h")

_MACRO = re.compile(r"#\s*define\s+(\w+)[ \t]+(.+)")
_PLAIN_INTEGER = re.compile(r"-?(0[xX][0-9a-fA-F]+|\d+)")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


def declarations(header: str) -> str:
    """Return what ``ffi.cdef`` may read of a C header.

    Args:
        header: The text of the header.

    Returns:
        The text without comments and preprocessor lines. A macro with a plain
        integer stays as it is (cffi must know it where it is an array's length); of
        any other macro with a value only the name stays, and the compiler supplies
        the value.
    """
    lines = []
    for line in _COMMENT.sub("", header).replace("\\\n", " ").splitlines():
        if not line.lstrip().startswith("#"):
            lines.append(line)
        elif macro := _MACRO.match(line.strip()):
            name, value = macro[1], macro[2].strip()
            plain = _PLAIN_INTEGER.fullmatch(value)
            lines.append(f"#define {name} {value if plain else '...'}")
    return "\n".join(lines)


def make_builder() -> FFI:
    """Return the builder of ``umview._core`` for the files that are there now."""
    flags = ["-std=c11", "-O2", "-pthread", "-fvisibility=hidden"]
    flags += ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]
    if os.environ.get("UMVIEW_WERROR") == "1":
        flags.append("-Werror")
    builder = FFI()
    for header in _HEADERS:
        builder.cdef(declarations((_CSRC / header).read_text(encoding="utf-8")))
    builder.set_source(
        "umview._core",
        "".join(f'#include "{header}"\n' for header in _HEADERS),
        sources=[str(c) for d in _FOLDERS for c in sorted((_CSRC / d).glob("*.c"))],
        depends=[str(h) for h in sorted(_CSRC.glob("**/*.h"))],
        include_dirs=[str(_CSRC)],
        define_macros=[("_GNU_SOURCE", None)],
        extra_compile_args=flags,
        extra_link_args=["-pthread"],
        libraries=["seccomp"],
    )
    return builder


ffibuilder = make_builder()
