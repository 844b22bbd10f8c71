/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * packet_road.h - what the switchboard and a stack server say to each other
 *
 * The line is a pair of SEQPACKET sockets: a message is a struct um_packet, then
 * its data, and at most one descriptor. Who is asked answers by the id that it
 * was asked with; nothing else is waited for, so neither side ever blocks.
 *
 * A connection, by either side's wish, comes to stand in lwIP first; only then
 * the switchboard hands over its end of the surrogate (START). So a connect that
 * fails leaves the end where the error is shown, one that succeeds is unstuffed
 * before another process reads from it, and of no descriptor there are two
 * readers. What the peer sends meanwhile waits in lwIP's window.
 *
 * A card is plugged in by a plug process (plug.h), which speaks the same language
 * with the supervisor, who says what to open, and with the stack server, which
 * gets the ends of links from it and cannot open anything itself.
 *
 * Datagrams have no state in the stack server at all: it is told which UDP ports
 * are taken, so that it says "unreachable" for the others, and hands over what
 * comes. Who gets it, the switchboard decides, as on the other roads.
 */
#ifndef UM_PACKET_ROAD_H
#define UM_PACKET_ROAD_H

#include <stdint.h>

enum um_packet_kind {
    /* From the switchboard. */
    UM_PACKET_CARD = 1, /* card, mtu, mac, flags, descriptor: the line to its
                           plug process. Answered: READY */
    UM_PACKET_ADDRESS, /* card, local, prefix; flags: UM_PACKET_REMOVE, _AT_ONCE */
    UM_PACKET_GATEWAY, /* card, remote; flags: UM_PACKET_REMOVE */
    UM_PACKET_FORWARD, /* flags: 1 on, 0 off */
    UM_PACKET_CONNECT, /* id, local, remote, card (0: whichever leads there);
                           more as of OPTIONS. Answered: CONNECTED or ENDED */
    UM_PACKET_LISTEN,  /* id, local; flags: UM_PACKET_V6ONLY. Answered: READY */
    UM_PACKET_START,   /* id, descriptor: move the bytes */
    UM_PACKET_CLOSE,   /* id of a listener, or of a connection: reset it */
    UM_PACKET_PORT,    /* local.port: taken; flags: UM_PACKET_REMOVE */
    UM_PACKET_GROUP,   /* card, remote: a multicast group that is joined there;
                           flags: UM_PACKET_REMOVE */
    UM_PACKET_SEND,    /* protocol, local, remote, card, ttl, tos; data */
    UM_PACKET_OPTIONS, /* id, ttl, tos; data: struct um_packet_options */
    UM_PACKET_ADMIT,   /* id of a listener: it is still there */
    UM_PACKET_ANNOUNCE, /* card; data: the router advertisement that it sends */
    UM_PACKET_NEIGHBOUR, /* card, remote (IPv4), mac: where to find it */
    /* From the stack server. */
    UM_PACKET_READY = 64, /* id or card, error; of a card: mtu, mac */
    UM_PACKET_HAS,       /* card, local, prefix: an address that it got or, with
                            UM_PACKET_REMOVE, lost; error EADDRINUSE: because
                            another has it */
    UM_PACKET_ROUTER,    /* card, remote: a gateway that it got or, with
                            UM_PACKET_REMOVE, lost */
    UM_PACKET_DNS,       /* card; data: the name servers that it knows of now,
                            16 bytes each */
    UM_PACKET_DOMAIN,    /* card; data: the domain that names are searched in,
                            or nothing */
    UM_PACKET_ASK,       /* id of a listener, local, remote: somebody begins to
                            connect. Answered: ADMIT, or CLOSE if it is gone */
    UM_PACKET_CONNECTED, /* id, local, mss */
    UM_PACKET_ACCEPTED,  /* id (new), listener, local, remote, mss */
    UM_PACKET_ENDED,     /* id, error; after a reset the descriptor comes back,
                            for the program is to see it */
    UM_PACKET_LOST,      /* card: it has no link */
    UM_PACKET_FOUND,     /* card, mtu: it has a link */
    UM_PACKET_RECEIVED,  /* protocol, local, remote, card, ttl, tos; data */
    /* From the supervisor to a plug process. */
    UM_PACKET_PLUG /* mtu, flags: UM_PACKET_WIRE, _BARE; data: the VNL, or
                            the wire's path. Answered: READY */
    /* Between a plug process and the stack server: UM_PACKET_FOUND, with the
     * link's id, mtu, flags (UM_PACKET_TRAINS, _BARE) and descriptor, and
     * UM_PACKET_LOST with its id, from whoever of them notices. */
};

enum {
    UM_PACKET_REMOVE = 1,
    UM_PACKET_V6ONLY = 2,
    /* Of CARD: how it gets its addresses. */
    UM_PACKET_DHCP = 4,
    UM_PACKET_DHCP6 = 8,
    UM_PACKET_SLAAC = 16,
    /* Packets have no checksums: both ends are ours, and neither forwards. */
    UM_PACKET_BARE = 32,
    /* Of ADDRESS: it counts at once; a second one on the link is told later. */
    UM_PACKET_AT_ONCE = 64,
    /* Of CARD: routers and name servers come from router advertisements, as
     * with UM_PACKET_SLAAC, but no addresses. */
    UM_PACKET_ROUTERS = 128,
    /* Of CARD: it has no IPv6, not even an address of its own making. */
    UM_PACKET_ONLY_V4 = 256,
    /* Of a link: short frames share a message (wire.c). */
    UM_PACKET_TRAINS = 512,
    /* Of PLUG: it is a direct wire. */
    UM_PACKET_WIRE = 1024
};

/* Set in the ids that a stack server gives, for what it accepts. */
#define UM_PACKET_ITS_ID (UINT64_C(1) << 63)

/* IPv6, or IPv4 as ::ffff:a.b.c.d; port in host order. */
struct um_packet_name {
    uint8_t addr[16];
    uint16_t port;
    uint16_t pad;
    uint32_t card; /* of a link-local address, or 0 */
};

struct um_packet {
    uint64_t id, listener;
    uint32_t kind;
    int32_t error; /* errno > 0, or 0 */
    struct um_packet_name local, remote;
    uint32_t card, flags;
    uint16_t protocol, mtu; /* IPPROTO_* */
    int16_t prefix;         /* bits of 128, as everywhere */
    uint8_t ttl, tos, mac[6];
    uint16_t mss; /* longest segment that goes to the peer */
    uint32_t len; /* of the data that follows */
};

/* Of a connection, as its program has set them. 0: as it is by default. */
struct um_packet_options {
    uint32_t keep_idle_ms, keep_interval_ms, keep_count;
    uint32_t user_timeout_ms; /* TCP_USER_TIMEOUT */
    uint16_t mss;             /* TCP_MAXSEG */
    uint8_t keep_alive;
    uint8_t reset; /* its close() is a reset (SO_LINGER without time) */
    uint8_t deaf;  /* SHUT_RD: what comes is dropped */
};

enum { UM_PACKET_DATA_MAX = 65536 };

#endif
