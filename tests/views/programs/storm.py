"""Calls under a storm of signals: 5,000 a second, none may lose or double anything.

Usage: storm.py NAME COUNT. Prints what was seen; equal natively and in a view.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

_EVERY = 0.0002
_LIMIT = 100.0  # a slow machine, traced, gets that far
_SIOCGIFADDR = 0x8915
T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def _storm(restart: bool, every: float = _EVERY) -> Iterator[None]:
    """Let signals come; calls are restarted, or made again by Python."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, not restart)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _child() -> Iterator[bool]:
    """Fork: the block runs in both, as the child where it says True."""
    pid = os.fork()
    if pid == 0:
        _watch()
        try:
            yield True
        finally:
            os._exit(0)
    _watch()
    yield False
    os.waitpid(pid, 0)


def _watch() -> None:
    """End this process when it hangs; the thread that watches gets no signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    timer = threading.Timer(_LIMIT, os._exit, (9,))
    timer.daemon = True
    timer.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])


def _again(call: Callable[..., T], *args: object) -> T:
    """Repeat a call that a signal ended.

    In a view a signal may end any stopped call before it is answered, also those that
    Linux never interrupts (docs/compatibility.md). Nothing may be left of it.
    """
    while True:
        try:
            return call(*args)
        except InterruptedError:
            continue


def _name(name: tuple[str, int]) -> bytes:
    data = struct.pack("=H", socket.AF_INET) + struct.pack("!H", name[1])
    return data + socket.inet_aton(name[0]) + bytes(8)


def _begin(sock: socket.socket, name: bytes) -> int:
    """Connect, again after signals; not Python's own, which goes on by poll()."""
    while _libc.connect(sock.fileno(), name, len(name)):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            return number
    return 0


def _connect(sock: socket.socket, name: tuple[str, int]) -> None:
    """Connect, and go on with that after signals, as connect(2) tells to do."""
    while number := _begin(sock, _name(name)):
        if number == errno.EISCONN:
            return
        if number != errno.EALREADY:
            raise OSError(number, "connect")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def _exact(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def accept(count: int, restart: bool) -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    before = _descriptors()
    seen = []
    with _child() as is_child:
        if is_child:
            for i in range(count):
                with socket.create_connection(server.getsockname()) as client:
                    client.sendall(struct.pack("I", i))
                    client.recv(1)
            return
        with _storm(restart):
            for _ in range(count):
                accepted, name = server.accept()
                seen.append(struct.unpack("I", _exact(accepted, 4))[0])
                if _again(accepted.getpeername) != name:
                    _say("a wrong name")
                accepted.close()
    _say(sorted(seen) == list(range(count)), _descriptors() - before)


def connect(count: int, restart: bool) -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    before = _descriptors()
    reader, writer = os.pipe()
    with _child() as is_child:
        if is_child:
            seen = []
            while True:
                accepted, _ = server.accept()
                data = _exact(accepted, 4)
                if data == b"stop":
                    break
                seen.append(struct.unpack("I", data)[0] if data else -1)
            os.write(writer, str(sorted(seen) == list(range(count))).encode())
            return
        name = server.getsockname()
        with _storm(restart):
            for i in range(count):
                with _again(socket.socket) as client:
                    _connect(client, name)
                    client.sendall(struct.pack("I", i))
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"stop")
    _say(os.read(reader, 10), _descriptors() - before - 2)


def datagrams(count: int, restart: bool) -> None:
    """Answer each datagram; both sides are stormed, with all kinds of calls.

    Datagrams may be lost or doubled (a call that was ended after it had sent is made
    again), but none may be changed or come from somebody else.
    """
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (here, there):
        sock.bind(("127.0.0.1", 0))
    here.settimeout(0.1)
    there_name = there.getsockname()
    with _child() as is_child:
        with _storm(restart):
            if is_child:
                while data := (got := there.recvmsg(2000, 64))[0]:
                    there.sendmsg([data[:2], data[2:]], [], 0, got[3])
                return
            wrong = 0
            for i in range(count):
                data, answer = _numbered(i), b""
                here.sendto(data, there_name)
                while answer != data:
                    try:
                        answer, name = here.recvfrom(2000)
                    except TimeoutError:
                        here.sendto(data, there_name)
                        continue
                    number = struct.unpack_from("I", answer)[0]
                    wrong += answer != _numbered(number) or name != there_name
        for _ in range(5):
            here.sendto(b"", there_name)
    _say("wrong", wrong)


