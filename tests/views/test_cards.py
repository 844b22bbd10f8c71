"""Sockets that are bound to a card (SO_BINDTODEVICE) meet what comes and goes by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User

pytestmark = pytest.mark.view
PROGRAM = str(Path(__file__).with_name("programs") / "cards.py")

# Cards of receiver and sender, where to: what comes of TCP and of UDP. So it is on
# a host with a card beside lo, too (observed on Linux 6.18), with two exceptions:
# A socket bound to lo that sends to a card's address arrives by lo there (TCP's answer
# is lost unless the listener is bound to lo as well); and what cannot leave by the card
# that it is bound to is sent and lost.
EXPECTED = """\
- - lo ok ok
- - card ok ok
- lo lo ok ok
- lo card ok ok
- lo beyond ENETUNREACH nothing
- card lo ENETUNREACH nothing
- card card ok ok
lo - lo ok ok
lo - card ECONNREFUSED nothing
lo lo lo ok ok
lo lo card ECONNREFUSED nothing
lo card lo ENETUNREACH nothing
lo card card ECONNREFUSED nothing
card - lo ECONNREFUSED nothing
card - card ok ok
card lo lo ECONNREFUSED nothing
card lo card ok ok
card card lo ENETUNREACH nothing
card card card ok ok
"""


def test_sockets_bound_to_cards(user: User) -> None:
    got = user.run([SYSTEM_PYTHON, PROGRAM, "10.0.2.15", "nat0"], "view")
    assert got.stdout == EXPECTED, got
