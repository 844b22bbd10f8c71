from __future__ import annotations

import socket
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest

from umview import dns_answer
from umview.dns_answer import Answerer

NAMES: dict[tuple[bytes, int], list[str]] = {
    (b"both.test", socket.AF_INET): ["192.0.2.1", "192.0.2.2"],
    (b"both.test", socket.AF_INET6): ["2001:db8::1"],
    (b"four.test", socket.AF_INET): ["192.0.2.4"],
    (b"big.test", socket.AF_INET): [f"192.0.2.{n}" for n in range(200)],
}


def lookup(name: bytes, family: int) -> list[str]:
    name = name.lower()
    if name == b"slow.test":
        raise socket.gaierror(socket.EAI_AGAIN, "again")
    if name == b"empty.test":
        raise socket.gaierror(socket.EAI_NODATA, "no data")
    families = [family] if family else [socket.AF_INET, socket.AF_INET6]
    found = [one for wanted in families for one in NAMES.get((name, wanted), [])]
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no name")
    return found


def reverse(address: str) -> str:
    if address == "192.0.2.1":
        return "both.test"
    if address == "192.0.2.9":
        raise socket.gaierror(socket.EAI_AGAIN, "again")
    raise socket.gaierror(socket.EAI_NONAME, "no name")


def forward(query: dns.message.Message) -> dns.message.Message:
    name = query.question[0].name
    if str(name) == "lost.test.":
        raise dns.exception.Timeout
    if str(name) == "down.test.":
        raise OSError("no route")
    reply = dns.message.make_response(query)
    assert str(name) != "listed.test.", "a name of the host's own was asked for"
    if str(name) in ("none.test.", "four.test."):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    else:
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "MX", "5 mail.test."))
    return reply


def listed(name: bytes) -> bool:
    return name == b"listed.test"


def ask(query: dns.message.Message, *, udp: bool = True) -> dns.message.Message:
    answerer = Answerer(lookup, reverse, forward, listed)
    wire = answerer.reply(query.to_wire(), udp=udp)
    assert wire is not None
    reply = dns.message.from_wire(wire)
    assert reply.id == query.id
    assert reply.flags & dns.flags.QR
    assert reply.flags & dns.flags.RA
    return reply


def question(
    name: str, kind: str = "A", payload: int | None = None
) -> dns.message.Message:
    edns = -1 if payload is None else 0
    return dns.message.make_query(name, kind, use_edns=edns, payload=payload)


def texts(reply: dns.message.Message) -> list[str]:
    return sorted(str(item) for rrset in reply.answer for item in rrset)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("both.test", "A", ["192.0.2.1", "192.0.2.2"]),
        ("both.test", "AAAA", ["2001:db8::1"]),
        ("four.test", "AAAA", []),
        ("empty.test", "A", []),
        ("1.2.0.192.in-addr.arpa", "PTR", ["both.test."]),
        ("mx.test", "MX", ["5 mail.test."]),
        ("listed.test", "MX", []),
        ("listed.test", "HTTPS", []),
        ("four.test", "TXT", []),
        ("both.test", "SRV", ["5 mail.test."]),
    ],
)
def test_answer(name: str, kind: str, expected: list[str]) -> None:
    reply = ask(question(name, kind))
    assert reply.rcode() == dns.rcode.NOERROR
    assert texts(reply) == expected


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nope.test", "A", dns.rcode.NXDOMAIN),
        ("nope.test", "AAAA", dns.rcode.NXDOMAIN),
        ("none.test", "TXT", dns.rcode.NXDOMAIN),
        ("7.2.0.192.in-addr.arpa", "PTR", dns.rcode.NXDOMAIN),
        ("slow.test", "A", dns.rcode.SERVFAIL),
        ("9.2.0.192.in-addr.arpa", "PTR", dns.rcode.SERVFAIL),
        ("lost.test", "MX", dns.rcode.SERVFAIL),
        ("down.test", "MX", dns.rcode.SERVFAIL),
    ],
)
def test_failure(name: str, kind: str, rcode: dns.rcode.Rcode) -> None:
    reply = ask(question(name, kind))
    assert reply.rcode() == rcode
    assert not reply.answer


