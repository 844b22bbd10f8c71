/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * identify.c - which of our sockets a descriptor of a program is
 *
 * No table of programs' descriptors is kept: dup, fork, exec, SCM_RIGHTS and
 * close happen without us. On a stopped call the descriptor is copied here
 * (pidfd_getfd) and the socket behind it tells its SO_COOKIE, a number that
 * the kernel never gives twice; the table of sockets is keyed by it.
 *
 * What ends without telling: a surrogate of which we hold no end (fresh,
 * bound, listening, joined locally) leaves its entry behind when its last
 * descriptor is closed. Such entries are collected: the kernel's list of unix
 * sockets (sock_diag(7)) names the living by cookie. That is done when the
 * table has doubled since the last time, so it costs each socket a constant;
 * and at once when a port is wanted that a dead entry may hold.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../pump/pump.h"
#include "policy.h"
#include "trace.h"
#include "tracer.h"
#include "uplink.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

enum { COLLECT_AFTER = 4096 };

/* ---- descriptors of programs ---- */

/* The process that a thread belongs to, for kernels without PIDFD_THREAD. */
static pid_t process_of(pid_t tid)
{
    char path[64], line[128];
    pid_t tgid = -1;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    while (tgid < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "Tgid: %d", &tgid) != 1)
            tgid = -1;
    fclose(f);
    return tgid;
}

static int open_pidfd(pid_t tid)
{
    int fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
    if (fd < 0 && errno == EINVAL) {
        pid_t tgid = process_of(tid);
        fd = tgid < 0 ? -1 : (int)syscall(SYS_pidfd_open, tgid, 0);
    }
    return fd < 0 ? -errno : fd;
}

static struct um_pidfd_slot *slot_of(struct um_switchboard *sb, pid_t tid)
{
    return &sb->pidfds[(uint32_t)tid % UM_PIDFD_SLOTS];
}

static void empty_slot(struct um_pidfd_slot *slot)
{
    if (slot->fd >= 0)
        close(slot->fd);
    if (slot->wchan_fd >= 0)
        close(slot->wchan_fd);
    slot->fd = slot->wchan_fd = -1;
}

void um_pidfds_init(struct um_switchboard *sb)
{
    for (int i = 0; i < UM_PIDFD_SLOTS; i++)
        sb->pidfds[i].fd = sb->pidfds[i].wchan_fd = -1;
}

void um_pidfds_close(struct um_switchboard *sb)
{
    for (int i = 0; i < UM_PIDFD_SLOTS; i++)
        empty_slot(&sb->pidfds[i]);
}

int um_getfd(struct um_switchboard *sb, pid_t tid, int fd)
{
    struct um_pidfd_slot *slot = slot_of(sb, tid);
    for (int attempt = 0; attempt < 2; attempt++) {
        if (slot->fd < 0 || slot->tid != tid) {
            empty_slot(slot);
            int pidfd = open_pidfd(tid);
            if (pidfd < 0)
                return pidfd;
            slot->fd = pidfd;
            slot->tid = tid;
            attempt = 1;
        }
        int copy = (int)syscall(SYS_pidfd_getfd, slot->fd, fd, 0);
        if (copy >= 0)
            return copy;
        if (errno != ESRCH)
            return -errno;
        /* The slot was of an earlier thread of this number. */
        empty_slot(slot);
    }
    return -ESRCH;
}

bool um_catches_signals(pid_t tid)
{
    /* Those that end a program come once, if at all, and most catch some. */
    static const int rare[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,
                               SIGTRAP, SIGBUS,  SIGABRT, SIGFPE,
                               SIGSEGV, SIGTERM, SIGSYS};
    char path[32], line[128];
    unsigned long long caught = 0;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "SigCgt: %llx", &caught) == 1)
            break;
    fclose(f);
    for (size_t i = 0; i < sizeof rare / sizeof *rare; i++)
        caught &= ~(1ULL << (rare[i] - 1));
    return caught != 0;
}

int um_thread_sleeps(struct um_switchboard *sb, pid_t tid)
{
    struct um_pidfd_slot *slot = slot_of(sb, tid);
    if (slot->tid != tid) {
        empty_slot(slot);
        slot->tid = tid;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        if (slot->wchan_fd < 0) {
            char path[32];
            snprintf(path, sizeof path, "/proc/%d/wchan", tid);
            slot->wchan_fd = open(path, O_RDONLY | O_CLOEXEC);
            if (slot->wchan_fd < 0)
                return -errno;
            attempt = 1;
        }
        char c;
        if (pread(slot->wchan_fd, &c, 1, 0) == 1)
            return c != '0';
        empty_slot(slot); /* of an earlier thread of this number */
        slot->tid = tid;
    }
    return -ESRCH;
}

uint64_t um_cookie_of(int fd)
{
    uint64_t cookie;
    socklen_t len = sizeof cookie;
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) != 0)
        return 0;
    return cookie;
}

