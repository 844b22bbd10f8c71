"""Views for programs in Python: tests, tools.

A view of this kind is there from ``with`` to its end, whether or not a command runs in
it. What keeps it is a cat(1) that is its first command, and a connection by which the
supervisor is asked to *hold* it: when that connection ends, in whatever way, a killed
process included, the supervisor ends all that runs in the view.

Commands enter by ``umctl attach``, so a `subprocess.Popen` of one is that of an
ordinary child: its descriptors, directory, limits, session are what Popen makes them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ipaddress import ip_interface
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from umview import _ffi, runtime
from umview.control import Caller, Message, Over
from umview.errors import UmviewError

if TYPE_CHECKING:
    from types import TracebackType

    from umview.view import Interface

Argument: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Command: TypeAlias = Argument | Sequence[Argument]

_SECONDS = 3.0  # from SIGTERM to SIGKILL
_END_SECONDS = 30.0  # for umview itself to end then
_PYTHON = (sys.executable, "-I", "-m")
_counter = itertools.count(1)


class View:
    """A view of the network, for the length of a ``with`` block.

    Attributes:
        name: What `umctl ls` calls it.
    """

    def __init__(
        self,
        *modules: str,
        name: str | None = None,
        tracer: str = "auto",
        overlay: bool = False,
        rc: str | os.PathLike[str] | None = None,
    ) -> None:
        """Say what it is to be.

        Args:
            modules: What follows ``-p``: ``"umnet,fwd=8080:80"``; none: umnet.
            name: Its name; made up if there is none.
            tracer: What stops the calls of programs, as ``--tracer``.
            overlay: Whether /dev/net shows the stacks, as ``--overlay``.
            rc: A file that describes the view besides, as ``-f``. The user's own one
                is not read.
        """
        self.name = name or f"api-{os.getpid()}-{next(_counter)}"
        self._words = [word for module in modules for word in ("-p", module)]
        self._words += ["--tracer", tracer, "-V", self.name, "-v"]
        self._words += ["--overlay"] if overlay else []
        self._words += ["-f", os.fspath(rc or os.devnull)]
        self._log: IO[bytes] | None = None
        self._logged = ""  # all of it, after the end
        self._umview: subprocess.Popen[bytes] | None = None
        self._holder: Caller | None = None
        self._folder = ""  # of its supervisor; none inside of a view
        self._named: int | str = self.name  # its number, once it is known
        self._commands: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> View:
        """Start it.

        Raises:
            UmviewError: It cannot be had.
        """
        self._log = tempfile.TemporaryFile()
        try:
            self._start(self._log)
        except BaseException:
            self.shutdown()
            raise
        return self

    def _start(self, log: IO[bytes]) -> None:
        if not _ffi.is_in_view():
            self._folder = runtime.folder(self.name, os.environ)
        self._umview = subprocess.Popen(
            [*_PYTHON, "umview.cli", *self._words, "--", "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert self._umview.stdin
        assert self._umview.stdout
        with contextlib.suppress(BrokenPipeError):
            self._umview.stdin.write(b"\n")
            self._umview.stdin.flush()
        if not self._umview.stdout.readline():
            self._umview.wait(_END_SECONDS)
            raise UmviewError(self._last_words())
        self._named = self._described()["number"]
        self._holder = self._knock()
        self._holder.ask("hold", view=self._named)

    def _last_words(self) -> str:
        """Return why umview has ended."""
        lines = self.log().splitlines() or ["umview has ended and does not say why"]
        return lines[-1].removeprefix("umview: ")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, with all that runs in it."""
        self.shutdown()

    def shutdown(self, seconds: float = _SECONDS) -> None:
        """End all that runs in the view, and so the view.

        Args:
            seconds: How long a process may take to end after SIGTERM; then comes
                SIGKILL.
        """
        if self._log is None or self._umview is None:
            return
        try:
            self._ask("shutdown", seconds=seconds)
        except Over:
            pass
        except UmviewError:  # its supervisor has been killed, or was never there
            for process in self._commands:
                process.kill()
        for stream in (self._umview.stdin, self._umview.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        for process in (*self._commands, self._umview):
            _end(process, _END_SECONDS)
        if self._holder:
            self._holder.sock.close()
        self._commands.clear()
        self._logged = self.log()
        self._log.close()
        self._log = self._umview = self._holder = None

    # ---- commands ----

    def run(
        self,
        args: Command,
        *,
        input: str | bytes | None = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **words: Any,  # noqa: ANN401 - those of Popen
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command in the view to its end; all is as for `subprocess.run`.

        Raises:
            UmviewError: It cannot enter the view.
            OSError: It cannot be executed.
            subprocess.TimeoutExpired: It took longer; it has been killed.
            subprocess.CalledProcessError: Its status is not 0, under check.
        """
        if input is not None:
            words["stdin"] = subprocess.PIPE
        if capture_output:
            words["stdout"] = words["stderr"] = subprocess.PIPE
        with self.popen(args, **words) as process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException:
                process.kill()
                raise
            status = process.wait()
        if check and status:
            raise subprocess.CalledProcessError(status, process.args, out, err)
        return subprocess.CompletedProcess(process.args, status, out, err)

    def popen(self, args: Command, **words: Any) -> subprocess.Popen[Any]:  # noqa: ANN401
        """Start a command in the view, and return when it runs there.

        Args:
            args: The command.
            words: As of `subprocess.Popen`, but for ``executable``, which only goes
                with ``shell``.

        Raises:
            UmviewError: It cannot enter the view.
            OSError: It cannot be executed.
        """
        command = _words_of(args, words)
        if self._umview is None:
            raise self._over()
        where = str(self._named), self._folder
        said, tells = os.pipe()
        with open(said, "rb") as answer:
            try:
                process = subprocess.Popen(
                    [*_PYTHON, "umview.enter", *where, str(tells), *command],
                    pass_fds=(*words.pop("pass_fds", ()), tells),
                    **words,
                )
            finally:
                os.close(tells)
            process.args = args
            running = [one for one in self._commands if one.returncode is None]
            self._commands = [*running, process]
            failure = answer.read().decode(errors="replace")
        if failure:
            with process:  # it ends by itself, and its pipes are closed
                pass
            raise _failure(failure, command[0])
        return process

    # ---- looking ----

    def sockets(self) -> list[dict[str, Any]]:
        """Return the sockets of the view, as the rows of ``umctl ls --json``."""
        sockets: list[dict[str, Any]] = self._described()["sockets"]
        return sockets

    def addresses(self) -> list[Interface]:
        """Return the addresses of the view's cards, the loopback card's left out."""
        return [
            ip_interface(text)
            for card in self._described()["cards"]
            for text in card["addresses"]
            if not ip_interface(text).is_loopback
        ]

    def log(self) -> str:
        """Return what umview has logged of the view, also when that has ended."""
        if self._log is None:
            return self._logged
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def _described(self) -> dict[str, Any]:
        views: Any = self._ask("describe")["views"]
        described: dict[str, Any] = views[0]
        return described

    def _ask(self, do: str, **words: object) -> Message:
        """Ask something of the view.

        Raises:
            UmviewError: It cannot be done, or the view is over.
        """
        caller = self._knock()
        with caller.sock:
            return caller.ask(do, view=self._named, **words)

    def _knock(self) -> Caller:
        """Call at its supervisor's door.

        Raises:
            UmviewError: The view is over, or not there yet.
        """
        if self._umview is not None:
            with contextlib.suppress(OSError):
                return Caller.outside(self._folder) if self._folder else Caller.inside()
        raise self._over()

    def _over(self) -> UmviewError:
        return UmviewError(f"the view {self.name} does not run")


def _words_of(args: Command, words: dict[str, Any]) -> list[str]:
    """Return a command as words; what Popen would make of shell is made here."""
    shell, program = words.pop("shell", False), words.pop("executable", None)
    several = [args] if isinstance(args, str | bytes | os.PathLike) else args
    given = [os.fsdecode(word) for word in several]
    if shell:
        return [os.fsdecode(program or "/bin/sh"), "-c", *given]
    if program is not None:
        raise ValueError("executable= without shell=True: name it in the command")
    if not given:
        raise ValueError("no command")
    return given


def _failure(text: str, program: str) -> Exception:
    """Return what to raise for a command that is not: an errno, 0 and a line, both."""
    code, _, line = text.partition(" ")
    if code != "0":
        return OSError(int(code), os.strerror(int(code)), program)
    return UmviewError(line)


def _end(process: subprocess.Popen[Any], seconds: float) -> None:
    """Wait for a process that was told to end; do not wait for ever."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
