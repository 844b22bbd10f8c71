/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * option_table.c - the options that can be set or that the view answers itself
 *
 * One row an option; how a row works is told in options.c.
 */
#include <errno.h>
#include <linux/filter.h>
#include <netinet/icmp6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "dgram.h"
#include "options.h"
#include "stream.h"

/* Younger than the headers that we are built with. */
#define OPT_SO_PASSPIDFD             76
#define OPT_SO_RCVPRIORITY           82
#define OPT_SO_PASSRIGHTS            83
#define OPT_IP_LOCAL_PORT_RANGE      51
#define OPT_TCP_RTO_MAX_MS           44
#define OPT_TCP_RTO_MIN_US           45
#define OPT_TCP_DELACK_MAX_US        46
#define OPT_RAW_ICMP_FILTER          1 /* ICMP_FILTER of linux/icmp.h */
#define OPT_SO_DEVMEM_DONTNEED       80
#define OPT_IP_PROTOCOL              52
#define OPT_TCP_AO_REPAIR            42
#define OPT_UDP_ENCAP                100
#define OPT_UDPLITE_SEND_CSCOV       10
#define OPT_UDPLITE_RECV_CSCOV       11
#define OPT_IPV6_FLOWLABEL_MGR       32
#define OPT_IP6T_SO_SET_REPLACE      64
#define OPT_IP6T_SO_SET_ADD_COUNTERS 65
#define OPT_UDP_NO_CHECK6_TX         101
#define OPT_UDP_NO_CHECK6_RX         102
#define OPT_IPV6_RECVERR_RFC4884     31
#define OPT_IPV6_MULTICAST_ALL       29
#define OPT_IPV6_ROUTER_ISOLATE      30
#define OPT_IPV6_FLOWINFO            11
#define OPT_IPV6_FLOWINFO_SEND       33

/* MSS and MTU of Linux's loopback, as TCP_MAXSEG, TCP_INFO and IP_MTU tell
 * them of a connection there (observed on Linux 6.18). */
#define LOOPBACK_MSS4   32741
#define LOOPBACK_MSS6   32732
#define LOOPBACK_ADVMSS 65483
#define LOOPBACK_MTU4   65535
#define LOOPBACK_MTU6   65536
#define LOOPBACK_RTT_US 20
#define LOOPBACK_RTO_US 204000
#define LOOPBACK_WSCALE 10
#define LOOPBACK_CLAMP  65536

/* ---- what the switchboard itself knows ---- */

static int get_type(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    return option_give_int(ret, call->sock->type);
}

static int get_domain(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    return option_give_int(ret, call->sock->domain);
}

static int get_protocol(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    return option_give_int(ret, call->sock->protocol);
}

static int get_acceptconn(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    return option_give_int(ret, call->sock->state == UM_LISTENING);
}

static int get_v6only(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    if (call->sock->domain != AF_INET6)
        return -EOPNOTSUPP;
    return option_give_int(ret, call->sock->v6only);
}

static int get_cookie(struct um_call *call, uint8_t *ret, size_t asked)
{
    if (asked < sizeof(call->sock->cookie))
        return -EINVAL;
    memcpy(ret, &call->sock->cookie, sizeof(call->sock->cookie));
    return sizeof(call->sock->cookie);
}

static void undo_error(struct um_call *call)
{
    call->sock->error = (int)(intptr_t)call->undo_arg;
    if (call->sock->dgram && call->sock->error)
        um_dgram_alert(call->sb, call->sock);
}

/* The surrogate's own error is taken too: it speaks of the unix socket, and
 * only where we have nothing to say (a reset) it is the truth. */
static int get_error(struct um_call *call, uint8_t *ret, size_t asked)
{
    struct um_sock *sock = call->sock;
    int error = sock->error, native = 0;
    socklen_t len = sizeof(native);

    (void)asked;
    /* What a send() has brought about is known once it is sent on. */
    if (sock->dgram) {
        um_dgram_drain(call->sb, sock);
        error = sock->error;
    }
    if (sock->type == SOCK_STREAM)
        getsockopt(call->fd, SOL_SOCKET, SO_ERROR, &native, &len);
    if (error == 0)
        error = native;
    if (native != 0 && sock->state == UM_CONNECTED)
        sock->over = true;
    if (error == 0 && um_untold(call))
        error = sock->untold.error;
    call->error = error;
    sock->error = 0;
    if (sock->dgram && error)
        um_dgram_calm(sock, call->fd);
    call->undo = undo_error;
    call->undo_arg = (void *)(intptr_t)error;
    return option_give_int(ret, error);
}

static int get_peername(struct um_call *call, uint8_t *ret, size_t asked)
{
    struct sockaddr_storage ss;
    size_t len;

    if (call->sock->domain == AF_NETLINK)
        len = um_netlink_name(call->sock, true, &ss);
    else if (call->sock->state == UM_CONNECTED && !um_stream_over(call))
        len = um_name_format(call->sock->domain, &call->sock->peer, &ss);
    else
        return -ENOTCONN;
    if (len < asked)
        return -EINVAL; /* the kernel's way round: "too long a buffer" */
    memcpy(ret, &ss, len);
    return (int)len;
}

