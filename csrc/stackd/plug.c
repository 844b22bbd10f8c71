/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * plug.c - the loop of a plug process, and its orders (see plug.h)
 */
#include "plug.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WHERE_MAX = 4096, CLOSE_SECONDS = 2, PAUSE_MS = 100 };

struct um_plug {
    int line; /* to the supervisor */
    int card; /* to the stack server */
    uint64_t serial;
    struct um_place *place;
};

int64_t um_plug_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void um_plug_waits(struct um_plug *plug, bool waits)
{
    /* SIGIO, which nobody here handles, ends a process. */
    struct pollfd line = {.fd = plug->line};
    int flags = fcntl(plug->line, F_GETFL);
    fcntl(plug->line, F_SETOWN, getpid());
    fcntl(plug->line, F_SETFL, waits ? flags | O_ASYNC : flags & ~O_ASYNC);
    if (waits && poll(&line, 1, 0) > 0)
        _exit(0);
}

/* ---- links ---- */

static void tell_card(const struct um_plug *plug, struct um_packet *packet,
                      int fd)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct iovec iov = {packet, sizeof *packet};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    sendmsg(plug->card, &msg, MSG_NOSIGNAL);
}

void um_place_up(struct um_place *place, uint16_t mtu, uint32_t flags, int fd)
{
    place->link = ++place->plug->serial;
    struct um_packet packet = {
        .kind = UM_PACKET_FOUND, .id = place->link, .mtu = mtu, .flags = flags};
    tell_card(place->plug, &packet, fd);
}

void um_place_down(struct um_place *place)
{
    struct um_packet packet = {.kind = UM_PACKET_LOST, .id = place->link};
    if (place->link)
        tell_card(place->plug, &packet, -1);
    place->link = 0;
}

/* ---- orders ---- */

static int obey(struct um_plug *plug, const struct um_packet *order,
                const char *where)
{
    struct um_place *place;
    if (order->kind != UM_PACKET_PLUG)
        return -EINVAL;
    const struct um_place_kind *kind =
        order->flags & UM_PACKET_WIRE ? &um_plug_wire : &um_plug_vnl;
    int rc = kind->open(plug, order, where, &place);
    if (rc < 0)
        return rc;
    if (plug->place)
        plug->place->kind->close(plug->place);
    plug->place = place;
    return 0;
}

/* Return: false when the supervisor is gone. */
static bool take_order(struct um_plug *plug)
{
    struct um_packet order;
    char where[WHERE_MAX];
    struct iovec iov[2] = {{&order, sizeof order}, {where, sizeof where - 1}};
    ssize_t n = readv(plug->line, iov, 2);
    if (n < (ssize_t)sizeof order)
        return false;
    where[(size_t)n - sizeof order] = 0;
    struct um_packet ready = {.kind = UM_PACKET_READY};
    ready.error = -obey(plug, &order, where);
    return send(plug->line, &ready, sizeof ready, MSG_NOSIGNAL) >= 0;
}

/* Return: false when the stack server is gone. */
static bool hear_card(struct um_plug *plug)
{
    struct um_packet packet;
    if (recv(plug->card, &packet, sizeof packet, 0) < (ssize_t)sizeof packet)
        return false;
    struct um_place *place = plug->place;
    if (place && place->link && packet.id == place->link) {
        place->link = 0;
        place->kind->lost(place);
    }
    return true;
}

/* A handler, for a command would inherit that it is ignored. */
static void go_on(int number)
{
    (void)number;
}

static void end_all(int number)
{
    (void)number;
    kill(0, SIGKILL);
}

int um_plug_run(int line, int card)
{
    struct um_plug plug = {.line = line, .card = card};
    setpgid(0, 0);          /* with what plug-ins start, and nobody else */
    signal(SIGPIPE, go_on); /* of a plug-in's command that has ended */
    int64_t end_ms = 0;
    for (bool goes_on = true; goes_on;) {
        struct pollfd fds[2 + UM_PLACE_FDS] = {{end_ms ? -1 : line, POLLIN, 0},
                                               {card, POLLIN, 0}};
        int limit_ms = -1;
        for (int i = 2; i < 2 + UM_PLACE_FDS; i++)
            fds[i].fd = -1;
        if (plug.place)
            limit_ms = plug.place->kind->wants(plug.place, fds + 2);
        if (end_ms)
            limit_ms = PAUSE_MS;
        if (poll(fds, 2 + UM_PLACE_FDS, limit_ms) < 0 && errno != EINTR)
            break;
        if (plug.place)
            plug.place->kind->ready(plug.place, fds + 2);
        if (fds[1].revents)
            goes_on = hear_card(&plug);
        /* The stack server ends, too, and has a last word for its peers. */
        if (fds[0].revents && !take_order(&plug))
            end_ms = um_plug_now_ms() + CLOSE_SECONDS * 1000;
        if (end_ms && um_plug_now_ms() >= end_ms)
            goes_on = false;
    }
    /* A plug-in may wait for its command, which may not care. */
    if (getpgrp() == getpid()) {
        signal(SIGALRM, end_all);
        alarm(CLOSE_SECONDS);
    }
    if (plug.place)
        plug.place->kind->close(plug.place);
    return 0;
}
