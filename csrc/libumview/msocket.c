/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * msocket.c - the library of programs that use many stacks
 *
 * In a view msocket() is one system call, which the view's switchboard answers;
 * the kernel itself has none of this number. So ENOSYS means that we are in no
 * view. Then the stack special file is knocked at: it is a unix socket, and
 * behind it is the view's supervisor, which takes this process in as `umctl
 * attach --pid` does. To install the filter here and hand its listener over
 * was the other way: it would need the filter's text and serve one of the two
 * tracers only, and the supervisor has to be allowed to look into us anyway.
 *
 * The two say no more to each other than: knock (an empty message will not do,
 * that is the end of a connection), and struct um_door_reply.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "../um_api.h"
#include "umview/msocket.h"

#define PUBLIC __attribute__((visibility("default")))

/* What the supervisor answers. Keep with umview/special.py. */
struct um_door_reply {
    int32_t error;       /* an errno, or 0 */
    char text[PATH_MAX]; /* why not, or the path of the stack in the view */
};

static _Thread_local char error_text[512];

PUBLIC const char *umview_msocket_error(void)
{
    return error_text;
}

/* Fail. Return: -1. */
static int fail(int error, const char *path, const char *why)
{
    snprintf(error_text, sizeof error_text, "%.300s%s%.200s", path ? path : "",
             path ? ": " : "", why);
    errno = error;
    return -1;
}

static int call(const char *path, int domain, int type, int protocol)
{
    return (int)syscall(UM_NR_MSOCKET, path, domain, type, protocol);
}

/* Did the kernel answer, in the place of a switchboard? Some containers'
 * filters say EPERM to what they do not know. */
static bool is_outside(int error)
{
    return error == ENOSYS || error == EPERM;
}

/* In a view: the errno says all. */
static int fail_inside(const char *path, int error)
{
    switch (error) {
    case ENOENT:
        return fail(error, path, "no stack is mounted there");
    case EAFNOSUPPORT:
        return fail(error, path,
                    path ? "no stack, or one without this family"
                         : "the default stack does not have this family");
    case EACCES:
        return fail(error, path, "the mode of the stack's file forbids it");
    default:
        return fail(error, path, strerror(error));
    }
}

/* Outside the kernel's stack is the default one, and there is no other. */
static int open_natively(int domain, int type, int protocol)
{
    if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_DEFAULT)
        return 0;
    int fd = socket(domain, type, protocol);
    return fd < 0 ? fail(errno, NULL, strerror(errno)) : fd;
}

/* Connect to the unix socket at path. By a descriptor: what is looked at is what
 * is connected to, and a path of such a socket has at most 107 bytes. */
static int connect_to(int door, const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat found;
    int file = open(path, O_PATH | O_CLOEXEC);
    if (file < 0)
        return -errno;
    snprintf(name.sun_path, sizeof name.sun_path, "/proc/self/fd/%d", file);
    int rc = fstat(file, &found) < 0 ? -errno : 0;
    if (rc == 0 && !S_ISSOCK(found.st_mode))
        rc = -EPROTOTYPE;
    if (rc == 0 && connect(door, (struct sockaddr *)&name, sizeof name) < 0)
        rc = -errno;
    close(file);
    return rc;
}

/* Ask to be taken in, and wait for it. Return: 0, or a negative errno. */
static int ask(int door, struct um_door_reply *reply)
{
    struct ucred supervisor;
    socklen_t len = sizeof supervisor;
    if (getsockopt(door, SOL_SOCKET, SO_PEERCRED, &supervisor, &len) < 0)
        return -errno;
    /* Where Yama is, who is no ancestor of ours needs leave; elsewhere EINVAL. */
    (void)prctl(PR_SET_PTRACER, (unsigned long)supervisor.pid, 0, 0, 0);
    ssize_t n = send(door, "", 1, MSG_NOSIGNAL);
    /* No time limit: one would end with EINTR when we are taken in. */
    while (n >= 0 && (n = recv(door, reply, sizeof *reply - 1, 0)) < 0 &&
           errno == EINTR)
        ;
    if (n < 0)
        return -errno;
    if ((size_t)n < offsetof(struct um_door_reply, text))
        return -ECONNRESET;
    ((char *)reply)[n] = 0;
    return 0;
}

/* Enter the view of the stack at path. Return: 0 with the stack's path in the
 * view; or -1. */
static int enter(const char *path, char mount[PATH_MAX])
{
    struct um_door_reply reply;
    int door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (door < 0)
        return fail(errno, path, strerror(errno));
    int rc = connect_to(door, path);
    if (rc == 0)
        rc = ask(door, &reply);
    close(door);
    switch (rc) {
    case 0:
        break;
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -EPIPE:
        return fail(EAFNOSUPPORT, path, "the view of this stack has ended");
    case -EPROTOTYPE:
        return fail(EAFNOSUPPORT, path, "no stack special file");
    case -ENOENT:
        return fail(ENOENT, path,
                    "no such file, and this process is in no view");
    default:
        return fail(-rc, path, strerror(-rc));
    }
    if (reply.error)
        return fail(reply.error, path, reply.text);
    memcpy(mount, reply.text, PATH_MAX);
    return 0;
}

PUBLIC int msocket(const char *path, int domain, int type, int protocol)
{
    error_text[0] = 0;
    int fd = call(path, domain, type, protocol);
    if (fd >= 0)
        return fd;
    if (!is_outside(errno))
        return fail_inside(path, errno);
    if (!path)
        return open_natively(domain, type, protocol);
    char mount[PATH_MAX];
    int error = enter(path, mount) < 0 ? errno : 0;
    /* Refused, we may be in all the same: another thread was faster. */
    fd = call(error ? path : mount, domain, type, protocol);
    if (fd >= 0)
        return fd;
    if (!is_outside(errno))
        return fail_inside(path, errno);
    return error ? (errno = error, -1) : fail(errno, path, strerror(errno));
}
