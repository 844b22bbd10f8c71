"""Browsers, headless and in a window.

The page (programs/page.py) reports what has arrived: all images, the echo of a
WebSocket, many requests at once. No browser asks anything of a machine but this one.
Their own sandboxes are on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from PIL import Image, ImageGrab

from tests.apps.lab import (
    SYSTEM_PYTHON,
    Place,
    Program,
    Site,
    User,
    in_places,
    open_place,
    require,
)
from tests.heavy.programs import page

SERVER = str(Path(page.__file__))
WINDOW = (800, 600)
_HOSTS = ("127.0.0.1", "10.0.2.2", "10.0.0.1", "[::1]", "[fd00::2]", "[fd00:0::1]")
# Firefox: no first-run pages, no connections of its own accord, no names.
_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.allow_scripts_to_close_windows": True,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disabled": True,
    "network.proxy.type": 0,
    "services.settings.server": "data:,none",
    "toolkit.telemetry.server": "data:,none",
}


def firefox(site: Site) -> list[str]:
    """Make a profile for Firefox and return the command that uses it."""
    profile = _folder(site.user, _profile(site))
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
        for name, value in _PREFERENCES.items()
    ]
    (profile / "user.js").write_text("".join(lines))
    return ["firefox-esr", "--profile", str(profile)]


def chromium(site: Site) -> list[str]:
    """Return Chromium's command: no connections of its own accord, no names.

    It refuses to start without its sandbox unless that is asked for.
    """
    return [
        "chromium",
        *([] if _has_namespaces(site.user) else ["--no-sandbox"]),
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
        "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND"
        + "".join(f", EXCLUDE {host}" for host in _HOSTS),
    ]


def surf(_site: Site) -> list[str]:
    """Return the command of a small browser with GTK's WebKit."""
    return ["surf"]


def _has_namespaces(user: User) -> bool:
    """Return whether the machine gives its users what the sandboxes are made of."""
    return user.run(["unshare", "--user", "true"], "native").returncode == 0


BROWSERS = pytest.mark.parametrize("browser", [firefox, chromium])
Browser = Callable[[Site], list[str]]


def _profile(site: Site) -> Path:
    return site.folder / "firefox"


def _folder(user: User, path: Path) -> Path:
    """Make a folder that is the user's own, and return it."""
    path.mkdir(parents=True)
    return user.own(path)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of one test, and a server's certificate by it."""

    root: Path
    certificate: Path
    key: Path

    def trust(self, user: User, store: Path) -> None:
        """Let a browser that keeps its certificates in a folder trust the authority."""
        database = f"sql:{store}"
        if not (store / "cert9.db").exists():
            _run(user, "certutil", "-N", "--empty-password", "-d", database)
        _run(
            user,
            *("certutil", "-A", "-d", database, "-n", "test", "-t", "C,,"),
            *("-i", str(self.root)),
        )


