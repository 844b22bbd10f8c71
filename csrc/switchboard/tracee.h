/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * tracee.h - the registers of a thread that is stopped by ptrace(2), and calls
 * that it is made to run
 *
 * All of it is for the thread that has attached, and for a tid that is in a
 * ptrace stop. Functions return >= 0 or a negative errno; -ESRCH: the thread
 * has ended, or runs.
 */
#ifndef UM_TRACEE_H
#define UM_TRACEE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

struct um_regs {
#if defined(__x86_64__)
    struct user_regs_struct user;
#elif defined(__aarch64__)
    struct user_regs_struct user;
    int nr; /* of the call that is under way: a regset of its own */
#else
#error "this architecture's registers are not known here"
#endif
};

/* The letter of proc_pid_stat(5); 'X' for a thread that is gone. Of any thread,
 * by any thread, as is the next. */
char um_thread_state(pid_t tid);
/* Has it ended, though nobody may have waited for it yet? */
bool um_thread_has_ended(pid_t tid);

/* Read the registers. -ENOEXEC: those of a 32-bit program. */
int um_regs_read(pid_t tid, struct um_regs *ret);
int um_regs_write(pid_t tid, const struct um_regs *regs);

/* The number of the call that is under way; -1: none. */
long um_regs_nr(const struct um_regs *regs);
/* Argument i of it, as long as it has not returned. */
uint64_t um_regs_arg(const struct um_regs *regs, int i);
/* Make it another call: in a stop before it runs (seccomp's, the entry's). nr
 * -1: none; then um_regs_set_result() says what is returned. */
void um_regs_set_call(struct um_regs *regs, long nr, const uint64_t args[6]);
/* What it returned: a value, or a negative errno; those of the kernel
 * (ERESTARTSYS, ...) are visible here. */
int64_t um_regs_result(const struct um_regs *regs);
void um_regs_set_result(struct um_regs *regs, int64_t result);
/* Where it goes on. */
uint64_t um_regs_pc(const struct um_regs *regs);
void um_regs_set_pc(struct um_regs *regs, uint64_t pc);

/* Block every signal that can be, for as long as calls are run in a thread.
 * *ret: what um_tracee_set_mask() gives back. */
int um_tracee_block_signals(pid_t tid, uint64_t *ret);
int um_tracee_set_mask(pid_t tid, uint64_t mask);

/* Resume by request (PTRACE_CONT, PTRACE_SYSCALL), with signal or 0, and wait
 * for the next stop. Return: its wait status; -ESRCH: the thread has ended. */
int um_tracee_step(pid_t tid, enum __ptrace_request request, int signal);

/* The length of the instruction that makes a system call. */
#ifdef __x86_64__
#define UM_CALL_LENGTH 2
#else
#define UM_CALL_LENGTH 4
#endif
/* Let a thread run one system call, from any stop, without any instruction of
 * the program's. PTRACE_O_TRACESYSGOOD has to be set. at: its registers, whose
 * pc is behind an instruction that makes a call, as it is in every stop in or
 * after one; from a stop before a call, that call does not run.
 * Afterwards the thread has the registers `at` again, but is in a stop at the
 * exit of a call: if `at` has a result that only the kernel understands
 * (ERESTARTSYS, ...), it has to be stopped anew, by PTRACE_INTERRUPT, and the
 * registers written again in that stop; the kernel acts on it there only.
 * ret: what the call returned, a negative errno where it failed. Return: 0. */
int um_tracee_inject(pid_t tid, const struct um_regs *at, long nr,
                     const uint64_t args[6], int64_t *ret);

#endif
