/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * route.c - which card a packet leaves by, and packets that only pass
 *
 * For what programs send, the switchboard has chosen the source address by its
 * table of routes; here the card is found that leads to the destination, as it
 * did: the longest prefix, then a gateway, that of the source's card first.
 *
 * Forwarding is lwIP's for IPv4 (ip4_forward()) and ours for IPv6, where lwIP
 * has no switch for it. What cannot be forwarded is told to its sender by us in
 * both: lwIP keeps silent about ICMP echoes (so traceroute -I sees nothing), and
 * does not say which size would have been right.
 */
#include <string.h>

#include "lwip/etharp.h"
#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/prot/icmp.h"
#include "port/hooks.h"
#include "stackd.h"

enum {
    ERROR_HEADER = 8,
    QUOTED4_MAX = 576 - IP_HLEN - ERROR_HEADER,   /* RFC 1812 */
    QUOTED6_MAX = 1280 - IP6_HLEN - ERROR_HEADER, /* RFC 4443 */
    ERROR_TTL = 64,
    ICMP6_ECHO = 128, /* messages from here on are no errors */
    EUI_PREFIX = 64
};

static bool forwards;

void um_forward_set(bool on)
{
    forwards = on;
}

static bool is_usable(const struct netif *netif)
{
    return netif_is_up(netif) && netif_is_link_up(netif);
}

/* ---- IPv4 ---- */

struct netif *um_route4(const ip4_addr_t *src, const ip4_addr_t *dest)
{
    struct netif *netif, *best = NULL, *way = NULL;
    bool many = ip4_addr_ismulticast(dest) || dest->addr == IPADDR_BROADCAST;
    uint32_t best_mask = 0;
    bool best_own = false, way_own = false;
    NETIF_FOREACH(netif)
    {
        if (!is_usable(netif) || ip4_addr_isany(netif_ip4_addr(netif)))
            continue;
        struct um_card *card = um_card_of(netif);
        bool own = src && um_card_owns4(card, src);
        uint32_t mask = lwip_ntohl(ip4_addr_get_u32(netif_ip4_netmask(netif)));
        if (many ? own
                 : ip4_addr_netcmp(dest, netif_ip4_addr(netif),
                                   netif_ip4_netmask(netif))) {
            if (!best || (own && !best_own) ||
                (own == best_own && mask > best_mask)) {
                best = netif;
                best_own = own;
                best_mask = mask;
            }
        } else if (!ip4_addr_isany(netif_ip4_gw(netif)) &&
                   (!way || (own && !way_own))) {
            way = netif;
            way_own = own;
        }
    }
    return best ? best : way;
}

/* TCP finds the longest packet that its path takes (RFC 1191): no router is to
 * divide its segments, but to say that they are too long (um_flow_mtu()). */
err_t um_output4(struct netif *netif, struct pbuf *p, const ip4_addr_t *dest)
{
    struct ip_hdr *header = p->payload;
    ip4_addr_t src;
    ip4_addr_copy(src, header->src);
    if (IPH_PROTO(header) == IP_PROTO_TCP && !IPH_OFFSET(header) &&
        um_card_owns4(um_card_of(netif), &src)) {
        IPH_OFFSET_SET(header, PP_HTONS(IP_DF));
        IF__NETIF_CHECKSUM_ENABLED(netif, NETIF_CHECKSUM_GEN_IP)
        {
            uint32_t sum = ~lwip_ntohs(IPH_CHKSUM(header)) & UINT16_MAX;
            sum += IP_DF;
            sum = (sum & UINT16_MAX) + (sum >> 16);
            IPH_CHKSUM_SET(header, lwip_htons((u16_t)~sum));
        }
    }
    return um_neighbour_output4(netif, p, dest);
}

/* Say why a packet, whose IP header is p's first byte, goes no further. */
static void refuse4(struct pbuf *p, u8_t type, u8_t code, u16_t mtu)
{
    const struct ip_hdr *header = p->payload;
    struct netif *in = netif_get_by_index(p->if_idx);
    u16_t hlen = IPH_HL_BYTES(header);
    u8_t inner = IPH_PROTO(header) == IP_PROTO_ICMP && p->tot_len > hlen
                     ? pbuf_get_at(p, hlen)
                     : ICMP_ECHO;
    /* RFC 1812, 4.3.2.7: not of an error, nor of any but the first piece. */
    if ((inner != ICMP_ECHO && inner != ICMP_ER) ||
        IPH_OFFSET(header) & PP_HTONS(IP_OFFMASK) ||
        ip4_addr_isany(ip4_current_src_addr()))
        return;
    struct netif *out =
        in ? um_route4(netif_ip4_addr(in), ip4_current_src_addr()) : NULL;
    u16_t quoted = LWIP_MIN(p->tot_len, QUOTED4_MAX);
    struct pbuf *q =
        out ? pbuf_alloc(PBUF_IP, ERROR_HEADER + quoted, PBUF_RAM) : NULL;
    if (!q)
        return;
    uint8_t *error = q->payload;
    memset(error, 0, ERROR_HEADER);
    error[0] = type;
    error[1] = code;
    error[6] = (uint8_t)(mtu >> 8);
    error[7] = (uint8_t)mtu;
    pbuf_copy_partial(p, error + ERROR_HEADER, quoted, 0);
    u16_t sum = inet_chksum_pbuf(q);
    memcpy(error + 2, &sum, sizeof sum);
    ip4_output_if(q, netif_ip4_addr(in), ip4_current_src_addr(), ERROR_TTL, 0,
                  IP_PROTO_ICMP, out);
    pbuf_free(q);
}

