"""Fixtures for tests that need networks: views, and Ethernets of views.

pip's entry point loads it wherever umview is installed; see docs/testing.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from umview.errors import UmviewError

if TYPE_CHECKING:
    from umview.api import View
    from umview.network import Network

_shown = pytest.StashKey[list[Callable[[], "Iterable[View]"]]]()


@pytest.fixture
def view(request: pytest.FixtureRequest) -> Iterator[Callable[..., View]]:
    """Start views: a function with the arguments of `umview.View`."""
    from umview.api import View

    views: list[View] = []
    _show(request.node, lambda: views)
    with contextlib.ExitStack() as stack:

        def start(*modules: str, **words: Any) -> View:  # noqa: ANN401
            views.append(stack.enter_context(View(*modules, **words)))
            return views[-1]

        yield start


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Give an Ethernet for views: an `umview.Network`."""
    from umview.network import Network

    with Network() as opened:
        _show(request.node, lambda: opened.views)
        yield opened


def _show(item: pytest.Item, views: Callable[[], Iterable[View]]) -> None:
    item.stash.setdefault(_shown, []).append(views)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failure what the test's views are like."""
    report = yield
    if report.failed:
        for views in item.stash.get(_shown, []):
            report.sections += [
                (f"view {one.name}", _described(one)) for one in views()
            ]
    return report


def _described(view: View) -> str:
    """Return what a person would look at: addresses, sockets, log."""
    lines = []
    with contextlib.suppress(UmviewError, OSError):  # it may have ended
        lines.append(" ".join(str(one) for one in view.addresses()))
        lines += [
            "{protocol} {state} {local} {remote}".format_map(row)
            for row in view.sockets()
        ]
    return "\n".join((*lines, view.log()))
