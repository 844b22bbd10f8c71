"""Every call on a TCP socket in every state, with the peer in the same stack.

`plain` are the calls that a view does not stop.
"""

from __future__ import annotations

import socket

import matrix
from kit import pair
from matrix import PLAIN, STOPPED, ask

# Here the next bind() or connect() finds a fresh surrogate.
_RENEWED = ("bind", "connect unspecified")
# It counts what has no answer yet: a FIN, or the sequence numbers of a past life.
_QUEUE = "SIOCOUTQ"


def case_fresh() -> None:
    ask(matrix.fresh, STOPPED)


def case_fresh_plain() -> None:
    ask(matrix.fresh, PLAIN)


def case_bound() -> None:
    ask(matrix.bound, STOPPED)


def case_bound_plain() -> None:
    ask(matrix.bound, PLAIN)


def case_listening() -> None:
    ask(matrix.listening, STOPPED, unmasked=("shutdown read", "shutdown"))


def case_listening_plain() -> None:
    ask(matrix.listening, PLAIN)


def case_listening_with_a_caller() -> None:
    ask(matrix.called, STOPPED, unmasked=("shutdown read", "shutdown"))


def case_shut_listener() -> None:
    ask(matrix.shut_listener, STOPPED, _QUEUE, unmasked=STOPPED)


def case_shut_listener_plain() -> None:
    ask(matrix.shut_listener, PLAIN)


def case_refused() -> None:
    ask(matrix.refused, STOPPED, _QUEUE)


def case_refused_later() -> None:
    ask(matrix.refused_later, STOPPED, _QUEUE, unmasked=_RENEWED)


def case_refused_later_plain() -> None:
    ask(matrix.refused_later, PLAIN)


def case_refused_untold() -> None:
    ask(matrix.refused_untold, STOPPED, _QUEUE, unmasked=_RENEWED)


def case_refused_untold_plain() -> None:
    ask(matrix.refused_untold, PLAIN)


def case_connecting() -> None:
    masks = ("connect unspecified", "shutdown write", "shutdown read", "shutdown")
    ask(matrix.connecting, STOPPED, "connect waiting", unmasked=masks)


def case_connecting_plain() -> None:
    ask(matrix.connecting, PLAIN)


def case_connected() -> None:
    ask(lambda: matrix.connected(pair), STOPPED)
    ask(lambda: matrix.connected(pair), PLAIN)


def case_accepted() -> None:
    ask(lambda: matrix.connected(pair, 2), STOPPED)
    ask(lambda: matrix.connected(pair, 2), PLAIN)


def case_with_data() -> None:
    ask(lambda: matrix.with_data(pair), STOPPED)
    ask(lambda: matrix.with_data(pair), PLAIN)


def case_peer_ended() -> None:
    ask(lambda: matrix.peer_ended(pair), STOPPED)
    ask(lambda: matrix.peer_ended(pair), PLAIN)


def case_peer_closed() -> None:
    ask(
        lambda: matrix.peer_closed(pair),
        STOPPED,
        "sendto",
        "sendmsg to",
        unmasked=STOPPED,
    )


def case_peer_closed_plain() -> None:
    ask(lambda: matrix.peer_closed(pair), PLAIN)


def case_peer_closed_behind_data() -> None:
    ask(
        lambda: matrix.peer_closed_behind_data(pair),
        STOPPED,
        "sendto",
        "sendmsg to",
        unmasked=STOPPED,
    )


def case_reset() -> None:
    ask(lambda: matrix.reset(pair), STOPPED)


def case_reset_plain() -> None:
    ask(lambda: matrix.reset(pair), PLAIN)


def case_reset_told() -> None:
    ask(lambda: matrix.reset_told(pair), STOPPED)


def case_reset_told_plain() -> None:
    ask(lambda: matrix.reset_told(pair), PLAIN)


def case_reset_behind_data() -> None:
    ask(lambda: matrix.reset_behind_data(pair), STOPPED)


def case_shut_read() -> None:
    ask(lambda: matrix.shut(socket.SHUT_RD)(pair, 1), STOPPED)
    ask(lambda: matrix.shut(socket.SHUT_RD)(pair, 1), PLAIN)


def case_shut_write() -> None:
    ask(lambda: matrix.shut(socket.SHUT_WR)(pair, 1), STOPPED, _QUEUE)
    ask(lambda: matrix.shut(socket.SHUT_WR)(pair, 1), PLAIN)


def case_shut() -> None:
    ask(lambda: matrix.shut(socket.SHUT_RDWR)(pair, 1), STOPPED, _QUEUE)
    ask(lambda: matrix.shut(socket.SHUT_RDWR)(pair, 1), PLAIN)


def case_both_ended() -> None:
    ask(lambda: matrix.both_ended(pair), STOPPED)
    ask(lambda: matrix.both_ended(pair), PLAIN)


def case_both_ended_last() -> None:
    ask(lambda: matrix.both_ended_last(pair), STOPPED)
    ask(lambda: matrix.both_ended_last(pair), PLAIN)


def case_disconnected() -> None:
    ask(lambda: matrix.disconnected(pair), STOPPED, _QUEUE, unmasked=STOPPED)


def case_disconnected_plain() -> None:
    ask(lambda: matrix.disconnected(pair), PLAIN)
