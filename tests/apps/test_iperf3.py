"""iperf3 in all its directions."""

from __future__ import annotations

import json

import pytest

from tests.apps.lab import Place, require


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-R",),
        ("-P", "4"),
        ("-P", "4", "-R"),
        ("-6",),
        ("-6", "-R"),
        ("-u", "-b", "5M", "-l", "1200"),
        ("-u", "-b", "5M", "-l", "1200", "-R"),
        ("-u", "-b", "5M", "-l", "1200", "-6"),
    ],
    ids=lambda options: " ".join(options) or "one stream",
)
def test_iperf3_measures(place: Place, options: tuple[str, ...]) -> None:
    require("iperf3")
    listen = ("iperf3", "-s", "-p", str(place.listen), "--forceflush")
    address = place.address(6 if "-6" in options else 4)
    with place.server.serve(*listen, says="Server listening"):
        got = place.client.run(
            *("iperf3", "-c", address, "-p", str(place.port)),
            *("-t", "1", "-J", *options),
            status=None,
        )
    report = json.loads(got.out)
    assert "error" not in report, report["error"]
    assert got.status == 0
    end = report["end"]
    if "-u" in options:
        assert end["sum"]["packets"] > 100
        assert end["sum"]["lost_percent"] < 5
    else:
        assert end["sum_received"]["bytes"] > 1 << 20
