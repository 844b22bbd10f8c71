/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * plug_vnl.c - places that libvdeplug opens: whatever a VNL can name
 *
 * A port of vde_switch is a datagram socket that stays connected to the switch's
 * own; its other descriptor hangs up with the switch. All else goes by way of a
 * pair of sockets, which costs slirp 18 us of its 62 us round trip and a fifth of
 * its throughput. Neither direction drops frames: what finds no room is kept, and
 * nothing more is read before it has found some.
 */
#include <errno.h>
#include <fcntl.h>
#include <libvdeplug.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plug.h"

enum {
    CONTROL, /* places in the array of pollfds */
    DATA,
    PAIR,
    FRAMES_AT_ONCE = 64,
    FRAME_MAX = 65536,
    PAUSE_MS = 50, /* before the first attempt to open it again */
    PAUSE_MAX_MS = 2000,
    COMMAND_MS = 100, /* within them a command ends that cannot be run */
    FULL_MS = 2 /* until the next attempt to send; some descriptors of plug-ins
                   never say that there is room */
};

struct kept {
    size_t len; /* 0: none */
    uint8_t bytes[FRAME_MAX];
};

struct vnl {
    struct um_place place;
    char where[4096];
    uint16_t mtu;
    VDECONN *conn; /* NULL: it is away */
    int pair;      /* our end, or -1: the stack server has its own descriptor */
    int pause_ms;
    int64_t again_ms, up_ms; /* when to open it again; when it was opened */
    struct kept up, down;    /* to the stack server; to the VNL */
};

static struct vnl *vnl_of(struct um_place *place)
{
    return (struct vnl *)(void *)place;
}

/* ---- opening ---- */

/* vde_open() wants them writable. */
static VDECONN *open_vnl(struct vnl *vnl)
{
    char url[sizeof vnl->where], name[] = "umview";
    strcpy(url, vnl->where);
    um_plug_waits(vnl->place.plug, true);
    errno = 0;
    VDECONN *conn = vde_open(url, name, NULL);
    int error = errno;
    um_plug_waits(vnl->place.plug, false);
    errno = error ? error : ENODEV;
    return conn;
}

static bool is_port_of_a_switch(const struct vnl *vnl)
{
    int data = vde_datafd(vnl->conn), control = vde_ctlfd(vnl->conn), type = 0;
    socklen_t len = sizeof type;
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof peer;
    return strncmp(vnl->where, "vde://", 6) == 0 && control >= 0 &&
           control != data &&
           getsockopt(data, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
           type == SOCK_DGRAM &&
           getpeername(data, (struct sockaddr *)&peer, &peer_len) == 0 &&
           peer.ss_family == AF_UNIX;
}

/* vde_close() waits for the command of cmd://, which may not care that its input
 * has ended. It is in our process group, which plug.c has made. (A command that
 * takes the place of another is ended as well, and started again.) */
static void close_vnl(struct vnl *vnl)
{
    struct sigaction ignored = {.sa_handler = SIG_IGN}, before;
    sigaction(SIGTERM, &ignored, &before);
    if (getpgrp() == getpid())
        kill(0, SIGTERM);
    vde_close(vnl->conn);
    sigaction(SIGTERM, &before, NULL);
    vnl->conn = NULL;
}

static bool has_ended(const struct vnl *vnl)
{
    struct pollfd data = {.fd = vde_datafd(vnl->conn), .events = POLLIN};
    return strncmp(vnl->where, "cmd://", 6) == 0 &&
           poll(&data, 1, COMMAND_MS) > 0 && !(data.revents & POLLIN);
}

/* Return: 0 or a negative errno, and it is away. */
static int plug_in(struct vnl *vnl)
{
    int ends[2] = {-1, -1};
    vnl->conn = open_vnl(vnl);
    if (!vnl->conn)
        return -errno;
    if (has_ended(vnl)) {
        close_vnl(vnl);
        return -EPIPE;
    }
    int data = vde_datafd(vnl->conn);
    fcntl(data, F_SETFL, fcntl(data, F_GETFL) | O_NONBLOCK);
    if (is_port_of_a_switch(vnl)) {
        um_place_up(&vnl->place, vnl->mtu, 0, data);
    } else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) <
               0) {
        int rc = -errno;
        close_vnl(vnl);
        return rc;
    } else {
        um_place_up(&vnl->place, vnl->mtu, 0, ends[1]);
        close(ends[1]);
    }
    vnl->pair = ends[0];
    vnl->up.len = vnl->down.len = 0;
    vnl->up_ms = um_plug_now_ms();
    return 0;
}

static void wait_again(struct vnl *vnl)
{
    vnl->again_ms = um_plug_now_ms() + vnl->pause_ms;
    vnl->pause_ms *= 2;
    if (vnl->pause_ms > PAUSE_MAX_MS)
        vnl->pause_ms = PAUSE_MAX_MS;
}

static void unplug(struct vnl *vnl)
{
    um_place_down(&vnl->place);
    if (vnl->pair >= 0)
        close(vnl->pair);
    vnl->pair = -1;
    if (vnl->conn)
        close_vnl(vnl);
    /* A command that ends at once is not to be started all the time. */
    if (um_plug_now_ms() - vnl->up_ms > PAUSE_MAX_MS)
        vnl->pause_ms = PAUSE_MS;
    wait_again(vnl);
}

