/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * main.c - the stack server as a program
 *
 * The supervisor starts it with the line to the switchboard as descriptor 3. It
 * is a program of its own, not a forked supervisor: that one has threads, and
 * memory and descriptors that frames from a network are not to come near.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "stackd.h"

enum { LINE = 3, FAILED = 125 };

uint32_t um_stackd_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 +
                      (uint64_t)now.tv_nsec / 1000000);
}

int main(void)
{
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct um_stackd *d = um_stackd_create(LINE);
    if (!d) {
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
