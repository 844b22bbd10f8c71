"""An Ethernet of views for tests, whose links can be cut and spoiled."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from umview.api import View
from umview.errors import UmviewError

if TYPE_CHECKING:
    from types import TracebackType

_END_SECONDS = 30.0
_LONGEST = 80  # sockets in the folder have to have paths below 108 bytes


class Network:
    """A switch, for the length of a ``with`` block, and the views that are on it.

    Frames are lost and delayed between views, each on its way, not within one.

    Attributes:
        vnl: What other cards can be plugged into: of views with more cards, of
            namespaces, of virtual machines.
        views: Those that run on it, in the order of their making.
    """

    def __init__(self, seed: int = 0) -> None:
        """Say what it is to be.

        Args:
            seed: Decides which frames are lost, and how late others are, by their
                numbers on their way from one view to another.
        """
        self._seed = seed
        self._folder = ""
        self._switch: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        self._count = 0
        self.vnl = ""
        self.views: list[View] = []
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Network:
        """Start the switch."""
        self._folder = tempfile.mkdtemp(prefix="umn-")
        self._open.callback(shutil.rmtree, self._folder, ignore_errors=True)
        if len(self._folder) > _LONGEST:
            self._open.close()
            raise UmviewError(
                f"{self._folder}: this name is too long for sockets; set TMPDIR to a "
                "shorter one"
            )
        self.vnl = f"vde://{self._folder}"
        self._switch = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-m",
                "umview.ethernet",
                self._folder,
                str(self._seed),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._open.callback(self._end, self._switch)
        try:
            self._order("look")
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the views, and the switch."""
        self._open.close()

    def view(
        self,
        *addresses: str,
        name: str | None = None,
        options: str = "",
        tracer: str = "auto",
    ) -> View:
        """Start a view on the network; it ends with the network, or by ``shutdown``.

        Args:
            addresses: Those of its card: ``"10.0.0.1/24"``, ``"fd00::1/64"``.
            name: Its host's name; what it is called in messages.
            options: More for its card, as ``"gw=10.0.0.254,mtu=9000"``, or another
                card, as ``"nat0"``.
            tracer: What stops the calls of programs, as ``--tracer``.

        Raises:
            UmviewError: It cannot be had.
        """
        self._count += 1
        name = name or f"host{self._count}"
        port = self._count
        card = [f"vd0={self.vnl}[{port}]", *(f"ip={one}" for one in addresses)]
        words = [*card, *([options] if options else []), f"hostname={name}"]
        view = View(
            f"umnetlwipv6,{','.join(words)}",
            name=f"{name}-{os.getpid()}-{os.path.basename(self._folder)}",
            tracer=tracer,
        )
        self._open.enter_context(view)
        self._ports[view.name] = port
        self.views.append(view)
        return view

    # ---- what befalls frames ----

    def partition(self, *groups: Iterable[View]) -> None:
        """Let nobody reach who is in another group; those in none are one more."""
        self._order("partition", groups=[self._numbers(group) for group in groups])

    def heal(self) -> None:
        """Let all reach each other again: no partition, no loss, no delay."""
        self._order("heal")

    def loss(self, percent: float, view: View | None = None) -> None:
        """Lose some frames.

        Args:
            percent: How many of a hundred.
            view: Of those from it and to it; None: of all.
        """
        self._spoil(view, loss=percent)

    def delay(self, ms: float, jitter: float = 0, view: View | None = None) -> None:
        """Deliver frames late; their order stays.

        Args:
            ms: By how many milliseconds.
            jitter: By how many more at most.
            view: Those from it and to it; None: all.
        """
        self._spoil(view, delay=ms / 1000, jitter=jitter / 1000)

    def _spoil(self, view: View | None, **words: float) -> None:
        ports = None if view is None else self._numbers([view])
        self._order("spoil", ports=ports, **words)

    def _numbers(self, views: Iterable[View]) -> list[int]:
        try:
            return [self._ports[view.name] for view in views]
        except KeyError as exc:
            raise UmviewError(f"{exc.args[0]} is not on this network") from None

    # ---- the switch ----

    def _order(self, do: str, **words: object) -> None:
        """Let the switch do something; it is done when this returns.

        Raises:
            UmviewError: The network is over, or was never there.
        """
        switch = self._switch
        if switch is None or switch.stdin is None or switch.stdout is None:
            raise UmviewError("the network is not there: use it in its with block")
        with contextlib.suppress(OSError, ValueError):
            switch.stdin.write(json.dumps({"do": do, **words}).encode() + b"\n")
            switch.stdin.flush()
            if switch.stdout.readline():
                return
        raise UmviewError("the network has ended")

    def _end(self, switch: subprocess.Popen[bytes]) -> None:
        assert switch.stdin
        assert switch.stdout
        with contextlib.suppress(BrokenPipeError):
            switch.stdin.close()
        try:
            switch.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            switch.kill()
            switch.wait()
        switch.stdout.close()
