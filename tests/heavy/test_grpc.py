"""gRPC with its own C library: many threads, connections and streams."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.apps.lab import Place, in_places

RPC = (sys.executable, str(Path(__file__).with_name("programs") / "rpc.py"))


@in_places("native", "inside", "outward")
@pytest.mark.parametrize("check", ["unary", "streams", "channels"])
def test_calls_are_answered(place: Place, check: str) -> None:
    address = f"[{place.host6}]:{place.port}"
    with place.server.serve(*RPC, "serve", str(place.listen), says="ready"):
        assert place.client.run(*RPC, check, address).out == "done\n"


@in_places("native", "inside", "inward")
@pytest.mark.parametrize("check", ["deadline", "cancel"])
def test_server_learns_that_its_caller_has_gone(place: Place, check: str) -> None:
    address = f"{place.host}:{place.port}"
    with place.server.serve(*RPC, "serve", str(place.listen), says="ready") as server:
        assert place.client.run(*RPC, check, address).out == "done\n"
        server.wait_for("caller gone")


@in_places("native", "inside", "outward")
def test_caller_learns_that_its_server_has_stopped(place: Place) -> None:
    address = f"{place.host}:{place.port}"
    with place.server.serve(*RPC, "serve", str(place.listen), says="ready") as server:
        assert place.client.run(*RPC, "stop", address).out == "done\n"
        assert server.finish().out == "ready\nstopped\n"


@in_places("native", "inside", "outward")
def test_caller_waits_for_its_server(place: Place) -> None:
    waiting = place.client.begin(*RPC, "wait", f"{place.host}:{place.port}")
    waiting.wait_for("waiting")
    with place.server.serve(*RPC, "serve", str(place.listen), says="ready"):
        finished = waiting.finish()
    assert (finished.status, finished.out) == (0, "waiting\ndone\n"), finished
