/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dgram.c - the surrogate of a datagram socket, and its queue
 *
 * The program holds one end of a SEQPACKET pair from socket() on, we hold the
 * other. Datagrams for the program are sent into the pair, so poll, read,
 * recv and recvmmsg see them without us; what the program sends without an
 * address comes out at our end. SEQPACKET and not DGRAM, because a DGRAM pair
 * does not tell when the program has closed its last copy; this one gives HUP.
 *
 * The trap is the address of the sender. A program may mix recv(), which is
 * never stopped, with recvfrom(), which is, so a queue of addresses beside the
 * pair gets out of step. It is brought back in step by SIOCOUTQ on our end:
 * the sum of what the kernel charges for the datagrams that the program has
 * not taken yet. The charge is a function of the length (768 for 0 to 128
 * bytes, 2304 for 1472, ... on x86-64), measured once per length on a pair
 * that nobody else reads. Entries are dropped from the front until the sum
 * agrees; the front one then belongs to the datagram that comes next. What
 * this cannot tell apart: two threads that receive from one socket at the very
 * same time, one of them by recv().
 *
 * A pending error or one in the error queue (errors.c) shows in poll by a
 * token, an empty datagram in the queue. There is one as long as there is an
 * error; stopped receives pass it over. recv() sees 0 bytes and has taken it.
 *
 * A datagram that was taken for a call which a signal then abandoned goes back
 * to the front: it is sent again, and so are all that wait, in order.
 *
 * Our end is never shut down, and a datagram that does not fit is dropped, as
 * UDP does. See surrogate.md's findings in docs/design.md.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "policy.h"
#include "uplink.h"

/* Room for a burst: the kernel's default holds 92 datagrams of 1200 bytes. */
enum { SURROGATE_BUFFER = 4 << 20, QUEUE_FIRST_ROOM = 16 };

/* How much of a program's output is sent on before others get their turn. */
enum { DRAIN_BATCH = 128 };

/* ---- what all share ---- */

static void dgrams_free(struct um_dgrams *dgrams)
{
    for (int i = 0; i < 2; i++)
        if (dgrams->gauge[i] >= 0)
            close(dgrams->gauge[i]);
    free(dgrams->charges);
    free(dgrams);
}

struct um_dgrams *um_dgrams_of(struct um_switchboard *sb)
{
    if (sb->dgrams)
        return sb->dgrams;
    struct um_dgrams *dgrams = calloc(1, sizeof *dgrams);
    if (!dgrams)
        return NULL;
    um_list_init(&dgrams->raws);
    um_list_init(&dgrams->netlinks);
    um_list_init(&dgrams->forwards);
    dgrams->charges = calloc(UM_DGRAM_MAX + 1, sizeof *dgrams->charges);
    int rc = um_dgram_pair(SOCK_CLOEXEC | SOCK_NONBLOCK, &dgrams->gauge[1]);
    dgrams->gauge[0] = rc;
    if (rc < 0 || !dgrams->charges) {
        if (rc < 0)
            dgrams->gauge[1] = -1;
        dgrams_free(dgrams);
        return NULL;
    }
    sb->dgrams = dgrams;
    return dgrams;
}

void um_dgrams_destroy(struct um_switchboard *sb)
{
    if (!sb->dgrams)
        return;
    um_forwards_destroy(sb, sb->dgrams, NULL);
    dgrams_free(sb->dgrams);
    sb->dgrams = NULL;
}

/* What the kernel accounts for a datagram of len bytes. */
static uint32_t charge_of(struct um_dgrams *dgrams, const void *data,
                          size_t len)
{
    if (!dgrams->charges[len]) {
        int charge = 0;
        char sink;
        if (send(dgrams->gauge[1], data, len, MSG_DONTWAIT) < 0)
            return 0;
        if (ioctl(dgrams->gauge[1], SIOCOUTQ, &charge) < 0)
            charge = 0;
        (void)recv(dgrams->gauge[0], &sink, sizeof sink, MSG_DONTWAIT);
        dgrams->charges[len] = (uint32_t)charge;
    }
    return dgrams->charges[len];
}

/* ---- the queue of arrivals ---- */

static struct um_arrival *front(struct um_dgram *dgram)
{
    return &dgram->queue[dgram->head];
}

