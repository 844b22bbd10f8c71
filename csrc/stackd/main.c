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
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "plug.h"
#include "seal.h"
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

static int stack_server(void)
{
    mallopt(M_TRIM_THRESHOLD, KEPT);
    struct um_stackd *d = um_stackd_create(LINE);
    if (!d || um_seal() < 0) {
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
