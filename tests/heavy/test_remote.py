"""What people do over ssh when they have a shell there: commands, files, tunnels."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.apps.lab import SYSTEM_PYTHON, Place, free_port, in_places, require
from tests.apps.test_ssh import sshd

SIZE = 5 << 20


@contextlib.contextmanager
def shell(place: Place) -> Iterator[str]:
    """Run sshd for a user with a shell at the place; give the options of a client.

    The user who runs the tests may have none, so the account is shown with one.
    """
    folder = place.server.folder
    fields = place.server.run("sh", "-c", "getent passwd $(id -u)").out.split(":")
    passwd, group = folder / "passwd", folder / "group"
    passwd.write_text(":".join([*fields[:5], str(folder), "/bin/sh"]) + "\n")
    group.write_text(f"group:x:{fields[3]}:\n")
    inside = (
        *("env", "LD_PRELOAD=libnss_wrapper.so"),
        *(f"NSS_WRAPPER_PASSWD={passwd}", f"NSS_WRAPPER_GROUP={group}"),
    )
    with sshd(place, inside=inside) as options:
        yield " ".join(options)


@in_places("native", "inside", "inward")
def test_command_runs_at_the_other_end(place: Place) -> None:
    with shell(place) as options:
        got = place.client.run(
            *("ssh", *options.split(), "there"),
            "echo $SSH_CONNECTION; seq 100000 | md5sum; exit 7",
            status=7,
        )
    where, checksum = got.out.splitlines()
    assert where.split()[3] == str(place.listen)
    assert checksum == "dea9193b768319cbb4ff1a137ac03113  -"


@in_places("native", "inside", "outward")
def test_scp_and_rsync_carry_files(place: Place) -> None:
    require("scp", "rsync")
    here, there = place.client.folder, place.server.folder / "files"
    there.mkdir()
    place.server.user.own(there)
    tree = here / "tree"
    tree.mkdir()
    for number in range(300):
        (tree / f"file{number}").write_bytes(os.urandom(1000))
    (tree / "big").write_bytes(os.urandom(SIZE))
    with shell(place) as options:
        ssh = f"ssh {options}"
        place.client.run("scp", "-q", *options.split(), f"{tree}/big", f"there:{there}")
        assert (there / "big").read_bytes() == (tree / "big").read_bytes()
        place.client.run("rsync", "-a", "-e", ssh, f"{tree}/", f"there:{there}/")
        place.client.run("rsync", "-a", "-e", ssh, f"there:{there}/", f"{here}/back/")
    for path in tree.iterdir():
        assert (here / "back" / path.name).read_bytes() == path.read_bytes()


@in_places("native", "inside", "outward")
def test_ssh_carries_connections_in_all_directions(place: Place) -> None:
    require("curl")
    sites = (place.client, place.server)
    webs: list[int] = []
    tunnels: list[int] = []
    www: list[Path] = []
    for site in sites:
        webs.append(8081 if site.where == "view" else free_port())
        tunnels.append(8082 if site.where == "view" else free_port())
        www.append(site.folder / f"www{len(www)}")
        www[-1].mkdir()
        (www[-1] / "name").write_text(f"web {len(www)}\n")
        (www[-1] / "big").write_bytes(os.urandom(SIZE))
    if place.client is place.server and place.client.where == "view":
        webs[1], tunnels[1] = 8083, 8084
    socks = tunnels[0] + 10 if place.client.where == "view" else free_port()
    with contextlib.ExitStack() as stack:
        for site, port, folder in zip(sites, webs, www, strict=True):
            stack.enter_context(
                site.serve(
                    *(SYSTEM_PYTHON, "-m", "http.server", str(port)),
                    *("--bind", "127.0.0.1", "--directory", str(folder)),
                    port=port,
                    host="127.0.0.1",
                )
            )
        options = stack.enter_context(shell(place))
        stack.enter_context(
            place.client.serve(
                *("ssh", *options.split(), "-N", "there"),
                *("-L", f"{tunnels[0]}:127.0.0.1:{webs[1]}"),
                *("-R", f"{tunnels[1]}:127.0.0.1:{webs[0]}"),
                *("-D", str(socks)),
                port=socks,
                host="127.0.0.1",
            )
        )
        place.server.ask("reach", host="127.0.0.1", port=tunnels[1], timeout=15)
        roads = [
            (place.client, f"http://127.0.0.1:{tunnels[0]}", (), www[1]),
            (place.server, f"http://127.0.0.1:{tunnels[1]}", (), www[0]),
            (
                place.client,
                f"http://127.0.0.1:{webs[1]}",
                ("-x", f"socks5h://127.0.0.1:{socks}"),
                www[1],
            ),
        ]
        for site, url, proxy, folder in roads:
            for name in ("name", "big"):
                target = str(site.folder / "fetched")
                site.run("curl", "-sS", *proxy, "-o", target, f"{url}/{name}")
                assert Path(target).read_bytes() == (folder / name).read_bytes()


@in_places("native", "inside", "outward")
def test_mosh_shows_a_screen_over_datagrams(place: Place) -> None:
    require("mosh-server", "mosh-client", "script")
    with place.server.serve(
        *("env", "MOSH_SERVER_NETWORK_TMOUT=20", "mosh-server", "new", "-i", "0.0.0.0"),
        *("-p", str(place.listen), "--", "/bin/sh", "-c", "echo six times $((6 * 7))"),
        says="MOSH CONNECT",
    ) as server:
        said = re.search(rf"MOSH CONNECT {place.listen} (\S+)", server.said())
        assert said is not None, server.said()
        client = f"MOSH_KEY={said[1]} mosh-client {place.host} {place.port}"
        sized = f"stty rows 24 cols 80; {client}"
        got = place.client.run("script", "-qec", sized, os.devnull)
    assert "six times 42" in got.out
