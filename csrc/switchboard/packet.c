/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * packet.c - the packet road: connections that a stack server makes
 *
 * What is said is in stackd/packet_road.h. A connection is a struct um_conn, as
 * on the relay road; what the pump is there, the stack server is here. We keep a
 * copy of our end of the surrogate until the stack server says that all is over,
 * and never touch its bytes: so a reset can be shown to the program, be it the
 * peer's or that of a stack server which has died.
 *
 * Of listeners that share a name the stack server knows one; of sockets that
 * share a port it knows the port.
 */
#include "packet.h"
#include "views.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../stackd/packet_road.h"

enum { BUCKETS = 4096, MESSAGES_AT_ONCE = 64 };

/* A message that waits for room. */
struct unsent {
    struct unsent *next;
    int fd;
    size_t len;
    uint8_t bytes[];
};

/* A name that somebody listens at. */
struct um_heard {
    struct um_heard *next;
    struct um_name name;
    bool v6only;
    int listeners;
    uint64_t id;
};

/* A multicast group that sockets have joined on a card. */
struct group {
    struct group *next;
    uint8_t addr[16];
    int card, members;
};

struct um_line {
    struct um_watch watch; /* fd -1: the stack server is gone */
    struct um_stack *stack;
    struct unsent *unsent, **unsent_end;
    uint64_t serial; /* of our ids */
    struct um_conn *conns[BUCKETS];
    struct um_heard *heard;
    struct group *groups;
    uint16_t udp_ports[65536]; /* how many sockets have each */
    uint8_t message[UM_PACKET_DATA_MAX];
};

/* ---- messages ---- */

static void name_to_packet(const struct um_name *name,
                           struct um_packet_name *ret)
{
    memcpy(ret->addr, name->addr, 16);
    ret->port = name->port;
    ret->card = name->scope;
}

static void name_from_packet(const struct um_packet_name *name,
                             struct um_name *ret)
{
    memcpy(ret->addr, name->addr, 16);
    ret->port = name->port;
    ret->scope = name->card;
}

static int send_now(int line, struct iovec *iov, size_t count, int fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return sendmsg(line, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void watch_for(struct um_line *line, uint32_t events)
{
    um_watch_change(line->stack->sb, &line->watch, events);
}

/* data: packet->len bytes. fd: goes along, and stays the caller's; or -1. */
static void tell_with(struct um_line *line, const struct um_packet *packet,
                      const void *data, int fd)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)packet, sizeof *packet},
                           {(void *)(uintptr_t)data, packet->len}};
    if (line->watch.fd < 0)
        return;
    if (!line->unsent && send_now(line->watch.fd, iov, 2, fd) != -EAGAIN)
        return; /* an end of the stack server is noticed by its hang-up */
    size_t len = sizeof *packet + packet->len;
    struct unsent *unsent = malloc(sizeof *unsent + len);
    if (!unsent)
        return;
    unsent->next = NULL;
    unsent->fd = fd >= 0 ? dup(fd) : -1;
    unsent->len = len;
    memcpy(unsent->bytes, packet, sizeof *packet);
    if (packet->len)
        memcpy(unsent->bytes + sizeof *packet, data, packet->len);
    *line->unsent_end = unsent;
    line->unsent_end = &unsent->next;
    watch_for(line, EPOLLIN | EPOLLOUT);
}

static void tell(struct um_line *line, const struct um_packet *packet, int fd)
{
    tell_with(line, packet, NULL, fd);
}

static void drop_first(struct um_line *line)
{
    struct unsent *unsent = line->unsent;
    line->unsent = unsent->next;
    if (!line->unsent)
        line->unsent_end = &line->unsent;
    if (unsent->fd >= 0)
        close(unsent->fd);
    free(unsent);
}

static void send_unsent(struct um_line *line)
{
    while (line->unsent) {
        struct iovec iov = {line->unsent->bytes, line->unsent->len};
        if (send_now(line->watch.fd, &iov, 1, line->unsent->fd) == -EAGAIN)
            return;
        drop_first(line);
    }
    watch_for(line, EPOLLIN);
}

