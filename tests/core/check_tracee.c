/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * check_tracee.c - calls that are run in a thread stopped by ptrace(2)
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tracee.h"

#define CHECK(what)                                                            \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what);         \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

enum { INJECTED = 200, SLEEP_MS = 2000, RESTARTED = -516 };

static const uint64_t none[6];

static long options(void)
{
    return PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int next_stop(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status));
    return status;
}

/* Run a call many times in pid. */
static void inject_many(pid_t pid, const struct um_regs *at)
{
    for (int i = 0; i < INJECTED; i++) {
        int64_t ret;
        CHECK(um_tracee_inject(pid, at, SYS_getpid, none, &ret) == 0);
        CHECK(ret == pid);
        uint64_t bad[6] = {99};
        CHECK(um_tracee_inject(pid, at, SYS_close, bad, &ret) == 0);
        CHECK(ret == -EBADF);
    }
}

/* Wait until a process sleeps: it is in its call then. */
static void wait_for_sleep(pid_t pid)
{
    char path[32], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    for (int i = 0; i < 10000 && state != 'S'; i++) {
        FILE *file = fopen(path, "re");
        CHECK(file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1);
        fclose(file);
        poll(NULL, 0, 1);
    }
    CHECK(state == 'S');
}

/* A sleep in which calls were run, and a group stop too, is as long as ever. */
static void check_sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        int64_t start = now_ms();
        struct timespec limit = {.tv_sec = SLEEP_MS / 1000};
        int rc = nanosleep(&limit, NULL);
        int64_t took = now_ms() - start;
        _exit(rc == 0 && took >= SLEEP_MS && took < 2 * SLEEP_MS ? 0 : 1);
    }
    wait_for_sleep(pid);
    CHECK(ptrace(PTRACE_SEIZE, pid, 0, options()) == 0);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    CHECK(next_stop(pid) >> 16 == PTRACE_EVENT_STOP);
    struct um_regs at;
    uint64_t mask;
    CHECK(um_regs_read(pid, &at) == 0);
    CHECK(um_tracee_block_signals(pid, &mask) == 0);
    CHECK(kill(pid, SIGWINCH) == 0 && kill(pid, SIGSTOP) == 0);
    inject_many(pid, &at);
    CHECK(kill(pid, SIGCONT) == 0);
    CHECK(um_tracee_set_mask(pid, mask) == 0);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    int status = um_tracee_step(pid, PTRACE_CONT, 0);
    while (status > 0 && status >> 16 != PTRACE_EVENT_STOP)
        status = um_tracee_step(pid, PTRACE_CONT, WSTOPSIG(status));
    CHECK(status > 0);
    CHECK(um_regs_write(pid, &at) == 0);
#ifdef __x86_64__
    CHECK(um_regs_result(&at) == RESTARTED);
#endif
    CHECK(ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void trace_getppid(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* In a call that is stopped before it runs. */
static void check_stopped_call(void)
{
    enum { ANSWER = 4711 };
    int ready[2];
    char byte;
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        trace_getppid();
        CHECK(read(ready[0], &byte, 1) == 1);
        _exit(syscall(SYS_getppid) == ANSWER ? 0 : 1);
    }
    CHECK(ptrace(PTRACE_SEIZE, pid, 0, options()) == 0);
    CHECK(write(ready[1], "", 1) == 1);
    CHECK(next_stop(pid) >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8));
    struct um_regs at;
    CHECK(um_regs_read(pid, &at) == 0);
    CHECK(um_regs_nr(&at) == SYS_getppid);
    inject_many(pid, &at);
    um_regs_set_result(&at, ANSWER);
    CHECK(um_regs_write(pid, &at) == 0);
    CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(ready[0]);
    close(ready[1]);
}

int main(void)
{
    check_sleeper();
    check_stopped_call();
    return 0;
}
