"""The process that answers a view: parent of the command, there until the last ends.

It forks the command and steps aside (umview/process.py). It is a child sub-reaper, so
all processes of the view are its descendants: no child is left means that the view has
ended.

The command installs its filter by itself and passes the listener on by a socket; that
socket is part of the loop, for the command can be stopped at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import struct
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from umview import _ffi, boundary, link, process, running, tracer
from umview._ffi import Event, EventKind, Switchboard
from umview.boundary import Done, Failed, Given, Verdict
from umview.control import DOOR, TOLD, Door, Recent
from umview.errors import FAILED, UmviewError, os_error
from umview.job import Job, Tracing
from umview.link import Kind
from umview.loop import Loop
from umview.process import Command
from umview.runtime import Runtime
from umview.view import Filter, Stack
from umview.views import Tree, View

if TYPE_CHECKING:
    from umview.requests import Requests
    from umview.trace import Log

log = logging.getLogger(__name__)

_EVENTS_AT_ONCE = 256  # the traced calls of a busy program might never end
_DOOR_KIND = socket.AF_UNIX, socket.SOCK_SEQPACKET
_ALL_EVENTS = 65536  # more than the switchboard lets wait
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_INT = struct.Struct("=i")


def supervise(line: link.Supervisor, runtime: Runtime, job: Job) -> NoReturn:
    """Be the supervisor, in a process just forked; see `umview.front.run`."""
    status = FAILED
    try:
        _log_to(line, logging.INFO if job.is_verbose else logging.WARNING)
        status = _Supervisor(line, runtime, job).run()
    except UmviewError as exc:
        runtime.remove()
        line.send(Kind.FAILED, exc)
    except Exception as exc:
        log.exception("the supervisor failed")
        runtime.remove()
        line.send(Kind.FAILED, f"the supervisor failed: {exc}")
    os._exit(status)


def _log_to(line: link.Supervisor, level: int) -> None:
    root = logging.getLogger()
    root.setLevel(logging.INFO)  # all of it is kept for a while, see `Recent`
    handler = logging.StreamHandler(link.LogStream(line))
    handler.setLevel(level)
    handler.addFilter(lambda record: not hasattr(record, TOLD))
    root.addHandler(handler)


class _Supervisor:
    def __init__(self, line: link.Supervisor, runtime: Runtime, job: Job) -> None:
        """Configure the view.

        Raises:
            UmviewError: It cannot be had.
        """
        self._line = line
        self._runtime = runtime
        self._switchboard = _switchboard(runtime)
        self._job = job
        self._loop = Loop()
        self._recent = Recent()
        logging.getLogger().addHandler(self._recent)
        root = View(0, job.name, None, os.getpid())
        self._tree = Tree(self._switchboard, self._loop, root, runtime)
        for asked in job.mounts:
            asked.mount.prepare(None)
            assert asked.path
            self._tree.mount(root, asked.path, asked)
        self._filter = self._tree.furnish(root)
        for policy in job.policies:
            self._tree.policies.add(root, policy)
        if job.is_overlaid:
            self._switchboard.show_stacks()
            self._filter |= Filter.OVERLAY
        chosen = tracer.choose(job.tracer)
        self._tracer = chosen.tracer
        self._filter |= self._tracer.filter
        log.info("tracer: %s", chosen.text)
        self._trace = self._begin_trace(job.tracing) if job.tracing else None
        self._chosen = chosen
        self._made: Requests | None = None
        self._tree.came = lambda *what: self._requests.came(*what)
        self._command = Command(line)
        self._running = True
        self._waits = True  # for the children; else the switchboard does
        self._childless = False
        self._ended = False  # nobody is left under a filter

    def run(self) -> int:
        """Serve the view of a command or a program until the last process has ended.

        Returns:
            The exit status of this process.

        Raises:
            UmviewError: The program cannot enter the view.
        """
        if self._job.pid:
            self._take_in(self._job.pid)
        else:
            self._begin()
        gc.freeze()
        gc.enable()
        door = Door(self._runtime.path)
        self._loop.watch(door.fileno(), lambda: self._requests.knocked(door))
        try:
            while self._running:
                self._loop.step()
        except BaseException:
            self._command.kill()
            raise
        self._switchboard.stop()
        self._told(_ALL_EVENTS)
        self._tree.end()
        self._switchboard.close()
        self._runtime.remove()
        if self._command.status is not None:
            self._line.send(Kind.CLOSED, self._command.status)
        return 0

    @property
    def _requests(self) -> Requests:
        """Who serves visitors; there from the first one on, to start the faster."""
        if self._made is None:
            from umview.requests import Requests

            self._made = Requests(
                self._switchboard,
                self._loop,
                self._tree,
                self._chosen,
                self._filter,
                self._recent,
            )
        return self._made

    # ---- a command: its process is our child, as are all that it leaves behind ----

    def _begin(self) -> None:
        """Start the command."""
        _ffi.become_subreaper()
        sync, theirs = socket.socketpair()

        def become() -> NoReturn:
            sync.close()
            process.become_first(theirs.fileno(), self._filter, self._job)

        self._command.start(become)
        theirs.close()
        process.step_aside(self._job.inherited)
        wake = process.wake_on_signals(signal.SIGTERM)
        self._loop.watch(wake, partial(self._woken, wake))
        self._loop.watch(sync.fileno(), partial(self._handed_over, sync))
        self._loop.watch(self._line.fileno(), self._left_alone)

    # ---- a program that runs: others' child; the switchboard tells its end ----

    def _take_in(self, pid: int) -> None:
        """Let a program enter the view; the front's task ends with that.

        Raises:
            UmviewError: It cannot; it goes on as it was.
        """
        running.check(pid)
        process.step_aside(self._job.inherited)
        wake = process.wake_on_signals(signal.SIGTERM)
        self._loop.watch(wake, partial(self._woken, wake))
        self._waits = False
        try:
            self._tracer.attach(self._switchboard, pid, self._filter)
        except OSError as exc:
            raise running.why_not(pid, exc.errno or 0) from exc
        self._loop.watch(self._switchboard.fileno(), self._told)
        log.info(
            "process %d is in the view with all its threads; of the host it keeps: "
            "%d sockets",
            pid,
            self._switchboard.kept(),
        )
        self._line.send(Kind.ENTERED, pid)
        self._line.close()

    # ---- what the loop waits for ----

    def _woken(self, wake: int) -> None:
        if signal.SIGTERM in process.numbers_of(wake):
            self._running = False
        if self._waits:
            self._reap()

    def _reap(self) -> None:
        """Take note of what has become of the children, adopted ones included."""
        if not process.reap(self._command):
            self._childless = True
            self._end_if_empty()
            if not self._running:
                return
        if self._ends():
            if self._trace:
                # an order to the switchboard and back: its calls have been told
                self._switchboard.sockets()
                self._told(_ALL_EVENTS)
            self._tell_end()

    def _end_if_empty(self) -> None:
        """End with the last process.

        Our children tell better than the switchboard: also of those about to end.
        """
        if self._childless or not self._waits:
            entered = self._tree.was_entered
            self._running = (entered or not self._waits) and not self._ended

    def _left_alone(self) -> None:
        """End the command, as the SIGKILL would have that ended the front.

        Other processes of the view live on, as they would without umview.
        """
        self._loop.unwatch(self._line.fileno())
        self._line.close()
        self._command.kill()

    def _ends(self) -> bool:
        """Whether the command has ended and the front does not know it."""
        has_ended = self._command.status is not None
        return has_ended and self._loop.watches(self._line.fileno())

    def _tell_end(self) -> None:
        """Let the front go, where the command has ended and others have not."""
        if self._ends():
            self._loop.unwatch(self._line.fileno())
            if self._trace:
                self._trace.flush()
            self._line.send(Kind.ENDED, self._command.status)
            self._line.close()

    def _handed_over(self, sync: socket.socket) -> None:
        """Start the switchboard and let the command run.

        Where the command has failed, it has said why; where a signal has ended it,
        at any of these steps, its status will tell.
        """
        message = sync.recv(_INT.size)
        self._loop.unwatch(sync.fileno())
        with sync:
            if len(message) < _INT.size:
                return
            (listener,) = _INT.unpack(message)
            with contextlib.suppress(ProcessLookupError, BrokenPipeError):
                self._tracer.start(self._switchboard, self._command.pid, listener)
                self._waits = not self._tracer.waits
                self._loop.watch(self._switchboard.fileno(), self._told)
                sync.send(b"\n")

    def _begin_trace(self, tracing: Tracing) -> Log:
        from umview.trace import Log

        self._switchboard.tell_of_calls()

        def write(lines: str) -> None:
            if tracing.fd is None:
                self._line.send(Kind.TRACE, lines)
            else:
                link.write_all(tracing.fd, os.fsencode(lines))

        return Log(self._tree.modules, write, is_json=tracing.is_json)

    # ---- what the switchboard tells ----

    def _told(self, most: int = _EVENTS_AT_ONCE) -> None:
        for event in islice(self._switchboard.events(), most):
            match event.kind:
                case EventKind.LOG:
                    text = event.data.decode("utf-8", "replace")
                    log.log(_LEVELS[event.level], "%s", text)
                case EventKind.NETLINK:
                    self._answer(event, partial(self._netlink, event))
                case EventKind.IOCTL:
                    self._answer(event, partial(self._ioctl, event))
                case EventKind.OPEN:
                    self._answer(event, partial(self._open, event))
                case EventKind.MSOCKET:
                    self._answer(event, partial(self._msocket, event))
                case EventKind.APART:
                    self._tree.keep_apart(event.view, event.stack)
                case EventKind.UNUSED:
                    self._tree.drop(event.stack)
                case EventKind.CARD:
                    self._heard(event)
                case EventKind.ACT:
                    self._tree.policies.heard(event)
                case EventKind.CALL:
                    if self._trace:
                        self._trace.add(event.data)
                case EventKind.CHILD:
                    self._command.changed(event.request)
                    if event.arg:
                        self._tell_end()
                case EventKind.ENDED:
                    self._ended = True
                    self._end_if_empty()
        if self._trace:
            self._trace.flush()

    def _heard(self, event: Event) -> None:
        """Take news of a card; tell those who listen to netlink what has changed."""
        from umview import netlink

        before = self._tree.stacks.get(event.stack)
        if before is None or before.steward is None:
            return
        after = before._replace(cards=before.steward.hear(event.data))
        self._tree.stacks[event.stack] = after
        if before.carriers != after.carriers:
            from umview import files

            files.forget(self._runtime.path, after.number)
        for group, datagram in netlink.changes(before, after):
            self._switchboard.tell_netlink(after.number, group, datagram)

    def _answer(self, event: Event, handler: Callable[[], Verdict]) -> None:
        verdict = boundary.answer(event.kind.name.lower(), handler)
        if event.id:
            self._switchboard.answer(event.id, verdict)

    def _stack_of(self, event: Event) -> Stack:
        stack = self._tree.stacks.get(event.stack)
        if stack is None:
            raise os_error(errno.ENETDOWN)  # it was unmounted meanwhile
        return stack

    def _netlink(self, event: Event) -> Verdict:
        from umview import netlink, sockdiag

        stack = self._stack_of(event)
        if event.protocol == socket.NETLINK_ROUTE:
            answers = netlink.answer(stack, event.portid, event.data)
        else:
            sockets = self._switchboard.sockets
            answers = sockdiag.answer(stack, sockets, event.portid, event.data)
        for datagram in answers:
            self._switchboard.push_netlink(event.cookie, datagram)
        return Done(len(event.data))

    def _ioctl(self, event: Event) -> Verdict:
        from umview import ioctl

        stack = self._stack_of(event)
        return ioctl.answer(stack, event.request, event.arg, event.data)

    def _open(self, event: Event) -> Verdict:
        from umview import files

        stack = self._stack_of(event)
        path = os.fsdecode(event.data)
        fd = files.open_one(
            path, event.request, stack, self._switchboard.sockets, self._runtime.path
        )
        return Given(fd, event.request)

    def _msocket(self, event: Event) -> Verdict:
        """Answer for a path at which no stack is mounted."""
        path = os.fsdecode(event.data)
        kind = event.arg & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if (path, event.request, kind) == (DOOR, *_DOOR_KIND):
            flags = event.arg & ~kind
            return Given(self._requests.call_in(event.pid, event.view, flags), flags)
        there = path == DOOR or os.path.lexists(path)
        return Failed(errno.EAFNOSUPPORT if there else errno.ENOENT)


def _switchboard(runtime: Runtime) -> Switchboard:
    try:
        return Switchboard(runtime.path)
    except OSError as exc:
        raise UmviewError(f"cannot start: {exc.strerror}") from exc
