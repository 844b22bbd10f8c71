/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * python.c - what the switchboard cannot answer goes to Python
 *
 * Two queues under one lock: events to Python (announced by event_fd) and
 * orders from Python (announced by kick_fd). The switchboard never waits for
 * Python: the call is parked, and the order that answers it finds it by its
 * notification id; if it was abandoned meanwhile, nobody does. Memory of a
 * program is written by the switchboard only, just before the answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "packet.h"
#include "policy.h"
#include "python.h"
#include "stream.h"

struct queued_event {
    struct queued_event *next;
    struct um_event event;
};

enum order_kind {
    ORDER_WRITE,
    ORDER_ANSWER,
    ORDER_OPEN,
    ORDER_POLICY,
    ORDER_RECEIVE,
    ORDER_NETLINK,
    ORDER_TELL,
    ORDER_LINE,
    ORDER_RUN,
    ORDER_HOLD
};

/* Work that Python waits for. */
struct work {
    int (*fn)(struct um_switchboard *sb, void *arg);
    void *arg;
    int rc;
    bool done;
};

struct order {
    struct order *next;
    enum order_kind kind;
    uint64_t id;      /* notification; or cookie for ORDER_NETLINK and
                         ORDER_RECEIVE, or stack */
    uint64_t address; /* for ORDER_OPEN: the flags; for ORDER_TELL: the group */
    int64_t value;    /* a verdict; a descriptor for ORDER_OPEN */
    size_t len;
    _Alignas(8) uint8_t data[];
};

struct um_python {
    pthread_mutex_t lock;
    pthread_cond_t worked; /* work is done, or the loop stands still */
    pthread_cond_t released;
    bool held; /* the loop stands still */
    int holds; /* how often Python has asked for that */
    struct queued_event *first_event, **last_event;
    struct order *first_order, **last_order;
    uint32_t told; /* events that wait, of those that may be many */
    bool behind;   /* they are too many */
};

enum { TOLD_MANY = 4096, TOLD_FEW = TOLD_MANY / 2 };

struct um_python *um_python_create(void)
{
    struct um_python *python = calloc(1, sizeof *python);
    if (!python)
        return NULL;
    pthread_mutex_init(&python->lock, NULL);
    pthread_cond_init(&python->worked, NULL);
    pthread_cond_init(&python->released, NULL);
    python->last_event = &python->first_event;
    python->last_order = &python->first_order;
    return python;
}

void um_python_destroy(struct um_python *python)
{
    if (!python)
        return;
    while (python->first_event) {
        struct queued_event *next = python->first_event->next;
        free(python->first_event->event.data);
        free(python->first_event);
        python->first_event = next;
    }
    while (python->first_order) {
        struct order *next = python->first_order->next;
        if (python->first_order->kind == ORDER_OPEN)
            close((int)python->first_order->value);
        free(python->first_order);
        python->first_order = next;
    }
    pthread_cond_destroy(&python->worked);
    pthread_cond_destroy(&python->released);
    pthread_mutex_destroy(&python->lock);
    free(python);
}

static void kick(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void)n; /* EAGAIN: it is set already */
}

/* ---- events, to Python ---- */

/* Whoever makes calls does not wait for these. */
static bool may_be_many(const struct um_event *event)
{
    return event->kind == UM_EVENT_CALL || event->kind == UM_EVENT_ACT;
}

void um_tell_python(struct um_switchboard *sb, struct um_event *event)
{
    struct queued_event *q = malloc(sizeof *q);
    if (!q) {
        free(event->data);
        return;
    }
    q->event = *event;
    q->next = NULL;
    pthread_mutex_lock(&sb->python->lock);
    *sb->python->last_event = q;
    sb->python->last_event = &q->next;
    if (may_be_many(event) && ++sb->python->told >= TOLD_MANY)
        sb->python->behind = true;
    pthread_mutex_unlock(&sb->python->lock);
    kick(sb->event_fd);
}

bool um_python_behind(struct um_switchboard *sb)
{
    if (!sb->tracing && !sb->tells_acts)
        return false;
    pthread_mutex_lock(&sb->python->lock);
    bool behind = sb->python->behind;
    pthread_mutex_unlock(&sb->python->lock);
    return behind;
}

