"""The tree of views: what each of them consists of.

View 0 is the outermost one. The switchboard has the same views by the same numbers, and
all that the calls of programs need; what is known here is what people and modules ask
for: names, mounts, modules.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from umview import runtime
from umview.errors import UmviewError
from umview.module import Asked, Context, Mount
from umview.special import SpecialFile
from umview.view import DEFAULT, FOLDERS, Card, Filter, Service, Stack, StackKind, lo

if TYPE_CHECKING:
    from umview import mark
    from umview._ffi import Switchboard
    from umview.loop import Loop
    from umview.policies import Policies
    from umview.runtime import Runtime


class Mounted(NamedTuple):
    """A stack at a path.

    Attributes:
        asked: What it was made of; kept, for its stack server ends with it.
        stack: Its number.
        special: What stands for it in the host's file system.
        is_own: Whether it was made for this; else it is another mount's, too.
    """

    asked: Asked
    stack: int
    special: SpecialFile
    is_own: bool


class View:
    """A view.

    Attributes:
        number: Its number on the switchboard.
        name: What it is called.
        parent: The enclosing view; None: it is the outermost.
        depth: How many views enclose it.
        keeper: The process that is its root; of the outermost, the supervisor; 0 where
            a program is.
        mounts: Its stacks by their paths.
        apart: The stack of its programs in other network namespaces, if there are.
        around: The stack that was the default of the process that asked for the view;
            None: the enclosing view's.
    """

    def __init__(
        self, number: int, name: str, parent: View | None, keeper: int
    ) -> None:
        self.number = number
        self.name = name
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.keeper = keeper
        self.mounts: dict[str, Mounted] = {}
        self.apart: int | None = None
        self.around: int | None = None

    def is_within(self, other: View) -> bool:
        """Whether it is another view, or nested in that, however deep."""
        view: View | None = self
        while view and view is not other:
            view = view.parent
        return view is not None


class Tree:
    """All views of a supervisor.

    Attributes:
        views: By their numbers.
        stacks: All stacks by their numbers.
        modules: The names of the modules that made them.
        came: Called when somebody outside knocks at a stack special file, with the
            view, the stack's path, and the file.
        was_entered: Whether a process ever came in that is no child of a keeper.
    """

    came: Callable[[View, str, SpecialFile], None]

    def __init__(
        self, switchboard: Switchboard, loop: Loop, root: View, runtime: Runtime
    ) -> None:
        """Have the outermost view, and no stacks yet.

        Args:
            switchboard: What answers the views' calls.
            loop: The supervisor's.
            root: The outermost view.
            runtime: The runtime directory.
        """
        self.views = {root.number: root}
        self.stacks: dict[int, Stack] = {}
        self.modules: dict[int, str] = {}
        self.was_entered = False
        self._switchboard = switchboard
        self._loop = loop
        self._runtime = runtime
        self._made_by: dict[int, Mount] = {}
        self._policies: Policies | None = None

    @property
    def policies(self) -> Policies:
        """What policies the views have."""
        if self._policies is None:
            from umview.policies import Policies

            self._policies = Policies(self._switchboard, self)
        return self._policies

    @property
    def root(self) -> View:
        """The outermost view."""
        return self.views[0]

    def find(self, named: object, seen_from: int = 0) -> View:
        """Return a view.

        Args:
            named: Its name or its number; None: the one it is seen from.
            seen_from: The number of the view that somebody is in who looks: views that
                are neither this one nor in it are not seen.

        Raises:
            UmviewError: There is none.
        """
        here = self.views[seen_from]
        for view in self.views.values() if named is not None else (here,):
            if named in (None, view.number, view.name) and view.is_within(here):
                return view
        raise UmviewError(f"no view is called {named}; `umctl ls` shows those that run")

    def add(self, parent: View, name: str, keeper: int) -> View:
        """Add a nested view, with nothing mounted.

        Args:
            parent: The view around it.
            name: What it is to be called.
            keeper: The process that is to be its root; 0: a program.

        Raises:
            UmviewError: The name is none or another view has it, or there are too many.
        """
        view = View(-1, "", parent, keeper)
        self.rename(view, name)
        try:
            view.number = self._switchboard.add_view(parent.number)
        except OSError as exc:
            raise UmviewError(f"no further view can be had: {exc.strerror}") from exc
        self.views[view.number] = view
        self.cover()
        return view

    def remove(self, view: View) -> None:
        """Remove a view with its stacks, and those that are nested in it."""
        for other in [one for one in self.views.values() if one.parent is view]:
            self.remove(other)
        # first of all, for who is left there must not get the enclosing view's stack
        self._switchboard.remove_view(view.number)
        del self.views[view.number]
        for path, mounted in list(view.mounts.items()):
            if mounted.is_own:
                self.drop(mounted.stack)
            self._clear(view, path)
        if view.apart is not None:
            self.drop(view.apart)
        if self._policies:
            self._policies.leave(view)

    def rename(self, view: View, name: str) -> None:
        """Give a view another name.

        Raises:
            UmviewError: It is none, or another view has it.
        """
        if not runtime.is_name(name):
            raise UmviewError(
                f"{name}: a name is up to 64 letters, digits, dots, - and _"
            )
        if any(name == one.name for one in self.views.values() if one is not view):
            raise UmviewError(f"{name}: another view has this name; choose another")
        if view is self.root:
            self._runtime.rename(name)
        view.name = name

    def within(self, top: View) -> Iterator[View]:
        """Yield a view and all that are nested in it."""
        return (view for view in self.views.values() if view.is_within(top))

    def processes(self) -> dict[int, tuple[View, mark.Kind]]:
        """Return the processes in views, and how each came there.

        Keepers are not among them: they end by themselves, with the last of their own.
        """
        from umview import mark, processes

        keepers = {view.keeper: view.number for view in self.views.values()}
        kinds = dict.fromkeys(processes.below(keepers), mark.Kind.COMMAND)
        kinds.update(mark.processes())
        found = {}
        for pid in kinds.keys() - keepers:
            # its view may have ended, or it may
            with contextlib.suppress(OSError, KeyError):
                found[pid] = self.views[self._switchboard.view_of(pid)], kinds[pid]
        return found

    # ---- stacks ----

    def check_free(self, view: View, path: str) -> None:
        """Make sure that nothing is mounted at a path.

        Raises:
            UmviewError: It is.
        """
        if path in view.mounts:
            raise UmviewError(f"{path}: a stack is mounted there; umount it first")

    def mount(self, view: View, path: str, asked: Asked) -> Mounted:
        """Put a stack to a path; what it takes has been prepared.

        Raises:
            UmviewError: It cannot be had.
        """
        self.check_free(view, path)
        with self._switchboard.held():
            stack = asked.mount.add(self._context(view))
            is_own = stack.number not in self.stacks
            try:
                special = SpecialFile(self._runtime.path, view.number, path)
            except OSError as exc:
                if is_own:
                    self._switchboard.remove_stack(stack.number)
                raise UmviewError(f"{path}: {exc.strerror}; choose another") from exc
            if is_own:
                self._keep(stack, asked.module, asked.mount)
            self._switchboard.set_mount(view.number, path, stack.number, special.file)
        self._loop.watch(special.fileno(), lambda: self.came(view, path, special))
        mounted = view.mounts[path] = Mounted(asked, stack.number, special, is_own)
        self.cover()
        return mounted

    def umount(self, view: View, path: str, *, lazily: bool) -> None:
        """Take a stack away; its place at the path is free then.

        Args:
            view: The view.
            path: Where the stack is.
            lazily: While it has sockets, let it go on for them; nobody else finds it.

        Raises:
            OSError: EBUSY: it has sockets, or another stack needs it.
            UmviewError: There is none.
        """
        stack = self._at(view, path).number
        with self._switchboard.held():
            if not view.mounts[path].is_own:
                self._switchboard.set_mount(view.number, path, None)
            elif lazily:
                self.drop(stack)
            else:
                self._switchboard.remove_stack(stack)
                self._forget(stack)
            if path == DEFAULT:
                self._switchboard.clear_files(view.number)
        self._clear(view, path)

    def _clear(self, view: View, path: str) -> None:
        mounted = view.mounts.pop(path)
        self._loop.unwatch(mounted.special.fileno())
        mounted.special.remove()
        self.cover()

    def furnish(self, view: View) -> Filter:
        """Give a view the files and names of its default stack.

        Returns:
            Which optional calls have to be stopped for it.
        """
        first = view.mounts[DEFAULT]
        needed = first.asked.mount.furnish(self._context(view))
        if needed & Filter.FILES and view is self.root:
            for folder in FOLDERS:
                self._switchboard.add_folder(folder)
        return needed

    def keep_apart(self, view: int, number: int) -> None:
        """Know the stack of a view's programs in other network namespaces."""
        self._keep(Stack(number, StackKind.APART, (lo(4, 6),)), "netns")
        if view in self.views:
            self.views[view].apart = number
        else:
            self.drop(number)

    def drop(self, number: int) -> None:
        """Remove a stack that is mounted nowhere: as soon as nobody uses it.

        While somebody does, the switchboard tells when to ask again.
        """
        if self._switchboard.remove_stack(number, lazily=True):
            self._forget(number)

    def _forget(self, number: int) -> None:
        from umview import files

        files.forget(self._runtime.path, number)
        for service in self.stacks[number].services:
            for fd in service.filenos():
                if self._loop.watches(fd):
                    self._loop.unwatch(fd)
        del self.stacks[number], self.modules[number]
        for view in self.views.values():
            if view.around == number:
                view.around = None
        if mount := self._made_by.pop(number, None):
            mount.remove()
        self.cover()

    def native(self) -> Stack:
        """Return the kernel's stack, as a default for those who come from outside."""
        for stack in self.stacks.values():
            if stack.kind is StackKind.NATIVE:
                return stack
        kind = StackKind.NATIVE
        number = self._switchboard.add_stack(kind, ipv4=True, ipv6=True)
        self._keep(Stack(number, kind), "umnetnative")
        return self.stacks[number]

    def end(self) -> None:
        """Let the policies have their last word, at the end of everything."""
        if self._policies:
            self._policies.stop()

    def cover(self) -> None:
        """Let the policies have their say, after stacks or mounts have changed."""
        if self._policies:
            self._policies.changed()

    def _context(self, view: View) -> Context:
        where = partial(self._at, view)
        return Context(self._switchboard, view.number, self.enclosing(view), where)

    def default_of(self, view: View) -> Stack | None:
        """Return the default stack of a view; None: it is the kernel's."""
        if DEFAULT in view.mounts:
            return self.stacks[view.mounts[DEFAULT].stack]
        return self.enclosing(view)

    def enclosing(self, view: View) -> Stack | None:
        """Return the default stack of what is around a view; None: the kernel's."""
        if view.around is not None:
            return self.stacks[view.around]
        return self.default_of(view.parent) if view.parent else None

    def _at(self, view: View, path: str) -> Stack:
        if path not in view.mounts:
            known = ", ".join(view.mounts) or "nothing"
            raise UmviewError(f"{path}: no stack is mounted there; mounted: {known}")
        return self.stacks[view.mounts[path].stack]

    def _keep(self, stack: Stack, module: str, mount: Mount | None = None) -> None:
        self.stacks[stack.number] = stack
        self.modules[stack.number] = module
        if mount:
            self._made_by[stack.number] = mount
        self.cover()
        for service in stack.services:
            for fd in service.filenos():
                self._loop.watch(fd, partial(self._wanted, service))

    def _wanted(self, service: Service) -> None:
        for fd in service.filenos():
            self._loop.unwatch(fd)
        service.start()

    def cards_of(self, view: View) -> Iterator[tuple[str, Card]]:
        """Yield the cards of a view, with their stacks' paths."""
        for path, mounted in view.mounts.items():
            for card in self.stacks[mounted.stack].cards:
                yield path, card