/* ---- connections ---- */

static struct um_conn **place_of(struct um_line *line, uint64_t id)
{
    struct um_conn **place = &line->conns[id % BUCKETS];
    while (*place && (*place)->id != id)
        place = &(*place)->next;
    return place;
}

static struct um_conn *new_conn(struct um_line *line, uint64_t id)
{
    struct um_conn *conn = um_conn_create();
    if (!conn)
        return NULL;
    conn->line = line;
    conn->id = id;
    struct um_conn **place = place_of(line, id);
    conn->next = *place;
    *place = conn;
    return conn;
}

static void forget(struct um_conn *conn)
{
    *place_of(conn->line, conn->id) = conn->next;
}

static uint32_t tcp_option(const struct um_sock *sock, int name)
{
    return (uint32_t)um_option_int(sock, IPPROTO_TCP, name, 0);
}

static void read_options(const struct um_sock *sock, struct um_packet *packet,
                         struct um_packet_options *ret)
{
    bool v4 = um_addr_is_v4(sock->peer.addr);
    int level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
    int ttl = um_option_int(sock, level, v4 ? IP_TTL : IPV6_UNICAST_HOPS, -1);
    int tos = um_option_int(sock, level, v4 ? IP_TOS : IPV6_TCLASS, 0);
    struct linger linger;
    packet->ttl = (uint8_t)(ttl > 0 ? ttl : UM_TTL);
    packet->tos = (uint8_t)(tos > 0 ? tos : 0);
    packet->len = sizeof *ret;
    *ret = (struct um_packet_options){
        .deaf = sock->shut_read,
        .keep_alive = um_option_int(sock, SOL_SOCKET, SO_KEEPALIVE, 0) != 0,
        .keep_idle_ms = tcp_option(sock, TCP_KEEPIDLE) * 1000,
        .keep_interval_ms = tcp_option(sock, TCP_KEEPINTVL) * 1000,
        .keep_count = tcp_option(sock, TCP_KEEPCNT),
        .user_timeout_ms = tcp_option(sock, TCP_USER_TIMEOUT),
        .mss = (uint16_t)tcp_option(sock, TCP_MAXSEG),
        .reset = um_option_linger(sock, &linger) && linger.l_onoff &&
                 linger.l_linger == 0};
}

void um_packet_options(const struct um_sock *sock)
{
    const struct um_conn *conn = sock->dial ? sock->dial->conn : sock->conn;
    if (!conn || !conn->line)
        return;
    struct um_packet packet = {.kind = UM_PACKET_OPTIONS, .id = conn->id};
    struct um_packet_options options;
    read_options(sock, &packet, &options);
    tell_with(conn->line, &packet, &options, -1);
}

struct um_conn *um_packet_connect(const struct um_sock *sock,
                                  const struct um_name *peer)
{
    struct um_line *line = sock->stack->line;
    struct um_conn *conn = new_conn(line, ++line->serial);
    if (!conn)
        return NULL;
    struct um_packet packet = {.kind = UM_PACKET_CONNECT, .id = conn->id};
    struct um_packet_options options;
    read_options(sock, &packet, &options);
    name_to_packet(&sock->local, &packet.local);
    name_to_packet(peer, &packet.remote);
    tell_with(line, &packet, &options, -1);
    return conn;
}

void um_packet_start(struct um_conn *conn, int end)
{
    struct um_packet packet = {.kind = UM_PACKET_START, .id = conn->id};
    conn->surrogate.fd = end;
    tell(conn->line, &packet, end);
}

void um_packet_reset(struct um_conn *conn)
{
    struct um_packet packet = {.kind = UM_PACKET_CLOSE, .id = conn->id};
    tell(conn->line, &packet, -1);
}

void um_packet_drop(struct um_conn *conn)
{
    um_packet_reset(conn);
    forget(conn);
    um_conn_destroy(conn);
}

