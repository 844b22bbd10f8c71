"""CPython's own network tests give the same results natively and in a view."""

from __future__ import annotations

import faulthandler
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.cpython.compare import (
    AT_ONCE,
    MODULES,
    Results,
    compare,
    confirm,
    gone,
    known_differences,
    reason_for,
    run,
)

Sides = dict[str, tuple[Future[Results], Future[Results]]]


@pytest.fixture(scope="module")
def sides(module_user: User) -> Iterator[Sides]:
    """Run all modules, natively and in views, a few at a time."""
    found = subprocess.run(
        [SYSTEM_PYTHON, "-c", "import test.test_socket"], check=False, timeout=30
    )
    if found.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("the interpreter's own tests are not installed")
        pytest.skip("the interpreter's own tests are not installed")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            module: (
                pool.submit(run, module_user, module, "native"),
                pool.submit(run, module_user, module, "view"),
            )
            for module in MODULES
        }
        pool.shutdown(cancel_futures=True)


# The shortest first, for the results of the longest come last.
@pytest.mark.view
@pytest.mark.parametrize("module", MODULES[::-1])
def test_module_gives_the_same_results(
    module_user: User, sides: Sides, module: str
) -> None:
    # The longest wait exceeds faulthandler_timeout, whose traces would only alarm.
    faulthandler.cancel_dump_traceback_later()
    native, view = (side.result() for side in sides[module])
    known = known_differences()
    new = [
        item for item in compare(native, view) if reason_for(item.test, known) is None
    ]
    again = confirm(module_user, module, new)
    assert not again, "\n\n".join(item.describe() for item in again)
    equal = gone(native, view, known)
    assert not equal, f"these do not differ any more: {equal}"
