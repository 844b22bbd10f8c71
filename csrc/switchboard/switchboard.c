/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * switchboard.c - the thread that answers calls: its birth, loop and end
 *
 * One loop over the seccomp listener and an epoll set: the queue from
 * Python, our ends of surrogates, host sockets. The listener is beside the
 * set and not in it, because epoll passes the wake-up "on the caller's CPU,
 * at once" on as a plain one, and poll(2) keeps it (observed on Linux 6.18:
 * a stopped pair of calls across CPUs 22 us instead of 28 to 74). The batch
 * of events in hand may name a watch that an earlier event of the same batch
 * has ended, so memory with a watch in it is freed after the batch
 * (um_later_free).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../pump/pump.h"
#include "loop.h"
#include "packet.h"
#include "policy.h"
#include "python.h"
#include "stream.h"
#include "tracer.h"

enum { BATCH = 1024 };

/* ---- watches ---- */

int um_watch_add(struct um_switchboard *sb, struct um_watch *watch, int fd,
                 uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = watch};
    watch->fd = fd;
    return epoll_ctl(sb->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int um_watch_change(struct um_switchboard *sb, struct um_watch *watch,
                    uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = watch};
    return epoll_ctl(sb->epoll_fd, EPOLL_CTL_MOD, watch->fd, &ev) < 0 ? -errno
                                                                      : 0;
}

static void ignore(struct um_switchboard *sb, struct um_watch *watch,
                   uint32_t events)
{
    (void)sb;
    (void)watch;
    (void)events;
}

