"""The default network of a view: umnetlwipv6 with nat0, which leads out by the host.

What goes beyond the card's network leaves by the relay road: by sockets of the host.
The gateway and the name server are no machines: the routes say what is found there.
"""

from __future__ import annotations

from collections.abc import Sequence

from umnetlwipv6.mount import Mount
from umnetlwipv6.plan import NAT
from umnetlwipv6.plan import parse as parse_plan


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umnet,OPTION...`` asks for.

    Raises:
        UmviewError: An option is unknown or its value has no sense.
    """
    return Mount("umnet", parse_plan([NAT, *options]))
