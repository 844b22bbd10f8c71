"""The life of a TCP connection by every road: ends, errors, masks, bulk, waiting."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ends import STREAM, Road, over
from kit import (
    child,
    drain,
    exact,
    mask_after,
    mask_text,
    name_of,
    outcome,
    pending_error,
    polled,
    settled,
    show,
    wait_for,
)

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_RESET = "IN|OUT|ERR|HUP|RDHUP"
_OUTWARD = ("local", "relay")


def _queued(sock: socket.socket, request: int = termios.FIONREAD) -> int:
    return int.from_bytes(fcntl.ioctl(sock, request, bytes(4)), sys.byteorder)


@contextlib.contextmanager
def _waiting(work: Callable[[], object]) -> Iterator[None]:
    """Run work in a thread that surely waits while the block runs."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.1)
    yield
    thread.join(5)
    show("ended", not thread.is_alive())


@over(STREAM)
def case_data_both_ways(road: Road) -> None:
    for family in _FAMILIES:
        near, far = road.pair(family)
        show(polled(near), far.mask("OUT"))
        near.sendall(b"request")
        show(far.exact(7), polled(near))
        far.send_all(b"answer")
        wait_for(near)
        show(polled(near), exact(near, 6), polled(near))


@over(_OUTWARD)
def case_names(road: Road) -> None:
    for family in _FAMILIES:
        name = road.target(family)
        near = socket.socket(family)
        near.connect(name)
        show(near.getpeername()[:2] == name, near.getsockname()[1] > 0)
        show(len(near.getpeername()), near.getsockname()[0] not in ("0.0.0.0", "::"))
        show(outcome(near.connect, name), outcome(near.bind, ("", 0)))
        show(outcome(near.listen))


@over(STREAM)
def case_near_half_closes(road: Road) -> None:
    near, far = road.pair()
    near.sendall(b"request")
    near.shutdown(socket.SHUT_WR)
    show(polled(near))
    show(far.exact(20), far.mask("IN|OUT|RDHUP"))
    show(outcome(near.send, b"x", socket.MSG_NOSIGNAL))
    far.send_all(b"answer")
    show(exact(near, 6))
    show(near.getpeername() == near.getpeername())


@over(STREAM)
def case_far_half_closes(road: Road) -> None:
    near, far = road.pair()
    far.send_all(b"answer")
    show(far.shutdown(socket.SHUT_WR))
    show(exact(near, 20), mask_after(near, "IN|OUT|RDHUP"), near.recv(1), near.recv(1))
    show(outcome(near.send, b"still"), far.exact(5))


@over(STREAM)
def case_both_half_close(road: Road) -> None:
    near, far = road.pair()
    near.shutdown(socket.SHUT_WR)
    show(far.mask("IN|OUT|RDHUP"))
    far.shutdown(socket.SHUT_WR)
    show(mask_after(near, "IN|OUT|HUP|RDHUP"), far.mask("IN|OUT|HUP|RDHUP"))
    show(near.recv(1), outcome(near.send, b"x", socket.MSG_NOSIGNAL))
    show(pending_error(near))


@over(STREAM)
def case_far_closes(road: Road) -> None:
    for family in _FAMILIES:
        near, far = road.pair(family)
        far.send_all(b"last words")
        far.close()
        show(exact(near, 100), near.recv(1), pending_error(near))


@over(STREAM)
def case_mask_after_far_closed(road: Road) -> None:
    near, far = road.pair()
    far.close()
    show(mask_after(near, "IN|OUT|RDHUP"))


@over(STREAM)
def case_send_after_far_closed(road: Road) -> None:
    near, far = road.pair()
    far.close()
    show(near.recv(1), outcome(near.send, b"x", socket.MSG_NOSIGNAL))
    show(mask_after(near, "IN|OUT|ERR|HUP|RDHUP"))
    show(outcome(near.send, b"x", socket.MSG_NOSIGNAL), outcome(near.recv, 1))


@over(STREAM)
def case_far_resets(road: Road) -> None:
    for family in _FAMILIES:
        near, far = road.pair(family)
        far.reset()
        show(mask_after(near, _RESET), outcome(near.recv, 1), polled(near))
        show(outcome(near.recv, 1), outcome(near.send, b"x", socket.MSG_NOSIGNAL))


