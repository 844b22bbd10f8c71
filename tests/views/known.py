"""Where a view is known to differ from Linux, and why (docs/compatibility.md).

A case that is named here must differ: when it no longer does, its entry has to go.
"""

from __future__ import annotations

from tests.setting import Tracer

_UNCONNECTED = (
    "what is never stopped is a unix socket's: without a connection it says ENOTCONN "
    "to send() and EINVAL to recv(), where TCP says EPIPE and ENOTCONN"
)
_FIRST_SEND = (
    "what is never stopped is a unix socket's: of a connection that is over, send() "
    "says EPIPE before the error, and recv() says ECONNRESET whatever the error is"
)
_LOCAL = ("local", "local-back")
_RELAY = ("relay", "relay-back")
_ROADS: dict[str, tuple[tuple[str, ...], str]] = {
    "mask_after_far_closed": (
        _LOCAL,
        "the peer of a local connection is a unix socket: its close() shows HUP",
    ),
    "send_after_far_closed": (
        _LOCAL + _RELAY,
        "locally the peer's close() forbids to send at once; by relay the reset that "
        "answers what was sent comes later",
    ),
    "waiting_sender_and_a_reset": (
        _LOCAL + _RELAY,
        "a sender that waits gets EPIPE of a reset, where TCP says ECONNRESET",
    ),
    "reset_after_a_half_close": (
        _RELAY,
        "the pump resets a program by a byte of its own, which it cannot send any more",
    ),
    "nobody_hears": (_LOCAL, "SHUT_RD of a unix socket forbids its peer to send"),
    "linger_and_go_on": (
        _LOCAL,
        "SO_LINGER with no time resets a local connection if close() comes next",
    ),
    "near_is_killed": (_LOCAL, "as mask_after_far_closed"),
}
# Those of streams_states.
_STATES: dict[str, tuple[tuple[str, ...], str]] = {
    "fresh_plain": (("local",), _UNCONNECTED),
    "bound_plain": (("local",), _UNCONNECTED),
    "listening_plain": (("local",), _UNCONNECTED),
    "shut_listener_plain": (("local",), _UNCONNECTED),
    "disconnected_plain": (("local",), _UNCONNECTED),
    "refused_untold_plain": (("local", "relay"), _FIRST_SEND),
    "reset_plain": (_LOCAL + _RELAY, _FIRST_SEND),
    "reset_told": (
        _LOCAL,
        "once recv() has told of a reset, a joined connection looks like one whose "
        "peer has closed: its peer's name and shutdown() are still there",
    ),
    "connecting_plain": (
        ("local", "relay"),
        "to send nothing is done at once by a unix socket, whatever its state",
    ),
    "peer_closed_plain": (
        ("local",),
        "as roads.mask_after_far_closed: HUP at once, and no more sends",
    ),
}

KNOWN: dict[tuple[str, str], str] = {
    ("streams", "masks_after_the_peer_closed"): (
        "the peer of a local connection is a unix socket: its close() shows HUP and "
        "forbids to send at once, where TCP waits for an answer to what is sent"
    ),
    ("streams", "masks_after_shut_rdwr"): (
        "as after close(): unix sockets know no half of SHUT_RDWR"
    ),
    ("streams", "disconnect"): (
        "connect(AF_UNSPEC) gives the socket a fresh surrogate, which cannot show ERR"
    ),
    ("streams", "shutdown_of_a_listener"): (
        "a listening unix socket that was shut down shows IN, where TCP shows OUT"
    ),
    ("streams", "connect_to_itself"): "a socket cannot be joined with itself: refused",
    ("ports", "restart_with_reuseaddr"): (
        "accepted connections hold no port: a server can always be restarted"
    ),
    ("datagrams", "send_without_a_peer"): (
        "send() on a datagram surrogate is not stopped; what has no address is dropped"
    ),
    ("datagrams", "refused"): (
        "an ICMP error wakes poll() as IN, and send() does not report it; recvfrom(), "
        "recvmsg() and SO_ERROR do"
    ),
    ("datagrams", "connected_sizes"): (
        "send() is not stopped: a datagram over 65507 bytes is dropped, not refused"
    ),
    ("differences", "dup_of_a_refused_socket"): (
        "a connect that was refused uses its surrogate up, and dup()s do not follow"
    ),
    ("differences", "fast_open_by_sendmmsg"): "sendmmsg() cannot connect",
    ("differences", "much_data_with_an_address"): (
        "a stopped send takes 128 KiB at once"
    ),
    ("differences", "more_of_a_datagram_by_send"): "send() is not stopped",
    ("differences", "many_datagrams_for_one_call"): (
        "the datagrams of one call lie in a buffer of 64 KiB and some"
    ),
    ("differences", "datagrams_after_shut_rd"): (
        "a surrogate that reads no more takes no more, and says so with 0 bytes"
    ),
    ("differences", "files_by_stat"): "stat(2) is not stopped",
    ("differences", "files_opened_like_a_web_servers"): (
        "opens with O_NONBLOCK of a path in the heap are not stopped"
    ),
    ("differences", "all_bytes_and_an_address"): (
        "a stopped receive of a stream gives what there is"
    ),
    ("differences", "listener_of_a_seccomp_filter"): (
        "the kernel lets a process have one seccomp listener, and the view has it"
    ),
    ("options", "receive_low_water"): (
        "poll() of a unix socket does not look at SO_RCVLOWAT; recv() does"
    ),
    ("options", "deferred_accept"): (
        "TCP_DEFER_ACCEPT is kept, but a connection is offered at once"
    ),
    ("options", "cork"): "TCP_CORK does not hold data back on a joined connection",
    ("option_table", "tcp_refused"): (
        "SO_ZEROCOPY and TCP_INQ tell of what a surrogate does not: ENOPROTOOPT"
    ),
    ("option_table", "udp_refused"): ("SO_ZEROCOPY and UDP_ENCAP: ENOPROTOOPT"),
}
KNOWN |= {
    (probe, f"{case}-{road}"): reason
    for probe, cases in (("roads", _ROADS), ("streams_states", _STATES))
    for case, (roads, reason) in cases.items()
    for road in roads
}
# Those of one tracer.
ONLY: dict[Tracer, dict[tuple[str, str], str]] = {
    "seccomp": {
        ("differences", "bind_twice_where_signals_are_caught"): (
            "a signal may have made the first answer be lost: the call is taken for "
            "the same one, once"
        ),
        ("differences", "signal_during_a_call_that_does_not_wait"): (
            "a stopped call waits for its answer, and a signal may come meanwhile"
        ),
    },
    "ptrace": {
        ("jobs", "how_a_stopped_process_looks"): (
            "who looks into /proc sees the tracer, and the stop as one of its making"
        ),
        ("processes", "clone3_untraced"): (
            "with CLONE_UNTRACED the kernel keeps the tracer out; the calls of such a "
            "process that would be stopped give ENOSYS"
        ),
    },
}
