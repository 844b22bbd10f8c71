"""The compiled C core, made by csrc/build_ffi.py from csrc/um_api.h."""

from typing import Any

ffi: Any
lib: Any