@over(STREAM)
def case_shutdown_after_a_reset(road: Road) -> None:
    near, far = road.pair()
    near.sendall(b"never read")
    far.mask("IN|OUT")
    far.close()
    show(mask_after(near, _RESET), outcome(near.shutdown, socket.SHUT_WR))


@over(STREAM)
def case_far_resets_after_data(road: Road) -> None:
    near, far = road.pair()
    far.send_all(b"queued")
    wait_for(near)
    far.reset()
    show(mask_after(near, _RESET), outcome(near.recv, 3), outcome(near.recv, 9))
    show(outcome(near.recv, 1), outcome(near.recv, 1))


@over(STREAM)
def case_far_closes_with_unread_data(road: Road) -> None:
    near, far = road.pair()
    near.sendall(b"never read")
    show(far.mask("IN|OUT"))
    far.close()
    show(mask_after(near, _RESET), pending_error(near), pending_error(near))
    show(polled(near), outcome(near.recv, 1))


@over(STREAM)
def case_near_resets(road: Road) -> None:
    near, far = road.pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    near.close()
    show(far.mask(_RESET), far.recv(1), far.recv(1))


@over(STREAM)
def case_near_closes_with_unread_data(road: Road) -> None:
    near, far = road.pair()
    far.send_all(b"never read")
    wait_for(near)
    near.close()
    show(far.mask(_RESET), far.error(), far.error())


@over(STREAM)
def case_near_closes(road: Road) -> None:
    near, far = road.pair()
    near.sendall(b"last words")
    near.close()
    show(far.exact(100), far.recv(1))


@over(STREAM)
def case_near_shuts_both(road: Road) -> None:
    near, far = road.pair()
    near.shutdown(socket.SHUT_RDWR)
    show(far.recv(1), near.recv(1), outcome(near.send, b"x", socket.MSG_NOSIGNAL))


@over(STREAM)
def case_near_shuts_reading(road: Road) -> None:
    near, far = road.pair()
    near.shutdown(socket.SHUT_RD)
    show(polled(near), near.recv(1), outcome(near.send, b"out"), far.exact(3))


@over(STREAM)
def case_bulk_up(road: Road) -> None:
    near, far = road.pair()
    block = bytes(range(256)) * 256
    done: list[object] = []
    with _waiting(lambda: done.append(far.drain())):
        for _ in range(48):
            near.sendall(block)
        near.shutdown(socket.SHUT_WR)
    show(done == [48 << 16])


@over(STREAM)
def case_bulk_down(road: Road) -> None:
    near, far = road.pair()
    block = bytes(range(256)) * 256
    sent: list[object] = []
    with _waiting(lambda: sent.append(far.send_all(block * 48))):
        same = all(exact(near, len(block)) == block for _ in range(48))
    show(same, sent)


@over(STREAM)
def case_close_with_much_unsent(road: Road) -> None:
    near, far = road.pair()
    near.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 1 << 26:
            sent += near.send(bytes(1 << 16))
    near.close()
    show(sent > 100_000, far.drain() == sent)


@over(STREAM)
def case_exit_with_much_unsent(road: Road) -> None:
    near, far = road.pair()
    near.settimeout(None)
    with child(lambda: near.sendall(bytes(100_000))):
        near.close()
    show(far.drain())


@over(STREAM)
def case_filled_and_emptied(road: Road) -> None:
    near, far = road.pair()
    near.setblocking(False)
    epoll = select.epoll()
    epoll.register(near, select.EPOLLOUT | select.EPOLLET)
    show([mask_text(mask) for _, mask in epoll.poll(1)])
    poll = select.poll()
    poll.register(near, select.POLLOUT)
    sent = 0
    while poll.poll(200) and sent < 1 << 26:  # what is under way may make room
        with contextlib.suppress(BlockingIOError):
            sent += near.send(bytes(1 << 16))
    show(polled(near), sent > 0)
    epoll.poll(0)
    taken: list[object] = []
    with _waiting(lambda: taken.append(far.exact(sent) == bytes(sent))):
        show([mask_text(mask) for _, mask in epoll.poll(5)], mask_after(near, "OUT"))
    show(taken)


@over(_OUTWARD)
def case_refused(road: Road) -> None:
    for family in _FAMILIES:
        name = road.nobody(socket.SOCK_STREAM, family)
        near = socket.socket(family)
        show(outcome(near.connect, name), polled(near), pending_error(near))
        show(outcome(near.getpeername))
        near.connect(road.target(family))
        show(outcome(near.send, b"x"), polled(near))


