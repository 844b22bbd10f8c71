/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * recovery.h - segments that are lost on their way
 */
#ifndef UM_STACKD_RECOVERY_H
#define UM_STACKD_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

struct tcp_hdr;
struct tcp_pcb;
struct um_stackd;
struct um_tcp_options;

enum { UM_SACKED_MAX = 16 };

/* Bytes that the peer has, beyond a hole: from <= sequence number < to. */
struct um_sacked {
    uint32_t from, to;
};

/* Of a connection. */
struct um_recovery {
    struct um_stackd *d;
    struct tcp_pcb *pcb;
    struct um_recovery *next, **at; /* in d->under_way; at NULL: it is not */
    struct um_sacked sacked[UM_SACKED_MAX];
    int count;
    bool heard;      /* an acknowledgement is to be considered */
    bool on;         /* holes are being repaired ... */
    uint32_t point;  /* ... until this is acknowledged */
    uint32_t resent; /* those before this have been sent again */
    bool doubtful;   /* whether the first one, up to here, was lost */
    bool undo;       /* it was not */
    uint32_t first, first_ms;
    uint32_t cwnd, ssthresh;   /* before the repair */
    uint32_t overtaken;        /* by so many segments: taken for lost */
    uint32_t probes, moved_ms; /* how often, and since when, nothing came */
    bool timing;               /* timed_ms is when byte timed was sent */
    uint32_t timed, timed_ms;
    uint32_t rtt;      /* mean round trip in ms, times RTT_SHARE; 0: unknown */
    uint32_t shortest; /* the shortest one */
};

void um_recovery_begin(struct um_recovery *r, struct um_stackd *d,
                       struct tcp_pcb *pcb);
void um_recovery_end(struct um_recovery *r);
/* tcp_output() may have sent something. */
void um_recovery_sent(struct um_recovery *r);
/* A segment has come; lwIP has not looked at it yet. */
void um_recovery_heard(struct um_recovery *r, const struct tcp_hdr *header,
                       const struct um_tcp_options *options);
/* May tcp_write() be called? */
bool um_recovery_ready(const struct tcp_pcb *pcb);
/* The batch of events in hand is over. */
void um_recoveries_run(struct um_stackd *d);
void um_recoveries_close(struct um_stackd *d);

#endif