/* The stack server has nothing to do with it any more. */
static void over(struct um_line *line, struct um_conn *conn, int error)
{
    forget(conn);
    if (conn->dial) {
        conn->dial->conn = NULL;
        um_dial_fail(conn->dial, error);
    }
    if (error && conn->surrogate.fd >= 0)
        um_conn_plant_byte(conn);
    if (conn->surrogate.fd >= 0)
        close(conn->surrogate.fd);
    um_conn_over(line->stack->sb, conn);
}

/* ---- listeners ---- */

static bool is_heard_as(const struct um_heard *heard,
                        const struct um_sock *sock)
{
    return um_name_equal(&heard->name, &sock->local) &&
           heard->v6only == sock->v6only;
}

void um_packet_listen(struct um_sock *sock)
{
    struct um_line *line = sock->stack->line;
    if (!line || um_addr_is_loopback(sock->local.addr))
        return;
    struct um_heard *heard = line->heard;
    while (heard && !is_heard_as(heard, sock))
        heard = heard->next;
    if (!heard) {
        heard = calloc(1, sizeof *heard);
        if (!heard)
            return;
        heard->name = sock->local;
        heard->v6only = sock->v6only;
        heard->id = ++line->serial;
        heard->next = line->heard;
        line->heard = heard;
        struct um_packet packet = {.kind = UM_PACKET_LISTEN,
                                   .id = heard->id,
                                   .flags =
                                       sock->v6only ? UM_PACKET_V6ONLY : 0};
        name_to_packet(&sock->local, &packet.local);
        tell(line, &packet, -1);
    }
    heard->listeners++;
    sock->listen->heard = heard;
}

void um_packet_unlisten(struct um_sock *sock)
{
    struct um_line *line = sock->stack->line;
    struct um_heard *heard = sock->listen ? sock->listen->heard : NULL;
    if (!heard)
        return;
    sock->listen->heard = NULL;
    if (--heard->listeners)
        return;
    struct um_heard **at = &line->heard;
    while (*at != heard)
        at = &(*at)->next;
    *at = heard->next;
    struct um_packet packet = {.kind = UM_PACKET_CLOSE, .id = heard->id};
    tell(line, &packet, -1);
    free(heard);
}

/* Somebody begins to connect to a name. A listener that has ended without a word
 * is forgotten; the last one's end closes the name. */
static void asked(struct um_line *line, const struct um_packet *packet)
{
    struct um_switchboard *sb = line->stack->sb;
    struct um_name local, peer;
    name_from_packet(&packet->local, &local);
    name_from_packet(&packet->remote, &peer);
    for (;;) {
        struct um_sock *listener =
            um_port_find(line->stack, IPPROTO_TCP, &local, &peer);
        if (!listener || um_sock_alive(sb, listener))
            break;
        um_sock_destroy(sb, listener);
    }
    struct um_packet admit = {.kind = UM_PACKET_ADMIT, .id = packet->id};
    tell(line, &admit, -1);
}

static void accepted(struct um_line *line, const struct um_packet *packet)
{
    struct um_switchboard *sb = line->stack->sb;
    struct um_name local, peer;
    name_from_packet(&packet->local, &local);
    name_from_packet(&packet->remote, &peer);
    struct um_conn *conn = new_conn(line, packet->id);
    if (!conn)
        return; /* it stays unanswered */
    conn->mss = packet->mss;
    for (;;) {
        struct um_sock *listener =
            um_port_find(line->stack, IPPROTO_TCP, &local, &peer);
        int end = listener ? um_stream_open(SOCK_NONBLOCK) : -1;
        if (end < 0) {
            um_packet_drop(conn);
            return;
        }
        int rc = um_offer(sb, listener, end, &local, &peer, conn, NULL);
        if (rc == 0) {
            um_packet_start(conn, end);
            return;
        }
        close(end);
        if (rc == -EAGAIN)
            um_dial_incoming(sb, listener, -1, conn, &local, &peer);
        else if (rc != -ECONNREFUSED)
            um_packet_drop(conn);
        if (rc != -ECONNREFUSED)
            return;
    }
}

void um_packet_order(struct um_stack *stack, const void *packet, size_t len)
{
    if (stack->line && len == sizeof(struct um_packet))
        tell(stack->line, packet, -1);
}