static void pop(struct um_dgram *dgram)
{
    dgram->charged -= front(dgram)->charge;
    if (front(dgram)->is_token)
        dgram->has_token = false;
    dgram->head = (dgram->head + 1) & (dgram->room - 1);
    dgram->count--;
}

static bool grow(struct um_dgram *dgram)
{
    uint32_t room = dgram->room ? 2 * dgram->room : QUEUE_FIRST_ROOM;
    struct um_arrival *queue = calloc(room, sizeof *queue);
    if (!queue)
        return false;
    for (uint32_t i = 0; i < dgram->count; i++)
        queue[i] = dgram->queue[(dgram->head + i) & (dgram->room - 1)];
    free(dgram->queue);
    dgram->queue = queue;
    dgram->room = room;
    dgram->head = 0;
    return true;
}

/* Forget what the program has taken by itself. A token that is gone has done
 * its work: the program saw something. */
static void settle(struct um_dgram *dgram)
{
    int left = 0;
    if (!dgram->count || ioctl(dgram->watch.fd, SIOCOUTQ, &left) < 0)
        return;
    while (dgram->count && dgram->charged > (uint64_t)left) {
        if (front(dgram)->is_token)
            dgram->sock->error = 0;
        pop(dgram);
    }
}

/* Make sure that one more entry fits. */
static bool make_room(struct um_dgram *dgram)
{
    if (dgram->count < dgram->room)
        return true;
    settle(dgram);
    return dgram->count < dgram->room / 2 || grow(dgram);
}

static void push(struct um_dgram *dgram, const struct um_arrival *arrival)
{
    uint32_t at = (dgram->head + dgram->count++) & (dgram->room - 1);
    dgram->queue[at] = *arrival;
    dgram->charged += arrival->charge;
    if (arrival->is_token)
        dgram->has_token = true;
}

/* A unix socket has its bound at the sender; the receiver's is ours to keep. As
 * in UDP, one datagram always fits. */
static bool receive_buffer_full(struct um_dgram *dgram, uint32_t charge)
{
    int room = um_option_int(dgram->sock, SOL_SOCKET, SO_RCVBUF, 0);
    if (!room || dgram->charged + charge <= (uint64_t)room)
        return false;
    settle(dgram);
    return dgram->charged && dgram->charged + charge > (uint64_t)room;
}

bool um_dgram_put(struct um_switchboard *sb, struct um_sock *sock,
                  struct um_arrival *arrival, const void *data)
{
    struct um_dgram *dgram = sock->dgram;
    struct um_dgrams *dgrams = um_dgrams_of(sb);
    if (!dgrams || arrival->len > UM_DGRAM_MAX || !make_room(dgram))
        return false;
    arrival->charge = charge_of(dgrams, data, arrival->len);
    arrival->drops = dgram->drops;
    if ((!arrival->is_token && receive_buffer_full(dgram, arrival->charge)) ||
        send(dgram->watch.fd, data, arrival->len, MSG_DONTWAIT | MSG_NOSIGNAL) <
            0) {
        dgram->drops++;
        return false;
    }
    clock_gettime(CLOCK_REALTIME, &arrival->when);
    push(dgram, arrival);
    return true;
}

void um_dgram_deliver(struct um_switchboard *sb, struct um_sock *sock,
                      struct um_arrival *arrival, const void *data)
{
    bool came_in = sock->inner != NULL;
    if (came_in)
        sock = um_uplink_inward(sock, &arrival->from, arrival->to);
    if (!sock || (came_in && sock->state == UM_CONNECTED &&
                  !um_name_equal(&arrival->from, &sock->peer)))
        return;
    if (!(sock->stack->deeds & UM_DEED_RECEIVE) ||
        !um_policy_holds(sb, sock, arrival, data))
        um_dgram_hand_over(sb, sock, arrival, data);
}

void um_dgram_hand_over(struct um_switchboard *sb, struct um_sock *sock,
                        struct um_arrival *arrival, const void *data)
{
    const uint8_t *at = data;
    size_t left = arrival->len, step = arrival->segment;
    if (step && um_option_int(sock, IPPROTO_UDP, UDP_GRO, 0))
        step = 0;
    arrival->segment = step ? 0 : arrival->segment;
    do {
        arrival->len = (uint32_t)(step && step < left ? step : left);
        if (um_dgram_put(sb, sock, arrival, at))
            um_wake(sb, sock, false);
        at += arrival->len;
        left -= arrival->len;
    } while (left);
}

