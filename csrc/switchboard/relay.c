/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * relay.c - the relay road of streams: host sockets, and ports of the host
 *
 * Beyond the built-in NAT a connection would end on this host anyway, so the
 * host's own TCP makes it: a socket of the host at one side, our end of the
 * surrogate at the other, the pump in between.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "packet.h"
#include "policy.h"
#include "views.h"

/* A port of the host, or of the stack behind nat0, that leads into a stack. */
struct um_forward {
    struct um_watch watch;
    struct um_forward *next;
    struct um_switchboard *sb;
    struct um_stack *stack;
    uint16_t port;
    uint8_t gateway4[16], gateway6[16];
    struct um_sock *outer; /* the listener in the stack behind, or NULL */
};

int um_host_connect(struct um_sock *sock, const struct um_name *name,
                    bool *done)
{
    struct sockaddr_storage ss;
    socklen_t len = um_name_to_host(name, &ss);
    int fd =
        socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* The pump gathers writes as Nagle would; twice would wait twice. */
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    um_options_to_host(sock, fd);
    *done = connect(fd, (struct sockaddr *)&ss, len) == 0;
    if (*done)
        return fd;
    if (errno == EINPROGRESS) {
        /* On loopback it is done by now, but only a second call tells. */
        if (connect(fd, (struct sockaddr *)&ss, len) == 0 || errno == EISCONN) {
            *done = true;
            return fd;
        }
        if (errno == EALREADY)
            return fd;
    }
    int rc = -errno;
    close(fd);
    return rc;
}

void um_conn_belongs(struct um_conn *conn, struct um_sock *sock, pid_t tid,
                     int program_fd)
{
    um_conn_seen(conn, tid, program_fd);
    conn->sock = sock;
    conn->cookie = sock->cookie;
    conn->holder = &sock->conn;
    sock->conn = conn;
    sock->reports_end = true;
}

void um_conn_over(struct um_switchboard *sb, struct um_conn *conn)
{
    if (conn->holder)
        *conn->holder = NULL;
    if (conn->sock) {
        um_policy_told_end(sb, conn->sock);
        /* The program may still hold its end (after a reset, or its own
         * shutdown), so the entry is left to the collector. */
        conn->sock->reports_end = false;
        conn->sock->over |= !(conn->sock->shut_read && conn->sock->shut_write);
        conn->sock->generation = sb->generation;
    }
    um_conn_destroy(conn);
}

struct um_conn *um_relay_start(struct um_switchboard *sb, int end, int host,
                               struct um_sock *sock, pid_t tid, int program_fd)
{
    struct um_conn *conn = um_conn_create();
    if (!conn) {
        close(end);
        close(host);
        return NULL;
    }
    conn->surrogate.fd = end;
    conn->host.fd = host;
    um_conn_belongs(conn, sock, tid, program_fd);
    int rc = um_pump_add(sb->pump, conn);
    if (rc < 0) {
        um_log(sb, UM_LOG_ERROR, "a connection is lost: %s", strerror(-rc));
        close(end);
        close(host);
        sock->conn = NULL;
        sock->reports_end = false;
        um_conn_destroy(conn);
        return NULL;
    }
    return conn;
}

/* ---- ports of the host ---- */

