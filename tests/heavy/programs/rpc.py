"""Serve and call with gRPC: rpc.py serve PORT | rpc.py CHECK ADDRESS.

The messages are plain bytes, so that no compiled description of them is needed.
"""

# ruff: noqa: T201

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc  # type: ignore[import-untyped]

LIMIT = 30.0
CHANNELS = 100
OWN = (("grpc.use_local_subchannel_pool", 1),)


def echo(request: bytes, _: grpc.ServicerContext) -> bytes:
    """Send back what came."""
    return request


def count(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
    """Send as many messages as the request says."""
    for number in range(int(request)):
        yield b"%d" % number


def total(requests: Iterable[bytes], _: grpc.ServicerContext) -> bytes:
    """Send the length of all messages together."""
    return b"%d" % sum(map(len, requests))


def talk(requests: Iterable[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    """Answer each message as it comes."""
    for request in requests:
        yield request.upper()


def linger(_: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer after the caller's patience, or when the caller has gone."""
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait(LIMIT)
    print("caller gone", flush=True)
    return b""


def serve(port: str) -> None:
    """Serve until the request "stop"."""
    over = threading.Event()

    def stop(_: bytes, __: grpc.ServicerContext) -> bytes:
        over.set()
        return b"stopping"

    def unary(call: Callable[[bytes, grpc.ServicerContext], bytes]) -> object:
        return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "test",
                {
                    "echo": unary(echo),
                    "linger": unary(linger),
                    "stop": unary(stop),
                    "count": grpc.unary_stream_rpc_method_handler(count),
                    "total": grpc.stream_unary_rpc_method_handler(total),
                    "talk": grpc.stream_stream_rpc_method_handler(talk),
                },
            ),
        )
    )
    if server.add_insecure_port(f"[::]:{port}") != int(port):
        sys.exit("cannot bind")
    server.start()
    print("ready", flush=True)
    over.wait()
    server.stop(5).wait()
    print("stopped", flush=True)


def check_unary(address: str) -> None:
    """Call one after the other, with small and large messages."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/test/echo")
        for size in (0, 1, 1000, 100_000, 4_000_000):
            assert call(b"x" * size, timeout=LIMIT) == b"x" * size
        start = time.monotonic()
        for _ in range(500):
            call(b"hello", timeout=LIMIT)
        took = (time.monotonic() - start) / 500 * 1e6
    print(f"{took:.0f} us a call", file=sys.stderr)


def check_streams(address: str) -> None:
    """Stream down, up, and both ways."""
    with grpc.insecure_channel(address) as channel:
        down = channel.unary_stream("/test/count")(b"5000", timeout=LIMIT)
        assert [int(text) for text in down] == list(range(5000))
        up = channel.stream_unary("/test/total")
        assert up((b"x" * 10_000 for _ in range(2000)), timeout=LIMIT) == b"20000000"
        both = channel.stream_stream("/test/talk")
        asked = (b"word %d" % n for n in range(2000))
        for number, answer in enumerate(both(asked, timeout=LIMIT)):
            assert answer == b"WORD %d" % number


def check_channels(address: str) -> None:
    """Call over a hundred connections at once."""
    channels = [grpc.insecure_channel(address, OWN) for _ in range(CHANNELS)]
    calls = [
        channel.unary_unary("/test/echo").future(b"%d" % number, timeout=LIMIT)
        for _ in range(10)
        for number, channel in enumerate(channels)
    ]
    assert [int(call.result()) for call in calls] == list(range(CHANNELS)) * 10
    for channel in channels:
        channel.close()


def check_deadline(address: str) -> None:
    """Lose patience."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/test/linger").future(b"", timeout=0.3)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def check_cancel(address: str) -> None:
    """Go away in the middle of a call."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/test/linger").future(b"", timeout=LIMIT)
        time.sleep(0.2)
        assert call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        assert channel.unary_unary("/test/echo")(b"still", timeout=LIMIT) == b"still"


def check_stop(address: str) -> None:
    """Stop the server; then nobody is there, and the channel says so."""
    with grpc.insecure_channel(address) as channel:
        assert channel.unary_unary("/test/stop")(b"", timeout=LIMIT) == b"stopping"
        over = time.monotonic() + LIMIT
        code = None
        while code is not grpc.StatusCode.UNAVAILABLE:
            assert time.monotonic() < over, f"the server goes on: {code}"
            code = channel.unary_unary("/test/echo").future(b"", timeout=LIMIT).code()
            time.sleep(0.01)


def check_wait(address: str) -> None:
    """Wait for a server that comes later."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/test/echo").future(
            b"patience", timeout=LIMIT, wait_for_ready=True
        )
        print("waiting", flush=True)
        assert call.result() == b"patience"


def main() -> None:
    """Do what the command line says."""
    what, where = sys.argv[1:]
    if what == "serve":
        serve(where)
        return
    globals()[f"check_{what}"](where)
    print("done", flush=True)


if __name__ == "__main__":
    main()
