/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stackd.h - what the files of the stack server share
 *
 * A stack server is a process: one thread, one loop, one lwIP, whose state is in
 * globals of its own. Everything here belongs to that thread. Callbacks of lwIP
 * and of the loop may end what they are called for; its memory is freed after
 * the batch of events in hand (um_later()), which may name it.
 *
 * Functions return >= 0 or a negative errno.
 */
#ifndef UM_STACKD_H
#define UM_STACKD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lwip/netif.h"
#include "packet_road.h"

#define UM_CONTAINER(ptr, type, member)                                        \
    ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

struct um_stackd;
struct um_flow;
struct um_recovery;
struct um_card;
struct um_lookup;
struct um_syn;
struct raw_pcb;
struct tcp_pcb;
struct udp_pcb;

struct um_watch {
    void (*fn)(struct um_stackd *d, struct um_watch *watch, uint32_t events);
    int fd;
    uint32_t events; /* that are asked for; 0: it is in no epoll set */
};

/* Into how many pieces of memory a frame or a write is divided at most. */
enum { PIECES_MAX = 64 };

/* What a card is plugged in. */
struct um_link {
    /* Take a frame. Return: its length, 0 if there is none, -EPIPE if there
     * will be no more. */
    ssize_t (*receive)(struct um_card *card, void *ret, size_t room);
    /* Return: 0, -EAGAIN (wait for EPOLLOUT), or another negative errno: it is
     * lost. */
    int (*send)(struct um_card *card, const struct iovec *iov, int count);
    /* Send what send() has only gathered; NULL: it gathers nothing.
     * Return: 0 or -EAGAIN. */
    int (*flush)(struct um_card *card);
    void (*close)(struct um_card *card);
};

struct um_frame;
struct um_alias;

/* Who names name servers. */
enum um_server_source {
    UM_SERVERS_DHCP,
    UM_SERVERS_DHCP6,
    UM_SERVERS_RA,
    UM_SERVER_SOURCES
};

enum { UM_SERVERS_MAX = 4, UM_ROUTERS_MAX = 4, UM_DOMAIN_MAX = 256 };

struct um_servers {
    int count;
    struct um_packet_name name[UM_SERVERS_MAX];
    uint32_t left[UM_SERVERS_MAX]; /* seconds; UINT32_MAX: for good */
};

struct um_card {
    struct netif netif;
    struct um_alias *aliases; /* its further IPv4 addresses */
    /* How long a prefix each IPv6 address was given with; 0: it was not. */
    uint8_t prefix6[LWIP_IPV6_NUM_ADDRESSES];
    uint8_t *announced; /* as a router; NULL: it is none */
    uint16_t announced_len;
    ip6_addr_t gateway6; /* a given one, or "any" */
    struct um_servers servers[UM_SERVER_SOURCES];
    char domain[UM_DOMAIN_MAX];
    /* What was told upwards. */
    struct um_packet_name routers[UM_ROUTERS_MAX];
    int router_count;
    uint8_t told_servers[UM_SERVER_SOURCES * UM_SERVERS_MAX * 16];
    uint32_t told_len;
    bool domain_changed, leased;
    struct um_watch watch; /* of the link */
    struct um_watch plug;  /* the line to the plug process */
    struct um_stackd *d;
    struct um_card *next;
    const struct um_link *link; /* NULL: there is none */
    uint64_t link_id;
    bool more;  /* receive() has another frame, without an event */
    void *wire; /* of wire.c */
    uint32_t number;
    uint32_t flags; /* UM_PACKET_DHCP, ... */
    uint32_t window;
    uint32_t frames; /* that were sent: neighbour.c compares */
    uint16_t mtu;
    struct um_frame *queue, **queue_end; /* frames that wait for room */
    size_t queued;                       /* their bytes */
};

struct um_unsent;
struct um_kept;

/* Packets that are kept and come anew (syn.c). */
struct um_syns {
    struct um_syn *first, **end;
    uint32_t count;
};

struct um_listener {
    struct um_listener *next;
    struct um_stackd *d;
    struct tcp_pcb *pcb;
    uint64_t id;
    struct um_syns syns; /* of syn.c: what waits for the switchboard's word */
};

enum { UM_FLOW_BUCKETS = 4096 };

