/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * netns.c - programs that make network namespaces
 *
 * Tools that lock a program up (bwrap, a browser's sandbox, unshare -n) give
 * it a network namespace of its own, with nothing in it but loopback. Its
 * sockets must not be of the view's network then. A socket belongs to the
 * stack that its maker had when it made it, as in Linux to the namespace; so
 * only socket() asks where its caller is.
 *
 * The answer costs 3 us. So nobody asks before a call that leads out of our
 * namespace has been seen: clone and unshare with CLONE_NEWNET, and setns.
 * clone3 has its flags in memory, where no filter looks, and is every thread's
 * start: who leaves by clone3 alone keeps the view's network.
 *
 * All other namespaces of a view share one stack. The kernel's own sockets would do for
 * a namespace that was made in the view; but a program can enter one that was
 * not, and that one may lead to the host's network.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "um.h"

/* Name the network namespace of a process ("self", or a number). */
static void name_netns(const char *process, char name[UM_NETNS_NAME])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/net", process);
    ssize_t len = readlink(path, name, UM_NETNS_NAME - 1);
    name[len < 0 ? 0 : len] = 0;
}

void um_netns_init(struct um_switchboard *sb)
{
    name_netns("self", sb->netns);
}

bool um_is_apart(struct um_call *call)
{
    struct um_switchboard *sb = call->sb;
    if (!sb->some_left)
        return false;
    char process[16], name[UM_NETNS_NAME];
    snprintf(process, sizeof process, "%d", call->tid);
    name_netns(process, name);
    return strcmp(name, sb->netns) != 0;
}

/* The caller, or its child, leaves our namespace if the kernel lets it. */
static um_verdict leave(struct um_call *call)
{
    call->sb->some_left = true;
    return UM_CONTINUE;
}

um_verdict um_handle_clone(struct um_call *call)
{
    return leave(call);
}

um_verdict um_handle_unshare(struct um_call *call)
{
    return leave(call);
}

um_verdict um_handle_setns(struct um_call *call)
{
    return leave(call);
}
