/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * recovery.c - segments that are lost on their way
 *
 * lwIP repairs one hole at a time, if three acknowledgements without data tell of
 * it, and waits 0.3 s for its timer in all other cases: of 1 MiB through a link
 * that loses every twentieth frame, each way, it took 11 s, Linux 0.1 s. So we
 * - read which segments the peer has beyond a hole (SACK, RFC 2018), and send
 *   again what three segments have overtaken, RFC 6675 in small;
 * - send the first hole again when nothing has come for two round trips, before
 *   the timer ends: for the last segments of a burst, which none follows, and for
 *   what is lost twice (in the spirit of RFC 8985).
 * What arrives sooner after it was sent again than a round trip takes had not been
 * lost: the link changes the order of frames, so the repair is undone, and the next
 * takes more to be begun.
 *
 * What is sent again moves from lwIP's list of what is unacknowledged to that of
 * what is unsent, as lwIP itself does it. This is done when the batch of frames
 * in hand is over, never within lwIP, so that tcp_output() sends it at once:
 * tcp_write() would take the last unsent segment for the stream's end, and add
 * to it.
 */
#include "recovery.h"

#include <string.h>

#include "lwip/priv/tcp_priv.h"
#include "lwip/sys.h"
#include "lwip/timeouts.h"
#include "port/hooks.h"
#include "stackd.h"

enum {
    TICK_MS = 10,
    PATIENCE_MS = 20,   /* beside two round trips: for a busy machine ... */
    DELAYED_MS = 60,    /* ... and for an acknowledgement that waits for more */
    PROBES_MAX = 4,     /* then it is the timer's turn */
    AT_ONCE = 2,        /* segments sent again for one that has arrived */
    OVERTAKEN = 3,      /* segments, on a link that keeps their order ... */
    OVERTAKEN_MAX = 48, /* ... and on one that does not */
    RTT_SHARE = 8       /* the round trip is a mean over so many */
};

enum { OPTION_END, OPTION_NOP, OPTION_SACK = 5 };

static bool before(uint32_t a, uint32_t b)
{
    return TCP_SEQ_LT(a, b);
}

static uint32_t start_of(const struct tcp_seg *seg)
{
    return lwip_ntohl(seg->tcphdr->seqno);
}

static uint32_t end_of(const struct tcp_seg *seg)
{
    return start_of(seg) + TCP_TCPLEN(seg);
}

/* ---- the list of connections with data under way ---- */

static void unlist(struct um_recovery *r)
{
    if (!r->at)
        return;
    *r->at = r->next;
    if (r->next)
        r->next->at = r->at;
    r->at = NULL;
}

static void tick(void *arg);

static void list(struct um_recovery *r)
{
    struct um_stackd *d = r->d;
    if (r->at)
        return;
    r->moved_ms = sys_now();
    r->probes = 0;
    r->next = d->under_way;
    if (r->next)
        r->next->at = &r->next;
    r->at = &d->under_way;
    d->under_way = r;
    if (!d->ticking)
        sys_timeout(TICK_MS, tick, d);
    d->ticking = true;
}

void um_recovery_begin(struct um_recovery *r, struct um_stackd *d,
                       struct tcp_pcb *pcb)
{
    r->d = d;
    r->pcb = pcb;
    r->overtaken = OVERTAKEN;
}

void um_recovery_end(struct um_recovery *r)
{
    unlist(r);
    r->pcb = NULL;
}

void um_recovery_sent(struct um_recovery *r)
{
    if (!r->pcb->unacked)
        return;
    list(r);
    if (!r->timing) {
        r->timing = true;
        r->timed = r->pcb->snd_nxt;
        r->timed_ms = sys_now();
    }
}

bool um_recovery_ready(const struct tcp_pcb *pcb)
{
    const struct tcp_seg *last = pcb->unsent;
    while (last && last->next)
        last = last->next;
    return !last || end_of(last) == pcb->snd_lbb;
}

/* ---- what the peer has ---- */

static void forget(struct um_recovery *r, int i)
{
    r->count--;
    memmove(&r->sacked[i], &r->sacked[i + 1],
            (size_t)(r->count - i) * sizeof r->sacked[0]);
}

/* Ranges are in order and do not touch. */
static void add(struct um_recovery *r, uint32_t from, uint32_t to)
{
    int i = 0;
    while (i < r->count && before(r->sacked[i].to, from))
        i++;
    while (i < r->count && !before(to, r->sacked[i].from)) {
        if (before(r->sacked[i].from, from))
            from = r->sacked[i].from;
        if (before(to, r->sacked[i].to))
            to = r->sacked[i].to;
        forget(r, i);
    }
    if (r->count == UM_SACKED_MAX) {
        if (i == r->count)
            return; /* it is told again */
        r->count--;
    }
    memmove(&r->sacked[i + 1], &r->sacked[i],
            (size_t)(r->count - i) * sizeof r->sacked[0]);
    r->sacked[i] = (struct um_sacked){from, to};
    r->count++;
}

