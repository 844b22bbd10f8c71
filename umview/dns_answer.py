"""Answer DNS questions the way the host's own resolver would.

Addresses and names of addresses are asked from the host's C library, so that its
/etc/hosts and name services count; all other types are passed on to its name servers.
Resolvers take NXDOMAIN as said of all types of a name, so for these too it is said only
of names that the C library does not know: those in /etc/hosts, which the name servers
never heard of, have no records of other types.

Nothing here knows about sockets of a view: a query's bytes in, a reply's bytes out.
This file is imported at the first query only, for dnspython is slow to load.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.reversename
import dns.rrset

_TTL = 30  # the host's library tells none
_UDP_SIZE = 512  # what a client without EDNS takes
_HEADER = 12
_PATIENCE = 2.0  # for all name servers of the host together
_HOSTS = "/etc/hosts"
_PASSED_OVER = (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)
_FAMILIES = {
    dns.rdatatype.A: socket.AF_INET,
    dns.rdatatype.AAAA: socket.AF_INET6,
}

Lookup: TypeAlias = Callable[[bytes, int], list[str]]
"""From a name and an address family to addresses; raises socket.gaierror."""
Listed: TypeAlias = Callable[[bytes], bool]
"""Whether a name is one of the host's own, which no name server is asked for."""
Reverse: TypeAlias = Callable[[str], str]
"""From an address to its name; raises socket.gaierror."""
Forward: TypeAlias = Callable[[dns.message.Message], dns.message.Message]
"""From a query to a name server's reply; raises OSError or DNSException."""


def host_lookup(name: bytes, family: int) -> list[str]:
    """Ask the host for the addresses of a name.

    Raises:
        socket.gaierror: As getaddrinfo(3).
    """
    found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def host_reverse(address: str) -> str:
    """Ask the host for the name of an address.

    Raises:
        socket.gaierror: As getnameinfo(3).
    """
    return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]


def host_listed(name: bytes) -> bool:
    """Tell whether the host's /etc/hosts gives a name an address.

    Source: hosts(5).
    """
    wanted = name.lower()
    try:
        with open(_HOSTS, "rb") as file:
            return any(
                wanted in line.partition(b"#")[0].lower().split()[1:] for line in file
            )
    except OSError:
        return False


def host_forward(query: dns.message.Message) -> dns.message.Message:
    """Pass a query on to the name servers of the host's /etc/resolv.conf, in turn.

    Not to all at once: the first may know names that the others deny.

    Raises:
        OSError: None could be reached, or there is none.
        dns.exception.DNSException: None gave a reply in time.
    """
    servers = [str(server) for server in dns.resolver.Resolver().nameservers]
    failure: Exception = OSError("the host has no name server")
    for server in servers:
        share = _PATIENCE / len(servers)
        try:
            reply, _ = dns.query.udp_with_fallback(query, server, share)
        except (OSError, dns.exception.DNSException) as exc:
            failure = exc
            continue
        if reply.rcode() not in _PASSED_OVER:
            return reply
        failure = OSError(f"{server} cannot tell")
    raise failure