static bool is_local_stream(const struct um_sock *sock)
{
    return sock->type == SOCK_STREAM && sock->state == UM_CONNECTED &&
           sock->conn == NULL;
}

static bool is_by_packets(const struct um_sock *sock)
{
    return sock->state == UM_CONNECTED && sock->conn != NULL &&
           sock->conn->line != NULL;
}

/* What the kernel lets the buffer of a connection grow to. */
static int most_sndbuf(void)
{
    int most = 0;
    FILE *file = fopen("/proc/sys/net/ipv4/tcp_wmem", "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*d %*d %d", &most) != 1)
        most = 0;
    fclose(file);
    return most;
}

/* On loopback, where segments are large, it grows when the connection is made
 * already. */
static int get_sndbuf(struct um_call *call, uint8_t *ret, size_t asked)
{
    struct um_sock *sock = call->sock;
    int most;

    if (is_local_stream(sock) &&
        option_find(sock, SOL_SOCKET, SO_SNDBUF) == NULL &&
        (most = most_sndbuf()) > 0)
        return option_give_int(ret, most);
    return option_get_by_model(call, option_row_of(SOL_SOCKET, SO_SNDBUF),
                               SOL_SOCKET, SO_SNDBUF, ret, asked);
}

/* What has been peeked at moves it, and the surrogate alone knows of that. */
static int get_peek_off(struct um_call *call, uint8_t *ret, size_t asked)
{
    if (option_find(call->sock, SOL_SOCKET, SO_PEEK_OFF) != NULL)
        return option_get_from(call->fd, SOL_SOCKET, SO_PEEK_OFF, ret, asked);
    return option_get_by_model(call, option_row_of(SOL_SOCKET, SO_PEEK_OFF),
                               SOL_SOCKET, SO_PEEK_OFF, ret, asked);
}

static int get_maxseg(struct um_call *call, uint8_t *ret, size_t asked)
{
    struct um_sock *sock = call->sock;
    int mss = um_addr_is_v4(sock->peer.addr) ? LOOPBACK_MSS4 : LOOPBACK_MSS6;
    int most = um_option_int(sock, IPPROTO_TCP, TCP_MAXSEG, 0);

    if (is_by_packets(sock))
        mss = sock->conn->mss;
    if (is_local_stream(sock) || is_by_packets(sock))
        return option_give_int(ret, most > 0 && most < mss ? most : mss);
    return option_get_by_model(call, option_row_of(IPPROTO_TCP, TCP_MAXSEG),
                               IPPROTO_TCP, TCP_MAXSEG, ret, asked);
}

static int get_window_clamp(struct um_call *call, uint8_t *ret, size_t asked)
{
    struct um_sock *sock = call->sock;

    if (is_local_stream(sock) &&
        option_find(sock, IPPROTO_TCP, TCP_WINDOW_CLAMP) == NULL)
        return option_give_int(ret, LOOPBACK_CLAMP);
    return option_get_by_model(call,
                               option_row_of(IPPROTO_TCP, TCP_WINDOW_CLAMP),
                               IPPROTO_TCP, TCP_WINDOW_CLAMP, ret, asked);
}

/* The number that tells sockets of a protocol apart. */
static int get_number(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    return option_give_int(ret, call->sock->type == SOCK_RAW
                                    ? call->sock->protocol
                                    : call->sock->local.port);
}

static int mtu(struct um_call *call, int level, int name, uint8_t *ret)
{
    struct um_sock *sock = call->sock;
    int host;

    if (sock->state != UM_CONNECTED)
        return -ENOTCONN;
    host = option_host_of(sock);
    if (host >= 0) {
        int rc = option_get_from(host, level, name, ret, sizeof(int));

        option_host_done(sock);
        return rc;
    }
    if (!um_stack_owns(sock->stack, sock->peer.addr))
        return option_give_int(
            ret, (int)um_stack_mtu(sock->stack, sock->local.addr));
    return option_give_int(ret, um_addr_is_v4(sock->peer.addr) ? LOOPBACK_MTU4
                                                               : LOOPBACK_MTU6);
}

static int get_mtu4(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    return mtu(call, IPPROTO_IP, IP_MTU, ret);
}

static int get_mtu6(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    if (call->sock->domain != AF_INET6)
        return -EOPNOTSUPP;
    return mtu(call, IPPROTO_IPV6, IPV6_MTU, ret);
}

static int get_path_mtu(struct um_call *call, uint8_t *ret, size_t asked)
{
    struct ip6_mtuinfo info = {0};
    uint8_t value[sizeof(int)];
    int rc = mtu(call, IPPROTO_IPV6, IPV6_MTU, value);

    if (asked < sizeof(info))
        return -EINVAL;
    if (rc < 0)
        return rc;
    memcpy(&info.ip6m_mtu, value, sizeof(info.ip6m_mtu));
    memcpy(ret, &info, sizeof(info));
    return sizeof(info);
}

