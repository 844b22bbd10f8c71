"""The fixture that runs a whole probe file natively and in a view, once."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, Where

PROBES = Path(__file__).with_name("probes")
_LIMIT = 180.0

Seen = dict[str, list[str]]


@dataclass(slots=True)
class Probes:
    """What the cases of each probe file showed, natively and in a view."""

    user: User
    _seen: dict[tuple[str, Where], Seen] = field(default_factory=dict)

    def seen(self, probe: str, where: Where) -> Seen:
        """Return what each case of a probe file showed; the file is run once."""
        if (probe, where) not in self._seen:
            self._seen[probe, where] = self._run(probe, where)
        return self._seen[probe, where]

    def _run(self, probe: str, where: Where) -> Seen:
        argv = [SYSTEM_PYTHON, str(PROBES / "kit.py"), probe]
        try:
            done = self.user.run(argv, where, timeout=_LIMIT)
        except subprocess.TimeoutExpired as exc:
            pytest.fail(f"{probe} {where}: no end in {_LIMIT} s; got {exc.stdout!r}")
        seen = dict(json.loads(line) for line in done.stdout.splitlines())
        if done.returncode or done.stderr:
            seen["stderr"] = [str(done.returncode), *done.stderr.splitlines()]
        return seen


@pytest.fixture(scope="session")
def probes() -> Iterator[Probes]:
    """Run probe files as an ordinary user with a folder of his own."""
    with tempfile.TemporaryDirectory(prefix="umt-", ignore_cleanup_errors=True) as name:
        ordinary = User(Path(name), Path(name, "run"))
        ordinary.runtime.mkdir(0o700)
        for path in (ordinary.folder, ordinary.runtime):
            ordinary.own(path)
        yield Probes(ordinary)
