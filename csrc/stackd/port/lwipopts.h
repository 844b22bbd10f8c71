/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * lwipopts.h - lwIP as a stack server has it
 *
 * One thread and its own loop, so no operating system layer; memory from
 * malloc(), so no pools to run out of. What differs from a small device is said
 * below, most of it because a card may take frames of 64 KiB.
 */
#ifndef UM_LWIPOPTS_H
#define UM_LWIPOPTS_H

#include <stdint.h>

/* ---- surroundings ---- */

#define NO_SYS                         1
#define SYS_LIGHTWEIGHT_PROT           0
#define LWIP_SOCKET                    0
#define LWIP_NETCONN                   0
#define LWIP_TIMERS                    1
#define MEM_LIBC_MALLOC                1
#define MEMP_MEM_MALLOC                1
#define MEM_ALIGNMENT                  8
#define LWIP_STATS                     0
#define LWIP_NETIF_EXT_STATUS_CALLBACK 1
#define LWIP_NETIF_HOSTNAME            1
/* A link without errors needs no checksums (UM_PACKET_BARE). */
#define LWIP_CHECKSUM_CTRL_PER_NETIF 1
/* A datagram of 64 KiB in frames of 1,500 has 45 pieces, and many share it. */
#define LWIP_PBUF_REF_T uint16_t

/* ---- link ---- */

#define LWIP_ARP 1
/* Before the 14 bytes of a frame's header: what follows is aligned. */
#define ETH_PAD_SIZE   2
#define ARP_QUEUEING   1
#define ARP_QUEUE_LEN  64
#define ARP_TABLE_SIZE 127 /* an index is an s8_t in places */

/* A packet whose neighbour is not known yet waits by reference if lwIP takes its
 * memory for constant, as it does with what tcp_write() was given without a copy.
 * That memory is a flow's, which may be reset before the neighbour answers. */
#define PBUF_NEEDS_COPY(p) 1

/* ---- IP ---- */

#define LWIP_IPV4          1
#define LWIP_IPV6          1
#define IP_DEFAULT_TTL     64
#define IP_REASS_MAX_PBUFS 1024
#define MEMP_NUM_REASSDATA 64
#define IP_REASS_MAXAGE    30
#define IP_FORWARD         1 /* where um_forward4() says so */
/* Two networks may share a link. */
#define IP_FORWARD_ALLOW_TX_ON_RX_NETIF 1
#define LWIP_RAW                        1
#define LWIP_ICMP                       1
#define LWIP_IGMP                       1
#define LWIP_MULTICAST_TX_OPTIONS       1
#define LWIP_DHCP                       1
/* A server looks whether an address is taken before it offers it; to do that
 * again takes a second more, in which a view waits. */
#define DHCP_DOES_ARP_CHECK 0
/* Its resolver is not compiled: address.c takes what DHCP would tell it. */
#define LWIP_DNS                   1
#define DNS_MAX_SERVERS            4
#define LWIP_DHCP_MAX_DNS_SERVERS  4
#define LWIP_DHCP6_MAX_DNS_SERVERS 4

/* A pointer of 64 bits does not fit into the header of a fragment, where lwIP
 * keeps its list; with this it copies the header away. */
#define IPV6_FRAG_COPYHEADER      1
#define LWIP_IPV6_NUM_ADDRESSES   8
#define LWIP_IPV6_DHCP6           1
#define LWIP_IPV6_DHCP6_STATELESS 1
#define LWIP_IPV6_MLD             1
#define LWIP_ND6_NUM_NEIGHBORS    100 /* an index is an s8_t */
#define LWIP_ND6_NUM_DESTINATIONS 100
#define LWIP_ND6_NUM_ROUTERS      4
#define LWIP_ND6_NUM_PREFIXES     8
#define MEMP_NUM_ND6_QUEUE        256

/* ---- UDP ---- */

#define LWIP_UDP             1
#define LWIP_NETBUF_RECVINFO 1

/* ---- TCP ---- */

#define LWIP_TCP           1
#define LWIP_TCP_KEEPALIVE 1
#define TCP_LISTEN_BACKLOG 1
#define SO_REUSE           1
#define TCP_QUEUE_OOSEQ    1
/* The peer is told what we have beyond a hole; what it tells of that kind is for
 * recovery.c. */
#define LWIP_TCP_SACK_OUT     1
#define LWIP_TCP_MAX_SACK_NUM 4
/* Of an MTU of 65,535; tcp_eff_send_mss() brings it down to the card's. */
#define TCP_MSS 65495
/* We write without copying, so no room is to be kept in a segment: it would
 * be 64 KiB for each that is written with a copy. */
#define TCP_OVERSIZE   0
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE  7
/* The windows are chosen when a card is added (see card.c). The preprocessor
 * reads an unknown name as 0, so lwIP's checks see the constant. */
extern uint32_t um_tcp_window;
#define TCP_WND          (um_tcp_window ? um_tcp_window : 0x400000)
#define TCP_SND_BUF      (um_tcp_window ? um_tcp_window : 0x400000)
#define TCP_SND_QUEUELEN 0xff00
/* Not of the window: a 64 KiB MSS is far from what they are made for. */
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1
/* lwIP counts time in ticks of twice this, 500 ms for a small device. With 100
 * a lost segment is sent again after 0.3 s and an acknowledgement delayed by at
 * most 50 ms: what Linux does (0.2 s, 40 ms). */
#define TCP_TMR_INTERVAL 50
#define TCP_SYNMAXRTX    7 /* see dialling() of flow.c */
/* TIME_WAIT is twice as long, 60 s as on Linux; see ended.c. */
#define TCP_MSL 30000
/* 0: of flow.c; 1: of lookup.c. */
#define LWIP_TCP_PCB_NUM_EXT_ARGS 2
#define LWIP_TCP_RTO_TIME         1000

/* ---- what is asked of us: hooks.h ---- */

#define LWIP_HOOK_FILENAME                "port/hooks.h"
#define LWIP_HOOK_IP4_ROUTE_SRC           um_route4
#define LWIP_HOOK_IP4_CANFORWARD(p, dest) um_forward4(p)
#define LWIP_HOOK_IP6_ROUTE               um_route6
#define LWIP_HOOK_IP6_INPUT               um_input6
#define LWIP_HOOK_ND6_GET_GW              um_gateway6
#define LWIP_HOOK_TCP_ISN                 um_first_sequence
#define LWIP_HOOK_TCP_INPACKET_PCB(pcb, header, len, len1, opt2, p)            \
    um_segment_came(pcb, header,                                               \
                    &(const struct um_tcp_options){                            \
                        (const u8_t *)(header) + TCP_HLEN, opt2, len1, len})
#define LWIP_HOOK_TCP_OUT_ADD_TCPOPTS(p, header, pcb, options)                 \
    um_segment_leaves(header, pcb, options)
#define LWIP_HOOK_DHCP_APPEND_OPTIONS(netif, dhcp, state, message, type, len)  \
    um_dhcp_ask(message, len)
#define LWIP_HOOK_DHCP_PARSE_OPTION(netif, dhcp, state, message, type, option, \
                                    len, p, at)                                \
    um_dhcp_option(netif, option, len, p, at)

#endif
