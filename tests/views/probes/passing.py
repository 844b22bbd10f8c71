"""Sockets in every state handed to another process of the same view, by SCM_RIGHTS."""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator

from kit import (
    V4,
    child,
    closed_port,
    exact,
    listener,
    name_of,
    outcome,
    pair,
    pending_error,
    polled,
    show,
    udp,
)

_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438


@contextlib.contextmanager
def _handed(
    sock: socket.socket, work: Callable[[socket.socket], None]
) -> Iterator[None]:
    """Let another process work on a socket that it is given; show what it says.

    Its copy by fork is closed there before: what it has, it has by the message.
    """
    near, far = socket.socketpair()
    shown, shows = socket.socketpair()

    def run() -> None:
        sock.close()
        shows.setblocking(True)
        _, fds, _, _ = socket.recv_fds(far, 1, 1)
        work(socket.socket(fileno=fds[0]))

    with child(run):
        socket.send_fds(near, [b"x"], [sock.fileno()])
        yield
    shown.close()


def _checked(*facts: bool) -> None:
    """Fail in the other process, whose status the case shows."""
    if not all(facts):
        os._exit(10 + facts.index(False))


def case_fresh() -> None:
    server, fresh = listener(), socket.socket()

    def work(got: socket.socket) -> None:
        _checked(got.getsockname() == ("0.0.0.0", 0), polled(got) == "OUT|HUP")
        got.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        got.connect(server.getsockname())
        got.sendall(b"by the other")

    with _handed(fresh, work):
        accepted, name = server.accept()
        show(exact(accepted, 12), fresh.getsockname() == name)
    show(fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), polled(fresh))


