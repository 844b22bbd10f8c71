"""Serve many clients at once with asyncio, in one process with the clients.

Usage: crowd.py [CLIENTS [PORT]]
"""

from __future__ import annotations

import asyncio
import sys


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def _ask(port: int, number: int, everybody: asyncio.Barrier) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await everybody.wait()  # all are connected before the first one speaks
    line = b"client %d\n" % number
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer == line


async def _run(clients: int, port: int) -> int:
    everybody = asyncio.Barrier(clients)
    async with await asyncio.start_server(_echo, "127.0.0.1", port, backlog=clients):
        answers = await asyncio.gather(
            *(_ask(port, number, everybody) for number in range(clients))
        )
    return sum(answers)


def main() -> int:
    """Run the crowd and say how many were answered rightly."""
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
    answered = asyncio.run(_run(clients, port))
    sys.stdout.write(f"{answered} of {clients} clients answered, all at once\n")
    return 0 if answered == clients else 1


if __name__ == "__main__":
    sys.exit(main())
