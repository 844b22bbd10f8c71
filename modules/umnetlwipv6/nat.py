"""What leads out by nat0, and in by it: gateways, name servers, ports.

In the outermost view behind nat0 is the host. In a view inside another it is the
enclosing view's stack: its loopback is where `host` leads to, its name servers are
asked, its ports are forwarded, and its routes decide where all else goes.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from umview.errors import UmviewError
from umview.names import Proxy
from umview.view import LOOPBACK, Address, Stack, StackKind

from .plan import PROXIES, CardPlan, Forward, Plan

if TYPE_CHECKING:
    from umview._ffi import Switchboard

log = logging.getLogger(__name__)

_BACKLOG = 4096  # the kernel cuts it down to net.core.somaxconn
_DNS = 53


class Nat:
    """What is behind the nat0 of a stack."""

    def __init__(self, plan: Plan, card: CardPlan, behind: Stack | None) -> None:
        """Take the ports that are to lead in, and a name server's.

        Args:
            plan: That of the stack.
            card: That of nat0.
            behind: The stack that it leads into; None: the host.

        Raises:
            UmviewError: A port cannot be had.
        """
        self._plan = plan
        self._card = card
        self._behind = behind
        self._proxy = None if behind else Proxy()
        self._listeners: list[socket.socket] = []
        if not behind:
            try:
                for one in plan.forwards:
                    self._listeners.append(_listen(one))
            except UmviewError:
                self.close()
                raise
        elif any(one.kind is socket.SOCK_DGRAM for one in plan.forwards):
            raise UmviewError(
                "fwd: a port of the enclosing view can lead here by TCP only; "
                "leave /udp out, or plug both views into a wire"
            )

    @property
    def services(self) -> tuple[Proxy, ...]:
        """What serves the stack from the supervisor."""
        return (self._proxy,) if self._proxy else ()

    def lead(self, switchboard: Switchboard, stack: int) -> None:
        """Lead out and in.

        Raises:
            UmviewError: A port of the enclosing view cannot be had.
        """
        for gateway in self._card.gateways if self._plan.host else ():
            loopback = LOOPBACK[gateway.version == 6].ip
            switchboard.add_map(stack, gateway, loopback)
        if self._behind:
            self._lead_inside(switchboard, stack, self._behind)
            return
        assert self._proxy
        for server in self._own_servers():
            self._proxy.serve(switchboard, stack, server)
        for forward, sock in zip(self._plan.forwards, self._listeners, strict=True):
            switchboard.add_forward(stack, sock, forward.port, *self._gateways())

    def close(self) -> None:
        """Give the ports back that have not become the switchboard's."""
        for sock in self._listeners:
            sock.close()
        if self._proxy:
            self._proxy.stop()

    def _lead_inside(self, switchboard: Switchboard, stack: int, to: Stack) -> None:
        switchboard.set_uplink(stack, to.number)
        theirs = to.steward.name_servers() if to.steward else ()
        for server in self._own_servers() if theirs else ():
            like = [one for one in theirs if one.version == server.version]
            switchboard.add_map(stack, server, (like or theirs)[0], port=_DNS)
        for forward in self._plan.forwards:
            try:
                switchboard.add_forward_outside(
                    stack,
                    forward.address,
                    forward.host_port,
                    forward.port,
                    self._gateways(),
                )
            except OSError as exc:
                raise UmviewError(
                    f"fwd: cannot listen on {forward.address} port "
                    f"{forward.host_port} of the enclosing view: "
                    f"{os.strerror(exc.errno or 0)}; "
                    "choose another port"
                ) from exc

    def _own_servers(self) -> list[Address]:
        return [one for one in PROXIES if one.version in self._plan.versions]

    def _gateways(self) -> tuple[Address, Address]:
        """Return what peers on the loopback behind are shown as, in either family."""
        by_version = {one.version: one for one in self._card.gateways}
        return by_version.get(4, LOOPBACK[0].ip), by_version.get(6, LOOPBACK[1].ip)


def behind(enclosing: Stack | None) -> Stack | None:
    """Return the stack that a nat0 leads into; None: the host's network.

    Args:
        enclosing: The default stack of the enclosing view, if there is one.
    """
    native = enclosing is None or enclosing.kind is StackKind.NATIVE
    return None if native else enclosing


def _listen(forward: Forward) -> socket.socket:
    """Return the socket of the host that leads into the stack."""
    family = socket.AF_INET if forward.address.version == 4 else socket.AF_INET6
    where = f"{forward.address} port {forward.host_port}"
    protocol = (
        socket.IPPROTO_TCP if forward.kind is socket.SOCK_STREAM else socket.IPPROTO_UDP
    )
    sock = socket.socket(family, forward.kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, protocol == 6)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(forward.address), forward.host_port))
        if forward.kind is socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise UmviewError(
            f"fwd: cannot listen on {where} of the host: {exc.strerror}; "
            "choose another port"
        ) from exc
    log.info("forward: %s of the host leads to port %d", where, forward.port)
    return sock
