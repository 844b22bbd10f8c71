/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * udp.c - where a UDP datagram goes, and a UDP-Lite one
 *
 * Within the stack it is put into the receiver's surrogate (the local road).
 * Beyond, a socket of the host stands for the view's (the relay road), one per
 * family, made when it is first needed, like the mapping of a NAT: its port
 * stays the same whatever the destination, and what comes in is let through
 * from the addresses that were sent to. Those are remembered, because a map
 * may lead 10.0.2.3:53 to another port of the host and the answer must come
 * from 10.0.2.3:53. ICMP errors come back by the host socket's error queue,
 * which tells for which destination, so the host socket is never connected.
 *
 * A forward is the reverse: a bound socket of the host whose peers appear in
 * the view under a name to which answers can be sent. The name leads back
 * through the table of the forward.
 *
 * Multicast and broadcast stay in the view: a relayed one would be sent into
 * the host's network under the host's name.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "packet.h"
#include "uplink.h"

enum { UDP_MAX_V4 = 65507, UDP_MAX_V6 = 65527 };
enum { HEADERS_V4 = 28, HEADERS_V6 = 48 };

/* Of lo; IPv4 cannot use its last byte. */
enum { MTU_LO_V4 = 65535, MTU_LO_V6 = 65536 };
enum { HOST_BATCH = 64, KNOWN_MAX = 256, FLOW_MAX = 1024 };

/* UDP_MAX_SEGMENTS of linux/udp.h */
enum { SEGMENTS_MAX = 128 };

/* As much as an error of the host may quote of a datagram. */
enum { QUOTED_MAX = 2048 };

/* Bits before an IPv4 address in its mapped form. */
enum { V4_PREFIX = 96 };

/* ---- what was sent where ---- */

void um_known_add(struct um_dgram *dgram, const struct um_known *known)
{
    for (uint32_t i = 0; i < dgram->known_count; i++)
        if (um_name_equal(&dgram->known[i].host, &known->host)) {
            dgram->known[i] = *known;
            return;
        }
    if (!dgram->known)
        dgram->known = calloc(KNOWN_MAX, sizeof *dgram->known);
    if (!dgram->known)
        return;
    /* The oldest makes room. */
    dgram->known[dgram->known_next] = *known;
    dgram->known_next = (dgram->known_next + 1) % KNOWN_MAX;
    if (dgram->known_count < KNOWN_MAX)
        dgram->known_count++;
}

const struct um_known *um_known_find(const struct um_dgram *dgram,
                                     const struct um_name *host, bool *exact)
{
    const struct um_known *found = NULL;
    *exact = false;
    for (uint32_t i = 0; i < dgram->known_count && !*exact; i++) {
        const struct um_known *known = &dgram->known[i];
        if (!um_addr_equal(known->host.addr, host->addr))
            continue;
        found = known;
        *exact = known->host.port == host->port;
    }
    return found;
}

/* ---- host sockets ---- */

/* Errors, and the TTL and TOS of what comes. */
static void ask_for_messages(int fd, int side)
{
    static const int names[2][3] = {
        {IP_RECVERR, IP_RECVTTL, IP_RECVTOS},
        {IPV6_RECVERR, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS}};
    int one = 1;
    for (int i = 0; i < 3; i++)
        setsockopt(fd, side ? IPPROTO_IPV6 : IPPROTO_IP, names[side][i], &one,
                   sizeof one);
}

int um_host_side_open(struct um_switchboard *sb, struct um_sock *sock, int side,
                      int protocol,
                      void (*fn)(struct um_switchboard *, struct um_watch *,
                                 uint32_t))
{
    struct um_host_side *host = &sock->dgram->host[side];
    if (host->watch.fd >= 0)
        return host->watch.fd;
    int fd = socket(side ? AF_INET6 : AF_INET,
                    SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0)
        return -errno;
    um_options_to_host(sock, fd);
    ask_for_messages(fd, side);
    memset(host->set, -1, sizeof host->set);
    host->sock = sock;
    host->watch.fn = fn;
    int rc = um_watch_add(sb, &host->watch, fd, EPOLLIN);
    if (rc < 0) {
        close(fd);
        host->watch.fd = -1;
        return rc;
    }
    return fd;
}