uint32_t um_dgram_waiting(struct um_sock *sock)
{
    settle(sock->dgram);
    return sock->dgram->count - sock->dgram->has_token;
}

size_t um_dgram_waiting_bytes(const struct um_dgram *dgram)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < dgram->count; i++)
        bytes += dgram->queue[(dgram->head + i) & (dgram->room - 1)].len;
    return bytes;
}

int um_dgram_next_size(struct um_sock *sock)
{
    struct um_dgram *dgram = sock->dgram;
    if (!um_dgram_waiting(sock))
        return 0;
    uint32_t at = dgram->head;
    if (front(dgram)->is_token)
        at = (at + 1) & (dgram->room - 1);
    return (int)dgram->queue[at].len;
}

/* ---- taking for stopped receives ---- */

/* Take one datagram out of the surrogate. Return: bytes or negative errno. */
static ssize_t take_bytes(int program_fd, bool peek, void *buf)
{
    ssize_t n = recv(program_fd, buf, UM_DGRAM_MAX,
                     MSG_DONTWAIT | (peek ? MSG_PEEK : 0));
    return n < 0 ? -errno : n;
}

/* Send count datagrams from the front again, to the end. */
static void requeue(struct um_dgram *dgram, int program_fd, uint32_t count,
                    bool keep_token)
{
    void *buf = count ? malloc(UM_DGRAM_MAX) : NULL;
    for (; buf && count; count--) {
        ssize_t n = take_bytes(program_fd, false, buf);
        if (n < 0)
            break;
        struct um_arrival next = *front(dgram);
        pop(dgram);
        if (next.is_token && !keep_token)
            continue;
        if (send(dgram->watch.fd, buf, (size_t)n,
                 MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            push(dgram, &next);
    }
    free(buf);
}

void um_dgram_alert(struct um_switchboard *sb, struct um_sock *sock)
{
    struct um_arrival token = {.is_token = true};
    int error = sock->error;
    settle(sock->dgram);
    sock->error = error; /* a token that is gone was another error's */
    if (!sock->dgram->has_token)
        um_dgram_put(sb, sock, &token, "");
    um_wake(sb, sock, false);
}

void um_dgram_calm(struct um_sock *sock, int program_fd)
{
    struct um_dgram *dgram = sock->dgram;
    settle(dgram);
    if (!dgram->has_token || sock->error || dgram->report_count)
        return;
    requeue(dgram, program_fd, front(dgram)->is_token ? 1 : dgram->count,
            false);
}

int um_dgram_take(struct um_sock *sock, int program_fd, bool peek,
                  struct um_arrival *ret, void *buf)
{
    struct um_dgram *dgram = sock->dgram;
    settle(dgram);
    int error = um_error_take(sock, program_fd);
    if (error < 0)
        return error;
    if (dgram->count == dgram->has_token)
        return sock->shut_read ? -ESHUTDOWN : -EAGAIN;
    if (front(dgram)->is_token)
        requeue(dgram, program_fd, 1, true);
    ssize_t n = take_bytes(program_fd, peek, buf);
    if (n < 0)
        return (int)n;
    *ret = *front(dgram);
    ret->len = (uint32_t)n;
    if (!peek)
        pop(dgram);
    return 0;
}

void um_dgram_return(struct um_switchboard *sb, struct um_sock *sock,
                     int program_fd, struct um_arrival *arrival,
                     const void *data)
{
    struct um_dgram *dgram = sock->dgram;
    struct timespec when = arrival->when;
    settle(dgram);
    if (!um_dgram_put(sb, sock, arrival, data))
        return;
    uint32_t older = dgram->count - 1;
    dgram->queue[(dgram->head + older) & (dgram->room - 1)].when = when;
    /* One by one from the front to the back: those that wait follow. */
    requeue(dgram, program_fd, older, true);
    um_wake(sb, sock, false);
}

/* ---- sending ---- */

void um_dgram_set_class(const struct um_sock *sock, const struct um_how *how,
                        struct um_arrival *arrival)
{
    bool v4 = um_addr_is_v4(arrival->to);
    bool many = um_addr_is_multicast(arrival->to);
    int level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    int ttl_name = v4 ? (many ? IP_MULTICAST_TTL : IP_TTL)
                      : (many ? IPV6_MULTICAST_HOPS : IPV6_UNICAST_HOPS);
    int ttl = um_option_int(sock, level, ttl_name, -1);
    int tos = um_option_int(sock, level, v4 ? IP_TOS : IPV6_TCLASS, 0);
    if (ttl < 0)
        ttl = many ? 1 : UM_TTL;
    arrival->ttl = how->has_ttl ? how->ttl : (uint8_t)ttl;
    arrival->tos = how->has_tos ? how->tos : (uint8_t)(tos < 0 ? 0 : tos);
}

int um_dgram_may_send(struct um_sock *sock, const struct um_how *how)
{
    int rc = how->program_fd < 0 ? 0 : um_error_take(sock, how->program_fd);
    return rc == 0 && sock->shut_write ? -EPIPE : rc;
}

ssize_t um_dgram_send(struct um_switchboard *sb, struct um_sock *sock,
                      const struct um_name *dest, const struct um_how *how,
                      const void *data, size_t len)
{
    bool icmp = um_is_icmp(sock);
    if (!icmp && (sock->dgram->cork || how->more ||
                  um_option_int(sock, IPPROTO_UDP, UDP_CORK, 0)))
        return um_udp_append(sb, sock, dest, how, data, len);
    if (!dest && sock->state != UM_CONNECTED)
        return -EDESTADDRREQ;
    if (icmp)
        return um_icmp_send(sb, sock, dest ? dest : &sock->peer, how, data,
                            len);
    if (dest && dest->port == 0)
        return -EINVAL;
    if (!dest)
        dest = &sock->peer;
    return um_udp_send(sb, sock, dest, how, data, len);
}

/* What the program sent without our being asked. */
static void send_on(struct um_switchboard *sb, struct um_sock *sock, size_t len)
{
    if (sock->domain == AF_NETLINK) {
        um_netlink_request(sb, sock, sb->scratch, len);
        return;
    }
    struct um_how how = {.program_fd = -1};
    ssize_t rc = um_dgram_send(sb, sock, NULL, &how, sb->scratch, len);
    /* Natively the call fails with EDESTADDRREQ; this one is over. */
    if (rc < 0 && rc != -EDESTADDRREQ && rc != -EPIPE)
        um_error_pend(sb, sock, (int)-rc);
}

void um_dgram_drain(struct um_switchboard *sb, struct um_sock *sock)
{
    int end = sock->dgram->watch.fd;
    for (int i = 0; i < DRAIN_BATCH; i++) {
        ssize_t n = recv(end, sb->scratch, UM_SCRATCH, MSG_DONTWAIT);
        if (n < 0)
            return;
        int more = 0;
        /* 0 bytes: an empty datagram, or the end if nothing follows. */
        if (n == 0 && sock->shut_write &&
            (ioctl(end, FIONREAD, &more) < 0 || more == 0))
            return;
        send_on(sb, sock, (size_t)n);
    }
}

/* Whatever the program sent before it closed its last copy still goes out. */
static void closed_by_program(struct um_switchboard *sb, struct um_sock *sock)
{
    int left = 1;
    while (left > 0) {
        ssize_t n =
            recv(sock->dgram->watch.fd, sb->scratch, UM_SCRATCH, MSG_DONTWAIT);
        if (n < 0 && errno != ECONNRESET)
            break;
        if (n > 0)
            send_on(sb, sock, (size_t)n);
        if (ioctl(sock->dgram->watch.fd, FIONREAD, &left) < 0)
            break;
    }
    um_sock_destroy(sb, sock);
}

static void surrogate_ready(struct um_switchboard *sb, struct um_watch *watch,
                            uint32_t events)
{
    struct um_sock *sock = UM_CONTAINER(watch, struct um_dgram, watch)->sock;
    if (events & EPOLLHUP)
        closed_by_program(sb, sock);
    else
        um_dgram_drain(sb, sock);
}

/* ---- birth and end ---- */

void um_dgram_size(int fd)
{
    int size = SURROGATE_BUFFER;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

int um_dgram_pair(int flags, int *end)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, ends) < 0)
        return -errno;
    um_dgram_size(ends[0]);
    um_dgram_size(ends[1]);
    *end = ends[1];
    return ends[0];
}

