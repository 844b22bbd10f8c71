/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * policy.c - what policies are asked, and what they are told of
 *
 * A policy is Python's. Where a stack has deeds that policies want to know of,
 * the handlers come here: a call is parked before it has changed anything, the
 * question goes to Python, and with the answer the handler runs anew. It finds
 * the answer in call->word and compares what was asked with what it is about to
 * do, for a sibling thread may have changed the arguments meanwhile: then it asks
 * again. So a call that is denied has done nothing at all.
 *
 * A connection that comes in is asked for when it is about to be accepted, while
 * it still waits in the listener's queue: under ptrace an accept puts it into
 * the program at once. Two threads that accept ask for the same one, and the
 * second then asks for the next.
 *
 * A datagram from a peer whom the socket has not been allowed is held here, for
 * recv() is never stopped: once it is in the surrogate, it is the program's.
 *
 * What the socket may talk to is remembered by socket, the latest few. Connected
 * sockets that there were before the policy go on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "policy.h"
#include "python.h"
#include "views.h"

enum { REMEMBERED = 16, HELD_MAX = 64, ENDS_MS = 1000 };

/* A datagram that waits for its question's answer. */
struct held {
    struct um_list link;
    struct um_arrival arrival;
    uint8_t data[];
};

struct um_policed {
    uint32_t serial; /* of the policies, when the peers were allowed */
    uint32_t count, next;
    struct um_name peers[REMEMBERED];
    struct um_list held;
    uint32_t held_count;
};

/* The name as it is meant: nobody is called "unspecified". */
static struct um_name meant(const struct um_sock *sock,
                            const struct um_name *name)
{
    struct um_name ret = *name;
    if (um_addr_is_any(name->addr))
        memcpy(ret.addr,
               um_addr_is_v4(name->addr) ? um_loopback4 : um_loopback6, 16);
    if (um_is_icmp(sock))
        ret.port = 0;
    return ret;
}

/* ---- what a socket may talk to ---- */

static struct um_policed *policed_of(struct um_sock *sock)
{
    struct um_policed *policed = sock->policed;
    if (!policed) {
        policed = calloc(1, sizeof *policed);
        if (!policed)
            return NULL;
        um_list_init(&policed->held);
        sock->policed = policed;
    }
    if (policed->serial != sock->stack->policies) {
        policed->serial = sock->stack->policies;
        policed->count = policed->next = 0;
    }
    return policed;
}

static bool is_known(struct um_sock *sock, const struct um_name *peer)
{
    if (sock->state == UM_CONNECTED) {
        struct um_name connected = meant(sock, &sock->peer);
        if (um_name_equal(&connected, peer))
            return true;
    }
    struct um_policed *policed = policed_of(sock);
    for (uint32_t i = 0; policed && i < policed->count; i++)
        if (um_name_equal(&policed->peers[i], peer))
            return true;
    return false;
}

static void remember(struct um_sock *sock, const struct um_name *peer)
{
    struct um_policed *policed = policed_of(sock);
    if (!policed)
        return;
    policed->peers[policed->next] = *peer;
    policed->next = (policed->next + 1) % REMEMBERED;
    if (policed->count < REMEMBERED)
        policed->count++;
}

static void free_held(struct um_policed *policed, struct held *held)
{
    um_list_remove(&held->link);
    policed->held_count--;
    free(held);
}

void um_policed_destroy(struct um_sock *sock)
{
    struct um_policed *policed = sock->policed;
    sock->policed = NULL;
    while (policed && !um_list_empty(&policed->held))
        free_held(policed, UM_CONTAINER(policed->held.next, struct held, link));
    free(policed);
}

/* ---- events ---- */

/* Return: data of the event, malloced; NULL without memory. */
static struct um_act *new_act(const struct um_sock *sock, uint32_t deed,
                              const struct um_name *local,
                              const struct um_name *remote)
{
    struct um_act *act = calloc(1, sizeof *act);
    if (!act)
        return NULL;
    act->deed = deed;
    act->protocol = sock->protocol;
    memcpy(act->local, local->addr, 16);
    act->local_port = local->port;
    if (remote) {
        act->has_remote = 1;
        memcpy(act->remote, remote->addr, 16);
        act->remote_port = remote->port;
    }
    return act;
}