def make_authority(user: User, *addresses: str) -> Authority:
    """Make an authority and a certificate for a server at these addresses."""
    require("openssl", "certutil")
    folder = _folder(user, user.folder / "authority")
    root, root_key = folder / "root.pem", folder / "root.key"
    certificate, key = folder / "server.pem", folder / "server.key"
    make = ("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "3")
    curve = ("-pkeyopt", "ec_paramgen_curve:P-256")
    names = ",".join(f"IP:{address}" for address in addresses)
    _run(
        user,
        *(*make, *curve, "-subj", "/CN=umview test authority"),
        *("-addext", "basicConstraints=critical,CA:TRUE"),
        *("-keyout", str(root_key), "-out", str(root)),
    )
    _run(
        user,
        *(*make, *curve, "-subj", "/CN=umview test server"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", f"subjectAltName={names}"),
        *("-CA", str(root), "-CAkey", str(root_key)),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    return Authority(root, certificate, key)


def _run(user: User, *argv: str) -> None:
    made = user.run(argv, "native")
    assert made.returncode == 0, made.stderr


def check_report(server: Program) -> None:
    """See that all has arrived: by the page's own report, and by the server's log."""
    log = server.wait_for("}\n")
    report = json.loads(log[log.index("{") : log.index("}\n") + 1])
    assert report == {
        "images": [page.CELL] * page.IMAGES,
        "requests": [page.SIZE] * page.REQUESTS,
        "echo": ["word", page.MESSAGE, True],
    }
    for kind, count in (("image", page.IMAGES), ("data", page.REQUESTS)):
        asked = re.findall(rf'"GET /{kind}/(\d+) HTTP/1.1" 200', log)
        assert sorted(map(int, asked)) == list(range(count))


def check_picture(picture: Image.Image) -> None:
    """See that a picture shows the page: its images, its mark and its background."""
    shown = picture.convert("RGB")
    half = page.CELL // 2

    def pixel(column: int, row: int) -> object:
        return shown.getpixel((column * page.CELL + half, row * page.CELL + half))

    grid = [divmod(number, page.COLUMNS) for number in range(page.IMAGES)]
    assert [pixel(column, row) for row, column in grid] == [
        page.colour(number) for number in range(page.IMAGES)
    ]
    assert pixel(0, page.IMAGES // page.COLUMNS) == page.DONE
    assert pixel(page.COLUMNS, 0) == (255, 255, 255)


@BROWSERS
@pytest.mark.parametrize("scheme", ["http", "https"])
@in_places("native", "outward", "across")
def test_browser_loads_a_page(place: Place, browser: Browser, scheme: str) -> None:
    user = place.client.user
    argv = browser(place.client)
    require(argv[0])
    serve = [SYSTEM_PYTHON, SERVER, str(place.listen)]
    if scheme == "https":
        authority = make_authority(user, place.host)
        authority.trust(user, _store(place.client, browser))
        serve += [str(authority.certificate), str(authority.key)]
    picture = place.client.folder / "page.png"
    with place.server.serve(*serve, says="ready") as server:
        place.client.run(
            *argv,
            *("--headless", f"--window-size={WINDOW[0]},{WINDOW[1]}"),
            *_screenshot(browser, picture),
            f"{scheme}://{place.host}:{place.port}/",
            timeout=50,
        )
        check_report(server)
    with Image.open(picture) as image:
        check_picture(image)


@BROWSERS
def test_browser_has_the_sandbox_that_it_has_natively(
    user: User, browser: Browser
) -> None:
    if not _has_namespaces(user):
        pytest.skip("users may not make namespaces on this machine")
    native, view = (_sandbox(user, browser, name) for name in ("native", "inside"))
    assert view == native
    assert native > (0, 0)


def _sandbox(user: User, browser: Browser, name: str) -> tuple[int, int]:
    """Return how the process that shows a page is locked up.

    Returns:
        How many of its namespaces are not the host's, and how many seccomp filters it
        has besides the view's own.
    """
    with open_place(user, name) as place:
        argv = browser(place.client)
        require(argv[0])
        serve = (SYSTEM_PYTHON, SERVER, str(place.listen))
        with place.server.serve(*serve, says="ready") as server:
            shown = place.client.begin(*argv, "--headless", place.url())
            check_report(server)
            # The best of them: some are made in advance and are not ready yet.
            namespaces, filters = max(_locks())
            shown.end()
    return namespaces, filters - (name != "native")


def _locks() -> Iterator[tuple[int, int]]:
    """Yield how the processes of browsers that show pages, or will, are locked up."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            argv = process.cmdline()
            if "--type=renderer" in argv or argv[-1:] == ["tab"]:
                yield _lock(Path(f"/proc/{process.pid}"))


def _lock(process: Path) -> tuple[int, int]:
    """Return how many namespaces a process has to itself, and how many filters."""
    namespaces = sum(
        os.readlink(process / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}")
        for kind in ("net", "pid", "user")
    )
    found = re.search(r"Seccomp_filters:\s*(\d+)", (process / "status").read_text())
    return namespaces, int(found[1]) if found else 0


@pytest.fixture
def display(user: User) -> Iterator[str]:
    """Run an X server on the host, without privileges, and give its display."""
    require("Xvfb")
    size = f"{WINDOW[0]}x{WINDOW[1]}x24"
    argv = ["Xvfb", "-displayfd", "1", "-screen", "0", size, "-nolisten", "tcp"]
    with user.popen(
        argv, "native", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        yield f":{server.stdout.readline().strip()}"
        server.terminate()
        server.wait(10)


@pytest.mark.parametrize("browser", [firefox, chromium, surf])
@in_places("native", "inside")
def test_browser_shows_a_window(place: Place, browser: Browser, display: str) -> None:
    argv = browser(place.client)
    require(argv[0])
    serve = (SYSTEM_PYTHON, SERVER, str(place.listen))
    with place.server.serve(*serve, says="ready") as server:
        shown = place.client.begin(
            *("env", f"DISPLAY={display}", *argv),
            *([] if browser is surf else ["--kiosk"]),
            place.url("?close"),
        )
        try:
            check_report(server)
            _wait_for_picture(display)
            place.client.run("curl", "-sS", place.url("close"))
            assert shown.finish().status == 0, shown.said()
        finally:
            shown.end()


def _wait_for_picture(display: str) -> None:
    """Wait until the page can be seen on a display."""
    deadline = time.monotonic() + 20
    while True:
        picture = ImageGrab.grab(xdisplay=display)
        try:
            check_picture(picture)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _store(site: Site, browser: Browser) -> Path:
    """Return the folder in which a browser keeps whom the user trusts."""
    if browser is firefox:
        return _profile(site)
    return _folder(site.user, site.user.folder / ".pki" / "nssdb")


def _screenshot(browser: Browser, picture: Path) -> list[str]:
    if browser is chromium:
        return [f"--screenshot={picture}"]
    return ["--screenshot", str(picture)]
