/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * attach.c - a running program enters the view
 *
 * Only a thread itself can put itself under a filter. So one of the program's
 * threads is stopped by ptrace(2) and made to run seccomp(2), which extends the
 * filter to all the others at once (TSYNC); then it is let go of, and the
 * listener does the rest, as in any view. What shapes this:
 * (1) One thread is stopped, and that is all. Stopping them all first looks
 *     safer and is not needed, and it shows: epoll_wait and a few others fail
 *     with EINTR when their thread is stopped, whatever SA_RESTART says
 *     (signal(7)). So the thread is chosen among those whose call restarts by
 *     itself, if there is one; else the call is made to restart, a time limit
 *     from its beginning.
 * (2) A call that was interrupted restarts when the kernel, on its way out of
 *     a signal stop, finds ERESTARTSYS (or the like) in the registers. After
 *     the injected calls the thread is in a stop of another kind; it has to be
 *     stopped anew, and gets its registers back there.
 * (3) Sockets that the program has stay the host's, so they must be known from
 *     those that come later, by SCM_RIGHTS: these would be a way out. They are
 *     noted when the filter is in place: since then nothing makes a socket or
 *     receives one without us, and we do not answer yet. Only a call that was
 *     under way when the filter came could: so who is seen running is stopped
 *     for a moment, and every call that began before has then ended.
 * (4) Nobody can take a filter away, not even the program. What the kernel
 *     may not have is tried before, on ourselves (trial.c).
 * (5) Where there is no listener the program stays traced. Its threads have to
 *     be traced before the filter is there, or their calls would fail; to seize
 *     one does not stop it. EXITKILL waits for a thread's first stop: what goes
 *     wrong until then ends with us, and lets the program go on as it was.
 * See ptrace(2), seccomp(2), proc_pid_syscall(5).
 */
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tracee.h"
#include "tracer.h"

#ifndef PTRACE_GET_RSEQ_CONFIGURATION /* Linux 5.13 */
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH /* Linux 5.7 */
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif

enum {
    STOP_LIMIT_MS = 3000,
    RSEQ_TRIES = 100,
    CODE_PLACES = 16 * 1024,
    /* The kernel's own: a result that the program never sees. */
    RESTART_UNLESS_HANDLED = -514, /* ERESTARTNOHAND */
};

static const struct timespec brief = {.tv_nsec = 100000};

/* ---- the threads of a process ---- */

/* Call fn for every thread, until it says other than 0. Return: that, or 0, or
 * a negative errno. */
static int each_number(const char *path, int (*fn)(int number, void *arg),
                       void *arg)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            rc = fn(atoi(entry->d_name), arg);
    closedir(dir);
    return rc;
}

static int each_thread(pid_t pid, int (*fn)(int tid, void *arg), void *arg)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    return each_number(path, fn, arg);
}

/* The thread that traces a thread; 0: none. */
static pid_t tracer_of(pid_t tid)
{
    char path[32], line[128];
    int tracer = 0;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "TracerPid: %d", &tracer) == 1)
            break;
    fclose(file);
    return tracer;
}

/* What a thread does. In this order it is chosen for running calls in. */
enum activity {
    WAITS,   /* in a call that restarts by itself */
    RUNS,    /* in the program, or in a call that does not wait */
    FRAGILE, /* in a call that fails with EINTR when it is stopped */
    STUCK,   /* where no signal reaches it: vfork(2), a disk */
    GONE
};

/* Calls that a stop of their thread ends with EINTR, though nothing has
 * happened yet: signal(7), "Interruption of system calls and library functions
 * by stop signals"; those of sockets if they have a time limit. */
static bool is_fragile(long nr)
{
    static const int calls[] = {
#ifdef SYS_epoll_wait
        SYS_epoll_wait,
#endif
        SYS_epoll_pwait,
#ifdef SYS_epoll_pwait2
        SYS_epoll_pwait2,
#endif
        SYS_semop,        SYS_semtimedop, SYS_rt_sigtimedwait, SYS_io_getevents,
        SYS_accept,       SYS_accept4,    SYS_connect,         SYS_recvfrom,
        SYS_recvmsg,      SYS_recvmmsg,   SYS_sendto,          SYS_sendmsg,
        SYS_sendmmsg,
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i] == nr)
            return true;
    return false;
}

