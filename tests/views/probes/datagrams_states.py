"""The states of datagram sockets: names, connect, shutdown, flags, buffers, limits."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import socket
import struct
import termios
import threading
import time

from kit import (
    ADDRESSES,
    V4,
    V6,
    child,
    closed_port,
    name_of,
    outcome,
    polled,
    settled,
    show,
    udp,
    wait_for,
)

_libc = ctypes.CDLL(None, use_errno=True)
DONTWAIT = socket.MSG_DONTWAIT


def _udp(family: int = socket.AF_INET) -> socket.socket:
    """Return a bound socket in blocking mode: with a flag it does not wait at all."""
    sock = udp(family)
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    return sock


def _socket(family: int = socket.AF_INET) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM)


def _data(sock: socket.socket, flags: int = 0) -> object:
    """Return what recvfrom() gives, without the name; or the errno."""
    return outcome(lambda: sock.recvfrom(10, flags)[0])


def _unconnect(sock: socket.socket) -> object:
    result = _libc.connect(sock.fileno(), bytes(32), 32)
    return result if result == 0 else name_of(ctypes.get_errno())


def _size(sock: socket.socket, request: int) -> int:
    buf = array.array("i", [-1])
    fcntl.ioctl(sock, request, buf)
    return buf[0]


def case_fresh() -> None:
    for family, address in ADDRESSES:
        sock = _socket(family)
        show(polled(sock), outcome(sock.getpeername), sock.getsockname()[:2])
        show(outcome(sock.recv, 1, DONTWAIT), outcome(sock.recvfrom, 1, DONTWAIT))
        show(outcome(sock.listen), outcome(sock.accept))
        show(_size(sock, termios.FIONREAD), _size(sock, termios.TIOCOUTQ))
        show(outcome(sock.sendmsg, [b"x"]))
        show(outcome(sock.sendto, b"x", (address, 0)))
        for how in range(4):
            show(how, outcome(sock.shutdown, how))


def case_bind() -> None:
    for family, address in ADDRESSES:
        sock, other = _socket(family), _socket(family)
        show(outcome(sock.bind, (address, 0)), outcome(sock.bind, (address, 0)))
        show(outcome(other.bind, sock.getsockname()))
        any_address = "0.0.0.0" if family == socket.AF_INET else "::"
        show(outcome(other.bind, (any_address, sock.getsockname()[1])))
        show(outcome(other.bind, (any_address, 0)), other.getsockname()[0])
        missing = "192.0.2.99" if family == socket.AF_INET else "2001:db8::99"
        show(outcome(_socket(family).bind, (missing, 0)))
        show(outcome(_socket(family).bind, (address, 80)) in (None, "EACCES"))


def case_bind_after_use() -> None:
    server = _udp()
    sock = _socket()
    sock.sendto(b"x", server.getsockname())
    show(outcome(sock.bind, (V4, 0)))
    sock = _socket()
    sock.connect(server.getsockname())
    show(outcome(sock.bind, (V4, 0)))
    show(_unconnect(sock), outcome(sock.bind, (V4, 0)), sock.getsockname()[0])
    sock = _socket()
    sock.bind((V4, 0))
    sock.connect(server.getsockname())
    show(_unconnect(sock), outcome(sock.bind, (V4, 0)))
    sock = _socket()
    sock.bind(("", 0))
    sock.connect(server.getsockname())
    show(sock.getsockname()[0], _unconnect(sock), sock.getsockname()[0])


def case_connect_again() -> None:
    for family, address in ADDRESSES:
        one, two, sock = _udp(family), _udp(family), _socket(family)
        sock.connect(one.getsockname())
        name = sock.getsockname()
        sock.send(b"a")
        show(one.recvfrom(5)[1] == name)
        one.sendto(b"from one", name)
        sock.connect(two.getsockname())
        show(sock.getsockname() == name, sock.getpeername() == two.getsockname())
        one.sendto(b"late", name)
        two.sendto(b"from two", name)
        show(sock.recv(20), sock.recv(20))
        show(outcome(sock.recv, 20, DONTWAIT) != b"late")
        show(outcome(sock.connect, (address, 0)), outcome(sock.getpeername))
        show(outcome(sock.sendmsg, [b"x"]))


def case_connect_port_zero() -> None:
    sock = _socket()
    show(outcome(sock.connect, (V4, 0)), outcome(sock.getpeername))
    show(sock.getsockname()[0], sock.getsockname()[1] > 0)
    show(outcome(sock.sendmsg, [b"x"]))


def case_connect_wrong() -> None:
    sock = _socket()
    for data in (b"", b"\2", bytes([2, 0]) + bytes(8), bytes([77, 0]) + bytes(30)):
        result = _libc.connect(sock.fileno(), data, len(data))
        show(len(data), result, name_of(ctypes.get_errno()))
    show(outcome(sock.connect, ("255.255.255.255", 9)))
    six = _socket(socket.AF_INET6)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    show(outcome(six.connect, ("::ffff:127.0.0.1", 9)))
    name = bytes([2, 0, 0, 9, 127, 0, 0, 1]) + bytes(8)
    for family in (socket.AF_INET, socket.AF_INET6):
        sock = _socket(family)
        for size in (16, 15, 8, 28):
            data = (name + bytes(12))[:size]
            result = _libc.connect(sock.fileno(), data, size)
            show(family, size, result, name_of(ctypes.get_errno()))


def case_to_any_address() -> None:
    for family, address in ADDRESSES:
        server, sock = _udp(family), _socket(family)
        nowhere = "0.0.0.0" if family == socket.AF_INET else "::"
        show(outcome(sock.sendto, b"x", (nowhere, server.getsockname()[1])))
        show(server.recvfrom(5)[1][0])
        sock.connect((nowhere, server.getsockname()[1]))
        show(sock.getpeername()[0] == address, sock.getsockname()[0])


def case_connected_hears_only_its_peer() -> None:
    for family, _ in ADDRESSES:
        one, two, sock = _udp(family), _udp(family), _udp(family)
        two.sendto(b"before", sock.getsockname())
        sock.connect(one.getsockname())
        two.sendto(b"after", sock.getsockname())
        one.sendto(b"peer", sock.getsockname())
        show(sock.recv(10), sock.recv(10), outcome(sock.recvfrom, 9, DONTWAIT))


def case_stranger_of_a_connected_socket() -> None:
    sock, one, two = _udp(), _udp(), _udp()
    sock.connect(one.getsockname())
    two.connect(sock.getsockname())
    two.sendto(b"x", sock.getsockname())
    show(settled(lambda: name_of(two.getsockopt(1, 4)), "ECONNREFUSED"))


def case_shutdown_read() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        one.connect(two.getsockname())
        two.connect(one.getsockname())
        two.send(b"waits")
        wait_for(one)
        one.settimeout(None)
        show(outcome(one.shutdown, socket.SHUT_RD), polled(one))
        show(one.recv(10), one.recv(10), _data(one))
        show(outcome(one.recvfrom, 10, DONTWAIT), one.recvmsg(10)[0])
        show(one.send(b"x"), two.recv(10))
        show(outcome(one.shutdown, socket.SHUT_RD))


def case_shutdown_write() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        one.connect(two.getsockname())
        two.connect(one.getsockname())
        show(outcome(one.shutdown, socket.SHUT_WR), polled(one))
        show(outcome(one.send, b"x"), outcome(one.sendmsg, [b"x"]))
        show(outcome(one.sendto, b"x", two.getsockname()))
        two.send(b"heard")
        show(one.recvfrom(10)[0], polled(one))


def case_shutdown_both() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        one.settimeout(None)
        one.connect(two.getsockname())
        show(outcome(one.shutdown, socket.SHUT_RDWR), polled(one))
        show(outcome(one.recv, 10), _data(one))
        show(outcome(one.sendto, b"x", two.getsockname()))


def case_shutdown_wakes() -> None:
    for how in ("recv", "recvfrom", "recvmsg"):
        one, two = _udp(), _udp()
        one.settimeout(None)
        one.connect(two.getsockname())
        timer = threading.Timer(0.05, one.shutdown, (socket.SHUT_RD,))
        timer.start()
        result = getattr(one, how)(10)
        show(how, result if how == "recv" else result[0])
        timer.join()


def case_shutdown_unconnected() -> None:
    one, two = _udp(), _udp()
    one.settimeout(None)
    show(outcome(one.shutdown, socket.SHUT_RD), polled(one))
    show(outcome(one.recvfrom, 10, DONTWAIT))
    one, three = _udp(), _udp()
    show(outcome(one.shutdown, socket.SHUT_WR))
    show(outcome(one.sendto, b"x", three.getsockname()))
    show(two.sendto(b"y", one.getsockname()), one.recvfrom(2)[0])


def case_peer_closed() -> None:
    for family, _ in ADDRESSES:
        one, two = _udp(family), _udp(family)
        one.connect(two.getsockname())
        two.sendto(b"last", one.getsockname())
        two.close()
        show(one.recv(10), polled(one), outcome(one.recvfrom, 1, DONTWAIT))
        show(one.send(b"x"))
        wait_for(one, 0xD)
        show(outcome(one.recvfrom, 1), polled(one))


def case_zero_length() -> None:
    one, two = _udp(), _udp()
    two.settimeout(None)
    one.connect(two.getsockname())
    show(one.send(b""), one.sendto(b"", two.getsockname()), one.sendmsg([]))
    one.send(b"end")
    wait_for(two)
    show(_size(two, termios.FIONREAD), polled(two))
    show(two.recv(5), two.recvfrom(5)[0], two.recvmsg(5)[0], two.recv(5))
    one.sendto(b"abc", two.getsockname())
    wait_for(two)
    show(two.recvfrom(0)[0], outcome(two.recv, 5, DONTWAIT))
    show(os.read(one.fileno(), 0) if polled(one) == "x" else "-")


def case_truncate_without_buffer() -> None:
    one, two = _udp(), _udp()
    two.settimeout(None)
    for _ in range(4):
        one.sendto(b"0123456789", two.getsockname())
    wait_for(two)
    fd, trunc, peek = two.fileno(), int(socket.MSG_TRUNC), int(socket.MSG_PEEK)
    show(_libc.recv(fd, None, 0, trunc | peek), _libc.recv(fd, None, 0, trunc))
    name, size = ctypes.create_string_buffer(16), ctypes.c_int(16)
    show(_libc.recvfrom(fd, None, 0, trunc, name, ctypes.byref(size)), size.value)
    show(_libc.recvfrom(fd, name, 3, 0, None, None))
    show(_libc.recv(fd, name, 3, 0), outcome(two.recv, 3, DONTWAIT))


def case_waitall() -> None:
    one, two = _udp(), _udp()
    two.settimeout(None)
    one.sendto(b"ab", two.getsockname())
    one.sendto(b"cd", two.getsockname())
    show(two.recv(4, socket.MSG_WAITALL), two.recvfrom(4, socket.MSG_WAITALL)[0])


def case_out_of_band() -> None:
    one, two = _udp(), _udp()
    show(outcome(one.sendto, b"x", socket.MSG_OOB, two.getsockname()))
    show(outcome(two.recvfrom, 1, socket.MSG_OOB | DONTWAIT))
    one.sendto(b"x", two.getsockname())
    show(_data(two, socket.MSG_OOB | DONTWAIT))


def case_other_flags() -> None:
    one, two = _udp(), _udp()
    for flag in ("MSG_CONFIRM", "MSG_DONTROUTE", "MSG_EOR", "MSG_NOSIGNAL"):
        value = getattr(socket, flag)
        show(flag, outcome(one.sendto, b"x", value, two.getsockname()))
        show(two.recvfrom(2)[0])
    show(outcome(one.sendto, b"x", 0x4000000, two.getsockname()))  # MSG_ZEROCOPY
    show(outcome(one.sendto, b"x", 0x20000000, two.getsockname()))  # MSG_FASTOPEN


def case_sizes_of_names() -> None:
    server, sock = _udp(), _socket()
    name = struct.pack("=HHI", 2, socket.htons(server.getsockname()[1]), 0x0100007F)
    for size in (0, 1, 2, 7, 8, 15, 16, 20, 128, 129, -1):
        data = ctypes.create_string_buffer(name + bytes(200))
        result = _libc.sendto(sock.fileno(), b"x", 1, 0, data, size)
        show(size, result, name_of(ctypes.get_errno()) if result < 0 else "")
    data = ctypes.create_string_buffer(struct.pack("=H", 77) + name[2:] + bytes(20))
    result = _libc.sendto(sock.fileno(), b"x", 1, 0, data, 16)
    show(result, name_of(ctypes.get_errno()))
    data = ctypes.create_string_buffer(struct.pack("=H", 0) + name[2:] + bytes(20))
    show(_libc.sendto(sock.fileno(), b"x", 1, 0, data, 16))
    six = _socket(socket.AF_INET6)
    show(_libc.sendto(six.fileno(), b"x", 1, 0, data, 28))
    show(name_of(ctypes.get_errno()))
    data = ctypes.create_string_buffer(name + bytes(20))
    show(_libc.sendto(six.fileno(), b"x", 1, 0, data, 16))


def case_room_for_the_name() -> None:
    one, two = _udp(), _udp()
    for room in (0, 1, 8, 16, 100, -1):
        one.sendto(b"x", two.getsockname())
        wait_for(two)
        name, size = ctypes.create_string_buffer(b"#" * 128), ctypes.c_int(room)
        buf = ctypes.create_string_buffer(4)
        result = _libc.recvfrom(
            two.fileno(), buf, 4, DONTWAIT, name, ctypes.byref(size)
        )
        error = name_of(ctypes.get_errno()) if result < 0 else ""
        without_port = name.raw[:2] + name.raw[4:]  # a "#" may be in it
        kept = without_port.rstrip(b"\0").count(b"#")
        show(room, result, error, size.value, kept if room < 16 else "")
    show(outcome(two.recv, 1, DONTWAIT))


def case_bad_pointers() -> None:
    one, two = _udp(), _udp()
    one.sendto(b"lost?", two.getsockname())
    wait_for(two)
    name, size = ctypes.create_string_buffer(16), ctypes.c_int(16)
    fd = two.fileno()
    result = _libc.recvfrom(fd, ctypes.c_void_p(8), 4, 0, name, ctypes.byref(size))
    show(result, name_of(ctypes.get_errno()), outcome(two.recv, 5, DONTWAIT))
    address = bytes([2, 0, 0, 9, 127, 0, 0, 1]) + bytes(8)
    result = _libc.sendto(fd, ctypes.c_void_p(8), 4, 0, address, 16)
    show(result, name_of(ctypes.get_errno()))
    result = _libc.sendto(fd, b"x", 1, 0, ctypes.c_void_p(8), 16)
    show(result, name_of(ctypes.get_errno()))
    one.sendto(b"lost?", two.getsockname())
    wait_for(two)
    buf = ctypes.create_string_buffer(8)
    result = _libc.recvfrom(fd, buf, 8, 0, ctypes.c_void_p(8), ctypes.byref(size))
    show(result, name_of(ctypes.get_errno()), outcome(two.recv, 5, DONTWAIT))
    result = _libc.recvmsg(fd, ctypes.c_void_p(8), 0)
    show(result, name_of(ctypes.get_errno()))
    result = _libc.sendmsg(fd, ctypes.c_void_p(8), 0)
    show(result, name_of(ctypes.get_errno()))


def case_output_queue() -> None:
    one, two = _udp(), _udp()
    one.connect(two.getsockname())
    one.send(bytes(1000))
    show(settled(lambda: _size(one, termios.TIOCOUTQ), 0))
    show(settled(lambda: _size(two, termios.FIONREAD), 1000))


def case_small_receive_buffer() -> None:
    one, two = _udp(), _udp()
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for i in range(200):
        one.sendto(struct.pack("I", i) + bytes(996), two.getsockname())
    got = []
    while polled(two, 0.1) not in ("OUT", "-"):
        got.append(struct.unpack("I", two.recvfrom(4)[0])[0])
    show(got[:2], len(got) < 20, got == list(range(len(got))))


def case_broadcast() -> None:
    sock = _socket()
    for address in ("255.255.255.255", "127.255.255.255"):
        show(address, outcome(sock.sendto, b"x", (address, 9)))
        show(outcome(sock.connect, (address, 9)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    show(outcome(sock.connect, ("127.255.255.255", 9)), _unconnect(sock))
    receiver = _socket()
    receiver.bind(("", 0))
    receiver.settimeout(2)
    name = ("127.255.255.255", receiver.getsockname()[1])
    show(outcome(sock.sendto, b"to all", name), outcome(receiver.recv, 10))


def case_send_timeout() -> None:
    one, two = _udp(), _udp()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 1000))
    for _ in range(300):
        one.sendto(bytes(1000), two.getsockname())
    show("all sent")


def case_receive_timeout() -> None:
    for how in ("recv", "recvfrom", "recvmsg"):
        sock = _udp()
        sock.settimeout(None)
        limit = struct.pack("ll", 0, 100_000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        start = time.monotonic()
        show(how, outcome(getattr(sock, how), 1))
        show(0.05 < time.monotonic() - start < 1.5)


def case_dup_and_fork() -> None:
    one, two = _udp(), _udp()
    copy = socket.socket(fileno=os.dup(one.fileno()))
    copy.connect(two.getsockname())
    show(one.getpeername() == two.getsockname())

    def work() -> None:
        copy.send(b"from the child")

    with child(work):
        show(two.recv(20))
    copy.close()
    show(one.send(b"still"), two.recv(20))


def case_two_threads_receive() -> None:
    target = _udp()
    target.settimeout(5)
    senders = {sock.getsockname(): i for i, sock in enumerate(_many(4))}
    wrong: list[object] = []

    def receive() -> None:
        for _ in range(200):
            data, name = target.recvfrom(10)
            if senders[name] != data[0]:
                wrong.append(data)

    threads = [threading.Thread(target=receive) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(400):
        sock = _senders[i % 4]
        sock.sendto(bytes([i % 4]), target.getsockname())
        if i % 20 == 0:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    show(wrong)


_senders: list[socket.socket] = []


def _many(count: int) -> list[socket.socket]:
    _senders.extend(_udp() for _ in range(count))
    return _senders


def case_v6_only() -> None:
    six = _socket(socket.AF_INET6)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    show(outcome(six.sendto, b"x", ("::ffff:127.0.0.1", 9)))
    bound = _socket(socket.AF_INET6)
    bound.bind((V6, 0))
    show(outcome(bound.sendto, b"x", ("::ffff:127.0.0.1", 9)))
    show(outcome(bound.connect, ("::ffff:127.0.0.1", 9)))
    mapped = _socket(socket.AF_INET6)
    mapped.bind(("::ffff:127.0.0.1", 0))
    show(outcome(mapped.sendto, b"x", (V6, 9)))
    show(outcome(mapped.connect, (V6, 9)))


def case_reused_port_gets_a_share() -> None:
    socks = []
    port = 0
    for _ in range(4):
        sock = _socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((V4, port))
        port = sock.getsockname()[1]
        socks.append(sock)
    clients = [_socket() for _ in range(100)]
    for client in clients:
        client.connect((V4, port))
        client.send(b"x")
        client.send(b"x")
    time.sleep(0.2)
    counts = []
    for sock in socks:
        seen = []
        while (got := outcome(sock.recvfrom, 1, DONTWAIT)) != "EAGAIN":
            seen.append(got[1])  # type: ignore[index]
        counts.append(len(seen))
        show(all(seen.count(name) == 2 for name in seen))
    show(sum(counts), min(counts) > 5)


def case_latest_of_reused_addresses_gets_all() -> None:
    first, second, sender = _socket(), _socket(), _socket()
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind((V4, 0))
    second.bind(first.getsockname())
    for _ in range(3):
        sender.sendto(b"x", first.getsockname())
    wait_for(second)
    show(outcome(first.recv, 1, DONTWAIT))
    show([outcome(second.recv, 1, DONTWAIT) for _ in range(4)])


def case_best_match() -> None:
    narrow, wide, sender = _socket(), _socket(), _udp()
    for sock in (narrow, wide):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    narrow.bind((V4, 0))
    port = narrow.getsockname()[1]
    wide.bind(("", port))
    sender.sendto(b"narrow", (V4, port))
    sender.sendto(b"wide", ("127.0.0.5", port))
    narrow.settimeout(2)
    wide.settimeout(2)
    show(outcome(narrow.recv, 10), outcome(wide.recv, 10))
    connected = _socket()
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connected.bind((V4, port))
    connected.connect(sender.getsockname())
    connected.settimeout(2)
    sender.sendto(b"connected", (V4, port))
    show(outcome(connected.recv, 10))
    _udp().sendto(b"other", (V4, port))
    show(outcome(narrow.recv, 10))


def case_source_of_the_whole_of_127() -> None:
    server, sock = _udp(), _socket()
    sock.bind(("127.0.0.77", 0))
    sock.sendto(b"x", server.getsockname())
    show(server.recvfrom(1)[1][0])
    wide = _socket()
    wide.bind(("", 0))
    wide.settimeout(2)
    server.sendto(b"y", ("127.1.2.3", wide.getsockname()[1]))
    data, name = wide.recvfrom(5)
    show(data, name[0])
    show(outcome(wide.sendto, b"x", ("127.1.2.3", closed_port(2))))


def case_bind_to_a_card() -> None:
    server, sock = _udp(), _socket()
    show(outcome(sock.setsockopt, socket.SOL_SOCKET, 25, b"nowhere\0"))
    show(outcome(sock.setsockopt, socket.SOL_SOCKET, 25, b"lo\0"))
    show(sock.getsockopt(socket.SOL_SOCKET, 25, 16))
    show(outcome(sock.sendto, b"x", server.getsockname()), server.recv(1))
    show(outcome(sock.sendto, b"x", ("192.0.2.200", 9)))
    show(outcome(sock.connect, ("192.0.2.200", 9)))


def case_bound_to_loopback_sends_out() -> None:
    sock = _udp()
    show(outcome(sock.sendto, b"x", ("192.0.2.200", 9)))
    show(outcome(sock.connect, ("192.0.2.200", 9)))


def case_udp_lite() -> None:
    for family, address in ADDRESSES:
        one = socket.socket(family, socket.SOCK_DGRAM, 136)
        two = socket.socket(family, socket.SOCK_DGRAM, 136)
        two.bind((address, 0))
        two.settimeout(2)
        show(one.sendto(b"lite", two.getsockname()), two.recvfrom(10)[0])
        plain = _socket(family)
        show(outcome(plain.bind, two.getsockname()))
        show(one.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL))
