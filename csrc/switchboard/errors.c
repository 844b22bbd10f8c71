/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * errors.c - what became of datagrams: pending errors and the error queue
 *
 * An ICMP error that comes back for a datagram does two things. It becomes the
 * socket's pending error (SO_ERROR), which the next call that would send,
 * receive or ask takes and fails with. And, with IP_RECVERR, it is queued with
 * the beginning of the datagram, for recvmsg(MSG_ERRQUEUE). Without IP_RECVERR
 * only a connected socket hears of it, and only of what cannot get better by
 * itself: a closed port, not a missing host. The rules are those of
 * __udp4_lib_err(), __udp6_lib_err() and ping_err().
 *
 * The messages come from three places: the view itself (nobody has the port,
 * the card's network has no such host), the error queues of the host sockets
 * of the relay road (udp.c), and our own refusal of what is too long.
 *
 * A report that a call has taken stays in the list, marked with the call's id,
 * until another call looks: an abandoned call gives it back by taking the mark
 * away. See ip(7), IP_RECVERR, and recv(2), MSG_ERRQUEUE.
 */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

#include "dgram.h"
#include "uplink.h"

enum {
    /* How much of a datagram an ICMP message quotes: 576 bytes less two IPv4
     * headers and those of ICMP and UDP; 1280 less the same of IPv6. */
    QUOTED_V4 = 576 - 20 - 8 - 20 - 8,
    QUOTED_V6 = 1280 - 40 - 8 - 40 - 8,
    UDP_HEADER = 8,
    ICMP_HEADER = 8,
    TOS_OF_ERRORS = 0xc0, /* network control */
    REPORTS_MAX = 256,
};

void um_error_pend(struct um_switchboard *sb, struct um_sock *sock, int error)
{
    sock->error = error;
    um_dgram_alert(sb, sock);
}

int um_error_take(struct um_sock *sock, int program_fd)
{
    int error = sock->error;
    if (!error)
        return 0;
    sock->error = 0;
    um_dgram_calm(sock, program_fd);
    return -error;
}

/* May it get better by itself? icmp_err_convert[].fatal of net/ipv4/icmp.c and
 * icmpv6_err_convert() of net/ipv6/icmp.c. */
static bool is_passing(const struct sock_extended_err *error)
{
    if (error->ee_origin == SO_EE_ORIGIN_ICMP6)
        return error->ee_type == ICMP6_TIME_EXCEEDED ||
               (error->ee_type == ICMP6_DST_UNREACH &&
                (error->ee_code == ICMP6_DST_UNREACH_NOROUTE ||
                 error->ee_code == ICMP6_DST_UNREACH_BEYONDSCOPE ||
                 error->ee_code == ICMP6_DST_UNREACH_ADDR));
    if (error->ee_type != ICMP_DEST_UNREACH)
        return error->ee_type == ICMP_TIME_EXCEEDED;
    return error->ee_code == ICMP_NET_UNREACH ||
           error->ee_code == ICMP_HOST_UNREACH ||
           error->ee_code == ICMP_SR_FAILED ||
           error->ee_code == ICMP_NET_UNR_TOS ||
           error->ee_code == ICMP_HOST_UNR_TOS;
}

static bool is_local(const struct um_report *report)
{
    return report->error.ee_origin == SO_EE_ORIGIN_LOCAL;
}

static bool wants_reports(const struct um_sock *sock, const uint8_t dest[16])
{
    return um_addr_is_v4(dest)
               ? um_option_int(sock, IPPROTO_IP, IP_RECVERR, 0)
               : um_option_int(sock, IPPROTO_IPV6, IPV6_RECVERR, 0);
}

static void enqueue(struct um_sock *sock, const struct um_report *head,
                    const void *data, size_t len)
{
    struct um_dgram *dgram = sock->dgram;
    struct um_report *report = NULL;
    if (dgram->report_count < REPORTS_MAX)
        report = malloc(sizeof *report + len);
    if (!report)
        return;
    *report = *head;
    report->given_to = 0;
    report->arrival.len = (uint32_t)len;
    clock_gettime(CLOCK_REALTIME, &report->arrival.when);
    if (len)
        memcpy(report->data, data, len);
    um_list_append(&dgram->reports, &report->link);
    dgram->report_count++;
}

void um_error_arrived(struct um_switchboard *sb, struct um_sock *sock,
                      const struct um_report *report, const void *data,
                      size_t len)
{
    struct um_report inward;
    if (sock->inner) {
        inward = *report;
        report = &inward;
        sock = um_uplink_inward(sock, &inward.arrival.from, inward.arrival.to);
        if (!sock)
            return;
    }
    const struct um_name *dest = &report->arrival.from;
    bool connected = sock->state == UM_CONNECTED;
    bool wants = wants_reports(sock, dest->addr);
    if (connected && dest->port && !um_name_equal(dest, &sock->peer))
        return;
    if (!wants && (!connected || is_passing(&report->error)))
        return;
    if (wants)
        enqueue(sock, report, data, len);
    um_error_pend(sb, sock, (int)report->error.ee_errno);
}

void um_error_unreachable(struct um_switchboard *sb, struct um_sock *sock,
                          bool port, const struct um_name *dest,
                          const uint8_t from[16],
                          const struct um_arrival *arrival, const void *data)
{
    bool v4 = um_addr_is_v4(dest->addr);
    size_t quoted = v4 ? QUOTED_V4 : QUOTED_V6;
    struct um_report report = {
        .error =
            {
                .ee_errno = port ? ECONNREFUSED : EHOSTUNREACH,
                .ee_origin = v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6,
                .ee_type = v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH,
                .ee_code = (uint8_t)(v4 ? (port ? ICMP_PORT_UNREACH
                                                : ICMP_HOST_UNREACH)
                                        : (port ? ICMP6_DST_UNREACH_NOPORT
                                                : ICMP6_DST_UNREACH_ADDR)),
            },
        .arrival = {.from = *dest,
                    .ttl = UM_TTL,
                    .tos = v4 ? arrival->tos | TOS_OF_ERRORS : 0},
        .has_offender = true,
    };
    /* The message of a ping quotes its ICMP header, too. */
    if (um_is_icmp(sock)) {
        quoted += UDP_HEADER;
        report.arrival.from.port = 0;
    }
    memcpy(report.arrival.to, arrival->from.addr, 16);
    memcpy(report.offender, from, 16);
    um_error_arrived(sb, sock, &report, data,
                     arrival->len < quoted ? arrival->len : quoted);
}

/* As icmp_err_convert[] and icmpv6_err_convert() have it. Return: 0: no error. */
static uint32_t error_of(bool v4, uint8_t type, uint8_t code)
{
    static const uint8_t of_v4[] = {
        ENETUNREACH,  EHOSTUNREACH, ENOPROTOOPT,  ECONNREFUSED,
        EMSGSIZE,     EOPNOTSUPP,   ENETUNREACH,  EHOSTDOWN,
        ENONET,       ENETUNREACH,  EHOSTUNREACH, ENETUNREACH,
        EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH};
    static const uint8_t of_v6[] = {ENETUNREACH,  EACCES,       EHOSTUNREACH,
                                    EHOSTUNREACH, ECONNREFUSED, EACCES,
                                    EACCES};
    if (type == (v4 ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED))
        return EHOSTUNREACH;
    if (!v4 && type == ICMP6_PACKET_TOO_BIG)
        return EMSGSIZE;
    if (type != (v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH))
        return 0;
    if (v4)
        return code < sizeof of_v4 ? of_v4[code] : EHOSTUNREACH;
    return code < sizeof of_v6 ? of_v6[code] : EPROTO;
}

static uint16_t port_at(const uint8_t *data)
{
    return (uint16_t)(data[0] << 8 | data[1]);
}

void um_error_by_packets(struct um_switchboard *sb, struct um_stack *stack,
                         const struct um_arrival *arrival, const uint8_t *data,
                         size_t len)
{
    bool v4 = um_addr_is_v4(arrival->to);
    const uint8_t *ip = data + ICMP_HEADER;
    uint32_t error = error_of(v4, data[0], data[1]);
    size_t header = v4 && len > ICMP_HEADER ? (size_t)(ip[0] & 15) * 4 : 40;
    if (!error || len < ICMP_HEADER + header + UDP_HEADER)
        return;
    uint8_t protocol = ip[v4 ? 9 : 6];
    bool ping = protocol == (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    struct um_name from = {.port = port_at(ip + header)};
    struct um_report report = {
        .error = {.ee_errno = error,
                  .ee_origin = v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6,
                  .ee_type = data[0],
                  .ee_code = data[1]},
        .arrival = {.from = {.port = port_at(ip + header + 2)},
                    .ttl = arrival->ttl,
                    .tos = arrival->tos},
        .has_offender = true};
    struct um_name *to = &report.arrival.from;
    memcpy(from.addr, um_any4, 16);
    memcpy(to->addr, um_any4, 16);
    memcpy(v4 ? from.addr + 12 : from.addr, ip + (v4 ? 12 : 8), v4 ? 4 : 16);
    memcpy(v4 ? to->addr + 12 : to->addr, ip + (v4 ? 16 : 24), v4 ? 4 : 16);
    if (error == EMSGSIZE)
        report.error.ee_info = port_at(data + 6);
    memcpy(report.arrival.to, from.addr, 16);
    memcpy(report.offender, arrival->from.addr, 16);
    size_t skip = ICMP_HEADER + header + UDP_HEADER;
    if (ping) { /* of an echo request: its identifier, and no port */
        from.port = port_at(ip + header + 4);
        to->port = 0;
        skip = ICMP_HEADER + header;
    }
    if (protocol == IPPROTO_TCP && error != EMSGSIZE)
        um_dial_unreachable(stack, &from, to, (int)error);
    if (protocol != IPPROTO_UDP && !ping)
        return;
    struct um_sock *sock = um_port_find(stack, protocol, &from, to);
    if (sock)
        um_error_arrived(sb, sock, &report, data + skip, len - skip);
}

void um_error_too_long(struct um_switchboard *sb, struct um_sock *sock,
                       const struct um_name *dest, uint32_t mtu)
{
    struct um_report report = {
        .error = {.ee_errno = EMSGSIZE,
                  .ee_origin = SO_EE_ORIGIN_LOCAL,
                  .ee_info = mtu},
        .arrival = {.from = *dest},
    };
    if (!wants_reports(sock, dest->addr))
        return;
    /* ip_append_data() names the port of the peer, not of this datagram. */
    if (um_addr_is_v4(dest->addr))
        report.arrival.from.port =
            sock->state == UM_CONNECTED ? sock->peer.port : 0;
    enqueue(sock, &report, NULL, 0);
    um_dgram_alert(sb, sock);
}

/* ---- the queue ---- */

static struct um_report *report_at(struct um_list *link)
{
    return UM_CONTAINER(link, struct um_report, link);
}

static void forget(struct um_report *report)
{
    um_list_remove(&report->link);
    free(report);
}

static struct um_report *first_untaken(struct um_dgram *dgram)
{
    struct um_list *l = dgram->reports.next;
    while (l != &dgram->reports && report_at(l)->given_to)
        l = l->next;
    return l != &dgram->reports ? report_at(l) : NULL;
}

struct um_report *um_report_next(struct um_call *call)
{
    struct um_dgram *dgram = call->sock->dgram;
    struct um_list *l = dgram->reports.next, *next;
    for (; l != &dgram->reports; l = next) {
        struct um_report *report = report_at(l);
        next = l->next;
        if (!report->given_to)
            return report;
        if (report->given_to != call->id)
            forget(report); /* its call was answered */
    }
    return NULL;
}

/* As sock_dequeue_err_skb(): the next one's error is pending, or none. */
void um_report_take(struct um_call *call, struct um_report *report)
{
    struct um_sock *sock = call->sock;
    report->given_to = call->id;
    sock->dgram->report_count--;
    const struct um_report *next = first_untaken(sock->dgram);
    if (next && !is_local(next))
        sock->error = (int)next->error.ee_errno;
    else if (!is_local(report))
        sock->error = 0;
    um_dgram_calm(sock, call->fd);
}

void um_reports_return(struct um_call *call, struct um_sock *sock)
{
    struct um_dgram *dgram = sock->dgram;
    struct um_list *l = dgram->reports.next;
    for (; l != &dgram->reports; l = l->next) {
        struct um_report *report = report_at(l);
        if (report->given_to != call->id)
            continue;
        report->given_to = 0;
        dgram->report_count++;
        if (!is_local(report))
            sock->error = (int)report->error.ee_errno;
    }
    um_dgram_alert(call->sb, sock);
}

void um_reports_destroy(struct um_dgram *dgram)
{
    while (!um_list_empty(&dgram->reports))
        forget(report_at(dgram->reports.next));
    dgram->report_count = 0;
}
