/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * connect.c - TCP sockets: connect, by the local and by the relay road
 *
 * The surrogate is connected in place, on a copy of the program's descriptor,
 * at the moment when the connection stands:
 *  - local: straight to the listener's surrogate. Nothing is pumped.
 *  - relay: to us; our end and a host socket go to the pump.
 * A connect that cannot be answered at once needs a socket that is connecting,
 * a state that unix sockets lack. It is made: the surrogate is connected to us
 * and its send buffer filled with junk, so that poll says nothing and read and
 * write EAGAIN. On success the junk is taken out, and the program sees
 * EPOLLOUT. On failure our end is closed with the junk unread, and the program
 * sees IN|OUT|ERR|HUP|RDHUP: bit for bit what a refused TCP socket shows
 * (SO_ERROR is ours). Such a surrogate is used up: a blocking caller gets a
 * fresh one with its error, a non-blocking one with its next connect. It is
 * the only place where a descriptor is replaced. (A blocking caller could keep
 * its surrogate untouched until the answer; but one that a signal sends away
 * looks with poll whether it is connected, and a fresh socket says so.)
 *
 * A full backlog makes the caller wait in the same way (a SYN that is not
 * answered); it can no longer be joined, so it is pumped.
 *
 * Rejected: ADDFD with SETFD for every connect. It loses epoll registrations,
 * dup()s and forked copies of the descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dgram.h"
#include "options.h"
#include "packet.h"
#include "policy.h"
#include "stream.h"
#include "tracer.h"
#include "uplink.h"

enum {
    SYN_TIMEOUT_MS = 127000, /* tcp(7), tcp_syn_retries = 6 */
    TICK_MS = 1000,
    MAX_JUNK = 64
};

