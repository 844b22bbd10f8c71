/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * flow.c - streams: between our end of a surrogate and a connection of lwIP
 *
 * Up (program to peer). What the program writes is read into a ring and given
 * to lwIP without a copy (1.6 times as fast), so a byte's place in the ring is
 * free again when the peer has acknowledged it, not before. The ring has the
 * size of lwIP's send buffer; tcp_sndbuf() truncates that to 16 bits, so the
 * ring's own arithmetic decides. While nothing is under way the ring starts
 * over at its beginning: an idle connection keeps a page or two, not all of it.
 *
 * Down (peer to program). What lwIP delivers is written at once; what the
 * surrogate has no room for is held, and acknowledged to lwIP as read (which
 * opens the window) when it is written. A chain of pbufs counts its bytes in 16
 * bits, so what is held is a list of chains, never one long chain.
 *
 * Ends. As on the relay road (pump.c): the peer's FIN becomes SHUT_WR on our
 * end, never close(), which the program would see as a hang-up. The program's
 * SHUT_WR becomes a FIN. Its close() hangs up: FIN if it had read all, else the
 * kernel tells ECONNRESET and we reset. Data that comes after a close() is
 * answered by a reset. A reset by the peer cannot be shown by us: for that the
 * program's own descriptor is needed, so our end goes back to the switchboard.
 *
 * lwIP forgets a connection without a word when it goes from TIME_WAIT, and
 * with err() otherwise; so we let go of it as soon as both sides have ended. Who
 * has not read all by then goes on without it (pcb NULL, see forgotten()).
 *
 * An urgent byte (MSG_OOB) shows EPOLLPRI, and lwIP knows nothing of its kind. It
 * takes its place in the stream; hooks write the pointer to it into the headers
 * of segments, and find it there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lwip/priv/tcp_priv.h"
#include "lwip/sys.h"
#include "lwip/tcp.h"
#include "recovery.h"
#include "stackd.h"

enum {
    RING = 1 << 22, /* at most; a window if that is smaller */
    WRITE_MAX = 0xffff,
    SEGMENTS_MIN = 2, /* of a connection, however many there are */
    READS_AT_ONCE = 16,
    FIN_WAIT_MS = 60000, /* tcp_fin_timeout of tcp(7) */
    MTU_MIN = 576,       /* what every host takes (RFC 791) */
    RTO_FIRST = 10,      /* ticks of 100 ms */
    FLOW = 0 /* which of a connection's further arguments names its flow */
};

struct held {
    struct held *next;
    struct pbuf *p;
    size_t at; /* bytes of it that are written */
};

struct um_flow {
    struct um_watch watch; /* our end of the surrogate; fd -1: not started */
    struct um_stackd *d;
    struct um_flow *next;
    uint64_t id;
    struct tcp_pcb *pcb;
    uint8_t *ring;
    size_t room;
    uint64_t start; /* place 0 of the ring is this byte of the stream */
    uint64_t got, written, acked; /* from the program; to lwIP; by the peer */
    struct held *held, **held_end;
    uint64_t came, given; /* from the peer; to the program */
    uint64_t mark_up;     /* the end of the latest urgent byte upwards, ... */
    uint32_t mark_sequence;
    uint64_t mark_down;           /* ... and the place of one downwards */
    struct um_flow *next_waiting; /* in d->waiting */
    bool waits;                   /* is in that list */
    bool busy;                    /* it has data under way */
    bool gone;                    /* its memory goes at the end of the batch */
    bool stands;                  /* the connection does */
    bool accepted;                /* by a listener; not started yet */
    bool ended;                   /* the program's last word is read ... */
    bool fin;                     /* ... and given to lwIP */
    bool peer_ended;              /* the peer's last word has come ... */
    bool told_end;                /* ... and is given to the program */
    bool urgent;                  /* an urgent byte waits in the surrogate */
    bool marked_up, marked_down;  /* there is such a byte under way */
    bool hung_up;                 /* the program has closed its end */
    bool unheard; /* ... or its reading side: what comes is dropped */
    struct um_recovery recovery;
    struct um_packet_options options;
    uint32_t progress_ms; /* when the peer acknowledged something last */
};