static struct um_event event_of(const struct um_sock *sock, struct um_act *act)
{
    return (struct um_event){.kind = UM_EVENT_ACT,
                             .view = sock->user - 1,
                             .cookie = sock->cookie,
                             .stack = (uint32_t)sock->stack->number,
                             .pid = sock->tid,
                             .data = (uint8_t *)act,
                             .len = sizeof *act};
}

/* Note whose socket it is: when it ends, nobody may be left to tell. */
static void note_view(struct um_switchboard *sb, struct um_sock *sock)
{
    if (sock->user == 0)
        sock->user = um_place_at(sb, sock->tid)->view->number + 1;
}

void um_policy_tell(struct um_switchboard *sb, struct um_sock *sock,
                    uint32_t deed, int error)
{
    if (sock->inner) /* it stands for another, who is told of */
        return;
    struct um_act *act = new_act(sock, deed, &sock->local, &sock->peer);
    if (!act)
        return;
    act->error = error;
    note_view(sb, sock);
    struct um_event event = event_of(sock, act);
    um_tell_python(sb, &event);
}

void um_policy_told_end(struct um_switchboard *sb, struct um_sock *sock)
{
    if (!(sock->stack->deeds & UM_DEED_ENDED) || sock->told_end ||
        sock->state != UM_CONNECTED || sock->domain == AF_NETLINK)
        return;
    sock->told_end = true;
    um_policy_tell(sb, sock, UM_DEED_ENDED, 0);
}

/* What ends without telling (identify.c) is looked for now and then. */

int64_t um_policy_due_ms(const struct um_switchboard *sb)
{
    return sb->tells_ends && sb->sock_count ? sb->next_ends_ms : -1;
}

bool um_policy_is_due(struct um_switchboard *sb)
{
    int64_t due_ms = um_policy_due_ms(sb), now_ms = um_now_ms();
    if (due_ms < 0 || now_ms < due_ms)
        return false;
    sb->next_ends_ms = now_ms + ENDS_MS;
    return true;
}

void um_policy_tell_all(struct um_switchboard *sb)
{
    for (size_t i = 0; sb->tells_ends && i < UM_SOCK_BUCKETS; i++)
        for (struct um_sock *sock = sb->socks[i]; sock; sock = sock->next)
            um_policy_told_end(sb, sock);
}

/* ---- asking for a call ---- */

um_verdict um_policy_ask_anew(struct um_call *call, uint32_t deed,
                              const struct um_name *local,
                              const struct um_name *remote)
{
    struct um_sock *sock = call->sock;
    struct um_word *word = &call->word;
    struct um_name name = remote ? meant(sock, remote) : *local;
    if (word->deed == deed && word->cookie == sock->cookie &&
        um_name_equal(&word->name, &name))
        return word->error ? -word->error : UM_ALLOWED;
    if (deed == UM_DEED_SEND) {
        if (is_known(sock, &name))
            return UM_ALLOWED;
        if (!(sock->stack->deeds & UM_DEED_SEND)) {
            remember(sock, &name); /* whose answers may come */
            return UM_ALLOWED;
        }
        /* What was sent before, of several, cannot be taken back. */
        if (call->nr == __NR_sendmmsg && call->seen)
            return -EAGAIN;
    }
    struct um_act *act = new_act(sock, deed, local, remote ? &name : NULL);
    if (!act)
        return -ENOMEM;
    struct um_event event = event_of(sock, act);
    *word = (struct um_word){.deed = deed,
                             .cookie = sock->cookie,
                             .name = name,
                             .again = call->again,
                             .deadline_ms = call->deadline_ms};
    call->deadline_ms = 0; /* not while the question is open */
    return um_ask_python_then(call, um_handler_of(call->nr), &event);
}

/* One policy has said no, others want to hear of it. */
static void tell_denied(struct um_call *call, int error)
{
    const struct um_sock *sock = um_sock_find(call->sb, call->word.cookie);
    if (!sock || !(sock->stack->deeds & UM_DEED_FAILED))
        return;
    struct um_act *act =
        new_act(sock, UM_DEED_FAILED, &sock->local, &call->word.name);
    if (!act)
        return;
    act->error = error;
    struct um_event event = event_of(sock, act);
    event.view = um_view_of(call);
    um_tell_python(call->sb, &event);
}

