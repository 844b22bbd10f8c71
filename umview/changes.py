"""Requests that change what a view consists of, while its programs go on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from umview import module
from umview.control import Message, Visitor
from umview.errors import UmviewError
from umview.special import NET

if TYPE_CHECKING:
    from collections.abc import Callable

    from umview._ffi import Switchboard
    from umview.loop import Loop
    from umview.module import Asked
    from umview.views import Tree, View

_LONGEST = 200  # of a path; that of its special file has to be one, too


class Changes:
    """Does what visitors want changed."""

    def __init__(self, switchboard: Switchboard, loop: Loop, tree: Tree) -> None:
        self._switchboard = switchboard
        self._loop = loop
        self._tree = tree

    # ---- stacks ----

    def mount(
        self,
        visitor: Visitor,
        text: str,
        path: str | None = None,
        cwd: str = "/",
        view: object = None,
    ) -> Message | None:
        """Mount a stack; answer when it is there.

        Args:
            visitor: Who wants it.
            text: MODULE[,OPTION...]
            path: Where; None: at a path that is free.
            cwd: What file names in the options begin at.
            view: In which view.
        """
        into = self._tree.find(view, visitor.view)
        if path is not None:
            _check(path)
            self._tree.check_free(into, path)
        with _in_folder(cwd):
            asked = module.ask(text)
        enclosing = self._tree.enclosing(into)
        self._loop.in_thread(
            partial(asked.mount.prepare, enclosing),
            partial(self._prepared, visitor, into, path, asked),
        )
        return None

    def _prepared(
        self,
        visitor: Visitor,
        view: View,
        path: str | None,
        asked: Asked,
        result: Callable[[], None],
    ) -> None:
        try:
            result()
            if visitor.has_left or view.number not in self._tree.views:
                raise UmviewError("nobody waits for it any more")
            path = path or view.free_path(asked.module)
            self._tree.mount(view, path, asked)
        except UmviewError as exc:
            asked.mount.remove()
            visitor.send({"error": str(exc)})
        else:
            visitor.send({"path": path})

    # ---- modules ----

    def add(
        self, visitor: Visitor, text: str, cwd: str = "/", view: object = None
    ) -> Message | None:
        """Load a module; mount its stack, if it has one, where that is free."""
        return self.mount(visitor, text, None, cwd, view)

    def modules(self, visitor: Visitor, view: object = None) -> Message:
        """List the modules of a view."""
        from umview.described import modules

        return {"modules": modules(self._tree.find(view, visitor.view))}

    # ---- names ----

    def name(self, visitor: Visitor, name: str, view: object = None) -> Message:
        """Give a view another name."""
        self._tree.rename(self._tree.find(view, visitor.view), name)
        return {}


def _check(path: str) -> None:
    if not path.startswith("/") or os.path.normpath(path) != path or path == "/":
        raise UmviewError(f"{path}: give an absolute path, as {NET}work")
    if len(path) > _LONGEST or not path.isprintable():
        raise UmviewError(f"{path}: a path is up to {_LONGEST} characters")


@contextlib.contextmanager
def _in_folder(path: str) -> Iterator[None]:
    """Be in somebody's directory while his options are read: they may name files."""
    try:
        os.chdir(path)
    except OSError as exc:
        raise UmviewError(f"cannot go to {path}: {exc.strerror}") from None
    try:
        yield
    finally:
        os.chdir("/")
