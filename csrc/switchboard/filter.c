/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * filter.c - which calls are stopped, and the first process of a view
 *
 * The filter decides what a call may reach without us, so it is where a view
 * can leak. Three rules follow.
 * (1) The kernel looks at the low 32 bits of an int argument, a filter sees
 *     the whole register: every comparison of an int is masked, or
 *     socket(0x100000002, ...) would open a socket of the host.
 * (2) Only x86-64 (or aarch64) calls are answered. x32 and any other
 *     architecture get ENOSYS; an i386 program can make no sockets other than
 *     unix ones (socketcall's arguments lie in memory, so its SYS_SOCKET is
 *     refused whole), and bind, connect or address none that it was given.
 * (3) Calls that are always allowed, whatever their arguments, are answered
 *     from the kernel's bitmap and cost nothing: most of them must stay so.
 *
 * Nothing that is stopped may run between installing the filter and the
 * supervisor's start: only read, write, close and execve do.
 * See seccomp(2), seccomp_unotify(2), libseccomp's seccomp_rule_add(3).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "um.h"

#define INT_MASK 0xffffffffULL
#define INT_IS(arg, value)                                                     \
    SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, INT_MASK, (scmp_datum_t)(value))

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* Flags of an open for reading that may name a file that we show. */
#define OPEN_READ_MASK                                                         \
    ((scmp_datum_t)(O_ACCMODE | O_CREAT | O_DIRECTORY | O_PATH))

/* Those who read /etc/resolv.conf for themselves (C libraries, Go, Java, Rust)
 * say neither O_NOCTTY nor O_NONBLOCK. A compiler that looks for headers says
 * the former, 500 times, and so does grep(1); nginx and Ruby say the latter,
 * of each file. They differ in where the path lies: grep's is a word of its
 * command line, on the stack, above everything else that x86-64 maps; the
 * others' are in their heaps. Stopping all costs a compiler a tenth and a
 * server of small files a half. */
#define BULK_FLAGS ((scmp_datum_t)(O_NOCTTY | O_NONBLOCK))
#ifdef __x86_64__
#define BULK_PATHS_FROM ((scmp_datum_t)0x7ff000000000)
#else
#define BULK_PATHS_FROM ((scmp_datum_t)0)
#endif

/* Families that a switchboard answers; unix and the kernel's crypto (no
 * network) are the kernel's; the rest does not exist in a view. */
static const int answered_families[] = {AF_INET, AF_INET6, AF_NETLINK,
                                        AF_PACKET};
enum { FAMILY_ALG = 38, FAMILIES_KNOWN = 64 };

static bool answered(int family)
{
    for (size_t i = 0; i < sizeof answered_families / sizeof(int); i++)
        if (answered_families[i] == family)
            return true;
    return false;
}

/* The rules of socket(2). answer: what happens to the families of a view. */
static int add_socket_rules(scmp_filter_ctx ctx, uint32_t answer)
{
    int rc = 0;
    for (int family = 0; family < FAMILIES_KNOWN && rc == 0; family++) {
        if (family == AF_UNIX || family == FAMILY_ALG)
            continue;
        uint32_t action =
            answered(family) ? answer : SCMP_ACT_ERRNO(EAFNOSUPPORT);
        rc = seccomp_rule_add(ctx, action, SCMP_SYS(socket), 1,
                              INT_IS(0, family));
    }
    return rc;
}

