/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dumpable.c - prctl(PR_SET_DUMPABLE), said to be done
 *
 * A process that is not dumpable cannot be looked into, and so not be answered.
 * Its wish is noted instead, for who asks afterwards. The state belongs to the
 * memory: fork(2) copies it, execve(2) ends it. So it is noted by what tells
 * memories apart in the same way: where code and stack begin, which the kernel
 * draws at execve.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "um.h"

struct um_hidden {
    struct um_hidden *next;
    unsigned long code, stack;
};

/* Where the memory of a thread has its code and its stack.
 * See proc_pid_stat(5). */
static int read_places(pid_t tid, struct um_hidden *ret)
{
    char path[32], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    const char *got = fgets(line, sizeof line, file);
    fclose(file);
    /* The name, in parentheses, may hold anything. */
    const char *at = got ? strrchr(line, ')') : NULL;
    if (!at ||
        sscanf(at + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d "
               "%*d %*d %*d %*d %*u %*u %*d %*u %lu %*u %lu",
               &ret->code, &ret->stack) != 2)
        return -ESRCH;
    return 0;
}

static struct um_hidden **find(struct um_switchboard *sb,
                               const struct um_hidden *wanted)
{
    struct um_hidden **at = &sb->hidden;
    while (*at &&
           ((*at)->code != wanted->code || (*at)->stack != wanted->stack))
        at = &(*at)->next;
    return at;
}

void um_hidden_destroy(struct um_switchboard *sb)
{
    while (sb->hidden) {
        struct um_hidden *next = sb->hidden->next;
        free(sb->hidden);
        sb->hidden = next;
    }
}

um_verdict um_handle_prctl(struct um_call *call)
{
    struct um_hidden here = {0};
    bool known = read_places(call->tid, &here) == 0;
    struct um_hidden **at = known ? find(call->sb, &here) : &call->sb->hidden;
    bool is_hidden = known && *at;
    if ((int)call->args[0] == PR_GET_DUMPABLE)
        return is_hidden ? 0 : UM_CONTINUE;
    if (call->args[1] == 0) {
        struct um_hidden *note =
            known && !is_hidden ? malloc(sizeof *note) : NULL;
        if (note) {
            *note = here;
            note->next = call->sb->hidden;
            call->sb->hidden = note;
        }
        return 0;
    }
    if (is_hidden && call->args[1] == 1) {
        struct um_hidden *gone = *at;
        *at = gone->next;
        free(gone);
    }
    return UM_CONTINUE;
}
