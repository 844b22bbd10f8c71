/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * calls.c - the table of stopped calls, and the handlers of every family
 *
 * The table is the specification: a row a call, and who answers it. A call
 * that the filter stops and that has no row here fails with ENOSYS.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "oldcalls.h"
#include "policy.h"
#include "trace.h"
#include "tracer.h"
#include "views.h"

#define __NR_msocket UM_NR_MSOCKET

static const struct row {
    int nr;
    um_handler *handler;     /* NULL: the filter itself answers */
    struct um_call_row text; /* for the documentation; .when for the filter */
} table[] = {
#define ROW(name, when, answer)                                                \
    {                                                                          \
        __NR_##name, um_handle_##name,                                         \
        {                                                                      \
            #name, when, answer                                                \
        }                                                                      \
    }
#define OVERLAID(name)                                                         \
    {__NR_##name,                                                              \
     um_handle_overlaid,                                                       \
     {#name, "with `--overlay`",                                               \
      "C, where it names a stack; else the kernel"}}
    ROW(socket, "of all families but unix and the kernel's crypto",
        "C; families that no view has: EAFNOSUPPORT, by the filter"),
    ROW(msocket, NULL, "C; at a path where no stack is mounted Python"),
    ROW(bind, NULL, "C"),
    ROW(connect, NULL, "C"),
    ROW(listen, NULL, "C"),
    ROW(accept, NULL, "C"),
    ROW(accept4, NULL, "C"),
    ROW(shutdown, NULL, "C"),
    ROW(getsockname, NULL, "C"),
    ROW(getpeername, NULL, "C"),
    ROW(setsockopt, NULL, "C"),
    ROW(getsockopt, NULL, "C"),
    ROW(sendto, "with an address", "C; on netlink sockets Python"),
    ROW(recvfrom, "with an address, MSG_TRUNC or MSG_ERRQUEUE", "C"),
    ROW(sendmsg, NULL, "C; on netlink sockets Python"),
    ROW(recvmsg, NULL, "C"),
    ROW(sendmmsg, NULL, "C; on netlink sockets Python"),
    ROW(recvmmsg, NULL, "C"),
    ROW(ioctl, "SIOC*, FIONREAD, TIOCOUTQ", "C; about cards Python"),
    ROW(open, "for reading, unless the view has `nofiles`",
        "C: names and addresses; Python: /proc/net, /proc/sys/net, "
        "/sys/class/net; else the kernel"),
    ROW(openat, "as open", "as open"),
    ROW(openat2, "unless the view has `nofiles`", "as open"),
    ROW(uname, NULL, "C, in a view with a name; else the kernel"),
    ROW(sethostname, NULL, "C: it names the view"),
    ROW(setdomainname, NULL, "C: it names the view"),
    ROW(clone, "CLONE_NEWNET", "the kernel; C takes note"),
    ROW(unshare, "CLONE_NEWNET", "the kernel; C takes note"),
    ROW(setns, NULL, "the kernel; C takes note"),
    ROW(prctl, "PR_SET_DUMPABLE, PR_GET_DUMPABLE",
        "C: to 0 is said to be done, and not done; else the kernel"),
    ROW(ptrace, "with `--tracer ptrace`",
        "C: to trace is forbidden (EPERM), for who is traced already"),
    OVERLAID(stat),
    OVERLAID(lstat),
    OVERLAID(newfstatat),
    OVERLAID(statx),
    OVERLAID(access),
    OVERLAID(faccessat),
    OVERLAID(faccessat2),
    OVERLAID(readlink),
    OVERLAID(readlinkat),
    OVERLAID(getxattr),
    OVERLAID(lgetxattr),
    OVERLAID(listxattr),
    OVERLAID(llistxattr),
    OVERLAID(chmod),
    OVERLAID(fchmodat),
    OVERLAID(fchmodat2),
    OVERLAID(chown),
    OVERLAID(lchown),
    OVERLAID(fchownat),
    {__NR_io_uring_setup, NULL, {"io_uring_setup", "", "the filter: ENOSYS"}},
#undef ROW
#undef OVERLAID
};
enum { ROWS = sizeof table / sizeof *table };

um_handler *um_handler_of(int nr)
{
    for (size_t i = 0; i < ROWS; i++)
        if (table[i].nr == nr)
            return table[i].handler;
    return NULL;
}

