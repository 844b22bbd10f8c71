"""Servers that people run, loaded by the tools that measure them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.apps.lab import Place, require

NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    sendfile on;
    tcp_nopush on;
    server {{
        listen {port}{reuse};
        listen [::]:{port}{reuse};
        root {folder}/www;
        location /down/ {{ proxy_pass http://127.0.0.1:{port}/; }}
    }}
}}
"""


def nginx(place: Place, reuse: str, port: int | None = None) -> tuple[str, ...]:
    """Write nginx's configuration and return its command.

    Args:
        place: Where it is to serve.
        reuse: Further options of its listeners.
        port: Which port it binds, if not the place's.
    """
    folder = place.server.folder
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("hello from nginx\n")
    (folder / "www" / "big.bin").write_bytes(bytes(range(256)) * (4 << 12))
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, port=port or place.listen, reuse=reuse))
    return ("nginx", "-p", str(folder), "-e", "stderr", "-c", str(path))


@pytest.mark.parametrize("reuse", ["", " reuseport"], ids=["shared", "reuseport"])
def test_wrk_loads_nginx(place: Place, reuse: str) -> None:
    require("nginx", "wrk")
    with place.server.serve(*nginx(place, reuse), port=place.listen):
        got = place.client.run("wrk", "-t", "2", "-c", "50", "-d", "2s", place.url())
    assert "Socket errors" not in got.out, got.out
    assert "Non-2xx" not in got.out, got.out
    found = re.search(r"(\d+) requests in", got.out)
    assert found is not None, got.out
    assert int(found[1]) > 500


def test_nginx_sends_files_and_passes_requests_on(place: Place) -> None:
    require("nginx", "curl")
    with place.server.serve(*nginx(place, ""), port=place.listen):
        target = place.client.folder / "big.bin"
        for path in ("big.bin", "down/big.bin"):
            place.client.run("curl", "-sS", "-o", str(target), place.url(path))
            assert target.read_bytes() == bytes(range(256)) * (4 << 12)
        got = place.client.run("curl", "-sS", place.url("", 6), place.url("down/"))
        assert got.out == "hello from nginx\n" * 2


def redis(place: Place) -> tuple[str, ...]:
    """Return redis-server's command."""
    folder: Path = place.server.folder
    return (
        *("redis-server", "--port", str(place.listen), "--bind", "*", "-::*"),
        *("--dir", str(folder), "--save", "", "--protected-mode", "no"),
    )


def test_redis_benchmark_loads_redis_server(place: Place) -> None:
    require("redis-server", "redis-benchmark")
    with place.server.serve(*redis(place), says="Ready to accept connections"):
        at = ("-h", place.host, "-p", str(place.port))
        got = place.client.run(
            *("redis-benchmark", *at, "--csv", "-n", "5000", "-c", "50"),
            *("-t", "ping,set,get,lpush,mset"),
        )
        assert "error" not in (got.out + got.err).lower(), got
        assert {"SET", "GET", "LPUSH"} <= set(
            re.findall(r'^"(\w+)"', got.out, re.MULTILINE)
        )
        assert "PING_INLINE" in got.out


def test_redis_cli_pipes_and_subscribes(place: Place) -> None:
    require("redis-server", "redis-cli")
    with place.server.serve(*redis(place), says="Ready to accept connections"):
        cli = ("redis-cli", "-h", place.host, "-p", str(place.port))
        ears = place.client.begin(*cli, "subscribe", "news")
        ears.wait_for("subscribe\nnews\n1")
        assert place.client.run(*cli, "publish", "news", "word").out == "1\n"
        ears.wait_for("message\nnews\nword")
        ears.end()
        commands = place.client.folder / "commands"
        commands.write_text("".join(f"SET key{n} {n}\n" for n in range(2000)))
        got = place.client.run(*cli, "--pipe", stdin=commands)
        assert "errors: 0, replies: 2000" in got.out
        assert place.client.run(*cli, "get", "key1999").out == "1999\n"
