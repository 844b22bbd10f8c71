/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * notify.c - stopped calls: from their coming to their answer
 *
 * A tracer (tracer.h) stops a thread in a call and hands it to us; a handler
 * returns a verdict; only this file turns verdicts into answers, for a path
 * without an answer would hang the program for ever.
 * (1) A signal may abandon a call at any time; the thread handles it and, if
 *     the call restarts, it comes anew under a new id. So every handler must
 *     survive running twice, and what it had taken for the caller goes back
 *     (call->undo) when the answer finds nobody.
 * (2) Nobody may tell that a call was abandoned. A parked call may be stale,
 *     then: a thread waits in one call only, so its next call displaces the
 *     stale one; and a slow sweep finds those of dead threads.
 *
 * A parked call is a piece of memory in a list of its socket. No descriptor
 * is held for it and no work is done until the socket has something for it;
 * um_park_until() is the exception, for the rare calls that must wait for what
 * the kernel alone sees.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "policy.h"
#include "trace.h"
#include "tracer.h"

enum { SWEEP_BATCH = 64, SWEEP_MS = 2000 };

int64_t um_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- answers ---- */

bool um_call_waits(struct um_call *call)
{
    return call->sb->tracer->waits(call);
}

/* Carry a verdict out and release what the call holds. */
static void finish(struct um_call *call, um_verdict verdict)
{
    const struct um_tracer *tracer = call->sb->tracer;
    if (verdict == UM_PARKED) {
        if (tracer->sleep && !call->brief)
            tracer->sleep(call);
        return;
    }
    verdict = um_untold_verdict(call, verdict);
    if (call->trace)
        um_trace_look(call, verdict);
    bool taken = true;
    if (verdict != UM_ANSWERED) {
        taken = (!call->undo || um_call_waits(call)) &&
                tracer->send(call, verdict) == 0;
        if (!taken && call->undo)
            call->undo(call);
        else
            um_untold_note(call, verdict, taken);
        /* Sent before, it would end the very call that it belongs to. */
        if (taken && call->broken_pipe)
            syscall(SYS_tkill, call->tid, SIGPIPE);
    }
    if (call->trace && taken)
        um_trace_end(call, verdict);
    else if (call->trace)
        um_trace_abandon(call);
    if (call->fd >= 0)
        close(call->fd);
    call->fd = -1;
}

int um_answer_fd(struct um_call *call, int fd, int cloexec)
{
    if (call->trace)
        um_trace_look(call, 0);
    int number = call->sb->tracer->give(call, fd, cloexec);
    if (call->trace)
        um_trace_given(call, number < 0 ? -1 : number);
    return number;
}

int um_cloexec_of(const struct um_call *call, int number)
{
    char path[64], line[64];
    unsigned int flags = 0;
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", call->tid, number);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "flags: %o", &flags) == 1)
            break;
    fclose(f);
    return (int)(flags & O_CLOEXEC);
}

bool um_call_nonblocking(struct um_call *call, int msg_flags)
{
    if (msg_flags & MSG_DONTWAIT)
        return true;
    int flags = fcntl(call->fd, F_GETFL);
    return flags < 0 || (flags & O_NONBLOCK);
}

void um_call_deadline(struct um_call *call, struct um_sock *sock, int option)
{
    if (call->again)
        return;
    int64_t limit_ms = um_option_timeout_ms(sock, option);
    call->limited = limit_ms != 0;
    call->deadline_ms = limit_ms ? um_now_ms() + limit_ms : 0;
}

bool um_call_expired(const struct um_call *call)
{
    return call->deadline_ms && um_now_ms() >= call->deadline_ms;
}

/* ---- parked calls ---- */

static struct um_parked **tid_bucket(struct um_switchboard *sb, pid_t tid)
{
    return &sb->parked_by_tid[(uint32_t)tid % UM_TID_BUCKETS];
}

static void stop_watching(struct um_parked *p)
{
    if (p->watch.fd >= 0)
        um_watch_remove(p->call.sb, &p->watch);
    p->watch.fd = -1;
}

/* Take a parked call out of every list. Its call stays the caller's. */
static void detach(struct um_parked *p)
{
    struct um_switchboard *sb = p->call.sb;
    struct um_parked **at = tid_bucket(sb, p->call.tid);
    while (*at && *at != p)
        at = &(*at)->tid_next;
    if (*at)
        *at = p->tid_next;
    um_list_remove(&p->waiters);
    um_list_remove(&p->all);
    um_list_remove(&p->timed);
    sb->parked_count--;
    stop_watching(p);
}

static void release(struct um_parked *p)
{
    if (p->call.fd >= 0)
        close(p->call.fd);
    um_later_free(p->call.sb, p);
}

/* Forget a parked call that nobody waits for any more. */
static void abandon(struct um_parked *p)
{
    detach(p);
    if (p->call.trace)
        um_trace_abandon(&p->call);
    release(p);
}