int um_domain_of(int fd)
{
    int domain;
    socklen_t len = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0)
        return -1;
    return domain;
}

int um_identify(struct um_call *call)
{
    if (call->fd >= 0 && call->sock)
        return 1;
    if (call->fd < 0) {
        int fd = um_getfd(call->sb, call->tid, (int)call->args[0]);
        if (fd == -EPERM)
            um_log(call->sb, UM_LOG_WARNING,
                   "process %d does not let itself be looked into (its "
                   "program file is not readable, or it is not dumpable): its "
                   "socket calls fail",
                   call->tid);
        if (fd < 0)
            return fd;
        call->fd = fd;
    }
    uint64_t cookie = um_cookie_of(call->fd);
    call->sock = cookie ? um_sock_find(call->sb, cookie) : NULL;
    if (!call->sock)
        return 0;
    if (call->sock->untold.nr != call->nr)
        call->sock->untold.tid = 0;
    call->sock->tid = call->tid;
    call->sock->number = (int)call->args[0];
    if (call->trace)
        um_trace_socket(call);
    if (call->sock->conn)
        um_conn_seen(call->sock->conn, call->tid, call->sock->number);
    return 1;
}

/* ---- the table of sockets ---- */

static struct um_sock **bucket(struct um_switchboard *sb, uint64_t cookie)
{
    return &sb->socks[cookie % UM_SOCK_BUCKETS];
}

struct um_sock *um_sock_find(struct um_switchboard *sb, uint64_t cookie)
{
    struct um_sock *sock = *bucket(sb, cookie);
    while (sock && sock->cookie != cookie)
        sock = sock->next;
    return sock;
}

struct um_sock *um_sock_create(struct um_switchboard *sb,
                               struct um_stack *stack, int fd, int domain,
                               int type, int protocol)
{
    struct um_sock *sock = calloc(1, sizeof *sock);
    if (!sock)
        return NULL;
    sock->cookie = um_cookie_of(fd);
    sock->stack = stack;
    sock->domain = domain;
    sock->type = type;
    sock->protocol = protocol;
    sock->generation = sb->generation;
    memcpy(sock->local.addr, domain == AF_INET ? um_any4 : um_any6, 16);
    sock->peer = sock->local;
    um_list_init(&sock->waiters);
    um_list_init(&sock->wake);
    struct um_sock **head = bucket(sb, sock->cookie);
    sock->next = *head;
    *head = sock;
    sb->sock_count++;
    sb->socks_made++;
    return sock;
}

void um_sock_destroy(struct um_switchboard *sb, struct um_sock *sock)
{
    if (!sock)
        return;
    struct um_sock **at = bucket(sb, sock->cookie);
    while (*at && *at != sock)
        at = &(*at)->next;
    if (*at)
        *at = sock->next;
    um_policy_told_end(sb, sock);
    um_policed_destroy(sock);
    while (!um_list_empty(&sock->waiters))
        um_unpark(UM_CONTAINER(sock->waiters.next, struct um_parked, waiters),
                  -EBADF);
    um_list_remove(&sock->wake);
    um_stream_destroy(sb, sock);
    um_dgram_destroy(sb, sock);
    um_netlink_destroy(sb, sock);
    um_port_release(sock);
    um_uplink_forget(sb, sock);
    um_options_destroy(sock);
    sb->sock_count--;
    um_later_free(sb, sock);
}

/* ---- the collector ---- */

/* Ask for the unix socket `inode` (0: all of them). Return: 0 or errno. */
static int diag_ask(struct um_switchboard *sb, const struct um_sock *sock)
{
    struct {
        struct nlmsghdr head;
        struct unix_diag_req req;
    } ask = {
        .head = {.nlmsg_len = sizeof ask,
                 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags =
                     (uint16_t)(NLM_F_REQUEST | (sock ? 0 : NLM_F_DUMP)),
                 .nlmsg_seq = ++sb->generation},
        .req = {.sdiag_family = AF_UNIX,
                .udiag_states = ~0U,
                .udiag_show = UDIAG_SHOW_RQLEN},
    };
    if (sock) {
        ask.req.udiag_ino = sock->inode;
        ask.req.udiag_cookie[0] = (uint32_t)sock->cookie;
        ask.req.udiag_cookie[1] = (uint32_t)(sock->cookie >> 32);
    }
    if (sb->diag_fd < 0)
        sb->diag_fd =
            socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (sb->diag_fd < 0 ||
        send(sb->diag_fd, &ask, sizeof ask, 0) != (ssize_t)sizeof ask)
        return -errno;
    return 0;
}