static enum activity activity_of(pid_t tid)
{
    char path[64], line[256];
    long nr;
    snprintf(path, sizeof path, "/proc/%d/syscall", tid);
    FILE *file = fopen(path, "re");
    if (!file)
        return GONE;
    const char *got = fgets(line, sizeof line, file);
    fclose(file);
    if (!got)
        return GONE;
    if (sscanf(line, "%ld", &nr) != 1)
        return RUNS;
    if (um_thread_state(tid) == 'D')
        return STUCK;
    return is_fragile(nr) ? FRAGILE : WAITS;
}

/* ---- stopping one, and letting go of it ---- */

/* A process on its way into the view. */
struct entrant {
    struct um_switchboard *sb;
    pid_t pid;
    int flags;             /* of the filter */
    bool stays;            /* traced, by this thread */
    uint32_t options;      /* of ptrace(2), if it stays */
    bool some_were_new;    /* among its threads, when they were seized */
    struct um_regs before; /* of the thread that runs calls, and ... */
    uint64_t mask;         /* ... its blocked signals */
};

/* Wait for the stop that PTRACE_INTERRUPT asked for; a signal on its way goes
 * where it wanted to. Return: its wait status. */
static int wait_stopped(pid_t tid)
{
    int64_t limit_ms = um_now_ms() + STOP_LIMIT_MS;
    for (;;) {
        int status;
        pid_t got = waitpid(tid, &status, __WALL | WNOHANG);
        if (got < 0 || (got == tid && !WIFSTOPPED(status)))
            return -ESRCH;
        if (got == tid && status >> 16 == PTRACE_EVENT_STOP)
            return status;
        if (got == tid && ptrace(PTRACE_CONT, tid, 0,
                                 status >> 16 ? 0 : WSTOPSIG(status)) < 0)
            return -errno;
        if (um_now_ms() > limit_ms)
            return -ETIMEDOUT;
        nanosleep(&brief, NULL);
    }
}

/* A call that failed because its thread was stopped is to be made again. */
static int restart_fragile(pid_t tid, struct um_regs *regs)
{
#ifdef __x86_64__
    if (um_regs_result(regs) == -EINTR && is_fragile(um_regs_nr(regs))) {
        um_regs_set_result(regs, RESTART_UNLESS_HANDLED);
        return um_regs_write(tid, regs);
    }
#else
    (void)tid; /* the kernel has overwritten the first argument there */
    (void)regs;
#endif
    return 0;
}

/* Stop a thread. *regs: what it goes on with. Return: the wait status. */
static int stop(const struct entrant *e, pid_t tid, struct um_regs *regs)
{
    if (!e->stays && ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) < 0)
        return -errno;
    if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
        return -errno;
    int status = wait_stopped(tid);
    int rc = status < 0 ? status : um_regs_read(tid, regs);
    if (rc == 0)
        rc = restart_fragile(tid, regs);
    return rc < 0 ? rc : status;
}

/* Let a thread go on, or stand still with its stopped group. */
static int let_go(const struct entrant *e, pid_t tid, int status)
{
    enum __ptrace_request request = PTRACE_DETACH;
    if (e->stays)
        request = WSTOPSIG(status) == SIGTRAP ? PTRACE_CONT : PTRACE_LISTEN;
    return ptrace(request, tid, 0, 0) < 0 ? -errno : 0;
}

/* Let a thread in which calls were run go on with what it did. */
static int restore(const struct entrant *e, pid_t tid)
{
    int rc = um_tracee_set_mask(tid, e->mask);
    if (rc == 0 && (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 ||
                    ptrace(PTRACE_CONT, tid, 0, 0) < 0))
        rc = -errno;
    int status = rc == 0 ? wait_stopped(tid) : rc;
    if (status < 0)
        return status;
    rc = um_regs_write(tid, &e->before);
    return rc == 0 ? let_go(e, tid, status) : rc;
}

