"""umview at a terminal: job control, Ctrl-C, Ctrl-Z, an interactive shell."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import subprocess
import time
from collections.abc import Iterator

from tests.apps.lab import SYSTEM_PYTHON, User, Where, in_view, require

_PROMPT = "ready> "
_CTRL_C = "\x03"
_CTRL_D = "\x04"
_CTRL_Z = "\x1a"


class Terminal:
    """The master's side of a pseudo-terminal with a session in it."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._text = ""

    def type(self, text: str) -> None:
        """Write what a person would type."""
        os.write(self._master, text.encode())

    def expect(self, pattern: str, timeout: float = 15) -> str:
        """Read until the pattern appears, take the text up to its end, return it.

        Raises:
            AssertionError: It did not appear before the timeout or the end.
        """
        deadline = time.monotonic() + timeout
        while (found := re.search(pattern, self._text)) is None:
            left = deadline - time.monotonic()
            more = self._read(left) if left > 0 else ""
            assert more, f"no {pattern!r} in {self._text!r}"
            self._text += more
        taken, self._text = self._text[: found.end()], self._text[found.end() :]
        return taken

    def _read(self, timeout: float) -> str:
        if not select.select([self._master], [], [], timeout)[0]:
            return ""
        try:
            return os.read(self._master, 65536).decode(errors="replace")
        except OSError:  # EIO: the last process has closed the slave
            return ""


@contextlib.contextmanager
def terminal(
    user: User, argv: list[str], where: Where
) -> Iterator[tuple[Terminal, subprocess.Popen[str]]]:
    """Run a command as the leader's child of a new session with a terminal."""
    require("setsid")
    master, slave = os.openpty()
    try:
        if os.geteuid() == 0:
            os.fchown(slave, *[os.stat(user.folder).st_uid] * 2)
        process = subprocess.Popen(
            ["setsid", "--ctty", *user.command(argv, where)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            text=True,
            cwd=user.folder,
            env=user.environment(),
        )
        os.close(slave)
        try:
            yield Terminal(master), process
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
    finally:
        os.close(master)


@contextlib.contextmanager
def shell(
    user: User, argv: list[str], where: Where
) -> Iterator[tuple[Terminal, subprocess.Popen[str]]]:
    """Run an interactive bash, natively or in a view, up to its first prompt."""
    with terminal(user, argv, where) as (screen, process):
        # The prompt is put together by the shell, so that the echo does not match.
        screen.type("PS1=rea''dy'> '; bind 'set enable-bracketed-paste off'\n")
        screen.expect(_PROMPT)
        yield screen, process


BASH = ["bash", "--norc", "--noprofile", "-i"]
# It says when it runs, for a key that comes before is read by the shell's line editor.
CAT = ["bash", "-c", "echo go; exec cat"]


def start_cat(screen: Terminal, where: Where) -> None:
    """Start CAT from the shell, natively or in a view, and see that it copies lines."""
    screen.type(f"{shlex.join(in_view(CAT, where))}\n")
    screen.expect("go\r\n")
    copy(screen, "one")


def copy(screen: Terminal, word: str) -> None:
    """Type a word that the terminal echoes and cat copies."""
    screen.type(f"{word}\n")
    screen.expect(f"{word}\r\n{word}\r\n")


def stop_and_continue(screen: Terminal) -> None:
    """Stop the job in the foreground, bring it back, and end it by end of file."""
    screen.type(_CTRL_Z)
    screen.expect("Stopped")
    screen.expect(_PROMPT)
    screen.type("fg\n")
    screen.expect("exec cat'\r\n")
    copy(screen, "two")
    screen.type(_CTRL_D)
    screen.expect(_PROMPT)
    screen.type("echo status$?\n")
    screen.expect("status0\r\n")
    screen.expect(_PROMPT)


def leave(screen: Terminal, process: subprocess.Popen[str], status: int = 0) -> None:
    """Leave the shell."""
    screen.type(f"exit {status}\n")
    assert process.wait(10) == status


def test_interactive_shell_has_job_control(user: User, where: Where) -> None:
    with shell(user, BASH, where) as (screen, process):
        screen.type("tty >/dev/null && echo a$((40 + 2))\n")
        screen.expect("a42\r\n")
        screen.expect(_PROMPT)
        leave(screen, process, 7)


def test_interactive_shell_complains_of_nothing(user: User, where: Where) -> None:
    with terminal(user, BASH, where) as (screen, process):
        screen.type("echo a$((40 + 2))\n")
        said = screen.expect("a42\r\n")
        assert "no job control" not in said
        leave(screen, process)


def test_ctrl_c_ends_the_job_and_not_the_shell(user: User, where: Where) -> None:
    with shell(user, BASH, where) as (screen, process):
        start_cat(screen, "native")
        screen.type(_CTRL_C)
        screen.expect(_PROMPT)
        screen.type("echo status$?\n")
        screen.expect("status130\r\n")
        leave(screen, process)


def test_ctrl_z_stops_a_job_of_the_shell_and_fg_goes_on(
    user: User, where: Where
) -> None:
    with shell(user, BASH, where) as (screen, process):
        start_cat(screen, "native")
        stop_and_continue(screen)
        leave(screen, process)


def test_ctrl_z_stops_the_command_and_fg_goes_on(user: User, where: Where) -> None:
    """A shell outside stops and continues the view as it does any job."""
    with shell(user, BASH, "native") as (screen, process):
        for _ in range(2):
            start_cat(screen, where)
            stop_and_continue(screen)
        leave(screen, process)


def test_ctrl_c_ends_the_command_as_a_signal_does(user: User, where: Where) -> None:
    with shell(user, BASH, "native") as (screen, process):
        start_cat(screen, where)
        screen.type(_CTRL_C)
        screen.expect(_PROMPT)
        screen.type("echo status$?\n")
        screen.expect("status130\r\n")
        leave(screen, process)


def test_ctrl_c_can_be_caught_by_the_command(user: User, where: Where) -> None:
    script = (
        "import signal\n"
        "try:\n"
        "    print('waiting', flush=True)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    print('caught', flush=True)\n"
    )
    with terminal(user, [SYSTEM_PYTHON, "-c", script], where) as (screen, process):
        screen.expect("waiting")
        screen.type(_CTRL_C)
        screen.expect("caught")
        assert process.wait(10) == 0


def test_command_in_the_background_reads_no_terminal(user: User, where: Where) -> None:
    command = shlex.join(in_view(["cat"], where))
    with shell(user, BASH, "native") as (screen, process):
        screen.type(f"{command} &\n")
        screen.expect(_PROMPT)
        screen.type("until jobs | grep Stopp''ed; do :; done\n")
        screen.expect("Stopped")
        screen.expect(_PROMPT)
        screen.type("kill %1; fg\n")
        screen.expect(_PROMPT)
        leave(screen, process)


def test_window_size_is_the_terminals(user: User, where: Where) -> None:
    with shell(user, BASH, where) as (screen, process):
        screen.type("stty rows 31 cols 97; stty size\n")
        screen.expect("31 97\r\n")
        leave(screen, process)