static int open_place(struct um_plug *plug, const struct um_packet *order,
                      const char *where, struct um_place **ret)
{
    struct vnl *vnl = calloc(1, sizeof *vnl);
    if (!vnl)
        return -ENOMEM;
    vnl->place.kind = &um_plug_vnl;
    vnl->place.plug = plug;
    vnl->mtu = order->mtu;
    vnl->pause_ms = PAUSE_MS;
    strcpy(vnl->where, where);
    int rc = plug_in(vnl);
    if (rc < 0) {
        free(vnl);
        return rc;
    }
    *ret = &vnl->place;
    return 0;
}

static void close_place(struct um_place *place)
{
    unplug(vnl_of(place));
    free(place);
}

/* ---- frames by way of the pair ---- */

/* vde_recv() of a plug-in may wait, whatever its descriptor says. */
static bool has_frame(const struct vnl *vnl)
{
    struct pollfd data = {.fd = vde_datafd(vnl->conn), .events = POLLIN};
    return poll(&data, 1, 0) > 0 && data.revents & POLLIN;
}

/* Return: 0; 1: there was no frame, or no room; -EPIPE: it is gone. */
static int move_up(struct vnl *vnl)
{
    struct kept *up = &vnl->up;
    if (!up->len) {
        if (!has_frame(vnl))
            return 1;
        errno = 0;
        ssize_t n = vde_recv(vnl->conn, up->bytes, sizeof up->bytes, 0);
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR ||
                             errno == ECONNREFUSED)
                       ? 1
                       : -EPIPE;
        if (n == 1) /* a plug-in's word for "nothing" */
            return 1;
        up->len = (size_t)n;
    }
    if (send(vnl->pair, up->bytes, up->len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return errno == EAGAIN ? 1 : -EPIPE;
    up->len = 0;
    return 0;
}

static int move_down(struct vnl *vnl)
{
    struct kept *down = &vnl->down;
    if (!down->len) {
        ssize_t n =
            recv(vnl->pair, down->bytes, sizeof down->bytes, MSG_DONTWAIT);
        if (n <= 0)
            return n < 0 && (errno == EAGAIN || errno == EINTR) ? 1 : -EPIPE;
        down->len = (size_t)n;
    }
    errno = 0;
    if (vde_send(vnl->conn, down->bytes, down->len, 0) < 0 &&
        (errno == EAGAIN || errno == ENOBUFS))
        return 1;
    down->len = 0; /* or the plug-in does not want it */
    return 0;
}

/* ---- the loop's ---- */

static int wants(struct um_place *place, struct pollfd *ret)
{
    struct vnl *vnl = vnl_of(place);
    if (!vnl->conn) {
        int64_t left = vnl->again_ms - um_plug_now_ms();
        return left > 0 ? (int)left : 0;
    }
    int control = vde_ctlfd(vnl->conn), data = vde_datafd(vnl->conn);
    if (control != data)
        ret[CONTROL] = (struct pollfd){control, POLLRDHUP, 0};
    if (vnl->pair < 0)
        return -1;
    ret[DATA] = (struct pollfd){data, vnl->up.len ? 0 : POLLIN, 0};
    ret[PAIR] = (struct pollfd){
        vnl->pair,
        (short)((vnl->up.len ? POLLOUT : 0) | (vnl->down.len ? 0 : POLLIN)), 0};
    return vnl->down.len ? FULL_MS : -1;
}

/* Of udp://: nobody is at the other end yet. */
static bool is_refused(const struct vnl *vnl)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(vde_datafd(vnl->conn), SOL_SOCKET, SO_ERROR, &error,
                      &len) == 0 &&
           error == ECONNREFUSED;
}

static void ready(struct um_place *place, const struct pollfd *fds)
{
    struct vnl *vnl = vnl_of(place);
    int rc = 0;
    if (!vnl->conn) {
        if (um_plug_now_ms() >= vnl->again_ms && plug_in(vnl) < 0)
            wait_again(vnl);
        return;
    }
    bool refused = fds[DATA].revents & POLLERR && is_refused(vnl);
    if (vnl->pair >= 0) {
        bool up = fds[DATA].revents || vnl->up.len;
        bool down = fds[PAIR].revents || vnl->down.len;
        for (int i = 0; i < FRAMES_AT_ONCE && up && rc == 0; i++)
            rc = move_up(vnl);
        for (int i = 0; i < FRAMES_AT_ONCE && down && rc >= 0; i++)
            if ((rc = move_down(vnl)) == 1)
                break;
    }
    if (rc < 0 || fds[CONTROL].revents ||
        fds[DATA].revents & (POLLHUP | POLLNVAL) ||
        (fds[DATA].revents & POLLERR && !refused))
        unplug(vnl);
}

/* Nobody but us holds the other end of the pair, or the switch's socket. */
static void lost(struct um_place *place)
{
    unplug(vnl_of(place));
}

const struct um_place_kind um_plug_vnl = {open_place, close_place, wants, ready,
                                          lost};
