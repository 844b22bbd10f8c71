"""umfilter: lists of what the programs of a view may and may not talk to."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from umview.errors import UmviewError
from umview.policy import Act, Deed, Name, Policy

_RULE = re.compile(
    r"(?:(?P<program>[^@]+)@)?"
    r"(?P<network>\[[0-9a-fA-F:.]+(?:/\d+)?\]|[0-9.]+(?:/\d+)?|[0-9a-fA-F:]+:[0-9a-fA-F:.]*(?:/\d+)?)?"
    r"(?::(?P<first>\d+)(?:-(?P<last>\d+))?)?"
)
_KNOWN = "allow=RULE, deny=RULE, log=FILE"
_COMES_IN = Deed.ACCEPT | Deed.RECEIVE
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp"}


class Rule(NamedTuple):
    """Whom a rule is about; None: whoever it is."""

    allows: bool
    program: str | None
    network: IPv4Network | IPv6Network | None
    ports: range | None

    def fits(self, program: str, peer: Name, port: int) -> bool:
        """Whether the rule is about a program and its peer."""
        own = program if "/" in (self.program or "") else os.path.basename(program)
        return (
            self.program in (None, own)
            and (self.network is None or peer.address in self.network)
            and (self.ports is None or port in self.ports)
        )


class Filter(Policy):
    """The rules, in their order, and the log of what they deny."""

    deeds = Deed.CONNECT | Deed.SEND | _COMES_IN

    def __init__(self, rules: Sequence[Rule], log: str | None) -> None:
        """Take note; the log is opened by `start`."""
        self._rules = rules
        self._otherwise = not any(rule.allows for rule in rules)
        self._path = log
        self._log = -1

    def start(self) -> None:
        """Open the log."""
        if self._path is None:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._log = os.open(self._path, flags, 0o666)
        except OSError as exc:
            raise UmviewError(
                f"log: cannot write to '{self._path}': {exc.strerror}; name another"
            ) from None

    def decide(self, act: Act) -> int:
        """Deny what the rules say."""
        assert act.remote
        port = act.local.port if act.deed in _COMES_IN else act.remote.port
        for rule in self._rules:
            if rule.fits(act.program, act.remote, port):
                allowed = rule.allows
                break
        else:
            allowed = self._otherwise
        if allowed:
            return 0
        if self._log >= 0:
            os.write(self._log, os.fsencode(_line(act, act.remote)))
        return errno.EACCES

    def stop(self) -> None:
        """Close the log."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1


def _line(act: Act, peer: Name) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    protocol = _PROTOCOLS.get(act.protocol, str(act.protocol))
    what = f"{act.deed.name} {protocol} {_text(act.local)} {_text(peer)}"
    return f"{when} denied {what} pid={act.pid} program={act.program}\n"


def _text(name: Name) -> str:
    six = name.address.version == 6
    return f"[{name.address}]:{name.port}" if six else f"{name.address}:{name.port}"


def parse(options: Sequence[str]) -> Filter:
    """Return the policy that ``-p umfilter,OPTION...`` asks for.

    Raises:
        UmviewError: An option is unknown, or a rule has no sense.
    """
    rules = []
    log = None
    for option in options:
        word, _, value = option.partition("=")
        match word:
            case "allow" | "deny":
                rules.append(_rule(option, value, allows=word == "allow"))
            case "log" if value:
                log = os.path.abspath(value)
            case _:
                raise UmviewError(f"unknown option '{option}'; known options: {_KNOWN}")
    return Filter(rules, log)


def _rule(option: str, text: str, *, allows: bool) -> Rule:
    found = _RULE.fullmatch(text)
    if not found:
        raise UmviewError(
            f"{option}: a rule is [PROGRAM@][ADDRESS[/PREFIX]][:PORT[-PORT]], "
            "as curl@10.0.0.0/8:443"
        )
    network = ports = None
    try:
        if found["network"]:
            network = ip_network(found["network"].strip("[]"), strict=False)
    except ValueError as exc:
        raise UmviewError(f"{option}: {exc}") from None
    if found["first"]:
        last = int(found["last"] or found["first"])
        ports = range(int(found["first"]), last + 1)
        if last > 65535 or not ports:
            raise UmviewError(f"{option}: ports are 0 to 65535, the lower one first")
    return Rule(allows, found["program"], network, ports)
