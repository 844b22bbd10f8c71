"""UDP on loopback: addresses, flags, sizes, connected sockets."""

from __future__ import annotations

import ctypes
import fcntl
import select
import socket
import struct
import termios
import threading

from kit import (
    ADDRESSES,
    V4,
    closed_port,
    mask_after,
    name_of,
    outcome,
    polled,
    settled,
    show,
    udp,
    wait_for,
)

_libc = ctypes.CDLL(None, use_errno=True)


def _who(name: object, *socks: socket.socket) -> object:
    """Return whose address a name is."""
    for i, sock in enumerate(socks):
        if name == sock.getsockname():
            return f"sock{i}"
    return name


def case_sendto_recvfrom() -> None:
    for family, _ in ADDRESSES:
        one, two = udp(family), udp(family)
        show(one.sendto(b"question", two.getsockname()))
        data, name = two.recvfrom(100)
        show(data, _who(name, one, two), polled(two))
        two.sendto(b"", name)
        data, name = one.recvfrom(100)
        show(data, _who(name, one, two))
        show(outcome(one.getpeername))


def case_send_without_a_peer() -> None:
    for family, _ in ADDRESSES:
        show(outcome(udp(family).send, b"x"))
        client = socket.socket(family, socket.SOCK_DGRAM)
        client.connect(udp(family).getsockname())
        _libc.connect(client.fileno(), bytes(32), 32)
        show(outcome(client.send, b"x"))


def case_autobind() -> None:
    for family, address in ADDRESSES:
        server, client = udp(family), socket.socket(family, socket.SOCK_DGRAM)
        show(client.getsockname()[:1], client.getsockname()[1])
        client.sendto(b"x", server.getsockname())
        _, name = server.recvfrom(1)
        show(name[0] == address, client.getsockname()[1] == name[1])
        show(client.getsockname()[0])


def case_connected() -> None:
    for family, _ in ADDRESSES:
        server, client = udp(family), socket.socket(family, socket.SOCK_DGRAM)
        stranger = udp(family)
        client.settimeout(5)
        client.connect(server.getsockname())
        show(client.getpeername() == server.getsockname(), client.getsockname()[0])
        client.send(b"one")
        data, name = server.recvfrom(10)
        show(data, name == client.getsockname())
        stranger.sendto(b"not for you", name)
        server.sendto(b"two", name)
        show(client.recv(20))
        show(outcome(client.sendto, b"to a stranger", stranger.getsockname()))
        show(stranger.recvfrom(20)[1] == name)
        show(outcome(client.connect, server.getsockname()))


def case_disconnect() -> None:
    for family, _ in ADDRESSES:
        server, client = udp(family), socket.socket(family, socket.SOCK_DGRAM)
        client.connect(server.getsockname())
        show(_libc.connect(client.fileno(), bytes(32), 32))
        show(outcome(client.getpeername), client.getsockname()[:2])
        client = udp(family)
        name = client.getsockname()
        client.connect(server.getsockname())
        show(
            _libc.connect(client.fileno(), bytes(32), 32), client.getsockname() == name
        )


def case_connect_narrows_the_wildcard() -> None:
    server, client = udp(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("", 0))
    port = client.getsockname()[1]
    client.connect(server.getsockname())
    show(client.getsockname() == (V4, port))