@over(_OUTWARD)
def case_refused_without_waiting(road: Road) -> None:
    for family in _FAMILIES:
        near = socket.socket(family)
        near.setblocking(False)
        epoll = select.epoll()
        epoll.register(near, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)
        show([mask_text(mask) for _, mask in epoll.poll(0)])
        name = road.nobody(socket.SOCK_STREAM, family)
        show(name_of(near.connect_ex(name)))
        show(mask_after(near, _RESET), [mask_text(mask) for _, mask in epoll.poll(1)])
        show(pending_error(near), pending_error(near), outcome(near.getpeername))


@over(_OUTWARD)
def case_connect_without_waiting(road: Road) -> None:
    for family in _FAMILIES:
        near = socket.socket(family)
        near.setblocking(False)
        epoll = select.epoll()
        flags = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        epoll.register(near, flags)
        show([mask_text(mask) for _, mask in epoll.poll(0)])
        name = road.target(family)
        show(name_of(near.connect_ex(name)))
        show([mask_text(mask) for _, mask in epoll.poll(1)])
        show(pending_error(near), name_of(near.connect_ex(name)))
        road.far.accept()
        road.far.send_all(b"hello")
        show([mask_text(mask) for _, mask in epoll.poll(1)], near.recv(9))


@over(_OUTWARD)
def case_connect_and_poll_of_copies(road: Road) -> None:
    near = socket.socket()
    copy = near.dup()
    near.setblocking(False)
    name = road.target()
    show(name_of(near.connect_ex(name)), mask_after(copy, "OUT"))
    road.far.accept()
    with child(lambda: copy.sendall(b"from the child")):
        show(road.far.exact(14))
    near.close()
    road.far.send_all(b"kept")
    wait_for(copy)
    show(exact(copy, 4))


@over(STREAM)
def case_flags_of_receiving(road: Road) -> None:
    near, far = road.pair()
    show(outcome(near.recv, 1, socket.MSG_DONTWAIT))
    far.send_all(b"0123456789")
    wait_for(near)
    show(near.recv(4, socket.MSG_PEEK), near.recv(100, socket.MSG_PEEK), _queued(near))
    show(near.recv(2, socket.MSG_TRUNC), near.recv(2), _queued(near))
    with _waiting(lambda: show(near.recv(10, socket.MSG_WAITALL))):
        far.send_all(b"abcd")
    show(near.recvmsg(10, 100, socket.MSG_DONTWAIT)[0] if _queued(near) else "empty")


@over(STREAM)
def case_vectors(road: Road) -> None:
    near, far = road.pair()
    show(near.sendmsg([b"one", b"", b"two"]), far.exact(6))
    show(os.writev(near.fileno(), [b"three", b"four"]), far.exact(9))
    far.send_all(b"abcdefgh")
    wait_for(near)
    first, second = bytearray(3), bytearray(4)
    show(near.recvmsg_into([first, second])[0], first, second, near.recv(9))


@over(STREAM)
def case_urgent_data(road: Road) -> None:
    near, far = road.pair()
    far.send_all(b"ab")
    far.send(b"!", socket.MSG_OOB)
    far.send_all(b"cd")
    show(mask_after(near, "IN|PRI|OUT"), near.recv(10))
    show(_queued(near, 0x8905), near.recv(1, socket.MSG_OOB))  # SIOCATMARK
    show(near.recv(10), outcome(near.recv, 1, socket.MSG_OOB))


@over(STREAM)
def case_urgent_data_out(road: Road) -> None:
    near, far = road.pair()
    show(near.send(b"ab"), near.send(b"!", socket.MSG_OOB))
    show(far.mask("IN|PRI|OUT"), far.recv(10), far.urgent())