class Answerer:
    """Makes the reply to a query, with the host's resolver or with a test's."""

    def __init__(
        self,
        lookup: Lookup = host_lookup,
        reverse: Reverse = host_reverse,
        forward: Forward = host_forward,
        listed: Listed = host_listed,
    ) -> None:
        self._lookup = lookup
        self._reverse = reverse
        self._forward = forward
        self._listed = listed

    def reply(self, wire: bytes, *, udp: bool) -> bytes | None:
        """Return the reply to a query.

        Args:
            wire: The query, without the length that TCP puts before it.
            udp: Whether it came over UDP: then a reply that is longer than the client
                said it takes is cut down and marked so, and the client asks by TCP.

        Returns:
            The reply; None where there is nobody to reply to (what came is no query).
        """
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return _format_error(wire)
        if query.flags & dns.flags.QR:
            return None
        reply = self._answer(query)
        limit = max(query.payload, _UDP_SIZE) if udp else 65535
        try:
            return reply.to_wire(max_size=limit)
        except dns.exception.TooBig:
            short = _reply(query, dns.rcode.NOERROR)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        if query.opcode() != dns.opcode.QUERY:
            return _reply(query, dns.rcode.NOTIMP)
        if len(query.question) != 1:
            return _reply(query, dns.rcode.FORMERR)
        question = query.question[0]
        name = question.name
        text = _host_name(name)
        internet = question.rdclass == dns.rdataclass.IN
        try:
            if internet and question.rdtype in _FAMILIES and text:
                return self._addresses(query, name, text, question.rdtype)
            if internet and question.rdtype == dns.rdatatype.PTR and _is_reverse(name):
                return self._name(query, name)
            return self._other(query, text if internet else b"")
        except (OSError, dns.exception.DNSException):
            return _reply(query, dns.rcode.SERVFAIL)

    def _addresses(
        self,
        query: dns.message.Message,
        name: dns.name.Name,
        text: bytes,
        rdtype: dns.rdatatype.RdataType,
    ) -> dns.message.Message:
        try:
            found = self._lookup(text, _FAMILIES[rdtype])
        except socket.gaierror as exc:
            if not _is_absent(exc):
                raise
            return _reply(query, self._absence(text))
        return _reply(query, dns.rcode.NOERROR, name, rdtype, found)

    def _other(self, query: dns.message.Message, text: bytes) -> dns.message.Message:
        if text and self._listed(text):
            return _reply(query, dns.rcode.NOERROR)
        reply = _adopted(query, self._forward(query))
        if reply.rcode() != dns.rcode.NXDOMAIN or not text:
            return reply
        # the C library has more sources than /etc/hosts; it does not wait for a name
        # server here, for that has just answered
        known = self._absence(text) == dns.rcode.NOERROR
        return _reply(query, dns.rcode.NOERROR) if known else reply

    def _absence(self, text: bytes) -> dns.rcode.Rcode:
        """Tell a name without addresses of the family asked for from no such name.

        getaddrinfo(3) does not: it says EAI_NONAME for both.
        """
        try:
            self._lookup(text, socket.AF_UNSPEC)
        except socket.gaierror as exc:
            if exc.errno == socket.EAI_NODATA:
                return dns.rcode.NOERROR
            if not _is_absent(exc):
                raise
            return dns.rcode.NXDOMAIN
        return dns.rcode.NOERROR

    def _name(
        self, query: dns.message.Message, name: dns.name.Name
    ) -> dns.message.Message:
        try:
            found = self._reverse(dns.reversename.to_address(name))
        except socket.gaierror as exc:
            if not _is_absent(exc):
                raise
            return _reply(query, dns.rcode.NXDOMAIN)
        target = dns.name.from_text(found).to_text()
        return _reply(query, dns.rcode.NOERROR, name, dns.rdatatype.PTR, [target])


def _is_absent(exc: socket.gaierror) -> bool:
    return exc.errno in (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY)


def _is_reverse(name: dns.name.Name) -> bool:
    try:
        dns.reversename.to_address(name)
    except (dns.exception.DNSException, ValueError):
        return False
    return True


def _host_name(name: dns.name.Name) -> bytes:
    """Return a name as getaddrinfo(3) takes it; empty where it would misread it.

    So are the root, labels that hold other than letters, digits, - and _, and what
    looks like a number (an address, to getaddrinfo).
    """
    labels = name.labels[:-1]
    text = b".".join(labels)
    plain = all(
        label.replace(b"-", b"").replace(b"_", b"").isalnum() for label in labels
    )
    return text if plain and labels and not labels[-1].isdigit() else b""


def _reply(
    query: dns.message.Message,
    rcode: dns.rcode.Rcode,
    name: dns.name.Name | None = None,
    rdtype: dns.rdatatype.RdataType = dns.rdatatype.A,
    found: Sequence[str] = (),
) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(rcode)
    if name is not None and found:
        rrset = dns.rrset.from_text_list(
            name, _TTL, dns.rdataclass.IN, rdtype, list(found)
        )
        reply.answer.append(rrset)
    return reply


def _adopted(
    query: dns.message.Message, upstream: dns.message.Message
) -> dns.message.Message:
    """Return a name server's reply as one of ours: with our question and EDNS."""
    reply = _reply(query, upstream.rcode())
    reply.flags |= upstream.flags & (dns.flags.AA | dns.flags.AD)
    reply.answer = upstream.answer
    reply.authority = upstream.authority
    reply.additional = upstream.additional
    return reply


def _format_error(wire: bytes) -> bytes | None:
    """Return a bare FORMERR for bytes that hold a header but no readable query."""
    if len(wire) < _HEADER or wire[2] & 0x80:
        return None
    flags = bytes((0x80 | wire[2] & 0x79, 0x80 | dns.rcode.FORMERR))
    return wire[:2] + flags + bytes(8)
