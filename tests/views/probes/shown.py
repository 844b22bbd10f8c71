"""How sockets are shown: /proc/net, sock_diag(7), the settings below /proc/sys/net."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

from kit import (
    ADDRESSES,
    V4,
    V6,
    listener,
    name_of,
    outcome,
    pair,
    settled,
    show,
    udp,
    wait_for,
)

_DIAG, _BY_FAMILY, _DONE = 4, 20, 3
_UDPLITE = 136


def _inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def _line(name: str, sock: socket.socket) -> str:
    """Return the line of a socket, its own ports and numbers written as words."""
    needle = f" {_inode(sock)} "
    with open(f"/proc/net/{name}") as file:  # it may have thousands in TIME_WAIT
        lines = [line.split() for line in file if needle in line]
    for words in lines:
        if words[9] == str(_inode(sock)):
            port = f":{sock.getsockname()[1]:04X}"
            words[1] = words[1].replace(port, ":own")
            if not words[2].endswith(":0000"):
                words[2] = words[2].rpartition(":")[0] + ":peer"
            words[7] = "mine" if words[7] == str(os.getuid()) else words[7]
            return " ".join([*words[1:9], str(len(words))])
    return "none"


def _unix_too(sock: socket.socket) -> bool:
    with open("/proc/net/unix") as file:
        return any(f" {_inode(sock)}\n" in line for line in file)


@contextlib.contextmanager
def _netlink() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _DIAG) as sock:
        sock.settimeout(5)
        yield sock


def _diag(
    sock: socket.socket,
    family: int | None = None,
    protocol: int | None = None,
    states: int = 0xFBF,  # not TIME_WAIT: there may be thousands
) -> list[str]:
    """Return what a dump tells of a socket."""
    protocol = protocol or sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
    asked = struct.pack("=BBBBI", family or sock.family, protocol, 0, 0, states)
    body = asked + bytes(48)
    seen: list[str] = []
    head = struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, 0x301, 7, 0)
    with _netlink() as kernel:
        kernel.send(head + body)
        while True:
            data = kernel.recv(1 << 16)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                body, data = data[16:size], data[(size + 3) & ~3 :]
                if kind == _DONE:
                    error = struct.unpack("=i", body[:4])[0]
                    return seen or [name_of(-error)] * (error != 0)
                if kind == 2:
                    return [name_of(-struct.unpack_from("=i", body)[0])]
                fixed = struct.unpack_from("=BBBB4s16s16s4s8sIIIII", body)
                if fixed[13] == _inode(sock):
                    port = sock.getsockname()[1]
                    own = struct.unpack("!H", fixed[4][:2])[0] == port
                    peer = fixed[4][2:] != bytes(2)
                    seen.append(
                        f"{fixed[:3]} own={own} peer={peer} {fixed[5].hex()} "
                        f"{fixed[6].hex()} {fixed[10:12]} {fixed[12] == os.getuid()}"
                    )


def case_stream_tables() -> None:
    for family, address in ADDRESSES:
        name = "tcp" if family == socket.AF_INET else "tcp6"
        fresh = socket.socket(family)
        show("fresh", _line(name, fresh), _diag(fresh))
        bound = socket.socket(family)
        bound.bind((address, 0))
        show("bound", _line(name, bound))
        server, client, accepted = pair(family)
        for sock in (server, client, accepted):
            show(_line(name, sock), _diag(sock), _unix_too(sock))
        show("other table", _line("udp", client), _line("raw", client))
        client.send(b"hello")
        wait_for(accepted)
        show(_line(name, accepted))
        waiting = socket.socket(family)
        waiting.connect(server.getsockname())
        show(_line(name, server), _diag(server), _line(name, waiting))


def case_stream_states() -> None:
    _, client, accepted = pair()
    client.shutdown(socket.SHUT_WR)
    accepted.recv(1)
    settled(lambda: " 05 " in _line("tcp", client), True)  # first FIN_WAIT1
    for sock in (client, accepted):
        show(_line("tcp", sock), _diag(sock))
    _, client, accepted = pair()
    client.close()
    accepted.recv(1)
    show(_line("tcp", accepted), _diag(accepted))
    server = listener(backlog=3)
    show(_line("tcp", server), _diag(server))
    show(_diag(server, states=1 << 1), _diag(server, states=1 << 10) != [])


def case_dual_stack() -> None:
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::", 0))
        server.listen()
        client = socket.create_connection((V4, server.getsockname()[1]))
        accepted, _ = server.accept()
        for sock in (server, accepted):
            show(_line("tcp6", sock), _diag(sock), _line("tcp", sock))
        show(_line("tcp", client))


def case_datagram_tables() -> None:
    for family, address in ADDRESSES:
        name = "udp" if family == socket.AF_INET else "udp6"
        fresh = socket.socket(family, socket.SOCK_DGRAM)
        show("fresh", _line(name, fresh))
        bound, connected = udp(family), udp(family)
        connected.connect(bound.getsockname())
        for sock in (bound, connected):
            show(_line(name, sock), _diag(sock), _unix_too(sock))
        everywhere = socket.socket(family, socket.SOCK_DGRAM)
        everywhere.bind(("", 0))
        show(_line(name, everywhere), _diag(everywhere), address)
        everywhere.close()
        show(_line(name, bound) != "none")


def case_udplite_table() -> None:
    for family, address in ADDRESSES:
        name = "udplite" if family == socket.AF_INET else "udplite6"
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM, _UDPLITE)
        except OSError as exc:
            show(name_of(exc.errno))
            continue
        sock.bind((address, 0))
        show(_line(name, sock), _diag(sock), _line("udp", sock))


def case_requests_of_other_kinds() -> None:
    sock = udp()
    show(_diag(sock, protocol=132), _diag(sock, protocol=17, states=0))
    show(_diag(sock, family=3), _diag(sock, family=250))
    for kind, flags, body in (
        (21, 1, bytes(56)),
        (20, 1, b"\2\6"),
        (20, 1, b"\2"),
        (20, 1, b""),
        (19, 1, bytes(56)),
        (77, 1, bytes(56)),
        (20, 1, struct.pack("=BBBBI", 2, 6, 0, 0, 0xFFF) + bytes(48)),
    ):
        with _netlink() as kernel:
            head = struct.pack("=IHHII", 16 + len(body), kind, flags, 7, 0)
            show(kind, len(body), outcome(kernel.send, head + body))
            answer = kernel.recv(1 << 16)
            show(struct.unpack_from("=IHHI", answer)[1:3])
            show(name_of(-struct.unpack_from("=i", answer, 16)[0]))


def case_unix_sockets_are_asked_of_the_kernel() -> None:
    one, two = socket.socketpair()
    show(_unix_too(one), _unix_too(two))
    body = struct.pack("=BBHIIIQ", 1, 0, 0, 0xFFF, 0, 1, 2**64 - 1)
    with _netlink() as kernel:
        kernel.bind((0, 0))
        own = kernel.getsockname()[0]
        kernel.send(struct.pack("=IHHII", 16 + len(body), 20, 0x301, 7, 0) + body)
        found, ports, done = set(), set(), False
        while not done:
            data = kernel.recv(1 << 16)
            while data:
                size, kind, _, _, port = struct.unpack_from("=IHHII", data)
                if kind == _BY_FAMILY:
                    found.add(struct.unpack_from("=I", data, 20)[0])
                ports.add(port)
                done = done or kind == _DONE
                data = data[(size + 3) & ~3 :]
    show(_inode(one) in found, _inode(two) in found, ports == {own})
    one.close()
    two.close()


def case_settings() -> None:
    for name in (
        *("core/somaxconn", "core/rmem_max", "core/wmem_default"),
        *("ipv4/tcp_rmem", "ipv4/tcp_congestion_control", "ipv4/tcp_fin_timeout"),
        *("ipv6/conf/all/disable_ipv6", "ipv6/conf/lo/disable_ipv6"),
        *("ipv4/conf/lo/rp_filter", "ipv4/conf/nosuch/rp_filter", "nosuch", "."),
    ):
        try:
            with open(f"/proc/sys/net/{name}") as file:
                show(name, file.read().split(), outcome(file.write, "1"))
        except OSError as exc:
            show(name, name_of(exc.errno))
    for path in ("/proc/sys/net/ipv4", "/proc/sys/net/core"):
        show("tcp_rmem" in os.listdir(path), "somaxconn" in os.listdir(path))


def case_files_are_files() -> None:
    for path in ("/proc/net/tcp", "/sys/class/net/lo/mtu"):
        for flags in (os.O_DIRECTORY, os.O_NOFOLLOW, os.O_NONBLOCK):
            try:
                fd = os.open(path, os.O_RDONLY | flags)
            except OSError as exc:
                show(path, flags, name_of(exc.errno))
                continue
            show(path, flags, os.pread(fd, 4, 1), outcome(os.write, fd, b"x"))
            show(os.get_inheritable(fd), os.lseek(fd, 0, os.SEEK_CUR))
            os.close(fd)
    show(outcome(os.open, "/proc/net/nosuch", os.O_RDONLY))
    show(outcome(os.open, "/sys/class/net/nosuch/mtu", os.O_RDONLY))
    show(outcome(os.open, "/sys/class/net/lo/nosuch", os.O_RDONLY))


def case_card_lo_in_sysfs() -> None:
    for name in (
        *("address", "addr_len", "broadcast", "carrier", "dormant", "flags"),
        *("ifindex", "iflink", "mtu", "operstate", "tx_queue_len", "type", "uevent"),
        "statistics/collisions",
    ):
        with open(f"/sys/class/net/lo/{name}") as file:
            show(name, file.read())


def case_many_names_of_one_file() -> None:
    with open("/proc/net/route") as file:
        text = file.read()
    me = os.getpid()
    for path in (
        *("/proc/self/net/route", f"/proc/{me}/net/route", "/proc/net/../net/route"),
        *(f"/proc/{me}/task/{me}/net/route", "/proc/thread-self/net/route"),
        *("//proc//self/./net/route", "/proc/self/root/proc/net/route"),
        f"/proc/{me}/root/proc/self/root/proc/self/net/route",
    ):
        with open(path) as file:
            show(path.replace(str(me), "PID"), file.read() == text)
    folder = os.open("/proc/self/net", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("/proc/net")
    for name, dirfd in (("route", None), ("route", folder), ("../net/route", folder)):
        fd = os.open(name, os.O_RDONLY, dir_fd=dirfd)
        show(os.read(fd, 1 << 16).decode() == text)
    show(errno.ENOENT == 2, V6)