static int error_of(err_t rc)
{
    switch (rc) {
    case ERR_OK:
    case ERR_CLSD:
        return 0;
    case ERR_MEM:
    case ERR_BUF:
        return ENOBUFS;
    case ERR_TIMEOUT:
    case ERR_ABRT:
        return ETIMEDOUT;
    case ERR_RTE:
        return ENETUNREACH;
    case ERR_USE:
        return EADDRINUSE;
    case ERR_RST:
        return ECONNRESET;
    default:
        return EINVAL;
    }
}

static struct um_flow **place_of(struct um_stackd *d, uint64_t id)
{
    struct um_flow **place = &d->flows[id % UM_FLOW_BUCKETS];
    while (*place && (*place)->id != id)
        place = &(*place)->next;
    return place;
}

static struct um_flow *create(struct um_stackd *d, uint64_t id,
                              struct tcp_pcb *pcb)
{
    struct um_flow *flow = calloc(1, sizeof *flow);
    if (!flow)
        return NULL;
    flow->d = d;
    flow->id = id;
    flow->pcb = pcb;
    um_recovery_begin(&flow->recovery, d, pcb);
    flow->watch.fd = -1;
    flow->held_end = &flow->held;
    flow->room = TCP_SND_BUF < RING ? TCP_SND_BUF : RING;
    struct um_flow **place = place_of(d, id);
    flow->next = *place;
    *place = flow;
    return flow;
}

static void drop_first(struct um_flow *flow)
{
    struct held *held = flow->held;
    flow->held = held->next;
    if (!flow->held)
        flow->held_end = &flow->held;
    pbuf_free(held->p);
    free(held);
}

/* lwIP has nothing more to do for it, after TIME_WAIT at the latest. */
static void forgotten(u8_t which, void *data)
{
    (void)which;
    struct um_flow *flow = data;
    if (!flow)
        return;
    flow->pcb = NULL;
    um_recovery_end(&flow->recovery);
}

/* lwIP goes on alone, or is done. */
static void let_go(struct um_flow *flow)
{
    struct tcp_pcb *pcb = flow->pcb;
    flow->pcb = NULL;
    um_recovery_end(&flow->recovery);
    if (!pcb)
        return;
    tcp_ext_arg_set(pcb, FLOW, NULL);
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_poll(pcb, NULL, 0);
    tcp_err(pcb, NULL);
}

/* What all connections have under way together is bounded by a window. A switch
 * keeps about 90 frames for a port and drops the rest, which several windows of 64
 * KiB exceed: four streams collapsed to a hundredth of one. */
static void share(struct um_flow *flow)
{
    struct um_stackd *d = flow->d;
    bool busy = flow->pcb && flow->acked != flow->written;
    d->busy += (unsigned int)busy - (unsigned int)flow->busy;
    flow->busy = busy;
    if (!busy)
        return;
    tcpwnd_size_t most = (tcpwnd_size_t)(TCP_WND / d->busy);
    tcpwnd_size_t least = (tcpwnd_size_t)(SEGMENTS_MIN * flow->pcb->mss);
    if (flow->pcb->cwnd > most)
        flow->pcb->cwnd = most > least ? most : least;
}

/* Forget the flow, whose connection is let go of. */
static void destroy(struct um_flow *flow)
{
    struct um_flow **place = place_of(flow->d, flow->id);
    *place = flow->next;
    um_watch(flow->d, &flow->watch, 0);
    while (flow->held)
        drop_first(flow);
    flow->gone = true;
    flow->acked = flow->written;
    share(flow);
    if (flow->watch.fd >= 0)
        close(flow->watch.fd);
    um_later(flow->d, flow->ring);
    um_later(flow->d, flow);
}

/* Tell the end, and forget the flow. The program is to see an error: then the
 * switchboard, which can reach its descriptor, gets our end back. */
