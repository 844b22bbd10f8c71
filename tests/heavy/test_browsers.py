"""Browsers, headless and in a window, in every place.

The page (programs/page.py) reports what has arrived: all images, the echo of a
WebSocket, many requests at once. No browser asks anything of a machine but this one.
Their own sandboxes are on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.apps.lab import SYSTEM_PYTHON, Place, Program, User, in_places, require
from tests.heavy.programs import page

SERVER = str(Path(page.__file__))
WINDOW = (800, 600)
_HOSTS = ("127.0.0.1", "10.0.2.2", "[::1]", "[fd00::2]")
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


def firefox(user: User) -> list[str]:
    """Make the user a profile for Firefox and return the command that uses it."""
    profile = _folder(user, "firefox")
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
        for name, value in _PREFERENCES.items()
    ]
    (profile / "user.js").write_text("".join(lines))
    return ["firefox-esr", "--profile", str(profile)]


def chromium(user: User) -> list[str]:
    """Return Chromium's command: no connections of its own accord, no names."""
    return [
        "chromium",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-default-browser-check",
        "--no-proxy-server",
        "--host-resolver-rules=MAP * ~NOTFOUND"
        + "".join(f", EXCLUDE {host}" for host in _HOSTS),
    ]


BROWSERS = pytest.mark.parametrize("browser", [firefox, chromium])
Browser = Callable[[User], list[str]]


def _folder(user: User, name: str) -> Path:
    """Return a new folder of the user's own."""
    folder = user.folder / name
    folder.mkdir(parents=True)
    return user.own(folder)


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
    folder = _folder(user, "authority")
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


def check_picture(picture: Image.Image, left: int = 0, top: int = 0) -> None:
    """See that a picture shows the page: its images, its mark and its background."""
    shown = picture.convert("RGB")
    half = page.CELL // 2

    def pixel(column: int, row: int) -> object:
        at = (left + column * page.CELL + half, top + row * page.CELL + half)
        return shown.getpixel(at)

    grid = [divmod(number, page.COLUMNS) for number in range(page.IMAGES)]
    assert [pixel(column, row) for row, column in grid] == [
        page.colour(number) for number in range(page.IMAGES)
    ]
    assert pixel(0, page.IMAGES // page.COLUMNS) == page.DONE
    assert pixel(page.COLUMNS, 0) == (255, 255, 255)


@BROWSERS
@pytest.mark.parametrize("scheme", ["http", "https"])
@in_places("native", "inside", "outward", "inward", "across")
def test_browser_loads_a_page(place: Place, browser: Browser, scheme: str) -> None:
    user = place.client.user
    argv = browser(user)
    require(argv[0])
    serve = [SYSTEM_PYTHON, SERVER, str(place.listen)]
    if scheme == "https":
        authority = make_authority(user, place.host)
        authority.trust(user, _store(user, browser))
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


def _store(user: User, browser: Browser) -> Path:
    """Return the folder in which a browser keeps whom the user trusts."""
    if browser is firefox:
        return user.folder / "firefox"
    return _folder(user, ".pki/nssdb")


def _screenshot(browser: Browser, picture: Path) -> list[str]:
    if browser is chromium:
        return [f"--screenshot={picture}"]
    return ["--screenshot", str(picture)]
