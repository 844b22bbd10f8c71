/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dgram.h - what dgram.c, udp.c, icmp.c, netlink.c and messages.c share
 */
#ifndef UM_DGRAM_H
#define UM_DGRAM_H

#include <time.h>

#include <linux/errqueue.h> /* wants time.h before it */

#include "um.h"

/* The longest datagram, with an IP header in front for raw sockets. */
#define UM_DGRAM_MAX 65535

/* net.ipv4.ip_default_ttl, and the hop limit of IPv6. */
#define UM_TTL 64

/* What goes with the bytes of a datagram that waits for a program. */
struct um_arrival {
    struct um_name from;
    uint8_t to[16];
    uint32_t len;
    uint32_t charge; /* what the kernel accounts for it at our end */
    bool is_token;   /* no datagram: wakes a program for an error */
    uint8_t ttl, tos;
    int card;         /* that it came by; 0: the one with the address `to` */
    uint16_t segment; /* it is several datagrams of this length; 0: one */
    uint32_t drops;   /* datagrams that did not fit before this one */
    struct timespec when;
};

/* An entry of a socket's error queue: what became of a datagram. */
struct um_report {
    struct um_list link; /* in um_dgram.reports */
    uint64_t given_to;   /* the call that took it, until it is answered */
    struct sock_extended_err error;
    /* from: where the datagram was to go; len: of data; the rest is that of
     * the ICMP message. */
    struct um_arrival arrival;
    bool has_offender;
    uint8_t offender[16]; /* who sent the ICMP message */
    uint8_t data[];       /* the beginning of the datagram */
};

/* A destination that was sent to by a host socket. */
struct um_known {
    struct um_name view, host;
    uint8_t source[16];
};

/* A socket of the host that stands for one of the view. */
enum { HOST_OPTIONS = 3 };
struct um_host_side {
    struct um_watch watch; /* fd -1: not open */
    struct um_sock *sock;
    int set[HOST_OPTIONS]; /* its TTL, TOS and MTU discovery; -1: unknown */
};

struct um_cork; /* udp.c */

struct um_dgram {
    struct um_watch watch; /* our end of the surrogate */
    struct um_sock *sock;
    struct um_arrival *queue; /* ring of room (a power of two) entries */
    uint32_t head, count, room;
    uint64_t charged;            /* sum of the charges in the queue */
    bool has_token;              /* one of them is a token */
    struct um_list reports;      /* um_report, oldest first */
    uint32_t report_count;       /* of those that no call has taken */
    uint32_t drops;              /* datagrams that did not fit */
    struct um_cork *cork;        /* what waits for more, or NULL */
    bool auto_port;              /* we chose the port: disconnecting frees it */
    struct um_host_side host[2]; /* IPv4, IPv6 */
    struct um_known *known;
    uint32_t known_count, known_next;
    uint16_t echo_id;    /* raw ICMP: identifier last used */
    struct um_list raws; /* in um_dgrams.raws */
};

/* What all datagram sockets of a switchboard have in common. */
struct um_dgrams {
    int gauge[2];      /* a pair to measure charges with */
    uint32_t *charges; /* by length; 0: not measured yet */
    bool ping_warned;  /* told that the host lets nobody ping */
    struct um_list raws, netlinks, forwards;
};

/* How a datagram is to be sent, beside its destination. */
struct um_how {
    bool has_source, has_ttl, has_tos;
    uint8_t source[16];
    uint8_t ttl, tos;
    uint16_t segment; /* UDP_SEGMENT, 0: as the option says */
    bool more;        /* MSG_MORE */
    int program_fd;   /* a copy of the sender's end; -1: its call is over */
};

/* ---- dgram.c ---- */

/* Return: NULL without memory or descriptors. */
struct um_dgrams *um_dgrams_of(struct um_switchboard *sb);
/* Put a datagram into the program's queue without waking stopped calls.
 * arrival: charge, drops and when are filled in here. Return: false if
 * dropped. */
bool um_dgram_put(struct um_switchboard *sb, struct um_sock *sock,
                  struct um_arrival *arrival, const void *data);
/* The same and run the oldest stopped receive: sb->scratch is lost. */
void um_dgram_deliver(struct um_switchboard *sb, struct um_sock *sock,
                      struct um_arrival *arrival, const void *data);
