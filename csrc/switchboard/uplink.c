/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * uplink.c - nat0 of a view inside another: out through the other's stack
 *
 * What leaves a view by nat0 is translated, as by a NAT at the border: it goes
 * on from an address and a port of the stack behind, its uplink. For the
 * outermost view that is the host, and its own sockets are what is seen there
 * (relay.c, udp.c). For a view inside another it is the enclosing view's stack,
 * whose routes decide anew: to one of its own sockets, by packets, or by its own
 * nat0 further out. Nothing of an inner view goes round an outer one.
 *
 * In the stack where that ends, a socket without a program stands for the inner
 * one: it holds a port there, so that answers find it. Its names are the only
 * thing that is translated, both ways; of datagrams only answers from where
 * something was sent to come in.
 */
#include "uplink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "views.h"

void um_uplink_way(struct um_stack *stack, int protocol,
                   const struct um_name *dest, struct um_way *ret)
{
    *ret =
        (struct um_way){.road = UM_ROAD_RELAY, .stack = stack, .dest = *dest};
    while (ret->road == UM_ROAD_RELAY && ret->stack->uplink) {
        struct um_name host = ret->dest;
        bool v4 = um_addr_is_v4(host.addr);
        struct um_stack *next =
            um_stack_member(ret->stack->uplink, v4 ? AF_INET : AF_INET6);
        if (!next)
            ret->road = -ENETUNREACH;
        if (!next || next->kind == UM_STACK_NATIVE) /* the host after all */
            break;
        ret->stack = next;
        ret->road = um_stack_route(ret->stack, protocol, &ret->dest, &host,
                                   ret->source);
        ret->dest = host;
    }
}

static void drop(struct um_switchboard *sb, struct um_sock *outer)
{
    um_port_release(outer);
    um_later_free(sb, outer);
}

void um_uplink_forget(struct um_switchboard *sb, struct um_sock *sock)
{
    while (sock->outer) {
        struct um_sock *outer = sock->outer;
        sock->outer = outer->outer;
        drop(sb, outer);
    }
}

static struct um_sock *new_outer(struct um_sock *sock, const struct um_way *way,
                                 bool v4)
{
    struct um_sock *outer = calloc(1, sizeof *outer);
    struct um_name name = {.port = 0};
    if (!outer)
        return NULL;
    outer->stack = way->stack;
    outer->domain = v4 ? AF_INET : AF_INET6;
    outer->type = sock->type == SOCK_RAW ? SOCK_DGRAM : sock->type;
    outer->protocol = sock->protocol;
    outer->state = sock->type == SOCK_STREAM ? UM_CONNECTING : UM_FRESH;
    outer->v6only = true;
    outer->reports_end = true; /* it ends with the inner one */
    outer->inner = sock;
    um_list_init(&outer->waiters);
    um_list_init(&outer->wake);
    memcpy(name.addr, v4 ? um_any4 : um_any6, 16);
    if (um_port_take(outer, &name) < 0) {
        free(outer);
        return NULL;
    }
    outer->outer = sock->outer;
    sock->outer = outer;
    return outer;
}

struct um_sock *um_uplink_sock(struct um_sock *sock, const struct um_way *way)
{
    bool v4 = um_addr_is_v4(way->dest.addr);
    /* A connection's port is its own: the stack behind may remember the last. */
    if (sock->type == SOCK_STREAM)
        um_uplink_forget(sock->stack->sb, sock);
    struct um_sock *outer = sock->outer;
    while (outer &&
           !(outer->stack == way->stack && (outer->domain == AF_INET) == v4))
        outer = outer->outer;
    if (!outer)
        outer = new_outer(sock, way, v4);
    if (!outer)
        return NULL;
    memcpy(outer->local.addr, way->source, 16);
    outer->peer = way->dest;
    return outer;
}

struct um_sock *um_uplink_inward(const struct um_sock *outer,
                                 struct um_name *from, uint8_t to[16])
{
    struct um_sock *sock = outer->inner;
    bool exact;
    const struct um_known *known =
        sock->dgram ? um_known_find(sock->dgram, from, &exact) : NULL;
    if (!known)
        return NULL;
    uint16_t port = from->port;
    *from = known->view;
    if (!exact)
        from->port = port; /* another port of the same host */
    memcpy(to, known->source, 16);
    return sock;
}
