/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * netlink.c - netlink sockets: their addresses, requests and answers
 *
 * The surrogate is that of a datagram socket (dgram.c); who sends is always
 * the kernel, port id 0. Requests go to Python, whole, and its answers come
 * back as datagrams by um_netlink_deliver() before the call that asked is
 * answered, so that they are there when the program looks. A request written
 * by send() or write() is passed on without anybody waiting.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "dgram.h"

/* Where the kernel begins, downwards, when a caller's id is taken. */
#define PORTID_ROVER ((uint32_t)-4096)

struct um_netlink {
    struct um_list link; /* in um_dgrams.netlinks */
    struct um_sock *sock;
    uint32_t portid;
    uint64_t groups; /* bit n: group n + 1 */
};

int um_netlink_open(struct um_switchboard *sb, struct um_sock *sock, int end)
{
    int rc = um_dgram_open(sb, sock, end);
    if (rc < 0)
        return rc;
    struct um_netlink *netlink = calloc(1, sizeof *netlink);
    if (!netlink)
        return -ENOMEM;
    netlink->sock = sock;
    um_list_append(&um_dgrams_of(sb)->netlinks, &netlink->link);
    sock->netlink = netlink;
    return 0;
}

void um_netlink_destroy(struct um_switchboard *sb, struct um_sock *sock)
{
    (void)sb;
    if (!sock->netlink)
        return;
    um_list_remove(&sock->netlink->link);
    free(sock->netlink);
    sock->netlink = NULL;
}

/* ---- addresses ---- */

static bool is_taken(struct um_switchboard *sb, const struct um_sock *sock,
                     uint32_t portid)
{
    struct um_list *head = &um_dgrams_of(sb)->netlinks;
    for (struct um_list *l = head->next; l != head; l = l->next) {
        struct um_netlink *other = UM_CONTAINER(l, struct um_netlink, link);
        if (other->portid == portid &&
            other->sock->protocol == sock->protocol &&
            other->sock->stack == sock->stack)
            return true;
    }
    return false;
}

/* The id that the kernel would give: the caller's, or a high one. The thread
 * stands for its process; nothing more than uniqueness is promised.
 * tid 0: nobody calls. */
static void autobind(struct um_switchboard *sb, struct um_sock *sock, pid_t tid)
{
    uint32_t portid = (uint32_t)tid;
    if (sock->netlink->portid)
        return;
    if (!portid || is_taken(sb, sock, portid))
        for (portid = PORTID_ROVER; is_taken(sb, sock, portid);)
            portid--;
    sock->netlink->portid = portid;
}

static int parse(const void *sockaddr, size_t len, struct sockaddr_nl *ret)
{
    if (len < sizeof *ret)
        return -EINVAL;
    memcpy(ret, sockaddr, sizeof *ret);
    return ret->nl_family == AF_NETLINK ? 0 : -EINVAL;
}

um_verdict um_netlink_bind(struct um_call *call, const void *sockaddr,
                           size_t len)
{
    struct um_netlink *netlink = call->sock->netlink;
    struct sockaddr_nl name;
    int rc = parse(sockaddr, len, &name);
    if (rc < 0)
        return rc;
    if (netlink->portid && name.nl_pid != netlink->portid)
        return -EINVAL;
    if (!netlink->portid && name.nl_pid) {
        /* Process numbers of many namespaces meet in the stack apart. */
        if (call->sock->stack->kind != UM_STACK_APART &&
            is_taken(call->sb, call->sock, name.nl_pid))
            return -EADDRINUSE;
        netlink->portid = name.nl_pid;
    }
    autobind(call->sb, call->sock, call->tid);
    netlink->groups =
        (netlink->groups & ~(uint64_t)UINT32_MAX) | name.nl_groups;
    return 0;
}

/* Only the kernel can be talked to: another socket needs CAP_NET_ADMIN. */
um_verdict um_netlink_connect(struct um_call *call, const void *sockaddr,
                              size_t len)
{
    struct sockaddr_nl name;
    sa_family_t family;
    if (len < sizeof family)
        return -EINVAL;
    memcpy(&family, sockaddr, sizeof family);
    if (family == AF_UNSPEC) {
        call->sock->state = UM_FRESH;
        return 0;
    }
    int rc = parse(sockaddr, len, &name);
    if (rc < 0)
        return rc;
    if (name.nl_pid || name.nl_groups)
        return -EPERM;
    autobind(call->sb, call->sock, call->tid);
    call->sock->state = UM_CONNECTED;
    return 0;
}

size_t um_netlink_name(struct um_sock *sock, bool peer,
                       struct sockaddr_storage *ret)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK};
    if (!peer) {
        name.nl_pid = sock->netlink->portid;
        name.nl_groups = (uint32_t)sock->netlink->groups;
    }
    memset(ret, 0, sizeof *ret);
    memcpy(ret, &name, sizeof name);
    return sizeof name;
}

/* ---- requests and answers ---- */

/* Return: false without memory. */
static bool make_event(struct um_sock *sock, const void *data, size_t len,
                       struct um_event *ret)
{
    *ret = (struct um_event){
        .kind = UM_EVENT_NETLINK,
        .cookie = sock->cookie,
        .stack = (uint32_t)sock->stack->number,
        .protocol = (uint32_t)sock->protocol,
        .portid = sock->netlink->portid,
        .len = (uint32_t)len,
        .data = malloc(len ? len : 1),
    };
    if (!ret->data)
        return false;
    memcpy(ret->data, data, len);
    return true;
}

um_verdict um_netlink_send(struct um_call *call, const void *data, size_t len)
{
    struct um_event event;
    autobind(call->sb, call->sock, call->tid);
    if (!make_event(call->sock, data, len, &event))
        return -ENOMEM;
    return um_ask_python(call, &event);
}

void um_netlink_request(struct um_switchboard *sb, struct um_sock *sock,
                        const void *data, size_t len)
{
    struct um_event event;
    autobind(sb, sock, 0);
    if (make_event(sock, data, len, &event))
        um_tell_python(sb, &event);
}

int um_netlink_deliver(struct um_switchboard *sb, struct um_sock *sock,
                       const void *data, size_t len)
{
    if (!sock->netlink || !sock->dgram)
        return -ENOTSOCK;
    if (len > UM_DGRAM_MAX)
        return -EMSGSIZE;
    struct um_arrival arrival = {.len = (uint32_t)len};
    um_dgram_deliver(sb, sock, &arrival, data);
    return 0;
}

/* ---- groups ---- */

static uint64_t bit_of(int group)
{
    return group > 0 && group <= 64 ? UINT64_C(1) << (group - 1) : 0;
}

void um_netlink_member(struct um_sock *sock, int group, bool is)
{
    if (is)
        sock->netlink->groups |= bit_of(group);
    else
        sock->netlink->groups &= ~bit_of(group);
}

void um_netlink_spread(struct um_switchboard *sb, struct um_stack *stack,
                       int group, const void *data, size_t len)
{
    struct um_list *head = &um_dgrams_of(sb)->netlinks;
    for (struct um_list *l = head->next; l != head; l = l->next) {
        struct um_netlink *netlink = UM_CONTAINER(l, struct um_netlink, link);
        if (netlink->groups & bit_of(group) && netlink->sock->stack == stack &&
            netlink->sock->protocol == NETLINK_ROUTE)
            um_netlink_deliver(sb, netlink->sock, data, len);
    }
}