struct um_stackd {
    int epoll_fd;
    struct um_watch control;
    struct um_unsent *unsent, **unsent_end; /* messages that wait for room */
    size_t unsent_bytes;
    bool ended; /* the switchboard is gone */
    struct um_card *cards;
    struct pbuf *spare; /* for the next frame */
    struct um_flow *flows[UM_FLOW_BUCKETS];
    unsigned int busy;             /* how many of them have data under way */
    struct um_flow *waiting;       /* to deliver at the end of the batch */
    struct um_recovery *under_way; /* connections with unacknowledged data */
    bool ticking;                  /* recovery.c looks at them now and then */
    struct um_listener *listeners;
    struct um_lookup *lookup; /* of connections, for lookup.c */
    struct um_kept *kept;     /* of neighbour.c, oldest first */
    uint32_t kept_count;
    uint64_t serial;
    void **later;
    size_t later_count, later_room;
    uint8_t ports[65536 / 8];     /* UDP ports that are taken */
    struct udp_pcb *udp;          /* sends for all of them */
    struct raw_pcb *raw[2];       /* the same for ICMP: IPv4, IPv6 */
    struct raw_pcb *udp4, *udp6;  /* take what comes */
    struct raw_pcb *tcp[2];       /* look at it: IPv4, IPv6 */
    bool admitting;               /* packets that were kept come anew */
    struct um_syns strays;        /* that nobody seems to wait for */
    uint8_t *message;             /* the one in hand */
    uint8_t *scratch;             /* UM_PACKET_DATA_MAX bytes, for a moment */
    netif_ext_callback_t changes; /* of lwIP's addresses, for address.c */
    bool addresses_changed;       /* there is something to tell */
};

/* ---- loop.c ---- */

/* control: the line to the switchboard, owned from now on. */
struct um_stackd *um_stackd_create(int control);
void um_stackd_destroy(struct um_stackd *d);
/* Wait for events, at most limit_ms (-1: as long as lwIP has nothing to do), and
 * do all that is to be done now. Return: how many there were; -EPIPE when the
 * switchboard is gone. */
int um_stackd_step(struct um_stackd *d, int limit_ms);
/* Watch a descriptor; events 0: no more. */
int um_watch(struct um_stackd *d, struct um_watch *watch, uint32_t events);
void um_later(struct um_stackd *d, void *memory);

/* ---- control.c ---- */

/* Send a message. fd: goes along (and stays the caller's), or -1. */
void um_tell(struct um_stackd *d, const struct um_packet *packet,
             const void *data, int fd);
void um_control_ready(struct um_stackd *d, struct um_watch *watch,
                      uint32_t events);
/* Obey all that the switchboard has said so far. */
void um_control_drain(struct um_stackd *d);
void um_control_close(struct um_stackd *d);

/* ---- card.c ---- */

struct um_card *um_card_find(struct um_stackd *d, uint32_t number);
/* The card of a netif of lwIP. */
struct um_card *um_card_of(struct netif *netif);
/* Make the card that a message asks for. fd: the line to its plug process, owned
 * from now on, or -1. Return: 0, or why there is none, negative. */
int um_card_add(struct um_stackd *d, const struct um_packet *packet, int fd);
/* Drop the frames that wait. */
void um_card_empty(struct um_card *card);
/* The batch of events in hand is over: send what was gathered. */
void um_cards_flush(struct um_stackd *d);
void um_cards_close(struct um_stackd *d);
/* A frame has come, behind ETH_PAD_SIZE bytes; p is taken. */
void um_card_input(struct um_card *card, struct pbuf *p);
/* Make lwIP's side of one, whose state is its card. */
err_t um_card_netif(struct netif *netif);

/* ---- address.c ---- */

/* Names, to lwIP's form and back. */
void um_addr_to_lwip(struct um_stackd *d, const struct um_packet_name *name,
                     ip_addr_t *ret);
void um_addr_from_lwip(struct um_stackd *d, const ip_addr_t *addr,
                       uint16_t port, struct um_packet_name *ret);
/* A card is up, and asks for what it is to have; it ends. */
void um_addresses_begin(struct um_card *card);
/* A link has come. */
void um_addresses_renew(struct um_card *card);
void um_addresses_end(struct um_card *card);
/* Do what a message asks for. */
int um_card_address(struct um_stackd *d, const struct um_packet *packet);
/* Have a card say, now and then, that it is a router. */
void um_card_announce(struct um_stackd *d, const struct um_packet *packet,
                      const uint8_t *data);
/* Somebody on its link asks for routers. */
void um_card_solicited(struct um_card *card);
/* Note where a neighbour is found, as if it had said so. */
void um_card_neighbour(struct um_stackd *d, const struct um_packet *packet);
int um_card_gateway(struct um_stackd *d, const struct um_packet *packet);
int um_card_group(struct um_stackd *d, const struct um_packet *packet);
/* Does the card have this address? */
bool um_card_owns4(struct um_card *card, const ip4_addr_t *addr);
/* Ask for a neighbour, if lwIP does not. */
void um_solicit(struct um_card *card, const ip6_addr_t *target);
/* The netif of the card that a frame is for. */
struct netif *um_address_netif(struct um_card *card, const struct pbuf *p);
/* A router advertisement of len bytes has come. Return: it is for lwIP, too. */
bool um_router_speaks(struct um_card *card, const uint8_t *message, size_t len);
/* The batch of events in hand is over: tell what has changed. */
void um_addresses_tell(struct um_stackd *d);
void um_netif_changed(struct netif *netif, netif_nsc_reason_t reason,
                      const netif_ext_callback_args_t *args);