/* Note what a message of len bytes tells of a socket. */
static void note(struct um_sock *sock, const struct unix_diag_msg *msg,
                 size_t len)
{
    const struct nlattr *attr = (const void *)(msg + 1);
    sock->inode = msg->udiag_ino;
    for (len -= sizeof *msg; len >= sizeof *attr && attr->nla_len <= len;) {
        const void *value = attr + 1;
        if (attr->nla_type == UNIX_DIAG_RQLEN) {
            const struct unix_diag_rqlen *queue = value;
            sock->waiting = queue->udiag_rqueue;
        } else if (attr->nla_type == UNIX_DIAG_SHUTDOWN) {
            enum { RCV_SHUTDOWN = 1 };
            sock->ended_read = (*(const uint8_t *)value & RCV_SHUTDOWN) != 0;
        }
        size_t step = NLA_ALIGN(attr->nla_len);
        if (step < sizeof *attr || step > len)
            break;
        len -= step;
        attr = (const void *)((const char *)attr + step);
    }
}

/* Mark the sockets that one message of the dump names. Return: true at the
 * dump's end; *ok becomes false if it broke off. */
static bool mark(struct um_switchboard *sb, const void *buf, size_t len,
                 bool *ok)
{
    const struct nlmsghdr *head = buf;
    for (; NLMSG_OK(head, len); head = NLMSG_NEXT(head, len)) {
        if (head->nlmsg_seq != sb->generation)
            continue;
        if (head->nlmsg_type == NLMSG_DONE)
            return true;
        if (head->nlmsg_type == NLMSG_ERROR ||
            (head->nlmsg_flags & NLM_F_DUMP_INTR)) {
            *ok = false;
            if (head->nlmsg_type == NLMSG_ERROR)
                return true;
        }
        const struct unix_diag_msg *msg = NLMSG_DATA(head);
        uint64_t cookie = msg->udiag_cookie[0] | (uint64_t)msg->udiag_cookie[1]
                                                     << 32;
        struct um_sock *sock = um_sock_find(sb, cookie);
        if (!sock)
            continue;
        sock->generation = sb->generation;
        note(sock, msg, NLMSG_PAYLOAD(head, 0));
    }
    return false;
}

/* Mark every socket that still exists with a new generation. Return: false
 * if the kernel did not tell them all. */
static bool mark_all(struct um_switchboard *sb)
{
    if (diag_ask(sb, NULL) < 0)
        return false;
    static _Thread_local uint32_t buf[8192];
    bool done = false, ok = true;
    while (!done) {
        ssize_t n = recv(sb->diag_fd, buf, sizeof buf, 0);
        if (n <= 0)
            return false;
        done = mark(sb, buf, (size_t)n, &ok);
    }
    return ok;
}

void um_sock_note_inode(struct um_sock *sock, int fd)
{
    struct stat st;
    if (!sock->inode && fstat(fd, &st) == 0)
        sock->inode = (uint32_t)st.st_ino;
}

/* A surrogate that the program itself has made is in the program's network
 * namespace, and the list is of ours only: it exists if its descriptor is where
 * it was seen last. */
static bool is_elsewhere(const struct um_switchboard *sb,
                         const struct um_sock *sock)
{
    return sock->stack->kind == UM_STACK_APART && !sb->tracer->brings_fds;
}

static bool is_held(struct um_switchboard *sb, const struct um_sock *sock)
{
    int fd = um_getfd(sb, sock->tid, sock->number);
    if (fd < 0)
        return false;
    uint64_t cookie = um_cookie_of(fd);
    close(fd);
    return cookie == sock->cookie;
}

bool um_sock_alive(struct um_switchboard *sb, struct um_sock *sock)
{
    if (sock->reports_end)
        return true;
    if (is_elsewhere(sb, sock))
        return is_held(sb, sock);
    if (!sock->inode)
        return !mark_all(sb) || sock->generation == sb->generation;
    if (diag_ask(sb, sock) < 0)
        return true;
    uint32_t buf[256];
    ssize_t n = recv(sb->diag_fd, buf, sizeof buf, 0);
    const struct nlmsghdr *head = (void *)buf;
    if (n < (ssize_t)sizeof *head || head->nlmsg_type != NLMSG_ERROR)
        return true;
    const struct nlmsgerr *error = NLMSG_DATA(head);
    return error->error != -ENOENT && error->error != -ESTALE;
}

void um_collect(struct um_switchboard *sb, bool now)
{
    uint32_t fresh = sb->socks_made - sb->socks_collected_at;
    if (!now && (fresh < COLLECT_AFTER || fresh < sb->socks_left))
        return;
    sb->socks_collected_at = sb->socks_made;
    if (!mark_all(sb))
        return;
    for (size_t i = 0; i < UM_SOCK_BUCKETS; i++) {
        struct um_sock *next;
        for (struct um_sock *sock = sb->socks[i]; sock; sock = next) {
            next = sock->next;
            if (sock->reports_end || sock->generation == sb->generation)
                continue;
            if (!is_elsewhere(sb, sock) || !is_held(sb, sock))
                um_sock_destroy(sb, sock);
        }
    }
    sb->socks_left = sb->sock_count;
}