def case_refused() -> None:
    for family, address in ADDRESSES:
        client = socket.socket(family, socket.SOCK_DGRAM)
        client.settimeout(2)
        client.connect((address, closed_port(socket.SOCK_DGRAM, family)))
        show(outcome(client.send, b"x"), mask_after(client, "OUT|ERR"))
        show(name_of(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
        show(polled(client))
        show(outcome(client.send, b"x"))
        show(outcome(client.recvfrom, 1))
        show(outcome(client.send, b"x"))
        show(outcome(client.send, b"x"), outcome(client.send, b"x"))
        unconnected = socket.socket(family, socket.SOCK_DGRAM)
        name = (address, closed_port(socket.SOCK_DGRAM, family))
        show(outcome(unconnected.sendto, b"x", name))
        show(outcome(unconnected.sendto, b"x", name))


def case_peek_and_truncate() -> None:
    one, two = udp(), udp()
    two.settimeout(None)
    for size in (5, 0, 3):
        one.sendto(b"abcde"[:size], two.getsockname())
    wait_for(two)
    show(two.recvfrom(3, socket.MSG_PEEK)[0], two.recvfrom(3, socket.MSG_PEEK)[0])
    show(two.recv(3, socket.MSG_PEEK), two.recv(2, socket.MSG_PEEK))
    show(two.recv_into(bytearray(3), 0, socket.MSG_TRUNC | socket.MSG_PEEK))
    show(two.recvfrom_into(bytearray(3), 0, socket.MSG_TRUNC)[0])
    show(polled(two), two.recvfrom(10)[0], two.recv(10), polled(two))
    show(outcome(two.recv, 1, socket.MSG_DONTWAIT))
    show(outcome(two.recvfrom, 1, socket.MSG_DONTWAIT))
    show(outcome(two.recvmsg, 1, 0, socket.MSG_DONTWAIT))


def case_mixed_receives_keep_addresses_right() -> None:
    target = udp()
    senders = [udp() for _ in range(4)]
    for turn in range(5):
        for i, sock in enumerate(senders):
            sock.sendto(bytes([i]) * (1 + turn * 300), target.getsockname())
    for _ in range(5):
        show(target.recv(2000)[:1])
        show(*(_who(target.recvfrom(2000)[1], *senders) for _ in range(2)))
        show(target.recvmsg(2000)[0][:1])


def case_recvmsg() -> None:
    for family, _ in ADDRESSES:
        one, two = udp(family), udp(family)
        one.sendmsg([b"ab", b"cd"], [], 0, two.getsockname())
        data, control, flags, name = two.recvmsg(10, 64)
        show(data, control, flags, _who(name, one))
        one.sendto(b"0123456789", two.getsockname())
        first, second = bytearray(4), bytearray(3)
        count, control, flags, name = two.recvmsg_into([first, second])
        show(count, first, second, control, bool(flags & socket.MSG_TRUNC))
        one.sendto(b"0123456789", two.getsockname())
        show(two.recvmsg(4, 0, socket.MSG_TRUNC)[::2])


def case_control_messages() -> None:
    one, two = udp(), udp()
    two.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    two.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    two.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    one.sendto(b"x", two.getsockname())
    for level, kind, data in two.recvmsg(1, 200)[1]:
        if kind == 8:
            index, local, dest = struct.unpack("I4s4s", data)
            show("pktinfo", index, socket.inet_ntoa(local), socket.inet_ntoa(dest))
        else:
            show(level, kind, data)
    six, seven = udp(socket.AF_INET6), udp(socket.AF_INET6)
    seven.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    seven.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    seven.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    six.sendto(b"x", seven.getsockname())
    for level, kind, data in seven.recvmsg(1, 200)[1]:
        show(level, kind, data)


def case_control_messages_cut() -> None:
    one, two = udp(), udp()
    two.setsockopt(socket.IPPROTO_IP, 8, 1)
    one.sendto(b"x", two.getsockname())
    data, control, flags, _ = two.recvmsg(1, 20)
    show(data, len(control), bool(flags & socket.MSG_CTRUNC))


def case_timestamps() -> None:
    one, two = udp(), udp()
    two.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
    one.sendto(b"x", two.getsockname())
    for level, kind, data in two.recvmsg(1, 200)[1]:
        show(level, kind, len(data), struct.unpack("qq", data)[0] > 1_600_000_000)
    two.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
    one.sendto(b"x", two.getsockname())
    for level, kind, data in two.recvmsg(1, 200)[1]:
        show(level, kind, len(data), struct.unpack("qq", data)[0] > 1_600_000_000)


def case_error_queue_empty() -> None:
    sock = udp()
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_IP, 11, 1)
    show(outcome(sock.recvmsg, 10, 100, 0x2000), outcome(sock.recvfrom, 10, 0x2000))


def case_sizes() -> None:
    for family, _ in ADDRESSES:
        one, two = udp(family), udp(family)
        for size in (0, 1, 1472, 9000, 65000, 65507, 65508, 65527, 65528, 70000):
            result = outcome(one.sendto, bytes(size), two.getsockname())
            show(size, result)
            if result == size:
                show(len(two.recv(70000)))


def case_connected_sizes() -> None:
    one, two = udp(), udp()
    one.connect(two.getsockname())
    for size in (0, 100, 65507, 65508):
        show(size, outcome(one.send, bytes(size)))
    for _ in range(3):
        show(len(two.recv(70000)))


def case_fionread() -> None:
    one, two = udp(), udp()

    def next_size() -> int:
        buf = bytearray(4)
        fcntl.ioctl(two, termios.FIONREAD, buf)
        return int.from_bytes(buf, "little")

    show(next_size())
    one.sendto(b"12345", two.getsockname())
    one.sendto(b"123456", two.getsockname())
    show(settled(next_size, 5))
    two.recv(10)
    show(next_size())


def case_native_calls_on_connected() -> None:
    import os

    one, two = udp(), udp()
    one.connect(two.getsockname())
    two.connect(one.getsockname())
    show(os.write(one.fileno(), b"written"), two.recv(20))
    two.send(b"sent")
    wait_for(one)
    show(os.read(one.fileno(), 20))
    show(outcome(one.shutdown, socket.SHUT_WR), outcome(one.send, b"x"))
    two.send(b"still")
    show(one.recv(20))


def case_order_is_kept() -> None:
    one, two = udp(), udp()
    one.connect(two.getsockname())
    for i in range(30):
        if i % 3 == 0:
            one.send(bytes([i]))
        elif i % 3 == 1:
            one.sendto(bytes([i]), two.getsockname())
        else:
            one.sendmsg([bytes([i])])
    show([two.recv(1)[0] for _ in range(30)] == list(range(30)))


def case_v4_peers_of_a_v6_socket() -> None:
    six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    six.bind(("", 0))
    six.settimeout(5)
    four = udp()
    port = six.getsockname()[1]
    four.sendto(b"up", (V4, port))
    data, name = six.recvfrom(10)
    show(data, name[0], name[1] == four.getsockname()[1], name[2:])
    six.sendto(b"down", name)
    data, back = four.recvfrom(10)
    show(data, back == (V4, port))
    six.connect(name)
    show(six.getsockname()[0], six.getpeername()[0])


def case_broadcast_needs_permission() -> None:
    sock = udp()
    show(outcome(sock.sendto, b"x", ("255.255.255.255", 9)))


def case_multicast_on_loopback() -> None:
    group = "239.1.2.3"
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("", 0))
    receiver.settimeout(1)
    port = receiver.getsockname()[1]
    member = socket.inet_aton(group) + socket.inet_aton(V4)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(V4))
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    sender.sendto(b"to all", (group, port))
    show(outcome(receiver.recv, 10))
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, member)
    sender.sendto(b"to none", (group, port))
    receiver.settimeout(0.2)
    show(outcome(receiver.recv, 10))