void um_host_sides_close(struct um_switchboard *sb, struct um_dgram *dgram)
{
    for (int side = 0; side < 2; side++) {
        struct um_host_side *host = &dgram->host[side];
        if (host->watch.fd < 0)
            continue;
        um_watch_remove(sb, &host->watch);
        close(host->watch.fd);
        host->watch.fd = -1;
    }
}

/* An int, or the one byte that IP_TOS is. */
static uint8_t small_number(const struct cmsghdr *c)
{
    int value;
    if (c->cmsg_len < CMSG_LEN(sizeof value))
        return *CMSG_DATA(c);
    memcpy(&value, CMSG_DATA(c), sizeof value);
    return (uint8_t)value;
}

static void read_error(const uint8_t *data, size_t len, struct um_report *ret)
{
    struct um_name offender;
    struct sockaddr_storage ss = {0};
    memcpy(&ret->error, data, sizeof ret->error);
    memcpy(&ss, data + sizeof ret->error, len - sizeof ret->error);
    ret->has_offender = um_name_from_host(&ss, &offender) == 0;
    if (ret->has_offender)
        memcpy(ret->offender, offender.addr, 16);
}

/* What came with a message of the host: TTL, TOS, the error if it is one. */
static void read_control(struct msghdr *msg, struct um_report *ret)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        bool v4 = c->cmsg_level == IPPROTO_IP;
        int type = c->cmsg_type;
        if (!v4 && c->cmsg_level != IPPROTO_IPV6)
            continue;
        if (type == (v4 ? IP_TTL : IPV6_HOPLIMIT))
            ret->arrival.ttl = small_number(c);
        else if (type == (v4 ? IP_TOS : IPV6_TCLASS))
            ret->arrival.tos = small_number(c);
        else if (type == (v4 ? IP_RECVERR : IPV6_RECVERR))
            read_error(CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0), ret);
    }
}