static int add_argument_rules(scmp_filter_ctx ctx, uint32_t stop)
{
    int rc = seccomp_rule_add(ctx, stop, SCMP_SYS(sendto), 1,
                              SCMP_CMP(4, SCMP_CMP_NE, 0));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, stop, SCMP_SYS(recvfrom), 1,
                              SCMP_CMP(4, SCMP_CMP_NE, 0));
    /* It connects. */
    if (rc == 0)
        rc = seccomp_rule_add(
            ctx, stop, SCMP_SYS(sendto), 1,
            SCMP_CMP(3, SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, MSG_FASTOPEN));
    static const unsigned int receive_flags[] = {MSG_TRUNC, MSG_ERRQUEUE};
    for (size_t i = 0; i < 2 && rc == 0; i++)
        rc = seccomp_rule_add(ctx, stop, SCMP_SYS(recvfrom), 1,
                              SCMP_CMP(3, SCMP_CMP_MASKED_EQ, receive_flags[i],
                                       receive_flags[i]));
    /* SIOC* of sockets and cards, of wireless cards; the queue sizes. */
    static const unsigned int ioctl_pages[] = {0x8900, 0x8b00};
    for (size_t i = 0; i < 2 && rc == 0; i++)
        rc = seccomp_rule_add(
            ctx, stop, SCMP_SYS(ioctl), 1,
            SCMP_CMP(1, SCMP_CMP_MASKED_EQ, 0xffffff00ULL, ioctl_pages[i]));
    static const unsigned int queue_sizes[] = {FIONREAD, TIOCOUTQ};
    for (size_t i = 0; i < 2 && rc == 0; i++)
        rc = seccomp_rule_add(ctx, stop, SCMP_SYS(ioctl), 1,
                              INT_IS(1, queue_sizes[i]));
    /* Who leaves our network namespace (clone3's flags cannot be seen). */
    static const int leaving[] = {SCMP_SYS(clone), SCMP_SYS(unshare)};
    for (size_t i = 0; i < 2 && rc == 0; i++)
        rc = seccomp_rule_add(
            ctx, stop, leaving[i], 1,
            SCMP_CMP(0, SCMP_CMP_MASKED_EQ, CLONE_NEWNET, CLONE_NEWNET));
    /* A program that hides its memory could not be answered. */
    static const int dumpable[] = {PR_SET_DUMPABLE, PR_GET_DUMPABLE};
    for (size_t i = 0; i < 2 && rc == 0; i++)
        rc = seccomp_rule_add(ctx, stop, SCMP_SYS(prctl), 1,
                              INT_IS(0, dumpable[i]));
    return rc;
}

/* The limit is how we know whose view a process is in (place.c). To set it is
 * said to be done, and is not; who wants the old value at the same time would
 * not get it, and is refused. */
static int add_limit_rules(scmp_filter_ctx ctx)
{
    int rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(0), SCMP_SYS(setrlimit), 1,
                              INT_IS(0, RLIMIT_LOCKS));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(0), SCMP_SYS(prlimit64), 3,
                              INT_IS(1, RLIMIT_LOCKS),
                              SCMP_CMP(2, SCMP_CMP_NE, 0),
                              SCMP_CMP(3, SCMP_CMP_EQ, 0));
    if (rc == 0)
        rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64),
                              3, INT_IS(1, RLIMIT_LOCKS),
                              SCMP_CMP(2, SCMP_CMP_NE, 0),
                              SCMP_CMP(3, SCMP_CMP_NE, 0));
    return rc;
}

/* A listener of the program's own would be asked before a tracer is, and its
 * "continue" would pass the tracer by. With a listener of ours the kernel says
 * EBUSY by itself. */
static int add_listener_rule(scmp_filter_ctx ctx)
{
    return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EBUSY), SCMP_SYS(seccomp), 2,
                            INT_IS(0, SECCOMP_SET_MODE_FILTER),
                            SCMP_CMP(1, SCMP_CMP_MASKED_EQ,
                                     SECCOMP_FILTER_FLAG_NEW_LISTENER,
                                     SECCOMP_FILTER_FLAG_NEW_LISTENER));
}

/* The rules of open (its flags are argument 1) or openat (2). */
static int add_open_rules(scmp_filter_ctx ctx, uint32_t stop, int call,
                          unsigned int flags_at)
{
    static const int bulk[] = {O_NOCTTY, O_NONBLOCK, O_NOCTTY | O_NONBLOCK};
    struct scmp_arg_cmp place =
        SCMP_CMP(flags_at - 1, SCMP_CMP_GE, BULK_PATHS_FROM);
    int rc = seccomp_rule_add(
        ctx, stop, call, 1,
        SCMP_CMP(flags_at, SCMP_CMP_MASKED_EQ, OPEN_READ_MASK | BULK_FLAGS, 0));
    for (size_t i = 0; i < 3 && rc == 0; i++)
        rc = seccomp_rule_add(ctx, stop, call, 2,
                              SCMP_CMP(flags_at, SCMP_CMP_MASKED_EQ,
                                       OPEN_READ_MASK | BULK_FLAGS,
                                       (scmp_datum_t)bulk[i]),
                              place);
    return rc;
}

