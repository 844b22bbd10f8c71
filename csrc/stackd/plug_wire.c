/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * plug_wire.c - a direct wire: how the two ends find each other
 *
 * A wire is a name in the user's runtime directory, ROOT/.wires/NAME. Who comes
 * first listens there, who comes second connects, and their stack servers get the
 * two ends of that connection. The first goes on listening, if only to tell a
 * third that the wire has two ends. When an end goes, the other waits: by its own
 * socket if it is the one that listens, else it connects or listens anew.
 *
 * Files follow the rules of umview/runtime.py. Whoever makes or removes something
 * holds a lock on ROOT; so between finding nobody and listening there is no third.
 * ROOT/.wires has a shared lock from everybody who has an end, so it can be locked
 * by the next to come, and removed with all in it, when they were all killed.
 *
 * Both say first what they can (struct hello), the one that listens before the one
 * that called; the smaller MTU counts, and checksums are left out if both want
 * that.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "plug.h"

enum {
    LISTENER, /* places in the array of pollfds */
    CALLER,
    HELLO_MS = 5000, /* for a peer to say what it can */
    BUSY_MS = 3000,  /* for an end that has just gone to be noticed as gone */
    PAUSE_MS = 20,
    PAUSE_MAX_MS = 1000,
    TRIES = 1000, /* each fails only where another process was faster */
    VERSION = 1
};

struct hello {
    uint16_t version, mtu;
    bool bare;
    bool busy; /* there are two ends: no */
};

struct wire {
    struct um_place place;
    char path[4096];
    char *folder, *name; /* of path, which is cut there; ROOT is path itself */
    struct hello own;
    int life;     /* ROOT/.wires, locked */
    int listener; /* or -1 */
    int caller;   /* its hello is awaited; or -1 */
    int64_t caller_ms;
    int pause_ms;
    int64_t again_ms; /* who does not listen and is not linked tries again */
};

static struct wire *wire_of(struct um_place *place)
{
    return (struct wire *)(void *)place;
}

/* ---- files ---- */

static bool is_ours(int fd)
{
    struct stat found;
    return fstat(fd, &found) == 0 && found.st_uid == getuid();
}

static bool is_still(int fd, const char *path)
{
    struct stat found, there;
    return fstat(fd, &found) == 0 && lstat(path, &there) == 0 &&
           found.st_dev == there.st_dev && found.st_ino == there.st_ino;
}

static int open_folder(const char *path)
{
    mkdir(path, 0700);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (is_ours(fd))
        return fd;
    close(fd);
    return -EPERM;
}

/* Return: a descriptor with the lock on ROOT, or a negative errno. */
static int lock_root(const char *root)
{
    for (int i = 0; i < TRIES; i++) {
        int fd = open_folder(root);
        if (fd == -ENOENT)
            continue;
        if (fd < 0)
            return fd;
        if (flock(fd, LOCK_EX) == 0 && is_still(fd, root))
            return fd;
        close(fd);
    }
    return -EAGAIN;
}

static void empty(int folder)
{
    DIR *entries = fdopendir(dup(folder));
    struct dirent *entry;
    while (entries && (entry = readdir(entries)))
        unlinkat(folder, entry->d_name, 0);
    if (entries)
        closedir(entries);
}

/* The folders go with who has the last end. */
static void leave(struct wire *wire)
{
    int root = lock_root(wire->path);
    if (wire->listener >= 0) {
        if (root >= 0)
            unlinkat(wire->life, wire->name, 0);
        close(wire->listener);
    }
    if (root >= 0 && flock(wire->life, LOCK_EX | LOCK_NB) == 0) {
        empty(wire->life);
        rmdir(wire->folder);
        rmdir(wire->path);
    }
    close(wire->life);
    if (root >= 0)
        close(root);
}

/* ---- finding each other; with the lock ---- */