void um_watch_remove(struct um_switchboard *sb, struct um_watch *watch)
{
    epoll_ctl(sb->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->fn = ignore;
}

void um_later_free(struct um_switchboard *sb, void *memory)
{
    if (sb->later_count == sb->later_room) {
        size_t room = sb->later_room ? 2 * sb->later_room : 64;
        void **later = realloc(sb->later, room * sizeof *later);
        if (!later)
            return; /* leaked rather than freed too early */
        sb->later = later;
        sb->later_room = room;
    }
    sb->later[sb->later_count++] = memory;
}

static void free_later(struct um_switchboard *sb)
{
    while (sb->later_count)
        free(sb->later[--sb->later_count]);
}

/* ---- the loop ---- */

int um_source_add(struct um_switchboard *sb, int fd)
{
    size_t size = (size_t)(sb->source_count + 1) * sizeof *sb->sources;
    struct pollfd *sources = realloc(sb->sources, size);
    if (!sources) {
        close(fd);
        return -ENOMEM;
    }
    /* The set, which came first, stays the last. */
    int at = sb->source_count++;
    if (at > 0) {
        sources[at] = sources[at - 1];
        at--;
    }
    sources[at] = (struct pollfd){.fd = fd, .events = POLLIN};
    sb->sources = sources;
    return 0;
}

void um_source_remove(struct um_switchboard *sb, int fd)
{
    int i = 0, set = sb->source_count - 1;
    while (i < set && sb->sources[i].fd != fd)
        i++;
    if (i == set)
        return;
    close(fd);
    sb->sources[i] = sb->sources[set - 1];
    sb->sources[set - 1] = sb->sources[set];
    sb->source_count--;
    if (sb->source_count > 1)
        return;
    struct um_event event = {.kind = UM_EVENT_ENDED};
    um_tell_python(sb, &event);
}

static void *run(void *arg)
{
    struct um_switchboard *sb = arg;
    struct epoll_event events[BATCH];
    prctl(PR_SET_NAME, "um-switchboard", 0, 0, 0);
    while (!sb->stop) {
        bool deaf = um_python_behind(sb);
        if (!deaf && sb->tracer && sb->tracer->take)
            sb->tracer->take(sb);
        int set = sb->source_count - 1, first = deaf ? set : 0;
        (void)poll(sb->sources + first, (nfds_t)(set - first + 1),
                   sb->more && !deaf ? 0 : um_parked_timeout_ms(sb));
        /* First what a send() has queued or a close() ended, then the call that
         * may ask for it: whoever sends and then looks has seen the first happen
         * first. So poll looks at the set last, or both might happen after it has
         * and before it looks at the tracer. */
        int n = 0;
        if (sb->sources[set].revents)
            n = epoll_wait(sb->epoll_fd, events, BATCH, 0);
        for (int i = 0; i < n; i++) {
            struct um_watch *watch = events[i].data.ptr;
            watch->fn(sb, watch, events[i].events);
            um_run_wakes(sb);
        }
        /* The last first, for one that ends is taken out. */
        for (int i = set - 1; i >= first; i--)
            sb->tracer->ready(sb, &sb->sources[i]);
        um_run_wakes(sb);
        um_parked_tick(sb);
        um_run_wakes(sb);
        um_stacks_tick(sb);
        um_streams_reap(sb);
        um_collect(sb, um_policy_is_due(sb));
        free_later(sb);
    }
    return NULL;
}

static void kicked(struct um_switchboard *sb, struct um_watch *watch,
                   uint32_t events)
{
    (void)events;
    uint64_t count;
    if (read(watch->fd, &count, sizeof count) == sizeof count)
        um_python_kicked(sb);
}

/* ---- birth and end ---- */

static int open_parts(struct um_switchboard *sb, const char *rundir)
{
    sb->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    sb->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sb->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sb->dir_fd = open(rundir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (sb->epoll_fd < 0 || sb->kick_fd < 0 || sb->event_fd < 0 ||
        sb->dir_fd < 0)
        return -errno;
    sb->scratch = malloc(UM_SCRATCH);
    sb->python = um_python_create();
    sb->pump = um_pump_create();
    if (!sb->scratch || !sb->python || !sb->pump)
        return -ENOMEM;
    sb->kick_watch.fn = kicked;
    int rc = um_watch_add(sb, &sb->kick_watch, sb->kick_fd, EPOLLIN);
    if (rc == 0)
        rc = um_source_add(sb, sb->epoll_fd);
    if (rc == 0)
        rc = um_files_add(sb, 0, -1);
    return rc < 0 ? rc : um_streams_open(sb);
}

struct um_switchboard *um_switchboard_create(const char *rundir)
{
    struct um_switchboard *sb = calloc(1, sizeof *sb);
    if (!sb)
        return NULL;
    um_list_init(&sb->parked);
    um_list_init(&sb->timed);
    um_list_init(&sb->wakes);
    sb->diag_fd = -1;
    sb->relay_fd = sb->relay_path_fd = -1;
    um_pidfds_init(sb);
    um_netns_init(sb);
    int rc = um_views_create(sb);
    if (rc == 0)
        rc = open_parts(sb, rundir);
    if (rc < 0) {
        um_switchboard_destroy(sb);
        errno = -rc;
        return NULL;
    }
    return sb;
}

/* What the thread of the loop begins with. */
struct birth {
    struct um_switchboard *sb;
    int (*fn)(struct um_switchboard *sb, void *arg);
    void *arg;
    sem_t done;
    int rc;
};

/* A process that runs, and gets the filter that flags stand for. */
struct entrant {
    pid_t pid;
    int flags;
};

static void *begin(void *arg)
{
    struct birth *birth = arg;
    struct um_switchboard *sb = birth->sb;
    int rc = birth->rc = birth->fn(sb, birth->arg);
    sem_post(&birth->done);
    return rc == 0 ? run(sb) : NULL;
}

static int start_threads(struct um_switchboard *sb,
                         int (*fn)(struct um_switchboard *sb, void *arg),
                         void *arg)
{
    struct birth birth = {.sb = sb, .fn = fn, .arg = arg};
    sem_init(&birth.done, 0, 0);
    /* Signals are the Python thread's. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = um_pump_start(sb->pump);
    pthread_t thread;
    if (rc == 0)
        rc = -pthread_create(&thread, NULL, begin, &birth);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        while (sem_wait(&birth.done) < 0)
            ;
        rc = birth.rc;
        if (rc < 0)
            pthread_join(thread, NULL);
    }
    sem_destroy(&birth.done);
    if (rc == 0) {
        sb->thread = thread;
        sb->running = true;
    }
    return rc;
}

static int enter_listener(struct um_switchboard *sb, void *arg)
{
    return um_seccomp_start(sb, *(int *)arg);
}

static int enter_traced(struct um_switchboard *sb, void *arg)
{
    return um_ptrace_start(sb, *(int *)arg);
}

static int enter_running(struct um_switchboard *sb, void *arg)
{
    const struct entrant *e = arg;
    if (e->flags & UM_FILTER_TRACE)
        return um_ptrace_attach(sb, e->pid, e->flags);
    int listener = um_attach_listener(sb, e->pid, e->flags);
    return listener < 0 ? listener : um_seccomp_start(sb, listener);
}

/* What has begun the loop waits for more; the first is done by its thread, too,
 * for a ptrace request counts only from that which traces. */
static int enter(struct um_switchboard *sb,
                 int (*fn)(struct um_switchboard *sb, void *arg), void *arg)
{
    return sb->running ? um_python_run(sb, fn, arg)
                       : start_threads(sb, fn, arg);
}

int um_switchboard_start(struct um_switchboard *sb, int listener)
{
    return enter(sb, enter_listener, &listener);
}

int um_switchboard_trace(struct um_switchboard *sb, int pid)
{
    return enter(sb, enter_traced, &pid);
}

int um_switchboard_attach(struct um_switchboard *sb, int pid, int flags)
{
    struct entrant entrant = {pid, flags};
    return enter(sb, enter_running, &entrant);
}

static void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void stop_thread(struct um_switchboard *sb)
{
    if (!sb->running)
        return;
    sb->stop = 1;
    uint64_t one = 1;
    if (write(sb->kick_fd, &one, sizeof one) == sizeof one)
        pthread_join(sb->thread, NULL);
    sb->running = false;
}

void um_switchboard_stop(struct um_switchboard *sb)
{
    stop_thread(sb);
    um_parked_drop_all(sb);
    um_policy_tell_all(sb);
}

void um_switchboard_destroy(struct um_switchboard *sb)
{
    if (!sb)
        return;
    um_switchboard_stop(sb);
    um_pump_destroy(sb->pump);
    for (size_t i = 0; i < UM_SOCK_BUCKETS; i++)
        while (sb->socks[i])
            um_sock_destroy(sb, sb->socks[i]);
    um_dgrams_destroy(sb);
    um_stacks_destroy(sb);
    um_views_destroy(sb);
    um_streams_close(sb);
    free_later(sb);
    um_models_destroy(sb->models);
    um_files_destroy(sb);
    um_hidden_destroy(sb);
    free(sb->kept.cookies);
    um_python_destroy(sb->python);
    um_pidfds_close(sb);
    if (sb->tracer)
        sb->tracer->close(sb);
    for (int i = 0; i < sb->source_count - 1; i++)
        close(sb->sources[i].fd);
    free(sb->sources);
    close_fd(sb->diag_fd);
    close_fd(sb->epoll_fd);
    close_fd(sb->kick_fd);
    close_fd(sb->event_fd);
    close_fd(sb->dir_fd);
    free(sb->scratch);
    free(sb->later);
    free(sb);
}