/* The same, whoever it is from: it was allowed. */
void um_dgram_hand_over(struct um_switchboard *sb, struct um_sock *sock,
                        struct um_arrival *arrival, const void *data);
/* Make poll see that there is an error, pending or in the queue. */
void um_dgram_alert(struct um_switchboard *sb, struct um_sock *sock);
/* The opposite, once there is none: program_fd is a copy of its end. */
void um_dgram_calm(struct um_sock *sock, int program_fd);
/* Send on what the program wrote to its end without our being asked. */
void um_dgram_drain(struct um_switchboard *sb, struct um_sock *sock);
/* Take (peek: copy) the next datagram. program_fd: a copy of the program's
 * end. buf: UM_DGRAM_MAX bytes. Return: 0; -EAGAIN; -ESHUTDOWN (nothing more
 * will come); or the pending error, which is cleared. */
int um_dgram_take(struct um_sock *sock, int program_fd, bool peek,
                  struct um_arrival *ret, void *buf);
/* Put back a datagram that was taken, before those that wait. */
void um_dgram_return(struct um_switchboard *sb, struct um_sock *sock,
                     int program_fd, struct um_arrival *arrival,
                     const void *data);
/* How many datagrams wait. */
uint32_t um_dgram_waiting(struct um_sock *sock);
/* Their bytes. */
size_t um_dgram_waiting_bytes(const struct um_dgram *dgram);
/* Give the socket a port if it has none. Return: 0 or negative errno. */
int um_dgram_autobind(struct um_sock *sock);
/* Can a socket of this domain and binding talk to dest? 0 or negative errno;
 * an unspecified dest becomes the loopback. */
int um_dgram_check_dest(const struct um_sock *sock, struct um_name *dest);
/* Is there a pending error, or an end that was shut? Return: 0 or errno. */
int um_dgram_may_send(struct um_sock *sock, const struct um_how *how);
/* Fill in ttl and tos of what goes to arrival->to. */
void um_dgram_set_class(const struct um_sock *sock, const struct um_how *how,
                        struct um_arrival *arrival);
/* One datagram of the program. dest NULL: the connected peer.
 * Return: bytes or negative errno. sb->scratch is lost. */
ssize_t um_dgram_send(struct um_switchboard *sb, struct um_sock *sock,
                      const struct um_name *dest, const struct um_how *how,
                      const void *data, size_t len);

/* ---- errors.c ---- */

/* Set a pending error. */
void um_error_pend(struct um_switchboard *sb, struct um_sock *sock, int error);
/* Take the pending error. Return: 0 or a negative errno. */
int um_error_take(struct um_sock *sock, int program_fd);
/* An ICMP error arrived for a datagram that sock had sent; report has no data
 * yet. */
void um_error_arrived(struct um_switchboard *sb, struct um_sock *sock,
                      const struct um_report *report, const void *data,
                      size_t len);
/* The same for an unreachable port or host of the view; from answers for it,
 * arrival is the datagram. */
void um_error_unreachable(struct um_switchboard *sb, struct um_sock *sock,
                          bool port, const struct um_name *dest,
                          const uint8_t from[16],
                          const struct um_arrival *arrival, const void *data);
/* The same as an ICMP message that came by packets has it. It quotes the datagram
 * from its IP header on. */
void um_error_by_packets(struct um_switchboard *sb, struct um_stack *stack,
                         const struct um_arrival *arrival, const uint8_t *data,
                         size_t len);
/* A datagram to dest was longer than mtu lets through. */
void um_error_too_long(struct um_switchboard *sb, struct um_sock *sock,
                       const struct um_name *dest, uint32_t mtu);
/* The next report for a call, NULL if there is none. */
struct um_report *um_report_next(struct um_call *call);
/* The call takes it. */
void um_report_take(struct um_call *call, struct um_report *report);
/* The call was abandoned: what it took is the next again. */
void um_reports_return(struct um_call *call, struct um_sock *sock);
void um_reports_destroy(struct um_dgram *dgram);

/* ---- udp.c ---- */