def _numbered(i: int) -> bytes:
    return struct.pack("I", i) * (1 + i % 300)


def unix(count: int, restart: bool) -> None:
    """Send on a plain unix socket, whose sendmsg and recvmsg are looked at, too."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _child() as is_child, _storm(restart):
        if is_child:
            for _ in range(count):
                there.sendmsg([there.recvmsg(2000)[0]])
            return
        wrong = 0
        for i in range(count):
            data = _numbered(i)
            here.sendmsg([data])
            wrong += here.recvmsg(2000)[0] != data
    _say("wrong", wrong)


def sockets(count: int, restart: bool) -> None:
    """Make, name and close sockets: no descriptor may be left behind."""
    before = _descriptors()
    ports = set()
    with _storm(restart):
        for _ in range(count):
            with _again(socket.socket) as sock:
                _again(sock.setsockopt, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                _again(sock.bind, ("127.0.0.1", 0))
                _again(sock.listen)
                ports.add(_again(sock.getsockname)[1])
                if not _again(sock.getsockopt, socket.SOL_SOCKET, socket.SO_REUSEADDR):
                    _say("an option is lost")
    _say(len(ports) > 1, _descriptors() - before)


def stream(count: int, restart: bool) -> None:
    """Move bytes through a local connection with sendmsg and recvmsg."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    block = bytes(range(256)) * 16
    with _child() as is_child, _storm(restart):
        if is_child:
            for _ in range(count):
                view = memoryview(block)
                while view:
                    view = view[client.sendmsg([view[:1000], view[1000:]]) :]
            return
        same = True
        for _ in range(count):
            data = b""
            while len(data) < len(block):
                data += accepted.recvmsg(len(block) - len(data), 64)[0]
            same = same and data == block
    _say(same)


