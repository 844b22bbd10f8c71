"""The process that answers a view: parent of the command, there until the last ends.

The command's process is forked first of all, while everything is as the user left it:
limits, working directory, descriptors, process group, signals. Then the supervisor
steps aside: a process group of its own in the same session (the terminal's signals and
job control pass it by, and the command's group never becomes an orphaned one through
it), no terminal signals, none of the user's descriptors (a pipe that others read has
to end when the command ends), /dev/null for a stderr: what there is to say goes
through the front. It is a child sub-reaper, so all processes of the view are
its descendants: no child is left means that the view has ended.

The command installs its filter by itself and passes the listener on by a socket; that
socket is part of the loop, for the command can be stopped at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from umview import _ffi, boundary, control, link, running, tracer
from umview._ffi import Event, EventKind, Stage, Switchboard
from umview.boundary import Done, Given, Verdict
from umview.control import Door, Message, Visitor
from umview.errors import FAILED, UmviewError
from umview.job import Job, Tracing
from umview.link import Kind
from umview.runtime import Runtime
from umview.view import Filter, Service, Stack, StackKind, lo

if TYPE_CHECKING:
    from umview.trace import Log

log = logging.getLogger(__name__)

_IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGPIPE,
)
_EVENTS_AT_ONCE = 256  # the traced calls of a busy program might never end
_ALL_EVENTS = 65536  # more than the switchboard lets wait
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_INT = struct.Struct("=i")
_PREEMPTED = (
    "calls of the network do not reach umview: who holds the seccomp listener here (a "
    "container's manager?) takes them first; run umview outside"
)
_NESTED = "umview inside a view is not possible yet: run it outside"


def supervise(line: link.Supervisor, runtime: Runtime, job: Job) -> NoReturn:
    """Be the supervisor, in a process just forked; see `umview.front.run`."""
    status = FAILED
    try:
        _log_to(line, logging.INFO if job.is_verbose else logging.WARNING)
        if _ffi.is_in_view():
            raise UmviewError(_NESTED)
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
    root.setLevel(level)
    root.addHandler(logging.StreamHandler(link.LogStream(line)))


def _apart(switchboard: Switchboard) -> Stack:
    """Add the stack of programs that have made themselves a network namespace."""
    kind = StackKind.APART
    card = lo(4, 6)
    number = switchboard.add_stack(kind, ipv4=True, ipv6=True)
    switchboard.set_tables(number, (card,), ())
    return Stack(number, kind, (card,))


class _LogOf:
    """What a log handler writes to: each line goes to a visitor."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor

    def write(self, text: str) -> None:
        """Send a line."""
        self._visitor.send_bytes(text.encode())

    def flush(self) -> None:
        """Have nothing to flush."""


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
        self._stacks = [mount.add(self._switchboard) for mount in job.mounts]
        if self._stacks[0].kind is StackKind.NET:
            self._stacks.append(_apart(self._switchboard))
        self._filter = job.mounts[0].furnish(self._switchboard)
        self._tracer, self._tracer_name = tracer.choose(job.tracer)
        self._filter |= self._tracer.filter
        log.info("tracer: %s", self._tracer_name)
        self._trace = self._begin_trace(job.tracing) if job.tracing else None
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._command = 0
        self._status: int | None = None
        self._running = True
        self._waits = True  # for the children; else the switchboard does
        self._childless = False
        self._ended = False  # nobody is left under a filter
        self._entered: list[int] = []  # processes that came in while it ran

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
        for stack in self._stacks:
            for service in stack.services:
                for fd in service.filenos():
                    self._watch(fd, partial(self._wanted, service))
        self._door = Door(self._runtime.path)
        self._watch(self._door.fileno(), self._knocked)
        try:
            while self._running:
                for fd, _ in self._poll.poll():
                    if fd in self._callbacks:
                        self._callbacks[fd]()
        except BaseException:
            self._kill()
            raise
        self._switchboard.stop()
        self._told(_ALL_EVENTS)
        self._switchboard.close()
        self._runtime.remove()
        if self._status is not None:
            self._line.send(Kind.CLOSED, self._status)
        return 0

    # ---- a command: its process is our child, as are all that it leaves behind ----

    def _begin(self) -> None:
        """Start the command."""
        _ffi.become_subreaper()
        sync, theirs = socket.socketpair()
        self._command = os.fork()
        if self._command == 0:
            sync.close()
            _become(theirs.fileno(), self._filter, self._job)
        theirs.close()
        _step_aside(self._job.inherited)
        self._line.send(Kind.STARTED, self._command)
        wake = _wake_on_signals()
        self._watch(wake, partial(self._woken, wake))
        self._watch(sync.fileno(), partial(self._handed_over, sync))
        self._watch(self._line.fileno(), self._left_alone)

    # ---- a program that runs: others' child; the switchboard tells its end ----

    def _take_in(self, pid: int) -> None:
        """Let a program enter the view; the front's task ends with that.

        Raises:
            UmviewError: It cannot; it goes on as it was.
        """
        running.check(pid)
        _step_aside(self._job.inherited)
        wake = _wake_on_signals()
        self._watch(wake, partial(self._woken, wake))
        self._waits = False
        try:
            self._tracer.attach(self._switchboard, pid, self._filter)
        except OSError as exc:
            raise running.why_not(pid, exc.errno or 0) from exc
        self._watch(self._switchboard.fileno(), self._told)
        log.info(
            "process %d is in the view with all its threads; of the host it keeps: "
            "%d sockets",
            pid,
            self._switchboard.kept(),
        )
        self._line.send(Kind.ENTERED, pid)
        self._line.close()

    # ---- what the loop waits for ----

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._callbacks[fd] = callback
        self._poll.register(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._callbacks[fd]
        self._poll.unregister(fd)

    def _woken(self, wake: int) -> None:
        for number in os.read(wake, select.PIPE_BUF):
            if number == signal.SIGTERM:
                self._running = False
        if self._waits:
            self._reap()

    def _reap(self) -> None:
        """Take note of what has become of the children, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                self._childless = True
                self._end_if_empty()
                if not self._running:
                    return
                break
            if pid == 0:
                break
            if pid == self._command:
                self._command_changed(status)
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
            self._running = bool(self._entered or not self._waits) and not self._ended

    def _left_alone(self) -> None:
        """End the command, as the SIGKILL would have that ended the front.

        Other processes of the view live on, as they would without umview.
        """
        self._unwatch(self._line.fileno())
        self._line.close()
        self._kill()

    def _kill(self) -> None:
        """Kill the command, unless it has ended and its number may be another's."""
        if self._command and self._status is None:
            os.kill(self._command, signal.SIGKILL)

    def _command_changed(self, status: int) -> None:
        if os.WIFSTOPPED(status):
            self._line.send(Kind.STOPPED, os.WSTOPSIG(status))
        else:
            code = os.waitstatus_to_exitcode(status)
            self._status = 128 - code if code < 0 else code

    def _ends(self) -> bool:
        """Whether the command has ended and the front does not know it."""
        return self._status is not None and self._line.fileno() in self._callbacks

    def _tell_end(self) -> None:
        """Let the front go, where the command has ended and others have not."""
        if self._ends():
            self._unwatch(self._line.fileno())
            if self._trace:
                self._trace.flush()
            self._line.send(Kind.ENDED, self._status)
            self._line.close()

    def _handed_over(self, sync: socket.socket) -> None:
        """Start the switchboard and let the command run.

        Where the command has failed, it has said why; where a signal has ended it,
        at any of these steps, its status will tell.
        """
        message = sync.recv(_INT.size)
        self._unwatch(sync.fileno())
        with sync:
            if len(message) < _INT.size:
                return
            (listener,) = _INT.unpack(message)
            with contextlib.suppress(ProcessLookupError, BrokenPipeError):
                self._tracer.start(self._switchboard, self._command, listener)
                self._waits = not self._tracer.waits
                self._watch(self._switchboard.fileno(), self._told)
                sync.send(b"\n")

    def _begin_trace(self, tracing: Tracing) -> Log:
        from umview.trace import Log

        self._switchboard.tell_of_calls()

        def write(lines: str) -> None:
            if tracing.fd is None:
                self._line.send(Kind.TRACE, lines)
            else:
                link.write_all(tracing.fd, os.fsencode(lines))

        stacks = (*tracing.stacks, "netns")  # what _apart() adds is the last one
        return Log(stacks, write, is_json=tracing.is_json)

    # ---- visitors ----

    def _knocked(self) -> None:
        if visitor := self._door.accept():
            self._watch(visitor.fileno(), partial(self._asked, visitor))

    def _asked(self, visitor: Visitor) -> None:
        data = visitor.receive()
        if not data:
            self._unwatch(visitor.fileno())
            visitor.close()
            return
        handlers: dict[str, Callable[..., Message]] = {
            "describe": self._describe,
            "enter": partial(self._let_enter, visitor),
            "take_in": self._take_in_later,
            "log": partial(self._log_for, visitor),
        }
        visitor.send(control.answer(data, handlers))

    def _describe(self) -> Message:
        from umview.described import cards, sockets

        return {
            "supervisor": os.getpid(),
            "tracer": self._tracer_name,
            "entered": self._entered,
            "cards": cards(self._stacks),
            "sockets": sockets(self._switchboard.sockets()),
        }

    def _let_enter(self, visitor: Visitor) -> Message:
        """Let the visitor become a command of the view."""
        self._unwatch(visitor.fileno())
        self._watch(visitor.fileno(), partial(self._entering, visitor))
        return {"filter": int(self._filter)}

    def _entering(self, visitor: Visitor) -> None:
        message = visitor.receive()
        self._unwatch(visitor.fileno())
        if len(message) == _INT.size:
            (listener,) = _INT.unpack(message)
            with contextlib.suppress(OSError):
                self._tracer.start(self._switchboard, visitor.pid, listener)
                self._entered.append(visitor.pid)
                visitor.send_bytes(b"\n")
        visitor.close()

    def _take_in_later(self, pid: int) -> Message:
        running.check(pid)
        try:
            self._tracer.attach(self._switchboard, pid, self._filter)
        except OSError as exc:
            raise running.why_not(pid, exc.errno or 0) from exc
        self._entered.append(pid)
        return {}

    def _log_for(self, visitor: Visitor) -> Message:
        handler = logging.StreamHandler(_LogOf(visitor))
        logging.getLogger().addHandler(handler)
        return {}

    def _wanted(self, service: Service) -> None:
        for fd in service.filenos():
            self._unwatch(fd)
        service.start()

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
                case EventKind.CARD:
                    self._heard(event)
                case EventKind.CALL:
                    if self._trace:
                        self._trace.add(event.data)
                case EventKind.CHILD:
                    self._command_changed(event.request)
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

        before = self._stacks[event.stack]
        if before.keeper is None:
            return
        after = before._replace(cards=before.keeper.hear(event.data))
        self._stacks[event.stack] = after
        if before.carriers != after.carriers:
            from umview import files

            files.forget(self._runtime.path)
        for group, datagram in netlink.changes(before, after):
            self._switchboard.tell_netlink(after.number, group, datagram)

    def _answer(self, event: Event, handler: Callable[[], Verdict]) -> None:
        verdict = boundary.answer(event.kind.name.lower(), handler)
        if event.id:
            self._switchboard.answer(event.id, verdict)

    def _netlink(self, event: Event) -> Verdict:
        from umview import netlink, sockdiag

        stack = self._stacks[event.stack]
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

        stack = self._stacks[event.stack]
        return ioctl.answer(stack, event.request, event.arg, event.data)

    def _open(self, event: Event) -> Verdict:
        from umview import files

        stack = self._stacks[event.stack]
        path = os.fsdecode(event.data)
        fd = files.open_one(
            path, event.request, stack, self._switchboard.sockets, self._runtime.path
        )
        return Given(fd, event.request)


def _switchboard(runtime: Runtime) -> Switchboard:
    try:
        return Switchboard(runtime.path)
    except OSError as exc:
        raise UmviewError(f"cannot start: {exc.strerror}") from exc


def _wake_on_signals() -> int:
    """Return a descriptor that the numbers of our signals can be read from."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.write(write, bytes((signal.SIGCHLD,)))  # for what came before
    return read


def _step_aside(inherited: Iterable[int]) -> None:
    """Leave the user's terminal, pipes, directory and limit of descriptors."""
    os.setpgid(0, 0)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
    for fd in inherited:
        os.close(fd)
    os.chdir("/")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# ---- the command's process ----


def _become(sync: int, needed: Filter, job: Job) -> NoReturn:
    """Become the command; on failure say why, and exit as a shell does."""
    # what Python has changed, and nothing else: nohup(1) has to reach the command
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if job.ignores_children:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, job.mask)
    stage, code = _ffi.child_exec(sync, needed, job.command)
    text, status = _why_not(stage, code, job.command[0])
    if text:
        os.write(2, os.fsencode(f"umview: {text}\n"))
    os._exit(status)


def _why_not(stage: Stage, code: int, word: str) -> tuple[str, int]:
    """Return what to say about a command that cannot be, and the exit status."""
    reason = os.strerror(code)
    match stage:
        case Stage.FILTER:
            return f"cannot install the seccomp filter: {reason}", FAILED
        case Stage.HAND_OVER if code == errno.EPROTO:
            return _PREEMPTED, FAILED
        case Stage.HAND_OVER:
            return "", FAILED  # the supervisor is gone, and the front says so
        case Stage.EXEC if code == errno.ENOENT and "/" not in word:
            return f"{word}: command not found", _NOT_FOUND
        case Stage.EXEC:
            absent = code == errno.ENOENT
            return f"{word}: {reason}", _NOT_FOUND if absent else _NOT_EXECUTABLE