static void prune(struct um_recovery *r, uint32_t ack)
{
    while (r->count && !before(ack, r->sacked[0].to))
        forget(r, 0);
    if (r->count && before(r->sacked[0].from, ack))
        r->sacked[0].from = ack;
}

/* Is any of it among what the peer has? It has segments as we sent them, or some
 * of their bytes if they were sent again in other pieces. */
static bool is_sacked(const struct um_recovery *r, uint32_t from, uint32_t to)
{
    for (int i = 0; i < r->count; i++)
        if (!before(from, r->sacked[i].from) && !before(r->sacked[i].to, to))
            return true;
    return false;
}

static uint32_t sacked_beyond(const struct um_recovery *r, uint32_t seq)
{
    uint32_t sum = 0;
    for (int i = 0; i < r->count; i++)
        if (!before(r->sacked[i].from, seq))
            sum += r->sacked[i].to - r->sacked[i].from;
    return sum;
}

static uint8_t byte_at(const struct um_tcp_options *o, int i)
{
    return i < o->first_len ? o->first[i] : o->rest[i - o->first_len];
}

static uint32_t word_at(const struct um_tcp_options *o, int i)
{
    return (uint32_t)byte_at(o, i) << 24 | (uint32_t)byte_at(o, i + 1) << 16 |
           (uint32_t)byte_at(o, i + 2) << 8 | byte_at(o, i + 3);
}

static void read_sacks(struct um_recovery *r, const struct um_tcp_options *o,
                       uint32_t ack)
{
    enum { HEAD = 2, BLOCK = 8 };
    for (int at = 0; at < o->len;) {
        uint8_t kind = byte_at(o, at);
        if (kind == OPTION_END)
            return;
        if (kind == OPTION_NOP) {
            at++;
            continue;
        }
        int len = at + 1 < o->len ? byte_at(o, at + 1) : 0;
        if (len < HEAD || at + len > o->len)
            return;
        for (int b = at + HEAD; kind == OPTION_SACK && b + BLOCK <= at + len;
             b += BLOCK) {
            uint32_t from = word_at(o, b), to = word_at(o, b + 4);
            if (before(from, to) && !before(from, ack) &&
                !before(r->pcb->snd_nxt, to))
                add(r, from, to);
        }
        at += len;
    }
}

static void measure(struct um_recovery *r, uint32_t ack)
{
    if (!r->timing || before(ack, r->timed))
        return;
    uint32_t took = sys_now() - r->timed_ms;
    r->timing = false;
    if (r->pcb->nrtx) /* by lwIP's timer: nobody can tell which one it is for */
        return;
    if (!r->rtt || took < r->shortest)
        r->shortest = took;
    r->rtt = r->rtt ? r->rtt - r->rtt / RTT_SHARE + took : took * RTT_SHARE;
}

void um_recovery_heard(struct um_recovery *r, const struct tcp_hdr *header,
                       const struct um_tcp_options *options)
{
    struct tcp_pcb *pcb = r->pcb;
    uint32_t ack = header->ackno;
    if (pcb->state < ESTABLISHED || !(TCPH_FLAGS(header) & TCP_ACK) ||
        before(ack, pcb->lastack) || before(pcb->snd_nxt, ack))
        return;
    if (before(pcb->lastack, ack)) {
        r->moved_ms = sys_now();
        r->probes = 0;
        measure(r, ack);
    }
    if (r->doubtful && !before(ack, r->first)) {
        r->doubtful = false;
        r->undo = 2 * (sys_now() - r->first_ms) < r->shortest;
    }
    if (pcb->unsent) /* a window may open */
        list(r);
    read_sacks(r, options, ack);
    prune(r, ack);
    r->heard = true;
}

/* ---- what is sent again ---- */

static void widen(struct um_recovery *r)
{
    struct tcp_pcb *pcb = r->pcb;
    /* What the peer has is not under way any more. */
    uint32_t most = pcb->ssthresh + sacked_beyond(r, pcb->lastack);
    pcb->cwnd = (tcpwnd_size_t)(most < TCP_WND ? most : TCP_WND);
    tcp_set_flags(pcb, TF_INFR); /* lwIP's own repair holds still */
}

static void begin(struct um_recovery *r, uint32_t resent)
{
    struct tcp_pcb *pcb = r->pcb;
    uint32_t half = LWIP_MIN(pcb->cwnd, pcb->snd_wnd) / 2;
    uint32_t least = 2U * pcb->mss;
    r->cwnd = pcb->cwnd;
    r->ssthresh = pcb->ssthresh;
    if (!(pcb->flags & TF_INFR))
        pcb->ssthresh = (tcpwnd_size_t)(half > least ? half : least);
    r->on = true;
    r->doubtful = true;
    r->first = resent;
    r->first_ms = sys_now();
    r->point = pcb->snd_nxt;
    r->resent = resent;
    widen(r);
}

/* Move a segment to where tcp_output() finds it. Return: false if it cannot be
 * sent now. */
