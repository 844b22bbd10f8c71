"""apt and pip, which fetch from a repository at the other end."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

from tests.apps.lab import SYSTEM_PYTHON, Place, Site, in_places, require
from tests.apps.test_servers import nginx

PACKAGES = 20
PAYLOAD = 500_000
APT = """
Dir "{folder}";
Dir::State::status "{folder}/status";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Bin::methods "/usr/lib/apt/methods";
Dir::Log "{folder}";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::http::Proxy "DIRECT";
"""
METADATA = """Metadata-Version: 2.1
Name: {name}
Version: 1.0
"""


@in_places("native", "inside", "outward")
def test_apt_fetches_packages(place: Place) -> None:
    require("nginx", "apt-get", "apt-ftparchive", "dpkg-deb")
    serve = nginx(place, "")
    www, folder = place.server.folder / "www", place.client.folder
    for number in range(PACKAGES):
        _make_deb(place.server, www, f"umt{number}")
    for what in ("packages", "release"):
        made = place.server.run("apt-ftparchive", what, str(www)).out
        made = made.replace(f"Filename: {www}/", "Filename: ")
        (www / what.capitalize()).write_text(made)
    (folder / "sources.list").write_text(f"deb [trusted=yes] {place.url()} ./\n")
    (folder / "status").write_text("")
    for name in ("lib/apt/lists/partial", "cache/apt/archives/partial"):
        (folder / "var" / name).mkdir(parents=True)
    for name in ("apt.conf.d", "preferences.d"):
        (folder / "etc" / "apt" / name).mkdir(parents=True)
    for path in folder.rglob("*"):
        place.client.user.own(path)
    configuration = folder / "apt.conf"
    configuration.write_text(APT.format(folder=folder))
    apt = ("env", f"APT_CONFIG={configuration}", "apt-get", "-q")
    with place.server.serve(*serve, port=place.listen):
        got = place.client.run(*apt, "update")
        assert "Err:" not in got.out, got
        names = [f"umt{number}" for number in range(PACKAGES)]
        place.client.run(*apt, "install", "-y", "--download-only", *names)
    fetched = folder / "var/cache/apt/archives"
    for name in names:
        file = f"{name}_1.0_all.deb"
        assert (fetched / file).read_bytes() == (www / file).read_bytes()


@in_places("native", "inside", "outward")
def test_pip_installs_packages(place: Place) -> None:
    index = place.server.folder / "simple"
    for number in range(PACKAGES):
        needs = f"umt{number + 1}" if number + 1 < PACKAGES else ""
        _make_wheel(index, f"umt{number}", needs)
    target = place.client.folder / "installed"
    with place.server.serve(
        *(SYSTEM_PYTHON, "-m", "http.server", "--bind", "::"),
        *("--directory", str(place.server.folder), str(place.listen)),
        port=place.listen,
    ):
        place.client.run(
            *("env", f"PIP_CONFIG_FILE={os.devnull}", sys.executable, "-m", "pip"),
            *("install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"),
            *("--target", str(target), "--index-url", place.url("simple")),
            *("--trusted-host", place.host, "umt0"),
            timeout=60,
        )
    for number in range(PACKAGES):
        assert (target / f"umt{number}.py").read_text() == f"NUMBER = 'umt{number}'\n"


def _make_deb(site: Site, www: Path, name: str) -> None:
    tree = site.folder / "tree" / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: test\n"
    )
    (tree / "payload").write_bytes(os.urandom(PAYLOAD))
    site.user.own(www)
    site.run("dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(www))


def _make_wheel(index: Path, name: str, needs: str) -> None:
    (index / name).mkdir(parents=True)
    info = f"{name}-1.0.dist-info"
    metadata = METADATA.format(name=name) + (f"Requires-Dist: {needs}\n" * bool(needs))
    with zipfile.ZipFile(index / name / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"NUMBER = '{name}'\n")
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
