"""OpenSSH, client and server, without root on either side.

The user who runs the tests may have no login shell ("nobody" has none), so that sshd
can start no command for him: files go through sftp, which is part of sshd, and bytes
through forwarded connections, which need none either.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Place, free_port, require

SSHD = """
Port {port}
ListenAddress ::
ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
LogLevel VERBOSE
StrictModes no
PasswordAuthentication no
Subsystem sftp internal-sftp
"""
SSH = """
Host there
HostName {host}
Port {port}
User {name}
IdentityFile {folder}/user_key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known
StrictHostKeyChecking accept-new
BatchMode yes
ExitOnForwardFailure yes
"""


@contextlib.contextmanager
def sshd(
    place: Place, family: int = 4, *, inside: Sequence[str] = ()
) -> Iterator[tuple[str, ...]]:
    """Run sshd at the place; give the options with which ssh and sftp reach it.

    Args:
        place: Where.
        family: Which of the server's addresses the options name.
        inside: A command that runs sshd, such as env.
    """
    require("ssh", "sshd", "ssh-keygen", "sftp")
    user = place.server.user
    folder = user.folder / "ssh"
    folder.mkdir()
    user.own(folder)
    for key in ("host_key", "user_key"):
        made = user.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)],
            "native",
        )
        assert made.returncode == 0, made.stderr
    name = user.run(["id", "-un"], "native").stdout.strip()
    (folder / "sshd_config").write_text(SSHD.format(port=place.listen, folder=folder))
    (folder / "config").write_text(
        SSH.format(
            host=place.address(family), port=place.port, name=name, folder=folder
        )
    )
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    assert program is not None
    with place.server.serve(
        *(*inside, program, "-D", "-e", "-f", str(folder / "sshd_config")),
        says="Server listening on",
        port=place.listen,
    ):
        yield ("-F", str(folder / "config"))


@pytest.mark.parametrize("family", [4, 6], ids=["IPv4", "IPv6"])
def test_sftp_carries_files_both_ways(place: Place, family: int) -> None:
    folder = place.client.folder
    data = os.urandom(5 << 20)
    (folder / "sent").write_bytes(data)
    batch = folder / "batch"
    batch.write_text(
        f"put {folder}/sent {folder}/there\nget {folder}/there {folder}/back\n"
    )
    with sshd(place, family) as options:
        place.client.run("sftp", "-b", str(batch), *options, "there")
        assert (folder / "back").read_bytes() == data


def test_ssh_forwards_connections(place: Place) -> None:
    require("curl")
    www = place.server.folder / "www"
    www.mkdir()
    (www / "index.html").write_text("through ssh\n")
    web = 8081 if place.server.where == "view" else free_port()
    local = 8082 if place.client.where == "view" else free_port()
    with (
        place.server.serve(
            *(SYSTEM_PYTHON, "-m", "http.server", "--directory", str(www), str(web)),
            port=web,
            host="127.0.0.1",
        ),
        sshd(place) as options,
        place.client.serve(
            *("ssh", *options, "-N", "-L", f"{local}:127.0.0.1:{web}", "there"),
            port=local,
            host="127.0.0.1",
        ),
    ):
        got = place.client.run("curl", "-sS", f"http://127.0.0.1:{local}/")
        assert got.out == "through ssh\n"
        request = place.client.folder / "request"
        request.write_text("GET / HTTP/1.0\r\n\r\n")
        got = place.client.run(
            "ssh", *options, "-W", f"127.0.0.1:{web}", "there", stdin=request
        )
        assert got.out.endswith("through ssh\n")


def test_ssh_refuses_a_stranger(place: Place) -> None:
    with sshd(place) as options:
        place.client.run(
            *("ssh", *options, "-o", f"IdentityFile={os.devnull}"),
            *("-o", "PubkeyAuthentication=no", "-N", "there"),
            status=255,
        )
