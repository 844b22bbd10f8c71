/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * loop.c - the one loop of a stack server
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lwip/init.h"
#include "lwip/sys.h"
#include "lwip/timeouts.h"
#include "recovery.h"
#include "stackd.h"

enum { BATCH = 64 };

u32_t sys_now(void)
{
    return um_stackd_now_ms();
}

void sys_init(void)
{
}

int um_watch(struct um_stackd *d, struct um_watch *watch, uint32_t events)
{
    if (watch->events == events)
        return 0;
    int op = !events          ? EPOLL_CTL_DEL
             : !watch->events ? EPOLL_CTL_ADD
                              : EPOLL_CTL_MOD;
    struct epoll_event ev = {.events = events, .data.ptr = watch};
    if (epoll_ctl(d->epoll_fd, op, watch->fd, &ev) < 0)
        return -errno;
    watch->events = events;
    return 0;
}

void um_later(struct um_stackd *d, void *memory)
{
    if (d->later_count == d->later_room) {
        size_t room = d->later_room ? 2 * d->later_room : BATCH;
        void **later = realloc(d->later, room * sizeof *later);
        if (!later)
            return; /* it is lost, which is better than used again */
        d->later = later;
        d->later_room = room;
    }
    d->later[d->later_count++] = memory;
}

static void free_later(struct um_stackd *d)
{
    while (d->later_count)
        free(d->later[--d->later_count]);
}

struct um_stackd *um_stackd_create(int control)
{
    struct um_stackd *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->unsent_end = &d->unsent;
    um_syns_init(&d->strays);
    d->control.fd = control;
    d->control.fn = um_control_ready;
    d->message = malloc(sizeof(struct um_packet) + UM_PACKET_DATA_MAX);
    d->scratch = malloc(UM_PACKET_DATA_MAX);
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    lwip_init();
    if (!d->message || !d->scratch || d->epoll_fd < 0 ||
        um_watch(d, &d->control, EPOLLIN) < 0 || um_dgrams_open(d) < 0 ||
        um_syns_open(d) < 0 || um_lookup_open(d) < 0) {
        um_stackd_destroy(d);
        return NULL;
    }
    return d;
}

void um_stackd_destroy(struct um_stackd *d)
{
    if (!d)
        return;
    um_flows_close(d);
    um_recoveries_close(d);
    um_dgrams_close(d);
    um_syns_close(d);
    um_lookup_close(d);
    um_neighbours_close(d);
    um_cards_flush(d);
    um_cards_close(d);
    um_control_close(d);
    d->waiting = NULL;
    if (d->spare)
        pbuf_free(d->spare);
    free_later(d);
    free(d->later);
    free(d->message);
    free(d->scratch);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    free(d);
}

int um_stackd_step(struct um_stackd *d, int limit_ms)
{
    struct epoll_event events[BATCH];
    uint32_t sleep_ms = sys_timeouts_sleeptime();
    if (limit_ms < 0 || sleep_ms < (uint32_t)limit_ms)
        limit_ms = sleep_ms > INT32_MAX ? -1 : (int)sleep_ms;
    int n = epoll_wait(d->epoll_fd, events, BATCH, limit_ms);
    if (n < 0 && errno != EINTR)
        return -errno;
    for (int i = 0; i < n; i++) {
        struct um_watch *watch = events[i].data.ptr;
        /* An earlier one of the batch may have ended it. */
        if (watch->events)
            watch->fn(d, watch, events[i].events);
    }
    sys_check_timeouts();
    um_strays_release(d);
    um_flows_deliver(d);
    um_recoveries_run(d);
    um_addresses_tell(d);
    um_cards_flush(d);
    free_later(d);
    return d->ended ? -EPIPE : n < 0 ? 0 : n;
}
