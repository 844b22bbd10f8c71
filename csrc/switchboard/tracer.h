/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * tracer.h - what stops the calls of programs: seccomp.c or ptrace.c
 *
 * Both give each stopped call to um_call_came() as a struct um_call, and carry
 * answers out. They differ in how a descriptor gets into a program. seccomp
 * brings one of ours, at any time; under ptrace the program makes it itself,
 * by the call in hand, which is rewritten. So handlers ask for what they mean:
 * a fresh surrogate, the next connection of a listener; what they get is our
 * copy of it, and give() says that the call returns it.
 */
#ifndef UM_TRACER_H
#define UM_TRACER_H

#include <poll.h>

#include "um.h"

struct um_tracer {
    /* Can it give a descriptor of ours to any call? */
    bool brings_fds;
    /* Can send() succeed and the call be restarted all the same? */
    bool loses_answers;
    /* Take what has come, for ready(): what programs did before it is seen to
     * in between. NULL: ready() takes it, and poll has told of it first. */
    void (*take)(struct um_switchboard *sb);
    /* Handle what has come; what poll says of its source. */
    void (*ready)(struct um_switchboard *sb, const struct pollfd *source);
    void (*close)(struct um_switchboard *sb);
    /* Answer with a value or negative errno, or with UM_CONTINUE.
     * Return: 0, or -ENOENT if nobody waits any more. */
    int (*send)(struct um_call *call, um_verdict verdict);
    /* Does the call still stand? */
    bool (*valid)(const struct um_call *call);
    /* see um_call_waits() */
    bool (*waits)(struct um_call *call);
    /* The call is parked now. NULL: nothing is to be done. */
    void (*sleep)(struct um_call *call);
    /* Let a parked call come anew, by um_call_came(). NULL: it stands, and can
     * be run again at once. */
    void (*recall)(struct um_call *call);
    /* A fresh stream surrogate (flags: SOCK_NONBLOCK, SOCK_CLOEXEC). */
    int (*make_stream)(struct um_call *call, int flags);
    /* A socket of the kernel's; type with SOCK_NONBLOCK and SOCK_CLOEXEC. */
    int (*make_native)(struct um_call *call, int domain, int type,
                       int protocol);
    /* A datagram surrogate; our end of it goes into *end. */
    int (*make_pair)(struct um_call *call, int flags, int *end);
    /* accept4 on the surrogate args[0], of which call->fd is our copy. */
    int (*accept)(struct um_call *call, int flags);
    /* Let fd be what the call returns. Return: its number in the program, or a
     * negative errno: nothing is left there then, and it is still to be
     * answered. */
    int (*give)(struct um_call *call, int fd, int cloexec);
    /* Put a fresh stream surrogate in the place of descriptor args[0]. */
    int (*renew)(struct um_call *call, int flags);
};

/* By the thread of the loop, as all else, and by Python's before there is one. */

/* Let the loop wait for fd, too, which is owned from now on. Return: 0 or a
 * negative errno. */
int um_source_add(struct um_switchboard *sb, int fd);
/* The same the other way, if it is one; nothing is left: all have ended. */
void um_source_remove(struct um_switchboard *sb, int fd);

/* A listener has come. Return: 0 or a negative errno. */
int um_seccomp_start(struct um_switchboard *sb, int listener);
/* A process under the filter has come. Return: 0 or a negative errno. */
int um_ptrace_start(struct um_switchboard *sb, pid_t pid);

/* The same with a process that runs and enters the view. */
int um_ptrace_attach(struct um_switchboard *sb, pid_t pid, int flags);

/* attach.c: put a running process under the filter. Its stopped calls wait.
 * Return: the listener, or a negative errno. */
int um_attach_listener(struct um_switchboard *sb, pid_t pid, int flags);
/* The same with a filter that has none: the calling thread is the tracer from
 * now on, with these options of ptrace(2). Return: 0 or a negative errno. */
int um_attach_traced(struct um_switchboard *sb, pid_t pid, int flags,
                     uint32_t options);

/* notify.c: answer a call that was stopped. */
void um_call_came(struct um_call *call);
/* Forget the parked call of a thread, which was abandoned. Return: whether it
 * had a time limit of its own. */
bool um_parked_abandon(struct um_switchboard *sb, pid_t tid);
/* Is descriptor number of the caller closed on exec? Return: O_CLOEXEC or 0. */
int um_cloexec_of(const struct um_call *call, int number);

#endif