static void finish(struct um_flow *flow, int error)
{
    struct um_packet packet = {
        .kind = UM_PACKET_ENDED, .id = flow->id, .error = error};
    let_go(flow);
    um_tell(flow->d, &packet, NULL, error ? flow->watch.fd : -1);
    destroy(flow);
}

/* Reset the connection and forget the flow. */
static void reset(struct um_flow *flow, int error)
{
    struct tcp_pcb *pcb = flow->pcb;
    let_go(flow);
    if (pcb)
        tcp_abort(pcb);
    finish(flow, error);
}

/* What became of a flow, in the words of lwIP: ERR_OK, it goes on; ERR_CLSD, it
 * is gone, and its connection is left to lwIP; ERR_ABRT, both are gone, which a
 * callback must tell lwIP. */

static err_t answer(err_t rc)
{
    return rc == ERR_ABRT ? ERR_ABRT : ERR_OK;
}

/* Let go of the flow if both sides have said all. */
static err_t over(struct um_flow *flow)
{
    /* SHUT_RDWR hangs up, too, but does not mind what comes. */
    bool heard_all = flow->told_end || (flow->hung_up && !flow->options.deaf);
    if (!flow->fin || flow->acked != flow->written || !heard_all)
        return ERR_OK;
    struct tcp_pcb *pcb = flow->pcb;
    let_go(flow);
    if (pcb)
        tcp_close(pcb);
    finish(flow, 0);
    return ERR_CLSD;
}

/* ---- up ---- */

/* Bytes that the ring has room for at one place. */
static size_t free_at(const struct um_flow *flow, size_t *at)
{
    *at = (size_t)((flow->got - flow->start) % flow->room);
    size_t used = (size_t)(flow->got - flow->acked), left = flow->room - used;
    return left < flow->room - *at ? left : flow->room - *at;
}

static void write_up(struct um_flow *flow)
{
    if (flow->acked == flow->written)
        flow->progress_ms = sys_now();
    bool ready = um_recovery_ready(flow->pcb);
    while (ready && flow->written < flow->got) {
        size_t at = (size_t)((flow->written - flow->start) % flow->room);
        size_t len = (size_t)(flow->got - flow->written);
        if (len > flow->room - at)
            len = flow->room - at;
        if (len > WRITE_MAX)
            len = WRITE_MAX;
        if (len > flow->pcb->snd_buf)
            len = flow->pcb->snd_buf;
        if (!len || tcp_write(flow->pcb, flow->ring + at, (u16_t)len, 0))
            break; /* sent() comes back to it */
        flow->written += len;
        if (flow->written - flow->mark_up < len) {
            flow->marked_up = true;
            flow->mark_sequence =
                flow->pcb->snd_lbb - (uint32_t)(flow->written - flow->mark_up);
        }
    }
    share(flow);
    if (flow->written == flow->got && flow->ended && !flow->fin)
        flow->fin = tcp_shutdown(flow->pcb, 0, 1) == ERR_OK;
}

/* Is the next byte the urgent one? */
static bool is_at_mark(int fd)
{
    int answer = 0;
    return ioctl(fd, SIOCATMARK, &answer) == 0 && answer;
}

/* Return: what recv() says, or -EAGAIN without room. */
static ssize_t read_some(struct um_flow *flow)
{
    size_t at;
    if (flow->acked == flow->got)
        flow->start = flow->got; /* nothing is under way: from the beginning */
    size_t len = free_at(flow, &at);
    if (!len)
        return -EAGAIN;
    bool urgent = flow->urgent && is_at_mark(flow->watch.fd);
    if (urgent)
        len = 1;
    ssize_t n = recv(flow->watch.fd, flow->ring + at, len, MSG_DONTWAIT);
    if (n < 0)
        return -errno;
    flow->got += (size_t)n;
    if (urgent && n)
        flow->mark_up = flow->got;
    flow->ended = n == 0;
    /* After a hang-up no event tells that the end can be read. */
    return (size_t)n < len && !flow->hung_up ? -EAGAIN : n;
}

