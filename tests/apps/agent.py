"""Start and watch processes in the network that this script itself lives in.

A test drives it by a line of JSON for each request and reads one line of JSON back.
The same script, run natively or as the command of a view, lets one test start a server
and its clients in either. It needs the standard library only, for it runs on the
system's interpreter.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_RETRY = 0.02
_GRACE = 3.0


class Agent:
    """The processes that were started here, by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, argv: list[str], stdin: str | None, cwd: str) -> dict[str, Any]:
        """Start a program whose output goes to the files NUMBER.out and NUMBER.err."""
        number = len(self._processes)
        with (
            Path(stdin or os.devnull).open("rb") as source,
            (self._folder / f"{number}.out").open("wb") as out,
            (self._folder / f"{number}.err").open("wb") as err,
        ):
            process = subprocess.Popen(
                argv,
                stdin=source,
                stdout=out,
                stderr=err,
                cwd=cwd,
                start_new_session=True,
            )
        self._processes.append(process)
        return {"number": number}

    def wait(self, number: int, timeout: float) -> dict[str, Any]:
        """Return the exit status, or none if the program still runs at the timeout."""
        try:
            return {"status": self._processes[number].wait(timeout)}
        except subprocess.TimeoutExpired:
            return {"status": None}

    def end(self, number: int) -> dict[str, Any]:
        """End the program and all of its session, politely at first."""
        process = self._processes[number]
        for what in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, what)
            except ProcessLookupError:
                break
            self.wait(number, _GRACE)
        return self.wait(number, _GRACE)

    def reach(self, host: str, port: int, timeout: float) -> dict[str, Any]:
        """Connect to a server until it accepts."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                socket.create_connection((host, port), timeout=1).close()
            except OSError as exc:
                if time.monotonic() > deadline:
                    return {"error": str(exc)}
                time.sleep(_RETRY)
            else:
                return {}

    def end_all(self) -> None:
        """End what still runs."""
        for number in range(len(self._processes)):
            self.end(number)


def main() -> None:
    """Answer requests until the end of standard input."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    agent = Agent(Path(sys.argv[1]))
    try:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = getattr(agent, request.pop("do"))(**request)
            except OSError as exc:
                reply = {"error": str(exc)}
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()
    finally:
        agent.end_all()


if __name__ == "__main__":
    main()
