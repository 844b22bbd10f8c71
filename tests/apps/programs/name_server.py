"""Answer A and AAAA questions for names under "test.", over UDP and TCP.

name_server.py PORT: every name gets 192.0.2.1 and 2001:db8::1; big.test. gets so many
addresses that only TCP takes the answer; all else does not exist.
"""

# ruff: noqa: T201

# mypy: disable-error-code="explicit-override"
# typing.override is of Python 3.12.

import socketserver
import struct
import sys
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SUFFIX = ".test."
UDP_LIMIT = 512
MANY = 60


def answer(wire: bytes, limit: int) -> bytes:
    """Return the answer to a query; if longer than limit, one that says so."""
    query = dns.message.from_wire(wire)
    reply = dns.message.make_response(query)
    question = query.question[0]
    name = question.name.to_text()
    if not name.endswith(SUFFIX):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == dns.rdatatype.A:
        count = MANY if name == "big" + SUFFIX else 1
        addresses = [f"192.0.2.{number + 1}" for number in range(count)]
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", *addresses))
    elif question.rdtype == dns.rdatatype.AAAA:
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "AAAA", "2001:db8::1"))
    whole = reply.to_wire()
    if len(whole) <= limit:
        return whole
    short = dns.message.make_response(query)
    short.flags |= dns.flags.TC
    return short.to_wire()


class OverUdp(socketserver.BaseRequestHandler):
    """One datagram."""

    def handle(self) -> None:
        """Answer it."""
        wire, sock = self.request
        sock.sendto(answer(wire, UDP_LIMIT), self.client_address)


class OverTcp(socketserver.StreamRequestHandler):
    """One connection, one query."""

    def handle(self) -> None:
        """Answer it."""
        header = self.rfile.read(2)
        if len(header) < 2:
            return
        (length,) = struct.unpack("!H", header)
        reply = answer(self.rfile.read(length), 65535)
        self.wfile.write(struct.pack("!H", len(reply)) + reply)


def main() -> None:
    """Serve for ever."""
    socketserver.TCPServer.allow_reuse_address = True
    address = ("0.0.0.0", int(sys.argv[1]))
    with (
        socketserver.UDPServer(address, OverUdp) as udp,
        socketserver.ThreadingTCPServer(address, OverTcp) as tcp,
    ):
        threading.Thread(target=tcp.serve_forever, daemon=True).start()
        print("ready", flush=True)
        udp.serve_forever()


if __name__ == "__main__":
    main()
