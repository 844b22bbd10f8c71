"""Whom the policies of a tree of views are asked for, and what is done with the answer.

A policy belongs to a view, and has a say in what programs of that view do and of those
nested in it, whichever stack they do it on. The switchboard knows of stacks only: it
asks for a stack's sockets if any policy of a view may concern one that can have them,
and who is to be asked is found here, by the caller's view.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from umview import _ffi
from umview.errors import UmviewError
from umview.policy import ASKED, Act, Deed, Name
from umview.view import StackKind

if TYPE_CHECKING:
    from umview._ffi import Event, Switchboard
    from umview.module import AskedPolicy
    from umview.views import Tree, View

log = logging.getLogger(__name__)


class Placed(NamedTuple):
    """A policy of a view."""

    view: View
    asked: AskedPolicy


class Policies:
    """The policies of a tree of views."""

    def __init__(self, switchboard: Switchboard, tree: Tree) -> None:
        self._switchboard = switchboard
        self._tree = tree
        self._placed: list[Placed] = []
        self._deeds: dict[int, Deed] = {}  # what the switchboard was told, by stack
        self._paths: dict[int, str] = {}
        self._policed: set[int] = set()  # views that have no sockets of the host

    def add(self, view: View, asked: AskedPolicy) -> None:
        """Give a policy to a view, after those that it has.

        Raises:
            UmviewError: It cannot get what it needs, the view has one of this module,
                or no say in its stack is possible.
        """
        if any(one.asked.module == asked.module for one in self.of(view)):
            raise UmviewError(f"{asked.module}: the view has it already; del it first")
        stack = self._tree.default_of(view)
        if stack is None or stack.kind is StackKind.NATIVE:
            raise UmviewError(
                f"{asked.module} has no say in the kernel's own network, which calls "
                "go to unchanged: use it with another stack, as with -p umnet"
            )
        try:
            asked.policy.start()
        except UmviewError as exc:
            asked.policy.stop()
            raise UmviewError(f"{asked.module}: {exc}") from exc
        self._placed.append(Placed(view, asked))
        self.changed()

    def remove(self, view: View, module: str) -> None:
        """Take a policy from a view.

        Raises:
            UmviewError: It has none of this module.
        """
        for one in self.of(view):
            if one.asked.module == module:
                self._take(one)
                return
        raise UmviewError(f"{module}: the view has no such policy")

    def leave(self, view: View) -> None:
        """Take all policies from a view that has ended."""
        for one in self.of(view):
            self._take(one)

    def stop(self) -> None:
        """Let all of them give back what they have, at the end of everything."""
        for one in self._placed:
            one.asked.policy.stop()

    def of(self, view: View) -> list[Placed]:
        """Return the policies of a view, those of enclosing views not included."""
        return [one for one in self._placed if one.view is view]

    def _take(self, one: Placed) -> None:
        self._placed.remove(one)
        self.changed()
        one.asked.policy.stop()

    def changed(self) -> None:
        """Tell the switchboard what to ask for, after views or stacks have changed."""
        owners: dict[int, View] = {}
        for view in self._tree.views.values():
            on = any(view.is_within(one.view) for one in self._placed)
            if on != (view.number in self._policed):
                self._switchboard.police(view.number, on=on)
                self._policed ^= {view.number}
            for path, mounted in view.mounts.items():
                owners.setdefault(mounted.stack, view)
                self._paths[mounted.stack] = path
        for stack in self._tree.stacks:
            deeds = self._wanted(owners.get(stack, self._tree.root))
            if deeds != self._deeds.get(stack, Deed.NONE):
                self._switchboard.set_policy(stack, deeds)
            self._deeds[stack] = deeds
        self._policed &= self._tree.views.keys()
        for gone in self._deeds.keys() - self._tree.stacks.keys():
            del self._deeds[gone]
            self._paths.pop(gone, None)

    def _wanted(self, owner: View) -> Deed:
        """Return what may have to be asked for of sockets on a stack of a view."""
        deeds = Deed.NONE
        for view, asked in self._placed:
            if owner.is_within(view) or view.is_within(owner):
                deeds |= asked.policy.deeds
        return deeds

    # ---- acts ----

    def heard(self, event: Event) -> None:
        """Decide what the switchboard asks for, or note what it tells."""
        act = self._act(event)
        if act.deed not in ASKED:
            for one in self._concerned(act):
                _note(one, act)
            return
        error = next(
            filter(None, (_decide(one, act) for one in self._concerned(act))), 0
        )
        if act.deed is Deed.RECEIVE:
            assert act.remote
            self._switchboard.answer_datagram(act.socket, act.remote, error)
        else:
            self._switchboard.answer_policy(event.id, error)

    def _concerned(self, act: Act) -> Iterator[Placed]:
        """Yield the policies that an act concerns, those of outer views first."""
        view = self._tree.views.get(act.view, self._tree.root)
        for one in sorted(self._placed, key=lambda one: one.view.depth):
            if view.is_within(one.view) and act.deed in one.asked.policy.deeds:
                yield one

    def _act(self, event: Event) -> Act:
        raw = _ffi.act(event.data)
        return Act(
            Deed(raw.deed),
            event.pid,
            _program_of(event.pid),
            event.view,
            self._paths.get(event.stack, ""),
            event.cookie,
            raw.protocol,
            Name(*raw.local),
            Name(*raw.remote) if raw.remote else None,
            raw.error,
        )


def _program_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _decide(one: Placed, act: Act) -> int:
    """Return what a policy says; one that fails says no."""
    try:
        return one.asked.policy.decide(act)
    except Exception:
        log.exception("%s: no decision; it is denied", one.asked.module)
        return errno.EPERM


def _note(one: Placed, act: Act) -> None:
    try:
        one.asked.policy.note(act)
    except Exception:
        log.exception("%s: what was told is lost", one.asked.module)