/* ---- datagrams ---- */

void um_packet_port(struct um_stack *stack, int protocol, uint16_t port,
                    bool taken)
{
    struct um_line *line = stack->line;
    if (!line || protocol != IPPROTO_UDP)
        return;
    uint16_t *count = &line->udp_ports[port];
    *count = (uint16_t)(taken ? *count + 1 : *count - 1);
    struct um_packet packet = {.kind = UM_PACKET_PORT,
                               .flags = taken ? 0 : UM_PACKET_REMOVE,
                               .local.port = port};
    if (*count == (taken ? 1 : 0))
        tell(line, &packet, -1);
}

void um_packet_group(struct um_stack *stack, int card, const uint8_t addr[16],
                     bool joined)
{
    struct um_line *line = stack->line;
    struct um_packet packet = {.kind = UM_PACKET_GROUP,
                               .card = (uint32_t)card,
                               .flags = joined ? 0 : UM_PACKET_REMOVE};
    if (!line)
        return;
    memcpy(packet.remote.addr, addr, 16);
    struct group **at = &line->groups;
    while (*at && !((*at)->card == card && um_addr_equal((*at)->addr, addr)))
        at = &(*at)->next;
    if (!*at && joined && (*at = calloc(1, sizeof **at))) {
        memcpy((*at)->addr, addr, 16);
        (*at)->card = card;
    }
    struct group *group = *at;
    if (!group)
        return;
    group->members += joined ? 1 : -1;
    if (group->members == (joined ? 1 : 0))
        tell(line, &packet, -1);
    if (!group->members) {
        *at = group->next;
        free(group);
    }
}

/* One that finds no room is lost, as on a full link. */
void um_packet_send(struct um_stack *stack, int protocol,
                    const struct um_name *to, const struct um_arrival *arrival,
                    const void *data)
{
    struct um_line *line = stack->line;
    struct um_packet packet = {.kind = UM_PACKET_SEND,
                               .protocol = (uint16_t)protocol,
                               .card = (uint32_t)arrival->card,
                               .ttl = arrival->ttl,
                               .tos = arrival->tos,
                               .len = arrival->len};
    struct iovec iov[2] = {{&packet, sizeof packet},
                           {(void *)(uintptr_t)data, arrival->len}};
    name_to_packet(&arrival->from, &packet.local);
    name_to_packet(to, &packet.remote);
    if (line->watch.fd >= 0 && !line->unsent)
        send_now(line->watch.fd, iov, 2, -1);
}

static void received(struct um_line *line, const struct um_packet *packet)
{
    struct um_switchboard *sb = line->stack->sb;
    struct um_name to;
    struct um_arrival arrival = {.len = packet->len,
                                 .ttl = packet->ttl,
                                 .tos = packet->tos,
                                 .card = (int)packet->card};
    name_from_packet(&packet->remote, &arrival.from);
    name_from_packet(&packet->local, &to);
    memcpy(arrival.to, to.addr, 16);
    if (packet->protocol == IPPROTO_UDP)
        um_udp_received(sb, line->stack, &to, &arrival, line->message);
    else
        um_icmp_received(sb, line->stack, packet->protocol, &arrival,
                         line->message);
}

/* ---- what the stack server says ---- */

/* Python decides what becomes of the tables. */
static void tell_of_card(struct um_line *line, const struct um_packet *packet)
{
    struct um_event event = {.kind = UM_EVENT_CARD,
                             .stack = (uint32_t)line->stack->number,
                             .len = (uint32_t)sizeof *packet + packet->len};
    event.data = malloc(event.len);
    if (!event.data)
        return;
    memcpy(event.data, packet, sizeof *packet);
    memcpy(event.data + sizeof *packet, line->message, packet->len);
    um_tell_python(line->stack->sb, &event);
}

