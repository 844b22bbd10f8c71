/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * control.c - the control data (cmsg) of messages on our sockets
 *
 * Sent: what chooses the source address has its effect, what makes no
 * difference here is accepted, and the rest fails as in Linux. Received: the
 * time, the address and card that a datagram came to, and its TTL, each if its
 * option is set, in the kernel's order. See cmsg(3), ip(7), ipv6(7).
 */
#include <errno.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "dgram.h"

enum {
    CONTROL_MAX = 131072, /* net.core.optmem_max */
    /* linux/in6.h, asm/socket.h; younger than the C library's headers */
    OPTION_DONTFRAG6 = 62,
    OPTION_TIMESTAMP_NEW = 63,
    OPTION_TIMESTAMPNS_NEW = 64,
    OPTION_TIMESTAMPING_NEW = 65,
};

/* ---- sent ---- */

static int choose_card(const struct um_sock *sock, int card)
{
    return card == 0 || um_stack_card_name(sock->stack, card) ? 0 : -ENODEV;
}

static int choose_source(const struct um_sock *sock, const uint8_t addr[16],
                         int error, struct um_how *how)
{
    if (um_addr_is_any(addr))
        return 0;
    if (!um_stack_owns(sock->stack, addr))
        return error;
    how->has_source = true;
    memcpy(how->source, addr, 16);
    return 0;
}

static int read_socket_item(const struct cmsghdr *c)
{
    switch (c->cmsg_type) {
    case SCM_RIGHTS:
    case SCM_CREDENTIALS:
    case SO_TIMESTAMPING:
    case OPTION_TIMESTAMPING_NEW:
        return 0;
    case SO_MARK:
        return -EPERM;
    default:
        return -EINVAL;
    }
}

/* An int of 1 to 255 that was given; -1 stands for the default. */
static int read_ttl(const uint8_t *data, size_t len, int least,
                    struct um_how *how)
{
    int value;
    if (len != sizeof value)
        return -EINVAL;
    memcpy(&value, data, sizeof value);
    if (value < least || value > 255)
        return -EINVAL;
    how->has_ttl = value >= 0;
    how->ttl = (uint8_t)value;
    return 0;
}

static int read_tos(const uint8_t *data, size_t len, struct um_how *how)
{
    int value;
    if (len != sizeof value && len != 1)
        return -EINVAL;
    if (len == 1)
        value = data[0];
    else
        memcpy(&value, data, sizeof value);
    if (value < -1 || value > 255)
        return -EINVAL;
    how->has_tos = value >= 0;
    how->tos = (uint8_t)value;
    return 0;
}

static int read_ip_item(const struct um_sock *sock, const struct cmsghdr *c,
                        const uint8_t *data, size_t len, struct um_how *how)
{
    switch (c->cmsg_type) {
    case IP_PKTINFO: {
        struct in_pktinfo info;
        uint8_t addr[16];
        if (len != sizeof info)
            return -EINVAL;
        memcpy(&info, data, sizeof info);
        memcpy(addr, um_any4, 16);
        memcpy(addr + 12, &info.ipi_spec_dst, 4);
        int rc = choose_card(sock, info.ipi_ifindex);
        return rc < 0 ? rc : choose_source(sock, addr, -ENETUNREACH, how);
    }
    case IP_TTL:
        return read_ttl(data, len, 1, how);
    case IP_TOS:
        return read_tos(data, len, how);
    case IP_RETOPTS:
        return 0;
    default:
        return -EINVAL;
    }
}

static int read_ipv6_item(const struct um_sock *sock, const struct cmsghdr *c,
                          const uint8_t *data, size_t len, struct um_how *how)
{
    switch (c->cmsg_type) {
    case IPV6_PKTINFO: {
        struct in6_pktinfo info;
        if (len < sizeof info)
            return -EINVAL;
        memcpy(&info, data, sizeof info);
        int rc = choose_card(sock, (int)info.ipi6_ifindex);
        return rc < 0
                   ? rc
                   : choose_source(sock, info.ipi6_addr.s6_addr, -EINVAL, how);
    }
    case IPV6_HOPLIMIT:
        return read_ttl(data, len, -1, how);
    case IPV6_TCLASS:
        return len == sizeof(int) ? read_tos(data, len, how) : -EINVAL;
    case OPTION_DONTFRAG6:
        return len == sizeof(int) ? 0 : -EINVAL;
    default:
        return -EINVAL;
    }
}

static int read_udp_item(const struct cmsghdr *c, const uint8_t *data,
                         size_t len, struct um_how *how)
{
    if (c->cmsg_type != UDP_SEGMENT || len != sizeof how->segment)
        return -EINVAL;
    memcpy(&how->segment, data, sizeof how->segment);
    return 0;
}

/* What goes to an IPv4 address from an IPv6 socket goes by the rules of IPv4,
 * but for the one item that such a program may have from elsewhere. */
