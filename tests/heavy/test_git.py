"""Git over its own protocol, http (lighttpd and CGI) and ssh, with a big repository."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apps.lab import Place, Site, in_places, require
from tests.heavy.test_remote import shell

BLOB = 16 << 20
FILES = 2000
COMMITS = 200
LIGHTTPD = """
server.modules = ("mod_alias", "mod_cgi", "mod_setenv")
server.document-root = "{folder}"
server.bind = "0.0.0.0"
server.port = {port}
server.upload-dirs = ("{folder}")
$SERVER["socket"] == "[::]:{port}" {{ }}
alias.url = ("/git/" => "/usr/lib/git-core/git-http-backend/")
cgi.assign = ("" => "")
setenv.add-environment = (
    "GIT_PROJECT_ROOT" => "{folder}", "GIT_HTTP_EXPORT_ALL" => "1"
)
"""
Road = Callable[[Place], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def by_daemon(place: Place) -> Iterator[str]:
    """Serve the folder of repositories with git-daemon; give the URL of one."""
    with place.server.serve(
        *("git", "daemon", f"--port={place.listen}", "--export-all", "--reuseaddr"),
        *(f"--base-path={place.server.folder}", "--enable=receive-pack"),
        port=place.listen,
    ):
        yield f"git://{place.host}:{place.port}/big.git"


@contextlib.contextmanager
def by_http(place: Place) -> Iterator[str]:
    """Serve it with git's CGI program."""
    require("lighttpd")
    configuration = place.server.folder / "lighttpd.conf"
    configuration.write_text(
        LIGHTTPD.format(folder=place.server.folder, port=place.listen)
    )
    with place.server.serve(
        "lighttpd", "-D", "-f", str(configuration), port=place.listen
    ):
        yield place.url("git/big.git", 6)


@contextlib.contextmanager
def by_ssh(place: Place) -> Iterator[str]:
    """Serve it with sshd."""
    with shell(place) as options:
        git(place.client, "config", "--global", "core.sshCommand", f"ssh {options}")
        yield f"there:{place.server.folder}/big.git"


@in_places("native", "inside", "outward")
@pytest.mark.parametrize("road", [by_daemon, by_http, by_ssh])
def test_repository_is_cloned_and_pushed(place: Place, road: Road) -> None:
    require("git")
    tip = make_repository(place.server)
    copy = place.client.folder / "copy"
    with road(place) as url:
        git(place.client, "clone", "-q", url, str(copy))
        assert git(place.client, "-C", str(copy), "rev-parse", "HEAD") == tip
        git(place.client, "-C", str(copy), "fsck", "--full", "--strict")
        (copy / "new.bin").write_bytes(os.urandom(BLOB // 4))
        for command in (
            ("add", "."),
            ("-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-qm", "new"),
            ("push", "-q", "origin", "main:other"),
        ):
            git(place.client, "-C", str(copy), *command)
        git(place.client, "-C", str(copy), "fetch", "-q", "origin")
    pushed = git(place.client, "-C", str(copy), "rev-parse", "HEAD")
    assert git(place.client, "-C", str(copy), "rev-parse", "origin/other") == pushed
    there = str(place.server.folder / "big.git")
    assert git(place.server, "-C", there, "rev-parse", "other") == pushed


def git(site: Site, *words: str) -> str:
    """Run git at a site and return what it says."""
    return site.run("git", *words, timeout=60).out.strip()


def make_repository(site: Site) -> str:
    """Make the repository big.git in the site's folder; return its last commit."""
    path = str(site.folder / "big.git")
    git(site, "init", "-q", "--bare", "-b", "main", path)
    git(site, "-C", path, "config", "http.receivepack", "true")
    stream = site.folder / "stream"
    _write_history(stream)
    site.run("git", "-C", path, "fast-import", "--quiet", stdin=stream)
    return git(site, "-C", path, "rev-parse", "main")


def _write_history(stream: Path) -> None:
    """Write what git fast-import reads: many small commits, and one big file."""
    with stream.open("wb") as out:
        for commit in range(COMMITS):
            out.write(b"commit refs/heads/main\n")
            out.write(b"committer A <a@b.c> %d +0000\n" % (1_700_000_000 + commit))
            out.write(b"data 4\nwork\n")
            for number in range(commit, FILES, COMMITS):
                text = b"file %d of commit %d\n" % (number, commit) * 20
                out.write(b"M 644 inline dir%d/file%d\n" % (number % 50, number))
                out.write(b"data %d\n%s\n" % (len(text), text))
        out.write(b"M 644 inline big.bin\ndata %d\n" % BLOB)
        out.write(os.urandom(BLOB) + b"\n")
