/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * trial.c - can seccomp, can ptrace stop the calls of programs here?
 *
 * Tried, not told by a version: containers forbid what their kernel has. The
 * trial is a child's, which shares our memory (vfork(2): 0.1 ms), since what it
 * does to itself cannot be undone.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../um_api.h"

/* Get a listener, and see whether it can answer with a descriptor in one step:
 * a flag that the kernel does not know is refused before the call that is to be
 * answered is looked for. Return: 0 or an errno. */
static int try_seccomp(void)
{
    struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {.len = 1, .filter = allow};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return errno;
    int fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                          SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (fd < 0)
        return errno;
    struct seccomp_notif_addfd addfd = {.flags = SECCOMP_ADDFD_FLAG_SEND,
                                        .srcfd = (uint32_t)fd};
    (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd);
    return errno == ENOENT ? 0 : EOPNOTSUPP;
}

/* Be traced by the parent. Return: 0 or an errno. */
static int try_ptrace(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : errno;
}

static int in_child(int (*try)(void))
{
    pid_t pid = vfork();
    if (pid == 0)
        _exit(try());
    if (pid < 0)
        return -errno;
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    /* A filter may also end who tries. */
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

int um_seccomp_try(void)
{
    return in_child(try_seccomp);
}

int um_ptrace_try(void)
{
    return in_child(try_ptrace);
}
