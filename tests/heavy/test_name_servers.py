"""Name servers: one socket for all addresses, which must answer from the right one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apps.lab import Place, Site, free_port, in_places, require

RECORDS = 400
Server = Callable[[Site, int], contextlib.AbstractContextManager[None]]
UNBOUND = """
server:
    interface: 0.0.0.0
    interface: ::0
    interface-automatic: yes
    port: {port}
    access-control: 0.0.0.0/0 allow
    access-control: ::0/0 allow
    do-not-query-localhost: no
    do-daemonize: no
    username: ""
    chroot: ""
    pidfile: ""
    directory: "{folder}"
    use-syslog: no
    num-threads: 2
    so-reuseport: yes
    module-config: "iterator"
    local-zone: "test." nodefault
remote-control:
    control-enable: no
forward-zone:
    name: "test."
    forward-addr: 127.0.0.1@{behind}
"""


@contextlib.contextmanager
def dnsmasq(site: Site, port: int) -> Iterator[None]:
    """Serve names of the zone "test" at a port."""
    require("dnsmasq")
    hosts = site.folder / "names"
    hosts.write_text(
        "".join(f"192.0.2.{n % 250} h{n}.test\n" for n in range(RECORDS))
        + "2001:db8::1 h1.test\n"
    )
    long = ",".join(["y" * 250] * 12)
    with site.serve(
        *("dnsmasq", "-k", "-C", "/dev/null", "-p", str(port), "-R", "-h", "-x", ""),
        *("-H", str(hosts), "--local=/test/", f"--txt-record=long.test,{long}"),
        *("--log-facility=-", "--edns-packet-max=1232", "--user=", "--group="),
        says="started, version",
    ):
        yield


@contextlib.contextmanager
def unbound(site: Site, port: int) -> Iterator[None]:
    """Serve what dnsmasq knows at a port."""
    require("unbound")
    behind = 5353 if site.where == "view" else free_port()
    path: Path = site.folder / "unbound.conf"
    path.write_text(UNBOUND.format(folder=site.folder, port=port, behind=behind))
    with (
        dnsmasq(site, behind),
        site.serve("unbound", "-d", "-c", str(path), says="start of service"),
    ):
        yield


@in_places("native", "inside", "inward")
@pytest.mark.parametrize(
    ("server", "family"), [(dnsmasq, 4), (dnsmasq, 6), (unbound, 4)]
)
def test_dig_asks_a_name_server(place: Place, server: Server, family: int) -> None:
    require("dig")
    with server(place.server, place.listen):
        at = (f"@{place.address(family)}", "-p", str(place.port), "+tries=1")
        for road in ("+notcp", "+tcp"):
            got = place.client.run("dig", *at, road, "+short", "h7.test")
            assert got.out == "192.0.2.7\n"
            got = place.client.run("dig", *at, road, "+short", "h1.test", "AAAA")
            assert got.out == "2001:db8::1\n"
            got = place.client.run("dig", *at, road, "nobody.test")
            assert "status: NXDOMAIN" in got.out
        # Too long for a datagram: asked again over TCP.
        got = place.client.run("dig", *at, "long.test", "TXT")
        assert got.out.count("y" * 250) == 12
        assert "(TCP)" in got.out
        batch = place.client.folder / "batch"
        batch.write_text("".join(f"h{n}.test\n" for n in range(RECORDS)))
        got = place.client.run("dig", *at, "+short", "-f", str(batch), timeout=60)
        assert got.out == "".join(f"192.0.2.{n % 250}\n" for n in range(RECORDS))
