#!/usr/bin/env python3
r"""Lead a port of one stack to a host of another: one process, two networks.

Usage: proxy.py INSIDE PORT OUTSIDE HOST HOSTPORT

INSIDE and OUTSIDE are stacks of the view. What connects to PORT of the one is connected
to HOST on the other; nothing else of either network sees the other one. As in

    umview -p umnet -p /dev/net/lab=umnetlwipv6,wire=lab,ip=10.0.0.1/24 \
        proxy.py /dev/net/lab 80 /dev/net/default example.org 80

where hosts on the wire find example.org at 10.0.0.1, and nothing but that.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial

import umview


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction, its end included."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _serve(
    outside: str,
    address: tuple[str, int],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Connect a client of the inner stack to the host on the outer one."""
    sock = umview.msocket(outside, socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
        to_reader, to_writer = await asyncio.open_connection(sock=sock)
        try:
            await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))
        finally:
            to_writer.close()
    except OSError as exc:
        sys.stderr.write(f"proxy: {address[0]}: {exc.strerror}\n")
    finally:
        sock.close()
        writer.close()


async def _run(inside: str, port: int, outside: str, host: str, to_port: int) -> None:
    # asked of the default stack, whose name server the view has
    address = socket.getaddrinfo(host, to_port, socket.AF_INET)[0][4]
    listener = umview.msocket(inside, socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    serve = partial(_serve, outside, (str(address[0]), to_port))
    async with await asyncio.start_server(serve, sock=listener) as server:
        sys.stdout.write(f"{inside} port {port} leads to {host} by {outside}\n")
        sys.stdout.flush()
        await server.serve_forever()


def main() -> None:
    """Run the proxy until it is ended."""
    try:
        inside, port, outside, host, to_port = sys.argv[1:]
    except ValueError:
        sys.exit(f"usage: {sys.argv[0]} INSIDE PORT OUTSIDE HOST HOSTPORT")
    asyncio.run(_run(inside, int(port), outside, host, int(to_port)))


if __name__ == "__main__":
    main()
