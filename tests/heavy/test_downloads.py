"""Programs that fetch what a web server has, each in a way of its own."""

from __future__ import annotations

import pytest

from tests.apps.lab import Place, in_places, require
from tests.apps.test_servers import nginx


@in_places("native", "inside", "outward")
@pytest.mark.parametrize(
    "argv",
    [
        ("aria2c", "--quiet", "-x8", "-s8", "-k1M", "-d", "/", "-o"),
        ("wget2", "--quiet", "--chunk-size=1M", "-O"),
    ],
    ids=lambda argv: argv[0],
)
def test_file_is_fetched_in_parts_at_once(place: Place, argv: tuple[str, ...]) -> None:
    require("nginx", argv[0])
    target = place.client.folder / "big.bin"
    with place.server.serve(*nginx(place, ""), port=place.listen):
        place.client.run(*argv, str(target), place.url("big.bin"))
        assert target.read_bytes() == bytes(range(256)) * (4 << 12)


@in_places("native", "outward")
@pytest.mark.parametrize("browser", ["w3m", "links"])
def test_text_browser_shows_a_page(place: Place, browser: str) -> None:
    require("nginx", browser)
    with place.server.serve(*nginx(place, ""), port=place.listen):
        assert "hello from nginx" in place.client.run(browser, "-dump", place.url()).out
