/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * setting.c - run a command where umview finds less than it would like
 *
 * Usage: setting NAME COMMAND [ARG...]
 *
 * container   a manager has a seccomp listener already, as those of containers
 *             have that stop mount(2) and mknod(2); the kernel gives no second
 * network     the same, and it stops connect(2) as well
 * old-kernel  no user notification, as before Linux 5.0
 * no-addfd    a notification cannot be answered with a descriptor, as before
 *             Linux 5.14
 * no-ptrace   as old-kernel, and ptrace(2) is forbidden as well
 *
 * The command replaces this program and has no other child by it: the manager
 * is its sibling. It ends with the last process under its filter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FAILED = 125 };

static void check(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "setting: %s: %s\n", what, strerror(-rc));
    exit(FAILED);
}

/* ---- the container's manager ---- */

/* Let all calls that are stopped go on, until nobody is left to make one. */
static void manage(int listener)
{
    struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
    while (poll(&poll_fd, 1, -1) > 0 && (poll_fd.revents & POLLIN)) {
        struct seccomp_notif notif = {0};
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif) != 0)
            continue;
        struct seccomp_notif_resp resp = {
            .id = notif.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
    }
}

/* Start the manager, which keeps nothing of ours open but the socket by which
 * the listener comes. Return: our end. */
static int start_manager(void)
{
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends),
          "socketpair");
    long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    check(child < 0 ? -errno : 0, "clone");
    if (child > 0) {
        close(ends[1]);
        return ends[0];
    }
    setsid();
    dup2(ends[1], STDIN_FILENO);
    close_range(1, ~0U, 0);
    char control[CMSG_SPACE(sizeof(int))];
    char byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    if (recvmsg(STDIN_FILENO, &message, 0) == 1 && CMSG_FIRSTHDR(&message)) {
        int listener;
        memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
        manage(listener);
    }
    _exit(0);
}

static void hand_over(int manager, int listener)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &listener, sizeof listener);
    struct iovec data = {"", 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    check(sendmsg(manager, &message, 0) == 1 ? 0 : -errno, "sendmsg");
    close(listener);
    close(manager);
}

static void enter_container(scmp_filter_ctx ctx, bool network)
{
    static const int calls[] = {SCMP_SYS(mount), SCMP_SYS(mknod),
                                SCMP_SYS(mknodat), SCMP_SYS(connect)};
    for (size_t i = 0; i < (network ? 4 : 3); i++)
        check(seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, calls[i], 0), "rule");
    int manager = start_manager();
    check(seccomp_load(ctx), "seccomp_load");
    hand_over(manager, seccomp_notify_fd(ctx));
}

/* ---- kernels of the past ---- */

static void forbid(scmp_filter_ctx ctx, const char *name)
{
    if (strcmp(name, "no-addfd") == 0) {
        check(seccomp_rule_add(
                  ctx, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(ioctl), 1,
                  SCMP_CMP(1, SCMP_CMP_EQ, SECCOMP_IOCTL_NOTIF_ADDFD)),
              "rule");
        return;
    }
    check(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(seccomp), 2,
                           SCMP_CMP(0, SCMP_CMP_EQ, SECCOMP_SET_MODE_FILTER),
                           SCMP_CMP(1, SCMP_CMP_MASKED_EQ,
                                    SECCOMP_FILTER_FLAG_NEW_LISTENER,
                                    SECCOMP_FILTER_FLAG_NEW_LISTENER)),
          "rule");
    check(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(seccomp), 1,
                           SCMP_CMP(0, SCMP_CMP_EQ, SECCOMP_GET_NOTIF_SIZES)),
          "rule");
    if (strcmp(name, "no-ptrace") == 0)
        check(seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ptrace), 0),
              "rule");
}

static void enter_past(scmp_filter_ctx ctx, const char *name)
{
    forbid(ctx, name);
    check(seccomp_load(ctx), "seccomp_load");
}

int main(int argc, char **argv)
{
    static const char *const past[] = {"old-kernel", "no-addfd", "no-ptrace"};
    if (argc < 3) {
        fputs("usage: setting NAME COMMAND [ARG...]\n", stderr);
        return FAILED;
    }
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (!ctx)
        check(-ENOMEM, "seccomp_init");
    /* i386 and x32 are none of our business. */
    check(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ALLOW),
          "seccomp_attr_set");
    bool network = strcmp(argv[1], "network") == 0;
    bool known = network || strcmp(argv[1], "container") == 0;
    if (known)
        enter_container(ctx, network);
    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        if (strcmp(argv[1], past[i]) == 0) {
            known = true;
            enter_past(ctx, argv[1]);
        }
    }
    if (!known) {
        fprintf(stderr, "setting: unknown setting '%s'\n", argv[1]);
        return FAILED;
    }
    seccomp_release(ctx);
    execvp(argv[2], argv + 2);
    check(-errno, argv[2]);
    return FAILED;
}
