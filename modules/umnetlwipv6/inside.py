"""What a card of a view inside another may be plugged into.

Plug-ins open their sockets by the host's network, which the enclosing view may not
have at all: so only what stays among unix sockets of this machine. (Programs of the
enclosing view can open those, too: a view is no wall between a user's unix sockets.)
"""

from __future__ import annotations

import re

from umview.errors import UmviewError

from .plan import CardPlan

_NEAR = frozenset(
    {"vde", "ptp", "switch", "hub", "multi", "bonding", "seqpacket", "vlan", "agno"}
)
_SCHEME = re.compile(r"([a-z0-9_]+)://")


def check(card: CardPlan) -> None:
    """Check that a card stays on this machine.

    Raises:
        UmviewError: It would not.
    """
    far = [one for one in _SCHEME.findall(card.vnl) if one not in _NEAR]
    if far:
        raise UmviewError(
            f"{card.name}: {far[0]}:// would lead out by the host, round the enclosing "
            "view; use nat0 (-p umnet), vde:// or a wire"
        )
