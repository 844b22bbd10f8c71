"""What the design takes for granted of Linux's unix sockets, on this kernel."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import termios
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

_ALL = select.POLLIN | select.POLLOUT | select.POLLRDHUP


def _mask(sock: socket.socket) -> int:
    poll = select.poll()
    poll.register(sock, _ALL)
    events = poll.poll(0)
    return events[0][1] if events else 0


def _queued(sock: socket.socket) -> int:
    buf = bytearray(4)
    fcntl.ioctl(sock, termios.TIOCOUTQ, buf)
    return int.from_bytes(buf, "little")


def test_fresh_sockets_poll_alike() -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        assert _mask(tcp) == _mask(unix) == select.POLLOUT | select.POLLHUP


def test_listening_sockets_poll_alike(tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "sock"))
        tcp.listen()
        unix.listen()
        assert _mask(tcp) == _mask(unix) == 0


def test_orderly_end_polls_alike() -> None:
    near, far = socket.socketpair()
    with near, far:
        far.shutdown(socket.SHUT_WR)
        assert _mask(near) == select.POLLIN | select.POLLOUT | select.POLLRDHUP


def test_close_with_unread_data_is_a_reset() -> None:
    near, far = socket.socketpair()
    with near:
        near.send(b"unread")
        far.close()
        assert _mask(near) & select.POLLERR
        with pytest.raises(ConnectionResetError):
            near.recv(1)
        assert near.recv(1) == b""


def test_outq_is_the_sum_of_what_the_peer_has_not_taken() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        sizes = []
        for length in (0, 1, 100, 1472, 9000):
            before = _queued(near)
            near.send(bytes(length))
            sizes.append(_queued(near) - before)
        assert min(sizes) > 0
        for taken in range(len(sizes)):
            assert _queued(near) == sum(sizes[taken:])
            far.recv(1)
        assert _queued(near) == 0


def test_datagram_pair_tells_when_the_other_end_is_closed() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near:
        assert not _mask(near) & select.POLLHUP
        far.close()
        assert _mask(near) & select.POLLHUP


def test_cookies_are_given_once() -> None:
    seen = set()
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as sock:
            seen.add(sock.getsockopt(socket.SOL_SOCKET, 57, 8))  # SO_COOKIE
    assert len(seen) == 100


def test_small_send_buffer_has_room_for_few_small_writes() -> None:
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        near.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 100:
                sent += near.send(b"x")
        assert 0 < sent < 20
        assert not _mask(near) & select.POLLOUT
