/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * seal.c - what the process that reads strangers' frames can still do
 *
 * It works with descriptors that it is given (see plug.h), so it needs no call
 * that opens, names, starts or asks for anything. What is not in the list fails
 * with EPERM and does not kill: a call that a C library makes one day shall not
 * cost a view its connections. Memory can be had, but none that code could be
 * put into.
 */
#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "seal.h"

static const int allowed[] = {
    SCMP_SYS(epoll_wait),   SCMP_SYS(epoll_pwait),  SCMP_SYS(epoll_ctl),
    SCMP_SYS(read),         SCMP_SYS(readv),        SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),      SCMP_SYS(write),        SCMP_SYS(writev),
    SCMP_SYS(sendto),       SCMP_SYS(sendmsg),      SCMP_SYS(poll),
    SCMP_SYS(ppoll),        SCMP_SYS(shutdown),     SCMP_SYS(setsockopt),
    SCMP_SYS(close),        SCMP_SYS(dup),          SCMP_SYS(clock_gettime),
    SCMP_SYS(getrandom),    SCMP_SYS(brk),          SCMP_SYS(munmap),
    SCMP_SYS(mremap),       SCMP_SYS(madvise),      SCMP_SYS(futex),
    SCMP_SYS(getpid),       SCMP_SYS(gettid),       SCMP_SYS(tgkill),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(exit),         SCMP_SYS(exit_group),   SCMP_SYS(restart_syscall),
};

int um_seal(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int rc = filter ? 0 : -ENOMEM;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0) /* where is the urgent byte? */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_EQ, SIOCATMARK));
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc;
}
