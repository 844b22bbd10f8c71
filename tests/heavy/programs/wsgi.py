"""A WSGI application whose answer names the process that gave it."""

import os
from collections.abc import Callable


def application(
    environ: dict[str, object],
    start_response: Callable[[str, list[tuple[str, str]]], object],
) -> list[bytes]:
    """Answer a request."""
    body = b"hello from %08d\n" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