int um_dgram_open(struct um_switchboard *sb, struct um_sock *sock, int end)
{
    struct um_dgrams *dgrams = um_dgrams_of(sb);
    struct um_dgram *dgram = dgrams ? calloc(1, sizeof *dgram) : NULL;
    if (!dgram) {
        close(end);
        return -ENOMEM;
    }
    dgram->sock = sock;
    dgram->host[0].watch.fd = dgram->host[1].watch.fd = -1;
    dgram->watch.fn = surrogate_ready;
    um_list_init(&dgram->raws);
    um_list_init(&dgram->reports);
    int rc = um_watch_add(sb, &dgram->watch, end, EPOLLIN);
    if (rc < 0) {
        close(end);
        free(dgram);
        return rc;
    }
    if (sock->type == SOCK_RAW && sock->domain != AF_NETLINK)
        um_list_append(&dgrams->raws, &dgram->raws);
    sock->dgram = dgram;
    sock->reports_end = true;
    return 0;
}

void um_dgram_destroy(struct um_switchboard *sb, struct um_sock *sock)
{
    struct um_dgram *dgram = sock->dgram;
    if (!dgram)
        return;
    sock->dgram = NULL;
    um_host_sides_close(sb, dgram);
    um_watch_remove(sb, &dgram->watch);
    close(dgram->watch.fd);
    um_list_remove(&dgram->raws);
    um_reports_destroy(dgram);
    free(dgram->cork);
    free(dgram->queue);
    free(dgram->known);
    um_later_free(sb, dgram);
}

