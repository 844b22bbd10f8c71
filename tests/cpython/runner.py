"""Run one module of CPython's own tests and report each test by a line of JSON.

runner.py MODULE < SELECTION, which is {"only": [id...] or null, "skip": [id...]}.

The interpreter's own runner gives its results when all is over; here a test that hangs
or takes the interpreter with it must not cost the results of the others, so each is
reported when it starts and when it ends. Standard library only: this runs on the
system's interpreter, which owns the tests.
"""

# The methods' names are unittest's, and typing.override is of Python 3.12.
# ruff: noqa: N802
# mypy: disable-error-code="explicit-override"

from __future__ import annotations

import importlib
import json
import os
import sys
import unittest
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

# The resources of the interpreter's own runner that a module must have to run at all.
# "network" would let the others ask servers of the real Internet.
RESOURCES = {"test_socketserver": ["network"]}


class Report(unittest.TestResult):
    """A result that tells at once."""

    def __init__(self, file: IO[str]) -> None:
        super().__init__()
        self._file = file
        self._running = ""
        self._outcome = ""
        self._text = ""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._running, self._outcome, self._text = test.id(), "", ""
        self._say(start=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        self._say(end=test.id(), outcome=self._outcome or "ok", text=self._text)
        self._running = ""

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._note(test, "skipped", reason)

    def addError(self, test: unittest.TestCase, err: OptExcInfo) -> None:
        self._note(test, "error", self._describe(err, test))

    def addFailure(self, test: unittest.TestCase, err: OptExcInfo) -> None:
        self._note(test, "failed", self._describe(err, test))

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._note(test, "failed", "unexpected success")

    def addSubTest(
        self,
        test: unittest.TestCase,
        subtest: unittest.TestCase,
        err: OptExcInfo | None,
    ) -> None:
        if err is not None:
            self._note(test, "failed", f"{subtest}\n{self._describe(err, test)}")

    def _describe(self, err: OptExcInfo, test: unittest.TestCase) -> str:
        text: str = self._exc_info_to_string(err, test)  # type: ignore[attr-defined]
        return text

    def _note(self, test: unittest.TestCase, outcome: str, text: str) -> None:
        """Keep the outcome for the test's end; a class's or module's has no end."""
        if test.id() == self._running:
            if self._outcome in ("", "skipped"):
                self._outcome, self._text = outcome, text
        else:
            self._say(end=test.id(), outcome=outcome, text=text)

    def _say(self, **what: str) -> None:
        self._file.write(json.dumps(what) + "\n")
        self._file.flush()


def tests_in(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Yield a suite's tests in their order."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_in(test)
        else:
            yield test


def choose(module: str, only: list[str] | None, skip: list[str]) -> unittest.TestSuite:
    """Return the selected tests of a module, held by nothing else.

    Tests keep what they made; a suite lets go of each that it has run, or the garbage
    collections of later tests would take ten times as long.
    """
    loaded = unittest.defaultTestLoader.loadTestsFromName(f"test.{module}")
    return unittest.TestSuite(
        test
        for test in tests_in(loaded)
        if test.id() not in skip and (only is None or test.id() in only)
    )


def main() -> None:
    """Run the selection."""
    # What the tests print must not get between the lines of the report.
    file = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    file.write(json.dumps({"pid": os.getpid()}) + "\n")
    file.flush()
    module = sys.argv[1]
    support = importlib.import_module("test.support")
    support.__dict__["use_resources"] = RESOURCES.get(module, [])
    chosen = choose(module, **json.load(sys.stdin))
    chosen.run(Report(file))
    file.write(json.dumps({"over": module}) + "\n")
    file.flush()
    # A thread that a failed test left behind must not keep the interpreter.
    os._exit(0)


if __name__ == "__main__":
    main()
