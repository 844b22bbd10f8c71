"""Programs whose server is in one view and whose client in another, on one switch.

What tests/apps has for every place runs there as well (UMVIEW_PLACES=ethernet); here is
what only an Ethernet shows, or what loads it more.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Place, User, in_places, require
from tests.stacks.lab import open_host
from tests.switch import Switch

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
ON_ETHERNET = in_places("ethernet")
SIZE = 16 << 20
NGINX = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    log_format plain "$connection $server_protocol $status";
    access_log {folder}/log plain;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    sendfile on;
    server {{
        listen [::]:80 ipv6only=off;
        listen [::]:443 ipv6only=off ssl http2;
        root {folder}/www;
        location /up/ {{ dav_methods PUT; }}
    }}
    server {{
        listen unix:{folder}/sock;
        return 200 "beside\\n";
    }}
}}
"""
# All speak, three times, before the first is closed.
CROWD = """
import asyncio, sys
host, count = sys.argv[1], int(sys.argv[2])
async def main():
    ends = await asyncio.gather(*(asyncio.open_connection(host, 80)
        for _ in range(count)))
    for turn in range(3):
        for number, (_, writer) in enumerate(ends):
            writer.write(b"%d %d\\n" % (turn, number))
        lines = await asyncio.gather(*(reader.readline() for reader, _ in ends))
        assert lines == [b"%d %d\\n" % (turn, n) for n in range(count)]
    for _, writer in ends:
        writer.close()
    await asyncio.gather(*(reader.read() for reader, _ in ends))
    print("echoed", len(ends))
asyncio.run(main())
"""
ECHO = """
import asyncio
async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "::", 80, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def nginx(place: Place) -> Iterator[Path]:
    """Serve a folder by HTTP, HTTPS and a unix socket; give the server's folder."""
    require("nginx", "openssl", "curl")
    folder = place.server.folder
    for name in ("www", "www/up"):
        (folder / name).mkdir()
        place.server.user.own(folder / name)
    place.server.run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=test", "-addext"),
        f"subjectAltName=IP:{place.host},IP:{place.host6}",
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    )
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder))
    command = ("nginx", "-p", str(folder), "-e", "stderr", "-c", str(path))
    with place.server.serve(*command, port=443):
        yield folder


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@ON_ETHERNET
@FAMILIES
def test_much_goes_both_ways_whole(place: Place, family: int) -> None:
    back = place.client.folder / "back"
    sent = place.client.folder / "sent"
    sent.write_bytes(os.urandom(SIZE))
    with nginx(place) as folder:
        url = place.url("up/file", family)
        place.client.run("curl", "-sSfg", "-T", str(sent), url, timeout=120)
        there = folder / "www" / "up" / "file"
        assert _digest(there) == _digest(sent)
        place.client.run("curl", "-sSfg", "-o", str(back), url, timeout=120)
        assert _digest(back) == _digest(sent)


@ON_ETHERNET
def test_curl_speaks_all_that_nginx_does(place: Place) -> None:
    data = os.urandom(300_000)
    got = [place.client.folder / f"got{number}" for number in range(8)]
    with nginx(place) as folder:
        (folder / "www" / "file").write_bytes(data)
        curl = ("curl", "-sSfg", "--cacert", str(folder / "cert.pem"))
        # One connection for all, then the same by TLS, and as streams of HTTP/2.
        for scheme, version in (
            ("http", "--http1.1"),
            ("https", "--http1.1"),
            ("https", "--http2"),
        ):
            for family in (4, 6):
                url = f"{scheme}://{place.address(family, url=True)}/file"
                outputs = [word for path in got for word in ("-o", str(path), url)]
                log = folder / "log"
                log.write_text("")
                parallel = ("-Z",) if version == "--http2" else ()
                place.client.run(*curl, version, *parallel, *outputs)
                assert all(path.read_bytes() == data for path in got)
                lines = [line.split() for line in log.read_text().splitlines()]
                assert len({connection for connection, _, _ in lines}) == 1
                wanted = "HTTP/2.0" if version == "--http2" else "HTTP/1.1"
                assert {how for _, how, _ in lines} == {wanted}
        place.client.run(*curl, "-r", "1000-1999", "-o", str(got[0]), place.url("file"))
        assert got[0].read_bytes() == data[1000:2000]
        beside = place.server.run(
            "curl", "-sS", "--unix-socket", str(folder / "sock"), "http://unix/"
        )
        assert beside.out == "beside\n"


