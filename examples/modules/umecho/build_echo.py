"""Describe the C library echo.c to cffi.

packet_road.h is umview's; a module that is not in umview's tree has a copy of it.
"""

from pathlib import Path

from cffi import FFI

ffi = FFI()
ffi.cdef("int echo_serve(int line);")
ffi.set_source(
    "umecho._echo",
    '#include "echo.h"',
    sources=["echo.c"],
    include_dirs=[".", str(Path("../../../csrc/stackd").resolve())],
)