ssize_t um_udp_send(struct um_switchboard *sb, struct um_sock *sock,
                    const struct um_name *dest, const struct um_how *how,
                    const void *data, size_t len);
/* One came by packets, to a name of the stack's or to many. */
void um_udp_received(struct um_switchboard *sb, struct um_stack *stack,
                     const struct um_name *to, struct um_arrival *arrival,
                     const void *data);
/* Add to the datagram that is corked, or to a new one; send it unless more
 * is to come. Return: len or negative errno. */
ssize_t um_udp_append(struct um_switchboard *sb, struct um_sock *sock,
                      const struct um_name *dest, const struct um_how *how,
                      const void *data, size_t len);
/* UDP_CORK is off: what waits is sent. */
void um_udp_uncork(struct um_switchboard *sb, struct um_sock *sock);
bool um_stack_broadcasts(const struct um_stack *stack, const uint8_t addr[16]);
/* The host socket for IPv4 (side 0) or IPv6 (1), made when missing; fn is
 * called when it is readable. Return: fd or negative errno. */
int um_host_side_open(struct um_switchboard *sb, struct um_sock *sock, int side,
                      int protocol,
                      void (*fn)(struct um_switchboard *, struct um_watch *,
                                 uint32_t));
void um_host_sides_close(struct um_switchboard *sb, struct um_dgram *dgram);
/* Receive from a host socket. ret: whom it is from, its TTL and TOS; with
 * MSG_ERRQUEUE whom it was for, and the error. Return: bytes or errno. */
ssize_t um_host_receive(struct um_host_side *host, int flags, void *buf,
                        size_t len, struct um_report *ret);
/* Hand on what its error queue holds; local: also its own refusals. */
void um_host_errors(struct um_switchboard *sb, struct um_host_side *host,
                    bool local);
/* Send to dest of the host, with the TTL and TOS of arrival. Return: bytes or
 * errno. */
ssize_t um_host_send(struct um_switchboard *sb, struct um_host_side *host,
                     const struct um_name *dest,
                     const struct um_arrival *arrival, const void *data,
                     size_t len);
/* Remember where something was sent. */
void um_known_add(struct um_dgram *dgram, const struct um_known *known);
/* What the view calls the host's peer. Return: NULL if it was never sent
 * to; exact tells whether the port agrees too. */
const struct um_known *um_known_find(const struct um_dgram *dgram,
                                     const struct um_name *host, bool *exact);
void um_forwards_destroy(struct um_switchboard *sb, struct um_dgrams *dgrams,
                         const struct um_stack *stack);

/* ---- icmp.c ---- */

static inline bool um_is_icmp(const struct um_sock *sock)
{
    return sock->protocol == IPPROTO_ICMP || sock->protocol == IPPROTO_ICMPV6;
}
/* A message came by packets. data may be changed. */
void um_icmp_received(struct um_switchboard *sb, struct um_stack *stack,
                      int protocol, struct um_arrival *arrival, uint8_t *data);
/* Make the host's error that of sock's own echo request, which data quote. */
void um_icmp_own_error(const struct um_sock *sock, struct um_report *report,
                       uint8_t *data, size_t len);
ssize_t um_icmp_send(struct um_switchboard *sb, struct um_sock *sock,
                     const struct um_name *dest, const struct um_how *how,
                     const void *data, size_t len);

/* ---- control.c ---- */

/* Read the control data of a message to be sent; v4: to an IPv4 address.
 * Return: 0 or errno. */
int um_control_read(struct um_call *call, uint64_t address, size_t len, bool v4,
                    struct um_how *how);
#define UM_CONTROL_ROOM 512
/* Compose the control data that go with an arrival, and with the report that
 * it belongs to (or NULL): at most len bytes (and UM_CONTROL_ROOM) into ret.
 * flags: MSG_CTRUNC is added. Return: bytes. */
size_t um_control_compose(const struct um_sock *sock,
                          const struct um_arrival *arrival,
                          const struct um_report *report, size_t len,
                          uint8_t ret[UM_CONTROL_ROOM], uint32_t *flags);

/* ---- netlink.c ---- */

/* The program wrote a request to its end without our being asked. */
void um_netlink_request(struct um_switchboard *sb, struct um_sock *sock,
                        const void *data, size_t len);

#endif