def case_epoll() -> None:
    one, two = udp(), udp()
    level, edge = select.epoll(), select.epoll()
    level.register(two, select.EPOLLIN)
    edge.register(two, select.EPOLLIN | select.EPOLLET)
    show(len(level.poll(0)), len(edge.poll(0)))
    one.sendto(b"x", two.getsockname())
    show(len(level.poll(2)), len(edge.poll(2)))
    show(len(level.poll(0)), len(edge.poll(0)))
    one.sendto(b"y", two.getsockname())
    show(len(edge.poll(2)))
    two.recv(1), two.recv(1)
    show(len(level.poll(0)), len(edge.poll(0)))


def case_timeout() -> None:
    sock = udp()
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 40_000))
    show(outcome(sock.recv, 1), outcome(sock.recvfrom, 1), outcome(sock.recvmsg, 1))


def case_blocked_receives() -> None:
    for how in ("recv", "recvfrom", "recvmsg"):
        one, two = udp(), udp()
        two.settimeout(None)
        timer = threading.Timer(0.05, one.sendto, (b"late", two.getsockname()))
        timer.start()
        result = getattr(two, how)(10)
        show(how, result if how == "recv" else result[0])
        timer.join()


def case_flood_keeps_what_fits() -> None:
    one, two = udp(), udp()
    for i in range(2000):
        one.sendto(struct.pack("I", i), two.getsockname())
    got = []
    while polled(two, 0.05) != "OUT" and polled(two) != "-":
        got.append(struct.unpack("I", two.recvfrom(4)[0])[0])
    show(got == sorted(got), got[:50] == list(range(50)), len(got) > 100)
