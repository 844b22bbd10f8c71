"""The log of stopped calls that ``umview --trace`` writes, a line for each.

A line is in strace's manner, with what a view adds at its end: the stack that the
socket belongs to, and the road that leads to the peer::

    4711 14:03:22.104211 connect(3, {sa_family=AF_INET, ...}, 16) = 0 [umnet, relay]
    <0.000057>

With ``--json`` it is an object. Names of calls and arguments are python-ptrace's.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ptrace.syscall import (  # type: ignore[import-untyped]
    SYSCALL_NAMES,
    SYSCALL_PROTOTYPES,
)

from umview import _ffi, trace_args
from umview._ffi import Outcome, Traced
from umview.trace_args import Call

if TYPE_CHECKING:
    from umview.abi.shown import Shown

log = logging.getLogger(__name__)

_NS = 1_000_000_000
_NEWER = {437: "openat2", _ffi.NR_MSOCKET: "msocket"}  # than python-ptrace
_NEWER_ARGUMENTS = {
    "msocket": (
        ("const char *", "path"),
        ("int", "domain"),
        ("int", "type"),
        ("int", "protocol"),
    ),
    "openat2": (
        ("int", "dirfd"),
        ("const char *", "filename"),
        ("struct open_how *", "how"),
        ("size_t", "size"),
    ),
}
_BATCH = 32768
_FATES = {
    Outcome.KERNEL: "? (left to the kernel)",
    Outcome.INTERRUPTED: "? ERESTARTSYS (interrupted)",
    Outcome.GONE: "? (the thread ended)",
}


class Argument(NamedTuple):
    """An argument of a call."""

    name: str
    value: Shown


class Log:
    """Makes lines of the calls that are told, and hands them on in batches."""

    def __init__(
        self, stacks: Mapping[int, str], write: Callable[[str], None], *, is_json: bool
    ) -> None:
        """Begin a log.

        Args:
            stacks: What the stacks are called, by number.
            write: Takes whole lines.
            is_json: Whether lines are objects of JSON.
        """
        self._stacks = stacks
        self._write = write
        self._line = json_line if is_json else text_line
        self._lines: list[str] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Add the call that an event of the kind CALL tells of."""
        traced = _ffi.traced(data)
        stack = self._stacks.get(-1 if traced.stack is None else traced.stack)
        try:
            line = self._line(traced, stack) + "\n"
        except Exception:
            log.exception("a call could not be shown: %s", traced)
            return
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        lines = "".join(self._lines)
        self._lines.clear()
        self._size = 0
        try:
            if lines:
                self._write(lines)
        except OSError as exc:
            log.warning("the log of calls ends here: %s", exc.strerror)
            self._write = lambda _: None


def call_of(traced: Traced) -> Call:
    """Return a traced call with its name."""
    name = SYSCALL_NAMES.get(traced.nr) or _NEWER.get(traced.nr)
    return Call(name or f"syscall_{traced.nr:#x}", traced)


def arguments(call: Call) -> Iterator[Argument]:
    """Yield the arguments that a call has."""
    if call.name in _NEWER_ARGUMENTS:
        wanted = _NEWER_ARGUMENTS[call.name]
    else:
        _, wanted = SYSCALL_PROTOTYPES.get(call.name, ("long", ()))
    for at, (kind, name) in enumerate(wanted):
        if name != "mode" or trace_args.creates(call):
            yield Argument(name, trace_args.form(call.name, kind, name)(call, at))


def text_line(traced: Traced, stack: str | None) -> str:
    """Show a call to people."""
    call = call_of(traced)
    values = ", ".join(argument.value.text for argument in arguments(call))
    seconds, rest = divmod(traced.began_ns, _NS)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    line = f"{traced.tid} {clock}.{rest // 1000:06} {call.name}({values})"
    line += f" = {_fate(traced)}"
    place = ", ".join(one for one in (stack, _road(traced)) if one)
    if place:
        line += f" [{place}]"
    return line + f" <{traced.took_ns / _NS:.6f}>" if _is_timed(traced) else line


def json_line(traced: Traced, stack: str | None) -> str:
    """Show a call to scripts."""
    call = call_of(traced)
    is_answered = traced.outcome is Outcome.ANSWERED
    has_failed = is_answered and traced.result < 0
    shown = {
        "time": traced.began_ns / _NS,
        "tid": traced.tid,
        "call": call.name,
        "args": {one.name: one.value.plain for one in arguments(call)},
        "outcome": traced.outcome.name.lower(),
        "result": (-1 if has_failed else traced.result) if is_answered else None,
        "error": errno.errorcode.get(-traced.result) if has_failed else None,
        "stack": stack,
        "road": _road(traced),
        "seconds": traced.took_ns / _NS if _is_timed(traced) else None,
    }
    return json.dumps(shown)


def _fate(traced: Traced) -> str:
    if traced.outcome is not Outcome.ANSWERED:
        return _FATES[traced.outcome]
    if traced.result >= 0:
        return str(traced.result)
    name = errno.errorcode.get(-traced.result, str(-traced.result))
    return f"-1 {name} ({os.strerror(-traced.result)})"


def _road(traced: Traced) -> str | None:
    return None if traced.road is None else traced.road.name.lower()


def _is_timed(traced: Traced) -> bool:
    """Whether the time of the end is known: nobody tells of a signal."""
    return traced.outcome in {Outcome.ANSWERED, Outcome.KERNEL}