@over(STREAM)
def case_signal_of_data(road: Road) -> None:
    hits: list[int] = []
    signal.signal(signal.SIGIO, lambda *_: hits.append(1))
    near, far = road.pair()
    fcntl.fcntl(near, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(near, fcntl.F_GETFL)
    fcntl.fcntl(near, fcntl.F_SETFL, flags | os.O_ASYNC)
    far.send_all(b"x")
    show(settled(lambda: bool(hits), True))


@over(STREAM)
def case_receive_time_limit(road: Road) -> None:
    near, far = road.pair()
    limit = struct.pack("ll", 0, 100_000)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    show(outcome(near.recv, 1), outcome(near.recvmsg, 1))
    far.send_all(b"x")
    show(outcome(near.recv, 1))


@over(STREAM)
def case_waiting_receiver_and_an_end(road: Road) -> None:
    for end in ("close", "reset"):
        near, far = road.pair()
        with _waiting(lambda: show(outcome(near.recv, 1))):  # noqa: B023
            getattr(far, end)()


@over(STREAM)
def case_waiting_sender_and_a_reset(road: Road) -> None:
    near, far = road.pair()

    def send() -> None:
        while not isinstance(said := outcome(near.send, bytes(1 << 20), 0x4000), str):
            pass
        show(said)

    with _waiting(send):
        far.reset()


@over(STREAM)
def case_waiting_poll(road: Road) -> None:
    near, far = road.pair()
    poll = select.poll()
    poll.register(near, select.POLLIN | select.POLLRDHUP)
    with _waiting(lambda: show([mask_text(mask) for _, mask in poll.poll(5000)])):
        far.shutdown(socket.SHUT_WR)
    near, far = road.pair()
    with _waiting(lambda: show([len(one) for one in select.select([near], [], [], 5)])):
        far.send_all(b"x")


@over(STREAM)
def case_edges(road: Road) -> None:
    near, far = road.pair()
    epoll = select.epoll()
    epoll.register(near, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def events() -> list[str]:
        return [mask_text(mask) for _, mask in epoll.poll(1)]

    show([mask_text(mask) for _, mask in epoll.poll(0)])
    far.send_all(b"one")
    show(events(), [mask_text(mask) for _, mask in epoll.poll(0)])
    far.send_all(b"two")
    show(events(), exact(near, 6))
    far.shutdown(socket.SHUT_WR)
    show(events())


@over(STREAM)
def case_one_shot(road: Road) -> None:
    near, far = road.pair()
    epoll = select.epoll()
    epoll.register(near, select.EPOLLIN | select.EPOLLONESHOT)
    far.send_all(b"one")
    show([mask_text(mask) for _, mask in epoll.poll(1)])
    far.send_all(b"two")
    show(exact(near, 6), [mask_text(mask) for _, mask in epoll.poll(0.05)])
    epoll.modify(near, select.EPOLLIN | select.EPOLLONESHOT)
    far.send_all(b"three")
    show([mask_text(mask) for _, mask in epoll.poll(1)])


@over(STREAM)
def case_options(road: Road) -> None:
    near, _ = road.pair()
    for level, name, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 33),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 7),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000),
        (socket.IPPROTO_TCP, socket.TCP_CORK, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
        (socket.IPPROTO_IP, socket.IP_TOS, 16),
        (socket.IPPROTO_IP, socket.IP_TTL, 33),
    ):
        near.setsockopt(level, name, value)
        show(level, name, near.getsockopt(level, name))
    info = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 300)
    show(info[0], len(info) >= 104)
    show(near.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) > 500)
    show(near.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), near.getsockopt(1, 30))


@over(STREAM)
def case_files(road: Road) -> None:
    near, far = road.pair()
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(250)) * 400)
        file.flush()
        sent = 0
        got: list[object] = []
        with _waiting(lambda: got.append(far.exact(100_000))):
            while sent < 100_000:
                sent += os.sendfile(near.fileno(), file.fileno(), sent, 100_000 - sent)
        show(got == [bytes(range(250)) * 400])
    reader, writer = os.pipe()
    far.send_all(b"through a pipe")
    wait_for(near)
    show(os.splice(near.fileno(), writer, 100), os.read(reader, 100))
    os.write(writer, b"and back")
    show(os.splice(reader, near.fileno(), 8), far.exact(8))


@over(STREAM)
def case_file_of_the_socket(road: Road) -> None:
    near, far = road.pair()
    with near.makefile("rwb", buffering=0) as file:
        file.write(b"a line\n")
        show(far.exact(7))
        far.send_all(b"another\nrest")
        show(file.readline(), os.read(near.fileno(), 10))
    show(outcome(os.lseek, near.fileno(), 0, 0), outcome(os.pread, near.fileno(), 1, 0))


@over(STREAM)
def case_forked_reader(road: Road) -> None:
    near, far = road.pair()

    def work() -> None:
        near.sendall(exact(near, 4)[::-1])
        near.close()

    with child(work):
        far.send_all(b"abcd")
        show(far.exact(4))
    show(far.mask("OUT"))
    near.close()
    show(far.recv(1))