static int read_item(const struct um_sock *sock, const struct cmsghdr *c,
                     const uint8_t *data, size_t len, bool v4,
                     struct um_how *how)
{
    bool six =
        sock->domain == AF_INET6 && (!v4 || c->cmsg_type == IPV6_PKTINFO);
    if (c->cmsg_level == SOL_SOCKET)
        return read_socket_item(c);
    if (c->cmsg_level == IPPROTO_IP && v4)
        return read_ip_item(sock, c, data, len, how);
    if (c->cmsg_level == IPPROTO_IPV6 && six)
        return read_ipv6_item(sock, c, data, len, how);
    if (c->cmsg_level == IPPROTO_UDP && sock->protocol == IPPROTO_UDP)
        return read_udp_item(c, data, len, how);
    return 0; /* other levels are ignored */
}

int um_control_read(struct um_call *call, uint64_t address, size_t len, bool v4,
                    struct um_how *how)
{
    if (!address || !len)
        return 0;
    if (len > CONTROL_MAX)
        return -ENOBUFS;
    uint8_t *buf = malloc(len);
    if (!buf)
        return -ENOBUFS;
    int rc = um_read(call, address, buf, len);
    for (size_t at = 0; rc == 0 && len - at >= sizeof(struct cmsghdr);) {
        struct cmsghdr head;
        memcpy(&head, buf + at, sizeof head);
        if (head.cmsg_len < sizeof head || head.cmsg_len > len - at) {
            rc = -EINVAL;
            break;
        }
        rc = read_item(call->sock, &head, buf + at + sizeof head,
                       head.cmsg_len - sizeof head, v4, how);
        size_t step = CMSG_ALIGN(head.cmsg_len);
        at += step < len - at ? step : len - at;
    }
    free(buf);
    return rc;
}

/* ---- received ---- */

/* Control data in the making, cut to the program's room as put_cmsg() of
 * net/core/scm.c does. */
struct control {
    uint8_t *buf;
    size_t used, room;
    bool cut;
};

static void put(struct control *control, int level, int type, const void *data,
                size_t len)
{
    size_t left = control->room - control->used;
    struct cmsghdr head = {.cmsg_level = level, .cmsg_type = type};
    if (left < sizeof head) {
        control->cut = true;
        return;
    }
    head.cmsg_len = CMSG_LEN(len);
    if (left < head.cmsg_len) {
        control->cut = true;
        head.cmsg_len = left;
    }
    uint8_t *at = control->buf + control->used;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, data, head.cmsg_len - sizeof head);
    size_t space = CMSG_SPACE(len);
    control->used += space < left ? space : left;
}

static void put_int(struct control *control, int level, int type, int value)
{
    put(control, level, type, &value, sizeof value);
}

static void put_time(struct control *control, const struct um_sock *sock,
                     const struct timespec *when)
{
    static const int names[] = {SO_TIMESTAMPNS, OPTION_TIMESTAMPNS_NEW,
                                SO_TIMESTAMP, OPTION_TIMESTAMP_NEW};
    for (int i = 0; i < 4; i++) {
        if (!um_option_int(sock, SOL_SOCKET, names[i], 0))
            continue;
        /* 64-bit programs: struct timespec or struct timeval, old or new. */
        int64_t stamp[2] = {when->tv_sec,
                            i < 2 ? when->tv_nsec : when->tv_nsec / 1000};
        put(control, SOL_SOCKET, names[i], stamp, sizeof stamp);
        return;
    }
}

/* Time stamps of the third kind, of which only that of the software exists. */
static void put_timestamping(struct control *control,
                             const struct um_sock *sock,
                             const struct timespec *when)
{
    static const int names[] = {SO_TIMESTAMPING, OPTION_TIMESTAMPING_NEW};
    enum { WANTED = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE };
    int64_t stamps[6] = {when->tv_sec, when->tv_nsec};
    for (int i = 0; i < 2; i++)
        if ((um_option_int(sock, SOL_SOCKET, names[i], 0) & WANTED) == WANTED)
            put(control, SOL_SOCKET, names[i], stamps, sizeof stamps);
}

/* The card that it came by: the one that has the address, if it is one's. */
static int card_of(const struct um_stack *stack,
                   const struct um_arrival *arrival)
{
    if (arrival->card)
        return arrival->card;
    int card = um_stack_card(stack, arrival->to);
    return card ? card : UM_CARD_LO;
}

