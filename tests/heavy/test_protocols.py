"""Protocols with a trait of their own: urgent bytes, connections back, channels."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Place, in_places, require
from tests.apps.test_servers import redis

PROGRAMS = Path(__file__).with_name("programs")
VSFTPD = """
listen=NO
listen_ipv6=YES
listen_port={port}
run_as_launching_user=YES
background=NO
seccomp_sandbox=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={folder}
ftp_username={name}
async_abor_enable=YES
connect_from_port_20=NO
xferlog_enable=NO
"""
MOSQUITTO = """
listener {port}
allow_anonymous true
log_dest stderr
log_type all
max_queued_messages 0
persistence false
"""
RSYNCD = """
use chroot = no
port = {port}
[files]
    path = {folder}
    read only = no
"""


# The data connection of an FTP server crosses no translation of addresses.
@in_places("native", "inside")
def test_ftp_server_connects_back_and_hears_an_abort(place: Place) -> None:
    require("vsftpd", "curl")
    folder = place.server.folder
    files = folder / "files"
    files.mkdir()
    (files / "small").write_text("hello\n")
    with (files / "big").open("wb") as big:
        big.truncate(64 << 20)
    name = place.server.run("id", "-un").out.strip()
    path = folder / "vsftpd.conf"
    path.write_text(VSFTPD.format(port=place.listen, folder=files, name=name))
    with place.server.serve("vsftpd", str(path), port=place.listen):
        for family in (4, 6):
            url = f"ftp://{place.address(family, url=True)}:{place.port}/small"
            for mode in ((), ("-P", "-")):
                got = place.client.run("curl", "-sS", *mode, url)
                assert got.out == "hello\n"
        got = place.client.run(
            *(SYSTEM_PYTHON, str(PROGRAMS / "abort.py"), place.host, str(place.port))
        )
    # The transfer was cut short, the abort done, and the server goes on.
    assert got.out == "426\n226\n200\n"


@in_places("native", "inside", "outward")
def test_h2load_sends_many_requests_over_few_connections(place: Place) -> None:
    require("nghttpd", "h2load", "curl")
    www = place.server.folder / "www"
    www.mkdir()
    (www / "index.html").write_text("hello\n")
    (www / "big").write_bytes(os.urandom(8 << 20))
    with place.server.serve(
        *("nghttpd", "--no-tls", "-d", str(www), "-n", "2", str(place.listen)),
        port=place.listen,
    ):
        got = place.client.run(
            "h2load", "-n", "10000", "-c", "50", "-m", "20", place.url("index.html", 6)
        )
        assert "10000 succeeded, 0 failed" in got.out, got
        target = place.client.folder / "big"
        place.client.run(
            *("curl", "-sS", "--http2-prior-knowledge", "-o", str(target)),
            place.url("big"),
        )
        assert target.read_bytes() == (www / "big").read_bytes()


@in_places("native", "inside", "inward")
def test_redis_serves_a_crowd(place: Place) -> None:
    require("redis-server", "redis-benchmark")
    with place.server.serve(*redis(place), says="Ready to accept connections"):
        got = place.client.run(
            *("redis-benchmark", "-h", place.host, "-p", str(place.port), "--csv"),
            *("-n", "20000", "-c", "1000", "-t", "set,get"),
            timeout=60,
        )
    assert "error" not in (got.out + got.err).lower(), got
    assert '"GET"' in got.out


@in_places("native", "inside", "outward")
@pytest.mark.parametrize("quality", ["0", "2"])
def test_mqtt_broker_passes_messages_on(place: Place, quality: str) -> None:
    require("mosquitto", "mosquitto_pub", "mosquitto_sub")
    path = place.server.folder / "mosquitto.conf"
    path.write_text(MOSQUITTO.format(port=place.listen))
    at = ("-h", place.host, "-p", str(place.port), "-q", quality, "-t", "news")
    lines = "".join(f"word {number}\n" for number in range(1000))
    source = place.client.folder / "lines"
    source.write_text(lines)
    with place.server.serve("mosquitto", "-c", str(path), port=place.listen) as broker:
        ears = [
            place.client.begin(
                *("mosquitto_sub", *at, "-i", f"ear{number}", "-C", "1000", "-W", "30")
            )
            for number in range(5)
        ]
        for number in range(5):
            broker.wait_for(f"Sending SUBACK to ear{number}")
        place.client.run("mosquitto_pub", *at, "-l", stdin=source)
        for ear in ears:
            assert ear.finish(40).out == lines


@in_places("native", "inside", "inward")
def test_rsync_daemon_takes_and_gives_files(place: Place) -> None:
    require("rsync")
    there, here = place.server.folder / "files", place.client.folder / "here"
    for folder in (there, here):
        folder.mkdir()
        place.server.user.own(folder)
    for number in range(200):
        (here / f"file{number}").write_bytes(os.urandom(20_000))
    path = place.server.folder / "rsyncd.conf"
    path.write_text(RSYNCD.format(port=place.listen, folder=there))
    url = f"rsync://{place.host}:{place.port}/files/"
    back = place.client.folder / "back"
    with place.server.serve(
        "rsync", "--daemon", "--no-detach", f"--config={path}", port=place.listen
    ):
        place.client.run("rsync", "-a", f"{here}/", url)
        place.client.run("rsync", "-a", url, f"{back}/")
    for file in here.iterdir():
        assert (back / file.name).read_bytes() == file.read_bytes()


@in_places("native", "inside", "outward")
def test_gdb_steers_a_program_at_the_other_end(place: Place) -> None:
    require("gdb", "gdbserver")
    with place.server.serve(
        *("gdbserver", f":{place.listen}", "/usr/bin/printf", "through %s", "gdb"),
        says="Listening on port",
    ) as server:
        got = place.client.run(
            *("gdb", "-nx", "-batch", "-ex", "set sysroot /"),
            *("-ex", f"target remote {place.host}:{place.port}"),
            *("-ex", "catch syscall write", "-ex", "continue", "-ex", "info registers"),
            *("-ex", "delete", "-ex", "continue"),
        )
        assert "exited normally" in got.out, got
        assert "call to syscall write" in got.out, got
        server.wait_for("through gdb")