/* Is the thread in a restartable sequence (rseq(2))? To run something else
 * there would end the sequence without its knowing. */
static bool in_sequence(pid_t tid)
{
    struct {
        uint64_t address;
        uint32_t size, signature, flags, pad;
    } config;
    enum { CS_AT = 8 };
    uint64_t sequence = 0;
    if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof config, &config) <=
            0 ||
        !config.address)
        return false;
    struct iovec local = {&sequence, sizeof sequence};
    struct iovec remote = {(void *)(uintptr_t)(config.address + CS_AT),
                           sizeof sequence};
    return process_vm_readv(tid, &local, 1, &remote, 1, 0) == sizeof sequence &&
           sequence != 0;
}

/* Stop a thread where calls can be run. Return: 0. */
static int stop_outside_sequence(struct entrant *e, pid_t tid)
{
    int rc = stop(e, tid, &e->before);
    for (int i = 0; rc >= 0 && in_sequence(tid); i++) {
        if (i == RSEQ_TRIES)
            return -EAGAIN;
        if (ptrace(PTRACE_CONT, tid, 0, 0) < 0 ||
            ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
            return -errno;
        rc = wait_stopped(tid);
        if (rc >= 0)
            rc = um_regs_read(tid, &e->before);
    }
    return rc < 0 ? rc : 0;
}

/* ---- running calls in one ---- */

/* Where the vdso, which every program has, lies. */
static uint64_t vdso_of(pid_t tid)
{
    char path[32], line[512];
    unsigned long start = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", tid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        if (strstr(line, "[vdso]") && sscanf(line, "%lx-", &start) == 1)
            break;
    fclose(file);
    return start;
}

/* The address behind an instruction that makes a system call: the kernel's own
 * page has some. Return: 0 if none is found. */
static uint64_t find_gate(pid_t tid)
{
#ifdef __x86_64__
    static const uint8_t gate[UM_CALL_LENGTH] = {0x0f, 0x05};
#else
    static const uint8_t gate[UM_CALL_LENGTH] = {0x01, 0x00, 0x00, 0xd4};
#endif
    uint8_t code[CODE_PLACES];
    uint64_t start = vdso_of(tid);
    struct iovec local = {code, sizeof code};
    struct iovec remote = {(void *)(uintptr_t)start, sizeof code};
    ssize_t len = start ? process_vm_readv(tid, &local, 1, &remote, 1, 0) : 0;
    const uint8_t *at =
        len > 0 ? memmem(code, (size_t)len, gate, sizeof gate) : NULL;
    return at ? start + (uint64_t)(at - code) + UM_CALL_LENGTH : 0;
}

/* A thread that runs calls for us. */
struct runner {
    pid_t tid;
    struct um_regs at;
};

/* Run a call. Return: its result. */
static int64_t run(const struct runner *r, long nr, uint64_t a, uint64_t b,
                   uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    int64_t ret = 0;
    int rc = um_tracee_inject(r->tid, &r->at, nr,
                              (const uint64_t[]){a, b, c, d, e, f}, &ret);
    return rc < 0 ? rc : ret;
}

/* Write the program of the filter to a page of the thread's process. */
static int write_code(const struct runner *r, uint64_t page,
                      const struct sock_filter *code, unsigned short count)
{
    struct sock_fprog head = {
        .len = count, .filter = (void *)(uintptr_t)(page + sizeof head)};
    size_t len = count * sizeof *code;
    struct iovec local[] = {{&head, sizeof head},
                            {(void *)(uintptr_t)code, len}};
    struct iovec remote = {(void *)(uintptr_t)page, sizeof head + len};
    ssize_t n = process_vm_writev(r->tid, local, 2, &remote, 1, 0);
    if (n < 0)
        return -errno;
    return (size_t)n == sizeof head + len ? 0 : -EFAULT;
}

/* Let the thread put its process under the filter. Return: the listener, our
 * own copy, or 0 for a filter without one. */
static int install(const struct entrant *e, const struct runner *r,
                   uint64_t page)
{
    uint64_t how = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if (!e->stays)
        how |=
            SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
    int64_t rc = run(r, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
    if (rc == 0)
        rc = run(r, SYS_seccomp, SECCOMP_SET_MODE_FILTER, how, page, 0, 0, 0);
    /* A thread has a filter that the others have not; without a listener its
     * number is returned. */
    if (rc == -ESRCH || (e->stays && rc > 0))
        rc = -EBUSY;
    if (rc < 0 || e->stays)
        return (int)rc;
    int listener = um_getfd(e->sb, r->tid, (int)rc);
    run(r, SYS_close, (uint64_t)rc, 0, 0, 0, 0, 0);
    return listener;
}

/* The same, with memory for the filter. */
static int install_from(const struct entrant *e, struct runner *r)
{
    unsigned short count = 0;
    int rc = 0;
    uint64_t gate = find_gate(r->tid);
    if (!gate)
        return -ENOEXEC;
    um_regs_set_pc(&r->at, gate);
    struct sock_filter *code = um_filter_compile(e->flags, &count, &rc);
    if (!code)
        return rc;
    size_t len = sizeof(struct sock_fprog) + count * sizeof *code;
    int64_t page = run(r, SYS_mmap, 0, len, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
    rc = page < 0 ? (int)page : write_code(r, (uint64_t)page, code, count);
    free(code);
    if (rc == 0)
        rc = install(e, r, (uint64_t)page);
    if (page >= 0)
        run(r, SYS_munmap, (uint64_t)page, len, 0, 0, 0, 0);
    return rc;
}

/* ---- which one ---- */

struct choice {
    pid_t tid;
    enum activity activity;
};

static int choose(int tid, void *arg)
{
    struct choice *best = arg;
    enum activity activity = activity_of(tid);
    if (activity < best->activity) {
        best->tid = tid;
        best->activity = activity;
    }
    return best->activity == WAITS;
}

/* Let a thread of the process do it. */
static int install_in(struct entrant *e)
{
    struct choice best = {e->pid, GONE};
    int rc = each_thread(e->pid, choose, &best);
    if (rc >= 0)
        rc = stop_outside_sequence(e, best.tid);
    if (rc == 0)
        rc = um_tracee_block_signals(best.tid, &e->mask);
    if (rc < 0)
        return rc;
    struct runner runner = {best.tid, e->before};
    int result = install_from(e, &runner);
    rc = restore(e, best.tid);
    if (rc < 0 && result > 0)
        close(result);
    return rc < 0 ? rc : result;
}

/* ---- all of them ---- */

static int seize(int tid, void *arg)
{
    struct entrant *e = arg;
    if (ptrace(PTRACE_SEIZE, tid, 0, e->options) == 0) {
        e->some_were_new = true;
        return 0;
    }
    int error = errno;
    char state = um_thread_state(tid);
    /* One that ends now; one that a thread of ours has made is ours already. */
    if (state == 'Z' || state == 'X' || tracer_of(tid) == gettid())
        return 0;
    return -error;
}

/* Trace every thread; once they all are, so are the next ones. */
static int seize_all(struct entrant *e)
{
    int rc;
    do {
        e->some_were_new = false;
        rc = each_thread(e->pid, seize, e);
    } while (rc == 0 && e->some_were_new);
    return rc;
}

/* Stop a thread that stays traced. What it stops for beside that is left to its
 * tracer. */
static void stop_traced(const struct entrant *e, pid_t tid)
{
    int64_t limit_ms = um_now_ms() + STOP_LIMIT_MS;
    siginfo_t info = {0};
    struct um_regs regs;
    if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
        return;
    while (um_now_ms() < limit_ms && info.si_pid == 0 &&
           waitid(P_PID, (id_t)tid, &info,
                  WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) == 0)
        nanosleep(&brief, NULL);
    if (info.si_code != CLD_TRAPPED || info.si_status >> 8 != PTRACE_EVENT_STOP)
        return;
    int status = wait_stopped(tid);
    if (status >= 0 && um_regs_read(tid, &regs) == 0)
        restart_fragile(tid, &regs);
    if (status >= 0)
        let_go(e, tid, status);
}

/* A thread that runs may be in a call that began before the filter came. */
static int settle(int tid, void *arg)
{
    const struct entrant *e = arg;
    if (activity_of(tid) != RUNS)
        return 0;
    if (e->stays) {
        stop_traced(e, tid);
        return 0;
    }
    struct um_regs regs;
    int status = stop(e, tid, &regs);
    if (status >= 0)
        let_go(e, tid, status);
    return 0;
}

/* ---- what it brings along ---- */

struct holder {
    struct um_switchboard *sb;
    pid_t pid, tid;
};

/* The filter stays, whatever happens from here on. So a socket that cannot be
 * noted is none to fail for: it is treated like one that comes later. */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void keep(struct um_switchboard *sb, uint64_t cookie)
{
    struct um_kept *kept = &sb->kept;
    uint64_t *more =
        realloc(kept->cookies, (kept->count + 1) * sizeof *kept->cookies);
    if (!more)
        return;
    more[kept->count++] = cookie;
    kept->cookies = more;
}

static int keep_descriptor(int number, void *arg)
{
    struct holder *holder = arg;
    int fd = um_getfd(holder->sb, holder->tid, number);
    if (fd < 0)
        return 0;
    int domain = um_domain_of(fd);
    uint64_t cookie = domain < 0 || domain == AF_UNIX ? 0 : um_cookie_of(fd);
    close(fd);
    if (cookie)
        keep(holder->sb, cookie);
    return 0;
}

static int keep_table(int tid, void *arg)
{
    enum { KCMP_FILES = 2 };
    struct holder *holder = arg;
    char path[32];
    /* Most threads share the first one's. */
    if (tid != holder->pid &&
        syscall(SYS_kcmp, tid, holder->pid, KCMP_FILES, 0, 0) == 0)
        return 0;
    holder->tid = tid;
    snprintf(path, sizeof path, "/proc/%d/fd", tid);
    each_number(path, keep_descriptor, holder);
    return 0;
}

bool um_is_kept(struct um_call *call)
{
    const struct um_kept *kept = &call->sb->kept;
    uint64_t cookie = kept->count ? um_cookie_of(call->fd) : 0;
    return cookie && bsearch(&cookie, kept->cookies, kept->count, sizeof cookie,
                             by_number);
}

int um_kept_count(struct um_switchboard *sb)
{
    return (int)sb->kept.count;
}

/* Note the sockets of a process that is under the filter now. */
static void keep_all(struct entrant *e)
{
    struct um_kept *kept = &e->sb->kept;
    struct holder holder = {.sb = e->sb, .pid = e->pid};
    each_thread(e->pid, settle, e);
    each_thread(e->pid, keep_table, &holder);
    if (kept->count)
        qsort(kept->cookies, kept->count, sizeof *kept->cookies, by_number);
}

int um_attach_listener(struct um_switchboard *sb, pid_t pid, int flags)
{
    struct entrant e = {.sb = sb, .pid = pid, .flags = flags};
    int listener = install_in(&e);
    if (listener >= 0)
        keep_all(&e);
    return listener;
}

int um_attach_traced(struct um_switchboard *sb, pid_t pid, int flags,
                     uint32_t options)
{
    struct entrant e = {.sb = sb,
                        .pid = pid,
                        .flags = flags,
                        .stays = true,
                        .options = options};
    int rc = seize_all(&e);
    if (rc == 0)
        rc = install_in(&e);
    if (rc == 0)
        keep_all(&e);
    return rc;
}
