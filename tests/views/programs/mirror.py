"""A server on the host's loopback: tells each sender what it saw of its datagram."""

from __future__ import annotations

import socket
import sys
import threading

IP_RECVTTL, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = 12, 51, 52


def serve(sock: socket.socket) -> None:
    """Answer each datagram with its length, TTL and TOS; with TOS 8 and TTL 33."""
    while True:
        data, control, _, name = sock.recvmsg(70000, 256)
        seen = {kind: value[0] for _, kind, value in control}
        ttl, tos = seen.get(2, seen.get(52)), seen.get(1, seen.get(67))
        sock.sendto(f"{len(data)} ttl {ttl} tos {tos}".encode(), name)


def main() -> None:
    """Listen at both families' loopback and print the ports."""
    ports = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET:
            options = [(0, IP_RECVTTL, 1), (0, socket.IP_RECVTOS, 1)]
            options += [(0, socket.IP_TTL, 33), (0, socket.IP_TOS, 8)]
        else:
            options = [(41, IPV6_RECVHOPLIMIT, 1), (41, socket.IPV6_RECVTCLASS, 1)]
            options += [
                (41, socket.IPV6_UNICAST_HOPS, 33),
                (41, socket.IPV6_TCLASS, 8),
            ]
        for option in options:
            sock.setsockopt(*option)
        sock.bind((address, 0))
        ports.append(sock.getsockname()[1])
        threading.Thread(target=serve, args=(sock,), daemon=True).start()
    sys.stdout.write(" ".join(map(str, ports)) + "\n")
    sys.stdout.flush()
    threading.Event().wait()


main()