def names(count: int, restart: bool) -> None:
    """Name datagram sockets: a name is given once, and is the one that was asked."""
    before = _descriptors()
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 0))
    peer = other.getsockname()
    wrong = 0
    with _storm(restart):
        for i in range(count):
            with _again(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
                _again(sock.bind, (f"127.0.1.{i % 250 + 1}", 0))
                name = _again(sock.getsockname)
                _connect(sock, peer)
                wrong += _again(sock.getpeername) != peer
                _begin(sock, struct.pack("=H14x", socket.AF_UNSPEC))
                wrong += _again(sock.getsockname)[0] != name[0]
                try:
                    _again(sock.getpeername)
                    wrong += 1
                except OSError as error:
                    wrong += error.errno != errno.ENOTCONN
    other.close()
    _say("wrong", wrong, _descriptors() - before)


def groups(count: int, restart: bool) -> None:
    """Join groups and leave them: neither may seem to have been done before."""
    before = _descriptors()
    wrong = 0
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with _storm(restart), sock:
        for i in range(count):
            group = socket.inet_aton(f"239.1.1.{i % 250 + 1}")
            group += socket.inet_aton("127.0.0.1")
            for name in (socket.IP_ADD_MEMBERSHIP, socket.IP_DROP_MEMBERSHIP):
                _again(sock.setsockopt, socket.IPPROTO_IP, name, group)
            _again(sock.setsockopt, socket.IPPROTO_IP, socket.IP_TTL, i % 255 + 1)
            ttl = _again(sock.getsockopt, socket.IPPROTO_IP, socket.IP_TTL)
            wrong += ttl != i % 255 + 1
    _say("wrong", wrong, _descriptors() - before)


def loop(count: int, restart: bool) -> None:
    """Connect and accept without blocking, by epoll, as event loops do."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    name = server.getsockname()
    server.setblocking(False)
    before = _descriptors()
    wrong = 0
    # All but the last are a connect that a signal has interrupted, made again.
    started = (errno.EALREADY, errno.EISCONN, 0, errno.EINPROGRESS)
    with _storm(restart), select.epoll() as poll:
        poll.register(server, select.EPOLLIN)
        for i in range(count):
            with _again(socket.socket) as client:
                client.setblocking(False)
                wrong += _begin(client, _name(name)) not in started
                poll.register(client, select.EPOLLOUT)
                while not any(fd == client.fileno() for fd, _ in poll.poll()):
                    pass
                wrong += (
                    _again(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR) != 0
                )
                poll.unregister(client)
                while not any(fd == server.fileno() for fd, _ in poll.poll()):
                    pass
                with _again(server.accept)[0] as accepted:
                    client.send(struct.pack("I", i))
                    _again(client.shutdown, socket.SHUT_WR)
                    accepted.setblocking(True)
                    wrong += _exact(accepted, 5) != struct.pack("I", i)
    _say("wrong", wrong, _descriptors() - before)


def refused(count: int, restart: bool) -> None:
    """Connect to nobody: an error is told, by connect() or by SO_ERROR."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = server.getsockname()
    before = _descriptors()
    wrong = 0
    with _storm(restart):
        for i in range(count):
            with _again(socket.socket) as client:
                client.setblocking(bool(i % 2))
                error = _begin(client, _name(name))
                if error in (errno.EINPROGRESS, errno.EALREADY):
                    select.select([], [client], [])
                    error = _again(
                        client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR
                    )
                wrong += error != errno.ECONNREFUSED
    _say("wrong", wrong, _descriptors() - before)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("len", ctypes.c_size_t))


class _Slot(ctypes.Structure):
    """A struct mmsghdr."""

    _fields_ = (
        *(("name", ctypes.c_void_p), ("name_len", ctypes.c_uint)),
        *(("vector", ctypes.POINTER(_Vector)), ("count", ctypes.c_size_t)),
        *(("control", ctypes.c_void_p), ("control_len", ctypes.c_size_t)),
        *(("flags", ctypes.c_int), ("pad", ctypes.c_int), ("len", ctypes.c_uint)),
    )


def many(count: int, restart: bool) -> None:
    """Send and receive datagrams, three by one call; they may be lost or doubled."""
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there.bind(("127.0.0.1", 0))
    here.connect(there.getsockname())
    wrong = 0
    room = [ctypes.create_string_buffer(100) for _ in range(3)]
    taken = (_Slot * 3)()
    into = [_Vector(ctypes.cast(one, ctypes.c_char_p), 100) for one in room]
    for slot, vector in zip(taken, into, strict=True):
        slot.vector, slot.count = ctypes.pointer(vector), 1
    with _storm(restart):
        for i in range(count):
            data = [_numbered(3 * i + j)[:90] for j in range(3)]
            sent = (_Slot * 3)()
            vectors = [_Vector(one, len(one)) for one in data]
            for slot, vector in zip(sent, vectors, strict=True):
                slot.vector, slot.count = ctypes.pointer(vector), 1
            _libc.sendmmsg(here.fileno(), sent, 3, 0)
            got = _libc.recvmmsg(there.fileno(), taken, 3, socket.MSG_DONTWAIT, None)
            for j in range(max(got, 0)):
                one = room[j].raw[: taken[j].len]
                number = struct.unpack_from("I", one)[0]
                wrong += number > 3 * i + 2 or one != _numbered(number)[:90]
    _say("wrong", wrong)


def _address_of_lo(sock: socket.socket) -> bytes:
    return fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("16s24x", b"lo"))[20:24]


