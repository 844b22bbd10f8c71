"""What socket(2) says to all that it may be asked, and what the fresh socket is."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import stat
import subprocess
import sys

from kit import ADDRESSES, name_of, outcome, polled, show

_SYS_SOCKET = 41 if os.uname().machine == "x86_64" else 198
_libc = ctypes.CDLL(None, use_errno=True)


def _socket(domain: int, kind: int, protocol: int) -> str:
    fd = _libc.syscall(
        ctypes.c_long(_SYS_SOCKET),
        ctypes.c_long(domain),
        ctypes.c_long(kind),
        ctypes.c_long(protocol),
    )
    if fd < 0:
        return name_of(ctypes.get_errno())
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
        closing = fcntl.fcntl(fd, fcntl.F_GETFD)
        return f"ok nonblock={bool(flags)} cloexec={closing}"
    finally:
        os.close(fd)


def case_stream_and_datagram() -> None:
    for domain in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            for protocol in (0, 6, 17, 1, 41, 58, 132, 254, 255, 256, -1):
                if protocol in (1, 58) and kind == socket.SOCK_DGRAM:
                    continue  # ping sockets are everybody's in a view
                show(domain, kind, protocol, _socket(domain, kind, protocol))


def case_other_types() -> None:
    for domain in (socket.AF_INET, socket.AF_INET6):
        for kind in (0, 4, 5, 6, 7, 10, 11, 15):
            show(domain, kind, _socket(domain, kind, 0))


def case_flags() -> None:
    for flags in (0, 0o4000, 0o2000000, 0o2004000, 0o10, 0o20, 0o10000, 1 << 30):
        show(oct(flags), _socket(socket.AF_INET, socket.SOCK_STREAM | flags, 0))
        show(oct(flags), _socket(socket.AF_INET6, socket.SOCK_DGRAM | flags, 0))


def case_upper_half_of_the_register() -> None:
    show(_socket(0x1_0000_0002, 1, 0))
    show(_socket(0x1_0000_0001, 1, 0))
    show(_socket(2, 0x1_0000_0001, 0))
    show(_socket(2, 1, 0x1_0000_0006))


def case_other_families() -> None:
    show(_socket(-1, 1, 0), _socket(0, 1, 0), _socket(1000, 1, 0))
    show(_socket(socket.AF_UNIX, 1, 0), _socket(socket.AF_UNIX, 2, 1))
    show(_socket(socket.AF_UNIX, 1, 6), _socket(socket.AF_NETLINK, 1, 0))
    show(_socket(socket.AF_NETLINK, 3, 0), _socket(socket.AF_NETLINK, 2, 0))


def case_what_it_is() -> None:
    for family, _ in ADDRESSES:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as sock:
                fd = sock.fileno()
                show(stat.S_ISSOCK(os.fstat(fd).st_mode))
                show(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:["))
                same = socket.socket(fileno=os.dup(fd))
                show(same.family, same.type, same.proto)
                show(sock.getsockname(), outcome(sock.getpeername))
                show(polled(sock))
                same.close()


def case_unused_stream() -> None:
    for family, _ in ADDRESSES:
        with socket.socket(family) as sock:
            show("accept", outcome(sock.accept))
            show("shutdown", outcome(sock.shutdown, 3))
            show("recvfrom", outcome(sock.recvfrom, 1))
            show("sendto", outcome(sock.sendto, b"x", 0, (_address(family), 1)))
            show("getpeername", outcome(sock.getpeername))
            show("listen", outcome(sock.listen), polled(sock))
            show("bind after listen", outcome(sock.bind, ("", 0)))
            show("connect after listen", outcome(sock.connect, ("", 1)))


def case_unused_datagram() -> None:
    for family, _ in ADDRESSES:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            show("shutdown", outcome(sock.shutdown, 3))
            show("accept", outcome(sock.accept), "listen", outcome(sock.listen))
            show("recv", outcome(sock.recv, 1, socket.MSG_DONTWAIT))
            show("recvfrom", outcome(sock.recvfrom, 1, socket.MSG_DONTWAIT))
            show("getpeername", outcome(sock.getpeername))
            show("sendto port 0", outcome(sock.sendto, b"x", (_address(family), 0)))


def _address(family: int) -> str:
    return "127.0.0.1" if family == socket.AF_INET else "::1"


def case_no_descriptor() -> None:
    reader, writer = os.pipe()
    closed = os.dup(0)
    os.close(closed)
    for fd in (closed, -1, reader):
        for call, args in (
            ("bind", (fd, b"\2\0" + bytes(14), 16)),
            ("connect", (fd, b"\2\0" + bytes(14), 16)),
            ("listen", (fd, 1)),
            ("accept", (fd, None, None)),
            ("shutdown", (fd, 1)),
            ("getsockname", (fd, bytes(16), (ctypes.c_int * 1)(16))),
            ("setsockopt", (fd, 1, 2, bytes(4), 4)),
            ("getsockopt", (fd, 1, 2, bytes(4), (ctypes.c_int * 1)(4))),
            ("sendto", (fd, b"x", 1, 0, b"\2\0" + bytes(14), 16)),
            ("recvfrom", (fd, bytes(4), 4, 0, bytes(16), (ctypes.c_int * 1)(16))),
            ("sendmsg", (fd, bytes(56), 0)),
            ("recvmsg", (fd, bytes(56), 0)),
        ):
            result = getattr(_libc, call)(*args)
            show(call, name_of(ctypes.get_errno() if result < 0 else 0))
    os.close(reader)
    os.close(writer)


def case_descriptor_limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    socks = []
    error = ""
    while not error:
        try:
            socks.append(socket.socket())
        except OSError as exc:
            error = name_of(exc.errno)
    show(error)
    socks.pop().close()
    show(_socket(2, 1, 0))


def case_dumpable() -> None:
    code = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"

    def ask() -> tuple[int, str]:
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        return _libc.prctl(3, 0, 0, 0, 0), out.stdout

    def forked() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(_libc.prctl(3, 0, 0, 0, 0))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    show(ask(), forked())
    for value in (0, 0, 1, 0, 1, 2):
        show(value, _libc.prctl(4, value, 0, 0, 0), ask(), forked())
