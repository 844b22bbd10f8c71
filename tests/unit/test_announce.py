from __future__ import annotations

from pathlib import Path

import pytest

from umnetlwipv6.announce import Announcement, encode, read
from umview.errors import UmviewError

_MAC = bytes.fromhex("020000000042")


def _options(message: bytes) -> dict[int, bytes]:
    found, rest = {}, message[16:]
    while rest:
        size = 8 * rest[1]
        found[rest[0]] = rest[2:size]
        rest = rest[size:]
    return found


def test_a_file_says_what_each_card_announces(tmp_path: Path) -> None:
    file = tmp_path / "announced"
    file.write_text(
        "# the lab\n\nvd0 prefix fd00:5::/64\nvd0 dns fd00:5::1 # ours\n"
        "vd1 lifetime 0\nvd0 domain lab.test\n"
    )
    found = read(str(file))
    assert found["vd1"] == Announcement(lifetime=0)
    message = encode(found["vd0"], _MAC, 1500)
    assert (message[0], message[4], message[6:8]) == (134, 64, b"\x07\x08")
    options = _options(message)
    assert options[1] == _MAC
    assert options[5] == bytes.fromhex("0000000005dc")
    assert options[3][:2] == b"\x40\xc0"
    assert options[3][14:].hex() == "fd000005" + 24 * "0"
    assert options[25][6:].hex() == "fd000005" + 23 * "0" + "1"
    assert options[31][6:].rstrip(b"\0") == b"\3lab\4test"


@pytest.mark.parametrize(
    "line",
    [
        "vd0 prefix",
        "vd0 prefix 10.0.0.0/8",
        "vd0 dns x",
        "vd0 lifetime -1",
        "vd0 lifetime 9001",
        "vd0 domain a..b",
        "vd0 nope 1",
        "prefix fd00::/64",
    ],
)
def test_a_line_without_sense_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "announced"
    file.write_text(f"\n{line}\n")
    with pytest.raises(UmviewError, match=f"ra={file}: line 2: "):
        read(str(file))
