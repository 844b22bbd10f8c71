/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * notify.c - answer the calls that the seccomp filter hands to us
 *
 * A thread that makes a filtered call sleeps until its notification, named by
 * a 64-bit id, is answered. What shapes this file:
 * (1) A signal may abandon a notification at any time; the thread handles it
 *     and, if the call restarts, we are notified again under a new id. So
 *     every handler must survive running twice, and what it had taken for the
 *     caller goes back (call->undo) when the answer says ENOENT.
 * (2) A new descriptor goes in by ADDFD with its SEND flag (Linux 5.14), which
 *     also answers: in two steps, a signal in between would leave it behind.
 * (3) Nobody tells that a notification was abandoned. A parked call may be
 *     stale, then: a thread waits in one call only, so its next call displaces
 *     the stale one; and a slow sweep finds those of dead threads.
 * (4) SEND may be taken and still be lost: a thread that a signal has woken is
 *     on its way out, but counts as waiting until it has the listener's lock.
 *     /proc/TID/wchan tells who sleeps; it is asked before an answer that
 *     hands data or a result over (observed on Linux 6.18: of 3000 datagrams
 *     under a 5 kHz timer up to 13 were lost, with this none). ADDFD needs
 *     none of it: the caller itself installs the descriptor, and if it has
 *     left, ADDFD says ESRCH.
 * (5) A path without an answer would hang the program for ever: a handler
 *     returns a verdict, and only this file turns verdicts into answers.
 *
 * A parked call is a piece of memory in a list of its socket. No descriptor
 * is held for it and no work is done until the socket has something for it;
 * um_park_until() is the exception, for the rare calls that must wait for what
 * the kernel alone sees.
 * See seccomp_unotify(2).
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
#include "trace.h"

enum { SWEEP_BATCH = 64, SWEEP_MS = 2000, WAKE_LOOKS = 2000 };

int64_t um_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- answers ---- */

/* Answer with a verdict. Return: 0, or -ENOENT if nobody waits any more. */
static int send_verdict(const struct um_call *call, um_verdict verdict)
{
    struct seccomp_notif_resp resp = {.id = call->id};
    if (verdict == UM_CONTINUE)
        resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    else if (verdict < 0)
        resp.error = (int32_t)verdict;
    else
        resp.val = verdict;
    if (ioctl(call->sb->notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &resp) == 0)
        return 0;
    return -errno;
}

bool um_call_waits(struct um_call *call)
{
    for (int i = 0; i < WAKE_LOOKS; i++) {
        if (um_thread_sleeps(call->sb, call->tid) != 0)
            return true;
        if (!um_call_valid(call))
            return false;
        sched_yield();
    }
    return true; /* this kernel does not tell */
}

/* Carry a verdict out and release what the call holds. */
static void finish(struct um_call *call, um_verdict verdict)
{
    if (verdict == UM_PARKED)
        return;
    if (call->trace)
        um_trace_look(call, verdict);
    bool taken = true;
    if (verdict != UM_ANSWERED) {
        taken = (!call->undo || um_call_waits(call)) &&
                send_verdict(call, verdict) == 0;
        if (!taken && call->undo)
            call->undo(call);
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
    struct seccomp_notif_addfd add = {
        .id = call->id,
        .flags = SECCOMP_ADDFD_FLAG_SEND,
        .srcfd = (uint32_t)fd,
        .newfd_flags = (uint32_t)cloexec,
    };
    if (call->trace)
        um_trace_look(call, 0);
    int number = ioctl(call->sb->notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
    if (call->trace)
        um_trace_given(call, number);
    return number < 0 ? -errno : number;
}

/* Is descriptor number of the caller closed on exec? Return: O_CLOEXEC or 0. */
static unsigned int cloexec_of(struct um_call *call, int number)
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
    return flags & O_CLOEXEC;
}

int um_replace_fd(struct um_call *call, int fd, int number)
{
    struct seccomp_notif_addfd add = {
        .id = call->id,
        .flags = SECCOMP_ADDFD_FLAG_SETFD,
        .srcfd = (uint32_t)fd,
        .newfd = (uint32_t)number,
        .newfd_flags = cloexec_of(call, number),
    };
    if (ioctl(call->sb->notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) < 0)
        return -errno;
    return 0;
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
    if (p->watch.fd >= 0) {
        um_watch_remove(sb, &p->watch);
        p->watch.fd = -1;
    }
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

/* Run a parked call again; it is freed, or parked anew by its handler.
 * Return: false if it was parked again. */
static bool run_again(struct um_parked *p)
{
    struct um_sock *expected = p->sock;
    struct um_call call = p->call;
    p->call.fd = -1;
    um_handler *handler = p->handler;
    detach(p);
    release(p);
    um_verdict verdict;
    /* The number may lead to another socket by now. */
    if (expected && call.fd < 0 &&
        (um_identify(&call) != 1 || call.sock != expected))
        verdict = -EBADF;
    else
        verdict = handler(&call);
    finish(&call, verdict);
    return verdict != UM_PARKED;
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
    struct um_call call = parked->call;
    parked->call.fd = -1;
    detach(parked);
    release(parked);
    finish(&call, verdict);
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

/* The call of a thread that makes another one now was abandoned: a signal came.
 * Linux restarts one with a time limit never, whatever SA_RESTART says
 * (signal(7)), but this kernel knows of no limit. So the same call anew is told
 * EINTR, unless it can be answered at once. (Without SA_RESTART it is the
 * program that calls again, and hears of EINTR twice.) */
static void drop_stale(struct um_switchboard *sb, struct um_call *call)
{
    struct um_parked *next;
    for (struct um_parked *p = *tid_bucket(sb, call->tid); p; p = next) {
        next = p->tid_next;
        if (p->call.tid != call->tid)
            continue;
        call->interrupted =
            p->call.limited && p->call.nr == call->nr &&
            memcmp(p->call.args, call->args, sizeof call->args) == 0;
        abandon(p);
    }
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
    int64_t now = um_now_ms(), best = -1;
    if (sb->parked_count) {
        if (!sb->next_sweep_ms)
            sb->next_sweep_ms = now + SWEEP_MS;
        best = sb->next_sweep_ms;
    }
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

/* ---- receiving ---- */

static void answer_one(struct um_switchboard *sb)
{
    struct seccomp_notif *notif = sb->notif;
    memset(notif, 0, sb->notif_size);
    if (ioctl(sb->notify_fd, SECCOMP_IOCTL_NOTIF_RECV, notif) != 0)
        return; /* ENOENT: abandoned before we came */
    struct um_call call = {
        .sb = sb,
        .id = notif->id,
        .tid = (pid_t)notif->pid,
        .nr = notif->data.nr,
        .fd = -1,
    };
    memcpy(call.args, notif->data.args, sizeof call.args);
    if (sb->parked_count)
        drop_stale(sb, &call);
    if (sb->tracing)
        um_trace_begin(&call);
    um_handler *handler = um_handler_of(call.nr);
    if (!handler)
        um_log(sb, UM_LOG_ERROR, "no handler for system call %d", call.nr);
    finish(&call, handler ? handler(&call) : -ENOSYS);
}

void um_notify_ready(struct um_switchboard *sb, short revents)
{
    if (revents & POLLIN) {
        answer_one(sb);
    } else if (revents & (POLLHUP | POLLERR)) {
        sb->ended = true;
        struct um_event event = {.kind = UM_EVENT_ENDED};
        um_tell_python(sb, &event);
    }
}
