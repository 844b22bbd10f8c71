/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * icmp.c - echo requests by ping sockets and by raw ICMP sockets
 *
 * No packet of ICMP is ever routed: all that a program can do with these
 * sockets is to send echo requests and to read the replies. The stack's own
 * addresses answer here, and so do addresses that exist only by our doing (the
 * gateway, the name server, whatever a map leads to a place on the host).
 * Others are asked by a ping socket of the host where the host lets an
 * ordinary user have one (net.ipv4.ping_group_range); where it does not, no
 * answer comes, as from behind a firewall, and the log says so once.
 *
 * A ping socket's port is the identifier of its requests, and the kernel
 * writes it over the program's; a raw socket chooses its own and gets, for
 * IPv4, the IP header in front of what it receives. See icmp(7), raw(7).
 */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "packet.h"
#include "uplink.h"

enum {
    ECHO_HEADER = 8,
    IP_HEADER = 20,
    ECHO_MAX_V4 = 65535 - IP_HEADER,
    HOST_BATCH = 64,
    /* linux/icmp.h; netinet's headers do not have it */
    RAW_ICMP_FILTER = 1,
    LEVEL_RAW = 255,
};

/* An echo message; its bytes may be changed. */
struct echo {
    uint8_t *data;
    size_t len;
    bool v6;
};

/* ---- checksums: RFC 1071 ---- */

