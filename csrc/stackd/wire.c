/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * wire.c - a direct wire: a pair of SEQPACKET sockets between two stack servers
 *
 * Frames up to 64 KiB, in order, none lost. The kernel copies each twice; a
 * frame is so long that this is what a byte costs, not the calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stackd.h"

/* lwIP walks all that is unacknowledged whenever it sends, so a window is so many
 * frames, not bytes: at an MTU of 1,500 a window of 4 MiB costs three times the
 * CPU time of this. */
enum { WINDOW_FRAMES = 128, WINDOW_MAX = 1 << 22, ROOM = 1 << 23 };

static ssize_t receive(struct um_card *card, void *ret, size_t room)
{
    ssize_t n = recv(card->watch.fd, ret, room, MSG_DONTWAIT);
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
}

static int send_frame(struct um_card *card, const struct iovec *iov, int count)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov,
                         .msg_iovlen = (size_t)count};
    return sendmsg(card->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0
               ? -errno
               : 0;
}

static void close_wire(struct um_card *card)
{
    close(card->watch.fd);
}

int um_wire_open(struct um_card *card, int fd)
{
    static const struct um_link link = {receive, send_frame, close_wire};
    /* As far as net.core.wmem_max lets us; the rest waits in the queue. */
    int room = ROOM;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    card->link = &link;
    card->watch.fd = fd;
    uint32_t window = (uint32_t)card->mtu * WINDOW_FRAMES;
    card->window = window < WINDOW_MAX ? window : WINDOW_MAX;
    return 0;
}