/* ---- route.c ---- */

void um_forward_set(bool on);
/* A netif's way out for an IPv4 packet, whose header is p's first byte. */
err_t um_output4(struct netif *netif, struct pbuf *p, const ip4_addr_t *dest);

/* ---- link.c ---- */

/* The plug process says something. */
void um_link_told(struct um_stackd *d, struct um_watch *watch, uint32_t events);
/* receive() has found the link's end. */
void um_link_lost(struct um_card *card);
void um_link_close(struct um_card *card);

/* wire.c, frames.c: make a descriptor (owned from now on) the card's link.
 * Return: 0 or a negative errno. */
int um_wire_open(struct um_card *card, int fd);
int um_frames_open(struct um_card *card, int fd);

/* ---- flow.c: streams ---- */

void um_flow_connect(struct um_stackd *d, const struct um_packet *packet,
                     const uint8_t *data);
void um_flow_options(struct um_stackd *d, const struct um_packet *packet,
                     const uint8_t *data);
void um_flow_listen(struct um_stackd *d, const struct um_packet *packet);
/* fd: owned from now on. */
void um_flow_start(struct um_stackd *d, uint64_t id, int fd);
void um_flow_close(struct um_stackd *d, uint64_t id);
/* A segment of this connection, with this sequence number, was too long for a
 * link on its way, which takes packets of mtu bytes. */
void um_flow_mtu(const ip_addr_t *local, uint16_t local_port,
                 const ip_addr_t *remote, uint16_t remote_port,
                 uint32_t sequence, uint32_t mtu);
/* The batch of frames in hand is over: write what it brought. */
void um_flows_deliver(struct um_stackd *d);
void um_flows_close(struct um_stackd *d);

/* ---- neighbour.c ---- */

/* netif->output, netif->output_ip6: with an eye on what has to wait. */
err_t um_neighbour_output4(struct netif *netif, struct pbuf *p,
                           const ip4_addr_t *dest);
err_t um_neighbour_output6(struct netif *netif, struct pbuf *p,
                           const ip6_addr_t *dest);
/* A frame leaves. */
void um_neighbour_frame(struct um_card *card, struct pbuf *p);
void um_neighbours_close(struct um_stackd *d);

/* ---- syn.c ---- */

int um_syns_open(struct um_stackd *d);
void um_syns_close(struct um_stackd *d);
/* A listener is still there. */
void um_syns_admit(struct um_stackd *d, uint64_t id);
void um_syns_init(struct um_syns *syns);
/* Keep the packet in hand, whose IP header is p's first byte. Takes p. */
void um_syns_keep(struct um_syns *syns, struct pbuf *p);
/* Let what is kept come anew. */
void um_syns_release(struct um_stackd *d, struct um_syns *syns);
/* The same for strays, after all that the switchboard has said. */
void um_strays_release(struct um_stackd *d);

/* ---- ended.c: connections that are over, but for lwIP ---- */

/* A segment has come, whose header is at this place of a packet. */
void um_ended_heed(const struct pbuf *p, uint16_t at);
/* A connection between these names is to be made: there is none. */
void um_ended_make_way(const ip_addr_t *local, uint16_t local_port,
                       const ip_addr_t *remote, uint16_t remote_port);
/* One more connection: forget the oldest if there are too many. */
void um_ended_limit(void);

/* ---- lookup.c ---- */

int um_lookup_open(struct um_stackd *d);
void um_lookup_close(struct um_stackd *d);
/* A connection is to be found by its names; it is first in lwIP's list. */
void um_lookup_add(struct um_stackd *d, struct tcp_pcb *pcb);
/* So are those that this listener brings. */
void um_lookup_listen(struct um_stackd *d, struct tcp_pcb *listener);

/* ---- dgram.c ---- */

int um_dgrams_open(struct um_stackd *d);
void um_dgrams_close(struct um_stackd *d);
void um_dgram_port(struct um_stackd *d, uint16_t port, bool taken);
void um_dgram_send(struct um_stackd *d, const struct um_packet *packet,
                   const uint8_t *data);

/* ---- of the program: main.c, or the tests' ---- */

uint32_t um_stackd_now_ms(void);

#endif