/* The state that a local stream is in, as its surrogate shows it. */
static uint8_t tcp_state(struct um_call *call)
{
    struct pollfd poll_fd = {.fd = call->fd, .events = POLLRDHUP};
    bool peer_ended;

    if (call->sock->state == UM_LISTENING)
        return TCP_LISTEN;
    if (call->sock->state == UM_CONNECTING)
        return TCP_SYN_SENT;
    if (call->sock->state != UM_CONNECTED)
        return TCP_CLOSE;
    if (um_stream_over(call))
        return TCP_CLOSE;
    poll(&poll_fd, 1, 0);
    peer_ended = !call->sock->shut_read && (poll_fd.revents & POLLRDHUP) != 0;
    if (call->sock->shut_write)
        return TCP_FIN_WAIT2;
    return peer_ended ? TCP_CLOSE_WAIT : TCP_ESTABLISHED;
}

/* The host's connection where there is one; else the model's answer for a
 * fresh socket, with what loopback would say filled in. */
static int get_tcp_info(struct um_call *call, uint8_t *ret, size_t asked)
{
    struct um_sock *sock = call->sock;
    struct tcp_info info;
    int host = option_host_of(sock), len;

    if (host >= 0) {
        len = option_get_from(host, IPPROTO_TCP, TCP_INFO, ret, asked);
        option_host_done(sock);
        /* The pump may be behind. */
        if (len > 0 && um_stream_over(call))
            ret[offsetof(struct tcp_info, tcpi_state)] = TCP_CLOSE;
        else if (len > 0 && sock->shut_write && ret[0] == TCP_ESTABLISHED)
            ret[offsetof(struct tcp_info, tcpi_state)] = TCP_FIN_WAIT1;
        return len;
    }
    len =
        option_get_by_model(call, NULL, IPPROTO_TCP, TCP_INFO, ret, MAX_VALUE);
    if (len < (int)sizeof(info))
        return len;
    memcpy(&info, ret, sizeof(info));
    if (sock->state == UM_LISTENING) {
        memset(&info, 0, sizeof(info));
        info.tcpi_unacked = sock->listen->pending;
        info.tcpi_sacked = (uint32_t)sock->listen->backlog;
    }
    info.tcpi_state = tcp_state(call);
    if (is_local_stream(sock)) {
        info.tcpi_options =
            TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE;
        info.tcpi_snd_wscale = info.tcpi_rcv_wscale = LOOPBACK_WSCALE;
        info.tcpi_rto = LOOPBACK_RTO_US;
        info.tcpi_snd_mss = info.tcpi_rcv_mss = LOOPBACK_MSS4;
        info.tcpi_advmss = LOOPBACK_ADVMSS;
        info.tcpi_pmtu = LOOPBACK_MTU4;
        info.tcpi_rtt = LOOPBACK_RTT_US;
        info.tcpi_rttvar = LOOPBACK_RTT_US / 2;
        info.tcpi_rcv_ssthresh = info.tcpi_rcv_space = LOOPBACK_MTU4;
    }
    if (is_by_packets(sock)) {
        info.tcpi_options = TCPI_OPT_WSCALE;
        info.tcpi_snd_mss = info.tcpi_rcv_mss = sock->conn->mss;
        info.tcpi_advmss = sock->conn->mss;
        info.tcpi_pmtu = um_stack_mtu(sock->stack, sock->local.addr);
    }
    memcpy(ret, &info, sizeof(info));
    return len;
}

/* ---- what setting means for the switchboard ---- */

static void note_reuseaddr(struct um_sock *sock, const struct row *row,
                           int value)
{
    (void)row;
    sock->reuseaddr = value != 0;
}

static void note_reuseport(struct um_sock *sock, const struct row *row,
                           int value)
{
    (void)row;
    sock->reuseport = value != 0;
}

/* There are four forms of time stamps, and a socket has one at a time. */
static void note_timestamp(struct um_sock *sock, const struct row *row,
                           int value)
{
    static const int forms[] = {SO_TIMESTAMP_OLD, SO_TIMESTAMPNS_OLD,
                                SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW};

    (void)value;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (forms[i] != row->name)
            option_forget(sock, option_find(sock, SOL_SOCKET, forms[i]));
}

static void note_cork(struct um_sock *sock, const struct row *row, int value)
{
    (void)row;
    if (!value && sock->dgram)
        um_udp_uncork(sock->stack->sb, sock);
}

/* Who wants no reports any more gives up those that wait. */
static void note_recverr(struct um_sock *sock, const struct row *row, int value)
{
    (void)row;
    if (!value && sock->dgram)
        um_reports_destroy(sock->dgram);
}

static int set_v6only(struct um_call *call, const struct row *row,
                      const uint8_t *value, size_t len)
{
    int on;

    (void)row;
    if (call->sock->domain != AF_INET6)
        return -ENOPROTOOPT;
    if (len < sizeof(on) || call->sock->bind != NULL)
        return -EINVAL;
    memcpy(&on, value, sizeof(on));
    call->sock->v6only = on != 0;
    return 0;
}