static void reset(int fd)
{
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

/* The listener that a forwarded connection goes to; *to is its address. A
 * server that listens on the view's loopback only is reached as well: the
 * user named the port. */
static struct um_sock *find_listener(struct um_forward *forward,
                                     const struct um_name *from,
                                     struct um_name *to)
{
    const struct um_stack *stack = forward->stack;
    bool v4 = um_addr_is_v4(from->addr);
    to->port = forward->port;
    to->scope = 0;
    /* First the peer's family, then the other; each with loopback last. */
    for (int pass = 0; pass < 2; pass++, v4 = !v4)
        for (int i = stack->address_count - 1; i >= 0; i--) {
            const struct um_card_address *own = &stack->addresses[i];
            if (um_addr_is_v4(own->addr) != v4)
                continue;
            memcpy(to->addr, own->addr, 16);
            struct um_sock *sock =
                um_port_find(forward->stack, IPPROTO_TCP, to, from);
            if (sock)
                return sock;
        }
    return NULL;
}

/* Bring one accepted host socket to the listener. */
static void deliver(struct um_forward *forward, int host,
                    const struct um_name *from)
{
    struct um_switchboard *sb = forward->sb;
    for (;;) {
        struct um_name to;
        struct um_sock *listener = find_listener(forward, from, &to);
        if (!listener) {
            reset(host);
            return;
        }
        int end = um_stream_open(SOCK_NONBLOCK);
        struct um_conn *conn = end < 0 ? NULL : um_conn_create();
        int rc =
            conn ? um_offer(sb, listener, end, &to, from, conn, NULL) : -ENOMEM;
        if (rc == 0) {
            conn->surrogate.fd = end;
            conn->host.fd = host;
            if (um_pump_add(sb->pump, conn) < 0) {
                shutdown(end, SHUT_RDWR);
                reset(host);
            }
            return;
        }
        um_conn_destroy(conn);
        if (end >= 0)
            close(end);
        if (rc == -EAGAIN)
            um_dial_incoming(sb, listener, host, NULL, &to, from);
        else if (rc != -ECONNREFUSED)
            reset(host);
        if (rc != -ECONNREFUSED)
            return;
    }
}

static void forward_ready(struct um_switchboard *sb, struct um_watch *watch,
                          uint32_t events)
{
    (void)events;
    struct um_forward *forward = UM_CONTAINER(watch, struct um_forward, watch);
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    int host = accept4(watch->fd, (struct sockaddr *)&ss, &len,
                       SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (host < 0)
        return;
    struct um_name from;
    if (!forward->outer) {
        um_name_from_host(&ss, &from);
    } else if (um_listen_take(forward->outer, &from)) {
        um_dials_room(sb, forward->outer);
    } else {
        close(host);
        return;
    }
    if (um_addr_is_loopback(from.addr))
        memcpy(from.addr,
               um_addr_is_v4(from.addr) ? forward->gateway4 : forward->gateway6,
               16);
    int on = 1;
    setsockopt(host, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    deliver(forward, host, &from);
}

int um_forward_add(struct um_switchboard *sb, int number, int protocol, int fd,
                   int port, const uint8_t *gateway4, const uint8_t *gateway6)
{
    struct um_stack *stack = um_stack_find(sb, number);
    if (!stack)
        return -EINVAL;
    if (protocol == IPPROTO_UDP)
        return um_dgram_forward(sb, stack, fd, port, gateway4, gateway6);
    struct um_forward *forward = calloc(1, sizeof *forward);
    if (!forward)
        return -ENOMEM;
    forward->sb = sb;
    forward->stack = stack;
    forward->port = (uint16_t)port;
    memcpy(forward->gateway4, gateway4, 16);
    memcpy(forward->gateway6, gateway6, 16);
    forward->watch.fn = forward_ready;
    int rc = um_watch_add(sb, &forward->watch, fd, EPOLLIN);
    if (rc < 0) {
        free(forward);
        return rc;
    }
    forward->next = sb->forwards;
    sb->forwards = forward;
    return 0;
}

/* The listener that stands in the stack behind nat0. Return: it, or NULL with
 * *rc set. */
static struct um_sock *listen_outside(struct um_stack *stack, int fd,
                                      const struct um_name *name, int *rc)
{
    struct um_switchboard *sb = stack->sb;
    int domain = um_addr_is_v4(name->addr) ? AF_INET : AF_INET6;
    struct um_sock *sock =
        um_sock_create(sb, stack, fd, domain, SOCK_STREAM, IPPROTO_TCP);
    if (!sock) {
        *rc = -ENOMEM;
        return NULL;
    }
    sock->v6only = true;
    bool owned = um_addr_is_any(name->addr) || um_stack_owns(stack, name->addr);
    *rc = owned ? um_port_take(sock, name) : -EADDRNOTAVAIL;
    if (*rc == 0)
        *rc = um_port_listen(sock);
    if (*rc == 0)
        *rc = um_listen_start(sb, sock, fd);
    if (*rc < 0) {
        um_sock_destroy(sb, sock);
        return NULL;
    }
    sock->state = UM_LISTENING;
    sock->reports_end = true; /* it is ours */
    um_packet_listen(sock);
    return sock;
}

int um_forward_outside(struct um_switchboard *sb, int number,
                       const uint8_t *address, int port, int to_port,
                       const uint8_t *gateway4, const uint8_t *gateway6)
{
    const struct um_stack *stack = um_stack_find(sb, number);
    if (!stack || !stack->uplink)
        return -EINVAL;
    int fd = um_stream_open(SOCK_NONBLOCK);
    if (fd < 0)
        return fd;
    struct um_name name = {.port = (uint16_t)port};
    memcpy(name.addr, address, 16);
    int rc;
    struct um_sock *outer = listen_outside(stack->uplink, fd, &name, &rc);
    if (outer) {
        rc = um_forward_add(sb, number, IPPROTO_TCP, fd, to_port, gateway4,
                            gateway6);
        if (rc == 0)
            sb->forwards->outer = outer;
        else
            um_sock_destroy(sb, outer);
    }
    if (rc < 0)
        close(fd);
    return rc;
}

void um_forwards_close(struct um_switchboard *sb, const struct um_stack *stack)
{
    struct um_forward **at = &sb->forwards;
    while (*at) {
        struct um_forward *forward = *at;
        if (stack && forward->stack != stack) {
            at = &forward->next;
            continue;
        }
        *at = forward->next;
        um_watch_remove(sb, &forward->watch);
        if (stack)
            um_sock_destroy(sb, forward->outer);
        close(forward->watch.fd);
        um_later_free(sb, forward);
    }
}