static um_verdict never(struct um_call *call)
{
    (void)call;
    return -EINTR;
}

um_verdict um_ask_python(struct um_call *call, struct um_event *event)
{
    return um_ask_python_then(call, never, event);
}

um_verdict um_ask_python_then(struct um_call *call, um_handler *handler,
                              struct um_event *event)
{
    event->id = call->id;
    event->pid = call->tid;
    event->view = um_view_of(call);
    call->brief = true;
    um_verdict verdict = um_park(call, handler, NULL);
    if (verdict == UM_PARKED)
        um_tell_python(call->sb, event);
    else
        free(event->data);
    return verdict;
}

void um_log(struct um_switchboard *sb, int level, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct um_event event = {.kind = UM_EVENT_LOG, .level = (uint32_t)level};
    event.data = (uint8_t *)strdup(text);
    event.len = n < (int)sizeof text ? (uint32_t)n : sizeof text - 1;
    if (event.data)
        um_tell_python(sb, &event);
}

int um_event_fd(struct um_switchboard *sb)
{
    return sb->event_fd;
}

int um_event_next(struct um_switchboard *sb, struct um_event *ret)
{
    struct um_python *python = sb->python;
    pthread_mutex_lock(&python->lock);
    struct queued_event *q = python->first_event;
    bool caught_up = false;
    if (q) {
        if (may_be_many(&q->event) && --python->told <= TOLD_FEW) {
            caught_up = python->behind;
            python->behind = false;
        }
        python->first_event = q->next;
        if (!q->next)
            python->last_event = &python->first_event;
    } else {
        uint64_t count;
        ssize_t n = read(sb->event_fd, &count, sizeof count);
        (void)n; /* EAGAIN: it was empty */
    }
    pthread_mutex_unlock(&python->lock);
    if (caught_up)
        kick(sb->kick_fd);
    if (!q)
        return 0;
    *ret = q->event;
    free(q);
    return 1;
}

void um_event_free(struct um_event *event)
{
    free(event->data);
    event->data = NULL;
}

/* ---- orders, from Python ---- */

static int order(struct um_switchboard *sb, enum order_kind kind, uint64_t id,
                 uint64_t address, int64_t value, const void *data, size_t len)
{
    struct order *o = malloc(sizeof *o + len);
    if (!o)
        return -ENOMEM;
    *o = (struct order){
        .kind = kind, .id = id, .address = address, .value = value, .len = len};
    if (len)
        memcpy(o->data, data, len);
    pthread_mutex_lock(&sb->python->lock);
    *sb->python->last_order = o;
    sb->python->last_order = &o->next;
    pthread_mutex_unlock(&sb->python->lock);
    return 0;
}

int um_netlink_push(struct um_switchboard *sb, uint64_t cookie,
                    const void *data, size_t len)
{
    int rc = order(sb, ORDER_NETLINK, cookie, 0, 0, data, len);
    if (rc == 0)
        kick(sb->kick_fd);
    return rc;
}

int um_netlink_tell(struct um_switchboard *sb, int stack, int group,
                    const void *data, size_t len)
{
    int rc =
        order(sb, ORDER_TELL, (uint64_t)stack, (uint64_t)group, 0, data, len);
    if (rc == 0)
        kick(sb->kick_fd);
    return rc;
}

int um_line_tell(struct um_switchboard *sb, int stack, const void *packet,
                 size_t len)
{
    int rc = order(sb, ORDER_LINE, (uint64_t)stack, 0, 0, packet, len);
    if (rc == 0)
        kick(sb->kick_fd);
    return rc;
}

int um_answer_write(struct um_switchboard *sb, uint64_t id, uint64_t address,
                    const void *data, size_t len)
{
    return order(sb, ORDER_WRITE, id, address, 0, data, len);
}

int um_answer(struct um_switchboard *sb, uint64_t id, int64_t value, int error)
{
    int rc = order(sb, ORDER_ANSWER, id, 0, error ? -error : value, NULL, 0);
    if (rc == 0)
        kick(sb->kick_fd);
    return rc;
}

