"""The life of a TCP socket on loopback: connect, accept, poll masks, ends, errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import select
import signal
import socket
import struct
import termios
import threading

from kit import (
    ADDRESSES,
    V4,
    exact,
    listener,
    mask_after,
    mask_text,
    name_of,
    outcome,
    pair,
    polled,
    refusing,
    settled,
    show,
    wait_for,
)


def _error(sock: socket.socket) -> str:
    return name_of(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def _names_of(sock: socket.socket, *known: socket.socket) -> list[object]:
    """Return the addresses of a socket, its ports by whose they are."""
    ports = {one.getsockname()[1]: f"port{i}" for i, one in enumerate(known)}
    names: list[object] = []
    for name in (outcome(sock.getsockname), outcome(sock.getpeername)):
        if isinstance(name, tuple):
            names.append((name[0], ports.get(name[1], "other"), *name[2:]))
        else:
            names.append(name)
    return names


def case_names() -> None:
    for family, address in ADDRESSES:
        server, client, accepted = pair(family)
        show(_names_of(server, server, client))
        show(_names_of(client, server, client))
        show(_names_of(accepted, server, client))
        show(client.getsockname() == accepted.getpeername())
        client.close()
        wait_for(accepted)
        show(_names_of(accepted, server))
        show(address)


def case_accept_address() -> None:
    for family, _ in ADDRESSES:
        server = listener(family)
        client = socket.socket(family)
        client.connect(server.getsockname())
        accepted, name = server.accept()
        show(name[0], name == client.getsockname(), len(name))
        show(accepted.family, accepted.type, accepted.proto)
        show(accepted.getblocking(), accepted.get_inheritable())


def case_bound_client() -> None:
    server = listener()
    client = socket.socket()
    client.bind((V4, 0))
    before = client.getsockname()
    client.connect(server.getsockname())
    show(before == client.getsockname())
    client = socket.socket()
    client.bind(("", 0))
    port = client.getsockname()[1]
    client.connect(server.getsockname())
    show(client.getsockname() == (V4, port))


def case_blocking_refused_then_connected() -> None:
    for family, _ in ADDRESSES:
        client = socket.socket(family)
        name = refusing(family)
        show(outcome(client.connect, name), polled(client), _error(client))
        show(outcome(client.connect, name), polled(client))
        show(outcome(client.getpeername))
        server = listener(family)
        show(outcome(client.connect, server.getsockname()), polled(client))
        show(outcome(client.connect, server.getsockname()))
        show(outcome(client.bind, ("", 0)), outcome(client.listen))


def case_nonblocking_refused() -> None:
    for family, _ in ADDRESSES:
        client = socket.socket(family)
        client.setblocking(False)
        name = refusing(family)
        show(name_of(client.connect_ex(name)))
        wait_for(client, select.POLLOUT)
        show(polled(client), _error(client), _error(client), polled(client))
        show(outcome(client.getpeername))


def case_nonblocking_refused_read_instead_of_so_error() -> None:
    client = socket.socket()
    client.setblocking(False)
    show(name_of(client.connect_ex(refusing())))
    wait_for(client, select.POLLOUT)
    show(name_of(client.connect_ex(refusing())))


def case_masks_after_a_refused_connect() -> None:
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(refusing())
    wait_for(client, select.POLLOUT)
    show(name_of(client.connect_ex(refusing())), polled(client))


def case_nonblocking_refused_then_connected() -> None:
    for family, _ in ADDRESSES:
        client = socket.socket(family)
        client.setblocking(False)
        show(name_of(client.connect_ex(refusing(family))))
        wait_for(client, select.POLLOUT)
        show(_error(client))
        server = listener(family)
        show(name_of(client.connect_ex(server.getsockname())))
        show(name_of(client.connect_ex(server.getsockname())))
        wait_for(client, select.POLLOUT)
        show(_error(client), polled(client))
        accepted, _ = server.accept()
        accepted.sendall(b"data")
        wait_for(client)
        show(client.recv(10))


def case_nonblocking_connected() -> None:
    for family, _ in ADDRESSES:
        server = listener(family)
        client = socket.socket(family)
        client.setblocking(False)
        show(name_of(client.connect_ex(server.getsockname())))
        wait_for(client, select.POLLOUT)
        show(polled(client), _error(client))
        show(name_of(client.connect_ex(server.getsockname())))
        show(name_of(client.connect_ex(server.getsockname())))
        accepted, _ = server.accept()
        client.send(b"hello")
        show(exact(accepted, 5))


def case_fresh_nonblocking_accept() -> None:
    server = listener()
    server.setblocking(False)
    show(outcome(server.accept), polled(server))
    client = socket.create_connection(server.getsockname())
    wait_for(server)
    show(polled(server))
    accepted, _ = server.accept()
    show(fcntl.fcntl(accepted.fileno(), fcntl.F_GETFL) & 0o4000)
    show(outcome(server.accept), polled(server), polled(client))


def case_wrong_addresses() -> None:
    def raw(sock: socket.socket, call: str, data: bytes) -> str:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        rc = getattr(libc, call)(sock.fileno(), data, len(data))
        return name_of(ctypes.get_errno() if rc < 0 else 0)

    v4 = struct.pack("=H", 2) + b"\0\1" + socket.inet_aton(V4) + bytes(8)
    v6 = struct.pack("=H", 10) + b"\0\1" + bytes(4) + bytes(15) + b"\1" + bytes(4)
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for label, data in (
                ("empty", b""),
                ("one byte", b"\2"),
                ("family only", v4[:2]),
                ("v4 short", v4[:15]),
                ("v4", v4),
                ("v6 short", v6[:23]),
                ("unix", b"\1\0/tmp/nothing" + bytes(20)),
                ("family 99", b"\x63\0" + bytes(30)),
                ("too long", v4 + bytes(200)),
            ):
                if label == "v4" and kind == socket.SOCK_DGRAM:
                    continue  # an IPv6 socket may talk to it: see datagrams.py
                for call in ("bind", "connect"):
                    if call == "bind" and label == "v4":
                        continue  # port 1 is everybody's in a view
                    with socket.socket(family, kind) as sock:
                        show(family, kind, label, call, raw(sock, call, data))


def case_strange_destinations() -> None:
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        server = listener(family, any_address)
        client = socket.socket(family)
        port = server.getsockname()[1]
        show(outcome(client.connect, (any_address, port)))
        show(client.getpeername()[0], client.getsockname()[0])
        with socket.socket(family) as sock:
            show(outcome(sock.connect, (V4 if family == 2 else "::1", 0)))
    with socket.socket() as sock:
        show(outcome(sock.bind, ("192.0.2.1", 0)))
    with socket.socket(socket.AF_INET6) as sock:
        show(outcome(sock.bind, ("2001:db8::1", 0)))
    with socket.socket() as sock:
        show(outcome(sock.bind, ("127.9.8.7", 0)), sock.getsockname()[0])


def case_connect_to_a_group() -> None:
    for family, group in (
        (socket.AF_INET, "255.255.255.255"),
        (socket.AF_INET6, "ff02::1"),
    ):
        with socket.socket(family) as sock:
            show(outcome(sock.connect, (group, 9)), outcome(sock.bind, (group, 0)))


def case_whole_loopback_net() -> None:
    server = listener(address="127.1.2.3")
    client = socket.create_connection(server.getsockname())
    show(client.getpeername()[0], client.getsockname()[0])
    other = socket.socket()
    show(outcome(other.connect, (V4, server.getsockname()[1])))


def case_disconnect() -> None:
    for family, _ in ADDRESSES:
        server, client, accepted = pair(family)
        unspecified = bytes(32)
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        show(libc.connect(client.fileno(), unspecified, 32), polled(client))
        show(outcome(client.getpeername))
        show(mask_after(accepted, "IN|OUT|ERR|HUP|RDHUP"))
        show(outcome(client.connect, server.getsockname()), polled(client))
        second, _ = server.accept()
        client.send(b"again")
        show(exact(second, 5))


def case_poll_through_a_life() -> None:
    for family, _ in ADDRESSES:
        client = socket.socket(family)
        server = socket.socket(family)
        show("fresh", polled(client))
        server.bind(("", 0))
        show("bound", polled(server))
        server.listen()
        show("listening", polled(server))
        client.connect(("127.0.0.1" if family == 2 else "::1", server.getsockname()[1]))
        wait_for(server)
        show("pending", polled(server), "connected", polled(client))
        accepted, _ = server.accept()
        show("taken", polled(server), polled(accepted))
        client.send(b"abc")
        wait_for(accepted)
        show("data", polled(accepted))
        show(accepted.recv(1), polled(accepted), accepted.recv(9), polled(accepted))


def case_half_close() -> None:
    for family, _ in ADDRESSES:
        _, client, accepted = pair(family)
        client.sendall(b"request")
        client.shutdown(socket.SHUT_WR)
        show(exact(accepted, 20), polled(accepted), polled(client))
        show(outcome(client.send, b"x"))
        accepted.sendall(b"answer")
        accepted.shutdown(socket.SHUT_WR)
        show(exact(client, 20), polled(client), polled(accepted))


def case_after_both_ends() -> None:
    _, client, accepted = pair()
    client.shutdown(socket.SHUT_WR)
    accepted.shutdown(socket.SHUT_WR)
    show(mask_after(client, "IN|OUT|HUP|RDHUP"))
    show(outcome(client.shutdown, 2), outcome(client.shutdown, 2))
    show(outcome(client.getpeername))


def case_shutdown_kinds() -> None:
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        _, client, accepted = pair()
        show(how, outcome(client.shutdown, how), polled(client))
        show(outcome(client.recv, 1, socket.MSG_DONTWAIT))
        show(outcome(client.send, b"x", socket.MSG_NOSIGNAL))
        wait_for(accepted)
        if how != socket.SHUT_RDWR:
            show(polled(accepted))
        show(outcome(client.shutdown, how), outcome(client.shutdown, 7))


def case_masks_after_shut_rdwr() -> None:
    _, client, accepted = pair()
    client.shutdown(socket.SHUT_RDWR)
    show(mask_after(accepted, "IN|OUT|RDHUP"), polled(client))


def case_shutdown_of_a_listener() -> None:
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
        server = listener()
        name = server.getsockname()
        show(how, outcome(server.shutdown, how), polled(server))
        client = socket.socket()
        if how == socket.SHUT_WR:
            show(outcome(client.connect, name), outcome(server.accept) is not None)
            continue
        show(outcome(client.connect, name), outcome(server.accept))
        show(outcome(server.listen), polled(server))
        show(outcome(client.connect, name))


def case_shutdown_wakes_accept() -> None:
    server = listener()
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(outcome(server.accept)))
    thread.start()
    while not _parked():
        pass
    server.shutdown(socket.SHUT_RD)
    thread.join(5)
    show(seen)


def _parked() -> bool:
    """Say whether a thread of this process, but not this one, sleeps."""
    import os
    import time

    time.sleep(0.05)
    return len(os.listdir("/proc/self/task")) > 1


def case_end_of_file() -> None:
    for family, _ in ADDRESSES:
        _, client, accepted = pair(family)
        client.sendall(b"last words")
        client.close()
        show(exact(accepted, 100), accepted.recv(1))


def case_masks_after_the_peer_closed() -> None:
    _, client, accepted = pair()
    client.close()
    show(mask_after(accepted, "IN|OUT|RDHUP"))


def case_close_with_unread_data_resets() -> None:
    _, client, accepted = pair()
    client.sendall(b"never read")
    wait_for(accepted)
    accepted.close()
    wanted = "IN|OUT|ERR|HUP|RDHUP"
    show(mask_after(client, wanted))
    show(outcome(client.recv, 1), polled(client), outcome(client.recv, 1))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    show(outcome(client.send, b"x"))


def case_reset_by_so_error() -> None:
    _, client, accepted = pair()
    client.sendall(b"never read")
    wait_for(accepted)
    accepted.close()
    show(mask_after(client, "IN|OUT|ERR|HUP|RDHUP"))
    show(_error(client), _error(client), polled(client))


def case_send_to_closed() -> None:
    _, client, accepted = pair()
    accepted.close()
    show(client.recv(1))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    error: object = 0
    for _ in range(1000):  # the first may still be taken by the kernel
        error = outcome(client.send, b"x" * 100)
        if isinstance(error, str):
            break
    show(error in ("EPIPE", "ECONNRESET"))


def case_sigpipe() -> None:
    hits: list[int] = []
    signal.signal(signal.SIGPIPE, lambda *_: hits.append(1))
    _, client, _accepted = pair()
    client.shutdown(socket.SHUT_WR)
    show(outcome(client.send, b"x"), len(hits))
    show(outcome(client.send, b"x", socket.MSG_NOSIGNAL), len(hits))
    fresh = socket.socket()
    show(outcome(client.sendto, b"x", ("127.0.0.1", 9)))
    show(settled(lambda: len(hits), 2))  # in a view it comes a moment later
    show(outcome(fresh.sendto, b"x", socket.MSG_NOSIGNAL, ("127.0.0.1", 9)), len(hits))


def case_listener_closed_with_pending() -> None:
    server = listener()
    client = socket.create_connection(server.getsockname())
    wait_for(server)
    server.close()
    show(mask_after(client, "IN|OUT|ERR|HUP|RDHUP"), _error(client))


def case_port_of_a_closed_listener() -> None:
    for family, _ in ADDRESSES:
        server = listener(family)
        name = server.getsockname()
        server.close()
        client = socket.socket(family)
        show(outcome(client.connect, name))
        again = socket.socket(family)
        show(outcome(again.bind, name), outcome(again.listen))
        show(outcome(client.connect, name))


def case_client_gone_before_accept() -> None:
    server = listener()
    client = socket.create_connection(server.getsockname())
    client.sendall(b"bye")
    name = client.getsockname()
    client.close()
    accepted, peer = server.accept()
    show(peer == name, exact(accepted, 10), accepted.recv(1))


def case_many_pending_in_order() -> None:
    server = listener(backlog=64)
    clients = [socket.create_connection(server.getsockname()) for _ in range(50)]
    wanted = [client.getsockname() for client in clients]
    show([server.accept()[1] for _ in clients] == wanted)


def case_connect_to_itself() -> None:
    sock = socket.socket()
    sock.bind((V4, 0))
    show(outcome(sock.connect, sock.getsockname()))


def case_listen_again() -> None:
    server = listener()
    show(
        outcome(server.listen, 5), outcome(server.listen, 0), outcome(server.listen, -1)
    )
    client = socket.create_connection(server.getsockname())
    show(server.accept()[1] == client.getsockname())
    show(outcome(client.listen), outcome(client.accept))


def case_recv_flags() -> None:
    _, client, accepted = pair()
    client.sendall(b"0123456789")
    wait_for(accepted)
    show(accepted.recv(4, socket.MSG_PEEK), accepted.recv(4))
    show(accepted.recvfrom(3), accepted.recv_into(bytearray(2)))
    show(outcome(accepted.recv, 9, socket.MSG_DONTWAIT))
    show(outcome(accepted.recv, 9, socket.MSG_DONTWAIT))
    client.sendall(b"drain me")
    wait_for(accepted)
    show(accepted.recv(5, socket.MSG_TRUNC | socket.MSG_DONTWAIT) and "taken")
    show(exact(accepted, 3))
    client.sendall(b"ab")
    timer = threading.Timer(0.05, client.sendall, (b"cd",))
    timer.start()
    show(accepted.recv(4, socket.MSG_WAITALL))
    timer.join()


def case_urgent_data() -> None:
    _, client, accepted = pair()
    client.send(b"ab")
    client.send(b"!", socket.MSG_OOB)
    poll = select.poll()
    poll.register(accepted, select.POLLPRI)
    show(mask_text(poll.poll(5000)[0][1]))
    show(accepted.recv(1, socket.MSG_OOB), accepted.recv(10))
    _, client, accepted = pair()
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    client.send(b"?", socket.MSG_OOB)
    wait_for(accepted)
    show(outcome(accepted.recv, 1, socket.MSG_OOB), accepted.recv(10))


def case_queue_sizes() -> None:
    _, client, accepted = pair()
    client.sendall(b"x" * 1000)
    wait_for(accepted)

    def queued(sock: socket.socket, request: int) -> int:
        buf = bytearray(4)
        fcntl.ioctl(sock, request, buf)
        return int.from_bytes(buf, "little")

    show(settled(lambda: queued(accepted, termios.FIONREAD), 1000))
    show(settled(lambda: queued(accepted, termios.TIOCOUTQ), 0))
    accepted.recv(1000)
    show(settled(lambda: queued(client, termios.TIOCOUTQ), 0))
    show(queued(accepted, termios.FIONREAD))


def case_scattered_messages() -> None:
    _, client, accepted = pair()
    show(client.sendmsg([b"ab", b"", b"cde"]), exact(accepted, 5))
    client.sendall(b"0123456")
    wait_for(accepted)
    first, second = bytearray(3), bytearray(9)
    show(accepted.recvmsg_into([first, second]), first, second)
    client.sendall(b"xyz")
    wait_for(accepted)
    show(accepted.recvmsg(10, 100))


def case_large_transfer() -> None:
    for family, _ in ADDRESSES:
        _, client, accepted = pair(family)
        block = bytes(range(256)) * 4096
        thread = threading.Thread(target=client.sendall, args=(block * 8,))
        thread.start()
        same = True
        for _ in range(8):
            same = same and exact(accepted, len(block)) == block
        thread.join()
        show(same)


def case_full_then_writable() -> None:
    _, client, accepted = pair()
    client.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += client.send(bytes(65536))
    show(polled(client))
    got = 0
    while got < sent:
        got += len(accepted.recv(1 << 20))
    show(mask_after(client, "OUT"))


def case_epoll_before_connect() -> None:
    for flags in (0, select.EPOLLET):
        for family, _ in ADDRESSES:
            server = listener(family)
            client = socket.socket(family)
            client.setblocking(False)
            epoll = select.epoll()
            want = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP
            epoll.register(client, want | flags)
            show([mask_text(mask) for _, mask in epoll.poll(0)])
            show(name_of(client.connect_ex(server.getsockname())))
            show([mask_text(mask) for _, mask in epoll.poll(2)])
            show([mask_text(mask) for _, mask in epoll.poll(0)])
            accepted, _ = server.accept()
            accepted.send(b"x")
            wait_for(client)
            show([mask_text(mask) for _, mask in epoll.poll(2)])


def case_epoll_before_listen() -> None:
    for flags in (0, select.EPOLLET):
        server = socket.socket()
        server.bind((V4, 0))
        epoll = select.epoll()
        epoll.register(server, select.EPOLLIN | flags)
        show([mask_text(mask) for _, mask in epoll.poll(0)])
        server.listen()
        show([mask_text(mask) for _, mask in epoll.poll(0)])
        clients = [socket.create_connection(server.getsockname()) for _ in range(2)]
        show([mask_text(mask) for _, mask in epoll.poll(2)], len(clients))
        server.accept()
        server.accept()
        show([mask_text(mask) for _, mask in epoll.poll(0)])


def case_epoll_before_refused_connect() -> None:
    for flags in (0, select.EPOLLET):
        client = socket.socket()
        client.setblocking(False)
        epoll = select.epoll()
        epoll.register(client, select.EPOLLOUT | flags)
        epoll.poll(0)
        show(name_of(client.connect_ex(refusing())))
        show([mask_text(mask) for _, mask in epoll.poll(2)])
        show(_error(client))


def case_epoll_waiting_in_another_thread() -> None:
    server = listener()
    client = socket.socket()
    epoll = select.epoll()
    epoll.register(client, select.EPOLLOUT | select.EPOLLET)
    epoll.poll(0)
    seen: list[str] = []
    thread = threading.Thread(
        target=lambda: seen.extend(mask_text(mask) for _, mask in epoll.poll(3))
    )
    thread.start()
    client.connect(server.getsockname())
    thread.join()
    show(seen)


def case_select_and_oneshot() -> None:
    server = listener()
    client = socket.socket()
    show([len(part) for part in select.select([client, server], [client], [], 0)])
    client.connect(server.getsockname())
    show([len(part) for part in select.select([server], [client], [], 2)])
    accepted, _ = server.accept()
    epoll = select.epoll()
    epoll.register(accepted, select.EPOLLIN | select.EPOLLONESHOT)
    client.send(b"x")
    show([mask_text(mask) for _, mask in epoll.poll(2)])
    client.send(b"y")
    show(epoll.poll(0.05))
    epoll.modify(accepted, select.EPOLLIN | select.EPOLLONESHOT)
    show([mask_text(mask) for _, mask in epoll.poll(2)])


def case_so_error_of_a_timeout() -> None:
    client = socket.socket()
    client.settimeout(0.1)
    server, connected, _accepted = pair()
    connected.settimeout(0.05)
    show(outcome(connected.recv, 1), _error(connected))
    server.settimeout(0.05)
    show(outcome(server.accept))
    connected.settimeout(None)
    connected.setsockopt(1, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
    show(outcome(connected.recv, 1))
    show(outcome(connected.recvfrom, 1), outcome(connected.recvmsg, 1))
    server.settimeout(None)
    server.setsockopt(1, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
    show(outcome(server.accept))
    show(errno.errorcode[errno.EAGAIN])