static int socket_at(struct wire *wire, struct sockaddr_un *ret)
{
    /* By way of the descriptor: the path may be longer than an address. */
    ret->sun_family = AF_UNIX;
    int len = snprintf(ret->sun_path, sizeof ret->sun_path,
                       "/proc/self/fd/%d/%s", wire->life, wire->name);
    if (len >= (int)sizeof ret->sun_path)
        return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

static bool is_of_our_user(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           peer.uid == getuid();
}

/* Return: a connection to who listens, -ECONNREFUSED: nobody does, or another
 * negative errno. */
static int call(struct wire *wire)
{
    struct sockaddr_un at;
    int fd = socket_at(wire, &at);
    if (fd < 0)
        return fd;
    int rc = connect(fd, (struct sockaddr *)&at, sizeof at) < 0 ? -errno
             : is_of_our_user(fd)                               ? 0
                                                                : -EPERM;
    if (rc == 0)
        return fd;
    close(fd);
    return rc == -ENOENT ? -ECONNREFUSED : rc == -EAGAIN ? -EBUSY : rc;
}

static int listen_there(struct wire *wire)
{
    struct sockaddr_un at;
    int fd = socket_at(wire, &at);
    if (fd < 0)
        return fd;
    unlinkat(wire->life, wire->name, 0); /* of one that was killed */
    if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 8) == 0)
        return fd;
    int rc = -errno;
    close(fd);
    return rc;
}

/* ---- greetings ---- */