@ON_ETHERNET
def test_a_thousand_connections_are_open_at_once(place: Place) -> None:
    with place.server.serve(SYSTEM_PYTHON, "-c", ECHO, says="ready"):
        got = place.client.run(
            *(SYSTEM_PYTHON, "-c", CROWD, place.host6, "1000"), timeout=120
        )
    assert got.out == "echoed 1000\n"


@ON_ETHERNET
@pytest.mark.parametrize(
    "options",
    [("-P", "8"), ("-P", "8", "-R"), ("--bidir",), ("--bidir", "-6")],
    ids=" ".join,
)
def test_iperf3_moves_bytes_in_all_streams(
    place: Place, options: tuple[str, ...]
) -> None:
    require("iperf3")
    address = place.address(6 if "-6" in options else 4)
    with place.server.serve("iperf3", "-s", "--forceflush", says="Server listening"):
        got = place.client.run(
            "iperf3", "-c", address, "-t", "2", "-J", *options, status=None, timeout=60
        )
    report = json.loads(got.out)
    assert "error" not in report, report["error"]
    streams = [stream["receiver"]["bytes"] for stream in report["end"]["streams"]]
    assert len(streams) == (2 if "--bidir" in options else 8)
    assert min(streams) > 0, streams


@ON_ETHERNET
@FAMILIES
def test_ping_of_all_sizes(place: Place, family: int) -> None:
    require("ping")
    for size, count in (("0", "3"), ("1472", "3"), ("1473", "3"), ("65000", "3")):
        got = place.client.run(
            *("ping", "-c", count, "-i", "0.01", "-W", "20", "-s", size),
            place.address(family),
        )
        assert f"{count} received, 0% packet loss" in got.out
    got = place.client.run(
        "ping", "-q", "-c", "500", "-i", "0.002", "-W", "20", place.address(family)
    )
    assert "500 packets transmitted, 500 received" in got.out


@ON_ETHERNET
@FAMILIES
def test_tracepath_finds_the_one_hop(place: Place, family: int) -> None:
    require("tracepath")
    got = place.client.run("tracepath", "-n", "-m", "3", place.address(family))
    host = ipaddress.ip_address(place.address(family)).compressed
    assert re.search(rf"\b1: +{host} .*reached", got.out), got.out
    assert "pmtu 1500" in got.out


def test_names_come_from_a_dnsmasq_in_another_view(user: User, switch: Switch) -> None:
    require("dnsmasq", "getent", "curl")
    with (
        open_host(user, "server", switch.card(1)) as server,
        open_host(
            user, "client", switch.card(2), f"dns={switch.host(1)}", "domain=test"
        ) as client,
    ):
        hosts = server.folder / "names"
        hosts.write_text(f"{switch.host(1)} www.test\n{switch.host6(1)} www.test\n")
        command = (
            *("dnsmasq", "-k", "-C", "/dev/null", "-R", "-h", "-H", str(hosts)),
            *("--local=/test/", "--log-facility=-", "--user=", "--group=", "-x", ""),
        )
        page = ("-m", "http.server", "-d", str(server.folder), "--bind", "::", "80")
        with (
            server.serve(*command, says="started, version"),
            server.serve(SYSTEM_PYTHON, *page, port=80),
        ):
            got = client.run("getent", "ahosts", "www")
            found = {
                ipaddress.ip_address(line.split()[0]) for line in got.out.splitlines()
            }
            wanted = {switch.host(1), switch.host6(1)}
            assert {ipaddress.ip_address(host) for host in wanted} <= found
            got = client.run("curl", "-sS", "http://www.test/names")
            assert got.out == hosts.read_text()
            client.run("curl", "-sS", "http://nobody.test/", status=6)
