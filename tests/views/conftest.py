"""Run probe files natively and in views; tell which native runs were repeated."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User, free_port
from tests.setting import umview

PROBES = Path(__file__).with_name("probes")
_LIMIT = 180.0
_NATIVE_RUNS = 3
_INLET = 7000  # a port of the view's, to which one of the host's leads
_AGAIN = pytest.StashKey[list[str]]()

Seen = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Setup:
    """A stack that every probe is run in.

    Attributes:
        name: What the test's id says.
        module: The module of the stack.
    """

    name: str
    module: str


SETUPS = (Setup("umnet", "umnet"),)


def command(
    peer: Path, setup: Setup | None, program: str, *args: str
) -> tuple[list[str], dict[str, str]]:
    """Return what runs a program of probes/, and what its environment must have.

    Args:
        peer: The unix socket of the process that has the far ends of the relay road.
        setup: What to run it in; None: natively.
        program: The name of its file.
        *args: Its arguments.
    """
    argv = [SYSTEM_PYTHON, str(PROBES / program), *args]
    environment = {"UM_PEER": str(peer)}
    if setup is None:
        return argv, environment
    port = free_port()
    module = f"{setup.module},host,fwd={port}:{_INLET},fwd=[::1]:{port}:{_INLET}"
    environment |= {"UM_OUTSIDE": "10.0.2.2 fd00::2", "UM_INWARD": f"{port} {_INLET}"}
    return umview("-p", module, *argv), environment


@dataclass(slots=True)
class Probes:
    """What the cases of each probe file showed, natively (setup None) and in views.

    Attributes:
        user: Who runs them.
        peer: The unix socket of the process that has the far ends of the relay road.
        again: The cases that natively did not show twice what they showed first.
    """

    user: User
    peer: Path
    again: list[str]
    _seen: dict[tuple[str, Setup | None], Seen] = field(default_factory=dict)

    def seen(self, probe: str, setup: Setup | None) -> Seen:
        """Return what each case of a probe file showed; the file is run once."""
        if (probe, setup) not in self._seen:
            self._seen[probe, setup] = self._run(probe, setup)
        return self._seen[probe, setup]

    def natively_also(self, probe: str, case: str, wanted: list[str]) -> bool:
        """Tell whether Linux, asked again, shows the wanted as well.

        A native run shares the host's network with all its programs; so what a case
        shows may be another thing than what it would show alone. A view has its network
        for itself, and is not asked again.
        """
        for _ in range(_NATIVE_RUNS):
            if self._run(probe, None, case)[case] == wanted:
                self.again.append(f"{probe}.{case}")
                return True
        return False

    def _run(self, probe: str, setup: Setup | None, *cases: str) -> Seen:
        argv, environment = command(self.peer, setup, "kit.py", probe, *cases)
        # A file may take longer than faulthandler_timeout; its traces would only alarm.
        faulthandler.cancel_dump_traceback_later()
        where = setup.name if setup else "natively"
        try:
            done = self.user.run(argv, "native", timeout=_LIMIT, **environment)
        except subprocess.TimeoutExpired as exc:
            pytest.fail(f"{probe} {where}: no end in {_LIMIT} s; got {exc.stdout!r}")
        seen = dict(json.loads(line) for line in done.stdout.splitlines())
        if done.returncode or done.stderr:
            seen["stderr"] = [str(done.returncode), *done.stderr.splitlines()]
        return seen


@contextlib.contextmanager
def session_user() -> Iterator[User]:
    """Give an ordinary user with a folder of his own for longer than a module."""
    with tempfile.TemporaryDirectory(prefix="umt-", ignore_cleanup_errors=True) as name:
        ordinary = User(Path(name), Path(name, "run"))
        ordinary.runtime.mkdir(0o700)
        for path in (ordinary.folder, ordinary.runtime):
            ordinary.own(path)
        yield ordinary


@contextlib.contextmanager
def peer_of(user: User) -> Iterator[Path]:
    """Run the process that has the far ends of the relay road; give its socket."""
    path = user.folder / "peer"
    argv = [SYSTEM_PYTHON, str(PROBES / "ends.py"), str(path)]
    with user.popen(argv, "native", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield path


@pytest.fixture(scope="session")
def probes(request: pytest.FixtureRequest) -> Iterator[Probes]:
    """Run probe files as an ordinary user with a folder of his own."""
    again = request.config.stash.setdefault(_AGAIN, [])
    with session_user() as user, peer_of(user) as peer:
        yield Probes(user, peer, again)


def cases() -> list[tuple[str, str]]:
    """Return the probe files and their cases, as the kit tells them."""
    names = sorted(path.stem for path in PROBES.glob("*.py"))
    argv = [SYSTEM_PYTHON, str(PROBES / "kit.py"), "--list", *names]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=30)
    found: dict[str, Sequence[str]] = json.loads(done.stdout)
    return [(probe, case) for probe in found for case in found[probe]]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell how often a native run had to be repeated."""
    again = config.stash.get(_AGAIN, [])
    if again:
        terminalreporter.write_line(
            f"Linux showed two things, one of them as the view: {' '.join(again)}"
        )
