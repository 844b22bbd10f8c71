"""Frames that strangers may send: whatever they hold, the stack server goes on.

The frames of honest traffic, damaged; checksums are not looked at, so that what is
damaged gets as far as it can. Under the sanitisers this finds most.
UMVIEW_FRAMES says how many frames, another seed each thousand.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from pathlib import Path

from .lab import Flag, Kind, Lab, Name, Packet, lab
from .test_stackd import DhcpServer, advertisement

_FRAMES = int(os.environ.get("UMVIEW_FRAMES", "2000"))
_A_SEED = 1000
_PAIRS = [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")]
_LONGEST = 1514


def _talk(one: Lab) -> list[bytes]:
    """Let the stacks say all that they can; return what stack 0 may hear."""
    one.rule = server = DhcpServer(one)
    one.stacks[0].bring(advertisement(1800, 3600, 1800, other=True))
    one.wait(3)
    for stack in one.stacks:
        for group in ("239.1.2.3", "ff15::7"):
            stack.send(Packet(Kind.GROUP, card=2, remote=Name(group)))
        stack.send(Packet(Kind.PORT, local=Name("::", 53)))
    one.listen(0, Name("::", 80))
    one.listen(1, Name("::", 80))
    for mine, yours in _PAIRS:
        for side, (a, b) in enumerate(((mine, yours), (yours, mine))):
            number = one.dial(side, Name(a, 4000 + side), Name(b, 80))
            one.hear(side, Kind.CONNECTED)
            accepted = one.hear(not side, Kind.ACCEPTED)
            ends = one.start(side, number), one.start(not side, accepted.id)
            for end in ends:
                end.send(bytes(4000))
            one.settle()
            ends[0].shutdown(socket.SHUT_WR)
        for length in (10, 4000):
            for protocol in (socket.IPPROTO_UDP, *_icmp(mine)):
                one.stacks[1].send(_packet(yours, mine, protocol, length))
        one.stacks[1].send(_packet(yours, mine, socket.IPPROTO_UDP, 10, port=99))
        one.stacks[0].send(_packet(mine, yours, socket.IPPROTO_UDP, 10, port=99))
    one.wait(5)
    heard = [frame for side, frame in one.seen if side == 1]
    return [*heard, advertisement(9, 60, 20, other=False), *server.replies]


def _icmp(address: str) -> tuple[int]:
    return (socket.IPPROTO_ICMP if "." in address else socket.IPPROTO_ICMPV6,)


def _packet(
    mine: str, yours: str, protocol: int, length: int, *, port: int = 53
) -> Packet:
    udp = protocol == socket.IPPROTO_UDP
    kind = 8 if protocol == socket.IPPROTO_ICMP else 128
    data = bytes(length) if udp else struct.pack("!BBHHH", kind, 0, 0, 7, 1)
    return Packet(
        Kind.SEND,
        local=Name(mine, 5000 if udp else 0),
        remote=Name(yours, port if udp else 0),
        protocol=protocol,
        data=data + bytes(0 if udp else length),
    )


def _damage(dice: random.Random, frames: list[bytes]) -> bytes:
    """Return a frame with something wrong in it; its addressee stays."""
    frame = bytearray(dice.choice(frames))
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at = dice.randrange(12, max(13, min(len(frame), dice.choice((40, 80, 1514)))))
        match dice.randrange(6):
            case 0 if at < len(frame):
                frame[at] = dice.randrange(256)
            case 1 if at < len(frame):
                frame[at] ^= 1 << dice.randrange(8)
            case 2 if at + 1 < len(frame):
                odd = dice.choice((0, 1, 7, 8, 0x7FFF, 0x8000, 0xFFFF, len(frame)))
                frame[at : at + 2] = struct.pack("!H", odd)
            case 3:
                del frame[max(at, 14) :]
            case 4:
                frame[at:at] = dice.randbytes(dice.choice((1, 4, 8, 200)))
            case _:
                other = dice.choice(frames)
                frame[at:] = other[at:]
    return bytes(frame[:_LONGEST])


def _answers(one: Lab, mine: str, yours: str) -> bool:
    """Return whether stack 0 answers an echo."""
    (protocol,) = _icmp(mine)
    one.stacks[1].told.clear()
    one.stacks[1].send(_packet(yours, mine, protocol, 20))
    one.wait(5)
    replies = (0, 129)
    return any(
        p.kind is Kind.RECEIVED and p.protocol == protocol and p.data[0] in replies
        for p in one.stacks[1].told
    )


def test_damaged_frames_end_nothing(library: Path, tmp_path: Path) -> None:
    for seed in range(-(-_FRAMES // _A_SEED)):
        dice = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        all_flags = Flag.DHCP | Flag.DHCP6 | Flag.SLAAC | Flag.BARE
        with lab(library, folder, flags=(all_flags, Flag.BARE)) as one:
            one.stacks[0].send(Packet(Kind.FORWARD, flags=Flag(seed & 1)))
            frames = _talk(one)
            assert len(frames) > 50
            one.rule = lambda _, frame: []
            for number in range(min(_A_SEED, _FRAMES)):
                one.stacks[0].bring(_damage(dice, frames))
                one.stacks[0].step(one.now_ms)
                if number % 50 == 0:
                    one.wait(dice.choice((0.0, 0.3, 1.0)))
                one.seen.clear()
            one.wait(70)  # what was only begun is given up
            # Fresh addresses: the others may have been told to be elsewhere.
            one.rule = lambda _, frame: [frame]
            one.stacks[0].add("10.9.0.3/24")
            one.stacks[1].add("10.9.0.4/24")
            assert _answers(one, "10.9.0.3", "10.9.0.4"), seed
