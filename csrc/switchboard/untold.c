/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * untold.c - answers that may never have reached their caller
 *
 * SEND may be taken and the answer still be lost (seccomp.c): a signal wakes
 * the thread while SEND runs, which holds the listener's lock; the thread is on
 * its way out, waits for the lock, and then restarts its call. Nothing tells
 * this from an answer that arrived: in both cases the thread was scheduled in
 * (observed on Linux 6.18: 1 bind of 15000 under a 5 kHz timer on a machine
 * with four times more to do than it can).
 *
 * So it is told when the call comes again, and would fail for having been made
 * before. The same thread making exactly the same call, as the next one on the
 * socket, is what a restart looks like, and what hardly any program does by
 * itself; and who catches no signals is never sent on after an answer that was
 * taken. Such a call is given its answer once more. The price: a program that
 * catches signals and binds twice, to see EINVAL, does not see it.
 *
 * Rejected: to look by /proc/TID/schedstat whether the thread ran during SEND
 * (two answers of three do, so it tells little), and what receives, for to
 * receive again into the same buffer is what every program does.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include "tracer.h"

/* How many arguments of the call count; 0: it is not one of those that change
 * what the same call is answered the next time. */
static size_t telling_args(const struct um_call *call)
{
    switch (call->nr) {
    case __NR_bind:
    case __NR_connect:
        return 3;
    case __NR_shutdown:
        return 2;
    case __NR_setsockopt:
    case __NR_getsockopt:
        return 5;
    default:
        return 0;
    }
}

void um_untold_note(const struct um_call *call, um_verdict verdict, bool taken)
{
    if (!call->sock || !telling_args(call) ||
        (verdict != 0 && verdict != -EINPROGRESS) ||
        (taken && !call->sb->tracer->loses_answers))
        return;
    struct um_untold *untold = &call->sock->untold;
    untold->tid = call->tid;
    untold->nr = call->nr;
    memcpy(untold->args, call->args, sizeof untold->args);
    untold->asked = call->asked;
    untold->verdict = verdict;
    untold->error = call->error;
    untold->sure = !taken;
}

bool um_untold(const struct um_call *call)
{
    struct um_untold *untold = &call->sock->untold;
    size_t len = telling_args(call) * sizeof untold->args[0];
    bool same = untold->tid == call->tid && untold->nr == call->nr &&
                untold->asked == call->asked &&
                memcmp(untold->args, call->args, len) == 0;
    untold->tid = 0;
    return same && (untold->sure || um_catches_signals(call->tid));
}

um_verdict um_untold_verdict(const struct um_call *call, um_verdict verdict)
{
    static const int errors[] = {EINVAL,     EISCONN,       EALREADY,
                                 EADDRINUSE, EADDRNOTAVAIL, ENOTCONN};
    if (!call->sock || !call->sock->untold.tid)
        return verdict;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (verdict == -errors[i] && um_untold(call))
            return call->sock->untold.verdict;
    return verdict;
}
