"""Mixed traffic between hosts that all run this script: servers, and a client of each.

    traffic.py RATE OWN,PEER[,PEER...] ...

Each word is a network: our address there, and those of the other hosts. RATE is how
many acts a second this host begins. Every act checks what it gets. Each second a line
of JSON tells how many acts of each kind were done since the start, how many datagrams
have stayed unanswered, and what was wrong. The end of the input ends it.

It runs on the system's interpreter: the standard library only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

_ECHO, _RESETTER, _FIRST_WORD, _TALKER, _DATAGRAMS, _GROUP, _NOBODY = range(7001, 7008)
_SECONDS = 30.0  # after which a stream has failed; a datagram is lost after a tenth
_HELD = 60.0  # how long a long connection lasts
_GROUPS = {4: "239.9.9.9", 6: "ff05::9:9"}
_RESET = struct.pack("=ii", 1, 0)  # SO_LINGER: no time
_PIECE = 1 << 16

_done: Counter[str] = Counter()
_lost: Counter[str] = Counter()
_wrong: list[str] = []


class Peer:
    """One address of another host, and our own on the same network."""

    def __init__(self, own: str, host: str) -> None:
        self.own, self.host = own, host
        self.version = ipaddress.ip_address(host).version
        self.family = socket.AF_INET if self.version == 4 else socket.AF_INET6

    def stream(self, port: int) -> socket.socket:
        """Connect."""
        return socket.create_connection((self.host, port), _SECONDS)

    def datagrams(self, protocol: int = 0) -> socket.socket:
        """Return a socket for datagrams to it."""
        s = socket.socket(self.family, socket.SOCK_DGRAM, protocol)
        s.settimeout(_SECONDS / 10)
        return s


# ---- servers ----


def _all(s: socket.socket) -> bytes:
    got = bytearray()
    while part := s.recv(_PIECE):
        got += part
    return bytes(got)


def _echo(s: socket.socket) -> None:
    while part := s.recv(_PIECE):
        s.sendall(part)


def _reset(s: socket.socket) -> None:
    """Close with data unread, which resets."""
    s.recv(1)


def _first_word(s: socket.socket) -> None:
    """Say all, half close, and hear the other side out."""
    s.sendall(b"x" * 5000)
    s.shutdown(socket.SHUT_WR)
    _all(s)


def _talk(s: socket.socket) -> None:
    """Talk to who does not listen, until it is gone."""
    while True:
        s.sendall(b"y" * 20000)


def _serve(port: int, work: Callable[[socket.socket], None]) -> None:
    listener = socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
    )

    def one(s: socket.socket) -> None:
        with s, contextlib.suppress(OSError):  # what matters is seen by the client
            s.settimeout(4 * _SECONDS)
            work(s)

    while True:
        s, _ = listener.accept()
        threading.Thread(target=one, args=(s,), daemon=True).start()


def _serve_datagrams(s: socket.socket) -> None:
    while True:
        with contextlib.suppress(OSError):
            s.sendto(*s.recvfrom(_PIECE))


def _bind(peer: Peer, port: int) -> socket.socket:
    s = socket.socket(peer.family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if peer.version == 6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("::" if peer.version == 6 else "0.0.0.0", port))
    return s


def _join(s: socket.socket, peer: Peer) -> None:
    group = ipaddress.ip_address(_GROUPS[peer.version]).packed
    if peer.version == 4:
        own = ipaddress.ip_address(peer.own).packed
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + own)
    else:
        s.setsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack("=I", 0)
        )


# ---- a client's acts ----


def short(peer: Peer) -> None:
    """Send a little, half close, and get it back."""
    data = random.randbytes(random.randint(1, 3000))
    with peer.stream(_ECHO) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert _all(s) == data


def bulk(peer: Peer) -> None:
    """Send much, and get it back at the same time."""
    data = random.randbytes(1 << 17)
    with peer.stream(_ECHO) as s:

        def send() -> None:
            with contextlib.suppress(OSError):
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        got = _all(s)
        thread.join()
        assert got == data


def reset_by_us(peer: Peer) -> None:
    """Go away with a reset, data unread."""
    with peer.stream(_ECHO) as s:
        s.sendall(b"z" * 1000)
        s.recv(1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def reset_by_peer(peer: Peer) -> None:
    """Be reset."""
    with peer.stream(_RESETTER) as s:
        s.sendall(b"ab")
        with contextlib.suppress(ConnectionResetError):
            s.recv(1)
            raise AssertionError("no reset")


def peer_half_closes(peer: Peer) -> None:
    """Hear the other side out, then talk."""
    with peer.stream(_FIRST_WORD) as s:
        assert len(_all(s)) == 5000
        s.sendall(b"late")


def leaves_unread(peer: Peer) -> None:
    """Close while the other side talks."""
    with peer.stream(_TALKER) as s:
        assert s.recv(100)


def refused(peer: Peer) -> None:
    """Ask where nobody listens."""
    with contextlib.suppress(ConnectionRefusedError):
        peer.stream(_NOBODY).close()
        raise AssertionError("somebody listens")


def listen_and_close(peer: Peer) -> None:
    """Have a listener for a moment."""
    socket.create_server((peer.own, 0), family=peer.family).close()


def udp(peer: Peer) -> None:
    """A datagram, in fragments at times, and its echo."""
    size = random.choice((0, 1, 500, 1400, 1400, 9000, 20000))
    data = random.randbytes(size)
    with peer.datagrams() as s:
        s.sendto(data, (peer.host, _DATAGRAMS))
        assert s.recvfrom(_PIECE)[0] == data


def udp_refused(peer: Peer) -> None:
    """A datagram to nobody."""
    with peer.datagrams() as s:
        s.connect((peer.host, _NOBODY))
        s.send(b"?")
        with contextlib.suppress(ConnectionRefusedError):
            s.recvfrom(1)  # recv() says 0 bytes (docs/compatibility.md, UDP)
            raise AssertionError("somebody answers")


def ping(peer: Peer) -> None:
    """An echo request."""
    v4 = peer.version == 4
    protocol = socket.IPPROTO_ICMP if v4 else socket.IPPROTO_ICMPV6
    data = random.randbytes(random.choice((8, 56, 3000)))
    with peer.datagrams(protocol=protocol) as s:
        head = struct.pack("!BBHHH", 8 if v4 else 128, 0, 0, 0, 1)
        s.sendto(head + data, (peer.host, 0))
        assert s.recv(_PIECE)[8:] == data


def multicast(peer: Peer) -> None:
    """A datagram to all, and one answer at least."""
    with peer.datagrams() as s:
        if peer.version == 4:
            own = ipaddress.ip_address(peer.own).packed
            s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        s.sendto(b"all", (_GROUPS[peer.version], _GROUP))
        assert s.recv(100) == b"all"


_ACTS: dict[Callable[[Peer], None], int] = {
    short: 6,
    bulk: 1,
    reset_by_us: 2,
    reset_by_peer: 2,
    peer_half_closes: 2,
    leaves_unread: 1,
    refused: 2,
    listen_and_close: 1,
    udp: 4,
    udp_refused: 1,
    ping: 2,
    multicast: 1,
}
_MAY_BE_LOST = (udp, udp_refused, ping, multicast)


def _do(act: Callable[[Peer], None], peer: Peer) -> None:
    try:
        act(peer)
    except TimeoutError:
        if act in _MAY_BE_LOST:
            _lost[act.__name__] += 1
        else:
            _wrong.append(f"{act.__name__} {peer.host}: no answer")
    except (OSError, AssertionError) as exc:
        _wrong.append(f"{act.__name__} {peer.host}: {type(exc).__name__} {exc}")
    else:
        _done[act.__name__] += 1


def _hold(peer: Peer) -> None:
    """Long connections, one after the other: a piece to and fro each second."""
    while True:
        end = time.monotonic() + _HELD
        try:
            with peer.stream(_ECHO) as s:
                while time.monotonic() < end:
                    data, got = random.randbytes(4000), b""
                    s.sendall(data)
                    while len(got) < len(data) and (part := s.recv(_PIECE)):
                        got += part
                    assert got == data, "other bytes"
                    _done["held"] += 1
                    time.sleep(1)
        except (OSError, AssertionError) as exc:
            _wrong.append(f"held {peer.host}: {type(exc).__name__} {exc}")
            time.sleep(1)


def _act(peers: list[Peer], rate: float) -> None:
    acts, weights = list(_ACTS), list(_ACTS.values())
    while True:
        begun = time.monotonic()
        _do(random.choices(acts, weights)[0], random.choice(peers))
        time.sleep(max(0, begun + 1 / rate - time.monotonic()))


def _start(target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _tell() -> None:
    while True:
        report = {"done": _done, "lost": _lost, "wrong": _wrong[:10]}
        _say(json.dumps(report))
        time.sleep(1)


def main() -> None:
    """Serve and ask until the end of the input."""
    rate = float(sys.argv[1])
    peers = []
    for words in sys.argv[2:]:
        own, *hosts = words.split(",")
        peers += [Peer(own, host) for host in hosts]
    servers = {
        _ECHO: _echo,
        _RESETTER: _reset,
        _FIRST_WORD: _first_word,
        _TALKER: _talk,
    }
    for port, work in servers.items():
        _start(_serve, port, work)
    for version in (4, 6):
        ours = {peer.own: peer for peer in peers if peer.version == version}
        any_one = next(iter(ours.values()))
        _start(_serve_datagrams, _bind(any_one, _DATAGRAMS))
        group = _bind(any_one, _GROUP)
        for peer in ours.values():
            with contextlib.suppress(OSError):  # IPv6: joined on another card already
                _join(group, peer)
        _start(_serve_datagrams, group)
    _say("serves")
    sys.stdin.readline()  # all are there
    for peer in peers:
        _start(_hold, peer)
    _start(_act, peers, rate)
    _start(_tell)
    sys.stdin.read()
    os._exit(0)  # threads wait in calls


if __name__ == "__main__":
    main()
