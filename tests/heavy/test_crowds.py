"""A thousand connections at once, with the HTTP libraries of several languages.

The server answers nobody before all are there, so that none can come after another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.apps.lab import PROGRAMS, Place, built_go, in_places, require
from tests.apps.test_servers import nginx

CLIENTS = "1000"
NODE = ("node", str(PROGRAMS / "web.js"))
JAVA = ("java", "-Xshare:auto", str(PROGRAMS / "Web.java"))


@pytest.fixture(scope="module", params=[False, True], ids=["static", "cgo"])
def go_web(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """Build the Go program, without C and with it."""
    with built_go("web.go", cgo=request.param) as program:
        yield (str(program),)


def crowd(place: Place, server: tuple[str, ...], client: tuple[str, ...]) -> None:
    """Let a thousand clients ask a server together."""
    with place.server.serve(*server, "serve", str(place.listen), says="ready"):
        got = place.client.run(
            *(*client, "crowd", place.host, str(place.port), CLIENTS), timeout=90
        )
        assert got.out == f"served {CLIENTS}\n", got


@in_places("native", "inside", "outward")
def test_node_serves_a_crowd(place: Place) -> None:
    require("node")
    crowd(place, NODE, NODE)


@in_places("native", "inside", "inward")
def test_java_serves_a_crowd(place: Place) -> None:
    require("java")
    crowd(place, JAVA, JAVA)


@in_places("native", "inside", "outward")
def test_go_serves_a_crowd(place: Place, go_web: tuple[str, ...]) -> None:
    crowd(place, go_web, go_web)


@in_places("native", "inside", "inward")
def test_wrk_is_a_crowd_at_nginx(place: Place) -> None:
    require("nginx", "wrk")
    with place.server.serve(*nginx(place, " reuseport"), port=place.listen):
        got = place.client.run(
            *("wrk", "-t", "2", "-c", CLIENTS, "-d", "3s", "--timeout", "20s"),
            place.url(),
        )
    assert "Socket errors" not in got.out, got.out
    assert "Non-2xx" not in got.out, got.out
    found = re.search(r"(\d+) requests in", got.out)
    assert found is not None, got.out
    assert int(found[1]) > 2000
