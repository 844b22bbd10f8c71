/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * control.c - the line to the switchboard
 *
 * Messages that find no room wait here; datagrams among them only up to a
 * limit, behind which they are lost, as anywhere on their way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stackd.h"

enum { MESSAGES_AT_ONCE = 64, UNSENT_MAX = 1 << 22 };

struct um_unsent {
    struct um_unsent *next;
    int fd;
    size_t len;
    uint8_t bytes[];
};

union control {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
};

static int send_now(int line, struct iovec *iov, int count, int fd)
{
    union control control = {.room = {0}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return sendmsg(line, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void keep(struct um_stackd *d, const struct um_packet *packet,
                 const void *data, int fd)
{
    size_t len = sizeof *packet + packet->len;
    struct um_unsent *unsent =
        packet->kind == UM_PACKET_RECEIVED && d->unsent_bytes > UNSENT_MAX
            ? NULL
            : malloc(sizeof *unsent + len);
    if (!unsent)
        return;
    unsent->next = NULL;
    unsent->len = len;
    unsent->fd = fd >= 0 ? dup(fd) : -1;
    memcpy(unsent->bytes, packet, sizeof *packet);
    if (packet->len)
        memcpy(unsent->bytes + sizeof *packet, data, packet->len);
    *d->unsent_end = unsent;
    d->unsent_end = &unsent->next;
    d->unsent_bytes += len;
    um_watch(d, &d->control, EPOLLIN | EPOLLOUT);
}

void um_tell(struct um_stackd *d, const struct um_packet *packet,
             const void *data, int fd)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)packet, sizeof *packet},
                           {(void *)(uintptr_t)data, packet->len}};
    if (d->ended)
        return;
    if (d->unsent || send_now(d->control.fd, iov, 2, fd) == -EAGAIN)
        keep(d, packet, data, fd);
}

static void drop_first(struct um_stackd *d)
{
    struct um_unsent *unsent = d->unsent;
    d->unsent = unsent->next;
    if (!d->unsent)
        d->unsent_end = &d->unsent;
    d->unsent_bytes -= unsent->len;
    if (unsent->fd >= 0)
        close(unsent->fd);
    free(unsent);
}

static void send_unsent(struct um_stackd *d)
{
    while (d->unsent) {
        struct iovec iov = {d->unsent->bytes, d->unsent->len};
        if (send_now(d->control.fd, &iov, 1, d->unsent->fd) == -EAGAIN)
            return;
        drop_first(d);
    }
    um_watch(d, &d->control, EPOLLIN);
}

static void tell_ready(struct um_stackd *d, const struct um_packet *packet,
                       int error)
{
    struct um_packet ready = {.kind = UM_PACKET_READY,
                              .id = packet->id,
                              .card = packet->card,
                              .error = error};
    struct um_card *card = um_card_find(d, packet->card);
    if (card) {
        ready.mtu = card->netif.mtu;
        memcpy(ready.mac, card->netif.hwaddr, sizeof ready.mac);
    }
    um_tell(d, &ready, NULL, -1);
}

/* Takes fd, which is -1 or came along. */
static void obey(struct um_stackd *d, const struct um_packet *packet,
                 const uint8_t *data, int fd)
{
    int given = fd;
    switch (packet->kind) {
    case UM_PACKET_CARD:
        tell_ready(d, packet, -um_card_add(d, packet, fd));
        given = -1;
        break;
    case UM_PACKET_ADDRESS:
        um_card_address(d, packet);
        break;
    case UM_PACKET_GATEWAY:
        um_card_gateway(d, packet);
        break;
    case UM_PACKET_GROUP:
        um_card_group(d, packet);
        break;
    case UM_PACKET_ANNOUNCE:
        um_card_announce(d, packet, data);
        break;
    case UM_PACKET_NEIGHBOUR:
        um_card_neighbour(d, packet);
        break;
    case UM_PACKET_FORWARD:
        um_forward_set(packet->flags != 0);
        break;
    case UM_PACKET_CONNECT:
        um_flow_connect(d, packet, data);
        break;
    case UM_PACKET_LISTEN:
        um_flow_listen(d, packet);
        break;
    case UM_PACKET_START:
        um_flow_start(d, packet->id, fd);
        given = -1;
        break;
    case UM_PACKET_CLOSE:
        um_flow_close(d, packet->id);
        break;
    case UM_PACKET_OPTIONS:
        um_flow_options(d, packet, data);
        break;
    case UM_PACKET_ADMIT:
        um_syns_admit(d, packet->id);
        break;
    case UM_PACKET_PORT:
        um_dgram_port(d, packet->local.port,
                      !(packet->flags & UM_PACKET_REMOVE));
        break;
    case UM_PACKET_SEND:
        um_dgram_send(d, packet, data);
        break;
    default:
        break;
    }
    if (given >= 0)
        close(given);
}

/* Return: false when there is no more. */
static bool take_message(struct um_stackd *d)
{
    union control control;
    struct um_packet packet;
    struct iovec iov[2] = {{&packet, sizeof packet},
                           {d->message, UM_PACKET_DATA_MAX}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = 2,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    ssize_t n = recvmsg(d->control.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        d->ended = true;
        um_watch(d, &d->control, 0);
        return false;
    }
    int fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    if ((size_t)n >= sizeof packet && packet.len == (size_t)n - sizeof packet) {
        d->message[packet.len] = 0; /* a text ends */
        obey(d, &packet, d->message, fd);
    } else if (fd >= 0) {
        close(fd);
    }
    return true;
}

void um_control_ready(struct um_stackd *d, struct um_watch *watch,
                      uint32_t events)
{
    (void)watch;
    if (events & EPOLLOUT)
        send_unsent(d);
    for (int i = 0; i < MESSAGES_AT_ONCE && take_message(d); i++)
        ;
}

void um_control_drain(struct um_stackd *d)
{
    while (!d->ended && take_message(d))
        ;
}

void um_control_close(struct um_stackd *d)
{
    while (d->unsent)
        drop_first(d);
    if (d->control.fd >= 0)
        close(d->control.fd);
    d->control.fd = -1;
}