static void greet(struct wire *wire, int fd, bool busy)
{
    struct hello hello = wire->own;
    hello.busy = busy;
    send(fd, &hello, sizeof hello, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Read the hello that has come, and answer it if we called. Return: 0: the link is
 * up, or a negative errno. fd: taken. */
static int link_up(struct wire *wire, int fd, bool answers)
{
    struct hello hello;
    ssize_t n = recv(fd, &hello, sizeof hello, MSG_DONTWAIT);
    int rc = n < 0                       ? -errno
             : n < (ssize_t)sizeof hello ? -EPROTO
             : hello.version != VERSION  ? -EPROTO
             : hello.busy                ? -EBUSY
                                         : 0;
    if (rc == 0 && answers)
        greet(wire, fd, false);
    if (rc == 0) {
        uint16_t mtu = hello.mtu < wire->own.mtu ? hello.mtu : wire->own.mtu;
        uint32_t bare = hello.bare && wire->own.bare ? UM_PACKET_BARE : 0;
        um_place_up(&wire->place, mtu, UM_PACKET_TRAINS | bare, fd);
        wire->pause_ms = PAUSE_MS;
    }
    close(fd);
    return rc;
}

/* Call who listens, or listen. Return: 0: we listen, or the link is up; -EBUSY:
 * there are two ends; or another negative errno. */
static int meet(struct wire *wire)
{
    int root = lock_root(wire->path);
    if (root < 0)
        return root;
    int fd = call(wire);
    if (fd == -ECONNREFUSED) {
        wire->listener = listen_there(wire);
        close(root);
        return wire->listener < 0 ? wire->listener : 0;
    }
    close(root);
    if (fd < 0)
        return fd;
    struct pollfd answer = {.fd = fd, .events = POLLIN};
    if (poll(&answer, 1, HELLO_MS) > 0)
        return link_up(wire, fd, true);
    close(fd);
    return -ETIMEDOUT;
}

static void wait_again(struct wire *wire)
{
    wire->again_ms = um_plug_now_ms() + wire->pause_ms;
    wire->pause_ms *= 2;
    if (wire->pause_ms > PAUSE_MAX_MS)
        wire->pause_ms = PAUSE_MAX_MS;
}

/* ---- life ---- */

/* Cut ROOT/.wires/NAME into its three paths, and join who is there. */
static int enter(struct wire *wire, const char *where)
{
    char *slash;
    strcpy(wire->path, where);
    wire->folder = strdup(where);
    if (!wire->folder)
        return -ENOMEM;
    slash = strrchr(wire->folder, '/');
    if (!slash)
        return -EINVAL;
    *slash = 0;
    wire->name = slash + 1;
    wire->path[slash - wire->folder] = 0;
    slash = strrchr(wire->path, '/');
    if (!slash)
        return -EINVAL;
    *slash = 0;
    int root = lock_root(wire->path);
    if (root < 0)
        return root;
    wire->life = open_folder(wire->folder);
    int rc = wire->life < 0                             ? wire->life
             : flock(wire->life, LOCK_SH | LOCK_NB) < 0 ? -errno
                                                        : 0;
    close(root);
    return rc;
}

static void destroy(struct wire *wire)
{
    if (wire->life >= 0)
        leave(wire);
    if (wire->caller >= 0)
        close(wire->caller);
    free(wire->folder);
    free(wire);
}

static int open_place(struct um_plug *plug, const struct um_packet *order,
                      const char *where, struct um_place **ret)
{
    struct wire *wire = calloc(1, sizeof *wire);
    if (!wire)
        return -ENOMEM;
    wire->place.kind = &um_plug_wire;
    wire->place.plug = plug;
    wire->own = (struct hello){.version = VERSION,
                               .mtu = order->mtu,
                               .bare = (order->flags & UM_PACKET_BARE) != 0};
    wire->life = wire->listener = wire->caller = -1;
    wire->pause_ms = PAUSE_MS;
    int rc = enter(wire, where);
    int64_t until_ms = um_plug_now_ms() + BUSY_MS;
    while (rc == 0 && (rc = meet(wire)) < 0 && um_plug_now_ms() < until_ms)
        rc = poll(NULL, 0, PAUSE_MS);
    if (rc < 0) {
        destroy(wire);
        return rc;
    }
    *ret = &wire->place;
    return 0;
}

static void close_place(struct um_place *place)
{
    um_place_down(place);
    destroy(wire_of(place));
}

static void lost(struct um_place *place)
{
    struct wire *wire = wire_of(place);
    if (wire->listener < 0)
        wait_again(wire);
}

/* ---- the loop's ---- */

static int wants(struct um_place *place, struct pollfd *ret)
{
    struct wire *wire = wire_of(place);
    if (wire->listener >= 0)
        ret[LISTENER] = (struct pollfd){wire->listener, POLLIN, 0};
    if (wire->caller >= 0)
        ret[CALLER] = (struct pollfd){wire->caller, POLLIN, 0};
    int64_t until_ms = wire->caller >= 0 ? wire->caller_ms + HELLO_MS
                       : wire->listener < 0 && !place->link ? wire->again_ms
                                                            : -1;
    if (until_ms < 0)
        return -1;
    int64_t left = until_ms - um_plug_now_ms();
    return left > 0 ? (int)left : 0;
}

static void answer_call(struct wire *wire)
{
    int fd = accept4(wire->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    bool busy = wire->place.link || wire->caller >= 0;
    if (is_of_our_user(fd))
        greet(wire, fd, busy);
    if (busy || !is_of_our_user(fd)) {
        close(fd);
        return;
    }
    wire->caller = fd;
    wire->caller_ms = um_plug_now_ms();
}

static void ready(struct um_place *place, const struct pollfd *fds)
{
    struct wire *wire = wire_of(place);
    int64_t now_ms = um_plug_now_ms();
    if (wire->caller >= 0 && fds[CALLER].revents) {
        link_up(wire, wire->caller, false);
        wire->caller = -1;
    } else if (wire->caller >= 0 && now_ms >= wire->caller_ms + HELLO_MS) {
        close(wire->caller);
        wire->caller = -1;
    }
    if (wire->listener >= 0 && fds[LISTENER].revents)
        answer_call(wire);
    if (wire->listener < 0 && !place->link && now_ms >= wire->again_ms &&
        meet(wire) < 0)
        wait_again(wire);
}

const struct um_place_kind um_plug_wire = {open_place, close_place, wants,
                                           ready, lost};