static int add_overlay_rules(scmp_filter_ctx ctx, uint32_t stop)
{
    int nr, empty, rc = 0;
    for (size_t i = 0; rc == 0 && um_overlay_call(i, &nr, &empty); i++) {
        if (nr < 0)
            continue;
        if (empty < 0)
            rc = seccomp_rule_add(ctx, stop, nr, 0);
        else
            rc = seccomp_rule_add(ctx, stop, nr, 1,
                                  SCMP_CMP((unsigned int)empty,
                                           SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH,
                                           0));
    }
    static const int opens[] = {SCMP_SYS(open), SCMP_SYS(openat),
                                SCMP_SYS(openat2)};
    for (size_t i = 0; i < 3 && rc == 0; i++)
        rc = seccomp_rule_add(ctx, stop, opens[i], 0);
    return rc;
}

static int add_file_rules(scmp_filter_ctx ctx, uint32_t stop)
{
    int rc = add_open_rules(ctx, stop, SCMP_SYS(openat), 2);
    if (rc == 0)
        rc = add_open_rules(ctx, stop, SCMP_SYS(open), 1);
    if (rc == 0)
        rc = seccomp_rule_add(ctx, stop, SCMP_SYS(openat2), 0);
    return rc;
}

/* An empty filter for one architecture. */
static scmp_filter_ctx new_filter(void)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    if (!ctx)
        return NULL;
    if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH,
                         SCMP_ACT_ERRNO(ENOSYS)) != 0 ||
        seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2) != 0) {
        seccomp_release(ctx);
        return NULL;
    }
    return ctx;
}

/* What 32-bit programs may not do. Return: NULL where there are none. */
static scmp_filter_ctx compat_filter(int *rc)
{
    *rc = 0;
#ifdef __x86_64__
    scmp_filter_ctx ctx = new_filter();
    if (!ctx) {
        *rc = -ENOMEM;
        return NULL;
    }
    /* Making a socket, and giving one that came from outside a new peer.
     * libseccomp adds the rule for socketcall(2) beside each; with a condition
     * on an argument (socket's family) it cannot, so that one is refused whole
     * there. */
    enum { SOCKETCALL_SOCKET = 1 };
    static const int refused[] = {SCMP_SYS(bind), SCMP_SYS(connect),
                                  SCMP_SYS(sendto), SCMP_SYS(sendmsg),
                                  SCMP_SYS(sendmmsg)};
    *rc = seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
    if (*rc == 0)
        *rc = seccomp_arch_add(ctx, SCMP_ARCH_X86);
    if (*rc == 0)
        *rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT),
                               SCMP_SYS(socketcall), 1,
                               INT_IS(0, SOCKETCALL_SOCKET));
    for (size_t i = 0; i < sizeof refused / sizeof(int) && *rc == 0; i++)
        *rc =
            seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), refused[i], 0);
    if (*rc == 0)
        *rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS),
                               SCMP_SYS(io_uring_setup), 0);
    if (*rc == 0)
        *rc = add_socket_rules(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT));
    if (*rc == 0)
        *rc = add_listener_rule(ctx);
    if (*rc == 0)
        *rc = add_limit_rules(ctx);
    if (*rc != 0) {
        seccomp_release(ctx);
        return NULL;
    }
    return ctx;
#else
    return NULL;
#endif
}

