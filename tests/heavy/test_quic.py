"""HTTP/3 over QUIC: encrypted datagrams, with a timer for each connection."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.apps.lab import Place, require

QUIC = (sys.executable, str(Path(__file__).with_name("programs") / "quic.py"))


@pytest.mark.parametrize(
    ("check", "family"), [("big", 4), ("streams", 6), ("connections", 4)]
)
def test_http3_requests_are_answered(place: Place, check: str, family: int) -> None:
    require("openssl")
    folder = place.server.user.folder
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    place.server.run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        *("-keyout", key, "-out", certificate),
    )
    serve = (*QUIC, "serve", str(place.listen), certificate, key)
    with place.server.serve(*serve, says="ready"):
        got = place.client.run(
            *(*QUIC, check, place.address(family), str(place.port), certificate),
            timeout=90,
        )
    assert got.out == "done\n", got