/* Kernel TLS: as where the module is missing. */
static int set_ulp(struct um_call *call, const struct row *row,
                   const uint8_t *value, size_t len)
{
    (void)call;
    (void)row;
    (void)value;
    return len < 1 ? -EINVAL : -ENOENT;
}

/* A connection has agreed on its MSS; to set one is allowed, and vain. */
static int set_maxseg(struct um_call *call, const struct row *row,
                      const uint8_t *value, size_t len)
{
    int rc = option_try(call, row, value, len, NULL), effect = 0;

    if (rc < 0 || call->sock->state == UM_CONNECTED)
        return rc;
    memcpy(&effect, value, sizeof(effect));
    return option_keep(call->sock, row->level, row->name, value, len, effect);
}

/* "No clamp" is for fresh sockets. */
static int set_window_clamp(struct um_call *call, const struct row *row,
                            const uint8_t *value, size_t len)
{
    int rc = option_try(call, row, value, len, NULL), effect = 0;

    if (rc < 0)
        return rc;
    memcpy(&effect, value, sizeof(effect));
    if (effect == 0 && call->sock->state != UM_FRESH)
        return -EINVAL;
    return option_keep(call->sock, row->level, row->name, value, len, effect);
}

/* It is asked for before connect(), which would send data along. */
static int set_fastopen_connect(struct um_call *call, const struct row *row,
                                const uint8_t *value, size_t len)
{
    int rc = option_try(call, row, value, len, NULL), effect = 0;

    if (rc < 0)
        return rc;
    if (call->sock->state == UM_LISTENING)
        return -EINVAL;
    memcpy(&effect, value, sizeof(effect));
    return option_keep(call->sock, row->level, row->name, value, len, effect);
}

/* Make an IPv4 socket of an IPv6 one whose peer is IPv4-mapped. */
static int set_addrform(struct um_call *call, const struct row *row,
                        const uint8_t *value, size_t len)
{
    struct um_sock *sock = call->sock;
    int family;

    (void)row;
    if (len < sizeof(family))
        return -EINVAL;
    memcpy(&family, value, sizeof(family));
    if (family != AF_INET)
        return -EINVAL;
    if (sock->state != UM_CONNECTED)
        return -ENOTCONN;
    if (sock->v6only || !um_addr_is_v4(sock->peer.addr))
        return -EADDRNOTAVAIL;
    sock->domain = AF_INET;
    return 0;
}

static int get_addrform(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    if (call->sock->state != UM_CONNECTED)
        return -ENOTCONN;
    return option_give_int(ret, call->sock->domain);
}

/* The tables of a packet filter are nobody's to change in a view. */
static int set_not_permitted(struct um_call *call, const struct row *row,
                             const uint8_t *value, size_t len)
{
    (void)call;
    (void)row;
    (void)value;
    (void)len;
    return -EPERM;
}

/* A filter sees packets, the surrogate has none. Programs use it to be woken
 * less often (ping), so to take it and let everything through is harmless. */
static int set_filter(struct um_call *call, const struct row *row,
                      const uint8_t *value, size_t len)
{
    static struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
    static const struct sock_fprog let_through = {.len = 1, .filter = &all};
    struct sock_fprog given = {0};
    int rc;

    /* The program lies in the caller's memory: one of ours stands for it. */
    if (len == sizeof(given)) {
        memcpy(&given, value, sizeof(given));
        if (given.len == 0 || given.filter == NULL)
            given = (struct sock_fprog){0};
        else
            given = let_through;
        value = (const uint8_t *)&given;
    }
    rc = option_try(call, row, value, len, NULL);
    if (rc < 0)
        return rc;
    return option_keep(call->sock, row->level, row->name, value, 0, 1);
}

/* A lock stays. */
static int set_lock_filter(struct um_call *call, const struct row *row,
                           const uint8_t *value, size_t len)
{
    int rc = option_try(call, row, value, len, NULL), on = 0;

    if (rc < 0)
        return rc;
    memcpy(&on, value, sizeof(on));
    if (on == 0 && um_option_int(call->sock, row->level, row->name, 0) != 0)
        return -EPERM;
    return option_keep(call->sock, row->level, row->name, value, len, on);
}

static int set_detach_filter(struct um_call *call, const struct row *row,
                             const uint8_t *value, size_t len)
{
    struct um_option *filter =
        option_find(call->sock, SOL_SOCKET, SO_ATTACH_FILTER);

    (void)row;
    (void)value;
    if (len < sizeof(int))
        return -EINVAL;
    if (filter == NULL)
        return -ENOENT;
    option_forget(call->sock, filter);
    return 0;
}

/* ---- the table ---- */

/* A row's name is kept as text: the tables in docs/compatibility.md are made
 * from it. */
#define OPTION(level_, name_, how_, ...)                                       \
    {.level = level_,                                                          \
     .name = name_,                                                            \
     .how = how_,                                                              \
     .level_text = #level_,                                                    \
     .text = #name_,                                                           \
     __VA_ARGS__}
