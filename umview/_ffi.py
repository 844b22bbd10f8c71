"""The only importer of the C core: typed calls, and errors as exceptions.

Addresses are objects of `ipaddress` here and 16 bytes there, IPv4 in its IPv4-mapped
form, so that an IPv4 prefix length counts from 96. Ownership follows csrc/um_api.h.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from functools import wraps
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from umview._core import ffi as ffi
from umview._core import lib as lib
from umview.boundary import Done, Failed, Given, Verdict
from umview.view import Road, Socket

if TYPE_CHECKING:
    import socket

    from umview.policy import Deed, Name
    from umview.view import (
        Address,
        Card,
        Filter,
        Interface,
        Network,
        Route,
        StackKind,
    )

NR_MSOCKET: int = lib.UM_NR_MSOCKET
"""The number of the system call msocket."""

MAPPED = b"\0" * 10 + b"\xff\xff"
"""What an IPv4 address begins with in the core."""


class EventKind(IntEnum):
    """What the switchboard tells (enum um_event_kind)."""

    LOG = lib.UM_EVENT_LOG
    NETLINK = lib.UM_EVENT_NETLINK
    IOCTL = lib.UM_EVENT_IOCTL
    OPEN = lib.UM_EVENT_OPEN
    CALL = lib.UM_EVENT_CALL
    CHILD = lib.UM_EVENT_CHILD
    ENDED = lib.UM_EVENT_ENDED
    CARD = lib.UM_EVENT_CARD
    MSOCKET = lib.UM_EVENT_MSOCKET
    UNUSED = lib.UM_EVENT_UNUSED
    APART = lib.UM_EVENT_APART
    ACT = lib.UM_EVENT_ACT


class CallRow(NamedTuple):
    """A row of the table of calls (struct um_call_row); when is None for always."""

    name: str
    when: str | None
    answer: str


class OptionRow(NamedTuple):
    """A row of the table of options; the fields are those of struct um_option_row."""

    level: str
    name: str
    level_number: int
    name_number: int
    settable: bool
    refused: bool
    checked: bool
    on_surrogate: bool
    on_host: bool
    own_set: bool
    own_get: bool
    live: bool


class Stage(IntEnum):
    """Where um_child_exec() failed."""

    FILTER = 0
    HAND_OVER = 1
    EXEC = 2


class Outcome(IntEnum):
    """What became of a stopped call (enum um_outcome)."""

    ANSWERED = lib.UM_OUTCOME_ANSWERED
    KERNEL = lib.UM_OUTCOME_KERNEL
    INTERRUPTED = lib.UM_OUTCOME_INTERRUPTED
    GONE = lib.UM_OUTCOME_GONE


class Part(IntEnum):
    """What a piece is of (enum um_part)."""

    VALUE = lib.UM_PART_VALUE
    ROOM = lib.UM_PART_ROOM
    HEADER = lib.UM_PART_HEADER
    NAME = lib.UM_PART_NAME
    DATA = lib.UM_PART_DATA
    CONTROL = lib.UM_PART_CONTROL


class Piece(NamedTuple):
    """Something that a call's argument names (struct um_piece_head).

    Attributes:
        arg: Which argument, from 0.
        part: What of it.
        is_out: Whether it was seen before the answer, not when the call came.
        message: Which message, of calls with many.
        length: How long it is in the program.
        data: Its first bytes, or all.
    """

    arg: int
    part: Part
    is_out: bool
    message: int
    length: int
    data: bytes


class Traced(NamedTuple):
    """A stopped call that is over (struct um_traced)."""

    began_ns: int
    took_ns: int
    result: int
    args: tuple[int, ...]
    nr: int
    tid: int
    outcome: Outcome
    stack: int | None
    road: Road | None
    pieces: tuple[Piece, ...] = ()


class RawAct(NamedTuple):
    """What a policy is asked for or told of (struct um_act); names with ports."""

    deed: int
    protocol: int
    error: int
    local: tuple[Address, int]
    remote: tuple[Address, int] | None


class Event(NamedTuple):
    """What the switchboard asks or tells; the fields are those of struct um_event."""

    kind: EventKind
    level: int
    id: int
    cookie: int
    arg: int
    request: int
    stack: int
    pid: int
    view: int
    protocol: int
    portid: int
    data: bytes


def check(rc: int, what: str) -> int:
    """Return rc, or raise what a negative errno stands for.

    Args:
        rc: What a function of the core returned.
        what: What was tried, for the message.

    Raises:
        OSError: rc is negative; its errno is -rc.
    """
    if rc < 0:
        raise OSError(-rc, f"{what}: {os.strerror(-rc)}")
    return rc


def pack(address: Address) -> bytes:
    """Return the 16 bytes that stand for an address in the core."""
    return address.packed if address.version == 6 else MAPPED + address.packed


def unpack(address: bytes) -> Address:
    """Return the address that 16 bytes of the core stand for."""
    if address.startswith(MAPPED):
        return IPv4Address(address[12:])
    return IPv6Address(address)


def prefix_of(network: Network | Interface) -> int:
    length = network.max_prefixlen
    prefix = int(str(network).partition("/")[2])
    return 128 - length + prefix


def calls() -> list[CallRow]:
    """Return the table of the calls that are not left to the kernel."""
    return [
        CallRow(_text(raw.name), _text(raw.when) or None, _text(raw.answer))
        for raw in _rows("struct um_call_row *", lib.um_call_row)
    ]


def options() -> list[OptionRow]:
    """Return the table of socket options."""
    flags = OptionRow._fields[4:]
    return [
        OptionRow(
            _text(raw.level),
            _text(raw.name),
            raw.level_number,
            raw.name_number,
            *(bool(getattr(raw, flag)) for flag in flags),
        )
        for raw in _rows("struct um_option_row *", lib.um_option_row)
    ]


def _rows(struct: str, call: Callable[[int, Any], int]) -> Iterator[Any]:
    raw = ffi.new(struct)
    for number in itertools.count():
        if not call(number, raw):
            return
        yield raw


def traced(data: bytes) -> Traced:
    """Read what an event of the kind CALL carries."""
    raw: Any = ffi.from_buffer("struct um_traced *", data)
    return Traced(
        raw.began_ns,
        raw.took_ns,
        raw.result,
        tuple(raw.args),
        raw.nr,
        raw.tid,
        Outcome(raw.outcome),
        raw.stack if raw.stack >= 0 else None,
        Road(raw.road) if raw.road >= 0 else None,
        tuple(_pieces(data, ffi.sizeof("struct um_traced"))),
    )


def act(data: bytes) -> RawAct:
    """Read what an event of the kind ACT carries."""
    raw: Any = ffi.from_buffer("struct um_act *", data)
    remote = (unpack(bytes(raw.remote)), raw.remote_port)
    return RawAct(
        raw.deed,
        raw.protocol,
        raw.error,
        (unpack(bytes(raw.local)), raw.local_port),
        remote if raw.has_remote else None,
    )


def _pieces(data: bytes, at: int) -> Iterator[Piece]:
    size = ffi.sizeof("struct um_piece_head")
    base = ffi.from_buffer(data)
    while at < len(data):
        raw: Any = ffi.cast("struct um_piece_head *", base + at)
        at += size
        yield Piece(
            raw.arg,
            Part(raw.part),
            bool(raw.out),
            raw.index,
            raw.len,
            data[at : at + raw.size],
        )
        at += raw.size + -raw.size % 8


def _text(raw: object) -> str:
    return ffi.string(raw).decode("ascii") if raw != ffi.NULL else ""


def _socket(info: object) -> Socket:
    raw: Any = info  # struct um_socket_info
    return Socket(
        stack=raw.stack,
        cookie=raw.cookie,
        family=raw.family,
        type=raw.type,
        protocol=raw.protocol,
        state=raw.state,
        local=bytes(raw.local),
        local_port=raw.local_port,
        remote=bytes(raw.remote),
        remote_port=raw.remote_port,
        inode=raw.inode,
        card=raw.card,
        waiting=raw.waiting,
        backlog=raw.backlog,
        is_v6only=bool(raw.v6only),
    )


def child_exec(sync_fd: int, flags: Filter, argv: Sequence[str]) -> tuple[Stage, int]:
    """Put this process under the filter and execute argv.

    Args:
        sync_fd: The socket to the supervisor, see um_child_exec().
        flags: Which optional calls are stopped.
        argv: The command, looked for in PATH.

    Returns:
        Only on failure: where it failed, and the errno (> 0).
    """
    stage = ffi.new("int *")
    words, _kept = _words(argv)
    rc = lib.um_child_exec(sync_fd, int(flags), words, stage)
    return Stage(stage[0]), -rc


def execute(argv: Sequence[str]) -> int:
    """Execute argv, looked for in PATH; return, only on failure, the errno (> 0)."""
    words, _kept = _words(argv)
    return -int(lib.um_exec(words))


def _words(argv: Sequence[str]) -> tuple[object, object]:
    """Return argv as C has it, and what has to be kept as long as that is used."""
    kept = [ffi.new("char[]", os.fsencode(word)) for word in argv]
    return ffi.new("char *[]", [*kept, ffi.NULL]), kept


def try_seccomp() -> int:
    """Return 0, or the errno of a filter with a listener; see um_seccomp_try()."""
    return -int(lib.um_seccomp_try())


def try_ptrace() -> int:
    """Return 0, or the errno of being traced; see um_ptrace_try()."""
    return -int(lib.um_ptrace_try())


def is_in_view() -> bool:
    """Tell whether this process is in a view."""
    return bool(lib.um_in_view())


def open_door() -> int:
    """Return a connection to the supervisor of the view that this process is in.

    Raises:
        OSError: There is none, or it does not answer.
    """
    return check(lib.um_door_open(), "/dev/umview")


def take_fd(pid: int, fd: int) -> int:
    """Return our own descriptor for what fd is in the process pid.

    Raises:
        OSError: As pidfd_open(2) and pidfd_getfd(2).
    """
    return check(lib.um_take_fd(pid, fd), "pidfd_getfd")


def become_subreaper() -> None:
    """Make orphaned descendants the children of this process.

    Raises:
        OSError: As prctl(2), PR_SET_CHILD_SUBREAPER.
    """
    check(lib.um_subreaper_set(), "prctl")


def spawn(command: Sequence[str], fds: Sequence[int]) -> None:
    """Start a program that is no process of a view, and nobody's to wait for here.

    Args:
        command: Its path, and its arguments.
        fds: What it gets as its descriptors 3, 4, ...

    Raises:
        OSError: As fork(2).
    """
    words = [ffi.new("char[]", os.fsencode(word)) for word in command]
    argv = ffi.new("char *[]", [*words, ffi.NULL])
    check(lib.um_spawn(argv, list(fds), len(fds)), "clone")


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _configures(
    method: Callable[Concatenate[Switchboard, _P], _T],
) -> Callable[Concatenate[Switchboard, _P], _T]:
    """Make a method of Switchboard one that may be called while it runs."""

    @wraps(method)
    def held(self: Switchboard, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self.held():
            return method(self, *args, **kwargs)

    return held


class Switchboard:
    """The C threads that answer a view's calls and move its bytes.

    All methods are for one thread.
    """

    def __init__(self, rundir: str) -> None:
        """Make a switchboard.

        Args:
            rundir: A directory of mode 0700 for sockets that are bound for a moment.

        Raises:
            OSError: As the core says.
        """
        ffi.errno = 0
        self._sb = lib.um_switchboard_create(os.fsencode(rundir))
        if self._sb == ffi.NULL:
            code = ffi.errno or errno.ENOMEM
            raise OSError(code, f"switchboard: {os.strerror(code)}")

    def stop(self) -> None:
        """Stop answering; what has been told can be taken yet, by events()."""
        lib.um_switchboard_stop(self._sb)

    def close(self) -> None:
        """Stop the threads and free everything."""
        lib.um_switchboard_destroy(self._sb)
        self._sb = ffi.NULL

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no call be answered meanwhile: several changes come as one."""
        check(lib.um_hold(self._sb), "switchboard")
        try:
            yield
        finally:
            lib.um_release(self._sb)

    @_configures
    def add_stack(self, kind: StackKind, *, ipv4: bool, ipv6: bool) -> int:
        """Add a stack, also at run time, and return its number."""
        return check(lib.um_stack_add(self._sb, int(kind), ipv4, ipv6), "stack")

    @_configures
    def count_sockets(self, stack: int) -> int:
        """Return how many sockets of programs a stack has."""
        return check(lib.um_stack_sockets(self._sb, stack), "stack")

    @_configures
    def remove_stack(self, stack: int, *, lazily: bool = False) -> bool:
        """Remove a stack; its number may be another's then.

        Args:
            stack: Its number.
            lazily: Where it is in use, let nobody find it any more and tell when to
                ask again (UNUSED).

        Returns:
            Whether it is gone.

        Raises:
            OSError: EBUSY if it has sockets, or another stack goes out by it.
        """
        return not check(lib.um_stack_remove(self._sb, stack, lazily), "stack")

    @_configures
    def add_view(self, parent: int) -> int:
        """Add a view below another one (0 is the outermost); return its number.

        Raises:
            OSError: EINVAL if there is no such parent.
        """
        return check(lib.um_view_add(self._sb, parent), "view")

    @_configures
    def remove_view(self, view: int) -> None:
        """Forget a view that has ended, its mounts and places; its stacks stay.

        Raises:
            OSError: EINVAL if there is none of that number, or it is the outermost.
        """
        check(lib.um_view_remove(self._sb, view), f"view {view}")

    @_configures
    def set_place(self, pid: int, view: int) -> None:
        """Let a process, and all that it will start, be in a view.

        The first one in a view is its root: what it had before is what the view has
        where nothing is mounted at /dev/net/default.

        Raises:
            OSError: ESRCH if the process has ended; EINVAL if there is no such view.
        """
        check(lib.um_place_set(self._sb, pid, view), f"process {pid}")

    @_configures
    def view_of(self, pid: int) -> int:
        """Return the number of the view that a process is in.

        Raises:
            OSError: ENETDOWN if that view has ended.
        """
        return check(lib.um_place_view(self._sb, pid), f"process {pid}")

    @_configures
    def default_of(self, pid: int) -> int | None:
        """Return the number of a process's default stack; None: the kernel's.

        Raises:
            OSError: ENETDOWN if that stack, or the process's view, has ended.
        """
        number: int = lib.um_place_stack(self._sb, pid)
        if number == -errno.ENOENT:
            return None
        return check(number, f"process {pid}")

    @_configures
    def set_default(
        self, pid: int, stack: int | None, families: Sequence[int] = ()
    ) -> None:
        """Make a stack the default of a process and of all that it will start.

        Args:
            pid: The process.
            stack: The stack's number; None: it is to have no default again.
            families: AF_*; none: all that the stack has.

        Raises:
            OSError: EAFNOSUPPORT if the stack has not all of the families, or no stack
                has; ESRCH if the process has ended.
        """
        number = -1 if stack is None else stack
        check(
            lib.um_place_default(self._sb, pid, families, len(families), number),
            f"default of process {pid}",
        )

    @_configures
    def set_mount(
        self, view: int, path: str, stack: int | None, file: str = ""
    ) -> None:
        """Mount a stack at a path of a view, in the place of what is there.

        Args:
            view: The view's number.
            path: Absolute and normalised; /dev/net/default is that of all who have no
                other default.
            stack: The stack's number; None unmounts.
            file: A real file whose mode says who may name the stack, and which is a
                name of it, too.

        Raises:
            OSError: ENOENT if nothing is there that could be unmounted.
        """
        check(
            lib.um_mount_set(
                self._sb,
                view,
                os.fsencode(path),
                -1 if stack is None else stack,
                os.fsencode(file),
            ),
            path,
        )

    @_configures
    def set_tables(
        self, stack: int, cards: Sequence[Card], routes: Sequence[Route]
    ) -> None:
        """Replace a stack's cards, their addresses and the routes.

        Of routes the longest prefix wins, the first of equals.

        Raises:
            OSError: ENOSPC if they are too many.
        """
        raw = ffi.new("struct um_tables *")
        own = [(card.number, one) for card in cards for one in card.addresses]
        for count, room, what in (
            (len(cards), lib.UM_MAX_CARDS, "cards"),
            (len(own), lib.UM_MAX_ADDRESSES, "addresses"),
            (len(routes), lib.UM_MAX_ROUTES, "routes"),
        ):
            check(0 if count <= room else -errno.ENOSPC, what)
        raw.card_count, raw.address_count = len(cards), len(own)
        raw.route_count = len(routes)
        for card, entry in zip(cards, raw.cards, strict=False):
            entry.number, entry.mtu = card.number, card.mtu
            entry.name = card.name.encode()
        for (number, one), row in zip(own, raw.addresses, strict=False):
            ffi.buffer(row.addr)[:] = pack(one.ip)
            row.prefix, row.card = prefix_of(one), number
        for route, row in zip(routes, raw.routes, strict=False):
            ffi.buffer(row.to)[:] = pack(route.to.network_address)
            row.prefix, row.road, row.card = prefix_of(route.to), route.road, route.card
            if route.source is not None:
                ffi.buffer(row.source)[:] = pack(route.source)
                row.has_source = 1
        check(lib.um_tables_set(self._sb, stack, raw), "tables")

    @_configures
    def set_uplink(self, stack: int, uplink: int) -> None:
        """Let a stack's nat0 lead into another stack; see um_uplink_set().

        Raises:
            OSError: EINVAL: there is no such stack.
        """
        check(lib.um_uplink_set(self._sb, stack, uplink), "uplink")

    @_configures
    def add_map(
        self,
        stack: int,
        address: Address,
        to_address: Address,
        *,
        protocol: int = 0,
        port: int = 0,
        to_port: int = 0,
    ) -> None:
        """Lead what goes to address (and port) to an address (and port) of the host.

        Protocol 0 and port 0 mean any, to_port 0 the same port.
        """
        check(
            lib.um_map_add(
                self._sb,
                stack,
                pack(address),
                protocol,
                port,
                pack(to_address),
                to_port,
            ),
            f"map of {address}",
        )

    @_configures
    def add_line(self, stack: int, line: socket.socket) -> None:
        """Give a stack the line to its stack server, whose cards are there.

        Args:
            stack: The stack's number.
            line: Taken over.
        """
        check(lib.um_line_add(self._sb, stack, line.detach()), "stack server")

    @_configures
    def add_forward(
        self,
        stack: int,
        sock: socket.socket,
        port: int,
        gateway4: Address,
        gateway6: Address,
    ) -> None:
        """Lead a port of the host into the stack.

        Args:
            stack: The stack's number.
            sock: A listening or a bound socket of the host; taken over.
            port: The port in the stack.
            gateway4: What an IPv4 peer on the host's loopback is shown as.
            gateway6: The same for IPv6.
        """
        protocol = sock.proto
        check(
            lib.um_forward_add(
                self._sb,
                stack,
                protocol,
                sock.detach(),
                port,
                pack(gateway4),
                pack(gateway6),
            ),
            f"forward to port {port}",
        )

    @_configures
    def add_forward_outside(
        self,
        stack: int,
        address: Address,
        port: int,
        to_port: int,
        gateways: tuple[Address, Address],
    ) -> None:
        """Lead a TCP port of the stack behind nat0 into the stack.

        Args:
            stack: The stack's number.
            address: Of the stack behind.
            port: Its port.
            to_port: The port in the stack.
            gateways: What peers on the loopback of the stack behind are shown as, in
                IPv4 and in IPv6.

        Raises:
            OSError: EADDRINUSE, EADDRNOTAVAIL; see um_forward_outside().
        """
        check(
            lib.um_forward_outside(
                self._sb,
                stack,
                pack(address),
                port,
                to_port,
                *map(pack, gateways),
            ),
            f"forward to port {to_port}",
        )

    @_configures
    def show_stacks(self) -> None:
        """Show the stacks of a view as files; the filter needs OVERLAY."""
        lib.um_overlay_show(self._sb)

    # Files, refused sockets and names belong to a view (0: the outermost). What a view
    # has not itself it has from the view around it.

    @_configures
    def set_file(self, view: int, path: str, content: bytes) -> None:
        """Show content where a program opens path, from now on.

        Args:
            view: The view's number.
            path: Absolute and normalised.
            content: What is there.
        """
        name = os.fsencode(path)
        check(lib.um_file_set(self._sb, view, name, content, len(content)), path)

    @_configures
    def add_folder(self, path: str) -> None:
        """Have opens of path and below told (OPEN); of "path/" only those below."""
        check(lib.um_folder_add(self._sb, os.fsencode(path)), path)

    @_configures
    def refuse_unix(self, view: int, path: str) -> None:
        """Refuse connections to the unix socket at path."""
        check(lib.um_unix_refuse(self._sb, view, os.fsencode(path)), path)

    @_configures
    def clear_files(self, view: int) -> None:
        """Show a view the files of the view around it, and refuse it no sockets."""
        check(lib.um_files_clear(self._sb, view), "files")

    @_configures
    def set_hostname(self, view: int, host: str | None, domain: str | None) -> None:
        """Set the names that uname(2) gives; None leaves what they were.

        They were those of the view around it when this one was made, or the host's.
        """
        names = [
            ffi.NULL if name is None else ffi.new("char[]", os.fsencode(name))
            for name in (host, domain)
        ]
        check(lib.um_hostname_set(self._sb, view, *names), "host name")

    def tell_of_calls(self) -> None:
        """Tell of every call when it is over (CALL)."""
        lib.um_tell_of_calls(self._sb)

    def start(self, listener: int) -> None:
        """Start the threads; the filter's listener is owned from now on.

        Further ones may come while it runs, by this and the next two methods.
        """
        check(lib.um_switchboard_start(self._sb, listener), "switchboard")

    def trace(self, pid: int) -> None:
        """Start the threads and trace a process; see um_switchboard_trace().

        Raises:
            OSError: EPERM if that is forbidden; ESRCH if it has ended.
        """
        check(lib.um_switchboard_trace(self._sb, pid), "ptrace")

    def attach(self, pid: int, flags: Filter) -> None:
        """Put a running process under the filter, and start the threads.

        Args:
            pid: The process.
            flags: Which optional calls are stopped, and what stops all of them.

        Raises:
            OSError: As um_switchboard_attach(); the process goes on as it was.
        """
        check(lib.um_switchboard_attach(self._sb, pid, int(flags)), f"process {pid}")

    def kept(self) -> int:
        """Return how many sockets of the host that process has kept."""
        return check(lib.um_kept_count(self._sb), "kept sockets")

    def fileno(self) -> int:
        """Return the descriptor that is readable when an event waits."""
        return check(lib.um_event_fd(self._sb), "event queue")

    def events(self) -> Iterator[Event]:
        """Take all events that wait."""
        raw = ffi.new("struct um_event *")
        while check(lib.um_event_next(self._sb, raw), "event queue"):
            try:
                event = Event(
                    kind=EventKind(raw.kind),
                    level=raw.level,
                    id=raw.id,
                    cookie=raw.cookie,
                    arg=raw.arg,
                    request=raw.request,
                    stack=raw.stack,
                    pid=raw.pid,
                    view=raw.view,
                    protocol=raw.protocol,
                    portid=raw.portid,
                    data=bytes(ffi.buffer(raw.data, raw.len)) if raw.len else b"",
                )
            finally:
                lib.um_event_free(raw)
            yield event

    def push_netlink(self, cookie: int, datagram: bytes) -> None:
        """Put a datagram of the kernel's into the queue of a netlink socket."""
        check(lib.um_netlink_push(self._sb, cookie, datagram, len(datagram)), "netlink")

    def tell_server(self, stack: int, message: bytes) -> None:
        """Say something to a stack's stack server, if it lives; at run time."""
        check(lib.um_line_tell(self._sb, stack, message, len(message)), "stack server")

    def tell_netlink(self, stack: int, group: int, datagram: bytes) -> None:
        """Put a datagram into the queues of all that listen to a group (RTNLGRP_*)."""
        check(
            lib.um_netlink_tell(self._sb, stack, group, datagram, len(datagram)),
            "netlink",
        )

    def answer(self, call: int, verdict: Verdict) -> None:
        """Answer a stopped call; one that was interrupted meanwhile is forgotten."""
        match verdict:
            case Done(value, writes):
                for address, data in writes:
                    check(
                        lib.um_answer_write(self._sb, call, address, data, len(data)),
                        "write",
                    )
                check(lib.um_answer(self._sb, call, value, 0), "answer")
            case Failed(code):
                check(lib.um_answer(self._sb, call, -1, code), "answer")
            case Given(fd, flags):
                check(lib.um_answer_open(self._sb, call, fd, flags), "answer")

    @_configures
    def set_member(self, link: int, member: int, family: int = 0) -> None:
        """Let a stack of the kind LINK have another's sockets of a family; 0: of all.

        Raises:
            OSError: EINVAL if it is none, or there is no such family.
        """
        check(lib.um_link_set(self._sb, link, family, member), "link")

    @_configures
    def set_policy(self, stack: int, deeds: Deed) -> None:
        """Have policies asked for, and told of, what sockets of a stack do."""
        check(lib.um_policy_set(self._sb, stack, int(deeds)), "policy")

    @_configures
    def police(self, view: int, *, on: bool) -> None:
        """Let the programs of a view have no sockets of the host, or let them."""
        check(lib.um_view_police(self._sb, view, on), f"view {view}")

    def answer_policy(self, call: int, error: int) -> None:
        """Let a call go on, or fail with an errno (> 0)."""
        check(lib.um_policy_answer(self._sb, call, error), "answer")

    def answer_datagram(self, cookie: int, peer: Name, error: int) -> None:
        """Let what a peer has sent to a socket come through, or drop it."""
        raw = pack(peer.address)
        check(lib.um_policy_receive(self._sb, cookie, raw, peer.port, error), "answer")

    def sockets(self) -> list[Socket]:
        """Return the view's sockets."""
        room = 256
        while True:
            raw = ffi.new("struct um_socket_info[]", room)
            count = check(lib.um_socket_list(self._sb, raw, room), "sockets")
            if count <= room:
                return [_socket(raw[i]) for i in range(count)]
            room = 2 * count
