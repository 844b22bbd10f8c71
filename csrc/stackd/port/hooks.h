/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hooks.h - what lwIP asks us while it works (LWIP_HOOK_* of lwipopts.h)
 */
#ifndef UM_STACKD_HOOKS_H
#define UM_STACKD_HOOKS_H

#include <stdint.h>

#include "lwip/err.h"
#include "lwip/ip_addr.h"

struct netif;
struct pbuf;
struct dhcp_msg;

enum { UM_DHCP_DOMAIN = 15 };

/* ---- route.c ---- */

/* The netif by which a packet leaves; NULL: none leads there. src: NULL or
 * "any" if it is not known, or not ours. */
struct netif *um_route4(const ip4_addr_t *src, const ip4_addr_t *dest);
struct netif *um_route6(const ip6_addr_t *src, const ip6_addr_t *dest);
/* The next hop; NULL: a router that has announced itself. */
const ip6_addr_t *um_gateway6(struct netif *netif, const ip6_addr_t *dest);
/* What is not for us: may lwIP forward it? Return: 0 no, and all is said; -1 if
 * it finds no fault itself. */
int um_forward4(struct pbuf *p);
/* A packet comes. Return: 1 if it was not for us and is forwarded. */
int um_input6(struct pbuf *p, struct netif *netif);
/* The first sequence number of a connection. */
uint32_t um_first_sequence(const ip_addr_t *local, uint16_t local_port,
                           const ip_addr_t *remote, uint16_t remote_port);

/* ---- flow.c: segments, before lwIP acts upon them, and ready to go ---- */

struct tcp_pcb;
struct tcp_hdr;

/* A header's options: first_len bytes of them behind it, and the rest. */
struct um_tcp_options {
    const uint8_t *first, *rest;
    uint16_t first_len, len;
};

/* Return: ERR_OK. */
err_t um_segment_came(const struct tcp_pcb *pcb, const struct tcp_hdr *header,
                      const struct um_tcp_options *options);
/* Return: options, to which nothing is added. */
uint32_t *um_segment_leaves(struct tcp_hdr *header, const struct tcp_pcb *pcb,
                            uint32_t *options);

/* ---- address.c ---- */

/* A message to a DHCP server is ready but for its end; len: of its options. */
void um_dhcp_ask(struct dhcp_msg *message, uint16_t *len);
/* A DHCP server has said something that lwIP has no use for. */
void um_dhcp_option(struct netif *netif, uint8_t option, uint8_t len,
                    struct pbuf *p, uint16_t at);

#endif