static const struct row rows[] = {
    OPTION(SOL_SOCKET, SO_DEBUG, KERNEL),
    OPTION(SOL_SOCKET, SO_REUSEADDR, KERNEL, .then = note_reuseaddr),
    OPTION(SOL_SOCKET, SO_REUSEPORT, KERNEL, .then = note_reuseport),
    OPTION(SOL_SOCKET, SO_TYPE, 0, .get = get_type),
    OPTION(SOL_SOCKET, SO_DOMAIN, 0, .get = get_domain),
    OPTION(SOL_SOCKET, SO_PROTOCOL, 0, .get = get_protocol),
    OPTION(SOL_SOCKET, SO_ERROR, 0, .get = get_error),
    OPTION(SOL_SOCKET, SO_ACCEPTCONN, 0, .get = get_acceptconn),
    OPTION(SOL_SOCKET, SO_COOKIE, 0, .get = get_cookie),
    OPTION(SOL_SOCKET, SO_PEERNAME, 0, .get = get_peername),
    OPTION(SOL_SOCKET, SO_DONTROUTE, KERNEL),
    OPTION(SOL_SOCKET, SO_BROADCAST, KERNEL | VIEW),
    OPTION(SOL_SOCKET, SO_SNDBUF, KERNEL | SURROGATE | HOST | LIVE,
           .get = get_sndbuf),
    OPTION(SOL_SOCKET, SO_RCVBUF, KERNEL | VIEW | HOST | LIVE),
    OPTION(SOL_SOCKET, SO_SNDBUFFORCE, KERNEL),
    OPTION(SOL_SOCKET, SO_RCVBUFFORCE, KERNEL),
    OPTION(SOL_SOCKET, SO_BUF_LOCK, KERNEL),
    OPTION(SOL_SOCKET, SO_KEEPALIVE, KERNEL | HOST),
    OPTION(SOL_SOCKET, SO_OOBINLINE, KERNEL | SURROGATE),
    OPTION(SOL_SOCKET, SO_NO_CHECK, KERNEL),
    OPTION(SOL_SOCKET, SO_PRIORITY, KERNEL | HOST | UNSHARED),
    OPTION(SOL_SOCKET, SO_LINGER, KERNEL | HOST | ALONE),
    OPTION(SOL_SOCKET, SO_PASSCRED, KERNEL),
    OPTION(SOL_SOCKET, SO_PASSSEC, KERNEL),
    OPTION(SOL_SOCKET, SO_RCVLOWAT, KERNEL | SURROGATE | ALONE),
    OPTION(SOL_SOCKET, SO_RCVTIMEO_OLD, KERNEL | VIEW | SURROGATE),
    OPTION(SOL_SOCKET, SO_SNDTIMEO_OLD, KERNEL | VIEW | SURROGATE),
    OPTION(SOL_SOCKET, SO_RCVTIMEO_NEW, KERNEL | VIEW | SURROGATE),
    OPTION(SOL_SOCKET, SO_SNDTIMEO_NEW, KERNEL | VIEW | SURROGATE),
    OPTION(SOL_SOCKET, SO_BINDTODEVICE, 0, .set = option_set_bindtodevice,
           .get = option_get_bindtodevice),
    OPTION(SOL_SOCKET, SO_BINDTOIFINDEX, 0, .set = option_set_bindtoifindex,
           .get = option_get_bindtoifindex),
    OPTION(SOL_SOCKET, SO_ATTACH_FILTER, UNSHARED, .set = set_filter),
    OPTION(SOL_SOCKET, SO_DETACH_FILTER, 0, .set = set_detach_filter),
    OPTION(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, UNSHARED, .set = set_filter),
    OPTION(SOL_SOCKET, SO_TIMESTAMP_OLD, KERNEL, .then = note_timestamp),
    OPTION(SOL_SOCKET, SO_TIMESTAMPNS_OLD, KERNEL, .then = note_timestamp),
    OPTION(SOL_SOCKET, SO_TIMESTAMP_NEW, KERNEL, .then = note_timestamp),
    OPTION(SOL_SOCKET, SO_TIMESTAMPNS_NEW, KERNEL, .then = note_timestamp),
    OPTION(SOL_SOCKET, SO_TIMESTAMPING_OLD, KERNEL | VIEW),
    OPTION(SOL_SOCKET, SO_TIMESTAMPING_NEW, KERNEL | VIEW),
    OPTION(SOL_SOCKET, SO_MARK, KERNEL),
    OPTION(SOL_SOCKET, SO_RXQ_OVFL, KERNEL | VIEW),
    OPTION(SOL_SOCKET, SO_WIFI_STATUS, KERNEL),
    OPTION(SOL_SOCKET, SO_PEEK_OFF, KERNEL | SURROGATE, .get = get_peek_off),
    OPTION(SOL_SOCKET, SO_NOFCS, KERNEL),
    OPTION(SOL_SOCKET, SO_SELECT_ERR_QUEUE, KERNEL),
    OPTION(SOL_SOCKET, SO_BUSY_POLL, KERNEL),
    OPTION(SOL_SOCKET, SO_PREFER_BUSY_POLL, KERNEL),
    OPTION(SOL_SOCKET, SO_BUSY_POLL_BUDGET, KERNEL),
    OPTION(SOL_SOCKET, SO_MAX_PACING_RATE, KERNEL | HOST),
    OPTION(SOL_SOCKET, SO_INCOMING_CPU, KERNEL),
    OPTION(SOL_SOCKET, SO_TXTIME, KERNEL),
    OPTION(SOL_SOCKET, SO_ZEROCOPY, REFUSED),
    OPTION(SOL_SOCKET, SO_RESERVE_MEM, KERNEL),
    OPTION(SOL_SOCKET, SO_TXREHASH, KERNEL),
    OPTION(SOL_SOCKET, SO_RCVMARK, KERNEL),
    OPTION(SOL_SOCKET, SO_BSDCOMPAT, KERNEL),
    OPTION(SOL_SOCKET, SO_CNX_ADVICE, KERNEL),
    OPTION(SOL_SOCKET, SO_LOCK_FILTER, ALONE, .set = set_lock_filter),
    OPTION(SOL_SOCKET, SO_ATTACH_BPF, REFUSED),
    OPTION(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, REFUSED),
    OPTION(SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, REFUSED),
    OPTION(SOL_SOCKET, OPT_SO_DEVMEM_DONTNEED, REFUSED),
    OPTION(SOL_SOCKET, OPT_SO_PASSPIDFD, KERNEL),
    OPTION(SOL_SOCKET, OPT_SO_RCVPRIORITY, KERNEL),
    OPTION(SOL_SOCKET, OPT_SO_PASSRIGHTS, KERNEL),

    /* The pump's host sockets have it on for good. */
    OPTION(IPPROTO_TCP, TCP_NODELAY, KERNEL),
    OPTION(IPPROTO_TCP, TCP_MAXSEG, HOST | LIVE | ALONE, .set = set_maxseg,
           .get = get_maxseg),
    OPTION(IPPROTO_TCP, TCP_CORK, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_KEEPIDLE, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_KEEPINTVL, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_KEEPCNT, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_SYNCNT, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_LINGER2, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT, KERNEL | UNSHARED),
    OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP, HOST | LIVE | ALONE,
           .set = set_window_clamp, .get = get_window_clamp),
    OPTION(IPPROTO_TCP, TCP_INFO, 0, .get = get_tcp_info),
    OPTION(IPPROTO_TCP, TCP_CC_INFO, LIVE),
    OPTION(IPPROTO_TCP, TCP_QUICKACK, KERNEL | HOST | UNSHARED),
    OPTION(IPPROTO_TCP, TCP_CONGESTION, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_THIN_DUPACK, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_FASTOPEN, KERNEL | UNSHARED | EARLY),
    OPTION(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, UNSHARED | EARLY,
           .set = set_fastopen_connect),
    OPTION(IPPROTO_TCP, TCP_FASTOPEN_KEY, KERNEL | UNSHARED),
    OPTION(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, KERNEL | EARLY),
    OPTION(IPPROTO_TCP, TCP_TIMESTAMP, KERNEL),
    OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT, KERNEL | HOST),
    OPTION(IPPROTO_TCP, TCP_SAVE_SYN, KERNEL),
    OPTION(IPPROTO_TCP, TCP_ULP, 0, .set = set_ulp),
    OPTION(IPPROTO_TCP, TCP_MD5SIG, REFUSED),
    OPTION(IPPROTO_TCP, TCP_MD5SIG_EXT, REFUSED),
    OPTION(IPPROTO_TCP, TCP_REPAIR, REFUSED),
    OPTION(IPPROTO_TCP, TCP_REPAIR_QUEUE, REFUSED),
    OPTION(IPPROTO_TCP, TCP_QUEUE_SEQ, REFUSED),
    OPTION(IPPROTO_TCP, TCP_REPAIR_OPTIONS, REFUSED),
    OPTION(IPPROTO_TCP, TCP_REPAIR_WINDOW, REFUSED),
    OPTION(IPPROTO_TCP, TCP_INQ, REFUSED),
    OPTION(IPPROTO_TCP, OPT_TCP_AO_REPAIR, REFUSED),
    OPTION(IPPROTO_TCP, TCP_TX_DELAY, KERNEL | HOST),
    OPTION(IPPROTO_TCP, OPT_TCP_RTO_MAX_MS, KERNEL | HOST),
    OPTION(IPPROTO_TCP, OPT_TCP_RTO_MIN_US, KERNEL | HOST),
    OPTION(IPPROTO_TCP, OPT_TCP_DELACK_MAX_US, KERNEL | HOST),

    OPTION(IPPROTO_UDP, UDP_CORK, KERNEL, .then = note_cork),
    OPTION(IPPROTO_UDP, UDP_SEGMENT, KERNEL | VIEW),
    OPTION(IPPROTO_UDP, UDP_GRO, KERNEL | VIEW | ALONE),
    OPTION(IPPROTO_UDP, OPT_UDP_NO_CHECK6_TX, KERNEL),
    OPTION(IPPROTO_UDP, OPT_UDP_NO_CHECK6_RX, KERNEL),
    OPTION(IPPROTO_UDP, OPT_UDP_ENCAP, REFUSED),
    OPTION(IPPROTO_UDP, OPT_UDPLITE_SEND_CSCOV, KERNEL),
    OPTION(IPPROTO_UDP, OPT_UDPLITE_RECV_CSCOV, KERNEL),
    OPTION(IPPROTO_UDPLITE, OPT_UDPLITE_SEND_CSCOV, KERNEL),
    OPTION(IPPROTO_UDPLITE, OPT_UDPLITE_RECV_CSCOV, KERNEL),

    OPTION(IPPROTO_IP, IP_TOS, KERNEL | VIEW | HOST),
    OPTION(IPPROTO_IP, IP_TTL, KERNEL | VIEW | HOST),
    OPTION(IPPROTO_IP, IP_HDRINCL, STORED, .set = option_set_stored),
    OPTION(IPPROTO_IP, IP_NODEFRAG, STORED, .set = option_set_stored),
    OPTION(IPPROTO_IP, IP_OPTIONS, KERNEL | UNSHARED),
    OPTION(IPPROTO_IP, IP_ROUTER_ALERT, KERNEL),
    OPTION(IPPROTO_IP, IP_RECVOPTS, KERNEL),
    OPTION(IPPROTO_IP, IP_RETOPTS, KERNEL),
    OPTION(IPPROTO_IP, IP_PKTINFO, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_MTU_DISCOVER, KERNEL | VIEW | HOST),
    OPTION(IPPROTO_IP, IP_RECVERR, KERNEL, .then = note_recverr),
    OPTION(IPPROTO_IP, IP_RECVERR_RFC4884, KERNEL),
    OPTION(IPPROTO_IP, IP_RECVTTL, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_RECVTOS, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_MTU, 0, .get = get_mtu4),
    OPTION(IPPROTO_IP, IP_FREEBIND, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_TRANSPARENT, KERNEL),
    OPTION(IPPROTO_IP, IP_PASSSEC, KERNEL),
    OPTION(IPPROTO_IP, IP_ORIGDSTADDR, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_MINTTL, KERNEL),
    OPTION(IPPROTO_IP, IP_CHECKSUM, KERNEL),
    OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_RECVFRAGSIZE, KERNEL),
    OPTION(IPPROTO_IP, IP_MULTICAST_IF, STORED,
           .set = option_set_multicast_if4),
    OPTION(IPPROTO_IP, IP_MULTICAST_TTL, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_MULTICAST_LOOP, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_MULTICAST_ALL, KERNEL | VIEW),
    OPTION(IPPROTO_IP, IP_UNICAST_IF, STORED, .set = option_set_card),
    OPTION(IPPROTO_IP, OPT_IP_LOCAL_PORT_RANGE, KERNEL | VIEW),
    OPTION(IPPROTO_IP, OPT_IP_PROTOCOL, 0, .get = get_number),
    OPTION(IPPROTO_IP, IP_IPSEC_POLICY, REFUSED),
    OPTION(IPPROTO_IP, IP_XFRM_POLICY, REFUSED),
    OPTION(IPPROTO_IP, IP_UNBLOCK_SOURCE, UNSHARED, .set = option_set_source),
    OPTION(IPPROTO_IP, IP_BLOCK_SOURCE, UNSHARED, .set = option_set_source),
    OPTION(IPPROTO_IP, IP_MSFILTER, REFUSED),
    OPTION(IPPROTO_IP, MCAST_BLOCK_SOURCE, UNSHARED, .set = option_set_source),
    OPTION(IPPROTO_IP, MCAST_UNBLOCK_SOURCE, UNSHARED,
           .set = option_set_source),
    OPTION(IPPROTO_IP, MCAST_MSFILTER, REFUSED),
    OPTION(IPPROTO_IP, IP_ADD_MEMBERSHIP, UNSHARED, .set = option_set_join),
    OPTION(IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, UNSHARED,
           .set = option_set_source),
    OPTION(IPPROTO_IP, MCAST_JOIN_GROUP, UNSHARED, .set = option_set_join),
    OPTION(IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, UNSHARED,
           .set = option_set_source),
    OPTION(IPPROTO_IP, IP_DROP_MEMBERSHIP, UNSHARED, .set = option_set_leave),
    OPTION(IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, UNSHARED,
           .set = option_set_source),
    OPTION(IPPROTO_IP, MCAST_LEAVE_GROUP, UNSHARED, .set = option_set_leave),
    OPTION(IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, UNSHARED,
           .set = option_set_source),

    OPTION(IPPROTO_IPV6, IPV6_V6ONLY, 0, .set = set_v6only, .get = get_v6only),
    OPTION(IPPROTO_IPV6, IPV6_PKTINFO, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_2292PKTINFO, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_2292HOPOPTS, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_2292DSTOPTS, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_2292RTHDR, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_2292HOPLIMIT, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_CHECKSUM, STORED, .set = option_set_stored),
    OPTION(IPPROTO_IPV6, OPT_IPV6_FLOWINFO, KERNEL),
    OPTION(IPPROTO_IPV6, OPT_IPV6_FLOWINFO_SEND, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS, KERNEL | VIEW | HOST),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_IF, STORED, .set = option_set_card),
    OPTION(IPPROTO_IPV6, IPV6_UNICAST_IF, STORED, .set = option_set_card),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, OPT_IPV6_MULTICAST_ALL, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER, KERNEL | VIEW | HOST),
    OPTION(IPPROTO_IPV6, IPV6_MTU, KERNEL, .get = get_mtu6),
    OPTION(IPPROTO_IPV6, IPV6_RECVERR, KERNEL, .then = note_recverr),
    OPTION(IPPROTO_IPV6, OPT_IPV6_RECVERR_RFC4884, KERNEL),
    OPTION(IPPROTO_IPV6, OPT_IPV6_ROUTER_ISOLATE, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_RECVPKTINFO, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_RECVHOPOPTS, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_RECVRTHDR, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_RECVDSTOPTS, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_RECVPATHMTU, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_DONTFRAG, KERNEL | HOST),
    OPTION(IPPROTO_IPV6, IPV6_RECVTCLASS, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_TCLASS, KERNEL | VIEW | HOST),
    OPTION(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_MINHOPCOUNT, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_ORIGDSTADDR, KERNEL | VIEW),
    OPTION(IPPROTO_IPV6, IPV6_TRANSPARENT, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_RECVFRAGSIZE, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_FREEBIND, KERNEL),
    OPTION(IPPROTO_IPV6, IPV6_ADDRFORM, 0, .set = set_addrform,
           .get = get_addrform),
    OPTION(IPPROTO_IPV6, IPV6_PATHMTU, 0, .get = get_path_mtu),
    OPTION(IPPROTO_IPV6, IPV6_2292PKTOPTIONS, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_ROUTER_ALERT, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_JOIN_ANYCAST, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_LEAVE_ANYCAST, REFUSED),
    OPTION(IPPROTO_IPV6, OPT_IPV6_FLOWLABEL_MGR, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_IPSEC_POLICY, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_XFRM_POLICY, REFUSED),
    OPTION(IPPROTO_IPV6, MCAST_BLOCK_SOURCE, UNSHARED,
           .set = option_set_source),
    OPTION(IPPROTO_IPV6, MCAST_UNBLOCK_SOURCE, UNSHARED,
           .set = option_set_source),
    OPTION(IPPROTO_IPV6, MCAST_MSFILTER, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_HOPOPTS, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_RTHDR, REFUSED),
    OPTION(IPPROTO_IPV6, IPV6_DSTOPTS, REFUSED),
    OPTION(IPPROTO_IPV6, OPT_IP6T_SO_SET_REPLACE, 0, .set = set_not_permitted),
    OPTION(IPPROTO_IPV6, OPT_IP6T_SO_SET_ADD_COUNTERS, 0,
           .set = set_not_permitted),
    OPTION(IPPROTO_IPV6, IPV6_JOIN_GROUP, UNSHARED, .set = option_set_join),
    OPTION(IPPROTO_IPV6, MCAST_JOIN_GROUP, UNSHARED, .set = option_set_join),
    OPTION(IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, UNSHARED,
           .set = option_set_source),
    OPTION(IPPROTO_IPV6, IPV6_LEAVE_GROUP, UNSHARED, .set = option_set_leave),
    OPTION(IPPROTO_IPV6, MCAST_LEAVE_GROUP, UNSHARED, .set = option_set_leave),
    OPTION(IPPROTO_IPV6, MCAST_LEAVE_SOURCE_GROUP, UNSHARED,
           .set = option_set_source),

    OPTION(IPPROTO_RAW, OPT_RAW_ICMP_FILTER, STORED, .set = option_set_stored),
    OPTION(IPPROTO_ICMPV6, ICMP6_FILTER, STORED, .set = option_set_stored),
    OPTION(IPPROTO_ICMPV6, IPV6_CHECKSUM, STORED, .set = option_set_stored),
};

const struct row *option_row_of(int level, int name)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].level == level && rows[i].name == name)
            return &rows[i];
    return NULL;
}

/* Names that the headers lack are spelt with OPT_ before them. */
static const char *plain_text(const char *text)
{
    return strncmp(text, "OPT_", 4) == 0 ? text + 4 : text;
}

int um_option_row(int i, struct um_option_row *ret)
{
    const struct row *row = &rows[i];

    if (i < 0 || (size_t)i >= sizeof(rows) / sizeof(rows[0]))
        return 0;
    *ret = (struct um_option_row){
        .level = row->level_text,
        .name = plain_text(row->text),
        .level_number = row->level,
        .name_number = row->name,
        .settable = row->set != NULL || (row->how & (KERNEL | REFUSED)),
        .refused = (row->how & REFUSED) != 0,
        .checked = (row->how & (KERNEL | REFUSED)) != 0,
        .on_surrogate = (row->how & SURROGATE) != 0,
        .on_host = (row->how & HOST) != 0,
        .own_set = row->set != NULL || row->then != NULL || (row->how & VIEW),
        .own_get = row->get != NULL,
        .live = (row->how & LIVE) != 0,
    };
    return 1;
}