int um_always_stopped(size_t i)
{
    for (size_t at = 0; at < ROWS; at++)
        if (!table[at].text.when && i-- == 0)
            return table[at].nr;
    return -1;
}

/* ---- is somebody there? ---- */

/* Arguments 1 and 2 of a call that asks for a switchboard. No call makes sense
 * of them, least of all of no descriptor. */
enum { ASKED_FIRST = 0x756d7669, ASKED_THEN = 0x65773f3f };

bool um_is_question(const struct um_call *call)
{
    return call->args[1] == ASKED_FIRST && call->args[2] == ASKED_THEN;
}

static bool is_answered(int nr, long first)
{
    return syscall(nr, first, ASKED_FIRST, ASKED_THEN, 0, 0, 0) == -1 &&
           errno == UM_PRESENT;
}

int um_in_view(void)
{
    return is_answered(__NR_socket, AF_INET);
}

int um_door_open(void)
{
    int fd = (int)syscall(UM_NR_MSOCKET, "/dev/umview", AF_UNIX,
                          SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

bool um_all_answered(void)
{
    int nr;
    for (size_t i = 0; (nr = um_always_stopped(i)) >= 0; i++)
        if (!is_answered(nr, -1))
            return false;
    return um_in_view();
}

int um_call_row(int i, struct um_call_row *ret)
{
    if (i < 0 || i >= ROWS)
        return 0;
    *ret = table[i].text;
    return 1;
}

/* ---- socket ---- */

/* The protocol that socket(domain, type, protocol) means.
 * Return: it, or the negative errno that Linux gives. */
static int choose_protocol(int domain, int type, int protocol)
{
    enum {
        IPPROTO_LAST = 262
    }; /* IPPROTO_MPTCP; the kernel looks here first */
    int icmp = domain == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
    if (protocol < 0 || protocol > IPPROTO_LAST)
        return -EINVAL;
    switch (type) {
    case SOCK_STREAM:
        if (protocol == 0 || protocol == IPPROTO_TCP)
            return IPPROTO_TCP;
        return -EPROTONOSUPPORT;
    case SOCK_DGRAM:
        if (protocol == 0 || protocol == IPPROTO_UDP)
            return IPPROTO_UDP;
        if (protocol == IPPROTO_UDPLITE)
            return protocol;
        return protocol == icmp ? icmp : -EPROTONOSUPPORT;
    case SOCK_RAW:
        /* Everybody may ping in a stack of his own. */
        if (protocol == 0)
            return -EPROTONOSUPPORT;
        return protocol == icmp ? icmp : -EPERM;
    case SOCK_RDM:
    case SOCK_SEQPACKET:
    case SOCK_PACKET:
        return -ESOCKTNOSUPPORT;
    default:
        return type < 0 || type > SOCK_PACKET ? -EINVAL : -ESOCKTNOSUPPORT;
    }
}

/* Install the program's descriptor and make the socket's entry. end: our end
 * of a pair, or -1. Takes both. */
static um_verdict install(struct um_call *call, struct um_stack *stack, int fd,
                          int end, int domain, int type, int protocol,
                          int flags)
{
    struct um_switchboard *sb = call->sb;
    struct um_sock *sock =
        um_sock_create(sb, stack, fd, domain, type, protocol);
    int rc = sock ? 0 : -ENOMEM;
    if (sock && end >= 0) {
        rc = domain == AF_NETLINK ? um_netlink_open(sb, sock, end)
                                  : um_dgram_open(sb, sock, end);
        sock->reports_end = true;
    }
    if (rc == 0)
        rc = um_answer_fd(call, fd, flags & SOCK_CLOEXEC ? O_CLOEXEC : 0);
    close(fd);
    if (rc < 0) {
        um_sock_destroy(sb, sock);
        return rc;
    }
    sock->tid = call->tid;
    sock->number = rc;
    return UM_ANSWERED;
}

static um_verdict socket_netlink(struct um_call *call, struct um_stack *stack,
                                 int type, int protocol, int flags)
{
    if (protocol != NETLINK_ROUTE && protocol != NETLINK_SOCK_DIAG)
        return -EPROTONOSUPPORT;
    if (type != SOCK_RAW && type != SOCK_DGRAM)
        return -ESOCKTNOSUPPORT;
    int end;
    int fd = call->sb->tracer->make_pair(call, flags, &end);
    if (fd < 0)
        return fd;
    return install(call, stack, fd, end, AF_NETLINK, type, protocol, flags);
}

/* The kernel's own socket. msocket is not the kernel's, so it is brought. */
static um_verdict socket_native(struct um_call *call, int domain, int type,
                                int protocol)
{
    if (call->nr == __NR_socket)
        return UM_CONTINUE;
    int fd = call->sb->tracer->make_native(call, domain, type, protocol);
    if (fd < 0)
        return fd;
    int rc = um_answer_fd(call, fd, type & SOCK_CLOEXEC ? O_CLOEXEC : 0);
    close(fd);
    return rc < 0 ? rc : UM_ANSWERED;
}

um_verdict um_socket_open(struct um_call *call, struct um_stack *stack,
                          int domain, int type, int protocol)
{
    stack = um_stack_member(stack, domain);
    if (!stack)
        return -EAFNOSUPPORT;
    if (call->trace)
        um_trace_stack(call, stack);
    if (stack->kind == UM_STACK_GONE)
        return -ENETDOWN;
    if (stack->kind == UM_STACK_NATIVE)
        return um_is_policed(call) && domain != AF_UNIX
                   ? -EPERM
                   : socket_native(call, domain, type, protocol);
    if (stack->kind == UM_STACK_NULL)
        return -EAFNOSUPPORT;
    int flags = type & (SOCK_NONBLOCK | SOCK_CLOEXEC);
    type &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    /* SOCK_PACKET is how AF_PACKET was asked for once. */
    if (domain == AF_PACKET || (domain == AF_INET && type == SOCK_PACKET))
        return -EPERM;
    if (domain == AF_NETLINK)
        return socket_netlink(call, stack, type, protocol, flags);
    if ((domain == AF_INET && !stack->ipv4) ||
        (domain == AF_INET6 && !stack->ipv6))
        return -EAFNOSUPPORT;
    protocol = choose_protocol(domain, type, protocol);
    if (protocol < 0)
        return protocol;
    int end = -1;
    const struct um_tracer *tracer = call->sb->tracer;
    int fd = type == SOCK_STREAM ? tracer->make_stream(call, flags)
                                 : tracer->make_pair(call, flags, &end);
    if (fd < 0)
        return fd;
    return install(call, stack, fd, end, domain, type, protocol, flags);
}

um_verdict um_handle_socket(struct um_call *call)
{
    int domain = (int)call->args[0];
    return um_socket_open(call, um_stack_of(call, domain), domain,
                          (int)call->args[1], (int)call->args[2]);
}

/* ---- bind and connect ---- */

/* FNV-1, to know an address again. */
static const uint64_t FNV_PRIME = 0x100000001b3;

/* Read the address argument. Return: its length or a negative errno. */
static ssize_t read_address(struct um_call *call, struct sockaddr_storage *ss)
{
    int32_t len = (int32_t)call->args[2];
    if (len < 0 || len > (int32_t)sizeof *ss)
        return -EINVAL;
    memset(ss, 0, sizeof *ss);
    int rc = um_read(call, call->args[1], ss, (size_t)len);
    call->asked = 0;
    for (int32_t i = 0; i < len; i++)
        call->asked = (call->asked ^ ((const uint8_t *)ss)[i]) * FNV_PRIME;
    return rc < 0 ? rc : len;
}

bool um_left_alone(struct um_call *call)
{
    int domain = um_domain_of(call->fd);
    return domain < 0 || domain == AF_UNIX || domain == 38 /* AF_ALG */ ||
           um_reaches_host(call) || um_is_kept(call);
}

um_verdict um_foreign(struct um_call *call)
{
    return um_left_alone(call) ? UM_CONTINUE : -EPERM;
}

um_verdict um_handle_bind(struct um_call *call)
{
    int rc = um_identify(call);
    if (rc <= 0)
        return rc < 0 ? rc : um_foreign(call);
    struct um_sock *sock = call->sock;
    struct sockaddr_storage ss;
    ssize_t len = read_address(call, &ss);
    if (len < 0)
        return len;
    if (sock->domain == AF_NETLINK)
        return um_netlink_bind(call, &ss, (size_t)len);
    struct um_name name;
    rc = um_name_parse(sock->domain, &ss, (size_t)len, &name);
    if (rc < 0)
        return rc;
    if (rc == 1) {
        /* ip(7): AF_UNSPEC is taken for AF_INET with INADDR_ANY. */
        const struct sockaddr_in *sin = (const void *)&ss;
        if (sock->domain != AF_INET || len < (ssize_t)sizeof *sin ||
            sin->sin_addr.s_addr != INADDR_ANY)
            return -EAFNOSUPPORT;
        memcpy(name.addr, um_any4, 16);
        name.port = ntohs(sin->sin_port);
        name.scope = 0;
    }
    if (sock->domain == AF_INET6 && sock->v6only && um_addr_is_v4(name.addr))
        return -EINVAL;
    um_verdict verdict = um_policy_ask(call, UM_DEED_BIND, &name, NULL);
    if (verdict != UM_ALLOWED)
        return verdict;
    verdict = sock->type == SOCK_STREAM ? um_stream_bind(call, &name)
                                        : um_dgram_bind(call, &name);
    /* It can reach nothing else any more, and the option says so. */
    if (verdict == 0 && sock->domain == AF_INET6 &&
        !um_addr_is_any(name.addr) && !um_addr_is_v4(name.addr))
        sock->v6only = true;
    return verdict;
}

/* connect() of a unix socket: name services of the host are refused. */
static um_verdict connect_unix(struct um_call *call)
{
    struct sockaddr_un sun;
    size_t len = call->args[2];
    if (len > sizeof sun || len <= sizeof sun.sun_family)
        return UM_CONTINUE;
    memset(&sun, 0, sizeof sun);
    if (um_read(call, call->args[1], &sun, len) < 0)
        return UM_CONTINUE;
    char path[sizeof sun.sun_path + 1] = {0};
    memcpy(path, sun.sun_path, sizeof sun.sun_path);
    return um_unix_refused(call, path) ? -ECONNREFUSED : UM_CONTINUE;
}

um_verdict um_handle_connect(struct um_call *call)
{
    int rc = um_identify(call);
    if (rc < 0)
        return rc;
    if (rc == 0) {
        um_verdict verdict = um_foreign(call);
        return verdict == UM_CONTINUE && um_view_kind(call) != UM_STACK_NATIVE
                   ? connect_unix(call)
                   : verdict;
    }
    struct um_sock *sock = call->sock;
    struct sockaddr_storage ss;
    ssize_t len = read_address(call, &ss);
    if (len < 0)
        return len;
    if (sock->domain == AF_NETLINK)
        return um_netlink_connect(call, &ss, (size_t)len);
    bool stream = sock->type == SOCK_STREAM;
    int domain = sock->domain;
    struct um_name name;
    /* An IPv6 datagram socket takes a sockaddr_in as it is. */
    if (ss.ss_family == AF_INET && !stream && sock->protocol != IPPROTO_ICMPV6)
        domain = AF_INET;
    if (domain != sock->domain && sock->v6only)
        return -EAFNOSUPPORT;
    rc = um_name_parse(domain, &ss, (size_t)len, &name);
    if (rc < 0)
        return rc;
    if (rc == 1)
        return stream ? um_stream_disconnect(call) : um_dgram_disconnect(call);
    return stream ? um_stream_connect(call, &name)
                  : um_dgram_connect(call, &name);
}

/* ---- names ---- */

static um_verdict give_name(struct um_call *call, bool peer)
{
    int rc = um_identify(call);
    if (rc <= 0)
        return rc < 0 ? rc : UM_CONTINUE;
    struct um_sock *sock = call->sock;
    struct sockaddr_storage ss;
    size_t len;
    if (sock->domain == AF_NETLINK) {
        len = um_netlink_name(sock, peer, &ss);
    } else {
        if (peer && (sock->state != UM_CONNECTED || sock->peer.port == 0))
            return -ENOTCONN;
        if (peer && sock->type == SOCK_STREAM && um_stream_over(call))
            return -ENOTCONN;
        len = um_name_format(sock->domain, peer ? &sock->peer : &sock->local,
                             &ss);
    }
    if (!call->args[1])
        return -EFAULT;
    rc = um_write_name(call, call->args[1], call->args[2], &ss, len);
    return rc < 0 ? rc : 0;
}

um_verdict um_handle_getsockname(struct um_call *call)
{
    return give_name(call, false);
}

um_verdict um_handle_getpeername(struct um_call *call)
{
    return give_name(call, true);
}

/* ---- shutdown ---- */

um_verdict um_handle_shutdown(struct um_call *call)
{
    int rc = um_identify(call);
    if (rc <= 0)
        return rc < 0 ? rc : UM_CONTINUE;
    struct um_sock *sock = call->sock;
    int how = (int)call->args[1];
    if (how < SHUT_RD || how > SHUT_RDWR)
        return -EINVAL;
    if (sock->domain == AF_NETLINK)
        return -EOPNOTSUPP;
    return sock->type == SOCK_STREAM ? um_stream_shutdown(call, how)
                                     : um_dgram_shutdown(call, how);
}

/* ---- ioctl ---- */

/* Ask Python about cards. */
static um_verdict ask_about_cards(struct um_call *call)
{
    enum { IFREQ = 40, IFCONF = 16, ARPREQ = 68 };
    uint32_t request = (uint32_t)call->args[1];
    struct um_event event = {
        .kind = UM_EVENT_IOCTL,
        .request = request,
        .arg = call->args[2],
        .stack = (uint32_t)(call->sock ? call->sock->stack
                                       : um_stack_of(call, AF_INET))
                     ->number,
        .cookie = call->sock ? call->sock->cookie : 0,
        .len = request == SIOCGIFCONF ? IFCONF
               : request == SIOCSARP  ? ARPREQ
                                      : IFREQ,
    };
    event.data = malloc(event.len);
    if (!event.data)
        return -ENOMEM;
    int rc = um_read(call, call->args[2], event.data, event.len);
    if (rc < 0) {
        free(event.data);
        return rc;
    }
    return um_ask_python(call, &event);
}

static um_verdict write_int(struct um_call *call, int value)
{
    int rc = um_write(call, call->args[2], &value, sizeof value);
    return rc < 0 ? rc : 0;
}

/* Bytes that were sent but not taken yet. */
static um_verdict output_queue(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    if (sock->state == UM_LISTENING)
        return -EINVAL;
    /* A surrogate counts in the kernel's memory, not in bytes; data in it is
     * as good as delivered, for its reader is us or the peer itself. */
    return write_int(call, 0);
}

/* Is a descriptor that is none of the view's asked about the host's cards? By a
 * unix socket those of the caller's default stack are asked for. */
static bool ioctl_is_hosts(struct um_call *call)
{
    if (um_domain_of(call->fd) == AF_UNIX)
        return um_view_kind(call) == UM_STACK_NATIVE;
    return um_reaches_host(call) || um_is_kept(call);
}

um_verdict um_handle_ioctl(struct um_call *call)
{
    uint32_t request = (uint32_t)call->args[1];
    int rc = um_identify(call);
    if (rc < 0)
        return rc;
    bool queue = request == FIONREAD || request == TIOCOUTQ;
    if (rc == 0 &&
        (queue || um_domain_of(call->fd) < 0 || ioctl_is_hosts(call)))
        return UM_CONTINUE;
    if (request == FIONREAD) {
        if (call->sock->type != SOCK_STREAM && call->sock->domain != AF_NETLINK)
            return write_int(call, um_dgram_next_size(call->sock));
        return call->sock->state == UM_CLOSED ? write_int(call, 0)
                                              : UM_CONTINUE;
    }
    if (rc == 1 && request == SIOCATMARK && call->sock->state == UM_LISTENING)
        return write_int(call, 0); /* its surrogate's queue has no bytes */
    if (request == TIOCOUTQ)
        return output_queue(call);
    /* 0x8901 to 0x8907: owner, urgent mark, time stamps: the surrogate's. */
    if (request >= FIOSETOWN && request <= SIOCGSTAMPNS_OLD)
        return UM_CONTINUE;
    int kind = call->sock ? call->sock->stack->kind : um_view_kind(call);
    if (kind == UM_STACK_NULL || kind == UM_STACK_GONE)
        return -ENODEV;
    return ask_about_cards(call);
}
