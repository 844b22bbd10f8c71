"""Run CPython's own network tests natively and in a view, and compare by test name.

By hand: python -m tests.cpython.compare [MODULE...]
"""

# ruff: noqa: T201

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from tests.apps.lab import SYSTEM_PYTHON, User, Where

# The longest first: they run side by side.
MODULES = (
    "test_asyncio",
    "test_ssl",
    "test_socket",
    "test_selectors",
    "test_poll",
    "test_socketserver",
    "test_httplib",
    "test_epoll",
)
AT_ONCE = 4
_HERE = Path(__file__).parent
_TEST_TIME = 60.0
_MODULE_TIME = 240.0
_END_TIME = 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a test ended: ok, skipped, failed, error, hung or died; and what it said."""

    word: str
    text: str = ""


Results = dict[str, Outcome]


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that does not end in a view as it does natively."""

    test: str
    native: Outcome
    view: Outcome

    def describe(self) -> str:
        """Return the test's name, how it ended on both sides, and what it said."""
        text = f"{self.test}: natively {self.native.word}, in a view {self.view.word}"
        said = self.view.text or self.native.text
        return f"{text}\n{said}" if said else text


def run(
    user: User,
    module: str,
    where: Where,
    only: Collection[str] | None = None,
) -> Results:
    """Run a module's tests and return the outcome of each by its id.

    A test that hangs is killed, and the rest run in a new interpreter.

    Args:
        user: The ordinary user who runs them.
        module: The name of the module below "test".
        where: Natively, or in a view.
        only: The ids of the tests to run; None: all.
    """
    results: Results = {}
    deadline = time.monotonic() + _MODULE_TIME
    while True:
        stuck, outcome = _run_once(user, module, where, only, results, deadline)
        if outcome is None:
            return results
        results[stuck or module] = outcome
        if not stuck or time.monotonic() > deadline:
            return results


def compare(native: Results, view: Results) -> list[Difference]:
    """Return the tests that end differently in a view.

    One that the host cannot run and the view can (IPv6 on a host that has none) is
    no difference.
    """
    missing = Outcome("did not run")
    differences = []
    for test in sorted(native.keys() | view.keys()):
        one, other = native.get(test, missing), view.get(test, missing)
        gained = one.word == "skipped" and other.word == "ok"
        if one.word != other.word and not gained:
            differences.append(Difference(test, one, other))
    return differences


def confirm(
    user: User, module: str, differences: Sequence[Difference]
) -> list[Difference]:
    """Run the tests that differ once more; return those that differ again.

    Some depend on time, and natively fail now and then, too.
    """
    if not differences or any(item.test == module for item in differences):
        return list(differences)
    only = {item.test for item in differences}
    return compare(run(user, module, "native", only), run(user, module, "view", only))


@dataclass(frozen=True, slots=True)
class Known:
    """Differences that have a reason.

    Attributes:
        patterns: The names of the tests, or patterns of names.
        reason: Why they differ.
        sometimes: Whether they differ depends on time.
    """

    patterns: tuple[str, ...]
    reason: str
    sometimes: bool

    def covers(self, test: str) -> bool:
        """Tell whether the test is one of these."""
        return any(fnmatch.fnmatchcase(test, pattern) for pattern in self.patterns)


def known_differences() -> list[Known]:
    """Return what is known to differ (known_differences.toml)."""
    table = tomllib.loads((_HERE / "known_differences.toml").read_text())
    return [
        Known(tuple(item["tests"]), item["reason"], item.get("sometimes", False))
        for item in table["difference"]
    ]


def reason_for(test: str, known: Sequence[Known]) -> str | None:
    """Return why a test differs, or None if nobody knows."""
    return next((item.reason for item in known if item.covers(test)), None)


