"""Servers that share a listener between processes or threads, and pass it on."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apps.lab import Place, Program, free_port, in_places, require
from tests.apps.test_servers import nginx

PROGRAMS = Path(__file__).with_name("programs")
REQUESTS = 3000
VIEWS_OF_SERVERS = in_places("native", "inside", "inward")
Command = tuple[str, ...]
APACHE = """
ServerRoot "{folder}"
ServerName localhost
PidFile "{folder}/apache.pid"
ErrorLog /dev/stderr
DefaultRuntimeDir "{folder}"
LoadModule mpm_{model}_module /usr/lib/apache2/modules/mod_mpm_{model}.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
Listen {port}
DocumentRoot "{folder}/www"
StartServers 3
ListenCoresBucketsRatio 1
"""
HAPROXY = """
global
    stats socket {folder}/haproxy.sock level admin expose-fd listeners
    maxconn 2000
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
frontend in
    bind :::{port} v4v6
    default_backend out
backend out
    server one 127.0.0.1:{behind}
"""


def apache(model: str) -> Callable[[Place], tuple[Command, str]]:
    """Return what makes the command of Apache with one of its process models."""

    def make(place: Place) -> tuple[Command, str]:
        require("apache2")
        folder = _folder_with_page(place)
        path = folder / "apache.conf"
        path.write_text(APACHE.format(folder=folder, port=place.listen, model=model))
        return (
            "apache2",
            "-DFOREGROUND",
            "-f",
            str(path),
        ), "resuming normal operations"

    return make


def cluster(policy: str) -> Callable[[Place], tuple[Command, str]]:
    """Return what makes the command of Node's cluster."""

    def make(place: Place) -> tuple[Command, str]:
        require("node")
        script = str(PROGRAMS / "cluster.js")
        return ("node", script, str(place.listen), policy), "ready"

    return make


def gunicorn(place: Place) -> tuple[Command, str]:
    require("gunicorn")
    return (
        *("gunicorn", "-w", "3", "-b", f"[::]:{place.listen}", "--backlog", "1024"),
        *("--chdir", str(PROGRAMS), "--worker-tmp-dir", str(place.server.folder)),
        "wsgi",
    ), "Booting worker"


def uwsgi(place: Place) -> tuple[Command, str]:
    require("uwsgi")
    return (
        *("uwsgi", "--plugin", "python3", "--wsgi-file", str(PROGRAMS / "wsgi.py")),
        *("--http-socket", f"[::]:{place.listen}", "-p", "3", "--master"),
        "--die-on-term",
    ), "spawned uWSGI worker 3"


def php(place: Place) -> tuple[Command, str]:
    require("php")
    script = str(PROGRAMS / "index.php")
    return (
        *("env", "PHP_CLI_SERVER_WORKERS=3"),
        *("php", "-S", f"[::]:{place.listen}", script),
    ), "started"


def perl(place: Place) -> tuple[Command, str]:
    require("perl")
    return ("perl", str(PROGRAMS / "prefork.pl"), str(place.listen)), "ready"


def ruby(place: Place) -> tuple[Command, str]:
    require("ruby")
    return ("ruby", str(PROGRAMS / "threads.rb"), str(place.listen)), "ready"


def java(place: Place) -> tuple[Command, str]:
    require("java")
    return ("java", str(PROGRAMS / "Pool.java"), str(place.listen)), "ready"


SERVERS = {
    "apache-event": apache("event"),
    "apache-prefork": apache("prefork"),
    "apache-worker": apache("worker"),
    "gunicorn": gunicorn,
    "java-pool": java,
    "node-accepts-each": cluster("none"),
    "node-passes-on": cluster("rr"),
    "perl-prefork": perl,
    "php-workers": php,
    "ruby-threads": ruby,
    "uwsgi": uwsgi,
}


@in_places("native", "inside")
@pytest.mark.parametrize("name", SERVERS)
def test_workers_share_the_connections(place: Place, name: str) -> None:
    require("ab")
    command, says = SERVERS[name](place)
    with place.server.serve(*command, says=says, port=place.listen):
        check(load(place))


# With reuseport a worker that ends takes what waits in its queue along, on Linux too.
@VIEWS_OF_SERVERS
def test_nginx_reloads_under_load(place: Place) -> None:
    require("nginx", "ab")
    with place.server.serve(*nginx(place, ""), port=place.listen):
        pid = (place.server.folder / "nginx.pid").read_text().strip()
        running = load(place)
        for _ in range(3):
            place.server.run("kill", "-HUP", pid)
        check(running)
        check(load(place))


@in_places("native", "inside")
def test_nginx_is_replaced_under_load(place: Place) -> None:
    require("nginx", "ab")
    old = place.server.folder / "nginx.pid"
    # It obeys only when its parent is not the one that it was started by.
    command = " ".join(nginx(place, "")[1:])
    orphan = f"$(command -v nginx) {command} & until [ -s {old} ]; do sleep 0.1; done"
    with place.server.serve("sh", "-c", orphan, port=place.listen) as parent:
        parent.finish()
        pid = old.read_text().strip()
        running = load(place)
        place.server.run("kill", "-USR2", pid)
        new = _another(old, pid)
        place.server.run("kill", "-QUIT", pid)
        check(running)
        check(load(place))
        place.server.run("kill", "-QUIT", new)


@VIEWS_OF_SERVERS
def test_haproxy_passes_its_listener_to_the_next(place: Place) -> None:
    require("haproxy", "nginx", "ab")
    folder = place.server.folder
    behind = 8090 if place.server.where == "view" else free_port()
    path, master = folder / "haproxy.cfg", folder / "master.sock"
    path.write_text(HAPROXY.format(folder=folder, port=place.listen, behind=behind))
    with (
        place.server.serve(*nginx(place, "", behind), port=behind),
        place.server.serve(
            *("haproxy", "-W", "-db", "-S", str(master), "-f", str(path)),
            port=place.listen,
        ) as haproxy,
    ):
        running = load(place)
        # The first process is away for a moment while it executes itself anew.
        reload = f"until echo reload | socat - UNIX:{master}; do sleep 0.1; done"
        for _ in range(2):
            place.server.run("sh", "-c", reload)
        check(running)
        check(load(place))
        haproxy.wait_for("New worker", times=3)


def load(place: Place) -> Program:
    """Start a client that opens a connection for every request."""
    return place.client.begin(
        *("ab", "-q", "-r", "-s", "20", "-n", str(REQUESTS), "-c", "50"), place.url()
    )


def check(running: Program) -> None:
    """See that all requests of a client were answered alike."""
    got = running.finish(90)
    assert re.search(rf"Complete requests: +{REQUESTS}\n", got.out), got
    assert re.search(r"Failed requests: +0\n", got.out), got
    assert "Non-2xx" not in got.out, got


def _folder_with_page(place: Place) -> Path:
    folder = place.server.folder
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("hello\n")
    return folder


def _another(path: Path, old: str) -> str:
    """Wait until a file of a process number names another than the old."""
    deadline = time.monotonic() + 15
    while True:
        with contextlib.suppress(FileNotFoundError):
            if (new := path.read_text().strip()) not in ("", old):
                return new
        assert time.monotonic() < deadline, f"{path} goes on to name {old}"
        time.sleep(0.01)