int um_answer_open(struct um_switchboard *sb, uint64_t id, int fd,
                   uint32_t flags)
{
    int rc = order(sb, ORDER_OPEN, id, flags, fd, NULL, 0);
    if (rc == 0)
        kick(sb->kick_fd);
    else
        close(fd);
    return rc;
}

int um_policy_answer(struct um_switchboard *sb, uint64_t id, int error)
{
    int rc = order(sb, ORDER_POLICY, id, 0, error, NULL, 0);
    if (rc == 0)
        kick(sb->kick_fd);
    return rc;
}

int um_policy_receive(struct um_switchboard *sb, uint64_t cookie,
                      const uint8_t *address, int port, int error)
{
    struct um_name peer = {.port = (uint16_t)port};
    memcpy(peer.addr, address, sizeof peer.addr);
    int rc = order(sb, ORDER_RECEIVE, cookie, 0, error, &peer, sizeof peer);
    if (rc == 0)
        kick(sb->kick_fd);
    return rc;
}

int um_python_run(struct um_switchboard *sb,
                  int (*fn)(struct um_switchboard *sb, void *arg), void *arg)
{
    struct work work = {.fn = fn, .arg = arg}, *pointer = &work;
    if (!sb->running || sb->python->holds)
        return fn(sb, arg);
    int rc = order(sb, ORDER_RUN, 0, 0, 0, &pointer, sizeof pointer);
    if (rc < 0)
        return rc;
    kick(sb->kick_fd);
    pthread_mutex_lock(&sb->python->lock);
    while (!work.done)
        pthread_cond_wait(&sb->python->worked, &sb->python->lock);
    pthread_mutex_unlock(&sb->python->lock);
    return work.rc;
}

static void do_work(struct um_switchboard *sb, struct work *work)
{
    int rc = work->fn(sb, work->arg);
    pthread_mutex_lock(&sb->python->lock);
    work->rc = rc;
    work->done = true;
    pthread_cond_broadcast(&sb->python->worked);
    pthread_mutex_unlock(&sb->python->lock);
}

int um_hold(struct um_switchboard *sb)
{
    struct um_python *python = sb->python;
    if (!sb->running || python->holds) {
        python->holds += sb->running;
        return 0;
    }
    int rc = order(sb, ORDER_HOLD, 0, 0, 0, NULL, 0);
    if (rc < 0)
        return rc;
    kick(sb->kick_fd);
    pthread_mutex_lock(&python->lock);
    while (!python->held)
        pthread_cond_wait(&python->worked, &python->lock);
    pthread_mutex_unlock(&python->lock);
    python->holds = 1;
    return 0;
}

void um_release(struct um_switchboard *sb)
{
    struct um_python *python = sb->python;
    if (!python->holds || --python->holds)
        return;
    pthread_mutex_lock(&python->lock);
    python->held = false;
    pthread_cond_signal(&python->released);
    pthread_mutex_unlock(&python->lock);
}

static void stand_still(struct um_python *python)
{
    pthread_mutex_lock(&python->lock);
    python->held = true;
    pthread_cond_signal(&python->worked);
    while (python->held)
        pthread_cond_wait(&python->released, &python->lock);
    pthread_mutex_unlock(&python->lock);
}

/* ---- the listing of sockets ---- */

struct listing {
    struct um_socket_info *ret;
    int max, count;
};

/* A connection's state, as far as its surrogate knows of the two ends. */
static uint16_t connected_state(const struct um_sock *sock)
{
    bool peer_ended = sock->ended_read && !sock->shut_read;
    if (sock->type != SOCK_STREAM)
        return TCP_ESTABLISHED;
    if (peer_ended)
        return sock->shut_write ? TCP_CLOSE : TCP_CLOSE_WAIT;
    return sock->shut_write ? TCP_FIN_WAIT2 : TCP_ESTABLISHED;
}

/* The state's number, as ss(8) and /proc/net/tcp use it. */
static uint16_t state_of(const struct um_sock *sock)
{
    switch (sock->state) {
    case UM_LISTENING:
        return TCP_LISTEN;
    case UM_CONNECTING:
        return TCP_SYN_SENT;
    case UM_CONNECTED:
        return connected_state(sock);
    case UM_FRESH:
    case UM_FAILED:
    case UM_CLOSED:
        break;
    }
    return TCP_CLOSE;
}