static void put_ip(struct control *control, const struct um_sock *sock,
                   const struct um_arrival *arrival,
                   const struct um_report *report)
{
    if (um_option_int(sock, IPPROTO_IP, IP_PKTINFO, 0)) {
        struct in_pktinfo info = {.ipi_ifindex = card_of(sock->stack, arrival)};
        uint8_t own[16];
        memcpy(own, arrival->to, 16);
        if (arrival->card)
            um_stack_card_address(sock->stack, arrival->card, true, own);
        if (!report)
            memcpy(&info.ipi_spec_dst, own + 12, 4);
        memcpy(&info.ipi_addr, arrival->to + 12, 4);
        put(control, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    }
    if (um_option_int(sock, IPPROTO_IP, IP_RECVTTL, 0))
        put_int(control, IPPROTO_IP, IP_TTL, arrival->ttl);
    if (um_option_int(sock, IPPROTO_IP, IP_RECVTOS, 0))
        put(control, IPPROTO_IP, IP_TOS, &arrival->tos, 1);
    if (um_option_int(sock, IPPROTO_IP, IP_RECVORIGDSTADDR, 0)) {
        struct um_name to = {.port = sock->local.port};
        struct sockaddr_storage ss;
        memcpy(to.addr, arrival->to, 16);
        put(control, IPPROTO_IP, IP_ORIGDSTADDR, &ss,
            um_name_format(AF_INET, &to, &ss));
    }
}

/* The names that RFC 2292 gave them. */
static void put_old_ipv6(struct control *control, const struct um_sock *sock,
                         const struct um_arrival *arrival,
                         const struct in6_pktinfo *info)
{
    if (um_option_int(sock, IPPROTO_IPV6, IPV6_2292PKTINFO, 0))
        put(control, IPPROTO_IPV6, IPV6_2292PKTINFO, info, sizeof *info);
    if (um_option_int(sock, IPPROTO_IPV6, IPV6_2292HOPLIMIT, 0))
        put_int(control, IPPROTO_IPV6, IPV6_2292HOPLIMIT, arrival->ttl);
}

static void put_ipv6(struct control *control, const struct um_sock *sock,
                     const struct um_arrival *arrival)
{
    struct in6_pktinfo info = {.ipi6_ifindex =
                                   (unsigned)card_of(sock->stack, arrival)};
    memcpy(&info.ipi6_addr, arrival->to, 16);
    if (um_option_int(sock, IPPROTO_IPV6, IPV6_RECVPKTINFO, 0))
        put(control, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    if (um_addr_is_v4(arrival->to))
        return;
    if (um_option_int(sock, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0))
        put_int(control, IPPROTO_IPV6, IPV6_HOPLIMIT, arrival->ttl);
    if (um_option_int(sock, IPPROTO_IPV6, IPV6_RECVTCLASS, 0))
        put_int(control, IPPROTO_IPV6, IPV6_TCLASS, arrival->tos);
    put_old_ipv6(control, sock, arrival, &info);
    if (um_option_int(sock, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 0)) {
        struct um_name to = {.port = sock->local.port};
        struct sockaddr_storage ss;
        memcpy(to.addr, arrival->to, 16);
        put(control, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, &ss,
            um_name_format(AF_INET6, &to, &ss));
    }
}

/* What the ICMP message says, and SO_EE_OFFENDER() behind it. */
static void put_report(struct control *control, const struct um_sock *sock,
                       const struct um_report *report)
{
    struct {
        struct sock_extended_err error;
        uint8_t offender[sizeof(struct sockaddr_in6)];
    } item = {.error = report->error};
    struct um_name offender = {0};
    struct sockaddr_storage ss;
    bool v4 = sock->domain == AF_INET;
    memcpy(offender.addr, report->offender, 16);
    if (report->has_offender)
        memcpy(item.offender, &ss,
               um_name_format(sock->domain, &offender, &ss));
    put(control, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR,
        &item,
        sizeof item.error +
            (v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
}

size_t um_control_compose(const struct um_sock *sock,
                          const struct um_arrival *arrival,
                          const struct um_report *report, size_t len,
                          uint8_t ret[UM_CONTROL_ROOM], uint32_t *flags)
{
    struct control control = {.buf = ret, .room = len};
    if (control.room > UM_CONTROL_ROOM)
        control.room = UM_CONTROL_ROOM;
    if (sock->options && sock->domain == AF_NETLINK) {
        struct nl_pktinfo info = {0};
        if (um_option_int(sock, SOL_NETLINK, NETLINK_PKTINFO, 0))
            put(&control, SOL_NETLINK, NETLINK_PKTINFO, &info, sizeof info);
    } else if (sock->options) {
        put_time(&control, sock, &arrival->when);
        put_timestamping(&control, sock, &arrival->when);
        if (arrival->drops && um_option_int(sock, SOL_SOCKET, SO_RXQ_OVFL, 0))
            put(&control, SOL_SOCKET, SO_RXQ_OVFL, &arrival->drops,
                sizeof arrival->drops);
        if (arrival->segment)
            put_int(&control, IPPROTO_UDP, UDP_GRO, arrival->segment);
        if (sock->domain == AF_INET6)
            put_ipv6(&control, sock, arrival);
        if (um_addr_is_v4(arrival->to))
            put_ip(&control, sock, arrival, report);
        if (report)
            put_report(&control, sock, report);
    }
    if (control.cut)
        *flags |= MSG_CTRUNC;
    return control.used;
}
