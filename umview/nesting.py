"""Nested views: made for a keeper that asks for one, and removed when it has ended.

What takes time of their stacks (plugging in, DHCP) is done in a thread; the views that
run are answered meanwhile. The connection to the keeper stays: it says "over" when its
last process has ended, and who is gone without a word was killed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from umview import module
from umview.control import TOLD, Message, Visitor, in_folder
from umview.errors import UmviewError
from umview.module import Asked, AskedPolicy
from umview.view import Filter, Stack

if TYPE_CHECKING:
    from umview._ffi import Switchboard
    from umview.loop import Loop
    from umview.views import Tree, View

log = logging.getLogger(__name__)

_Prepared: TypeAlias = Callable[[], None]


class Nesting:
    """Makes nested views, and notes their ends."""

    def __init__(
        self,
        switchboard: Switchboard,
        loop: Loop,
        tree: Tree,
        tracer: str,
        has: Filter,
    ) -> None:
        """Know what nested views are made of.

        Args:
            switchboard: What answers the views' calls.
            loop: The supervisor's.
            tree: The views.
            tracer: What stops the calls of all of them: "seccomp" or "ptrace".
            has: The filter that all of their processes are under.
        """
        self._switchboard = switchboard
        self._loop = loop
        self._tree = tree
        self._tracer = tracer
        self._has = has
        self._kept: dict[Visitor, View] = {}  # by the keepers' connections

    def nest(
        self,
        visitor: Visitor,
        words: Sequence[str],
        name: str,
        tracer: str,
        *,
        is_verbose: bool,
        is_overlaid: bool,
        pid: int,
    ) -> None:
        """Make a view in the visitor's, for which it answers later.

        Args:
            visitor: The keeper; with pid, who has that enter the view.
            words: Those of -p.
            name: What the view is to be called.
            tracer: What is to stop its calls: only what does already.
            is_verbose: Whether to say what is set up.
            is_overlaid: Whether its stacks are to be shown as files.
            pid: A program of the visitor's view that is to be the new one's root, or 0.

        Raises:
            UmviewError: It cannot be had.
        """
        if visitor.uid != os.getuid():
            raise UmviewError(
                f"this view is of user {os.getuid()}, and only that user can nest "
                "another one in it"
            )
        if tracer not in ("auto", self._tracer):
            raise UmviewError(
                f"--tracer {tracer}: calls are stopped by {self._tracer} here, in all "
                "views of the tree; leave --tracer away"
            )
        if is_overlaid and not self._has & Filter.OVERLAY:
            raise UmviewError(
                "--overlay: the calls on files are stopped from the start or not at "
                "all; give it to the outermost umview"
            )
        parent = self._tree.views[visitor.view]
        if pid:
            self._check(pid, visitor)
        try:
            around = self._switchboard.default_of(pid or visitor.pid)
        except OSError:
            raise UmviewError("the stack around the new view has ended") from None
        heard = _Heard(logging.INFO if is_verbose else logging.WARNING)
        with in_folder(f"/proc/{visitor.pid}/cwd"):
            stacks, policies = module.ask_all(words)
        view = self._tree.add(parent, name, 0 if pid else visitor.pid)
        view.around = around
        self._kept[visitor] = view
        self._loop.in_thread(
            partial(_prepare, stacks, self._tree.enclosing(view), heard),
            partial(self._prepared, visitor, view, pid, stacks, policies, heard),
        )

    def over(self, visitor: Visitor) -> Message:
        """Take note that the last process of the visitor's view has ended."""
        if visitor in self._kept:
            self._tree.remove(self._kept.pop(visitor))
        return {}

    def left(self, visitor: Visitor) -> None:
        """Take note that a visitor is gone; as a keeper's, its view has no root."""
        view = self._kept.pop(visitor, None)
        if view is None:
            return
        if view.mounts:
            log.warning(
                "view %s: its keeper (process %d) was killed: the network of what runs "
                "in it is gone",
                view.name,
                view.keeper,
            )
        self._tree.remove(view)

    def _check(self, pid: int, visitor: Visitor) -> None:
        """Make sure that a program is in the visitor's view, or below.

        Raises:
            UmviewError: It is not.
        """
        here = self._tree.views[visitor.view]
        found = self._tree.processes().get(pid)
        if found and found[0].is_within(here):
            return
        raise UmviewError(
            f"process {pid} is no program of this view: only those can enter one that "
            "is nested in it"
        )

    def _follow(self, view: View, pid: int) -> None:
        """See when a view ends whose root is a program.

        Raises:
            UmviewError: It has already.
        """
        try:
            ended = os.pidfd_open(pid)
        except OSError as exc:
            raise UmviewError(f"process {pid}: {exc.strerror}") from exc

        def end() -> None:
            self._loop.unwatch(ended)
            os.close(ended)
            self._tree.remove(view)

        self._loop.watch(ended, end)

    def _prepared(
        self,
        visitor: Visitor,
        view: View,
        pid: int,
        stacks: Sequence[Asked],
        policies: Sequence[AskedPolicy],
        heard: _Heard,
        prepared: _Prepared,
    ) -> None:
        """Put the stacks into the view, and let the keeper be its root."""
        try:
            prepared()
            if self._kept.get(visitor) is not view:
                raise UmviewError("its keeper is gone")
            with heard:
                self._fill(view, stacks, policies)
                self._put(pid or visitor.pid, view)
            if pid:
                self._follow(view, pid)
                del self._kept[visitor]
        except UmviewError as exc:
            mounted = [one.asked for one in view.mounts.values()]
            for asked in stacks:
                if asked not in mounted:
                    asked.mount.remove()
            if self._kept.pop(visitor, None):
                self._tree.remove(view)
                visitor.send({"error": str(exc)})
            return
        visitor.send({"view": view.number, TOLD: heard.lines})

    def _fill(
        self, view: View, stacks: Sequence[Asked], policies: Sequence[AskedPolicy]
    ) -> None:
        """Put the stacks and policies into a view.

        Raises:
            UmviewError: That cannot be.
        """
        for asked in stacks:
            assert asked.path
            self._tree.mount(view, asked.path, asked)
        lacking = self._tree.furnish(view) & ~self._has
        if lacking:
            log.warning(
                "view %s: the filter of the view around it does not stop what it needs "
                "for its own files and names: it has the other's",
                view.name,
            )
        for policy in policies:
            self._tree.policies.add(view, policy)

    def _put(self, root: int, view: View) -> None:
        """Let a process be the root of a view.

        Raises:
            UmviewError: It has ended.
        """
        try:
            self._switchboard.set_place(root, view.number)
        except OSError as exc:
            raise UmviewError(f"process {root}: {exc.strerror}") from exc


def _prepare(stacks: Sequence[Asked], enclosing: Stack | None, heard: _Heard) -> None:
    """Do what takes time.

    Raises:
        UmviewError: Something that a stack needs cannot be had.
    """
    with heard:
        for asked in stacks:
            asked.mount.prepare(enclosing)


class _Heard(logging.Handler):
    """What is logged by this thread, meanwhile: for who has asked for it.

    Attributes:
        lines: That.
    """

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []
        self._thread = 0

    def __enter__(self) -> None:
        self._thread = threading.get_ident()
        logging.getLogger().handlers.insert(0, self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        if record.thread == self._thread:
            self.lines.append(record.getMessage())
            setattr(record, TOLD, True)