ssize_t um_host_receive(struct um_host_side *host, int flags, void *buf,
                        size_t len, struct um_report *ret)
{
    struct sockaddr_storage ss = {0};
    union {
        struct cmsghdr head;
        char room[256];
    } control;
    struct iovec iov = {buf, len};
    struct msghdr msg = {.msg_name = &ss,
                         .msg_namelen = sizeof ss,
                         .msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    memset(ret, 0, sizeof *ret);
    ret->arrival.ttl = UM_TTL;
    ssize_t n = recvmsg(host->watch.fd, &msg, MSG_DONTWAIT | flags);
    if (n < 0)
        return -errno;
    read_control(&msg, ret);
    return um_name_from_host(&ss, &ret->arrival.from) < 0 ? -EAFNOSUPPORT : n;
}

/* Translate an error of the host into the view's names. */
static void pass_error(struct um_switchboard *sb, struct um_sock *sock,
                       struct um_report *report, void *data, size_t len)
{
    bool exact;
    struct um_name *dest = &report->arrival.from;
    const struct um_known *known = um_known_find(sock->dgram, dest, &exact);
    if (!known || !exact)
        return;
    if (report->error.ee_origin == SO_EE_ORIGIN_LOCAL) {
        um_error_too_long(sb, sock, &known->view, report->error.ee_info);
        return;
    }
    if (um_addr_equal(report->offender, dest->addr))
        memcpy(report->offender, known->view.addr, 16);
    *dest = known->view;
    memcpy(report->arrival.to, known->source, 16);
    if (um_is_icmp(sock))
        um_icmp_own_error(sock, report, data, len);
    um_error_arrived(sb, sock, report, data, len);
}

void um_host_errors(struct um_switchboard *sb, struct um_host_side *host,
                    bool local)
{
    struct um_report report;
    uint8_t data[QUOTED_MAX];
    for (int i = 0; i < HOST_BATCH; i++) {
        ssize_t n =
            um_host_receive(host, MSG_ERRQUEUE, data, sizeof data, &report);
        if (n == -EAGAIN)
            break;
        if (n >= 0 && (local || report.error.ee_origin != SO_EE_ORIGIN_LOCAL))
            pass_error(sb, host->sock, &report, data, (size_t)n);
    }
}

/* Let the host socket send as the view's would send this datagram. */
static void follow_options(struct um_host_side *host, bool v4,
                           const struct um_arrival *arrival)
{
    static const int names[2][HOST_OPTIONS] = {
        {IPV6_UNICAST_HOPS, IPV6_TCLASS, IPV6_MTU_DISCOVER},
        {IP_TTL, IP_TOS, IP_MTU_DISCOVER}};
    int level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    int values[HOST_OPTIONS] = {
        arrival->ttl, arrival->tos,
        um_option_int(host->sock, level, names[v4][2], IP_PMTUDISC_WANT)};
    for (int i = 0; i < HOST_OPTIONS; i++) {
        if (host->set[i] != values[i])
            setsockopt(host->watch.fd, level, names[v4][i], &values[i],
                       sizeof values[i]);
        host->set[i] = values[i];
    }
}

/* An error may be that of an earlier datagram: it is gone when the queue is
 * empty, and the second try tells. */
ssize_t um_host_send(struct um_switchboard *sb, struct um_host_side *host,
                     const struct um_name *dest,
                     const struct um_arrival *arrival, const void *data,
                     size_t len)
{
    follow_options(host, um_addr_is_v4(dest->addr), arrival);
    struct sockaddr_storage ss;
    socklen_t ss_len = um_name_to_host(dest, &ss);
    for (bool again = false;; again = true) {
        if (sendto(host->watch.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL,
                   (struct sockaddr *)&ss, ss_len) >= 0)
            return (ssize_t)len;
        int error = errno;
        if (error == EAGAIN || error == ENOBUFS)
            return (ssize_t)len; /* dropped, as on a full link */
        um_host_errors(sb, host, again);
        if (again)
            return -error;
    }
}

/* One datagram from the host. Return: false when there is none left. */
static bool host_receive(struct um_switchboard *sb, struct um_host_side *host)
{
    struct um_sock *sock = host->sock;
    struct um_report got;
    ssize_t n = um_host_receive(host, 0, sb->scratch, UM_SCRATCH, &got);
    if (n == -EAGAIN)
        return false;
    bool exact;
    const struct um_name *peer = &got.arrival.from;
    const struct um_known *known =
        n >= 0 ? um_known_find(sock->dgram, peer, &exact) : NULL;
    if (!known)
        return true;
    struct um_arrival arrival = {.from = known->view,
                                 .len = (uint32_t)n,
                                 .ttl = got.arrival.ttl,
                                 .tos = got.arrival.tos};
    if (!exact)
        um_stack_unmap(sock->stack, sock->protocol, peer, &arrival.from);
    memcpy(arrival.to, known->source, 16);
    if (sock->state != UM_CONNECTED ||
        um_name_equal(&arrival.from, &sock->peer))
        um_dgram_deliver(sb, sock, &arrival, sb->scratch);
    return true;
}

static void host_ready(struct um_switchboard *sb, struct um_watch *watch,
                       uint32_t events)
{
    struct um_host_side *host = UM_CONTAINER(watch, struct um_host_side, watch);
    for (int i = 0; i < HOST_BATCH && host_receive(sb, host); i++)
        ;
    if (events & EPOLLERR)
        um_host_errors(sb, host, false);
}

static ssize_t send_segments(struct um_switchboard *sb,
                             struct um_host_side *host,
                             const struct um_name *dest,
                             const struct um_arrival *arrival, const void *data)
{
    const uint8_t *at = data;
    for (size_t left = arrival->len; left;) {
        size_t step = arrival->segment < left ? arrival->segment : left;
        ssize_t rc = um_host_send(sb, host, dest, arrival, at, step);
        if (rc < 0)
            return rc;
        at += step;
        left -= step;
    }
    return arrival->len;
}

static ssize_t send_by_host(struct um_switchboard *sb, struct um_sock *sock,
                            const struct um_known *known,
                            const struct um_arrival *arrival, const void *data)
{
    int side = !um_addr_is_v4(known->host.addr);
    int fd = um_host_side_open(sb, sock, side, sock->protocol, host_ready);
    if (fd < 0)
        return fd;
    um_known_add(sock->dgram, known);
    if (arrival->segment)
        return send_segments(sb, &sock->dgram->host[side], &known->host,
                             arrival, data);
    return um_host_send(sb, &sock->dgram->host[side], &known->host, arrival,
                        data, arrival->len);
}

/* ---- many receivers ---- */

bool um_stack_broadcasts(const struct um_stack *stack, const uint8_t addr[16])
{
    static const uint8_t all[4] = {255, 255, 255, 255};
    if (!um_addr_is_v4(addr))
        return false;
    if (memcmp(addr + 12, all, 4) == 0)
        return true;
    for (int i = 0; i < stack->address_count; i++) {
        const struct um_card_address *a = &stack->addresses[i];
        int host_bits = 128 - a->prefix;
        if (!um_addr_is_v4(a->addr) || host_bits < 2 || a->prefix < V4_PREFIX)
            continue;
        bool is = true;
        for (int bit = 0; bit < 32 && is; bit++) {
            int shift = 7 - bit % 8, byte = 12 + bit / 8;
            int want = bit >= 32 - host_bits ? 1 : a->addr[byte] >> shift & 1;
            is = (addr[byte] >> shift & 1) == want;
        }
        if (is)
            return true;
    }
    return false;
}

struct spread {
    struct um_switchboard *sb;
    const struct um_arrival *arrival;
    const void *data;
};

static void spread_to(struct um_sock *sock, void *arg)
{
    const struct spread *spread = arg;
    struct um_arrival arrival = *spread->arrival;
    if (sock->type == SOCK_DGRAM)
        um_dgram_deliver(spread->sb, sock, &arrival, spread->data);
}

/* What leaves by lo comes back in any case. */
static void send_to_all(struct um_switchboard *sb, struct um_sock *sock,
                        const struct um_name *dest,
                        const struct um_arrival *arrival, const void *data)
{
    struct spread spread = {sb, arrival, data};
    if (um_addr_is_multicast(dest->addr) && arrival->card != UM_CARD_LO &&
        !um_option_int(
            sock, um_addr_is_v4(dest->addr) ? IPPROTO_IP : IPPROTO_IPV6,
            um_addr_is_v4(dest->addr) ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP,
            1))
        return;
    um_port_each(sock->stack, sock->protocol, dest, &arrival->from,
                 arrival->card, spread_to, &spread);
}

/* ---- by packets ---- */

static void send_by_packets(const struct um_sock *sock,
                            const struct um_name *dest,
                            const struct um_arrival *arrival, const void *data)
{
    struct um_arrival one = *arrival;
    const uint8_t *at = data;
    uint32_t left = arrival->len;
    do {
        one.len = arrival->segment && arrival->segment < left ? arrival->segment
                                                              : left;
        um_packet_send(sock->stack, sock->protocol, dest, &one, at);
        at += one.len;
        left -= one.len;
    } while (left);
}

void um_udp_received(struct um_switchboard *sb, struct um_stack *stack,
                     const struct um_name *to, struct um_arrival *arrival,
                     const void *data)
{
    struct spread spread = {sb, arrival, data};
    if (um_addr_is_multicast(to->addr) ||
        um_stack_broadcasts(stack, to->addr)) {
        um_port_each(stack, IPPROTO_UDP, to, &arrival->from, arrival->card,
                     spread_to, &spread);
        return;
    }
    struct um_sock *sock = um_port_find(stack, IPPROTO_UDP, to, &arrival->from);
    if (sock)
        um_dgram_deliver(sb, sock, arrival, data);
}

/* ---- forwards ---- */

struct flow {
    struct um_name view;
    struct sockaddr_in6 host; /* or a sockaddr_in */
    socklen_t host_len;
    uint64_t used;
};

struct forward {
    struct um_watch watch;
    struct um_list link;
    struct um_stack *stack;
    uint16_t port;
    uint8_t gateway[2][16]; /* IPv4, IPv6 */
    struct flow *flows;
    uint32_t flow_count, last;
    uint64_t clock;
};

static struct flow *flow_of(struct forward *forward, const struct um_name *view)
{
    struct flow *flows = forward->flows;
    if (forward->last < forward->flow_count &&
        um_name_equal(&flows[forward->last].view, view))
        return &flows[forward->last];
    for (uint32_t i = 0; i < forward->flow_count; i++)
        if (um_name_equal(&flows[i].view, view)) {
            forward->last = i;
            return &flows[i];
        }
    return NULL;
}

static struct flow *new_flow(struct forward *forward)
{
    if (forward->flow_count < FLOW_MAX)
        return &forward->flows[forward->flow_count++];
    struct flow *oldest = forward->flows;
    for (uint32_t i = 1; i < FLOW_MAX; i++)
        if (forward->flows[i].used < oldest->used)
            oldest = &forward->flows[i];
    return oldest;
}

/* Show a peer of the host under a name of the view. */
static void name_peer(struct forward *forward,
                      const struct sockaddr_storage *ss, socklen_t len,
                      struct um_name *ret)
{
    um_name_from_host(ss, ret);
    if (um_addr_is_loopback(ret->addr))
        memcpy(ret->addr, forward->gateway[!um_addr_is_v4(ret->addr)], 16);
    struct flow *flow = flow_of(forward, ret);
    if (!flow)
        flow = new_flow(forward);
    flow->view = *ret;
    memcpy(&flow->host, ss, sizeof flow->host);
    flow->host_len = len;
    flow->used = ++forward->clock;
}

static bool forward_receive(struct um_switchboard *sb, struct forward *forward)
{
    struct sockaddr_storage ss = {0};
    socklen_t ss_len = sizeof ss;
    ssize_t n = recvfrom(forward->watch.fd, sb->scratch, UM_SCRATCH,
                         MSG_DONTWAIT, (struct sockaddr *)&ss, &ss_len);
    if (n < 0)
        return errno != EAGAIN && errno != EWOULDBLOCK;
    struct um_arrival arrival = {.len = (uint32_t)n, .ttl = UM_TTL};
    struct um_name host, to = {.port = forward->port};
    name_peer(forward, &ss, ss_len, &arrival.from);
    if (um_stack_route(forward->stack, IPPROTO_UDP, &arrival.from, &host,
                       to.addr) < 0)
        return true;
    memcpy(arrival.to, to.addr, 16);
    struct um_sock *sock =
        um_port_find(forward->stack, IPPROTO_UDP, &to, &arrival.from);
    if (sock)
        um_dgram_deliver(sb, sock, &arrival, sb->scratch);
    return true;
}

static void forward_ready(struct um_switchboard *sb, struct um_watch *watch,
                          uint32_t events)
{
    (void)events;
    struct forward *forward = UM_CONTAINER(watch, struct forward, watch);
    for (int i = 0; i < HOST_BATCH && forward_receive(sb, forward); i++)
        ;
}

/* Is dest a peer of a forward that leads to this socket? Return: true if the
 * datagram went there. */
static bool send_by_forward(struct um_switchboard *sb,
                            const struct um_sock *sock,
                            const struct um_name *dest, const void *data,
                            size_t len)
{
    struct um_list *head = &um_dgrams_of(sb)->forwards;
    for (struct um_list *l = head->next; l != head; l = l->next) {
        struct forward *forward = UM_CONTAINER(l, struct forward, link);
        if (forward->stack != sock->stack || forward->port != sock->local.port)
            continue;
        struct flow *flow = flow_of(forward, dest);
        if (!flow)
            continue;
        sendto(forward->watch.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL,
               (struct sockaddr *)&flow->host, flow->host_len);
        return true;
    }
    return false;
}

int um_dgram_forward(struct um_switchboard *sb, struct um_stack *stack, int fd,
                     int port, const uint8_t gateway4[16],
                     const uint8_t gateway6[16])
{
    struct um_dgrams *dgrams = um_dgrams_of(sb);
    struct forward *forward = dgrams ? calloc(1, sizeof *forward) : NULL;
    if (forward)
        forward->flows = calloc(FLOW_MAX, sizeof *forward->flows);
    if (!forward || !forward->flows) {
        free(forward);
        return -ENOMEM;
    }
    forward->stack = stack;
    forward->port = (uint16_t)port;
    memcpy(forward->gateway[0], gateway4 ? gateway4 : um_loopback4, 16);
    memcpy(forward->gateway[1], gateway6 ? gateway6 : um_loopback6, 16);
    forward->watch.fn = forward_ready;
    int rc = um_watch_add(sb, &forward->watch, fd, EPOLLIN);
    if (rc < 0) {
        free(forward->flows);
        free(forward);
        return rc;
    }
    um_list_append(&dgrams->forwards, &forward->link);
    return 0;
}

void um_forwards_destroy(struct um_switchboard *sb, struct um_dgrams *dgrams,
                         const struct um_stack *stack)
{
    struct um_list *l = dgrams->forwards.next;
    while (l != &dgrams->forwards) {
        struct forward *forward = UM_CONTAINER(l, struct forward, link);
        l = l->next;
        if (stack && forward->stack != stack)
            continue;
        um_watch_remove(sb, &forward->watch);
        close(forward->watch.fd);
        um_list_remove(&forward->link);
        free(forward->flows);
        um_later_free(sb, forward);
    }
}

/* ---- sending ---- */

/* The longest datagram that goes in one piece, or in as many as it takes. */
static int check_length(struct um_switchboard *sb, struct um_sock *sock,
                        const struct um_name *dest, int road,
                        const uint8_t source[16], size_t len)
{
    bool v4 = um_addr_is_v4(dest->addr), lo = road == UM_ROAD_LOCAL;
    size_t headers = v4 ? HEADERS_V4 : HEADERS_V6;
    size_t mtu = !lo  ? um_stack_mtu(sock->stack, source)
                 : v4 ? MTU_LO_V4
                      : MTU_LO_V6;
    int discover = um_option_int(sock, v4 ? IPPROTO_IP : IPPROTO_IPV6,
                                 v4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
                                 IP_PMTUDISC_WANT);
    size_t max = v4 ? UDP_MAX_V4 : UDP_MAX_V6;
    if (discover >= IP_PMTUDISC_DO && discover != IP_PMTUDISC_OMIT &&
        mtu - headers < max)
        max = mtu - headers;
    if (len <= max)
        return 0;
    /* udp_sendmsg() looks at 16 bits before it looks at the socket. */
    if (!v4 || len <= UINT16_MAX)
        um_error_too_long(sb, sock, dest, (uint32_t)mtu);
    return -EMSGSIZE;
}

/* UDP_SEGMENT: what is sent is many datagrams; see udp_send_skb(). */
static int set_segment(const struct um_sock *sock, const struct um_how *how,
                       struct um_arrival *arrival)
{
    uint32_t step = how->segment;
    if (!step)
        step = (uint32_t)um_option_int(sock, IPPROTO_UDP, UDP_SEGMENT, 0);
    if (!step || arrival->len <= step)
        return 0;
    if (arrival->len > step * SEGMENTS_MAX)
        return -EINVAL;
    arrival->segment = (uint16_t)step;
    return 0;
}

/* Nobody has the port, or no host has the address. */
static void fail_later(struct um_switchboard *sb, struct um_sock *sock,
                       bool port, const struct um_name *dest,
                       const struct um_arrival *arrival, const void *data)
{
    um_error_unreachable(sb, sock, port, dest,
                         port ? dest->addr : arrival->from.addr, arrival, data);
}

/* Return: whether there is a socket for it in the stack. */
static bool deliver_local(struct um_switchboard *sb, struct um_stack *stack,
                          int protocol, const struct um_name *dest,
                          struct um_arrival *arrival, const void *data)
{
    struct um_sock *receiver =
        um_port_find(stack, protocol, dest, &arrival->from);
    if (!receiver || !(receiver->dgram || receiver->inner))
        return false;
    um_dgram_deliver(sb, receiver, arrival, data);
    return true;
}

static void send_local(struct um_switchboard *sb, struct um_sock *sock,
                       const struct um_name *dest, struct um_arrival *arrival,
                       const void *data)
{
    if (!deliver_local(sb, sock->stack, sock->protocol, dest, arrival, data))
        fail_later(sb, sock, true, dest, arrival, data);
}

/* By nat0, to the host or into the stack behind. */
static ssize_t send_out(struct um_switchboard *sb, struct um_sock *sock,
                        struct um_known *known, struct um_arrival *arrival,
                        const void *data)
{
    struct um_way way;
    um_uplink_way(sock->stack, sock->protocol, &known->host, &way);
    known->host = way.dest;
    if (way.road == UM_ROAD_RELAY)
        return send_by_host(sb, sock, known, arrival, data);
    if (way.road < 0)
        return way.road;
    bool refused = way.road == UM_ROAD_REFUSED;
    if (refused || way.road == UM_ROAD_UNREACHABLE) {
        fail_later(sb, sock, refused, &known->view, arrival, data);
        return arrival->len;
    }
    struct um_sock *outer = um_uplink_sock(sock, &way);
    if (!outer)
        return -EAGAIN;
    struct um_arrival there = *arrival;
    there.from = outer->local;
    memcpy(there.to, way.dest.addr, 16);
    um_known_add(sock->dgram, known);
    if (way.road == UM_ROAD_PACKET)
        send_by_packets(outer, &way.dest, &there, data);
    else if (!deliver_local(sb, way.stack, sock->protocol, &way.dest, &there,
                            data))
        fail_later(sb, sock, true, &known->view, arrival, data);
    return arrival->len;
}

/* Fill in who sends: the chosen source, else the bound address, else the
 * route's. */
static void set_source(const struct um_sock *sock, const struct um_how *how,
                       const uint8_t source[16], struct um_name *ret)
{
    const uint8_t *addr = sock->local.addr;
    if (how->has_source)
        addr = how->source;
    else if (um_addr_is_any(addr) || um_addr_is_multicast(addr))
        addr = source;
    memcpy(ret->addr, addr, 16);
    ret->port = sock->local.port;
}

ssize_t um_udp_send(struct um_switchboard *sb, struct um_sock *sock,
                    const struct um_name *where, const struct um_how *how,
                    const void *data, size_t len)
{
    struct um_known known = {.view = *where};
    struct um_name *dest = &known.view;
    struct um_arrival arrival = {.len = (uint32_t)len};
    int rc = um_dgram_autobind(sock);
    if (rc == 0)
        rc = um_dgram_check_dest(sock, dest);
    if (rc < 0)
        return rc;
    int road = um_sock_route(sock, dest, &known.host, known.source);
    if (road < 0)
        return road;
    rc = check_length(sb, sock, dest, road, known.source, len);
    if (rc == 0)
        rc = set_segment(sock, how, &arrival);
    if (rc == 0)
        rc = um_dgram_may_send(sock, how);
    if (rc < 0)
        return rc;
    if (send_by_forward(sb, sock, dest, data, len))
        return (ssize_t)len;
    if (um_addr_is_multicast(dest->addr)) {
        bool v4 = um_addr_is_v4(dest->addr);
        arrival.card = um_options_multicast_card(sock, v4);
        um_stack_card_address(sock->stack, arrival.card, v4, known.source);
    }
    set_source(sock, how, known.source, &arrival.from);
    memcpy(known.source, arrival.from.addr, 16);
    memcpy(arrival.to, dest->addr, 16);
    um_dgram_set_class(sock, how, &arrival);
    if (um_addr_is_multicast(dest->addr) ||
        um_stack_broadcasts(sock->stack, dest->addr)) {
        if (road == UM_ROAD_PACKET)
            send_by_packets(sock, dest, &arrival, data);
        send_to_all(sb, sock, dest, &arrival, data);
        return (ssize_t)len;
    }
    if (road != UM_ROAD_LOCAL && um_addr_is_loopback(arrival.from.addr))
        return -EINVAL;
    switch ((enum um_road)road) {
    case UM_ROAD_LOCAL:
        send_local(sb, sock, dest, &arrival, data);
        break;
    case UM_ROAD_RELAY:
        return send_out(sb, sock, &known, &arrival, data);
    case UM_ROAD_REFUSED:
        fail_later(sb, sock, true, dest, &arrival, data);
        break;
    case UM_ROAD_UNREACHABLE:
        fail_later(sb, sock, false, dest, &arrival, data);
        break;
    case UM_ROAD_PACKET:
        send_by_packets(sock, dest, &arrival, data);
        break;
    case UM_ROAD_LOST:
        break;
    }
    return (ssize_t)len;
}

/* ---- corking: UDP_CORK and MSG_MORE ---- */

struct um_cork {
    struct um_name dest;
    struct um_how how;
    size_t len;
    uint8_t data[UM_DGRAM_MAX];
};

static ssize_t send_corked(struct um_switchboard *sb, struct um_sock *sock,
                           int program_fd)
{
    struct um_cork *cork = sock->dgram->cork;
    sock->dgram->cork = NULL;
    cork->how.program_fd = program_fd;
    ssize_t rc =
        um_udp_send(sb, sock, &cork->dest, &cork->how, cork->data, cork->len);
    free(cork);
    return rc;
}

void um_udp_uncork(struct um_switchboard *sb, struct um_sock *sock)
{
    um_dgram_drain(sb, sock);
    if (sock->dgram->cork)
        send_corked(sb, sock, -1);
}

/* The first part says where it goes; what later ones say is not looked at. */
static int begin_cork(struct um_sock *sock, const struct um_name *dest,
                      const struct um_how *how)
{
    if (!dest && sock->state != UM_CONNECTED)
        return -EDESTADDRREQ;
    if (dest && dest->port == 0)
        return -EINVAL;
    struct um_cork *cork = malloc(sizeof *cork);
    if (!cork)
        return -ENOBUFS;
    cork->dest = dest ? *dest : sock->peer;
    cork->how = *how;
    cork->len = 0;
    sock->dgram->cork = cork;
    return 0;
}

ssize_t um_udp_append(struct um_switchboard *sb, struct um_sock *sock,
                      const struct um_name *dest, const struct um_how *how,
                      const void *data, size_t len)
{
    int rc = sock->dgram->cork ? 0 : begin_cork(sock, dest, how);
    if (rc < 0)
        return rc;
    struct um_cork *cork = sock->dgram->cork;
    size_t max = um_addr_is_v4(cork->dest.addr) ? UDP_MAX_V4 : UDP_MAX_V6;
    if (len > max - cork->len) {
        sock->dgram->cork = NULL;
        free(cork);
        return -EMSGSIZE;
    }
    memcpy(cork->data + cork->len, data, len);
    cork->len += len;
    if (how->more || um_option_int(sock, IPPROTO_UDP, UDP_CORK, 0))
        return (ssize_t)len;
    ssize_t sent = send_corked(sb, sock, how->program_fd);
    return sent < 0 ? sent : (ssize_t)len;
}