int um_forward4(struct pbuf *p)
{
    const struct ip_hdr *header = p->payload;
    const ip4_addr_t *dest = ip4_current_dest_addr();
    if (!forwards || p->flags & (PBUF_FLAG_LLBCAST | PBUF_FLAG_LLMCAST) ||
        ip4_addr_ismulticast(dest) || ip4_addr_islinklocal(dest) ||
        ip4_addr_isloopback(dest))
        return 0;
    struct netif *out = um_route4(ip4_current_src_addr(), dest);
    bool whole = IPH_OFFSET(header) & PP_HTONS(IP_DF);
    if (!out)
        refuse4(p, ICMP_DUR, ICMP_DUR_NET, 0);
    else if (IPH_TTL(header) <= 1)
        refuse4(p, ICMP_TE, ICMP_TE_TTL, 0);
    else if (whole && p->tot_len > out->mtu)
        refuse4(p, ICMP_DUR, ICMP_DUR_FRAG, out->mtu);
    else
        return -1;
    return 0;
}

/* ---- IPv6 ---- */

static bool has_prefix(const ip6_addr_t *addr, const ip6_addr_t *prefix,
                       int bits)
{
    for (int i = 0; i < 4 && bits > 0; i++, bits -= 32) {
        uint32_t mask = bits >= 32 ? UINT32_MAX : ~(UINT32_MAX >> bits);
        if ((addr->addr[i] ^ prefix->addr[i]) & lwip_htonl(mask))
            return false;
    }
    return true;
}

/* Return: how many bits of a network on the card's link it shares, or 0. */
static int bits_on_link(const struct um_card *card, const ip6_addr_t *addr)
{
    const struct netif *netif = &card->netif;
    int best = 0;
    for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
        int bits = card->prefix6[i];
        if (bits > best && ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) &&
            has_prefix(addr, netif_ip6_addr(netif, i), bits))
            best = bits;
    }
    for (int i = 0; i < LWIP_ND6_NUM_PREFIXES; i++)
        if (EUI_PREFIX > best && prefix_list[i].netif == netif &&
            prefix_list[i].invalidation_timer > 0 &&
            has_prefix(addr, &prefix_list[i].prefix, EUI_PREFIX))
            best = EUI_PREFIX;
    return best;
}

static bool owns6(const struct um_card *card, const ip6_addr_t *addr)
{
    for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++)
        if (ip6_addr_isvalid(netif_ip6_addr_state(&card->netif, i)) &&
            ip6_addr_cmp_zoneless(addr, netif_ip6_addr(&card->netif, i)))
            return true;
    return false;
}

static bool has_gateway6(const struct um_card *card)
{
    return card->router_count || !ip6_addr_isany(&card->gateway6);
}

struct netif *um_route6(const ip6_addr_t *src, const ip6_addr_t *dest)
{
    struct netif *netif, *best = NULL, *way = NULL;
    int best_bits = 0;
    bool best_own = false, way_own = false;
    NETIF_FOREACH(netif)
    {
        struct um_card *card = um_card_of(netif);
        if (netif != &card->netif || !is_usable(netif))
            continue;
        bool own = src && owns6(card, src);
        int bits = bits_on_link(card, dest);
        if (bits > best_bits ||
            (bits && bits == best_bits && own && !best_own)) {
            best = netif;
            best_bits = bits;
            best_own = own;
        } else if (has_gateway6(card) && (!way || (own && !way_own))) {
            way = netif;
            way_own = own;
        }
    }
    return best ? best : way;
}

const ip6_addr_t *um_gateway6(struct netif *netif, const ip6_addr_t *dest)
{
    struct um_card *card = um_card_of(netif);
    const ip6_addr_t *hop = dest;
    if (!bits_on_link(card, dest))
        hop = ip6_addr_isany(&card->gateway6) ? NULL : &card->gateway6;
    if (hop)
        um_solicit(card, hop);
    return hop;
}

