/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ptrace.c - the tracer that needs no listener
 *
 * The same filter stops the same calls, by SECCOMP_RET_TRACE: the thread is in
 * a ptrace stop before its call, and we are its tracer. Requests count only
 * from the thread that has attached, so this is the thread of the loop. What
 * shapes this file:
 * (1) wait(2) has no descriptor. SIGCHLD has one (signalfd(2)), but one for any
 *     number of changes: after it all are taken, until there are no more.
 * (2) No descriptor can be brought into a program. The call in hand is
 *     rewritten instead, so that the program makes it: socket(AF_UNIX, ...) for
 *     a surrogate, accept4 on its own surrogate. Its exit stop is waited for at
 *     once, for none of these blocks; then pidfd_getfd gives us a copy. A file
 *     that is shown the program takes from us, by a pidfd_getfd of its own.
 * (3) A thread in a ptrace stop hears no signal but SIGKILL. So a call that is
 *     parked becomes ppoll() of nothing, without end, which every signal ends
 *     and every filter of a program's own is likely to allow. Whatever stops
 *     the thread then finds the registers as the kernel leaves those of a call
 *     that a signal interrupts: the call restarts, or fails with EINTR, by the
 *     rules of signal(7). That is also how it is called back when there is
 *     something for it: PTRACE_INTERRUPT, and it restarts and comes anew. So an
 *     answer is only ever given to a thread that stands, and never lost.
 * (4) A thread's own exec takes the number of its process's leader over. The
 *     leader's death is not told; the old number is (PTRACE_GETEVENTMSG).
 * (5) Children that are traced are hidden from wait(2) of the threads that do
 *     not trace them: who waits is this file only, and it tells Python.
 * See ptrace(2), seccomp(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"
#include "tracee.h"
#include "tracer.h"

enum {
    TRACEE_BUCKETS = 1024,
    RESTART_SYS = 512, /* ERESTARTSYS: the kernel's own, seen in registers */
    NAME_MAX_MEMFD = 249,
    LINGER_US = 50
};

static const uint32_t OPTIONS = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK |
                                PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                                PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD;

enum place {
    RUNS,
    BEFORE, /* in the stop before its call */
    BEHIND, /* in the stop behind a call that was rewritten */
    SLEEPS, /* parked */
    CALLED  /* ... and called back */
};

struct tracee {
    struct tracee *next;
    pid_t tid;
    enum place place;
    uint64_t id;         /* of its last stopped call */
    struct um_regs regs; /* as they were before that call */
    int made;            /* a descriptor that the rewritten call made, or -1 */
};

struct um_tracees {
    struct tracee *buckets[TRACEE_BUCKETS];
    int source_fd;      /* tells that something has changed */
    pid_t taken;        /* whose change is in hand; 0: none is */
    int status;         /* what wait(2) says of it */
    int64_t changed_us; /* CLOCK_MONOTONIC; the last change */
    pid_t first;        /* whose end and stops Python hears of; 0: it entered */
    int maker_fd;       /* listener that datagram surrogates are connected to */
    int maker_path_fd;  /* O_PATH of its inode */
};

/* ---- threads ---- */

static struct tracee **find(const struct um_switchboard *sb, pid_t tid)
{
    struct tracee **at = &sb->tracees->buckets[(uint32_t)tid % TRACEE_BUCKETS];
    while (*at && (*at)->tid != tid)
        at = &(*at)->next;
    return at;
}

/* The thread that makes the call, if it still stands there. */
static struct tracee *standing(const struct um_call *call)
{
    struct tracee *t = *find(call->sb, call->tid);
    return t && t->id == call->id && (t->place == BEFORE || t->place == BEHIND)
               ? t
               : NULL;
}

/* The thread that is in a stop. */
static struct tracee *add(struct um_switchboard *sb, pid_t tid)
{
    struct tracee **at = find(sb, tid);
    if (*at)
        return *at;
    struct tracee *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    if (!sb->tracees->first)
        ptrace(PTRACE_SETOPTIONS, tid, 0, OPTIONS | PTRACE_O_EXITKILL);
    t->tid = tid;
    t->made = -1;
    *at = t;
    return t;
}

static void forget(struct um_switchboard *sb, pid_t tid)
{
    struct tracee **at = find(sb, tid);
    struct tracee *t = *at;
    if (!t)
        return;
    *at = t->next;
    free(t);
    um_parked_abandon(sb, tid);
}

/* Let a thread run on. That it was killed meanwhile will be told. */
static void go_on(struct tracee *t, int signal)
{
    t->place = RUNS;
    t->made = -1;
    ptrace(PTRACE_CONT, t->tid, 0, signal);
}

/* ---- answers ---- */

/* Run one more call of the thread, behind one that was rewritten. Return: what
 * it returned, or a negative errno. */
static int64_t run(struct tracee *t, long nr, const uint64_t args[6])
{
    uint64_t mask;
    int64_t result = 0;
    int rc = um_tracee_block_signals(t->tid, &mask);
    if (rc < 0)
        return rc;
    rc = um_tracee_inject(t->tid, &t->regs, nr, args, &result);
    um_tracee_set_mask(t->tid, mask);
    return rc < 0 ? rc : result;
}

/* Take back what the program's rewritten call has made. */
static void unmake(struct tracee *t)
{
    uint64_t args[6] = {(uint64_t)t->made};
    run(t, __NR_close, args);
}

static int ptrace_send(struct um_call *call, um_verdict verdict)
{
    struct tracee *t = standing(call);
    if (!t)
        return -ENOENT;
    if (verdict != UM_CONTINUE) {
        struct um_regs regs = t->regs;
        if (t->made >= 0)
            unmake(t);
        if (t->place == BEFORE)
            um_regs_set_call(&regs, -1, call->args);
        um_regs_set_result(&regs, verdict);
        um_regs_write(t->tid, &regs);
    }
    go_on(t, 0);
    return 0;
}

static bool ptrace_valid(const struct um_call *call)
{
    const struct tracee *t = *find(call->sb, call->tid);
    return t && t->id == call->id;
}

static bool ptrace_waits(struct um_call *call)
{
    return standing(call) != NULL;
}

/* ---- parked calls ---- */

static void ptrace_sleep(struct um_call *call)
{
    struct tracee *t = standing(call);
    if (!t)
        return;
    static const uint64_t nothing[6];
    struct um_regs regs = t->regs;
    um_regs_set_call(&regs, __NR_ppoll, nothing);
    um_regs_write(t->tid, &regs);
    go_on(t, 0);
    t->place = SLEEPS;
}

static void ptrace_recall(struct um_call *call)
{
    struct tracee *t = *find(call->sb, call->tid);
    if (t && t->place == SLEEPS) {
        t->place = CALLED;
        ptrace(PTRACE_INTERRUPT, call->tid, 0, 0);
    }
}

/* A thread has left its sleep: give it back the call that it had made, as one
 * that is interrupted with this (> 0, an errno or ERESTARTSYS). */
static void wake(struct tracee *t, int error)
{
    struct um_regs regs = t->regs;
    um_regs_set_result(&regs, -error);
    um_regs_write(t->tid, &regs);
}

/* A signal comes, or a stop, between a parked call and its answer. */
static void abandon(struct um_switchboard *sb, struct tracee *t)
{
    bool limited = um_parked_abandon(sb, t->tid);
    t->id = 0;
    wake(t, limited ? EINTR : RESTART_SYS);
}

/* ---- descriptors ---- */

/* Run another call in the place of the one in hand. Return: what it returned;
 * -ENOENT: the thread is gone. */
static int64_t rewrite(struct um_call *call, long nr, const uint64_t args[6])
{
    struct tracee *t = standing(call);
    if (!t || t->place != BEFORE)
        return -ENOENT;
    struct um_regs regs = t->regs;
    um_regs_set_call(&regs, nr, args);
    int rc = um_regs_write(t->tid, &regs);
    if (rc == 0)
        rc = um_tracee_step(t->tid, PTRACE_SYSCALL, 0);
    if (rc < 0 || WSTOPSIG(rc) != (SIGTRAP | 0x80) ||
        um_regs_read(t->tid, &regs) < 0) {
        t->id = 0;
        t->place = RUNS;
        return -ENOENT;
    }
    t->place = BEHIND;
    return um_regs_result(&regs);
}

/* The same for a call that makes a descriptor. Return: our copy of it. */
static int make(struct um_call *call, long nr, const uint64_t args[6])
{
    int64_t number = rewrite(call, nr, args);
    if (number < 0)
        return (int)number;
    struct tracee *t = standing(call);
    t->made = (int)number;
    return um_getfd(call->sb, call->tid, t->made);
}

static int ptrace_make_native(struct um_call *call, int domain, int type,
                              int protocol)
{
    uint64_t args[6] = {(uint64_t)domain, (uint64_t)type, (uint64_t)protocol};
    return make(call, __NR_socket, args);
}

static int ptrace_make_stream(struct um_call *call, int flags)
{
    return ptrace_make_native(call, AF_UNIX, SOCK_STREAM | flags, 0);
}

static int open_maker(struct um_switchboard *sb)
{
    struct um_tracees *all = sb->tracees;
    if (all->maker_fd >= 0)
        return 0;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int path_fd = fd < 0 ? -errno : um_bind_private(sb, fd);
    if (path_fd >= 0 && listen(fd, 1) < 0) {
        close(path_fd);
        path_fd = -errno;
    }
    if (path_fd < 0) {
        if (fd >= 0)
            close(fd);
        return path_fd;
    }
    all->maker_fd = fd;
    all->maker_path_fd = path_fd;
    return 0;
}

static int ptrace_make_pair(struct um_call *call, int flags, int *end)
{
    uint64_t args[6] = {AF_UNIX, SOCK_SEQPACKET | (unsigned int)flags};
    int rc = open_maker(call->sb);
    if (rc < 0)
        return rc;
    int fd = make(call, __NR_socket, args);
    if (fd < 0)
        return fd;
    rc = um_connect_to(fd, call->sb->tracees->maker_path_fd);
    if (rc == 0) {
        rc = accept4(call->sb->tracees->maker_fd, NULL, NULL,
                     SOCK_CLOEXEC | (flags & SOCK_NONBLOCK));
        if (rc < 0)
            rc = -errno;
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    um_dgram_size(fd);
    um_dgram_size(rc);
    *end = rc;
    return fd;
}

static int ptrace_accept(struct um_call *call, int flags)
{
    struct tracee *t = standing(call);
    if (t && t->place == BEHIND && t->made >= 0)
        return -EAGAIN; /* one a call */
    uint64_t args[6] = {call->args[0], 0, 0, (unsigned int)flags};
    return make(call, __NR_accept4, args);
}

/* Does the thread know us by the number that we know? */
static bool knows_us(pid_t tid)
{
    char path[32];
    struct stat ours, its;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", tid);
    return stat("/proc/self/ns/pid", &ours) == 0 && stat(path, &its) == 0 &&
           ours.st_ino == its.st_ino;
}

/* Let the program take a descriptor of ours. Its number is that of the pidfd,
 * the lowest that was free. Where Yama asks for it, we allow to be looked into
 * meanwhile. Return: the number, which is t->made; or a negative errno, for
 * instance EPERM to who has become another user. */
static int bring(struct um_call *call, int fd, int cloexec)
{
    struct tracee *t = standing(call);
    uint64_t self[6] = {(uint64_t)getpid()};
    int64_t number =
        knows_us(t->tid) ? rewrite(call, __NR_pidfd_open, self) : -ESRCH;
    if (number < 0)
        return (int)number;
    t->made = (int)number;
    uint64_t take[6] = {(uint64_t)number, (uint64_t)fd};
    prctl(PR_SET_PTRACER, t->tid, 0, 0, 0);
    int64_t taken = run(t, __NR_pidfd_getfd, take);
    prctl(PR_SET_PTRACER, 0, 0, 0, 0);
    if (taken < 0)
        return (int)taken;
    uint64_t put[6] = {(uint64_t)taken, (uint64_t)number, (uint64_t)cloexec};
    number = run(t, __NR_dup3, put);
    run(t, __NR_close, put);
    return (int)number;
}

/* Fill a file that the program has made. Return: 0 or a negative errno. */
static int fill(int fd, int from)
{
    char block[4096];
    ssize_t n;
    off_t at = 0;
    for (; (n = pread(from, block, sizeof block, at)) > 0; at += n)
        if (pwrite(fd, block, (size_t)n, at) != n)
            return -EIO;
    if (n < 0)
        return -errno;
    fcntl(fd, F_ADD_SEALS,
          F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    return 0;
}

/* Show a file to a program that may not take it: it makes one of its own, which
 * bears the path as its name. Return: as bring(). */
static int copy_file(struct um_call *call, int from, int cloexec)
{
    struct tracee *t = standing(call);
    struct stat st;
    if (!t)
        return -ENOENT;
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
        return -EACCES; /* no folder can be made so */
    uint64_t path =
        call->args[call->nr == __NR_openat2 || call->nr == __NR_openat];
    char text[4096];
    ssize_t len = um_peek_string(call, path, text, sizeof text);
    if (len < 0)
        return (int)len;
    if (len > NAME_MAX_MEMFD)
        path += (uint64_t)(len - NAME_MAX_MEMFD);
    uint64_t args[6] = {path, MFD_ALLOW_SEALING | (cloexec ? MFD_CLOEXEC : 0)};
    if (t->made >= 0)
        unmake(t);
    t->made = -1;
    int64_t number = t->place == BEFORE ? rewrite(call, __NR_memfd_create, args)
                                        : run(t, __NR_memfd_create, args);
    if (number < 0)
        return (int)number;
    t->made = (int)number;
    int fd = um_getfd(call->sb, call->tid, t->made);
    int rc = fd < 0 ? fd : fill(fd, from);
    if (fd >= 0)
        close(fd);
    return rc < 0 ? rc : t->made;
}

static int ptrace_give(struct um_call *call, int fd, int cloexec)
{
    struct tracee *t = standing(call);
    if (!t)
        return -ENOENT;
    int number = t->made >= 0 ? t->made : bring(call, fd, cloexec);
    if (number < 0)
        number = copy_file(call, fd, cloexec);
    if (number < 0)
        return number;
    t->made = -1;
    int rc = ptrace_send(call, number);
    return rc < 0 ? rc : number;
}

static int ptrace_renew(struct um_call *call, int flags)
{
    struct tracee *t = standing(call);
    if (!t || t->place != BEFORE)
        return -ENOENT;
    uint64_t number = call->args[0];
    uint64_t cloexec = (uint64_t)um_cloexec_of(call, (int)number);
    int fd = ptrace_make_stream(call, flags);
    if (fd < 0)
        return fd;
    uint64_t args[6] = {(uint64_t)t->made, number, cloexec};
    int rc = (int)run(t, __NR_dup3, args);
    unmake(t);
    t->made = -1;
    if (rc < 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

/* ---- what wait(2) tells ---- */

static void tell(struct um_switchboard *sb, pid_t pid, int status)
{
    if (pid != sb->tracees->first)
        return;
    siginfo_t info;
    struct um_event event = {
        .kind = UM_EVENT_CHILD,
        .pid = pid,
        .request = (uint32_t)status,
        .arg = waitid(P_ALL, 0, &info,
                      WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) == 0,
    };
    um_tell_python(sb, &event);
}

static void call_came(struct um_switchboard *sb, struct tracee *t)
{
    int rc = um_regs_read(t->tid, &t->regs);
    if (rc < 0) {
        if (rc != -ESRCH) {
            um_log(sb, UM_LOG_ERROR, "thread %d has strange registers: killed",
                   t->tid);
            kill(t->tid, SIGKILL);
        }
        return;
    }
    t->place = BEFORE;
    t->id = ++sb->serial;
    struct um_call call = {
        .sb = sb,
        .id = t->id,
        .tid = t->tid,
        .nr = (int)um_regs_nr(&t->regs),
        .fd = -1,
    };
    for (int i = 0; i < 6; i++)
        call.args[i] = um_regs_arg(&t->regs, i);
    um_call_came(&call);
}

/* An exec has ended the other threads of a process. */
static void has_executed(struct um_switchboard *sb, struct tracee *t)
{
    unsigned long before;
    if (ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &before) == 0 &&
        (pid_t)before != t->tid)
        forget(sb, (pid_t)before);
    um_parked_abandon(sb, t->tid);
    t->id = 0;
    go_on(t, 0);
}

/* PTRACE_EVENT_STOP: a new thread, a stopped group, or we have called. */
static void stopped(struct um_switchboard *sb, struct tracee *t, int status)
{
    bool called = t->place == CALLED;
    if (called)
        wake(t, RESTART_SYS);
    else if (t->place == SLEEPS)
        abandon(sb, t);
    if (WSTOPSIG(status) == SIGTRAP) {
        go_on(t, 0);
    } else {
        t->place = RUNS;
        tell(sb, t->tid, W_STOPCODE(WSTOPSIG(status)));
        ptrace(PTRACE_LISTEN, t->tid, 0, 0);
    }
    if (called)
        t->place = CALLED;
}

static void changed(struct um_switchboard *sb, pid_t tid, int status)
{
    if (!WIFSTOPPED(status)) {
        forget(sb, tid);
        tell(sb, tid, status);
        return;
    }
    struct tracee *t = add(sb, tid);
    if (!t) {
        kill(tid, SIGKILL); /* fail closed: its calls could not be answered */
        return;
    }
    switch (status >> 16) {
    case PTRACE_EVENT_SECCOMP:
        call_came(sb, t);
        break;
    case PTRACE_EVENT_EXEC:
        has_executed(sb, t);
        break;
    case PTRACE_EVENT_STOP:
        stopped(sb, t, status);
        break;
    case 0: /* a signal */
        if (t->place == SLEEPS || t->place == CALLED)
            abandon(sb, t);
        go_on(t, WSTOPSIG(status));
        break;
    default:
        go_on(t, 0);
    }
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* One change at a time, for what a program did before its call goes first. Stops
 * come in bursts, and to be woken by one across CPUs takes longer than to answer
 * it (observed on Linux 6.18: 170 to 330 us, where asking again takes 20): so who
 * has answered one asks on for a while, before it sleeps. */
static void ptrace_take(struct um_switchboard *sb)
{
    struct um_tracees *all = sb->tracees;
    all->taken = sb->more ? waitpid(-1, &all->status, __WALL | WNOHANG) : 0;
    if (!sb->more || all->taken > 0)
        return;
    bool over = all->taken < 0 && errno == ECHILD;
    sb->more = all->taken == 0 && now_us() - all->changed_us < LINGER_US;
    if (sb->more)
        sched_yield();
    if (over)
        um_source_remove(sb, all->source_fd);
}

static void ptrace_ready(struct um_switchboard *sb, const struct pollfd *source)
{
    struct um_tracees *all = sb->tracees;
    struct signalfd_siginfo info;
    if (source->revents & POLLIN && read(source->fd, &info, sizeof info) > 0)
        sb->more = true;
    if (all->taken <= 0)
        return;
    changed(sb, all->taken, all->status);
    all->changed_us = now_us();
}

/* ---- the start and the end ---- */

static void ptrace_close(struct um_switchboard *sb)
{
    struct um_tracees *all = sb->tracees;
    if (!all)
        return;
    for (size_t i = 0; i < TRACEE_BUCKETS; i++)
        while (all->buckets[i]) {
            struct tracee *next = all->buckets[i]->next;
            free(all->buckets[i]);
            all->buckets[i] = next;
        }
    if (all->maker_fd >= 0) {
        close(all->maker_fd);
        close(all->maker_path_fd);
    }
    free(all);
}

static const struct um_tracer tracer = {
    .take = ptrace_take,
    .ready = ptrace_ready,
    .close = ptrace_close,
    .send = ptrace_send,
    .valid = ptrace_valid,
    .waits = ptrace_waits,
    .sleep = ptrace_sleep,
    .recall = ptrace_recall,
    .make_stream = ptrace_make_stream,
    .make_native = ptrace_make_native,
    .make_pair = ptrace_make_pair,
    .accept = ptrace_accept,
    .give = ptrace_give,
    .renew = ptrace_renew,
};

/* Begin, before anything is traced. */
static int begin(struct um_switchboard *sb, pid_t first)
{
    if (sb->tracees)
        return 0; /* another one comes */
    struct um_tracees *all = calloc(1, sizeof *all);
    if (!all)
        return -ENOMEM;
    all->first = first;
    all->maker_fd = -1;
    sb->tracees = all;
    sb->tracer = &tracer;
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    all->source_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    return all->source_fd < 0 ? -errno : um_source_add(sb, all->source_fd);
}

int um_ptrace_start(struct um_switchboard *sb, pid_t pid)
{
    int rc = begin(sb, pid);
    if (rc == 0 &&
        ptrace(PTRACE_SEIZE, pid, 0, OPTIONS | PTRACE_O_EXITKILL) < 0)
        rc = -errno;
    /* EPERM is also said of one that has ended. */
    return rc == -EPERM && um_thread_has_ended(pid) ? -ESRCH : rc;
}

int um_ptrace_attach(struct um_switchboard *sb, pid_t pid, int flags)
{
    int rc = begin(sb, 0);
    sb->more = true; /* it may have stopped, or ended, already */
    return rc < 0 ? rc : um_attach_traced(sb, pid, flags, OPTIONS);
}

/* ---- programs that trace ---- */

um_verdict um_handle_ptrace(struct um_call *call)
{
    switch (call->args[0]) {
    case PTRACE_TRACEME:
    case PTRACE_ATTACH:
    case PTRACE_SEIZE:
        um_log(call->sb, UM_LOG_WARNING,
               "process %d wants to trace (a debugger?): all in this view are "
               "traced by umview already; with --tracer seccomp it can",
               call->tid);
        return -EPERM;
    default:
        return -ESRCH; /* of none is it the tracer */
    }
}
