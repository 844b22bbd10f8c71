"""Browsers, headless and in a window, in every place."""

from __future__ import annotations

from pathlib import Path

from tests.apps.lab import SYSTEM_PYTHON, Place, require


def test_chromium_shows_a_page(place: Place) -> None:
    require("chromium")
    folder: Path = place.server.user.folder / "www"
    folder.mkdir()
    (folder / "index.html").write_text("<body><script>document.write(6 * 7)</script>")
    with place.server.serve(
        *(SYSTEM_PYTHON, "-m", "http.server", "--bind", "::"),
        *("--directory", str(folder), str(place.listen)),
        port=place.listen,
    ):
        got = place.client.run("chromium", "--headless", "--dump-dom", place.url())
    assert ">42</body>" in got.out.replace("</script>", ">"), got.out
