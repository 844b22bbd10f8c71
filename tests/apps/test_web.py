"""Web servers and their clients, in every place."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import (
    PROGRAMS,
    SYSTEM_PYTHON,
    Place,
    built_go,
    free_port,
    in_places,
    require,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
WEB_PY = str(PROGRAMS / "web.py")
CLIENTS = 1000


@contextlib.contextmanager
def files(place: Place) -> Iterator[Path]:
    """Serve a folder with Python's http.server at the place."""
    folder = place.server.user.folder / "www"
    folder.mkdir()
    (folder / "small.txt").write_text("hello\n")
    (folder / "big.bin").write_bytes(os.urandom(8 << 20))
    with place.server.serve(
        SYSTEM_PYTHON,
        *("-m", "http.server", "--bind", "::", "--directory", str(folder)),
        str(place.listen),
        port=place.listen,
    ):
        yield folder


@FAMILIES
def test_curl_gets_what_http_server_serves(place: Place, family: int) -> None:
    require("curl")
    with files(place):
        url = place.url("small.txt", family)
        got = place.client.run("curl", "-sS", "--noproxy", "*", url)
        assert got.out == "hello\n"


def test_curl_gets_a_big_file_whole(place: Place) -> None:
    require("curl")
    target = place.client.folder / "big.bin"
    with files(place) as folder:
        place.client.run("curl", "-sS", "-o", str(target), place.url("big.bin"))
        assert _digest(target) == _digest(folder / "big.bin")


def test_curl_runs_many_transfers_at_once(place: Place) -> None:
    require("curl")
    with files(place):
        urls = [place.url("small.txt")] * 40
        got = place.client.run("curl", "-sS", "--parallel", *urls)
        assert got.out == "hello\n" * len(urls)


@FAMILIES
def test_wget_gets_a_file_whole(place: Place, family: int) -> None:
    require("wget")
    target = place.client.folder / "big.bin"
    with files(place) as folder:
        place.client.run(
            *("wget", "-q", "--no-proxy", "-O", str(target)),
            place.url("big.bin", family),
        )
        assert _digest(target) == _digest(folder / "big.bin")


@in_places("native", "inside", "outward")
@pytest.mark.parametrize(
    ("client", "status"),
    [(("curl", "-sS"), 7), (("wget", "-q", "-t", "1", "-O", "-"), 4)],
    ids=["curl", "wget"],
)
def test_client_is_refused_where_nobody_listens(
    place: Place, client: tuple[str, ...], status: int
) -> None:
    require(client[0])
    nowhere = f"http://{place.host}:{free_port()}/"
    place.client.run(*client, nowhere, status=status)


def test_asyncio_serves_a_thousand_clients_at_once(place: Place) -> None:
    with place.server.serve(
        SYSTEM_PYTHON, WEB_PY, "serve", str(place.listen), says="ready"
    ):
        got = place.client.run(
            *(SYSTEM_PYTHON, WEB_PY, "load", place.host, str(place.port)),
            str(CLIENTS),
            timeout=90,
        )
        assert got.out == f"served {CLIENTS}\n"


@FAMILIES
def test_node_serves_node(place: Place, family: int) -> None:
    require("node")
    script = str(PROGRAMS / "web.js")
    with place.server.serve("node", script, "serve", str(place.listen), says="ready"):
        got = place.client.run(
            "node", script, "load", place.address(family), str(place.port)
        )
        assert got.out == "served 100\n"


@FAMILIES
def test_java_serves_java(place: Place, family: int) -> None:
    require("java", optional=True)
    java = ("java", "-Xshare:auto", str(PROGRAMS / "Web.java"))
    with place.server.serve(*java, "serve", str(place.listen), says="ready"):
        got = place.client.run(
            *java, "load", place.address(family), str(place.port), "50", timeout=60
        )
        assert got.out == "served 50\n"


@pytest.fixture(scope="module")
def go_web() -> Iterator[Path]:
    """Build the Go program without C."""
    with built_go("web.go", cgo=False) as program:
        yield program


@FAMILIES
def test_static_go_program_serves_itself(
    place: Place, family: int, go_web: Path
) -> None:
    with place.server.serve(str(go_web), "serve", str(place.listen), says="ready"):
        got = place.client.run(
            str(go_web), "load", place.address(family), str(place.port), "100"
        )
        assert got.out == "served 100\n"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