static void rewatch(struct um_flow *flow)
{
    size_t at;
    uint32_t events = 0;
    if (flow->watch.fd < 0 || flow->hung_up)
        return;
    if (!flow->ended && free_at(flow, &at))
        events |= EPOLLIN | EPOLLPRI;
    if (flow->held || flow->peer_ended != flow->told_end)
        events |= EPOLLOUT;
    /* A hang-up is told in any case, but not to who asks for nothing. */
    um_watch(flow->d, &flow->watch, events ? events : EPOLLERR);
}

static err_t go_up(struct um_flow *flow)
{
    for (int i = 0; i < READS_AT_ONCE && !flow->ended; i++) {
        ssize_t n = read_some(flow);
        if (n == -ECONNRESET) {
            reset(flow, 0);
            return ERR_ABRT;
        }
        if (n < 0 && n != -EAGAIN)
            flow->ended = true;
        if (n < 0)
            break;
    }
    if (flow->pcb) {
        write_up(flow);
        tcp_output(flow->pcb);
        um_recovery_sent(&flow->recovery);
    }
    return over(flow);
}

static err_t sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    (void)pcb;
    struct um_flow *flow = arg;
    flow->acked += len;
    flow->progress_ms = sys_now();
    /* Its last byte may be the FIN's. */
    if (flow->acked > flow->written)
        flow->acked = flow->written;
    share(flow);
    if (flow->acked >= flow->mark_up)
        flow->marked_up = false;
    if (flow->watch.fd < 0)
        return ERR_OK;
    /* The ring was full, or there is no event to be had any more. */
    bool more = (!(flow->watch.events & EPOLLIN) && !flow->ended) ||
                flow->written < flow->got;
    err_t rc = more ? go_up(flow) : over(flow);
    if (rc == ERR_OK)
        rewatch(flow);
    return answer(rc);
}

/* ---- down ---- */

static void heard(struct um_flow *flow, size_t len)
{
    while (len && flow->pcb) { /* it takes 16 bits */
        u16_t step = (u16_t)(len < WRITE_MAX ? len : WRITE_MAX);
        tcp_recved(flow->pcb, step);
        len -= step;
    }
}

/* Name what is held, from its first byte that is not written. */
static size_t gather(const struct um_flow *flow, struct iovec iov[PIECES_MAX])
{
    size_t count = 0;
    for (const struct held *held = flow->held; held; held = held->next) {
        size_t skip = held->at;
        for (const struct pbuf *p = held->p; p; p = p->next) {
            if (count == PIECES_MAX)
                return count;
            if (skip < p->len) {
                iov[count].iov_base = (uint8_t *)p->payload + skip;
                iov[count++].iov_len = p->len - skip;
            }
            skip -= skip < p->len ? skip : p->len;
        }
    }
    return count;
}

static void drop_written(struct um_flow *flow, size_t len)
{
    flow->given += len;
    while (len) {
        struct held *held = flow->held;
        size_t left = held->p->tot_len - held->at;
        size_t step = len < left ? len : left;
        held->at += step;
        len -= step;
        if (step == left)
            drop_first(flow);
    }
}

/* How much of what is held goes in one piece: up to the urgent byte, or that. */
static size_t limit_of(const struct um_flow *flow, bool *urgent)
{
    *urgent = flow->marked_down && flow->given == flow->mark_down;
    if (*urgent)
        return 1;
    return flow->marked_down && flow->given < flow->mark_down
               ? (size_t)(flow->mark_down - flow->given)
               : SIZE_MAX;
}

/* Give the program what is held. */
static void go_down(struct um_flow *flow)
{
    size_t done = 0;
    while (flow->held) {
        struct iovec iov[PIECES_MAX];
        struct msghdr msg = {.msg_iov = iov};
        size_t count = gather(flow, iov), all = 0;
        bool urgent;
        size_t limit = limit_of(flow, &urgent);
        for (; msg.msg_iovlen < count && all < limit; msg.msg_iovlen++) {
            struct iovec *piece = &iov[msg.msg_iovlen];
            if (piece->iov_len > limit - all)
                piece->iov_len = limit - all;
            all += piece->iov_len;
        }
        int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (urgent ? MSG_OOB : 0);
        ssize_t n =
            flow->unheard ? (ssize_t)all : sendmsg(flow->watch.fd, &msg, flags);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) { /* EPIPE: it has shut its reading side down */
            flow->unheard = true;
            continue;
        }
        done += (size_t)n;
        drop_written(flow, (size_t)n);
    }
    heard(flow, done);
    if (!flow->held && flow->peer_ended && !flow->told_end) {
        flow->told_end = true;
        shutdown(flow->watch.fd, SHUT_WR);
    }
}

