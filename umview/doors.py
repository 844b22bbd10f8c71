"""Find a view that runs, by its name, and the door where it is asked for things.

Outside of views the doors of all the user's supervisors are there; inside, the one of
the own supervisor, which shows the own view and those in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from umview import _ffi, runtime
from umview.control import Caller
from umview.errors import UmviewError

_SECONDS = 30.0


class Found(NamedTuple):
    """A view that runs.

    Attributes:
        caller: The door of its supervisor.
        number: Its number there.
        name: What it is called.
    """

    caller: Caller
    number: int
    name: str


def callers() -> Iterator[Caller]:
    """Knock at all doors; who does not answer for long is given up.

    Raises:
        UmviewError: We are inside of a view whose supervisor is gone.
    """
    if _ffi.is_in_view():
        try:
            yield Caller.inside()
        except OSError as exc:
            raise UmviewError(f"the view does not answer: {exc.strerror}") from None
        return
    for _, folder in runtime.views(os.environ):
        with contextlib.suppress(OSError):
            caller = Caller.outside(folder)
            caller.sock.settimeout(_SECONDS)
            yield caller


def find(name: str | None) -> Found:
    """Return a view.

    Args:
        name: Its name; None: the own one, or outside of views the only one that runs.

    Raises:
        UmviewError: There is none, or it is not clear which is meant.
    """
    found: list[Found] = []
    for caller in callers():
        before = len(found)
        with contextlib.suppress(UmviewError):  # it has just ended
            views = _views(caller)
            if name is None:
                del views[1:]  # what is in it goes by its own name
            found += [Found(caller, *one) for one in views if name in (None, one[1])]
        if len(found) == before:
            caller.close()
    if len(found) == 1:
        found[0].caller.sock.settimeout(None)  # what is asked for may take long
        return found[0]
    for one in found:
        one.caller.close()
    if found:
        names = ", ".join(one.name for one in found)
        raise UmviewError(f"several views run, say which one: {names}")
    if name is None:
        raise UmviewError("no view runs; start one with umview")
    raise UmviewError(f"no view is called {name}; `umctl ls` shows those that run")


def _views(caller: Caller) -> list[tuple[int, str]]:
    rows = caller.ask("views")["views"]
    assert isinstance(rows, list)
    return [(row["number"], row["name"]) for row in rows]
