/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * main.c - the stack server as a program
 *
 * The supervisor starts it with the line to the switchboard as descriptor 3. It
 * is a program of its own, not a forked supervisor: that one has threads, and
 * memory and descriptors that frames from a network are not to come near.
 *
 * The same program is the plug process (plug.h), by another name for what it is
 * to do; that one opens what the stack server must not.
 */
#include <errno.h>
#include <malloc.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "plug.h"
#include "stackd.h"

/* Frames come and go at the top of the heap; given back to the kernel each time,
 * its pages cost a third of the throughput. */
enum { LINE = 3, CARD, FAILED = 125, KEPT = 1 << 24 };

uint32_t um_stackd_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 +
                      (uint64_t)now.tv_nsec / 1000000);
}

/* What a loop over descriptors that it is given needs, and malloc() and abort():
 * nothing is ever opened. */
static const int allowed[] = {
    SCMP_SYS(epoll_wait),     SCMP_SYS(epoll_pwait),  SCMP_SYS(epoll_ctl),
    SCMP_SYS(read),           SCMP_SYS(readv),        SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),        SCMP_SYS(write),        SCMP_SYS(writev),
    SCMP_SYS(sendto),         SCMP_SYS(sendmsg),      SCMP_SYS(poll),
    SCMP_SYS(ppoll),          SCMP_SYS(shutdown),     SCMP_SYS(setsockopt),
    SCMP_SYS(close),          SCMP_SYS(dup),          SCMP_SYS(clock_gettime),
    SCMP_SYS(getrandom),      SCMP_SYS(brk),          SCMP_SYS(mmap),
    SCMP_SYS(munmap),         SCMP_SYS(mremap),       SCMP_SYS(madvise),
    SCMP_SYS(futex),          SCMP_SYS(getpid),       SCMP_SYS(gettid),
    SCMP_SYS(tgkill),         SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),   SCMP_SYS(exit),         SCMP_SYS(exit_group),
    SCMP_SYS(restart_syscall)};

static int seal(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc = filter ? 0 : -ENOMEM;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    if (rc == 0) /* where is the urgent byte? */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_EQ, SIOCATMARK));
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc;
}

static int stack_server(void)
{
    mallopt(M_TRIM_THRESHOLD, KEPT);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct um_stackd *d = um_stackd_create(LINE);
    if (!d || seal() < 0) {
        fprintf(stderr, "umview: stack server: cannot start: %s\n",
                strerror(errno));
        return FAILED;
    }
    int rc;
    do
        rc = um_stackd_step(d, -1);
    while (rc >= 0);
    um_stackd_destroy(d);
    return rc == -EPIPE ? 0 : FAILED;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "plug") == 0)
        return um_plug_run(LINE, CARD);
    return stack_server();
}
