"""Programs that lock themselves up: namespaces, and seccomp filters of their own.

Where users may make no namespaces these cases show EPERM, natively and in a view.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct

from kit import V4, child, exact, listener, outcome, pair, show, udp

NEWNS, NEWUSER, NEWPID, NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22
_ERRNO, _TRAP, _ALLOW = 0x50000, 0x30000, 0x7FFF0000
_libc = ctypes.CDLL(None, use_errno=True)


def leave(flags: int) -> None:
    """Make new namespaces for this process, or for its children."""
    if _libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


def talk() -> None:
    """Show that sockets work."""
    server, client, accepted = pair()
    client.sendall(b"word")
    show(exact(accepted, 4), client.getpeername() == server.getsockname())
    one = udp()
    one.sendto(b"datagram", one.getsockname())
    data, source = one.recvfrom(20)
    show(data, source == one.getsockname())


def case_user_namespace() -> None:
    show(outcome(leave, NEWUSER))
    talk()
    with child(talk):
        pass


def case_pid_namespace() -> None:
    show(outcome(leave, NEWUSER | NEWPID))
    with child(talk):
        pass


def case_mount_namespace_and_chroot() -> None:
    show(outcome(leave, NEWUSER | NEWNS))
    show(outcome(os.chroot, "/proc/self"))
    talk()


def case_network_namespace_leads_nowhere() -> None:
    server = listener()
    show(left := outcome(leave, NEWUSER | NEWNET))
    for address in ("10.0.2.2", "10.0.2.15", "192.0.2.1"):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            if left is None:
                with socket.socket(type=kind) as sock:
                    show(address, kind.name, outcome(sock.connect, (address, 9)))
    with socket.socket() as sock:
        show("reached" if not sock.connect_ex(server.getsockname()) else "closed")
    show([name for _, name in socket.if_nameindex()] if left is None else "-")


def case_socket_from_before_a_network_namespace() -> None:
    server, client, accepted = pair()
    datagrams = udp()
    fresh = socket.socket()
    show(outcome(leave, NEWUSER | NEWNET))
    client.sendall(b"old")
    show(exact(accepted, 3))
    fresh.connect(server.getsockname())
    with server.accept()[0] as other:
        show(other.getpeername() == fresh.getsockname())
    datagrams.sendto(b"old", datagrams.getsockname())
    show(datagrams.recv(9))


def case_network_namespace_of_a_child() -> None:
    server = listener()

    def inside() -> None:
        leave(NEWUSER | NEWNET)
        with socket.socket() as sock:
            os._exit(0 if sock.connect_ex(server.getsockname()) else 1)

    with child(inside):
        pass
    with socket.create_connection(server.getsockname()):
        show("the parent has its network")


def case_lo_is_set_up_by_netlink() -> None:
    show(left := outcome(leave, NEWUSER | NEWNET))
    if left is not None:
        return
    up = struct.pack("=BxHiII", 0, 0, 1, 1, 1)
    address = struct.pack("=BBBBI", 2, 8, 0x80, 254, 1)
    for attribute in (1, 2):
        address += struct.pack("=HH4s", 8, attribute, socket.inet_aton(V4))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.bind((os.getpid(), 0))
        for kind, flags, body in ((20, 0x605, address), (16, 5, up)):
            head = struct.pack("=IHHII", 16 + len(body), kind, flags, 7, 0)
            sock.sendto(head + body, (0, 0))
            reply = sock.recv(200)
            show(struct.unpack_from("=HHIIi", reply, 4)[::2], reply[12:16] == head[-4:])
    talk()


def _filter(action: int) -> None:
    """Let socket(2) end in an action of a filter."""
    program = struct.pack("=HBBI", 0x20, 0, 0, 0)  # load the call's number
    program += struct.pack("=HBBI", 0x15, 0, 1, _libc_socket())
    program += struct.pack("=HBBI", 0x06, 0, 0, action)
    program += struct.pack("=HBBI", 0x06, 0, 0, _ALLOW)
    buffer = ctypes.create_string_buffer(program)
    fprog = struct.pack("=HxxxxxxQ", 4, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.prctl(_PR_SET_SECCOMP, 2, ctypes.create_string_buffer(fprog), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _libc_socket() -> int:
    return {"x86_64": 41, "aarch64": 198}[os.uname().machine]


def case_own_filter_refuses_sockets() -> None:
    server, client, accepted = pair()
    _filter(_ERRNO | 77)
    show(outcome(socket.socket))
    client.sendall(b"word")
    show(exact(accepted, 4))
    with server:
        show(client.getpeername() == server.getsockname())


def case_own_filter_traps_sockets() -> None:
    def trapped() -> None:
        signal.signal(signal.SIGSYS, signal.SIG_DFL)
        _filter(_TRAP)
        socket.socket()

    pid = os.fork()
    if pid == 0:
        trapped()
        os._exit(0)
    show(os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGSYS)