static uint32_t add_up(uint32_t sum, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (uint32_t)(data[i] << 8 | data[i + 1]);
    if (len & 1)
        sum += (uint32_t)(data[len - 1] << 8);
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* ICMPv6's covers the addresses too: RFC 4443, 2.3. */
static void set_checksum(struct echo *echo, const uint8_t from[16],
                         const uint8_t to[16])
{
    uint32_t sum = 0;
    put16(echo->data + 2, 0);
    if (echo->v6) {
        sum = add_up(add_up(0, from, 16), to, 16);
        sum += (uint32_t)echo->len + IPPROTO_ICMPV6;
    }
    put16(echo->data + 2, fold(add_up(sum, echo->data, echo->len)));
}

static bool is_request(const struct echo *echo)
{
    return echo->len >= ECHO_HEADER && echo->data[1] == 0 &&
           echo->data[0] == (echo->v6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO);
}

static uint16_t identifier(const struct echo *echo)
{
    return (uint16_t)(echo->data[4] << 8 | echo->data[5]);
}

/* ---- to programs ---- */

static const struct um_option *find_option(const struct um_sock *sock,
                                           int level, int name)
{
    const struct um_option *o = sock->options;
    while (o && (o->level != level || o->name != name))
        o = o->next;
    return o;
}

/* A set bit of ICMP_FILTER and ICMP6_FILTER keeps its type away. */
static bool filtered(const struct um_sock *sock, const struct echo *echo)
{
    uint32_t bits[8] = {0};
    uint8_t type = echo->data[0];
    const struct um_option *o =
        echo->v6 ? find_option(sock, IPPROTO_ICMPV6, ICMP6_FILTER)
                 : find_option(sock, LEVEL_RAW, RAW_ICMP_FILTER);
    if (!o || o->len > sizeof bits)
        return false;
    memcpy(bits, o->value, o->len);
    return bits[type >> 5] >> (type & 31) & 1;
}

static void write_ip_header(uint8_t *header, const struct um_arrival *arrival,
                            size_t len)
{
    memset(header, 0, IP_HEADER);
    header[0] = 0x45;
    header[1] = arrival->tos;
    put16(header + 2, (uint16_t)len);
    header[8] = arrival->ttl;
    header[9] = IPPROTO_ICMP;
    memcpy(header + 12, arrival->from.addr + 12, 4);
    memcpy(header + 16, arrival->to + 12, 4);
    put16(header + 10, fold(add_up(0, header, IP_HEADER)));
}

static void deliver_raw(struct um_switchboard *sb, struct um_sock *sock,
                        struct um_arrival arrival, const struct echo *echo)
{
    uint8_t packet[UM_DGRAM_MAX];
    size_t header = echo->v6 ? 0 : IP_HEADER;
    if (filtered(sock, echo) || header + echo->len > sizeof packet)
        return;
    arrival.len = (uint32_t)(header + echo->len);
    if (header)
        write_ip_header(packet, &arrival, arrival.len);
    memcpy(packet + header, echo->data, echo->len);
    um_dgram_deliver(sb, sock, &arrival, packet);
}

static bool raw_wants(const struct um_sock *raw, const struct um_stack *stack,
                      int protocol, const struct um_arrival *arrival)
{
    if (raw->stack != stack || raw->protocol != protocol)
        return false;
    if (!um_addr_is_any(raw->local.addr) &&
        !um_addr_equal(raw->local.addr, arrival->to))
        return false;
    return raw->state != UM_CONNECTED ||
           um_addr_equal(raw->peer.addr, arrival->from.addr);
}

static void deliver_raws(struct um_switchboard *sb,
                         const struct um_stack *stack, int protocol,
                         const struct um_arrival *arrival,
                         const struct echo *echo)
{
    struct um_list *head = &um_dgrams_of(sb)->raws;
    for (struct um_list *l = head->next; l != head; l = l->next) {
        struct um_sock *raw = UM_CONTAINER(l, struct um_dgram, raws)->sock;
        if (raw_wants(raw, stack, protocol, arrival))
            deliver_raw(sb, raw, *arrival, echo);
    }
}

/* A reply for the socket that asked; raw sockets see everybody's. */
static void deliver_reply(struct um_switchboard *sb, struct um_sock *sender,
                          struct um_arrival *arrival, struct echo *echo)
{
    set_checksum(echo, arrival->from.addr, arrival->to);
    deliver_raws(sb, sender->stack, sender->protocol, arrival, echo);
    arrival->len = (uint32_t)echo->len;
    if (sender->type == SOCK_DGRAM)
        um_dgram_deliver(sb, sender, arrival, echo->data);
}

/* ---- by packets ---- */

/* The sockets that asked are known by their identifier alone: a reply may come
 * from another address than the one that was asked. */
void um_icmp_received(struct um_switchboard *sb, struct um_stack *stack,
                      int protocol, struct um_arrival *arrival, uint8_t *data)
{
    struct echo echo = {data, arrival->len, protocol == IPPROTO_ICMPV6};
    struct um_name to = {.port = 0};
    if (echo.len < ECHO_HEADER || !um_dgrams_of(sb))
        return;
    deliver_raws(sb, stack, protocol, arrival, &echo);
    um_error_by_packets(sb, stack, arrival, data, echo.len);
    if (data[0] != (echo.v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY))
        return;
    memcpy(to.addr, arrival->to, 16);
    to.port = identifier(&echo);
    struct um_sock *sock = um_port_find(stack, protocol, &to, &arrival->from);
    if (sock && sock->inner) {
        sock = um_uplink_inward(sock, &arrival->from, arrival->to);
        if (!sock)
            return;
        put16(data + 4, sock->dgram->echo_id);
        deliver_reply(sb, sock, arrival, &echo);
    } else if (sock) {
        um_dgram_deliver(sb, sock, arrival, data);
    }
}

static void send_by_packets(const struct um_sock *sock, struct um_stack *stack,
                            const struct um_name *to, const uint8_t source[16],
                            const struct um_how *how, struct echo *echo)
{
    struct um_arrival arrival = {.len = (uint32_t)echo->len};
    memcpy(arrival.from.addr, source, 16);
    memcpy(arrival.to, to->addr, 16);
    um_dgram_set_class(sock, how, &arrival);
    if (echo->v6) /* lwIP sums it up, this field included */
        put16(echo->data + 2, 0);
    else
        set_checksum(echo, source, to->addr);
    um_packet_send(stack, sock->protocol, to, &arrival, echo->data);
}

/* ---- the host's ping socket ---- */

static bool host_receive(struct um_switchboard *sb, struct um_host_side *host)
{
    struct um_sock *sock = host->sock;
    struct um_report got;
    bool exact;
    ssize_t n = um_host_receive(host, 0, sb->scratch, UM_SCRATCH, &got);
    if (n == -EAGAIN)
        return false;
    const struct um_known *known =
        n < ECHO_HEADER ? NULL
                        : um_known_find(sock->dgram, &got.arrival.from, &exact);
    if (!known)
        return true;
    struct um_arrival arrival = {
        .from = known->view, .ttl = got.arrival.ttl, .tos = got.arrival.tos};
    arrival.from.port = 0;
    memcpy(arrival.to, known->source, 16);
    struct echo echo = {sb->scratch, (size_t)n,
                        sock->protocol == IPPROTO_ICMPV6};
    put16(echo.data + 4, sock->dgram->echo_id);
    deliver_reply(sb, sock, &arrival, &echo);
    return true;
}

void um_icmp_own_error(const struct um_sock *sock, struct um_report *report,
                       uint8_t *data, size_t len)
{
    report->arrival.from.port = 0;
    if (len >= ECHO_HEADER)
        put16(data + 4, sock->dgram->echo_id);
}

static void host_ready(struct um_switchboard *sb, struct um_watch *watch,
                       uint32_t events)
{
    struct um_host_side *host = UM_CONTAINER(watch, struct um_host_side, watch);
    for (int i = 0; i < HOST_BATCH && host_receive(sb, host); i++)
        ;
    if (events & EPOLLERR)
        um_host_errors(sb, host, false);
}

static ssize_t send_by_host(struct um_switchboard *sb, struct um_sock *sock,
                            const struct um_known *known,
                            const struct um_how *how, const struct echo *echo)
{
    struct um_arrival arrival = {0};
    struct um_dgrams *dgrams = um_dgrams_of(sb);
    int fd = um_host_side_open(sb, sock, echo->v6, sock->protocol, host_ready);
    if (fd == -EACCES || fd == -EPERM) {
        if (!dgrams->ping_warned)
            um_log(sb, UM_LOG_WARNING,
                   "echo requests to places beyond the view get no answer: the "
                   "host does not let this user send them; allow it with the "
                   "sysctl net.ipv4.ping_group_range");
        dgrams->ping_warned = true;
        return (ssize_t)echo->len;
    }
    if (fd < 0)
        return fd;
    um_known_add(sock->dgram, known);
    memcpy(arrival.to, known->view.addr, 16);
    um_dgram_set_class(sock, how, &arrival);
    return um_host_send(sb, &sock->dgram->host[echo->v6], &known->host,
                        &arrival, echo->data, echo->len);
}

/* ---- sending ---- */

/* The message that the program gave, checked. Return: 0 or negative errno. */
static int parse(struct um_sock *sock, struct echo *echo)
{
    if (sock->type == SOCK_RAW) {
        if (!echo->v6 && um_option_int(sock, IPPROTO_IP, IP_HDRINCL, 0)) {
            size_t header = echo->len ? (size_t)(echo->data[0] & 15) * 4 : 0;
            if (header < IP_HEADER || header > echo->len)
                return -EINVAL;
            echo->data += header;
            echo->len -= header;
        }
        if (echo->len >= ECHO_HEADER)
            sock->dgram->echo_id = identifier(echo);
        return 0;
    }
    if (!is_request(echo))
        return -EINVAL;
    int rc = um_dgram_autobind(sock);
    if (rc < 0)
        return rc;
    sock->dgram->echo_id = sock->local.port;
    put16(echo->data + 4, sock->local.port);
    return 0;
}

static void answer(struct um_switchboard *sb, struct um_sock *sock,
                   const struct um_known *known, struct echo *echo)
{
    struct um_arrival arrival = {.from = known->view, .ttl = UM_TTL};
    arrival.from.port = 0;
    memcpy(arrival.to, known->source, 16);
    echo->data[0] = echo->v6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY;
    deliver_reply(sb, sock, &arrival, echo);
}

ssize_t um_icmp_send(struct um_switchboard *sb, struct um_sock *sock,
                     const struct um_name *where, const struct um_how *how,
                     const void *data, size_t len)
{
    uint8_t copy[UM_DGRAM_MAX];
    struct um_known known = {.view = *where};
    struct echo echo = {copy, len, sock->protocol == IPPROTO_ICMPV6};
    if (len > (echo.v6 ? UM_DGRAM_MAX : (size_t)ECHO_MAX_V4))
        return -EMSGSIZE;
    memcpy(copy, data, len);
    int rc = um_dgram_check_dest(sock, &known.view);
    if (rc == 0 && um_addr_is_v4(known.view.addr) == echo.v6)
        rc = -ENETUNREACH;
    if (rc == 0)
        rc = parse(sock, &echo);
    if (rc < 0)
        return rc;
    int road = um_sock_route(sock, &known.view, &known.host, known.source);
    if (road < 0)
        return road;
    rc = um_dgram_may_send(sock, how);
    if (rc < 0)
        return rc;
    if (how->has_source)
        memcpy(known.source, how->source, 16);
    else if (!um_addr_is_any(sock->local.addr))
        memcpy(known.source, sock->local.addr, 16);
    known.host.port = 0;
    struct um_way way = {
        .road = road, .stack = sock->stack, .dest = known.host};
    if (road == UM_ROAD_RELAY)
        um_uplink_way(sock->stack, sock->protocol, &known.host, &way);
    if (way.road < 0)
        return way.road;
    known.host = way.dest;
    if (way.road == UM_ROAD_UNREACHABLE) {
        struct um_arrival arrival = {.len = (uint32_t)echo.len};
        memcpy(arrival.from.addr, known.source, 16);
        um_error_unreachable(sb, sock, false, &known.view, known.source,
                             &arrival, echo.data);
        return (ssize_t)len;
    }
    if (road == UM_ROAD_PACKET) {
        send_by_packets(sock, sock->stack, &known.view, known.source, how,
                        &echo);
        return (ssize_t)len;
    }
    if (road == UM_ROAD_LOST || !is_request(&echo) ||
        um_addr_is_multicast(known.view.addr))
        return (ssize_t)len;
    bool mapped = !um_addr_equal(known.view.addr, known.host.addr);
    if (way.road == UM_ROAD_RELAY && !mapped) {
        ssize_t n = send_by_host(sb, sock, &known, how, &echo);
        return n < 0 ? n : (ssize_t)len;
    }
    struct um_sock *outer =
        way.road == UM_ROAD_PACKET ? um_uplink_sock(sock, &way) : NULL;
    if (outer) {
        um_known_add(sock->dgram, &known);
        put16(echo.data + 4, outer->local.port);
        send_by_packets(sock, way.stack, &way.dest, way.source, how, &echo);
        return (ssize_t)len;
    }
    answer(sb, sock, &known, &echo);
    return (ssize_t)len;
}
