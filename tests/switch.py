"""A virtual Ethernet for tests: Debian's vde_switch, and the views plugged into it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.apps.lab import User

PROGRAM = "vde_switch"
_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch that runs.

    Attributes:
        folder: Where its sockets are.
        number: Which of a test's switches; its networks are 10.0.NUMBER.0/24 and
            fd00:NUMBER::/64.
    """

    folder: Path
    number: int

    @property
    def vnl(self) -> str:
        """What a card is plugged into."""
        return f"vde://{self.folder}"

    def host(self, number: int) -> str:
        """Return the IPv4 address of a host on it."""
        return f"10.0.{self.number}.{number}"

    def host6(self, number: int) -> str:
        """Return the IPv6 address of a host on it."""
        return f"fd00:{self.number}::{number}"

    def card(self, host: int, name: str = "vd0") -> str:
        """Return the words of a host's card, for ``-p umnetlwipv6``."""
        return f"{name}={self.vnl},ip={self.host(host)}/24,ip={self.host6(host)}/64"


@contextlib.contextmanager
def open_switch(user: User, number: int = 0) -> Iterator[Switch]:
    """Run a switch for the length of the block, as the test's user.

    Args:
        user: Whose it is.
        number: Which of the test's switches.
    """
    from tests.apps.lab import require

    require(PROGRAM)
    folder = user.folder / f"switch{number}"
    process = subprocess.Popen(
        user.command([PROGRAM, "-s", str(folder), "-M", f"{folder}.mgmt"], "native"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=user.folder,
        env=user.environment(),
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write("showinfo\n")  # its answer tells that it is there
        process.stdin.flush()
        for line in process.stdout:
            if "Success" in line:
                break
        yield Switch(folder, number)
    finally:
        process.terminate()
        process.communicate(timeout=_SECONDS)