static bool send_again(struct um_recovery *r, struct tcp_seg **at)
{
    struct tcp_pcb *pcb = r->pcb;
    struct tcp_seg *seg = *at;
    uint32_t window = LWIP_MIN(pcb->cwnd, pcb->snd_wnd);
    if (seg->p->ref != 1 || end_of(seg) - pcb->lastack > window)
        return false;
    *at = seg->next;
    struct tcp_seg **to = &pcb->unsent;
    while (*to && before(start_of(*to), start_of(seg)))
        to = &(*to)->next;
    seg->next = *to;
    *to = seg;
    pcb->rttest = 0; /* whose acknowledgement comes, nobody can tell */
    r->timing = false;
    return true;
}

/* Have enough others arrived that were sent after it? */
static bool is_overtaken(const struct um_recovery *r, uint32_t end)
{
    const struct tcp_pcb *pcb = r->pcb;
    uint32_t others = pcb->snd_nxt - end;
    uint32_t enough = (r->overtaken - 1U) * pcb->mss;
    uint32_t have = sacked_beyond(r, end);
    /* The last ones have fewer behind them (RFC 5827). */
    return have > enough ||
           (have && have >= others && r->overtaken == OVERTAKEN &&
            others <= OVERTAKEN * (uint32_t)pcb->mss);
}

static bool is_lost(const struct um_recovery *r, const struct tcp_seg *seg)
{
    uint32_t seq = start_of(seg);
    if (is_sacked(r, seq, end_of(seg)) || (r->on && before(seq, r->resent)))
        return false;
    /* In a repair, what the acknowledgement stops at is the next hole. */
    bool next = r->on && seq == r->pcb->lastack && before(seq, r->point);
    return next || is_overtaken(r, end_of(seg));
}

static void repair(struct um_recovery *r)
{
    struct tcp_pcb *pcb = r->pcb;
    int sent = 0;
    struct tcp_seg **at = &pcb->unacked;
    while (*at && sent < AT_ONCE) {
        struct tcp_seg *seg = *at;
        uint32_t end = end_of(seg);
        if (!is_lost(r, seg)) {
            at = &seg->next;
            continue;
        }
        if (!r->on)
            begin(r, pcb->lastack);
        if (!send_again(r, at))
            break;
        if (r->first == pcb->lastack)
            r->first = end;
        r->resent = end;
        sent++;
    }
    if (sent) {
        pcb->rtime = 0;
        r->moved_ms = sys_now();
        tcp_output(pcb);
    }
}

static void consider(struct um_recovery *r)
{
    struct tcp_pcb *pcb = r->pcb;
    r->heard = false;
    if (!pcb->unacked ||
        pcb->flags & TF_RTO) { /* all is sent again, or there */
        r->on = false;
        r->count = 0;
        r->overtaken = OVERTAKEN;
        return;
    }
    if (r->on && r->undo) {
        r->on = false;
        pcb->ssthresh = (tcpwnd_size_t)r->ssthresh;
        pcb->cwnd = (tcpwnd_size_t)r->cwnd;
        tcp_clear_flags(pcb, TF_INFR);
        if (r->overtaken < OVERTAKEN_MAX)
            r->overtaken *= 2;
    }
    r->undo = false;
    if (r->on && !before(pcb->lastack, r->point)) {
        r->on = false;
        pcb->cwnd = pcb->ssthresh;
        tcp_clear_flags(pcb, TF_INFR);
    }
    if (!r->on && pcb->flags & TF_INFR) /* lwIP has sent the first one */
        begin(r, end_of(pcb->unacked));
    else if (r->on)
        widen(r);
    if (r->on || r->count)
        repair(r);
}

void um_recoveries_run(struct um_stackd *d)
{
    struct um_recovery *next;
    for (struct um_recovery *r = d->under_way; r; r = next) {
        next = r->next;
        if (r->heard)
            consider(r);
    }
}

/* Nothing has come for long. */
static void probe(struct um_recovery *r)
{
    struct tcp_pcb *pcb = r->pcb;
    uint32_t limit = 2 * (r->rtt / RTT_SHARE) + PATIENCE_MS;
    if (!pcb->unacked->next)
        limit += DELAYED_MS;
    if (r->probes >= PROBES_MAX || sys_now() - r->moved_ms < limit << r->probes)
        return;
    struct tcp_seg **at = &pcb->unacked;
    while (*at && is_sacked(r, start_of(*at), end_of(*at)))
        at = &(*at)->next;
    uint32_t end = *at ? end_of(*at) : 0;
    if (!*at || !send_again(r, at))
        return;
    if (r->on && before(r->resent, end))
        r->resent = end;
    r->probes++;
    pcb->rtime = 0;
    tcp_output(pcb);
}

static void tick(void *arg)
{
    struct um_stackd *d = arg;
    struct um_recovery *next;
    for (struct um_recovery *r = d->under_way; r; r = next) {
        next = r->next;
        if (r->pcb->unacked)
            probe(r);
        else
            unlist(r);
    }
    d->ticking = d->under_way != NULL;
    if (d->ticking)
        sys_timeout(TICK_MS, tick, d);
}

void um_recoveries_close(struct um_stackd *d)
{
    if (d->ticking)
        sys_untimeout(tick, d);
    d->ticking = false;
}
