"""Groups and broadcasts over a switch, between views and the kernel's stack."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from ipaddress import ip_address

import pytest

from tests.apps.lab import SYSTEM_PYTHON, Site, User
from tests.stacks.lab import open_host, open_kernel
from tests.switch import Switch

# Says who was heard by which of its sockets. "other" hears another sender only, and
# "left" has left its group.
_HEAR = """
import json, select, socket, struct, sys, time
own, peer, other = sys.argv[1:]
index = socket.if_nametoindex("vd0")
a = socket.inet_aton
IP_RECVTTL, IP_ADD_SOURCE_MEMBERSHIP = 12, 39

def hear(port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind(("", port))
    return s

def join(s, group, *source):
    name = IP_ADD_SOURCE_MEMBERSHIP if source else socket.IP_ADD_MEMBERSHIP
    s.setsockopt(socket.IPPROTO_IP, name, a(group) + a(own) + b"".join(map(a, source)))

plain, chosen, silent, left, broad = (hear(port) for port in range(7000, 7005))
plain.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
join(plain, "239.1.0.0")
join(chosen, "239.1.0.1", peer)
join(silent, "239.1.0.2", other)
join(left, "239.1.0.3")
left.setsockopt(
    socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, a("239.1.0.3") + a(own)
)
six = hear(7006, socket.AF_INET6)
group = socket.inet_pton(socket.AF_INET6, "ff15::6") + struct.pack("i", index)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
sockets = dict(
    plain=plain, chosen=chosen, broad=broad, six=six, silent=silent, left=left
)
print("ready", flush=True)
heard, end = {}, time.monotonic() + 30
while not {"plain", "chosen", "broad", "six"} <= set(heard):
    ready, _, _ = select.select(list(sockets.values()), [], [], end - time.monotonic())
    for name, s in sockets.items():
        if s in ready:
            data, control, _, address = s.recvmsg(100, 100)
            ttl = [struct.unpack("i", value)[0] for *_, value in control]
            heard[name] = [data.decode(), address[0], ttl]
time.sleep(0.5)  # for what is not to come
for name, s in sockets.items():
    if name not in heard and select.select([s], [], [], 0)[0]:
        heard[name] = s.recv(100).decode()
print(json.dumps(heard), flush=True)
"""

_SPEAK = """
import socket, sys, time
own, broadcast = sys.argv[1:]
index = socket.if_nametoindex("vd0")
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 5)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 5)
print("speaks", flush=True)
while True:
    for i in range(4):
        s.sendto(b"to all", (f"239.1.0.{i}", 7000 + i))
    s.sendto(b"to everybody", (broadcast, 7004))
    six.sendto(b"to six", ("ff15::6", 7006))
    time.sleep(0.1)
"""

_Open = Callable[..., AbstractContextManager[Site]]


@pytest.mark.parametrize(
    ("hearer", "speaker"),
    [(open_host, open_host), (open_host, open_kernel), (open_kernel, open_host)],
    ids=["views", "kernel-speaks", "kernel-hears"],
)
def test_groups_and_broadcasts_arrive(
    user: User, switch: Switch, hearer: _Open, speaker: _Open
) -> None:
    own, peer, other = (switch.host(number) for number in (1, 2, 3))
    with (
        hearer(user, "hearer", switch.card(1)) as one,
        speaker(user, "speaker", switch.card(2)) as two,
        one.serve(SYSTEM_PYTHON, "-c", _HEAR, own, peer, other, says="ready") as hears,
        two.serve(SYSTEM_PYTHON, "-c", _SPEAK, peer, "10.0.0.255", says="speaks"),
    ):
        heard = json.loads(hears.finish(60).out.splitlines()[-1])
    assert heard == {
        "plain": ["to all", peer, [5]],
        "chosen": ["to all", peer, []],
        "broad": ["to everybody", peer, []],
        "six": ["to six", str(ip_address(switch.host6(2))), []],
    }
