/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * vde.c - cards that libvdeplug plugs in: whatever a VNL can name
 *
 * The descriptor is made non-blocking, for vde_recv() ignores MSG_DONTWAIT with
 * some plug-ins. The window is 64 KiB: a switch drops what comes too fast, and
 * lwIP without SACK takes long over each hole (4 MiB: 0.02 Gbit/s, 64 KiB: 1.4).
 */
#include <errno.h>
#include <fcntl.h>
#include <libvdeplug.h>
#include <string.h>

#include "stackd.h"

enum { WINDOW = 0xffff };

static ssize_t receive(struct um_card *card, void *ret, size_t room)
{
    errno = 0;
    ssize_t n = vde_recv(card->plug, ret, room, 0);
    /* 1 byte: a plug-in's word for "nothing". */
    if (n > 0)
        return n;
    return n < 0 && errno != EAGAIN && errno != EINTR ? -EPIPE : 0;
}

static int send_frame(struct um_card *card, const struct iovec *iov, int count)
{
    uint8_t *frame = card->d->scratch;
    size_t len = 0;
    for (int i = 0; i < count; i++) {
        memcpy(frame + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    errno = 0;
    if (vde_send(card->plug, frame, len, 0) >= 0)
        return 0;
    return errno == ENOBUFS || errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

static void close_vde(struct um_card *card)
{
    vde_close(card->plug);
}

int um_vde_open(struct um_card *card, const char *vnl)
{
    static const struct um_link link = {receive, send_frame, NULL, close_vde};
    char url[4096], name[] = "umview";
    if (strlen(vnl) >= sizeof url)
        return -ENAMETOOLONG;
    strcpy(url, vnl); /* vde_open() wants it writable */
    errno = 0;
    card->plug = vde_open(url, name, NULL);
    if (!card->plug)
        return errno ? -errno : -ENODEV;
    card->link = &link;
    card->watch.fd = vde_datafd(card->plug);
    card->control.fd = vde_ctlfd(card->plug);
    if (card->control.fd == card->watch.fd)
        card->control.fd = -1;
    fcntl(card->watch.fd, F_SETFL, fcntl(card->watch.fd, F_GETFL) | O_NONBLOCK);
    card->window = WINDOW;
    return 0;
}