/* ---- the urgent byte, in headers ---- */

err_t um_segment_came(const struct tcp_pcb *pcb, const struct tcp_hdr *header,
                      const struct um_tcp_options *options)
{
    struct um_flow *flow = tcp_ext_arg_get(pcb, FLOW);
    if (flow)
        um_recovery_heard(&flow->recovery, header, options);
    if (!flow || !(TCPH_FLAGS(header) & TCP_URG) || !header->urgp)
        return ERR_OK;
    /* The byte before the one that it points at: RFC 6093, 3.4. */
    int32_t ahead =
        (int32_t)(header->seqno + lwip_ntohs(header->urgp) - 1 - pcb->rcv_nxt);
    if (ahead >= 0) {
        flow->mark_down = flow->came + (uint32_t)ahead;
        flow->marked_down = true;
    }
    return ERR_OK;
}

uint32_t *um_segment_leaves(struct tcp_hdr *header, const struct tcp_pcb *pcb,
                            uint32_t *options)
{
    struct um_flow *flow = pcb ? tcp_ext_arg_get(pcb, FLOW) : NULL;
    if (!flow || !flow->marked_up)
        return options;
    uint32_t ahead = flow->mark_sequence - lwip_ntohl(header->seqno);
    if (ahead && ahead <= UINT16_MAX) {
        TCPH_SET_FLAG(header, TCP_URG);
        header->urgp = lwip_htons((u16_t)ahead);
    } else {
        TCPH_UNSET_FLAG(header, TCP_URG);
        header->urgp = 0;
    }
    return options;
}

/* Frames come in batches, and a program reads what a batch has brought at once:
 * so it is written when the batch is over. */
static void later(struct um_flow *flow)
{
    if (flow->waits)
        return;
    flow->waits = true;
    flow->next_waiting = flow->d->waiting;
    flow->d->waiting = flow;
}

void um_flows_deliver(struct um_stackd *d)
{
    while (d->waiting) {
        struct um_flow *flow = d->waiting;
        d->waiting = flow->next_waiting;
        flow->waits = false;
        if (flow->gone)
            continue;
        if (flow->hung_up)
            flow->told_end = flow->peer_ended;
        else
            go_down(flow);
        if (over(flow) == ERR_OK)
            rewatch(flow);
    }
}

static err_t received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    (void)pcb;
    (void)err;
    struct um_flow *flow = arg;
    if (p && flow->options.deaf) {
        heard(flow, p->tot_len);
        pbuf_free(p);
        return ERR_OK;
    }
    if (p && flow->hung_up) {
        pbuf_free(p);
        reset(flow, 0);
        return ERR_ABRT;
    }
    if (!p) {
        flow->peer_ended = true;
    } else {
        struct held *held = malloc(sizeof *held);
        if (!held)
            return ERR_MEM; /* lwIP keeps it and comes again */
        *held = (struct held){NULL, p, 0};
        flow->came += p->tot_len;
        *flow->held_end = held;
        flow->held_end = &held->next;
    }
    if (flow->watch.fd >= 0)
        later(flow);
    return ERR_OK;
}

/* ---- the program's side ---- */

