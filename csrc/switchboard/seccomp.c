/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * seccomp.c - the tracer that is a listener of seccomp notifications
 *
 * A thread that makes a filtered call sleeps until its notification, named by
 * a 64-bit id, is answered. What shapes this file:
 * (1) A new descriptor goes in by ADDFD with its SEND flag (Linux 5.14), which
 *     also answers: in two steps, a signal in between would leave it behind.
 * (2) SEND may be taken and still be lost: a thread that a signal has woken is
 *     on its way out, but counts as waiting until it has the listener's lock.
 *     /proc/TID/wchan tells who sleeps; it is asked before an answer that
 *     hands data or a result over (observed on Linux 6.18: of 3000 datagrams
 *     under a 5 kHz timer up to 13 were lost, with this none). ADDFD needs
 *     none of it: the caller itself installs the descriptor, and if it has
 *     left, ADDFD says ESRCH. For what is lost all the same, see untold.c.
 * See seccomp_unotify(2).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tracer.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS      SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif

enum { WAKE_LOOKS = 2000, WAKE_MS = 10000 };

static int seccomp_send(struct um_call *call, um_verdict verdict)
{
    struct seccomp_notif_resp resp = {.id = call->id};
    if (verdict == UM_CONTINUE)
        resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    else if (verdict < 0)
        resp.error = (int32_t)verdict;
    else
        resp.val = verdict;
    if (ioctl(call->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp) == 0)
        return 0;
    return -errno;
}

static bool seccomp_valid(const struct um_call *call)
{
    uint64_t id = call->id;
    return ioctl(call->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

static bool seccomp_waits(struct um_call *call)
{
    struct um_switchboard *sb = call->sb;
    int64_t end = 0;
    for (int looks = 0;; looks++) {
        int sleeps = um_thread_sleeps(sb, call->tid);
        sb->wchan_tells |= sleeps == 1;
        if (sleeps != 0)
            return true;
        if (!um_call_valid(call))
            return false;
        /* On a busy machine it may take long until it gets a CPU to leave. */
        if (looks == WAKE_LOOKS) {
            if (!sb->wchan_tells)
                return true;
            end = um_now_ms() + WAKE_MS;
        } else if (looks > WAKE_LOOKS && um_now_ms() >= end) {
            return true;
        }
        sched_yield();
    }
}

/* ---- descriptors ---- */

static int seccomp_make_stream(struct um_call *call, int flags)
{
    (void)call;
    return um_stream_open(flags);
}

static int seccomp_make_native(struct um_call *call, int domain, int type,
                               int protocol)
{
    (void)call;
    int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
    return fd < 0 ? -errno : fd;
}

static int seccomp_make_pair(struct um_call *call, int flags, int *end)
{
    (void)call;
    return um_dgram_pair(flags, end);
}

static int seccomp_accept(struct um_call *call, int flags)
{
    int fd =
        accept4(call->fd, NULL, NULL, SOCK_CLOEXEC | (flags & SOCK_NONBLOCK));
    return fd < 0 ? -errno : fd;
}

static int add_fd(struct um_call *call, struct seccomp_notif_addfd *add)
{
    int number = ioctl(call->listener, SECCOMP_IOCTL_NOTIF_ADDFD, add);
    return number < 0 ? -errno : number;
}

static int seccomp_give(struct um_call *call, int fd, int cloexec)
{
    struct seccomp_notif_addfd add = {
        .id = call->id,
        .flags = SECCOMP_ADDFD_FLAG_SEND,
        .srcfd = (uint32_t)fd,
        .newfd_flags = (uint32_t)cloexec,
    };
    return add_fd(call, &add);
}

static int seccomp_renew(struct um_call *call, int flags)
{
    int fd = um_stream_open(flags);
    if (fd < 0)
        return fd;
    int number = (int)call->args[0];
    struct seccomp_notif_addfd add = {
        .id = call->id,
        .flags = SECCOMP_ADDFD_FLAG_SETFD,
        .srcfd = (uint32_t)fd,
        .newfd = (uint32_t)number,
        .newfd_flags = (uint32_t)um_cloexec_of(call, number),
    };
    int rc = add_fd(call, &add);
    if (rc < 0)
        close(fd);
    return rc < 0 ? rc : fd;
}

/* ---- receiving ---- */

static void receive(struct um_switchboard *sb, int listener)
{
    struct seccomp_notif *notif = sb->notif;
    memset(notif, 0, sb->notif_size);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notif) != 0)
        return; /* ENOENT: abandoned before we came */
    struct um_call call = {
        .sb = sb,
        .id = notif->id,
        .listener = listener,
        .tid = (pid_t)notif->pid,
        .nr = notif->data.nr,
        .fd = -1,
    };
    memcpy(call.args, notif->data.args, sizeof call.args);
    um_call_came(&call);
}

static void seccomp_ready(struct um_switchboard *sb,
                          const struct pollfd *source)
{
    if (source->revents & POLLIN)
        receive(sb, source->fd);
    else if (source->revents & (POLLHUP | POLLERR))
        um_source_remove(sb, source->fd);
}

static void seccomp_close(struct um_switchboard *sb)
{
    free(sb->notif);
}

static const struct um_tracer seccomp = {
    .brings_fds = true,
    .loses_answers = true,
    .ready = seccomp_ready,
    .close = seccomp_close,
    .send = seccomp_send,
    .valid = seccomp_valid,
    .waits = seccomp_waits,
    .make_stream = seccomp_make_stream,
    .make_native = seccomp_make_native,
    .make_pair = seccomp_make_pair,
    .accept = seccomp_accept,
    .give = seccomp_give,
    .renew = seccomp_renew,
};

/* ---- the start ---- */

/* Get memory for notifications of this kernel's size. */
static int make_room(struct um_switchboard *sb)
{
    struct seccomp_notif_sizes sizes;
    if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
        return -errno;
    sb->notif_size = sizes.seccomp_notif;
    if (sb->notif_size < sizeof *sb->notif)
        sb->notif_size = sizeof *sb->notif;
    sb->notif = calloc(1, sb->notif_size);
    return sb->notif ? 0 : -ENOMEM;
}

int um_seccomp_start(struct um_switchboard *sb, int listener)
{
    int rc = sb->notif ? 0 : make_room(sb);
    if (rc < 0)
        return rc;
    /* Run us on the caller's CPU, at once: it waits for us anyway. A call
     * across CPUs costs 7 us with this and 117 us without. */
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    sb->tracer = &seccomp;
    return um_source_add(sb, listener);
}