static struct um_parked *new_parked(struct um_call *call, um_handler *handler)
{
    struct um_switchboard *sb = call->sb;
    struct um_parked *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->call = *call;
    p->call.again = true;
    p->handler = handler;
    p->sock = call->sock;
    p->verdict = UM_PARKED;
    p->watch.fd = -1;
    um_list_init(&p->waiters);
    um_list_init(&p->timed);
    um_list_append(&sb->parked, &p->all);
    if (call->deadline_ms)
        um_list_append(&sb->timed, &p->timed);
    struct um_parked **head = tid_bucket(sb, call->tid);
    p->tid_next = *head;
    *head = p;
    sb->parked_count++;
    return p;
}

um_verdict um_park(struct um_call *call, um_handler *handler,
                   struct um_sock *sock)
{
    if (call->interrupted)
        return -EINTR;
    if (um_call_expired(call))
        return -EAGAIN;
    struct um_parked *p = new_parked(call, handler);
    if (!p)
        return -ENOMEM;
    p->call.fd = -1;
    if (call->fd >= 0)
        close(call->fd);
    call->fd = -1;
    if (sock)
        um_list_append(&sock->waiters, &p->waiters);
    return UM_PARKED;
}

/* Go on with a parked call, which stands; it is freed, or parked anew by its
 * handler. Return: false if it was parked again. */
static bool resume(struct um_parked *p)
{
    struct um_sock *expected = p->sock;
    struct um_call call = p->call;
    p->call.fd = -1;
    um_handler *handler = p->handler;
    um_verdict verdict = p->verdict;
    detach(p);
    release(p);
    call.brief = false;
    /* The number may lead to another socket by now. */
    if (verdict != UM_PARKED)
        ;
    else if (expected && call.fd < 0 &&
             (um_identify(&call) != 1 || call.sock != expected))
        verdict = -EBADF;
    else
        verdict = handler(&call);
    finish(&call, verdict);
    return verdict != UM_PARKED;
}

/* Must its thread come before it can be run again? */
static bool must_come(const struct um_parked *p)
{
    return p->call.sb->tracer->recall && !p->call.brief;
}

/* Run a parked call again, now or when its thread has come. Return: false if
 * it was parked again, or comes. */
static bool run_again(struct um_parked *p)
{
    if (!must_come(p))
        return resume(p);
    um_list_remove(&p->timed);
    stop_watching(p);
    if (p->verdict != UM_PARKED)
        p->call.sock = NULL; /* it may be gone when the thread has come */
    if (!p->recalled) {
        p->recalled = true;
        p->call.sb->tracer->recall(&p->call);
    }
    return false;
}

static void parked_ready(struct um_switchboard *sb, struct um_watch *watch,
                         uint32_t events)
{
    (void)sb;
    (void)events;
    run_again(UM_CONTAINER(watch, struct um_parked, watch));
}

um_verdict um_park_until(struct um_call *call, um_handler *handler, int events)
{
    if (call->interrupted)
        return -EINTR;
    if (um_call_expired(call))
        return -EAGAIN;
    struct um_parked *p = new_parked(call, handler);
    if (!p)
        return -ENOMEM;
    int rc = um_watch_add(call->sb, &p->watch, call->fd, (uint32_t)events);
    p->watch.fn = parked_ready;
    if (rc < 0) {
        p->watch.fd = -1;
        p->call.fd = -1;
        detach(p);
        release(p);
        return rc;
    }
    call->fd = -1;
    return UM_PARKED;
}

void um_unpark(struct um_parked *parked, um_verdict verdict)
{
    parked->verdict = verdict;
    um_list_remove(&parked->waiters);
    run_again(parked);
}

void um_parked_resume(struct um_parked *parked)
{
    if (um_call_valid(&parked->call))
        run_again(parked);
    else
        abandon(parked);
}

void um_wake(struct um_switchboard *sb, struct um_sock *sock, bool wake_all)
{
    if (um_list_empty(&sock->waiters))
        return;
    sock->wake_all |= wake_all;
    um_list_remove(&sock->wake);
    um_list_append(&sb->wakes, &sock->wake);
}

/* Run the waiters of one socket: each once, or until one has to wait on. */
static void run_waiters(struct um_sock *sock)
{
    bool all = sock->wake_all;
    sock->wake_all = false;
    size_t count = 0;
    for (struct um_list *l = sock->waiters.next; l != &sock->waiters;
         l = l->next)
        count++;
    /* Who must wait on is parked anew, behind the others. */
    for (bool go_on = true;
         go_on && count > 0 && !um_list_empty(&sock->waiters); count--) {
        struct um_parked *p =
            UM_CONTAINER(sock->waiters.next, struct um_parked, waiters);
        if (um_call_valid(&p->call)) {
            um_list_remove(&p->waiters);
            um_list_append(&sock->waiters, &p->waiters);
            go_on = run_again(p) || all;
        } else {
            abandon(p);
        }
    }
}

void um_run_wakes(struct um_switchboard *sb)
{
    while (!um_list_empty(&sb->wakes)) {
        struct um_sock *sock =
            UM_CONTAINER(sb->wakes.next, struct um_sock, wake);
        um_list_remove(&sock->wake);
        run_waiters(sock);
    }
}