static void surrogate_ready(struct um_stackd *d, struct um_watch *watch,
                            uint32_t events)
{
    struct um_flow *flow = UM_CONTAINER(watch, struct um_flow, watch);
    static const int on = 1;
    flow->urgent = events & EPOLLPRI;
    if (flow->urgent) /* it stays in its place: no read goes past it */
        setsockopt(watch->fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    if (events & (EPOLLHUP | EPOLLERR)) {
        um_control_drain(d); /* options that were set before it */
        if (flow->gone)
            return;
        flow->hung_up = true;
        um_watch(d, watch, 0);
        if (flow->options.deaf)
            go_down(flow);
        /* The peer's data will not be read, or a reset is wanted. */
        if (flow->held || flow->options.reset) {
            reset(flow, 0);
            return;
        }
    } else if (events & EPOLLOUT) {
        go_down(flow);
    }
    if (go_up(flow) == ERR_OK)
        rewatch(flow);
}

/* lwIP has forgotten the connection. */
static void failed(void *arg, err_t err)
{
    struct um_flow *flow = arg;
    int error = error_of(err);
    flow->pcb = NULL;
    if (!flow->stands && err == ERR_RST)
        error = ECONNREFUSED;
    /* Both had ended: nobody is to be told an error. */
    finish(flow, flow->hung_up ? 0 : error);
}

static void serve(struct um_flow *flow)
{
    static const struct tcp_ext_arg_callbacks callbacks = {forgotten, NULL};
    struct tcp_pcb *pcb = flow->pcb;
    tcp_ext_arg_set(pcb, FLOW, flow);
    tcp_ext_arg_set_callbacks(pcb, FLOW, &callbacks);
    tcp_arg(pcb, flow);
    tcp_recv(pcb, received);
    tcp_sent(pcb, sent);
    tcp_err(pcb, failed);
    /* The surrogate gathers what is written at a time, as Nagle would. */
    tcp_nagle_disable(pcb);
}

void um_flow_start(struct um_stackd *d, uint64_t id, int fd)
{
    struct um_flow *flow = *place_of(d, id);
    if (!flow || flow->watch.fd >= 0 || !flow->stands || fd < 0) {
        if (fd >= 0)
            close(fd); /* it has ended meanwhile, and was told so */
        return;
    }
    flow->watch.fd = fd;
    flow->watch.fn = surrogate_ready;
    flow->ring = malloc(flow->room);
    if (flow->accepted)
        tcp_backlog_accepted(flow->pcb);
    if (!flow->ring) {
        reset(flow, ENOBUFS);
        return;
    }
    go_down(flow);
    if (go_up(flow) == ERR_OK)
        rewatch(flow);
}

void um_flow_close(struct um_stackd *d, uint64_t id)
{
    for (struct um_listener **at = &d->listeners; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            struct um_listener *listener = *at;
            *at = listener->next;
            tcp_close(listener->pcb);
            um_syns_release(d, &listener->syns);
            free(listener);
            return;
        }
    struct um_flow *flow = *place_of(d, id);
    if (flow)
        reset(flow, 0);
}

/* ---- path MTU ---- */

/* Divide what is queued anew. */
static void split(struct tcp_pcb *pcb)
{
    struct tcp_seg *first = pcb->unsent, *seg = first;
    while (seg &&
           (pcb->unsent = seg, tcp_split_unsent_seg(pcb, pcb->mss) == ERR_OK))
        seg = seg->next;
    pcb->unsent = first;
}

/* Whoever can make up such a message has to have seen the connection. */
void um_flow_mtu(const ip_addr_t *local, uint16_t local_port,
                 const ip_addr_t *remote, uint16_t remote_port,
                 uint32_t sequence, uint32_t mtu)
{
    uint32_t headers = (IP_IS_V4(local) ? IP_HLEN : IP6_HLEN) + TCP_HLEN;
    struct tcp_pcb *pcb = tcp_active_pcbs;
    while (pcb &&
           !(pcb->local_port == local_port && pcb->remote_port == remote_port &&
             ip_addr_cmp_zoneless(&pcb->local_ip, local) &&
             ip_addr_cmp_zoneless(&pcb->remote_ip, remote)))
        pcb = pcb->next;
    if (mtu < MTU_MIN) /* some routers do not say what they take */
        mtu = MTU_MIN;
    if (!pcb || !TCP_SEQ_BETWEEN(sequence, pcb->lastack, pcb->snd_nxt) ||
        mtu - headers >= pcb->mss)
        return;
    pcb->mss = (u16_t)(mtu - headers);
    tcp_rexmit_rto_prepare(pcb);
    split(pcb);
    tcp_output(pcb);
}

/* ---- options, and what takes too long ---- */

/* Called each 100 ms while there is something to wait for. lwIP repeats a SYN
 * every 3 s. As Linux does it (RFC 6298): after 1 s, then twice as long each time,
 * and given up after 127 s. */
static err_t waits(void *arg, struct tcp_pcb *pcb)
{
    struct um_flow *flow = arg;
    uint32_t limit_ms = flow->options.user_timeout_ms;
    if (flow->options.deaf && flow->hung_up && flow->fin &&
        sys_now() - flow->progress_ms >= FIN_WAIT_MS) {
        flow->options.deaf = 0; /* by now it has closed */
        return answer(over(flow));
    }
    if (!flow->stands)
        pcb->rto = (s16_t)(RTO_FIRST << pcb->nrtx);
    if (!limit_ms || (flow->stands && flow->acked == flow->written) ||
        sys_now() - flow->progress_ms < limit_ms)
        return ERR_OK;
    reset(flow, ETIMEDOUT);
    return ERR_ABRT;
}

static void obey_options(struct um_flow *flow)
{
    const struct um_packet_options *options = &flow->options;
    struct tcp_pcb *pcb = flow->pcb;
    if (options->keep_alive)
        ip_set_option(pcb, SOF_KEEPALIVE);
    else
        ip_reset_option(pcb, SOF_KEEPALIVE);
    if (options->keep_idle_ms)
        pcb->keep_idle = options->keep_idle_ms;
    if (options->keep_interval_ms)
        pcb->keep_intvl = options->keep_interval_ms;
    if (options->keep_count)
        pcb->keep_cnt = options->keep_count;
    if (options->mss && pcb->mss > options->mss)
        pcb->mss = options->mss;
    bool waiting = options->user_timeout_ms || options->deaf || !flow->stands;
    tcp_poll(pcb, waiting ? waits : NULL, 1);
}

static void read_options(struct um_flow *flow, const struct um_packet *packet,
                         const uint8_t *data)
{
    if (packet->len >= sizeof flow->options)
        memcpy(&flow->options, data, sizeof flow->options);
    flow->pcb->ttl = packet->ttl;
    flow->pcb->tos = packet->tos;
    obey_options(flow);
}

void um_flow_options(struct um_stackd *d, const struct um_packet *packet,
                     const uint8_t *data)
{
    struct um_flow *flow = *place_of(d, packet->id);
    if (flow && flow->pcb)
        read_options(flow, packet, data);
}

/* ---- connect ---- */

static err_t connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)err;
    struct um_flow *flow = arg;
    struct um_packet packet = {.kind = UM_PACKET_CONNECTED, .id = flow->id};
    flow->stands = true;
    flow->progress_ms = sys_now();
    obey_options(flow);
    packet.mss = pcb->mss;
    um_addr_from_lwip(flow->d, &pcb->local_ip, pcb->local_port, &packet.local);
    um_tell(flow->d, &packet, NULL, -1);
    return ERR_OK;
}