static void obey(struct um_line *line, const struct um_packet *packet)
{
    struct um_conn *conn;
    switch (packet->kind) {
    case UM_PACKET_ASK:
        asked(line, packet);
        break;
    case UM_PACKET_ACCEPTED:
        accepted(line, packet);
        break;
    case UM_PACKET_CONNECTED:
        conn = *place_of(line, packet->id);
        if (conn && conn->dial) {
            conn->mss = packet->mss;
            um_dial_stands(conn->dial);
        }
        break;
    case UM_PACKET_ENDED:
        conn = *place_of(line, packet->id);
        if (conn)
            over(line, conn, packet->error);
        break;
    case UM_PACKET_RECEIVED:
        received(line, packet);
        break;
    case UM_PACKET_READY: /* a listener's */
        if (packet->error)
            um_log(line->stack->sb, UM_LOG_ERROR,
                   "stack %d: no listener by packets: %s", line->stack->number,
                   strerror(packet->error));
        break;
    case UM_PACKET_HAS:
    case UM_PACKET_ROUTER:
    case UM_PACKET_DNS:
    case UM_PACKET_DOMAIN:
    case UM_PACKET_LOST:
    case UM_PACKET_FOUND:
        tell_of_card(line, packet);
        break;
    default:
        break;
    }
}

static void lost(struct um_line *line)
{
    struct um_switchboard *sb = line->stack->sb;
    struct um_packet packet = {.kind = UM_PACKET_LOST};
    tell_of_card(line, &packet);
    um_watch_remove(sb, &line->watch);
    close(line->watch.fd);
    line->watch.fd = -1;
    while (line->unsent)
        drop_first(line);
    for (int i = 0; i < BUCKETS; i++)
        while (line->conns[i])
            over(line, line->conns[i], ENETDOWN);
    um_log(sb, UM_LOG_ERROR,
           "the stack server of stack %d has died: its connections are reset, "
           "and its cards are down from now on",
           line->stack->number);
}

/* Return: false when there is no more. */
static bool take_message(struct um_line *line)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct um_packet packet;
    struct iovec iov[2] = {{&packet, sizeof packet},
                           {line->message, sizeof line->message}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t n = recvmsg(line->watch.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        lost(line);
        return false;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        int fd;
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
        close(fd); /* an end that we have, too */
    }
    if ((size_t)n >= sizeof packet && packet.len == (size_t)n - sizeof packet)
        obey(line, &packet);
    return true;
}

static void line_ready(struct um_switchboard *sb, struct um_watch *watch,
                       uint32_t events)
{
    (void)sb;
    struct um_line *line = UM_CONTAINER(watch, struct um_line, watch);
    if (events & EPOLLOUT)
        send_unsent(line);
    for (int i = 0; i < MESSAGES_AT_ONCE && take_message(line); i++)
        ;
}

/* ---- life ---- */

bool um_line_stands(const struct um_stack *stack)
{
    return stack->line && stack->line->watch.fd >= 0;
}

int um_line_add(struct um_switchboard *sb, int number, int fd)
{
    struct um_stack *stack = um_stack_find(sb, number);
    if (!stack || stack->line)
        return -EINVAL;
    struct um_line *line = calloc(1, sizeof *line);
    if (!line)
        return -ENOMEM;
    line->stack = stack;
    line->unsent_end = &line->unsent;
    line->watch.fn = line_ready;
    int rc = um_watch_add(sb, &line->watch, fd, EPOLLIN);
    if (rc < 0) {
        free(line);
        return rc;
    }
    line->stack->line = line;
    return 0;
}

void um_line_close(struct um_stack *stack)
{
    struct um_line *line = stack->line;
    if (!line)
        return;
    while (line->unsent)
        drop_first(line);
    for (int i = 0; i < BUCKETS; i++)
        while (line->conns[i])
            over(line, line->conns[i], 0);
    while (line->heard) {
        struct um_heard *heard = line->heard;
        line->heard = heard->next;
        free(heard);
    }
    while (line->groups) {
        struct group *group = line->groups;
        line->groups = group->next;
        free(group);
    }
    if (line->watch.fd >= 0) {
        um_watch_remove(stack->sb, &line->watch);
        close(line->watch.fd);
    }
    um_later_free(stack->sb, line);
    stack->line = NULL;
}