def case_bound() -> None:
    bound = socket.socket()
    bound.bind((V4, 0))
    name = bound.getsockname()

    def work(got: socket.socket) -> None:
        _checked(got.getsockname() == name, isinstance(outcome(got.bind, name), str))
        got.listen()
        got.accept()[0].sendall(b"served")

    with _handed(bound, work):
        while isinstance(client := outcome(socket.create_connection, name), str):
            pass
        assert isinstance(client, socket.socket)
        show(exact(client, 6))
    show(bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    other = socket.create_connection(name)
    show(bound.accept()[1] == other.getsockname())


def case_listening_with_pending() -> None:
    server = listener()
    clients = [socket.create_connection(server.getsockname()) for _ in range(3)]
    names = [client.getsockname() for client in clients]

    def work(got: socket.socket) -> None:
        accepted, name = got.accept()
        _checked(name == names[0], accepted.getpeername() == name)
        accepted.sendall(b"first")

    with _handed(server, work):
        show(exact(clients[0], 5), clients[0].recv(1))
    show(server.accept()[1] == names[1], server.accept()[1] == names[2])


def case_refused() -> None:
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex((V4, closed_port()))

    def work(got: socket.socket) -> None:
        _checked(pending_error(got) == "ECONNREFUSED", pending_error(got) == "ok")

    with _handed(client, work):
        pass
    show(pending_error(client), outcome(client.getpeername))


def case_connected() -> None:
    _server, client, accepted = pair()
    names = (client.getsockname(), client.getpeername())

    def work(got: socket.socket) -> None:
        _checked((got.getsockname(), got.getpeername()) == names)
        got.sendall(exact(got, 4)[::-1])
        got.shutdown(socket.SHUT_WR)

    with _handed(client, work):
        accepted.sendall(b"abcd")
        show(exact(accepted, 9))
    show(outcome(client.send, b"x", socket.MSG_NOSIGNAL), polled(client))


def case_datagrams() -> None:
    sock, peer = udp(), udp()
    sock.connect(peer.getsockname())
    peer.sendto(b"queued", sock.getsockname())

    def work(got: socket.socket) -> None:
        got.settimeout(5)
        _checked(got.recvfrom(9) == (b"queued", peer.getsockname()))
        _checked(got.getpeername() == peer.getsockname())
        got.send(b"answer")

    with _handed(sock, work):
        show(peer.recvfrom(9) == (b"answer", sock.getsockname()))
    peer.sendto(b"mine", sock.getsockname())
    show(sock.recvfrom(9)[0])


def case_while_accept_waits() -> None:
    """The giver waits in accept on what the taker shuts down."""
    server = listener()

    def work(got: socket.socket) -> None:
        select.select([], [], [], 0.1)
        got.shutdown(socket.SHUT_RD)

    with _handed(server, work):
        show(outcome(server.accept))


def case_last_copy_in_flight() -> None:
    near, far = socket.socketpair()
    server, client, accepted = pair()
    socket.send_fds(near, [b"x"], [server.fileno(), accepted.fileno()])
    name = server.getsockname()
    server.close()
    accepted.close()
    client.sendall(b"kept")
    waiting = socket.create_connection(name)
    _, fds, _, _ = socket.recv_fds(far, 1, 2)
    server, accepted = (socket.socket(fileno=fd) for fd in fds)
    show(exact(accepted, 4), server.accept()[1] == waiting.getsockname())


def case_lost_in_flight() -> None:
    """Sockets in a message that nobody takes end with it."""
    near, far = socket.socketpair()
    server, client, accepted = pair()
    name = server.getsockname()
    socket.send_fds(near, [b"x"], [server.fileno(), accepted.fileno()])
    server.close()
    accepted.close()
    near.close()
    far.close()
    show(client.recv(1), outcome(socket.socket().connect, name))


def case_many_and_flags() -> None:
    near, far = socket.socketpair()
    socks = [socket.socket() for _ in range(5)] + [udp() for _ in range(5)]
    fds = array.array("i", [sock.fileno() for sock in socks])
    near.sendmsg([b"m"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    flags = socket.MSG_CMSG_CLOEXEC
    _, control, out, _ = far.recvmsg(1, socket.CMSG_SPACE(4 * 20), flags)
    got = array.array("i", control[0][2])
    show(len(got), out & socket.MSG_CTRUNC)
    show([fcntl.fcntl(fd, fcntl.F_GETFD) for fd in got])
    show([socket.socket(fileno=fd).type for fd in got])
    near.sendmsg([b"m"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    _, control, out, _ = far.recvmsg(1, socket.CMSG_SPACE(4 * 3))
    show(bool(out & socket.MSG_CTRUNC), len(control[0][2]) // 4 in (3, 4))


def case_rights_over_tcp_and_udp() -> None:
    """Internet sockets carry no descriptors: the message goes without them."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
    _server, client, accepted = pair()
    show(outcome(client.sendmsg, [b"data"], rights))
    data, control, _, _ = accepted.recvmsg(9, 100, socket.MSG_DONTWAIT)
    show(data, control)
    sock = udp()
    show(outcome(sock.sendmsg, [b"data"], rights, 0, sock.getsockname()))


def case_to_itself() -> None:
    near, far = socket.socketpair()
    server, client, accepted = pair()
    socket.send_fds(near, [b"x"], [client.fileno()])
    _, fds, _, _ = socket.recv_fds(far, 1, 1)
    copy = socket.socket(fileno=fds[0])
    client.close()
    copy.sendall(b"copy")
    show(exact(accepted, 4), copy.getpeername() == server.getsockname())
    copy.close()
    show(accepted.recv(1))


def case_taken_out_of_another_process() -> None:
    """pidfd_getfd(2): a parent takes its child's sockets."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        server, sock = listener(), udp()
        os.write(writer, b"%d %d" % (server.fileno(), sock.fileno()))
        signal.pause()
    numbers = os.read(reader, 20).split()
    pidfd = _libc.syscall(_PIDFD_OPEN, pid, 0)
    fds = [_libc.syscall(_PIDFD_GETFD, pidfd, int(number), 0) for number in numbers]
    if min(fds) < 0:
        show(name_of(ctypes.get_errno()))
        os.kill(pid, signal.SIGKILL)
        return
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    server, sock = (socket.socket(fileno=fd) for fd in fds)
    client = socket.create_connection(server.getsockname())
    show(server.accept()[1] == client.getsockname())
    sock.settimeout(5)
    sock.sendto(b"taken", sock.getsockname())
    show(sock.recvfrom(9)[0])


def case_reopened_by_proc() -> None:
    """Sockets cannot be opened by /proc/self/fd."""
    for sock in (socket.socket(), udp(), listener()):
        path = f"/proc/self/fd/{sock.fileno()}"
        show(outcome(os.open, path, os.O_RDWR), os.readlink(path)[:8])