@over(("relay", "local"))
def case_many_at_once(road: Road) -> None:
    name = road.target(backlog=64)
    ends = []
    for i in range(40):
        near = socket.create_connection(name)
        near.sendall(b"%02d" % i)
        ends.append(near)
    seen = set()
    for _ in ends:
        road.far.accept()
        data: Any = road.far.exact(2)
        road.far.send_all(data)
        seen.add(data)
    show(
        len(seen), [exact(near, 2) for near in ends] == [b"%02d" % i for i in range(40)]
    )
    show(drain(ends[0]), len({near.getsockname() for near in ends}))


@over(STREAM)
def case_linger_with_time(road: Road) -> None:
    near, far = road.pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 2))
    show(near.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    near.sendall(b"all of it")
    near.close()
    show(far.exact(100))


@over(STREAM)
def case_nobody_hears(road: Road) -> None:
    near, far = road.pair()
    near.shutdown(socket.SHUT_RD)
    show(far.send_all(bytes(100_000)))
    near.sendall(b"still here")
    show(far.exact(10))
    far.shutdown(socket.SHUT_WR)
    near.shutdown(socket.SHUT_WR)
    show(far.recv(1))


@over(STREAM)
def case_linger_and_go_on(road: Road) -> None:
    near, far = road.pair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for _ in range(3):
        far.send_all(b"question")
        show(exact(near, 8))
        near.sendall(b"answer")
        show(far.exact(6), polled(near))
    near.close()
    show(far.mask(_RESET), far.recv(1))


@over(_OUTWARD)
def case_near_disconnects(road: Road) -> None:
    import ctypes

    near, far = road.pair()
    ctypes.CDLL(None).connect(near.fileno(), bytes(32), 32)
    show(far.mask(_RESET), far.recv(1))


@over(STREAM)
def case_near_is_killed(road: Road) -> None:
    for unread in (False, True):
        near, far = road.pair()
        pid = os.fork()
        if pid == 0:
            road.forget()
            signal.pause()
        near.close()
        if unread:
            far.send_all(b"never read")
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        show(far.mask(_RESET if unread else "IN|OUT|RDHUP"), far.recv(1))


@over(STREAM)
def case_urgent_mark_and_signal(road: Road) -> None:
    def at_mark(sock: socket.socket) -> bool:
        return any(fcntl.ioctl(sock, 0x8905, bytes(4)))

    hits: list[int] = []
    signal.signal(signal.SIGURG, lambda *_: hits.append(1))
    for inline in (0, 1):
        near, far = road.pair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, inline)
        fcntl.fcntl(near, fcntl.F_SETOWN, os.getpid())
        hits.clear()
        far.send_all(b"ab")
        far.send(b"c!", socket.MSG_OOB)
        far.send_all(b"de")
        wait_for(near, select.POLLPRI)
        show(settled(lambda: len(near.recv(20, socket.MSG_PEEK)), 3))  # noqa: B023
        settled(lambda: _queued(near) >= 5, True)  # noqa: B023
        show(polled(near), settled(lambda: len(hits), 1))
        near.setblocking(False)
        for _ in range(3):
            urgent = outcome(near.recv, 3, socket.MSG_OOB)
            show(at_mark(near), urgent, outcome(near.recv, 20), polled(near))


@over(STREAM)
def case_reset_of_a_copy(road: Road) -> None:
    near, far = road.pair()
    copy = near.dup()
    near.close()
    copy.sendall(b"never read")
    far.mask("IN|OUT")
    far.close()
    show(mask_after(copy, _RESET), outcome(copy.recv, 1))


@over(("relay", "relay-back"))
def case_reset_of_a_child(road: Road) -> None:
    near, far = road.pair()

    def work() -> None:
        near.getpeername()
        near.sendall(b"never read")
        show(far.mask("IN|OUT"))
        far.close()
        if mask_after(near, _RESET) != _RESET or outcome(near.recv, 1) != "ECONNRESET":
            os._exit(1)

    with child(work):
        pass


@over(STREAM)
def case_reset_after_a_half_close(road: Road) -> None:
    near, far = road.pair()
    near.sendall(b"never read")
    near.shutdown(socket.SHUT_WR)
    far.mask("IN|OUT|RDHUP")
    far.close()
    wait_for(near, select.POLLHUP)
    show(polled(near), outcome(near.recv, 1))
