/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * wire.c - a direct wire: a pair of SEQPACKET sockets between two stack servers
 *
 * Frames up to 64 KiB, in order, none lost. A call costs as much as copying
 * 20 KB, so the short frames of a batch share a message.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stackd.h"

/* lwIP walks all that is unacknowledged whenever it sends, so a window is so many
 * frames, not bytes: at an MTU of 1,500 a window of 4 MiB costs three times the
 * CPU time of this. */
enum { WINDOW_FRAMES = 128, WINDOW_MAX = 1 << 22, ROOM = 1 << 23 };

/* A message is a train of frames, each behind its length. */
enum { TRAIN = 65535, ALONE = 16384 };

struct wire {
    size_t out_len, in_at, in_len;
    uint8_t out[TRAIN], in[TRAIN];
};

/* The first frame of a message is read where it is wanted; what follows it
 * waits in wire->in. */
static ssize_t receive_train(struct um_card *card, void *ret, size_t room)
{
    struct wire *wire = card->wire;
    uint16_t len = 0;
    struct iovec iov[2] = {{&len, sizeof len}, {ret, room}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    ssize_t n = recvmsg(card->watch.fd, &msg, MSG_DONTWAIT);
    /* An end that closes before it has read all gives the other one ECONNRESET,
     * once, and what it had sent is there behind that: its last FIN. */
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNRESET))
        return 0;
    if (n < (ssize_t)sizeof len || len > (size_t)n - sizeof len)
        return -EPIPE;
    wire->in_at = 0;
    wire->in_len = (size_t)n - sizeof len - len;
    memcpy(wire->in, (uint8_t *)ret + len, wire->in_len);
    return len;
}

static ssize_t receive(struct um_card *card, void *ret, size_t room)
{
    struct wire *wire = card->wire;
    ssize_t n;
    if (wire->in_at == wire->in_len) {
        n = receive_train(card, ret, room);
    } else {
        uint16_t len;
        memcpy(&len, wire->in + wire->in_at, sizeof len);
        wire->in_at += sizeof len;
        if (len > wire->in_len - wire->in_at || len > room)
            return -EPIPE;
        memcpy(ret, wire->in + wire->in_at, len);
        wire->in_at += len;
        n = len;
    }
    card->more = n > 0 && wire->in_len - wire->in_at > sizeof(uint16_t);
    return n;
}

static int send_message(struct um_card *card, struct iovec *iov, int count)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    return sendmsg(card->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0
               ? -errno
               : 0;
}

static int flush(struct um_card *card)
{
    struct wire *wire = card->wire;
    struct iovec iov = {wire->out, wire->out_len};
    int rc = wire->out_len ? send_message(card, &iov, 1) : 0;
    if (rc != -EAGAIN)
        wire->out_len = 0;
    return rc;
}

static int send_frame(struct um_card *card, const struct iovec *iov, int count)
{
    struct wire *wire = card->wire;
    struct iovec whole[1 + PIECES_MAX];
    uint16_t len = 0;
    for (int i = 0; i < count; i++) {
        whole[1 + i] = iov[i];
        len = (uint16_t)(len + iov[i].iov_len);
    }
    whole[0] = (struct iovec){&len, sizeof len};
    if (len >= ALONE || wire->out_len + sizeof len + len > TRAIN) {
        int rc = flush(card);
        if (rc < 0 || len >= ALONE)
            return rc < 0 ? rc : send_message(card, whole, 1 + count);
    }
    for (int i = 0; i <= count; i++) {
        memcpy(wire->out + wire->out_len, whole[i].iov_base, whole[i].iov_len);
        wire->out_len += whole[i].iov_len;
    }
    return 0;
}

static void close_wire(struct um_card *card)
{
    free(card->wire);
    close(card->watch.fd);
}

int um_wire_open(struct um_card *card, int fd)
{
    static const struct um_link link = {receive, send_frame, flush, close_wire};
    card->wire = calloc(1, sizeof(struct wire));
    if (!card->wire) {
        close(fd);
        return -ENOMEM;
    }
    /* As far as net.core.wmem_max lets us; the rest waits in the queue. */
    int room = ROOM;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    card->link = &link;
    card->watch.fd = fd;
    uint32_t window = (uint32_t)card->mtu * WINDOW_FRAMES;
    card->window = window < WINDOW_MAX ? window : WINDOW_MAX;
    return 0;
}
