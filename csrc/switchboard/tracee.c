/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * tracee.c - the registers of a stopped thread, and calls that it is made to
 * run
 *
 * A call is injected by sending the thread back over the instruction that made
 * its last one, with other registers. Three facts shape this.
 * (1) A stop before a call (seccomp's) ends in that call, whatever pc says. It
 *     is made "no call", returns, and has an exit stop of its own, seen by its
 *     pc: the one that we have set, in front of the instruction.
 * (2) Stops at entry and exit look alike (PTRACE_GET_SYSCALL_INFO came with
 *     Linux 5.3), so they are counted: the first one behind the instruction is
 *     the entry.
 * (3) SIGSTOP and SIGKILL cannot be blocked. The first is passed on, stops the
 *     group, and the injected call goes on within the stopped group: a thread
 *     that its tracer resumes runs; once let go of, it stops again.
 * See ptrace(2), "Stopped states".
 */
#include "tracee.h"

#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __aarch64__
#include <asm/ptrace.h>
#ifndef NT_ARM_SYSTEM_CALL
#define NT_ARM_SYSTEM_CALL 0x404
#endif
#endif

/* ---- what a thread does ---- */

char um_thread_state(pid_t tid)
{
    char path[32], line[128];
    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 'X';
    const char *got = fgets(line, sizeof line, f);
    fclose(f);
    /* The name, in parentheses, may hold anything. */
    const char *at = got ? strrchr(line, ')') : NULL;
    return at && at[1] ? at[2] : 'X';
}

bool um_thread_has_ended(pid_t tid)
{
    char state = um_thread_state(tid);
    return state == 'Z' || state == 'X';
}

/* ---- registers ---- */

static int regset(enum __ptrace_request request, pid_t tid, unsigned int set,
                  struct iovec *data)
{
    return ptrace(request, tid, set, data) < 0 ? -errno : 0;
}

int um_regs_read(pid_t tid, struct um_regs *ret)
{
    struct um_regs regs = {0};
    struct iovec user = {&regs.user, sizeof regs.user};
    int rc = regset(PTRACE_GETREGSET, tid, NT_PRSTATUS, &user);
    if (rc < 0)
        return rc;
    if (user.iov_len != sizeof regs.user)
        return -ENOEXEC;
#ifdef __aarch64__
    struct iovec nr = {&regs.nr, sizeof regs.nr};
    rc = regset(PTRACE_GETREGSET, tid, NT_ARM_SYSTEM_CALL, &nr);
    if (rc < 0)
        return rc;
#endif
    *ret = regs;
    return 0;
}

int um_regs_write(pid_t tid, const struct um_regs *regs)
{
    struct um_regs copy = *regs;
    struct iovec user = {&copy.user, sizeof copy.user};
    int rc = regset(PTRACE_SETREGSET, tid, NT_PRSTATUS, &user);
#ifdef __aarch64__
    struct iovec nr = {&copy.nr, sizeof copy.nr};
    if (rc == 0)
        rc = regset(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &nr);
#endif
    return rc;
}

#ifdef __x86_64__

long um_regs_nr(const struct um_regs *regs)
{
    return (long)regs->user.orig_rax;
}

uint64_t um_regs_arg(const struct um_regs *regs, int i)
{
    const unsigned long long all[] = {regs->user.rdi, regs->user.rsi,
                                      regs->user.rdx, regs->user.r10,
                                      regs->user.r8,  regs->user.r9};
    return all[i];
}

static void set_args(struct um_regs *regs, const uint64_t args[6])
{
    regs->user.rdi = args[0];
    regs->user.rsi = args[1];
    regs->user.rdx = args[2];
    regs->user.r10 = args[3];
    regs->user.r8 = args[4];
    regs->user.r9 = args[5];
}

void um_regs_set_call(struct um_regs *regs, long nr, const uint64_t args[6])
{
    regs->user.orig_rax = (unsigned long long)nr;
    set_args(regs, args);
}

int64_t um_regs_result(const struct um_regs *regs)
{
    return (int64_t)regs->user.rax;
}

void um_regs_set_result(struct um_regs *regs, int64_t result)
{
    regs->user.rax = (unsigned long long)result;
}

uint64_t um_regs_pc(const struct um_regs *regs)
{
    return regs->user.rip;
}

void um_regs_set_pc(struct um_regs *regs, uint64_t pc)
{
    regs->user.rip = pc;
}

/* What the instruction reads the number from. */
static void set_wanted(struct um_regs *regs, long nr)
{
    regs->user.rax = (unsigned long long)nr;
    regs->user.orig_rax = ~0ULL; /* nothing is to be restarted meanwhile */
}

#else

long um_regs_nr(const struct um_regs *regs)
{
    return regs->nr;
}

uint64_t um_regs_arg(const struct um_regs *regs, int i)
{
    return regs->user.regs[i];
}

static void set_args(struct um_regs *regs, const uint64_t args[6])
{
    memcpy(regs->user.regs, args, 6 * sizeof args[0]);
}

void um_regs_set_call(struct um_regs *regs, long nr, const uint64_t args[6])
{
    regs->nr = (int)nr;
    set_args(regs, args);
}

int64_t um_regs_result(const struct um_regs *regs)
{
    return (int64_t)regs->user.regs[0];
}

void um_regs_set_result(struct um_regs *regs, int64_t result)
{
    regs->user.regs[0] = (uint64_t)result;
}

uint64_t um_regs_pc(const struct um_regs *regs)
{
    return regs->user.pc;
}

void um_regs_set_pc(struct um_regs *regs, uint64_t pc)
{
    regs->user.pc = pc;
}

static void set_wanted(struct um_regs *regs, long nr)
{
    regs->user.regs[8] = (uint64_t)nr;
    regs->nr = -1;
}

#endif

/* ---- signals ---- */

int um_tracee_block_signals(pid_t tid, uint64_t *ret)
{
    uint64_t mask;
    if (ptrace(PTRACE_GETSIGMASK, tid, sizeof mask, &mask) < 0)
        return -errno;
    *ret = mask;
    return um_tracee_set_mask(tid, ~0ULL);
}

int um_tracee_set_mask(pid_t tid, uint64_t mask)
{
    return ptrace(PTRACE_SETSIGMASK, tid, sizeof mask, &mask) < 0 ? -errno : 0;
}

/* ---- calls ---- */

int um_tracee_step(pid_t tid, enum __ptrace_request request, int signal)
{
    enum { LOOKS = 256, PAUSE_US = 100 };
    int status;
    siginfo_t info = {0};
    if (ptrace(request, tid, 0, signal) < 0)
        return -errno;
    /* Its end is left to who waits for all, and so is an exec of another
     * thread, which gives the number to a program that knows of no step. The
     * end of a process' first thread is told when the others have been waited
     * for: so we may not sleep in wait(2) for this one alone. */
    for (int i = 1; info.si_pid == 0; i++) {
        if (waitid(P_PID, (id_t)tid, &info,
                   WEXITED | WSTOPPED | WNOWAIT | WNOHANG | __WALL) < 0)
            return -ESRCH;
        if (info.si_pid == 0 && i % LOOKS == 0) {
            if (um_thread_has_ended(tid))
                return -ESRCH;
            usleep(PAUSE_US);
        } else if (info.si_pid == 0) {
            sched_yield();
        }
    }
    if ((info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED) ||
        info.si_status >> 8 == PTRACE_EVENT_EXEC ||
        waitpid(tid, &status, __WALL) < 0)
        return -ESRCH;
    return status;
}

/* Go on to the next stop at the entry or exit of a call. Return: 0. */
static int step_to_call(pid_t tid)
{
    int signal = 0;
    for (;;) {
        int status = um_tracee_step(tid, PTRACE_SYSCALL, signal);
        if (status < 0)
            return status;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80))
            return 0;
        /* A signal goes where it wanted to; other events are told to nobody. */
        signal = status >> 16 ? 0 : WSTOPSIG(status);
    }
}

int um_tracee_inject(pid_t tid, const struct um_regs *at, long nr,
                     const uint64_t args[6], int64_t *ret)
{
    struct um_regs regs = *at;
    uint64_t start = um_regs_pc(at) - UM_CALL_LENGTH;
    set_wanted(&regs, nr);
    set_args(&regs, args);
    um_regs_set_pc(&regs, start);
    int rc = um_regs_write(tid, &regs);
    for (int behind = 0; behind < 2 && rc == 0;) {
        rc = step_to_call(tid);
        if (rc == 0)
            rc = um_regs_read(tid, &regs);
        if (rc == 0 && um_regs_pc(&regs) != start)
            behind++;
    }
    if (rc < 0)
        return rc;
    *ret = um_regs_result(&regs);
    return um_regs_write(tid, at);
}
