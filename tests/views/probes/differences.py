"""What is known to differ in a view and has no other probe: each case must differ."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import threading

from kit import (
    Iov,
    Message,
    closed_port,
    exact,
    listener,
    name_of,
    outcome,
    pair,
    polled,
    show,
    udp,
)

_libc = ctypes.CDLL(None, use_errno=True)
_BULK = 1 << 20
_FASTOPEN = 0x20000000


def _raw_name(sock: socket.socket) -> bytes:
    host, port = sock.getsockname()[:2]
    return struct.pack("=HH4s8x", 2, socket.htons(port), socket.inet_aton(host))


def case_dup_of_a_refused_socket() -> None:
    server = listener()
    with socket.socket() as sock, sock.dup() as other:
        sock.setblocking(False)
        show(outcome(sock.connect, ("127.0.0.1", closed_port())))
        polled(sock, 2)
        show(name_of(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
        sock.setblocking(True)
        for _ in range(2):  # the first one tells that the connect before it failed
            show(outcome(sock.connect, server.getsockname()))
        show(outcome(other.getpeername) == outcome(sock.getpeername))


def case_fast_open_by_sendmmsg() -> None:
    server = listener()
    with socket.socket() as sock:
        word, name = (
            ctypes.create_string_buffer(data) for data in (b"word", _raw_name(server))
        )
        message = Message(name=ctypes.addressof(name), namelen=16, iovlen=1)
        message.iov = ctypes.pointer(Iov(ctypes.addressof(word), 4))
        sent = _libc.sendmmsg(sock.fileno(), ctypes.byref(message), 1, _FASTOPEN)
        show(sent if sent >= 0 else name_of(ctypes.get_errno()))


def case_much_data_with_an_address() -> None:
    _, near, far = pair()
    reader = threading.Thread(target=exact, args=(far, _BULK), daemon=True)
    reader.start()
    show(near.sendto(bytes(_BULK), far.getsockname()))


def case_more_of_a_datagram_by_send() -> None:
    one, two = udp(), udp()
    one.connect(two.getsockname())
    one.send(b"begin", socket.MSG_MORE)
    one.send(b"end")
    show(two.recv(100))


def case_many_datagrams_for_one_call() -> None:
    one, two = udp(), udp()
    two.settimeout(None)
    count, size = 4, 30_000
    for _ in range(count):
        one.sendto(bytes(size), two.getsockname())
    buf = ctypes.create_string_buffer(count * size)
    messages = (Message * count)()
    for i in range(count):
        at = ctypes.addressof(buf) + i * size
        messages[i].iov = ctypes.pointer(Iov(at, size))
        messages[i].iovlen = 1
    show(_libc.recvmmsg(two.fileno(), messages, count, 0, None))


def case_datagrams_after_shut_rd() -> None:
    one, two = udp(), udp()
    one.connect(two.getsockname())
    two.connect(one.getsockname())
    two.shutdown(socket.SHUT_RD)
    two.setblocking(False)
    show(outcome(two.recv, 10))
    one.send(b"late")
    show(outcome(two.recv, 10))


def case_files_by_stat() -> None:
    for name in ("/etc/hosts", "/etc/resolv.conf"):
        fd = os.open(name, os.O_RDONLY)
        show(name, os.path.samestat(os.stat(name), os.fstat(fd)))
        os.close(fd)


def case_files_opened_like_a_web_servers() -> None:
    """Too long for the interpreter's own memory, the path lies in malloc()'s heap."""
    path = ctypes.create_string_buffer(b"/etc/resolv.conf", 4096)
    plain = _libc.open(path, os.O_RDONLY)
    quick = _libc.open(path, os.O_RDONLY | os.O_NONBLOCK)
    show(os.path.samestat(os.fstat(plain), os.fstat(quick)))


def case_all_bytes_and_an_address() -> None:
    _, near, far = pair()
    far.sendall(b"four")
    rest = threading.Timer(0.3, far.sendall, (b"more",))
    rest.start()
    buf, name, size = bytes(8), ctypes.create_string_buffer(16), ctypes.c_int(16)
    how = socket.MSG_WAITALL
    show(_libc.recvfrom(near.fileno(), buf, 8, how, name, ctypes.byref(size)))
    rest.join()


def case_signal_during_a_call_that_does_not_wait() -> None:
    """A handler without SA_RESTART: the interpreter repeats no getsockname().

    Each signal starts the clock of the next one: those of an interval might come faster
    than a traced process gets over them.
    """
    left = 300

    def heard(*_: object) -> None:
        nonlocal left
        left -= 1
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    signal.signal(signal.SIGALRM, heard)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    seen = "no EINTR"
    with socket.socket() as sock:
        while left > 0 and seen != "EINTR":
            try:
                sock.getsockname()
            except InterruptedError:
                seen = "EINTR"
    signal.setitimer(signal.ITIMER_REAL, 0)
    show(seen)


def case_bind_twice_where_signals_are_caught() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    with socket.socket() as sock:
        for _ in range(3):
            show(outcome(sock.bind, ("127.0.0.1", 0)))


def case_listener_of_a_seccomp_filter() -> None:
    """A filter that allows all, with a listener of the program's own."""
    instruction = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    code = ctypes.create_string_buffer(instruction)
    program = struct.pack("=HxxxxxxQ", 1, ctypes.addressof(code))
    show(_libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    fd = _libc.syscall(ctypes.c_long(317), ctypes.c_long(1), ctypes.c_long(8), program)
    show("ok" if fd >= 0 else errno.errorcode[ctypes.get_errno()])
