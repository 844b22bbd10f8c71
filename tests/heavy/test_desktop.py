"""What programs of a desktop talk to: an X server, a message bus.

Both pass descriptors and credentials over unix sockets, which are no sockets of the
view's; an X server serves TCP as well, which is.
"""

from __future__ import annotations

import re

import pytest

from tests.apps.lab import Place, User, Where, free_port, in_places, require

_X_PORT = 6000
_BUS = "org.freedesktop.DBus"


@in_places("native", "inside", "outward")
def test_x_server_serves_tcp(place: Place) -> None:
    require("Xvfb", "x11perf", "xdpyinfo")
    port = free_port()
    number = port - _X_PORT
    argv = ("Xvfb", f":{number}", "-listen", "tcp", "-nolisten", "unix", "-ac")
    with place.server.serve(*argv, port=port):
        at = ("env", f"DISPLAY={place.host}:{number}")
        said = place.client.run(*at, "xdpyinfo").out
        assert f"name of display:    {place.host}:{number}" in said
        perf = ("x11perf", "-repeat", "1", "-reps", "20")
        said = place.client.run(*at, *perf, "-putimage500", "-getimage500").out
        assert len(re.findall(r" reps @ .* PutImage| reps @ .* GetImage", said)) == 2


def test_x_server_and_its_client_share_memory(user: User, where: Where) -> None:
    require("Xvfb", "x11perf")
    script = """
        Xvfb -displayfd 5 -nolisten tcp 5>number 2>/dev/null &
        until [ -s number ]; do sleep 0.02; done
        DISPLAY=:$(cat number) x11perf -repeat 1 -reps 20 -shmput500 -shmget500
        kill $!; wait
    """
    said = user.run(["bash", "-c", script], where)
    found = re.findall(r" reps @ .* ShmPut| reps @ .* ShmGet", said.stdout)
    assert len(found) == 2, said


@in_places("native", "inside", "inward")
def test_bus_knows_its_clients(place: Place) -> None:
    require("dbus-daemon", "dbus-test-tool", "gdbus")
    address = f"unix:path={place.server.folder}/bus"
    on_bus = ("env", f"DBUS_SESSION_BUS_ADDRESS={address}")
    ask = (*on_bus, "gdbus", "call", "--session", "--dest", _BUS, "--object-path", "/")
    daemon = ("dbus-daemon", "--session", "--nofork", "--print-address")
    with place.server.serve(*daemon, f"--address={address}", says=address):
        echo = ("sh", "-c", "echo $$; exec dbus-test-tool echo --name=org.test.Echo")
        with place.client.serve(*on_bus, *echo, says="\n") as server:
            place.client.run(*on_bus, "gdbus", "wait", "--session", "org.test.Echo")
            said = place.client.run(
                *(*ask, "--method", f"{_BUS}.GetConnectionCredentials"),
                "org.test.Echo",
            ).out
            pid = server.output.read_text().strip()
            uid = place.client.folder.stat().st_uid
            assert f"'ProcessID': <uint32 {pid}>" in said
            assert f"'UnixUserID': <uint32 {uid}>" in said
            spam = ("dbus-test-tool", "spam", "--dest=org.test.Echo", "--count=2000")
            place.client.run(*on_bus, *spam, "--flood")


def test_bwrap_takes_the_network_away(user: User, where: Where) -> None:
    require("bwrap", "ip", "curl")
    if user.run(["unshare", "--user", "true"], "native").returncode:
        pytest.skip("users may not make namespaces on this machine")
    bwrap = "bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all"
    script = f"""
        {bwrap} ip -brief address show
        {bwrap} curl -sS http://10.0.2.2/
    """
    got = user.run(["bash", "-c", script], where, "host")
    assert got.returncode == 7, got
    assert re.findall(r"^\S+", got.stdout, re.MULTILINE) == ["lo"]
