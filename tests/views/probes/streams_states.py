"""Every call on a TCP socket in every state, by every road (matrix.py).

`plain` are the calls that a view does not stop.
"""

from __future__ import annotations

import matrix
from ends import STREAM, Road, over
from matrix import PLAIN, SENDS, STOPPED, ask

_HERE = ("local",)
_OUTWARD = ("local", "relay")
_RELAYED = ("relay", "relay-back")
# It counts what has no answer yet: a FIN, or the sequence numbers of a past life.
_QUEUE = "SIOCOUTQ"
# Here the next bind() or connect() finds a fresh surrogate.
_RENEWED = ("bind", "connect unspecified")


@over(_HERE)
def case_fresh(road: Road) -> None:
    ask(matrix.fresh, road, STOPPED)


@over(_HERE)
def case_fresh_plain(road: Road) -> None:
    ask(matrix.fresh, road, PLAIN)


@over(_HERE)
def case_bound(road: Road) -> None:
    ask(matrix.bound, road, STOPPED)


@over(_HERE)
def case_bound_plain(road: Road) -> None:
    ask(matrix.bound, road, PLAIN)


@over(_HERE)
def case_listening(road: Road) -> None:
    ask(matrix.listening, road, STOPPED, unmasked=("shutdown read", "shutdown"))


@over(_HERE)
def case_listening_plain(road: Road) -> None:
    ask(matrix.listening, road, PLAIN)


@over(_HERE)
def case_listening_with_a_caller(road: Road) -> None:
    ask(matrix.called, road, STOPPED, unmasked=("shutdown read", "shutdown"))


@over(_HERE)
def case_shut_listener(road: Road) -> None:
    ask(matrix.shut_listener, road, STOPPED, _QUEUE, unmasked=STOPPED)


@over(_HERE)
def case_shut_listener_plain(road: Road) -> None:
    ask(matrix.shut_listener, road, PLAIN)


@over(_OUTWARD)
def case_refused(road: Road) -> None:
    ask(matrix.refused, road, STOPPED, _QUEUE)


@over(_OUTWARD)
def case_refused_later(road: Road) -> None:
    ask(matrix.refused_later, road, STOPPED, _QUEUE, unmasked=_RENEWED)


@over(_OUTWARD)
def case_refused_later_plain(road: Road) -> None:
    ask(matrix.refused_later, road, PLAIN)


@over(_OUTWARD)
def case_refused_untold(road: Road) -> None:
    ask(matrix.refused_untold, road, STOPPED, _QUEUE, unmasked=_RENEWED)


@over(_OUTWARD)
def case_refused_untold_plain(road: Road) -> None:
    ask(matrix.refused_untold, road, PLAIN)


@over(_OUTWARD)
def case_connecting(road: Road) -> None:
    masks = ("connect unspecified", "shutdown write", "shutdown read", "shutdown")
    ask(matrix.connecting, road, STOPPED, "connect waiting", unmasked=masks)


@over(_OUTWARD)
def case_connecting_plain(road: Road) -> None:
    ask(matrix.connecting, road, PLAIN)


@over(STREAM)
def case_connected(road: Road) -> None:
    ask(matrix.connected, road, STOPPED)
    ask(matrix.connected, road, PLAIN)


@over(STREAM)
def case_with_data(road: Road) -> None:
    ask(matrix.with_data, road, STOPPED)
    ask(matrix.with_data, road, PLAIN)


@over(STREAM)
def case_peer_ended(road: Road) -> None:
    ask(matrix.peer_ended, road, STOPPED)
    ask(matrix.peer_ended, road, PLAIN)


@over(_HERE)
def case_peer_closed(road: Road) -> None:
    ask(matrix.peer_closed, road, STOPPED, "sendto", "sendmsg to", unmasked=STOPPED)


@over(_HERE)
def case_peer_closed_plain(road: Road) -> None:
    ask(matrix.peer_closed, road, PLAIN)


@over(_RELAYED)
def case_peer_closed_far_away(road: Road) -> None:
    ask(matrix.peer_closed, road, STOPPED, reset_by=SENDS)
    ask(matrix.peer_closed, road, PLAIN, "send more", reset_by=SENDS)


@over(_RELAYED)
def case_peer_closed_behind_data(road: Road) -> None:
    ask(matrix.peer_closed_behind_data, road, STOPPED, reset_by=SENDS)
    ask(matrix.peer_closed_behind_data, road, PLAIN, "send more", reset_by=SENDS)


@over(STREAM)
def case_reset(road: Road) -> None:
    ask(matrix.reset, road, STOPPED)


@over(STREAM)
def case_reset_plain(road: Road) -> None:
    ask(matrix.reset, road, PLAIN)


@over(STREAM)
def case_reset_told(road: Road) -> None:
    ask(matrix.reset_told, road, STOPPED)


@over(STREAM)
def case_reset_told_plain(road: Road) -> None:
    ask(matrix.reset_told, road, PLAIN)


@over(STREAM)
def case_reset_behind_data(road: Road) -> None:
    ask(matrix.reset_behind_data, road, STOPPED)


@over(STREAM)
def case_shut_read(road: Road) -> None:
    ask(matrix.shut_read, road, STOPPED)
    ask(matrix.shut_read, road, PLAIN)


@over(STREAM)
def case_shut_write(road: Road) -> None:
    ask(matrix.shut_write, road, STOPPED, _QUEUE)
    ask(matrix.shut_write, road, PLAIN)


@over(STREAM)
def case_shut(road: Road) -> None:
    ask(matrix.shut, road, STOPPED, _QUEUE)
    ask(matrix.shut, road, PLAIN)


@over(STREAM)
def case_both_ended(road: Road) -> None:
    ask(matrix.both_ended, road, STOPPED)
    ask(matrix.both_ended, road, PLAIN)


@over(STREAM)
def case_both_ended_last(road: Road) -> None:
    ask(matrix.both_ended_last, road, STOPPED)
    ask(matrix.both_ended_last, road, PLAIN)


@over(_OUTWARD)
def case_disconnected(road: Road) -> None:
    ask(matrix.disconnected, road, STOPPED, _QUEUE, unmasked=STOPPED)


@over(_HERE)
def case_disconnected_plain(road: Road) -> None:
    ask(matrix.disconnected, road, PLAIN)