static err_t try_connect(struct um_stackd *d, const struct um_packet *packet,
                         struct tcp_pcb *pcb)
{
    ip_addr_t local, remote;
    um_addr_to_lwip(d, &packet->local, &local);
    um_addr_to_lwip(d, &packet->remote, &remote);
    struct um_card *card = um_card_find(d, packet->card);
    if (card)
        tcp_bind_netif(pcb, &card->netif);
    /* The switchboard sees to it that ports are used once. */
    ip_set_option(pcb, SOF_REUSEADDR);
    um_ended_limit();
    um_ended_make_way(&local, packet->local.port, &remote, packet->remote.port);
    err_t rc = tcp_bind(pcb, &local, packet->local.port);
    if (rc == ERR_OK)
        rc = tcp_connect(pcb, &remote, packet->remote.port, connected);
    if (rc == ERR_OK)
        um_lookup_add(d, pcb);
    return rc;
}

void um_flow_connect(struct um_stackd *d, const struct um_packet *packet,
                     const uint8_t *data)
{
    ip_addr_t remote;
    um_addr_to_lwip(d, &packet->remote, &remote);
    struct tcp_pcb *pcb = tcp_new_ip_type(IP_GET_TYPE(&remote));
    struct um_flow *flow = pcb ? create(d, packet->id, pcb) : NULL;
    err_t rc = ERR_MEM;
    if (flow) {
        serve(flow);
        rc = try_connect(d, packet, pcb);
        if (rc == ERR_OK) {
            flow->progress_ms = sys_now();
            read_options(flow, packet, data);
            waits(flow, pcb);
            return;
        }
        reset(flow, error_of(rc));
        return;
    }
    if (pcb)
        tcp_abort(pcb);
    struct um_packet ended = {
        .kind = UM_PACKET_ENDED, .id = packet->id, .error = ENOBUFS};
    um_tell(d, &ended, NULL, -1);
}

