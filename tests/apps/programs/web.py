"""Serve HTTP/1.1 over asyncio, or be many clients of it at the same time.

web.py serve PORT | web.py load HOST PORT CLIENTS
"""

# ruff: noqa: T201

import asyncio
import sys

BODY = b"hello from asyncio\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(BODY))
    writer.write(b"Connection: close\r\n\r\n" + BODY)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def serve(port: int) -> None:
    """Serve both families for ever."""
    server = await asyncio.start_server(answer, None, port, backlog=2048)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


async def ask(host: str, port: int, together: asyncio.Barrier) -> bool:
    """Connect, wait until all are connected, then ask."""
    reader, writer = await asyncio.open_connection(host, port)
    await together.wait()
    writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    return reply.endswith(BODY)


async def load(host: str, port: int, clients: int) -> None:
    """Run that many clients at the same time and print how many were served."""
    together = asyncio.Barrier(clients)
    async with asyncio.timeout(60):
        served = await asyncio.gather(
            *(ask(host, port, together) for _ in range(clients))
        )
    print(f"served {sum(served)}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        asyncio.run(load(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
