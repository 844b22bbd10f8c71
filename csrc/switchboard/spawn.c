/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * spawn.c - start a program that is no process of a view
 *
 * The supervisor's children are its views' processes, adopted ones included, and
 * it waits for the last of them; so stack servers and plug processes become its
 * parent's children (CLONE_PARENT). They end with their lines. The child calls
 * what is safe beside threads only: their locks are in any state.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../um_api.h"

enum { FIRST = 3 };

static void set_up(const int *fds, int count)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL); /* what the supervisor ignores, too */
    setsid();
    if (chdir("/") < 0)
        return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Out of the way of what they are to be. */
    int kept[UM_MAX_SPAWN_FDS];
    for (int i = 0; i < count; i++)
        kept[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST + count);
    for (int i = 0; i < FIRST; i++)
        dup2(null, i);
    for (int i = 0; i < count; i++)
        dup2(kept[i], FIRST + i);
    syscall(SYS_close_range, FIRST + count, ~0U, 0);
}

int um_spawn(char **argv, const int *fds, int count)
{
    if (count < 0 || count > UM_MAX_SPAWN_FDS)
        return -EINVAL;
    sigset_t all, none, old;
    sigfillset(&all);
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &all,
                    &old); /* no handler of ours runs there */
    long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0);
    int rc = pid < 0 ? -errno : 0;
    if (pid == 0) {
        set_up(fds, count);
        pthread_sigmask(SIG_SETMASK, &none, NULL);
        execv(argv[0], argv);
        _exit(127);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}