/* ---- names ---- */

/* The family that a socket's own address ties it to; 0 for none. */
static int family_of(const struct um_sock *sock)
{
    if (sock->domain == AF_INET)
        return AF_INET;
    if (sock->v6only)
        return AF_INET6;
    if (um_addr_equal(sock->local.addr, um_any6))
        return 0;
    return um_addr_is_v4(sock->local.addr) ? AF_INET : AF_INET6;
}

int um_dgram_check_dest(const struct um_sock *sock, struct um_name *dest)
{
    int family = um_addr_is_v4(dest->addr) ? AF_INET : AF_INET6;
    int tied = family_of(sock);
    /* ip6_dst_lookup_tail() knows a mapped source, the rest finds no route. */
    if (tied && tied != family)
        return family == AF_INET6 && sock->domain == AF_INET6 ? -EAFNOSUPPORT
                                                              : -ENETUNREACH;
    if (um_addr_is_any(dest->addr))
        memcpy(dest->addr, family == AF_INET ? um_loopback4 : um_loopback6, 16);
    if (um_stack_broadcasts(sock->stack, dest->addr) &&
        !um_option_int(sock, SOL_SOCKET, SO_BROADCAST, 0))
        return -EACCES;
    return 0;
}

/* A raw socket has a name but no port that others could not have. */
static int take_name(struct um_sock *sock, const struct um_name *name)
{
    if (sock->type != SOCK_RAW)
        return um_port_take(sock, name);
    sock->local = *name;
    sock->local.port = 0;
    return 0;
}

int um_dgram_autobind(struct um_sock *sock)
{
    if (sock->bind || sock->type == SOCK_RAW)
        return 0;
    struct um_name name = sock->local;
    name.port = 0;
    int rc = take_name(sock, &name);
    if (rc == 0)
        sock->dgram->auto_port = true;
    return rc == -EADDRINUSE ? -EAGAIN : rc;
}

static bool may_bind(const struct um_sock *sock, const uint8_t addr[16])
{
    return um_addr_is_any(addr) || um_addr_is_multicast(addr) ||
           um_stack_owns(sock->stack, addr) ||
           um_stack_broadcasts(sock->stack, addr) ||
           um_option_int(sock, IPPROTO_IP, IP_FREEBIND, 0);
}