def files(count: int, restart: bool) -> None:
    """Open what a view shows, and ask about its cards."""
    before = _descriptors()
    seen = set()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with _storm(restart), sock:
        for _ in range(count):
            address = _again(_address_of_lo, sock)
            text = []
            for name in ("/etc/resolv.conf", "/etc/hosts"):
                fd = _again(os.open, name, os.O_RDONLY)
                text.append(os.read(fd, 1 << 16))
                os.close(fd)
            seen.add((address, *text))
    _say(len(seen), _descriptors() - before)


def addressed(count: int, restart: bool) -> None:
    """Move bytes through a connection with recvfrom() and recvmsg() with a name."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    block = bytes(range(256)) * 4
    with _child() as is_child:
        if is_child:
            for _ in range(count):
                accepted.sendall(block)
            return
        same = True
        with _storm(restart):
            for i in range(count):
                data = b""
                while len(data) < len(block):
                    data += (
                        client.recvfrom(len(block) - len(data))[0]
                        if i % 2
                        else client.recvmsg(len(block) - len(data), 64)[0]
                    )
                same = same and data == block
    _say(same)


class _Mixed:
    """Rounds of calls of all kinds that are stopped; what goes wrong is counted."""

    def __init__(self) -> None:
        self.calls = 0
        self.wrong = 0
        self.lost = 0
        self._number = 0
        self._sent: set[bytes] = set()  # what may still come a second time
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._name = self._server.getsockname()
        self._near, self._far = socket.socketpair()
        self._here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for sock in (self._here, self._there):
            sock.bind(("127.0.0.1", 0))
        self._there.settimeout(0.5)

    def _do(self, call: Callable[..., T], *args: object) -> T:
        self.calls += 1
        return _again(call, *args)

    def _expect(self, wanted: T, call: Callable[..., T], *args: object) -> None:
        self.wrong += self._do(call, *args) != wanted

    def round(self) -> None:
        self._number += 1
        data = struct.pack("I", self._number)
        self._stream(data)
        self._datagram(data)
        self._do(self._near.sendmsg, [data])
        self.wrong += self._do(self._far.recvmsg, 8)[0] != data
        os.close(self._do(os.open, "/etc/hosts", os.O_RDONLY))

    def _stream(self, data: bytes) -> None:
        ttl = self._number % 255 + 1
        with self._do(socket.socket) as near:
            self._do(near.setsockopt, socket.IPPROTO_IP, socket.IP_TTL, ttl)
            self._expect(ttl, near.getsockopt, socket.IPPROTO_IP, socket.IP_TTL)
            self._do(near.bind, ("127.0.0.1", 0))
            name = self._do(near.getsockname)
            self._do(_connect, near, self._name)
            far, peer = self._do(self._server.accept)
            with far:
                self.wrong += peer != name
                self._expect(name, far.getpeername)
                self._expect(self._name, near.getpeername)
                self._expect(4, near.sendmsg, [data])
                self.wrong += self._do(far.recvmsg, 8)[0] != data
                self._do(near.shutdown, socket.SHUT_WR)
                self.wrong += far.recv(8) != b""

    def _datagram(self, data: bytes) -> None:
        """A datagram may come twice: its sending was ended, and is made again."""
        near, far = (self._do(sock.getsockname) for sock in (self._here, self._there))
        self._do(self._here.sendto, data, far)
        self.calls += 1
        try:
            while (got := _again(self._there.recvfrom, 8)) != (data, near):
                self.wrong += got[1] != near or got[0] not in self._sent
        except TimeoutError:
            self.lost += 1
        self._sent = {data}


def mixed(count: int, restart: bool) -> None:
    """Make so many calls of all kinds, at 1,000 signals a second."""
    mixed = _Mixed()
    before = _descriptors()
    with _storm(restart, 0.001):
        while mixed.calls < count:
            mixed.round()
    left = _descriptors() - before
    _say("wrong", mixed.wrong, "lost", mixed.lost, "left", left)


if __name__ == "__main__":
    for again in (False, True):
        globals()[sys.argv[1]](int(sys.argv[2]), again)