void um_policy_answered(struct um_parked *parked, int error)
{
    struct um_call *call = &parked->call;
    call->word.error = error;
    call->again = call->word.again;
    call->deadline_ms = call->word.deadline_ms;
    if (call->word.deed == UM_DEED_SEND && !error) {
        struct um_sock *sock = um_sock_find(call->sb, call->word.cookie);
        if (sock)
            remember(sock, &call->word.name);
    }
    if (call->word.deed == UM_DEED_CONNECT && error)
        tell_denied(call, error);
    uint64_t cookie = call->word.cookie;
    bool accepts = call->word.deed == UM_DEED_ACCEPT;
    struct um_switchboard *sb = call->sb;
    um_parked_resume(parked);
    struct um_sock *listener = accepts ? um_sock_find(sb, cookie) : NULL;
    if (listener) /* there may be more, for who waits next */
        um_wake(sb, listener, false);
}

/* ---- datagrams that come ---- */

/* Is the question for this peer open? */
static bool is_asked(struct um_policed *policed, const struct um_name *peer)
{
    for (struct um_list *l = policed->held.next; l != &policed->held;
         l = l->next)
        if (um_name_equal(&UM_CONTAINER(l, struct held, link)->arrival.from,
                          peer))
            return true;
    return false;
}

bool um_policy_holds(struct um_switchboard *sb, struct um_sock *sock,
                     const struct um_arrival *arrival, const void *data)
{
    struct um_name peer = meant(sock, &arrival->from);
    if (sock->domain == AF_NETLINK || is_known(sock, &peer))
        return false;
    struct um_policed *policed = policed_of(sock);
    if (!policed || policed->held_count == HELD_MAX)
        return true; /* lost, as datagrams are */
    struct held *held = malloc(sizeof *held + arrival->len);
    struct um_act *act = NULL;
    struct um_name local = {.port = sock->local.port};
    memcpy(local.addr, arrival->to, 16);
    if (held && !is_asked(policed, &peer)) {
        act = new_act(sock, UM_DEED_RECEIVE, &local, &peer);
        if (!act) {
            free(held);
            held = NULL;
        }
    }
    if (!held)
        return true;
    held->arrival = *arrival;
    held->arrival.from = peer;
    memcpy(held->data, data, arrival->len);
    um_list_append(&policed->held, &held->link);
    policed->held_count++;
    if (act) {
        note_view(sb, sock);
        struct um_event event = event_of(sock, act);
        um_tell_python(sb, &event);
    }
    return true;
}

void um_policy_release(struct um_switchboard *sb, uint64_t cookie,
                       const struct um_name *peer, int error)
{
    struct um_sock *sock = um_sock_find(sb, cookie);
    if (!sock || !sock->policed || !sock->dgram)
        return;
    if (!error)
        remember(sock, peer);
    struct um_policed *policed = sock->policed;
    struct um_list *l = policed->held.next;
    while (l != &policed->held) {
        struct held *held = UM_CONTAINER(l, struct held, link);
        l = l->next;
        if (!um_name_equal(&held->arrival.from, peer))
            continue;
        if (!error)
            um_dgram_hand_over(sb, sock, &held->arrival, held->data);
        free_held(policed, held);
    }
}

/* ---- configuration ---- */

bool um_is_policed(struct um_call *call)
{
    return um_place_at(call->sb, call->tid)->view->policed;
}

int um_view_police(struct um_switchboard *sb, int number, int on)
{
    struct um_view *view = um_view_find(sb, number);
    if (!view)
        return -EINVAL;
    view->policed = on != 0;
    return 0;
}

int um_policy_set(struct um_switchboard *sb, int number, uint32_t deeds)
{
    struct um_stack *stack = um_stack_find(sb, number);
    if (!stack)
        return -EINVAL;
    stack->deeds = deeds;
    stack->policies++;
    sb->tells_ends = sb->tells_acts = false;
    for (int i = 0; i < UM_MAX_STACKS; i++) {
        stack = um_stack_find(sb, i);
        sb->tells_ends |= stack && (stack->deeds & UM_DEED_ENDED);
        sb->tells_acts |= stack && stack->deeds;
    }
    return 0;
}
