/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * frames.c - a link whose messages are frames: a socket of vde_switch, or one to
 * a plug process
 *
 * The window is 64 KiB: a switch drops what comes too fast (with a window of
 * 4 MiB, and before recovery.c, a stream made 0.02 Gbit/s; with this 1.4).
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stackd.h"

enum { WINDOW = 0xffff };

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
    if (sendmsg(card->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return 0;
    return errno == ENOBUFS ? -EAGAIN : -errno;
}

static void close_frames(struct um_card *card)
{
    close(card->watch.fd);
}

int um_frames_open(struct um_card *card, int fd)
{
    static const struct um_link link = {receive, send_frame, NULL,
                                        close_frames};
    card->link = &link;
    card->watch.fd = fd;
    card->window = WINDOW;
    return 0;
}