@pytest.mark.parametrize("name", [".", "1.2.3.4", r"a\032b.test", r"a\.b.test"])
def test_what_getaddrinfo_would_misread_is_passed_on(name: str) -> None:
    assert texts(ask(question(name))) == ["5 mail.test."]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"box", True),
        (b"BOX.test", True),
        (b"192.0.2.1", False),
        (b"gone", False),
        (b"ox", False),
    ],
)
def test_names_of_the_hosts_file(
    name: bytes, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts").write_text("# gone\n192.0.2.1\tbox.Test box # gone\n\n")
    monkeypatch.setattr(dns_answer, "_HOSTS", str(tmp_path / "hosts"))
    assert dns_answer.host_listed(name) is expected


def test_no_hosts_file_has_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_answer, "_HOSTS", "/nowhere/hosts")
    assert not dns_answer.host_listed(b"localhost")


class NameServers:
    """The host's name servers: what each of them does to a query."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **does: str) -> None:
        self.does = {name: int(rcode) for name, rcode in does.items()}
        self.nameservers = list(does)
        self.waited = 0.0
        monkeypatch.setattr(dns.resolver, "Resolver", lambda: self)
        monkeypatch.setattr(dns.query, "udp_with_fallback", self.query)

    def query(
        self, query: dns.message.Message, server: str, timeout: float
    ) -> tuple[dns.message.Message, bool]:
        if self.does[server] < 0:
            self.waited += timeout
            raise dns.exception.Timeout
        reply = dns.message.make_response(query)
        reply.set_rcode(dns.rcode.Rcode(self.does[server]))
        return reply, False


LOST = "-1"


def test_next_name_server_is_asked_where_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    NameServers(monkeypatch, one=LOST, two="2", three="5", four="3", five="0")
    assert dns_answer.host_forward(question("x.test")).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_name_servers_together_may_take_two_seconds(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = NameServers(monkeypatch, **{str(n): LOST for n in range(count)})
    with pytest.raises(dns.exception.Timeout):
        dns_answer.host_forward(question("x.test"))
    assert servers.waited == pytest.approx(2)


def test_name_servers_that_cannot_tell_are_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    NameServers(monkeypatch, one="5", two="2")
    with pytest.raises(OSError, match="two cannot tell"):
        dns_answer.host_forward(question("x.test"))


def test_case_of_the_question_is_echoed() -> None:
    query = question("bOtH.TeSt")
    reply = ask(query)
    assert reply.question[0].name.labels == query.question[0].name.labels
    assert reply.answer[0].name.labels == query.question[0].name.labels


def test_big_answer_over_udp_is_cut_and_marked() -> None:
    reply = ask(question("big.test"))
    assert reply.flags & dns.flags.TC
    assert not reply.answer


def test_big_answer_goes_over_tcp_and_to_clients_that_take_it() -> None:
    for reply in (
        ask(question("big.test"), udp=False),
        ask(question("big.test", payload=4096)),
    ):
        assert not reply.flags & dns.flags.TC
        assert len(texts(reply)) == 200


def test_edns_is_answered_by_edns() -> None:
    assert ask(question("both.test", payload=1232)).edns == 0
    assert ask(question("both.test")).edns == -1


def test_other_operations_are_not_implemented() -> None:
    query = question("both.test")
    query.set_opcode(dns.opcode.STATUS)
    assert ask(query).rcode() == dns.rcode.NOTIMP


def test_no_question_is_a_format_error() -> None:
    query = question("both.test")
    query.question = []
    assert ask(query).rcode() == dns.rcode.FORMERR


@pytest.mark.parametrize("udp", [True, False])
def test_garbage_with_a_header_is_a_format_error(udp: bool) -> None:
    wire = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x3f"
    reply = Answerer(lookup, reverse, forward).reply(wire, udp=udp)
    assert reply is not None
    read = dns.message.from_wire(reply)
    assert read.id == 0x1234
    assert read.rcode() == dns.rcode.FORMERR


@pytest.mark.parametrize("wire", [b"", b"short", b"\x12\x34\x81" + bytes(10)])
def test_what_is_no_query_is_not_answered(wire: bytes) -> None:
    assert Answerer(lookup, reverse, forward).reply(wire, udp=True) is None