/* ---- listen ---- */

static err_t came(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct um_listener *listener = arg;
    if (err != ERR_OK || !pcb)
        return ERR_VAL;
    struct um_stackd *d = listener->d;
    struct um_flow *flow = create(d, ++d->serial | UM_PACKET_ITS_ID, pcb);
    if (!flow)
        return ERR_MEM; /* lwIP resets it */
    flow->stands = flow->accepted = true;
    um_ended_limit();
    tcp_backlog_delayed(pcb); /* until the listener's queue has taken it */
    serve(flow);
    struct um_packet packet = {
        .kind = UM_PACKET_ACCEPTED, .id = flow->id, .listener = listener->id};
    packet.mss = pcb->mss;
    um_addr_from_lwip(d, &pcb->local_ip, pcb->local_port, &packet.local);
    um_addr_from_lwip(d, &pcb->remote_ip, pcb->remote_port, &packet.remote);
    um_tell(d, &packet, NULL, -1);
    return ERR_OK;
}

static err_t try_listen(struct um_listener *listener,
                        const struct um_packet *packet)
{
    ip_addr_t local;
    um_addr_to_lwip(listener->d, &packet->local, &local);
    bool both = IP_IS_V6(&local) && ip_addr_isany(&local) &&
                !(packet->flags & UM_PACKET_V6ONLY);
    struct tcp_pcb *pcb =
        tcp_new_ip_type(both ? IPADDR_TYPE_ANY : IP_GET_TYPE(&local));
    if (!pcb)
        return ERR_MEM;
    if (both)
        local = *IP_ANY_TYPE;
    ip_set_option(pcb, SOF_REUSEADDR);
    err_t rc = tcp_bind(pcb, &local, packet->local.port);
    if (rc == ERR_OK)
        listener->pcb = tcp_listen_with_backlog_and_err(
            pcb, TCP_DEFAULT_LISTEN_BACKLOG, &rc);
    if (!listener->pcb) {
        tcp_abort(pcb);
        return rc;
    }
    tcp_arg(listener->pcb, listener);
    tcp_accept(listener->pcb, came);
    um_lookup_listen(listener->d, listener->pcb);
    return ERR_OK;
}

void um_flow_listen(struct um_stackd *d, const struct um_packet *packet)
{
    struct um_listener *listener = calloc(1, sizeof *listener);
    struct um_packet ready = {
        .kind = UM_PACKET_READY, .id = packet->id, .error = ENOMEM};
    if (listener) {
        listener->d = d;
        um_syns_init(&listener->syns);
        listener->id = packet->id;
        ready.error = error_of(try_listen(listener, packet));
        listener->next = d->listeners;
        if (!ready.error)
            d->listeners = listener;
        else
            free(listener);
    }
    um_tell(d, &ready, NULL, -1);
}

void um_flows_close(struct um_stackd *d)
{
    for (int i = 0; i < UM_FLOW_BUCKETS; i++)
        while (d->flows[i])
            reset(d->flows[i], 0);
    while (d->listeners)
        um_flow_close(d, d->listeners->id);
}