/* The wildcard that the socket had before connect() chose an address. */
static void forget_address(struct um_sock *sock)
{
    if (!sock->addr_bound)
        memcpy(sock->local.addr, sock->domain == AF_INET ? um_any4 : um_any6,
               16);
}

static void undo_bind(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    um_port_release(sock);
    sock->local.port = 0;
    sock->addr_bound = sock->dgram->auto_port = false;
    forget_address(sock);
}

um_verdict um_dgram_bind(struct um_call *call, const struct um_name *name)
{
    struct um_sock *sock = call->sock;
    if (sock->bind || sock->state == UM_CONNECTED)
        return -EINVAL;
    if (sock->v6only && um_addr_is_v4(name->addr))
        return -EINVAL;
    if (!may_bind(sock, name->addr))
        return -EADDRNOTAVAIL;
    int rc = take_name(sock, name);
    if (rc < 0)
        return rc;
    sock->addr_bound = !um_addr_is_any(name->addr);
    sock->dgram->auto_port = name->port == 0;
    call->undo = undo_bind;
    return 0;
}

um_verdict um_dgram_connect(struct um_call *call, const struct um_name *name)
{
    struct um_sock *sock = call->sock;
    struct um_name peer = *name, host;
    uint8_t source[16];
    um_verdict verdict =
        um_policy_ask(call, UM_DEED_CONNECT, &sock->local, name);
    if (verdict != UM_ALLOWED)
        return verdict;
    um_dgram_drain(call->sb, sock);
    um_policy_told_end(call->sb, sock);
    if (sock->state == UM_CONNECTED)
        forget_address(sock);
    int rc = um_dgram_check_dest(sock, &peer);
    if (rc == 0)
        rc = um_sock_route(sock, &peer, &host, source);
    if (rc == UM_ROAD_RELAY) { /* is there a way out, in enclosing views? */
        struct um_way way;
        um_uplink_way(sock->stack, sock->protocol, &host, &way);
        rc = way.road < 0 ? way.road : rc;
    }
    if (rc > UM_ROAD_LOCAL && um_addr_is_loopback(sock->local.addr))
        rc = -EINVAL;
    if (rc >= 0)
        rc = um_dgram_autobind(sock);
    if (rc < 0) {
        sock->peer = peer;
        um_policy_note(call->sb, sock, UM_DEED_FAILED, -rc);
        return rc;
    }
    if (um_addr_is_multicast(peer.addr) && um_addr_is_v4(peer.addr))
        um_stack_card_address(
            sock->stack, um_options_multicast_card(sock, true), true, source);
    if (!sock->addr_bound)
        memcpy(sock->local.addr, source, 16);
    sock->peer = peer;
    sock->state = UM_CONNECTED;
    sock->told_end = false;
    um_policy_note(call->sb, sock, UM_DEED_CONNECTED, 0);
    return 0;
}

um_verdict um_dgram_disconnect(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    um_dgram_drain(call->sb, sock);
    um_policy_told_end(call->sb, sock);
    forget_address(sock);
    if (sock->dgram->auto_port) {
        um_port_release(sock);
        sock->local.port = 0;
        sock->dgram->auto_port = false;
    }
    memset(&sock->peer, 0, sizeof sock->peer);
    sock->state = UM_FRESH;
    return 0;
}

/* Our end reports HUP once both directions are shut, as if the program had
 * closed. So it is watched no longer then, and the collector has to find the
 * socket's end. */
um_verdict um_dgram_shutdown(struct um_call *call, int how)
{
    struct um_sock *sock = call->sock;
    if (how < SHUT_RD || how > SHUT_RDWR)
        return -EINVAL;
    um_dgram_drain(call->sb, sock);
    sock->shut_read |= how != SHUT_WR;
    sock->shut_write |= how != SHUT_RD;
    if (sock->shut_read && sock->shut_write && sock->reports_end) {
        um_watch_remove(call->sb, &sock->dgram->watch);
        sock->reports_end = false;
    } else if (sock->shut_write && sock->reports_end) {
        um_watch_change(call->sb, &sock->dgram->watch, 0);
    }
    shutdown(call->fd, how);
    if (sock->shut_read)
        um_wake(call->sb, sock, true);
    return sock->state == UM_CONNECTED ? 0 : -ENOTCONN;
}
