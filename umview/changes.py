"""Requests that change what a view consists of, while its programs go on."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from umview import module, processes
from umview.control import Message, Visitor, in_folder
from umview.errors import UmviewError
from umview.module import AskedPolicy
from umview.view import DEFAULT, free_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from umview._ffi import Switchboard
    from umview.loop import Loop
    from umview.module import Asked
    from umview.views import Tree, View

_NAMED = 5  # processes that keep a stack from being unmounted


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
        path: str,
        cwd: str = "/",
        view: object = None,
    ) -> None:
        """Mount a stack; answer when it is there.

        Args:
            visitor: Who wants it.
            text: MODULE[,OPTION...]
            path: Where.
            cwd: What file names in the options begin at.
            view: In which view.
        """
        into = self._tree.find(view, visitor.view)
        module.check_path(path)
        self._tree.check_free(into, path)
        with in_folder(cwd):
            asked = module.ask(text)
        self._mount(visitor, into, path, asked)

    def _mount(
        self, visitor: Visitor, into: View, path: str | None, asked: Asked
    ) -> None:
        enclosing = self._tree.enclosing(into)
        self._loop.in_thread(
            partial(asked.mount.prepare, enclosing),
            partial(self._prepared, visitor, into, path, asked),
        )

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
            path = path or free_path(asked.module, view.mounts)
            self._tree.mount(view, path, asked)
            if path == DEFAULT:
                self._tree.furnish(view)
        except UmviewError as exc:
            asked.mount.remove()
            visitor.send({"error": str(exc)})
        else:
            visitor.send({"path": path})

    def umount(
        self, visitor: Visitor, path: str, lazily: object = False, view: object = None
    ) -> Message:
        """Take a stack away."""
        self._umount(self._tree.find(view, visitor.view), path, lazily=bool(lazily))
        return {}

    def _umount(self, view: View, path: str, *, lazily: bool) -> None:
        try:
            self._tree.umount(view, path, lazily=lazily)
        except OSError as exc:
            raise UmviewError(self._why_busy(view, path)) from exc

    def _why_busy(self, view: View, path: str) -> str:
        stack = view.mounts[path].stack
        inodes = {
            one.inode for one in self._switchboard.sockets() if one.stack == stack
        }
        if not inodes:
            return f"{path}: another stack leads into it: umount that first"
        sockets = "1 socket is" if len(inodes) == 1 else f"{len(inodes)} sockets are"
        pids = sorted(self._tree.processes())
        names = ", ".join(
            f"{pid} ({processes.name_of(pid)})"
            for pid in islice(processes.holders(inodes, pids), _NAMED)
        )
        whose = f", of process {names}" if names else ""
        return f"{path}: {sockets} on it{whose}: end what has them, or umount -l"

    # ---- modules ----

    def add(
        self, visitor: Visitor, text: str, cwd: str = "/", view: object = None
    ) -> Message | None:
        """Load a module; mount its stack, if it has one, where that is free."""
        into = self._tree.find(view, visitor.view)
        with in_folder(cwd):
            asked = module.read(text)
        if isinstance(asked, AskedPolicy):
            self._tree.policies.add(into, asked)
            return {"path": None}
        self._mount(visitor, into, asked.path, asked)
        return None

    def delete(self, visitor: Visitor, module: str, view: object = None) -> Message:
        """Unload a module: a policy, or one with a stack, which is unmounted."""
        of = self._tree.find(view, visitor.view)
        paths = [
            path
            for path, mounted in of.mounts.items()
            if module in (path, mounted.asked.module)
        ]
        if len(paths) > 1:
            raise UmviewError(
                f"{module}: it has several stacks, say which one: {', '.join(paths)}"
            )
        if paths:
            self._umount(of, paths[0], lazily=False)
        else:
            self._tree.policies.remove(of, module)
        return {}

    def modules(self, visitor: Visitor, view: object = None) -> Message:
        """List the modules of a view."""
        from umview.described import modules

        return {"modules": modules(self._tree, self._tree.find(view, visitor.view))}

    # ---- names ----

    def name(self, visitor: Visitor, name: str, view: object = None) -> Message:
        """Give a view another name."""
        self._tree.rename(self._tree.find(view, visitor.view), name)
        return {}