int um_attach(struct um_switchboard *sb, int program)
{
    int rc = um_connect_to(program, sb->relay_path_fd);
    if (rc < 0)
        return rc;
    int end = accept4(sb->relay_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return end < 0 ? -errno : end;
}

/* ---- the connecting state ---- */

/* Make the program's socket, joined to us, look like one that connects.
 * Return: the number of junk bytes in our end. */
static int stuff(int program)
{
    int size = 1, junk = 0;
    setsockopt(program, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    while (junk < MAX_JUNK &&
           send(program, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        junk++;
    return junk;
}

static void unstuff(int program, int end, int junk)
{
    char buf[MAX_JUNK];
    while (junk > 0) {
        ssize_t n = recv(end, buf, (size_t)junk, MSG_DONTWAIT);
        if (n <= 0)
            break;
        junk -= (int)n;
    }
    um_kick_writers(program);
}

/* The surrogate of a refused non-blocking connect. */
static void used_up(struct um_switchboard *sb, struct um_sock *sock,
                    int program, int end, int junk, int error)
{
    if (!junk)
        (void)!send(program, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(end);
    sock->state = UM_FAILED;
    sock->error = error;
    sock->unread_result = true;
    um_policy_note(sb, sock, UM_DEED_FAILED, error);
    if (!sock->port_bound)
        um_port_release(sock);
}

/* The connect that is in hand cannot succeed. */
static um_verdict refuse(struct um_call *call, int error)
{
    struct um_sock *sock = call->sock;
    if (!um_call_nonblocking(call, 0)) {
        um_stream_unname(sock);
        return -error;
    }
    int end = um_attach(call->sb, call->fd);
    if (end < 0)
        return -error;
    used_up(call->sb, sock, call->fd, end, 0, error);
    return -EINPROGRESS;
}

/* Let a fresh socket have the name that bind() gave the old one. */
static void hand_name_over(struct um_sock *old, struct um_sock *sock)
{
    um_stream_unname(old);
    sock->local = old->local;
    sock->addr_bound = old->addr_bound;
    sock->port_bound = old->port_bound;
    sock->bind = old->bind;
    if (sock->bind)
        sock->bind->sock = sock;
    old->bind = NULL;
}

/* Give a used-up surrogate's descriptor a fresh one. Return: 0 or errno. */
static int replace_surrogate(struct um_call *call)
{
    struct um_switchboard *sb = call->sb;
    struct um_sock *old = call->sock;
    int flags = fcntl(call->fd, F_GETFL);
    int fd = sb->tracer->renew(call, flags & O_NONBLOCK ? SOCK_NONBLOCK : 0);
    if (fd < 0)
        return fd;
    struct um_sock *sock = um_sock_create(sb, old->stack, fd, old->domain,
                                          SOCK_STREAM, old->protocol);
    if (!sock) {
        close(fd);
        return -ENOMEM;
    }
    sock->tid = old->tid;
    sock->number = old->number;
    sock->options = old->options;
    old->options = NULL;
    um_options_to_surrogate(sock, fd);
    sock->v6only = old->v6only;
    sock->card = old->card;
    sock->reuseaddr = old->reuseaddr;
    sock->reuseport = old->reuseport;
    hand_name_over(old, sock);
    um_sock_note_inode(sock, fd);
    close(call->fd);
    call->fd = fd;
    call->sock = sock;
    return 0;
}

int um_stream_renew(struct um_call *call)
{
    enum um_state state = call->sock->state;
    return state == UM_FAILED || state == UM_CLOSED ? replace_surrogate(call)
                                                    : 0;
}

/* ---- dials ---- */

static void undo_result(struct um_call *call)
{
    struct um_sock *sock = call->undo_arg;
    sock->unread_result = true;
}

/* Tell that the connect failed; the next one begins anew. */
static um_verdict failure(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    int error = sock->error ? sock->error : ECONNABORTED;
    sock->error = 0;
    sock->unread_result = false;
    int rc = replace_surrogate(call);
    if (rc < 0) /* the next connect tries again */
        um_log(call->sb, UM_LOG_DEBUG, "no fresh socket after a refusal: %s",
               strerror(-rc));
    return -error;
}

/* The result of a connect that is under way; late: what says that its time
 * (SO_SNDTIMEO) is over before it is there. */
static um_verdict result_or(struct um_call *call, um_handler *handler, int late)
{
    struct um_sock *sock = call->sock;
    if (sock->state == UM_CONNECTING)
        return um_call_expired(call) ? late : um_park(call, handler, sock);
    if (call->nr != __NR_connect) /* a send that connected first */
        return um_handler_of(call->nr)(call);
    if (sock->state == UM_CONNECTED) {
        sock->unread_result = false;
        call->undo = undo_result;
        call->undo_arg = sock;
        return 0;
    }
    return failure(call);
}

static um_verdict connect_result(struct um_call *call)
{
    return result_or(call, connect_result, -EINPROGRESS);
}

static um_verdict connect_again(struct um_call *call)
{
    return result_or(call, connect_again, -EALREADY);
}

static um_verdict wait_for_result(struct um_call *call, um_handler *handler)
{
    um_call_deadline(call, call->sock, SO_SNDTIMEO);
    return handler(call);
}

static void free_dial(struct um_dial *dial)
{
    struct um_switchboard *sb = dial->sb;
    um_list_remove(&dial->waiting);
    um_list_remove(&dial->all);
    if (dial->watch.fn)
        um_watch_remove(sb, &dial->watch);
    if (dial->program >= 0)
        close(dial->program);
    if (dial->end >= 0)
        close(dial->end);
    if (dial->host >= 0)
        close(dial->host);
    if (dial->conn)
        um_packet_drop(dial->conn);
    if (dial->sock)
        dial->sock->dial = NULL;
    um_later_free(sb, dial);
}

/* Takes host and conn, if there are any. Return: NULL without memory. */
static struct um_dial *new_dial(struct um_switchboard *sb, int host,
                                struct um_conn *conn)
{
    struct um_dial *dial = calloc(1, sizeof *dial);
    if (!dial && host >= 0)
        close(host);
    if (!dial && conn)
        um_packet_drop(conn);
    if (!dial)
        return NULL;
    dial->sb = sb;
    dial->program = dial->end = -1;
    dial->host = host;
    dial->conn = conn;
    if (conn)
        conn->dial = dial;
    um_list_init(&dial->waiting);
    um_list_init(&dial->all);
    return dial;
}

void um_dial_fail(struct um_dial *dial, int error)
{
    struct um_sock *sock = dial->sock;
    struct um_switchboard *sb = dial->sb;
    if (sock && error) {
        used_up(sb, sock, dial->program, dial->end, dial->junk, error);
        dial->end = -1;
        um_wake(sb, sock, true);
    } else if (!sock && dial->host >= 0) {
        struct linger reset = {1, 0};
        setsockopt(dial->host, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    free_dial(dial);
}

void um_dial_unreachable(struct um_stack *stack, const struct um_name *local,
                         const struct um_name *peer, int error)
{
    struct um_sock *sock = um_port_connecting(stack, local, peer);
    if (sock && sock->inner)
        sock = sock->inner;
    if (sock && sock->dial && sock->dial->conn)
        um_dial_fail(sock->dial, error);
}

/* The connection stands. */
static void established(struct um_dial *dial)
{
    struct um_sock *sock = dial->sock;
    sock->state = UM_CONNECTED;
    sock->unread_result = true;
    unstuff(dial->program, dial->end, dial->junk);
    um_policy_note(dial->sb, sock, UM_DEED_CONNECTED, 0);
    um_wake(dial->sb, sock, true);
}

static void host_connected(struct um_dial *dial)
{
    established(dial);
    um_watch_remove(dial->sb, &dial->watch);
    dial->watch.fn = NULL;
    um_relay_start(dial->sb, dial->end, dial->host, dial->sock, dial->tid,
                   dial->program_fd);
    dial->end = dial->host = -1;
    free_dial(dial);
}

void um_dial_stands(struct um_dial *dial)
{
    struct um_conn *conn = dial->conn;
    established(dial);
    um_conn_belongs(conn, dial->sock, dial->tid, dial->program_fd);
    um_packet_start(conn, dial->end);
    dial->end = -1;
    conn->dial = NULL;
    dial->conn = NULL;
    free_dial(dial);
}

static void host_ready(struct um_switchboard *sb, struct um_watch *watch,
                       uint32_t events)
{
    (void)sb;
    (void)events;
    struct um_dial *dial = UM_CONTAINER(watch, struct um_dial, watch);
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(dial->host, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error)
        um_dial_fail(dial, error);
    else
        host_connected(dial);
}

/* The caller of a connect that cannot be answered yet. Takes the dial. */
static um_verdict dial_start(struct um_call *call, struct um_dial *dial)
{
    struct um_sock *sock = call->sock;
    dial->tid = call->tid;
    dial->program_fd = (int)call->args[0];
    dial->program = fcntl(call->fd, F_DUPFD_CLOEXEC, 0);
    int rc = dial->program < 0 ? -errno : 0;
    if (rc == 0) {
        dial->end = um_attach(call->sb, call->fd);
        if (dial->end < 0)
            rc = dial->end;
        else
            dial->junk = stuff(call->fd);
    }
    if (rc == 0 && dial->host >= 0) {
        rc = um_watch_add(call->sb, &dial->watch, dial->host, EPOLLOUT);
        dial->watch.fn = host_ready;
    }
    if (rc < 0) {
        free_dial(dial);
        return rc;
    }
    dial->sock = sock;
    sock->dial = dial;
    sock->state = UM_CONNECTING;
    return um_call_nonblocking(call, 0) ? -EINPROGRESS
                                        : wait_for_result(call, connect_result);
}

/* ---- dials that wait for room in a backlog ---- */

static void wait_for_room(struct um_dial *dial, struct um_sock *listener,
                          const struct um_name *local,
                          const struct um_name *peer)
{
    dial->listener = listener;
    dial->local = *local;
    dial->peer = *peer;
    dial->deadline_ms = um_now_ms() + SYN_TIMEOUT_MS;
    um_list_append(&listener->listen->dials, &dial->waiting);
    um_list_append(&dial->sb->dials, &dial->all);
}

/* Try again to get into the listener's queue. Return: false if it is full. */
static bool enter(struct um_dial *dial)
{
    struct um_switchboard *sb = dial->sb;
    struct um_sock *sock = dial->sock;
    struct um_conn *by_packets = dial->conn;
    int fd = um_stream_open(SOCK_NONBLOCK);
    struct um_conn *conn = fd < 0       ? NULL
                           : by_packets ? by_packets
                                        : um_conn_create();
    int rc = conn ? um_offer(sb, dial->listener, fd, &dial->local, &dial->peer,
                             sock ? NULL : conn, NULL)
                  : -ENOMEM;
    if (rc < 0) {
        if (!by_packets)
            um_conn_destroy(conn);
        if (fd >= 0)
            close(fd);
        /* -ECONNREFUSED: the listener is gone, and the dial with it */
        if (rc != -EAGAIN && rc != -ECONNREFUSED)
            um_dial_fail(dial, -rc);
        return rc != -EAGAIN;
    }
    if (by_packets) {
        um_packet_start(conn, fd);
        conn->dial = NULL;
        dial->conn = NULL;
        free_dial(dial);
        return true;
    }
    if (sock) {
        established(dial);
        um_conn_belongs(conn, sock, dial->tid, dial->program_fd);
    }
    /* A caller's end and the way to the listener, or the latter and a
     * forwarded host socket. */
    conn->surrogate.fd = sock ? dial->end : fd;
    conn->host.fd = sock ? fd : dial->host;
    dial->end = dial->host = -1;
    if (um_pump_add(sb->pump, conn) < 0) {
        shutdown(conn->surrogate.fd, SHUT_RDWR);
        shutdown(conn->host.fd, SHUT_RDWR);
    }
    free_dial(dial);
    return true;
}

void um_dials_room(struct um_switchboard *sb, struct um_sock *listener)
{
    (void)sb;
    struct um_listen *l = listener->listen;
    while (l && !um_list_empty(&l->dials) &&
           enter(UM_CONTAINER(l->dials.next, struct um_dial, waiting)))
        l = listener->listen;
}

void um_dial_incoming(struct um_switchboard *sb, struct um_sock *listener,
                      int host, struct um_conn *conn,
                      const struct um_name *local, const struct um_name *peer)
{
    struct um_dial *dial = new_dial(sb, host, conn);
    if (!dial)
        return;
    dial->program_fd = -1;
    wait_for_room(dial, listener, local, peer);
}

void um_dials_tick(struct um_switchboard *sb)
{
    if (um_list_empty(&sb->dials))
        return;
    int64_t now = um_now_ms();
    if (now < sb->next_dial_tick_ms)
        return;
    sb->next_dial_tick_ms = now + TICK_MS;
    struct um_list *l = sb->dials.next;
    while (l != &sb->dials) {
        struct um_dial *dial = UM_CONTAINER(l, struct um_dial, all);
        l = l->next;
        if (now >= dial->deadline_ms) {
            um_dial_fail(dial, ETIMEDOUT);
        } else if (!um_sock_alive(sb, dial->listener)) {
            um_sock_destroy(sb, dial->listener);
            l = sb->dials.next; /* it took its other dials along */
        }
    }
}

/* ---- connect ---- */

/* Tell the caller that its connection stands. */
static um_verdict stands(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    um_kick_writers(call->fd);
    sock->state = UM_CONNECTED;
    um_policy_note(call->sb, sock, UM_DEED_CONNECTED, 0);
    sock->unread_result = um_call_nonblocking(call, 0);
    if (sock->unread_result)
        return -EINPROGRESS;
    call->undo = undo_result;
    call->undo_arg = sock;
    return 0;
}

/* as: the socket itself, or what stands for it in another stack. */
static um_verdict connect_local(struct um_call *call, const struct um_sock *as,
                                const struct um_name *to)
{
    struct um_sock *sock = call->sock;
    for (;;) {
        struct um_sock *listener =
            um_port_find(as->stack, IPPROTO_TCP, to, &as->local);
        if (!listener)
            return refuse(call, ECONNREFUSED);
        int rc =
            um_offer(call->sb, listener, call->fd, to, &as->local, NULL, sock);
        if (rc == 0)
            return stands(call);
        if (rc == -EAGAIN) {
            struct um_dial *dial = new_dial(call->sb, -1, NULL);
            if (!dial)
                return -ENOMEM;
            wait_for_room(dial, listener, to, &as->local);
            return dial_start(call, dial);
        }
        if (rc != -ECONNREFUSED)
            return rc;
    }
}

static um_verdict connect_relayed(struct um_call *call,
                                  const struct um_name *host_name)
{
    struct um_sock *sock = call->sock;
    bool done;
    int host = um_host_connect(sock, host_name, &done);
    if (host == -ECONNREFUSED || host == -ECONNRESET || host == -ETIMEDOUT)
        return refuse(call, -host);
    if (host < 0) {
        um_stream_unname(sock);
        return host;
    }
    if (!done) {
        struct um_dial *dial = new_dial(call->sb, host, NULL);
        return dial ? dial_start(call, dial) : -ENOMEM;
    }
    int end = um_attach(call->sb, call->fd);
    if (end < 0) {
        close(host);
        return end;
    }
    if (!um_relay_start(call->sb, end, host, sock, call->tid,
                        (int)call->args[0]))
        return -ENOMEM;
    return stands(call);
}

static um_verdict connect_by_packets(struct um_call *call,
                                     const struct um_sock *as,
                                     const struct um_name *to)
{
    struct um_conn *conn = um_packet_connect(as, to);
    struct um_dial *dial = conn ? new_dial(call->sb, -1, conn) : NULL;
    return dial ? dial_start(call, dial) : -ENOMEM;
}

/* By nat0, to the host or into the stack behind. */
static um_verdict connect_out(struct um_call *call, const struct um_name *to)
{
    struct um_sock *sock = call->sock;
    struct um_way way;
    um_uplink_way(sock->stack, IPPROTO_TCP, to, &way);
    if (way.road == UM_ROAD_RELAY)
        return connect_relayed(call, &way.dest);
    if (way.road == UM_ROAD_REFUSED)
        return refuse(call, ECONNREFUSED);
    bool goes = way.road == UM_ROAD_LOCAL || way.road == UM_ROAD_PACKET;
    struct um_sock *outer = goes ? um_uplink_sock(sock, &way) : NULL;
    if (!outer) {
        um_stream_unname(sock);
        return goes ? -EADDRNOTAVAIL : way.road < 0 ? way.road : -EHOSTUNREACH;
    }
    if (way.road == UM_ROAD_LOCAL)
        return connect_local(call, outer, &way.dest);
    outer->options = sock->options; /* lent: those of the connection */
    um_verdict verdict = connect_by_packets(call, outer, &way.dest);
    outer->options = NULL;
    return verdict;
}

/* What a socket that is not fresh says. Return: 1 if it may connect. */
static um_verdict connect_state(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    bool first = sock->unread_result;
    switch (sock->state) {
    case UM_FRESH:
        return 1;
    case UM_CONNECTED:
        sock->unread_result = false;
        return first ? 0 : -EISCONN;
    case UM_CONNECTING:
        if (um_call_nonblocking(call, 0))
            return -EALREADY;
        return wait_for_result(call, connect_again);
    case UM_FAILED:
        if (first)
            return failure(call);
        break;
    case UM_LISTENING:
        return -EISCONN;
    case UM_CLOSED:
        break;
    }
    int rc = replace_surrogate(call);
    return rc < 0 ? rc : 1;
}

/* Will connect_state() let it connect? */
static bool begins(const struct um_sock *sock)
{
    return sock->state == UM_FRESH || sock->state == UM_CLOSED ||
           (sock->state == UM_FAILED && !sock->unread_result);
}

static um_verdict connect_to(struct um_call *call, const struct um_name *name)
{
    struct um_sock *sock = call->sock;
    struct um_name to;
    uint8_t source[16];
    if (sock->v6only && um_addr_is_v4(name->addr))
        return -ENETUNREACH;
    if (um_addr_is_multicast(name->addr) ||
        um_stack_broadcasts(sock->stack, name->addr))
        return -ENETUNREACH;
    int road = um_sock_route(sock, name, &to, source);
    if (road < 0)
        return road;
    if (road == UM_ROAD_UNREACHABLE)
        return -EHOSTUNREACH;
    if (sock->addr_bound &&
        um_addr_is_v4(sock->local.addr) != um_addr_is_v4(to.addr))
        return -ENETUNREACH;
    if (!sock->bind) {
        struct um_name from = {.port = 0};
        memcpy(from.addr, sock->addr_bound ? sock->local.addr : source, 16);
        int rc = um_port_take(sock, &from);
        if (rc < 0)
            return rc == -EADDRINUSE ? -EADDRNOTAVAIL : rc;
    } else if (!sock->addr_bound) {
        memcpy(sock->local.addr, source, 16);
    }
    sock->peer = *name;
    if (um_addr_is_any(name->addr))
        memcpy(sock->peer.addr, to.addr, 16);
    if (road == UM_ROAD_REFUSED)
        return refuse(call, ECONNREFUSED);
    if (road == UM_ROAD_PACKET)
        return connect_by_packets(call, sock, &to);
    return road == UM_ROAD_LOCAL ? connect_local(call, sock, &to)
                                 : connect_out(call, &to);
}

/* Tell of a connect that has failed at once; the others are told of where that
 * turns out. */
static um_verdict told(struct um_call *call, const struct um_name *name,
                       um_verdict verdict)
{
    struct um_sock *sock = call->sock;
    if (verdict >= 0 || verdict == UM_PARKED || sock->state != UM_FRESH)
        return verdict;
    sock->peer = *name;
    um_policy_note(call->sb, sock, UM_DEED_FAILED, (int)-verdict);
    return verdict;
}

um_verdict um_stream_connect(struct um_call *call, const struct um_name *name)
{
    if (begins(call->sock)) {
        um_verdict allowed =
            um_policy_ask(call, UM_DEED_CONNECT, &call->sock->local, name);
        if (allowed != UM_ALLOWED)
            return allowed;
    }
    um_verdict verdict = connect_state(call);
    return verdict == 1 ? told(call, name, connect_to(call, name)) : verdict;
}

um_verdict um_stream_disconnect(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    if (sock->state == UM_FRESH) {
        um_stream_unname(sock);
        return 0;
    }
    bool reset = sock->state == UM_CONNECTING ||
                 (sock->state == UM_CONNECTED && !um_stream_over(call));
    int host = reset ? option_host_of(sock) : -1;
    if (reset && sock->conn && sock->conn->line) {
        um_packet_reset(sock->conn);
    } else if (host >= 0) {
        struct linger now = {1, 0};
        setsockopt(host, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        option_host_done(sock);
    } else if (reset) {
        um_stream_arm_reset(call);
    }
    int rc = replace_surrogate(call);
    if (rc < 0)
        return rc;
    if (reset)
        call->sock->error = ECONNRESET;
    return 0;
}
