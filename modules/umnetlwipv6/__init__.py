"""A stack of a view's own: cards on virtual Ethernets (lwIP), and nat0.

What goes beyond the stack leaves through the card that its route names: by packets
that a stack server makes, or through nat0 by sockets of the host.
"""

from __future__ import annotations

from collections.abc import Sequence

from .mount import Mount
from .plan import parse as parse_plan


def parse(options: Sequence[str]) -> Mount:
    """Return the stack that ``-p umnetlwipv6,OPTION...`` asks for.

    Raises:
        UmviewError: An option is unknown or its value has no sense.
    """
    return Mount("umnetlwipv6", parse_plan(options))
