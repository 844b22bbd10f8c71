"""Give a program, and all its children, a network of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umview._msocket import SOCK_DEFAULT as SOCK_DEFAULT
    from umview._msocket import msocket as msocket
    from umview.api import View as View
    from umview.network import Network as Network

__version__ = "0.1.0"

_LATER = {
    "Network": "network",
    "SOCK_DEFAULT": "_msocket",
    "View": "api",
    "msocket": "_msocket",
}
"""What is not there before it is asked for, by the file that has it."""


def __getattr__(name: str) -> object:
    """Import what the command itself does not need, on first use."""
    if name not in _LATER:
        raise AttributeError(f"module 'umview' has no attribute '{name}'")
    from importlib import import_module

    value: object = getattr(import_module(f"umview.{_LATER[name]}"), name)
    return value