static void describe(const struct um_sock *sock, struct um_socket_info *ret)
{
    *ret = (struct um_socket_info){
        .cookie = sock->cookie,
        .stack = (uint32_t)sock->stack->number,
        .family = (uint16_t)sock->domain,
        .type = (uint16_t)sock->type,
        .protocol = (uint16_t)sock->protocol,
        .state = state_of(sock),
        .local_port = sock->local.port,
        .remote_port = sock->peer.port,
        .inode = sock->inode,
        .card = (uint32_t)sock->card,
        .waiting = sock->waiting,
        .backlog = sock->listen ? (uint32_t)sock->listen->backlog : 0,
        .v6only = sock->v6only,
    };
    memcpy(ret->local, sock->local.addr, sizeof ret->local);
    memcpy(ret->remote, sock->peer.addr, sizeof ret->remote);
}

static int list_sockets(struct um_switchboard *sb, void *arg)
{
    struct listing *listing = arg;
    um_collect(sb, true);
    for (size_t i = 0; i < UM_SOCK_BUCKETS; i++)
        for (struct um_sock *sock = sb->socks[i]; sock; sock = sock->next)
            if (listing->count++ < listing->max)
                describe(sock, &listing->ret[listing->count - 1]);
    return 0;
}

int um_socket_list(struct um_switchboard *sb, struct um_socket_info *ret,
                   int max)
{
    struct listing listing = {.ret = ret, .max = max};
    int rc = um_python_run(sb, list_sockets, &listing);
    return rc < 0 ? rc : listing.count;
}

/* Return: false if the order is about a stopped call. */
static bool carry_out_for_all(struct um_switchboard *sb, const struct order *o)
{
    struct work *work;
    struct um_sock *sock;
    switch (o->kind) {
    case ORDER_RUN:
        memcpy(&work, o->data, sizeof work);
        do_work(sb, work);
        return true;
    case ORDER_NETLINK:
        sock = um_sock_find(sb, o->id);
        if (sock)
            um_netlink_deliver(sb, sock, o->data, o->len);
        return true;
    case ORDER_RECEIVE:
        um_policy_release(sb, o->id, (const void *)o->data, (int)o->value);
        return true;
    case ORDER_TELL:
        if (sb->stacks[o->id])
            um_netlink_spread(sb, sb->stacks[o->id], (int)o->address, o->data,
                              o->len);
        return true;
    case ORDER_LINE:
        if (sb->stacks[o->id])
            um_packet_order(sb->stacks[o->id], o->data, o->len);
        return true;
    case ORDER_HOLD:
        stand_still(sb->python);
        return true;
    case ORDER_WRITE:
    case ORDER_ANSWER:
    case ORDER_POLICY:
    case ORDER_OPEN:
        break;
    }
    return false;
}

static void carry_out(struct um_switchboard *sb, const struct order *o)
{
    if (carry_out_for_all(sb, o))
        return;
    struct um_parked *parked = um_parked_find(sb, o->id);
    if (o->kind == ORDER_OPEN) {
        int fd = (int)o->value;
        if (parked) {
            int rc =
                um_answer_fd(&parked->call, fd, (int)o->address & O_CLOEXEC);
            um_unpark(parked, rc < 0 ? rc : UM_ANSWERED);
        }
        close(fd);
        return;
    }
    if (!parked)
        return;
    if (o->kind == ORDER_ANSWER)
        um_unpark(parked, o->value);
    else if (o->kind == ORDER_POLICY)
        um_policy_answered(parked, (int)o->value);
    else if (um_write(&parked->call, o->address, o->data, o->len) < 0)
        um_unpark(parked, -EFAULT);
}

void um_python_kicked(struct um_switchboard *sb)
{
    pthread_mutex_lock(&sb->python->lock);
    struct order *o = sb->python->first_order;
    sb->python->first_order = NULL;
    sb->python->last_order = &sb->python->first_order;
    pthread_mutex_unlock(&sb->python->lock);
    while (o) {
        struct order *next = o->next;
        carry_out(sb, o);
        free(o);
        o = next;
    }
}