static struct um_parked *parked_of(struct um_switchboard *sb, pid_t tid)
{
    struct um_parked *p = *tid_bucket(sb, tid);
    while (p && p->call.tid != tid)
        p = p->tid_next;
    return p;
}

bool um_parked_abandon(struct um_switchboard *sb, pid_t tid)
{
    struct um_parked *p = parked_of(sb, tid);
    if (!p)
        return false;
    bool limited = p->call.limited;
    /* What it was to have is the next one's. */
    if (p->recalled && p->sock && !um_list_empty(&p->waiters))
        um_wake(sb, p->sock, false);
    abandon(p);
    return limited;
}

static bool same_call(const struct um_call *a, const struct um_call *b)
{
    return a->nr == b->nr && memcmp(a->args, b->args, sizeof a->args) == 0;
}

/* The parked call of a thread that makes another one now has been abandoned: a
 * signal came. Linux restarts one with a time limit never, whatever SA_RESTART
 * says (signal(7)), but this kernel knows of no limit. So the same call anew is
 * told EINTR, unless it can be answered at once. (Without SA_RESTART it is the
 * program that calls again, and hears of EINTR twice.) */
static void drop_stale(struct um_call *call)
{
    const struct um_parked *p = parked_of(call->sb, call->tid);
    bool same = p && same_call(&p->call, call);
    call->interrupted = um_parked_abandon(call->sb, call->tid) && same;
}

/* A parked call that was recalled has come: go on with it. */
static void go_on(struct um_parked *p, uint64_t id)
{
    struct um_switchboard *sb = p->call.sb;
    struct um_sock *sock = um_list_empty(&p->waiters) ? NULL : p->sock;
    uint64_t cookie = sock ? sock->cookie : 0;
    p->call.id = id;
    /* There may be more: for who waits next. */
    if (resume(p) && sock && um_sock_find(sb, cookie) == sock)
        um_wake(sb, sock, false);
}

void um_call_came(struct um_call *call)
{
    struct um_switchboard *sb = call->sb;
    if (um_is_question(call)) {
        finish(call, -UM_PRESENT);
        return;
    }
    if (sb->parked_count) {
        struct um_parked *p = parked_of(sb, call->tid);
        if (p && p->recalled && same_call(&p->call, call)) {
            go_on(p, call->id);
            return;
        }
        drop_stale(call);
    }
    if (sb->tracing)
        um_trace_begin(call);
    um_handler *handler = um_handler_of(call->nr);
    if (!handler)
        um_log(sb, UM_LOG_ERROR, "no handler for system call %d", call->nr);
    finish(call, handler ? handler(call) : -ENOSYS);
}

struct um_parked *um_parked_find(struct um_switchboard *sb, uint64_t id)
{
    for (struct um_list *l = sb->parked.prev; l != &sb->parked; l = l->prev) {
        struct um_parked *p = UM_CONTAINER(l, struct um_parked, all);
        if (p->call.id == id)
            return p;
    }
    return NULL;
}

int um_parked_timeout_ms(struct um_switchboard *sb)
{
    int64_t now = um_now_ms(), best = um_policy_due_ms(sb);
    if (sb->parked_count) {
        if (!sb->next_sweep_ms)
            sb->next_sweep_ms = now + SWEEP_MS;
        if (best < 0 || sb->next_sweep_ms < best)
            best = sb->next_sweep_ms;
    }
    if (sb->leaving && (best < 0 || sb->next_look_ms < best))
        best = sb->next_look_ms;
    if (!um_list_empty(&sb->dials) &&
        (best < 0 || sb->next_dial_tick_ms < best))
        best = sb->next_dial_tick_ms;
    for (struct um_list *l = sb->timed.next; l != &sb->timed; l = l->next) {
        struct um_parked *p = UM_CONTAINER(l, struct um_parked, timed);
        if (best < 0 || p->call.deadline_ms < best)
            best = p->call.deadline_ms;
    }
    if (best < 0)
        return -1;
    return best <= now ? 0 : (int)(best - now);
}

void um_parked_tick(struct um_switchboard *sb)
{
    int64_t now = um_now_ms();
    struct um_list *l = sb->timed.next;
    while (l != &sb->timed) {
        struct um_parked *p = UM_CONTAINER(l, struct um_parked, timed);
        l = l->next;
        if (p->call.deadline_ms <= now) {
            run_again(p);
            l = sb->timed.next; /* the list may have changed anywhere */
        }
    }
    if (!sb->parked_count || now < sb->next_sweep_ms)
        return;
    sb->next_sweep_ms = now + SWEEP_MS;
    for (int i = 0; i < SWEEP_BATCH && !um_list_empty(&sb->parked); i++) {
        struct um_parked *p =
            UM_CONTAINER(sb->parked.next, struct um_parked, all);
        if (um_call_valid(&p->call)) {
            um_list_remove(&p->all);
            um_list_append(&sb->parked, &p->all);
        } else {
            abandon(p);
        }
    }
}

void um_parked_drop_all(struct um_switchboard *sb)
{
    while (!um_list_empty(&sb->parked)) {
        struct um_parked *p =
            UM_CONTAINER(sb->parked.next, struct um_parked, all);
        abandon(p);
    }
}