/* Compose the filter. Return: NULL with *rc set. */
static scmp_filter_ctx build_filter(int flags, int *rc)
{
    scmp_filter_ctx ctx = new_filter();
    if (!ctx) {
        *rc = -ENOMEM;
        return NULL;
    }
    uint32_t stop = (uint32_t)SCMP_ACT_NOTIFY;
    if (flags & UM_FILTER_TRACE)
        stop = SCMP_ACT_TRACE(0);
    *rc = add_socket_rules(ctx, stop);
    int nr;
    for (size_t i = 0; *rc == 0 && (nr = um_always_stopped(i)) >= 0; i++)
        *rc = seccomp_rule_add(ctx, stop, nr, 0);
    if (*rc == 0)
        *rc = add_argument_rules(ctx, stop);
    if (*rc == 0)
        *rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS),
                               SCMP_SYS(io_uring_setup), 0);
    if (*rc == 0 && (flags & UM_FILTER_OVERLAY))
        *rc = add_overlay_rules(ctx, stop);
    else if (*rc == 0 && (flags & UM_FILTER_FILES))
        *rc = add_file_rules(ctx, stop);
    if (*rc == 0)
        *rc = add_listener_rule(ctx);
    if (*rc == 0)
        *rc = add_limit_rules(ctx);
    /* A process has one tracer, and that is us: to be said, not only refused.
     */
    if (*rc == 0 && (flags & UM_FILTER_TRACE))
        *rc = seccomp_rule_add(ctx, stop, SCMP_SYS(ptrace), 0);
    scmp_filter_ctx compat = *rc == 0 ? compat_filter(rc) : NULL;
    if (compat && *rc == 0) {
        *rc = seccomp_merge(ctx, compat);
        if (*rc != 0)
            seccomp_release(compat);
    }
    if (*rc != 0) {
        seccomp_release(ctx);
        return NULL;
    }
    return ctx;
}

struct sock_filter *um_filter_compile(int flags, unsigned short *count, int *rc)
{
    scmp_filter_ctx ctx = build_filter(flags, rc);
    if (!ctx)
        return NULL;
    struct sock_filter *code = NULL;
    int fd = memfd_create("umview-filter", MFD_CLOEXEC);
    *rc = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);
    seccomp_release(ctx);
    if (*rc == 0) {
        off_t size = lseek(fd, 0, SEEK_END);
        code = malloc((size_t)size);
        if (!code || pread(fd, code, (size_t)size, 0) != size) {
            free(code);
            code = NULL;
            *rc = -ENOMEM;
        }
        *count = (unsigned short)((size_t)size / sizeof *code);
    }
    if (fd >= 0)
        close(fd);
    return code;
}

/* Install the filter in the calling thread. *listener: -1 for a filter that has
 * none. Return: 0 or a negative errno. */
static int install_filter(int flags, int *listener)
{
    int rc;
    unsigned short count = 0;
    struct sock_filter *code = um_filter_compile(flags, &count, &rc);
    if (!code)
        return rc;
    struct sock_fprog program = {.len = count, .filter = code};
    /* SPEC_ALLOW: before Linux 5.16 a filter slowed its whole process down by
     * the mitigation of speculative store bypass. */
    bool listens = !(flags & UM_FILTER_TRACE);
    unsigned int how = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if (listens)
        how |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    int fd = -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        (fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, how,
                           &program)) < 0)
        rc = -errno;
    free(code);
    *listener = listens ? fd : -1;
    return rc;
}

int um_child_exec(int sync_fd, int flags, char **argv, int *stage)
{
    *stage = 0;
    int listener;
    int rc = install_filter(flags, &listener);
    if (rc != 0)
        return rc;
    *stage = 1;
    char go;
    if (write(sync_fd, &listener, sizeof listener) != sizeof listener ||
        read(sync_fd, &go, 1) != 1)
        return -EPIPE;
    if (listener >= 0)
        close(listener);
    else if (!um_all_answered())
        return -EPROTO; /* another's listener is asked before a tracer is */
    *stage = 2;
    fcntl(sync_fd, F_SETFD, FD_CLOEXEC);
    return um_exec(argv);
}

int um_exec(char **argv)
{
    execvp(argv[0], argv);
    return -errno;
}

int um_take_fd(int pid, int fd)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return -errno;
    int copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    int rc = copy < 0 ? -errno : copy;
    close(pidfd);
    return rc;
}

int um_subreaper_set(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0 ? -errno : 0;
}
