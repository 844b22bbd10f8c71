/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * echo.c - a stack server in which every address answers
 *
 * One thread, one epoll set: the line, and a descriptor for each connection. The
 * descriptor is our end of the program's own socket, so its bytes come straight
 * from there: what is read is written back. While that finds no room, nothing
 * more is read.
 *
 * No connection is refused, none takes time, and nobody ever calls: so there
 * are no listeners, no routes and no timers here.
 */
#include "echo.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "packet_road.h"

enum { BUFFER = 1 << 16, BATCH = 64, MSS = 1460 };

struct conn {
    struct conn *next;
    uint64_t id;
    int fd;      /* -1: not started yet */
    size_t held; /* bytes of data that are to be written, from `at` on */
    size_t at;
    uint8_t data[BUFFER];
};

struct server {
    int line, epoll;
    struct conn *conns;
    struct um_packet packet; /* with its data behind it */
    uint8_t data[UM_PACKET_DATA_MAX];
};

static void say(struct server *server, const struct um_packet *packet,
                const void *data)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)packet, sizeof *packet},
                           {(void *)(uintptr_t)data, packet->len}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    (void)!sendmsg(server->line, &msg, MSG_NOSIGNAL);
}

/* ---- connections ---- */

static struct conn **place_of(struct server *server, uint64_t id)
{
    struct conn **at = &server->conns;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void drop(struct server *server, struct conn **at)
{
    struct conn *conn = *at;
    if (!conn)
        return;
    *at = conn->next;
    if (conn->fd >= 0) { /* which the switchboard has open, too */
        epoll_ctl(server->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
        close(conn->fd);
    }
    free(conn);
}

static void end(struct server *server, struct conn *conn)
{
    struct um_packet over = {.kind = UM_PACKET_ENDED, .id = conn->id};
    say(server, &over, NULL);
    drop(server, place_of(server, conn->id));
}

static void connect_it(struct server *server)
{
    struct um_packet answer = {.kind = UM_PACKET_CONNECTED,
                               .id = server->packet.id,
                               .local = server->packet.local,
                               .mss = MSS};
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn) {
        conn->id = server->packet.id;
        conn->fd = -1;
        conn->next = server->conns;
        server->conns = conn;
    } else {
        answer.kind = UM_PACKET_ENDED;
        answer.error = ENOBUFS;
    }
    say(server, &answer, NULL);
}

static void start(struct server *server, int fd)
{
    struct conn *conn = *place_of(server, server->packet.id);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (!conn) {
        close(fd);
        return;
    }
    conn->fd = fd;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        end(server, conn);
}

/* Give back what is held. Return: false if there is no room for more of it. */
static int give_back(struct conn *conn)
{
    while (conn->held) {
        ssize_t n =
            send(conn->fd, conn->data + conn->at, conn->held, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        conn->at += (size_t)n;
        conn->held -= (size_t)n;
    }
    conn->at = 0;
    return 1;
}

static void move(struct server *server, struct conn *conn)
{
    int rc = give_back(conn);
    if (rc > 0) {
        ssize_t n = recv(conn->fd, conn->data, sizeof conn->data, 0);
        if (n > 0)
            conn->held = (size_t)n;
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            end(server, conn);
            return;
        }
        rc = give_back(conn);
    }
    if (rc < 0) {
        end(server, conn);
        return;
    }
    struct epoll_event event = {.events = rc ? EPOLLIN : EPOLLOUT,
                                .data.ptr = conn};
    epoll_ctl(server->epoll, EPOLL_CTL_MOD, conn->fd, &event);
}

/* ---- datagrams ---- */

static void answer_datagram(struct server *server)
{
    enum { ECHO = 8, ECHO_REPLY = 0, ECHO6 = 128, ECHO6_REPLY = 129 };
    struct um_packet answer = server->packet;
    uint8_t *type = server->data;
    answer.kind =
        UM_PACKET_RECEIVED; /* the names stay: local is the program's */
    if (answer.protocol != IPPROTO_UDP) {
        if (answer.len < 8 || (*type != ECHO && *type != ECHO6))
            return;
        /* The sum over the message changes with its type: RFC 1624. */
        uint32_t sum = (uint32_t)(type[2] << 8 | type[3]);
        if (*type == ECHO)
            sum += ECHO << 8;
        else
            sum += 0xffff - (1 << 8);
        sum = (sum & 0xffff) + (sum >> 16);
        type[2] = (uint8_t)(sum >> 8);
        type[3] = (uint8_t)sum;
        *type = *type == ECHO ? ECHO_REPLY : ECHO6_REPLY;
    }
    say(server, &answer, server->data);
}

/* ---- the line ---- */

static void obey(struct server *server, int fd)
{
    switch (server->packet.kind) {
    case UM_PACKET_CONNECT:
        connect_it(server);
        break;
    case UM_PACKET_START:
        start(server, fd);
        return; /* it has the descriptor */
    case UM_PACKET_CLOSE:
        drop(server, place_of(server, server->packet.id));
        break;
    case UM_PACKET_SEND:
        answer_datagram(server);
        break;
    default: /* ports, listeners, groups: nobody here would use them */
        break;
    }
    if (fd >= 0)
        close(fd);
}

/* Return: 1, 0 at the line's end, or a negative errno. */
static int listen_once(struct server *server)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov[2] = {{&server->packet, sizeof server->packet},
                           {server->data, sizeof server->data}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    int fd = -1;
    ssize_t n = recvmsg(server->line, &msg, MSG_CMSG_CLOEXEC);
    if (n < (ssize_t)sizeof server->packet)
        return n < 0 ? -errno : 0;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    obey(server, fd);
    return 1;
}

static int serve(struct server *server)
{
    struct epoll_event line = {.events = EPOLLIN}, events[BATCH];
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->line, &line) < 0)
        return -errno;
    for (;;) {
        int n = epoll_wait(server->epoll, events, BATCH, -1);
        int heard = 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                move(server, events[i].data.ptr);
            else
                heard = 1;
        /* Last, for it may end a connection that is in the batch. */
        int rc = heard ? listen_once(server) : 1;
        if (rc <= 0)
            return rc;
    }
}

int echo_serve(int line)
{
    struct server *server = calloc(1, sizeof *server);
    if (!server)
        return -ENOMEM;
    server->line = line;
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    int rc = server->epoll < 0 ? -errno : serve(server);
    while (server->conns)
        drop(server, &server->conns);
    if (server->epoll >= 0)
        close(server->epoll);
    free(server);
    return rc;
}