def gone(native: Results, view: Results, known: Sequence[Known]) -> list[str]:
    """Return the patterns whose tests pass on both sides, though they should differ."""
    found = []
    for pattern in (p for item in known if not item.sometimes for p in item.patterns):
        tests = [test for test in native if fnmatch.fnmatchcase(test, pattern)]
        passed = [test for test in tests if native[test].word == "ok"]
        if passed and all(view.get(test) == native[test] for test in passed):
            found.append(pattern)
    return found


def main() -> int:
    """Compare the modules named on the command line, or all, and say what differs."""
    modules = sys.argv[1:] or MODULES
    known = known_differences()
    count = 0
    with tempfile.TemporaryDirectory(prefix="umt-", ignore_cleanup_errors=True) as name:
        user = User(Path(name), Path(name, "run"))
        user.runtime.mkdir(0o700)
        user.own(user.folder)
        user.own(user.runtime)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            sides: list[list[Future[Results]]] = [
                [
                    pool.submit(run, user, module, "view"),
                    pool.submit(run, user, module, "native"),
                ]
                for module in modules
            ]
        for module, (view, native) in zip(modules, sides, strict=True):
            differences = compare(native.result(), view.result())
            print(f"{module}: {len(native.result())} tests, {len(differences)} differ")
            for difference in confirm(user, module, differences):
                reason = reason_for(difference.test, known)
                count += reason is None
                print(f"{difference.describe()}\n{reason or 'NOT KNOWN'}\n")
    return 1 if count else 0


def _run_once(
    user: User,
    module: str,
    where: Where,
    only: Collection[str] | None,
    results: Results,
    deadline: float,
) -> tuple[str, Outcome | None]:
    """Run one interpreter, without the tests that have results; fill these in.

    Returns:
        The test that the interpreter ended in, if any, and how; None if it came to
        the end of the module.
    """
    argv = [SYSTEM_PYTHON, "-P", str(_HERE / "runner.py"), module]
    running, pid, over = "", 0, False
    with (
        tempfile.TemporaryDirectory(
            dir=user.folder, prefix="t", ignore_cleanup_errors=True
        ) as name,
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            user.command(argv, where),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=user.own(Path(name)),
            env=user.environment() | {"TMPDIR": name},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        selection = {"only": only and sorted(only), "skip": sorted(results)}
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(selection))
            process.stdin.close()
        for line in _lines(process.stdout, deadline):
            match line:
                case {"pid": number}:
                    pid = number
                case {"start": test}:
                    running = test
                case {"end": test, "outcome": word, "text": text}:
                    results[test], running = Outcome(word, text), ""
                case _:
                    over = "over" in line
        if over:
            _end(process, 0)
            return "", None
        hung = pid != 0 and psutil.pid_exists(pid)
        status = _end(process, pid)
        log.seek(0)
        said = f"status {status}\n{log.read()[-2000:]}"
    return running, Outcome("hung" if hung else "died", said)


def _lines(stream: IO[str], deadline: float) -> Iterator[dict[str, Any]]:
    """Yield the lines of a report, until its end or until none comes for too long."""
    with selectors.DefaultSelector() as selector:
        # The selector sees what the kernel holds only: read past Python's buffers.
        selector.register(stream.fileno(), selectors.EVENT_READ)
        rest = b""
        while True:
            left = min(_TEST_TIME, deadline - time.monotonic())
            if left <= 0 or not selector.select(left):
                return
            more = os.read(stream.fileno(), 65536)
            if not more:
                return
            *whole, rest = (rest + more).split(b"\n")
            yield from map(json.loads, whole)


def _end(process: subprocess.Popen[str], pid: int) -> int:
    """Wait for the end of the command, after killing the interpreter if it has a pid.

    Args:
        process: What was started: the interpreter itself, or umview in front of it.
        pid: The interpreter's, which is to be killed with all that it started; 0: not.
    """
    if pid:
        with contextlib.suppress(psutil.NoSuchProcess):
            interpreter = psutil.Process(pid)
            for one in [*interpreter.children(recursive=True), interpreter]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
    try:
        return process.wait(_END_TIME)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(_END_TIME)


if __name__ == "__main__":
    sys.exit(main())
