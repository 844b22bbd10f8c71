"""What visitors may ask of the supervisor: a method for each request.

A request is a method of `Requests` and a line in its table. Its first argument is the
visitor, the others are the words of the message; it returns the answer, or None and
answers later by `Visitor.send`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING

from umview import control, mark, running, special
from umview.changes import Changes
from umview.control import Door, Message, Recent, Visitor
from umview.errors import UmviewError
from umview.nesting import Nesting
from umview.running import EntryError
from umview.view import Filter

if TYPE_CHECKING:
    from umview._ffi import Switchboard
    from umview.loop import Loop
    from umview.special import SpecialFile
    from umview.tracer import Choice
    from umview.views import Tree, View

log = logging.getLogger(__name__)

_INT = struct.Struct("=i")
_HELD_SECONDS = 3.0  # from SIGTERM to SIGKILL where nobody is left to say


class Requests:
    """Serves those who come to the doors of a tree of views."""

    def __init__(
        self,
        switchboard: Switchboard,
        loop: Loop,
        tree: Tree,
        chosen: Choice,
        needed: Filter,
        recent: Recent,
    ) -> None:
        """Know what requests are about.

        Args:
            switchboard: What answers the views' calls.
            loop: The supervisor's.
            tree: The views.
            chosen: Their tracer.
            needed: The filter that processes enter with.
            recent: What was logged.
        """
        self._switchboard = switchboard
        self._loop = loop
        self._tree = tree
        self._tracer, self._tracer_name = chosen
        self._filter = needed
        self._recent = recent
        changes = Changes(switchboard, loop, tree)
        name = chosen.tracer.name
        self._nesting = Nesting(switchboard, loop, tree, name, needed)
        self._table: dict[str, control.Handler] = {
            "describe": self._describe,
            "views": self._views,
            "enter": self._enter,
            "take_in": self._take_in,
            "log": self._log,
            "mount": changes.mount,
            "umount": changes.umount,
            "add": changes.add,
            "del": changes.delete,
            "modules": changes.modules,
            "name": changes.name,
            "shutdown": self._shutdown,
            "hold": self._hold,
            "nest": self._nesting.nest,
            "over": self._nesting.over,
        }

    def call_in(self, pid: int, view: int, flags: int) -> int:
        """Open the door for a process of a view.

        Args:
            pid: The process, or a thread of it.
            view: Its view.
            flags: SOCK_NONBLOCK and SOCK_CLOEXEC.

        Returns:
            Its end of the connection, taken over by the caller.

        Raises:
            OSError: It has ended, or there are no descriptors left.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setblocking(not flags & socket.SOCK_NONBLOCK)
            self._welcome(Visitor(ours, *control.process_of(pid), view))
            return theirs.detach()

    def knocked(self, door: Door) -> None:
        """Let the next one in at a door for those outside."""
        visitor = door.accept()
        if not visitor:
            return
        try:
            # one of a view has found the path, and sees no more for it
            visitor.view = self._switchboard.view_of(visitor.pid)
        except OSError:
            visitor.close()
        else:
            self._welcome(visitor)

    def _welcome(self, visitor: Visitor) -> None:
        self._loop.watch(visitor.fileno(), partial(self._asked, visitor))

    def _asked(self, visitor: Visitor) -> None:
        data = visitor.receive()
        if not data:
            self._dismiss(visitor)
            return
        answer = control.answer(visitor, data, self._table)
        if answer is not None:
            visitor.send(answer)

    def _dismiss(self, visitor: Visitor) -> None:
        self._nesting.left(visitor)
        self._loop.unwatch(visitor.fileno())
        visitor.close()

    # ---- looking ----

    def _describe(self, visitor: Visitor, view: object = None) -> Message:
        """Tell of a view and of those in it."""
        from umview.described import views

        top = self._tree.find(view, visitor.view)
        return {
            "views": [
                {**row, "supervisor": os.getpid(), "tracer": self._tracer_name}
                for row in views(self._tree, top, self._switchboard)
            ]
        }

    def _views(self, visitor: Visitor) -> Message:
        """List the views that the visitor sees, its own first."""
        views = self._tree.within(self._tree.find(None, visitor.view))
        return {"views": [{"number": one.number, "name": one.name} for one in views]}

    def _log(self, visitor: Visitor, follow: bool) -> Message:
        """Tell the last lines of the log; send the next ones as they come."""
        if follow:
            self._recent.followers.append(visitor)
        return {"lines": list(self._recent.lines)}

    # ---- entering ----

    def _enter(self, visitor: Visitor, is_inside: bool, view: object = None) -> Message:
        """Let the visitor become a command of a view.

        Who is inside of a view has a filter already, and is in another view at once.
        """
        into = self._tree.find(view, visitor.view)
        if is_inside:
            self._switchboard.set_place(visitor.pid, into.number)
            return {}
        running.check_outsider()
        self._loop.unwatch(visitor.fileno())
        self._loop.watch(visitor.fileno(), partial(self._entering, visitor, into))
        return {"filter": int(self._filter)}

    def _entering(self, visitor: Visitor, view: View) -> None:
        message = visitor.receive()
        if len(message) == _INT.size:
            (listener,) = _INT.unpack(message)
            with contextlib.suppress(OSError):
                self._admit(visitor.pid, view)
                self._tracer.start(self._switchboard, visitor.pid, listener)
                self._tree.was_entered = True
                visitor.send_bytes(b"\n")
        self._dismiss(visitor)

    def _take_in(self, visitor: Visitor, pid: int, view: object = None) -> Message:
        """Let a program that runs enter a view."""
        into = self._tree.find(view, visitor.view)
        running.check(pid)
        try:
            self._admit(pid, into)
        except OSError as exc:
            raise running.why_not(pid, exc.errno or 0) from exc
        self._attach(pid)
        return {}

    def _admit(self, pid: int, view: View) -> None:
        """Put a process in its place, before it is under a filter.

        Raises:
            OSError: It has ended, or is not ours to change.
        """
        mark.put(pid)
        if view.number:
            self._switchboard.set_place(pid, view.number)

    def _attach(self, pid: int) -> None:
        """Put a program under the filter.

        Raises:
            EntryError: It cannot be done.
        """
        try:
            self._tracer.attach(self._switchboard, pid, self._filter)
        except OSError as exc:
            raise running.why_not(pid, exc.errno or 0) from exc
        self._tree.was_entered = True

    # ---- entering by a stack special file, as libumview does ----

    def came(self, view: View, path: str, file: SpecialFile) -> None:
        """Let the next one in at a stack special file."""
        if visitor := file.accept():
            ask = partial(self._at_stack, visitor, view, path)
            self._loop.watch(visitor.fileno(), ask)

    def _at_stack(self, visitor: Visitor, view: View, path: str) -> None:
        if visitor.receive():
            try:
                self._take_in_natively(visitor.pid, view)
            except EntryError as exc:
                visitor.send_bytes(special.reply(exc.errno, str(exc)))
            else:
                visitor.send_bytes(special.reply(0, path))
        self._dismiss(visitor)

    def _take_in_natively(self, pid: int, view: View) -> None:
        """Let a program that runs enter a view, with the kernel's stack as its default.

        Before it is under the filter, or its other threads could open sockets on the
        view's default stack meanwhile.

        Raises:
            EntryError: It cannot be done.
        """
        running.check(pid)
        try:
            self._switchboard.set_place(pid, view.number)
            self._switchboard.set_default(pid, self._tree.native().number)
        except OSError as exc:
            raise running.why_not(pid, exc.errno or 0) from exc
        try:
            self._attach(pid)
        except EntryError:
            with contextlib.suppress(OSError):
                self._switchboard.set_place(pid, 0)  # it hands none down
            raise
        with contextlib.suppress(OSError):
            mark.put(pid, mark.Kind.GUEST)  # now, for it cannot be undone

    # ---- ending ----

    def _shutdown(
        self, visitor: Visitor, seconds: float, view: object = None
    ) -> Message | None:
        """End the processes of a view; answer when they have ended."""
        top = self._tree.find(view, visitor.view)
        self._end(top, seconds, visitor)
        return None

    def _end(self, top: View, seconds: float, visitor: Visitor) -> None:
        from umview.ending import Ending

        def find() -> set[int]:
            return {
                pid
                for pid, (view, kind) in self._tree.processes().items()
                if view.is_within(top) and kind is mark.Kind.COMMAND
            }

        def ended(error: UmviewError | None) -> None:
            visitor.send({"error": str(error)} if error else {})

        Ending(self._loop, find, float(seconds), ended)

    def _hold(self, visitor: Visitor, view: object = None) -> Message:
        """End a view when the visitor leaves; its process may be killed meanwhile."""
        top = self._tree.find(view, visitor.view)
        self._loop.unwatch(visitor.fileno())
        self._loop.watch(visitor.fileno(), partial(self._held, visitor, top))
        return {}

    def _held(self, visitor: Visitor, view: View) -> None:
        if not visitor.receive():
            self._end(view, _HELD_SECONDS, visitor)
            self._dismiss(visitor)