static void refuse6(struct pbuf *p, struct netif *in, const ip6_addr_t *to,
                    u8_t type, u8_t code, u32_t value)
{
    const struct ip6_hdr *header = p->payload;
    u8_t inner = IP6H_NEXTH(header) == IP6_NEXTH_ICMP6 && p->tot_len > IP6_HLEN
                     ? pbuf_get_at(p, IP6_HLEN)
                     : ICMP6_ECHO;
    const ip_addr_t *from = ip6_select_source_address(in, to);
    u16_t quoted = LWIP_MIN(p->tot_len, QUOTED6_MAX);
    struct pbuf *q = from && inner >= ICMP6_ECHO
                         ? pbuf_alloc(PBUF_IP, ERROR_HEADER + quoted, PBUF_RAM)
                         : NULL;
    if (!q)
        return;
    struct icmp6_hdr *error = q->payload;
    *error = (struct icmp6_hdr){
        .type = type, .code = code, .data = lwip_htonl(value)};
    pbuf_copy_partial(p, (uint8_t *)q->payload + ERROR_HEADER, quoted, 0);
    error->chksum =
        ip6_chksum_pseudo(q, IP6_NEXTH_ICMP6, q->tot_len, ip_2_ip6(from), to);
    ip6_output_if(q, ip_2_ip6(from), to, ERROR_TTL, 0, IP6_NEXTH_ICMP6, in);
    pbuf_free(q);
}

static bool is_local6(const ip6_addr_t *addr)
{
    return ip6_addr_isany(addr) || ip6_addr_ismulticast(addr) ||
           ip6_addr_islinklocal(addr) || ip6_addr_isloopback(addr);
}

static void forward6(struct pbuf *p, struct netif *in, const ip6_addr_t *src,
                     const ip6_addr_t *dest)
{
    struct ip6_hdr *header = p->payload;
    struct netif *out = um_route6(NULL, dest);
    if (!out) {
        refuse6(p, in, src, ICMP6_TYPE_DUR, ICMP6_DUR_NO_ROUTE, 0);
    } else if (IP6H_HOPLIM(header) <= 1) {
        refuse6(p, in, src, ICMP6_TYPE_TE, ICMP6_TE_HL, 0);
    } else if (p->tot_len > netif_mtu6(out)) {
        refuse6(p, in, src, ICMP6_TYPE_PTB, 0, netif_mtu6(out));
    } else {
        IP6H_HOPLIM_SET(header, IP6H_HOPLIM(header) - 1);
        out->output_ip6(out, p, dest);
    }
}

int um_input6(struct pbuf *p, struct netif *netif)
{
    const struct ip6_hdr *header = p->payload;
    ip6_addr_t src, dest;
    if (!forwards || p->len < IP6_HLEN ||
        IP6H_PLEN(header) > p->tot_len - IP6_HLEN)
        return 0;
    ip6_addr_copy_from_packed(src, header->src);
    ip6_addr_copy_from_packed(dest, header->dest);
    if (is_local6(&src) || is_local6(&dest))
        return 0;
    struct netif *other;
    NETIF_FOREACH(other)
    {
        if (owns6(um_card_of(other), &dest))
            return 0;
    }
    pbuf_realloc(p, (u16_t)(IP6_HLEN + IP6H_PLEN(header)));
    if (!(p->flags & (PBUF_FLAG_LLBCAST | PBUF_FLAG_LLMCAST)))
        forward6(p, netif, &src, &dest);
    pbuf_free(p);
    return 1;
}

/* ---- TCP ---- */

/* RFC 6528: nobody can guess it who does not see the connection, and it grows,
 * so that a connection which comes again is told from its forerunner. */
uint32_t um_first_sequence(const ip_addr_t *local, uint16_t local_port,
                           const ip_addr_t *remote, uint16_t remote_port)
{
    enum { WORDS = 9, ROUNDS = 3 };
    static uint64_t key[2];
    while (!key[0])
        for (int i = 0; i < 2; i++)
            key[i] = (uint64_t)um_random() << 32 | um_random();
    uint32_t words[WORDS] = {(uint32_t)local_port << 16 | remote_port};
    const ip_addr_t *ends[2] = {local, remote};
    for (int i = 0; i < 2; i++) {
        if (IP_IS_V4(ends[i]))
            words[1 + 4 * i] = ip4_addr_get_u32(ip_2_ip4(ends[i]));
        else
            memcpy(&words[1 + 4 * i], ip_2_ip6(ends[i])->addr, 16);
    }
    uint64_t a = key[0], b = key[1];
    for (int i = 0; i < WORDS + ROUNDS; i++) {
        b ^= i < WORDS ? words[i] : 0;
        a += b;
        b = (b << 13 | b >> 51) ^ a;
        a = (a << 32 | a >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    }
    return (uint32_t)(a >> 32) +
           um_stackd_now_ms() * 15625; /* a tick is 64 ns */
}
