/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * address.c - what a card is told: addresses, routers, name servers, groups
 *
 * They come from the switchboard, or from servers on the link (DHCP, router
 * advertisements, DHCPv6 for name servers); what comes from there, and what is
 * lost again, is told upwards.
 *
 * lwIP has one IPv4 address for a netif. Each further one has a netif of its own
 * beside the card's, which lends it its link: what is sent goes out by either,
 * and what comes is the card's but for ARP, where the netif that is asked for
 * has to answer.
 *
 * A given IPv6 address counts at once (RFC 4429), for nobody wants to wait a
 * second for it; whether another has it is asked at the same time. lwIP takes it
 * from the card if somebody says so, which is told like a lost one.
 *
 * Of name servers and of the domain lwIP has no use for itself: where its
 * resolver would keep them (dns_setserver()), we do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lwip/dhcp.h"
#include "lwip/dhcp6.h"
#include "lwip/dns.h"
#include "lwip/etharp.h"
#include "lwip/icmp6.h"
#include "lwip/igmp.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/mld6.h"
#include "lwip/nd6.h"
#include "lwip/priv/nd6_priv.h"
#include "lwip/prot/dhcp.h"
#include "lwip/prot/nd6.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"
#include "port/hooks.h"
#include "stackd.h"

enum {
    V4_PREFIX = 96,
    ANNOUNCE_MS = 10000,
    SLAAC_PREFIX = 64, /* which lwIP takes every prefix for */
    ARP_ETHERNET = 1,  /* kind of hardware */
    ARP_TARGET = 24,   /* in an ARP packet */
    OPTION_RDNSS = 25, /* RFC 8106 */
    RDNSS_HEADER = 8
};

/* ---- names ---- */

static const uint8_t v4_start[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};

void um_addr_to_lwip(struct um_stackd *d, const struct um_packet_name *name,
                     ip_addr_t *ret)
{
    memset(ret, 0, sizeof *ret);
    if (memcmp(name->addr, v4_start, sizeof v4_start) == 0) {
        memcpy(&ip_2_ip4(ret)->addr, name->addr + 12, 4);
        IP_SET_TYPE_VAL(*ret, IPADDR_TYPE_V4);
        return;
    }
    memcpy(ip_2_ip6(ret)->addr, name->addr, 16);
    IP_SET_TYPE_VAL(*ret, IPADDR_TYPE_V6);
    struct um_card *card = um_card_find(d, name->card);
    if (card)
        ip6_addr_assign_zone(ip_2_ip6(ret), IP6_UNKNOWN, &card->netif);
}

void um_addr_from_lwip(struct um_stackd *d, const ip_addr_t *addr,
                       uint16_t port, struct um_packet_name *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->port = port;
    if (IP_IS_V4(addr)) {
        memcpy(ret->addr, v4_start, sizeof v4_start);
        memcpy(ret->addr + 12, &ip_2_ip4(addr)->addr, 4);
        return;
    }
    memcpy(ret->addr, ip_2_ip6(addr)->addr, 16);
    if (!ip6_addr_has_zone(ip_2_ip6(addr)))
        return;
    for (struct um_card *card = d->cards; card; card = card->next)
        if (ip6_addr_test_zone(ip_2_ip6(addr), &card->netif))
            ret->card = card->number;
}

static bool is_same(const struct um_packet_name *a,
                    const struct um_packet_name *b)
{
    return memcmp(a->addr, b->addr, sizeof a->addr) == 0;
}

/* ---- told upwards ---- */

static void tell_address(struct um_card *card, const ip_addr_t *addr,
                         int prefix, bool there, int error)
{
    struct um_packet packet = {.kind = UM_PACKET_HAS,
                               .error = error,
                               .card = card->number,
                               .prefix = (int16_t)prefix,
                               .flags = there ? 0 : UM_PACKET_REMOVE};
    um_addr_from_lwip(card->d, addr, 0, &packet.local);
    um_tell(card->d, &packet, NULL, -1);
}

static void tell_router(struct um_card *card, const struct um_packet_name *name,
                        bool there)
{
    struct um_packet packet = {.kind = UM_PACKET_ROUTER,
                               .card = card->number,
                               .remote = *name,
                               .flags = there ? 0 : UM_PACKET_REMOVE};
    um_tell(card->d, &packet, NULL, -1);
}

static void tell_router4(struct um_card *card, const ip_addr_t *addr,
                         bool there)
{
    struct um_packet_name name;
    um_addr_from_lwip(card->d, addr, 0, &name);
    if (!ip_addr_isany(addr))
        tell_router(card, &name, there);
}

static int prefix_of(const ip4_addr_t *mask)
{
    return V4_PREFIX + __builtin_popcount(ip4_addr_get_u32(mask));
}

static void ipv4_changed(struct um_card *card, struct netif *netif,
                         netif_nsc_reason_t reason,
                         const netif_ext_callback_args_t *args)
{
    const ip_addr_t *addr = &netif->ip_addr, *mask = &netif->netmask;
    const ip_addr_t *old = addr, *old_mask = mask;
    bool gw = reason & LWIP_NSC_IPV4_GATEWAY_CHANGED;
    if (reason & LWIP_NSC_IPV4_ADDRESS_CHANGED)
        old = args->ipv4_changed.old_address;
    if (reason & LWIP_NSC_IPV4_NETMASK_CHANGED)
        old_mask = args->ipv4_changed.old_netmask;
    if (gw)
        tell_router4(card, args->ipv4_changed.old_gw, false);
    if (old != addr || old_mask != mask) {
        if (!ip_addr_isany(old))
            tell_address(card, old, prefix_of(ip_2_ip4(old_mask)), false, 0);
        if (!ip_addr_isany(addr))
            tell_address(card, addr, prefix_of(ip_2_ip4(mask)), true, 0);
    }
    if (gw)
        tell_router4(card, &netif->gw, true);
}

static int prefix6(const struct um_card *card, int i)
{
    return card->prefix6[i] ? card->prefix6[i] : SLAAC_PREFIX;
}

static void begin_at_once(struct netif *netif, s8_t i);

void um_netif_changed(struct netif *netif, netif_nsc_reason_t reason,
                      const netif_ext_callback_args_t *args)
{
    struct um_card *card = um_card_of(netif);
    if (!card || !args)
        return;
    if (reason &
        (LWIP_NSC_IPV4_ADDRESS_CHANGED | LWIP_NSC_IPV4_NETMASK_CHANGED |
         LWIP_NSC_IPV4_GATEWAY_CHANGED))
        ipv4_changed(card, netif, reason, args);
    if (reason & LWIP_NSC_IPV6_ADDR_STATE_CHANGED) {
        s8_t i = args->ipv6_addr_state_changed.addr_index;
        u8_t state = netif_ip6_addr_state(netif, i);
        bool was = ip6_addr_isvalid(args->ipv6_addr_state_changed.old_state);
        bool is = ip6_addr_isvalid(state);
        int error = ip6_addr_isduplicated(state) ? EADDRINUSE : 0;
        if (ip6_addr_istentative(state) && !netif_ip6_addr_isstatic(netif, i))
            begin_at_once(netif, i); /* and back here */
        else if (was != is || error)
            tell_address(card, netif_ip_addr6(netif, i), prefix6(card, i), is,
                         error);
    }
    card->d->addresses_changed = true;
}

/* ---- given addresses ---- */

struct um_alias {
    struct netif netif;
    struct um_alias *next;
};

/* Frees nothing at once: lwIP may be at work with it. */
static void remove_alias(struct um_card *card, struct um_alias **at)
{
    struct um_alias *alias = *at;
    *at = alias->next;
    netif_set_addr(&alias->netif, NULL, NULL, NULL);
    netif_remove(&alias->netif);
    um_later(card->d, alias);
}

static err_t alias_netif(struct netif *netif)
{
    struct um_card *card = um_card_of(netif);
    um_card_netif(netif);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP |
                   NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    netif->hwaddr_len = card->netif.hwaddr_len;
    memcpy(netif->hwaddr, card->netif.hwaddr, sizeof netif->hwaddr);
    netif->chksum_flags = card->netif.chksum_flags;
    return ERR_OK;
}

static int add_alias(struct um_card *card, const ip4_addr_t *addr,
                     const ip4_addr_t *mask)
{
    struct um_alias *alias = calloc(1, sizeof *alias);
    if (!alias)
        return -ENOMEM;
    netif_add_noaddr(&alias->netif, card, alias_netif, ethernet_input);
    netif_set_up(&alias->netif);
    struct um_alias **end = &card->aliases;
    while (*end)
        end = &(*end)->next;
    *end = alias;
    netif_set_addr(&alias->netif, addr, mask, NULL);
    return 0;
}

static struct um_alias **find_alias(struct um_card *card,
                                    const ip4_addr_t *addr)
{
    struct um_alias **at = &card->aliases;
    while (*at && !ip4_addr_cmp(netif_ip4_addr(&(*at)->netif), addr))
        at = &(*at)->next;
    return at;
}

/* The card's own netif is DHCP's, if that is asked for. */
static int add_ipv4(struct um_card *card, const ip4_addr_t *addr,
                    const ip4_addr_t *mask)
{
    struct netif *netif = &card->netif;
    struct um_alias *alias = *find_alias(card, addr);
    bool own = ip4_addr_cmp(netif_ip4_addr(netif), addr);
    if (alias)
        netif_set_addr(&alias->netif, addr, mask, NULL);
    else if (own || (!(card->flags & UM_PACKET_DHCP) &&
                     ip4_addr_isany(netif_ip4_addr(netif))))
        netif_set_addr(netif, addr, mask, netif_ip4_gw(netif));
    else
        return add_alias(card, addr, mask);
    return 0;
}

static void remove_ipv4(struct um_card *card, const ip4_addr_t *addr)
{
    struct netif *netif = &card->netif;
    struct um_alias **alias = find_alias(card, addr);
    if (*alias)
        remove_alias(card, alias);
    else if (ip4_addr_cmp(netif_ip4_addr(netif), addr))
        netif_set_addr(netif, NULL, NULL, netif_ip4_gw(netif));
}

/* Say something as a neighbour (RFC 4861): body is that of an ICMPv6 message. */
static void send_nd(struct netif *netif, const ip6_addr_t *from,
                    const ip6_addr_t *to, const void *body, u16_t len)
{
    struct pbuf *p = pbuf_alloc(PBUF_IP, len, PBUF_RAM);
    if (!p)
        return;
    pbuf_take(p, body, len);
    struct icmp6_hdr *header = p->payload;
    header->chksum =
        ip6_chksum_pseudo(p, IP6_NEXTH_ICMP6, p->tot_len, from, to);
    ip6_output_if_src(p, from, to, ND6_HOPLIM, 0, IP6_NEXTH_ICMP6, netif);
    pbuf_free(p);
}

/* Has another this address? */
static void probe(struct netif *netif, const ip6_addr_t *addr)
{
    struct ns_header body = {.type = ICMP6_TYPE_NS};
    ip6_addr_t to;
    ip6_addr_copy_to_packed(body.target_address, *addr);
    ip6_addr_set_solicitednode(&to, addr->addr[3]);
    ip6_addr_assign_zone(&to, IP6_MULTICAST, netif);
    send_nd(netif, IP6_ADDR_ANY6, &to, &body, sizeof body);
}

/* lwIP would ask a second later for the first time. */
static void solicit_routers(struct um_card *card)
{
    struct {
        struct rs_header header;
        uint8_t type, units, mac[6]; /* of 8 bytes */
    } body = {.header.type = ICMP6_TYPE_RS,
              .type = ND6_OPTION_TYPE_SOURCE_LLADDR,
              .units = 1};
    ip6_addr_t to;
    memcpy(body.mac, card->netif.hwaddr, sizeof body.mac);
    ip6_addr_set_allrouters_linklocal(&to);
    ip6_addr_assign_zone(&to, IP6_MULTICAST, &card->netif);
    send_nd(&card->netif, netif_ip6_addr(&card->netif, 0), &to, &body,
            sizeof body);
}

/* lwIP asks only for neighbours that share 64 bits with an address of the card;
 * without this, those of a shorter prefix would never be found. */
void um_solicit(struct um_card *card, const ip6_addr_t *target)
{
    struct netif *netif = &card->netif;
    struct {
        struct ns_header header;
        uint8_t type, units, mac[6];
    } body = {.header.type = ICMP6_TYPE_NS,
              .type = ND6_OPTION_TYPE_SOURCE_LLADDR,
              .units = 1};
    const ip_addr_t *from = ip6_select_source_address(netif, target);
    ip6_addr_t to;
    for (int i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++)
        if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)) &&
            ip6_addr_netcmp_zoneless(netif_ip6_addr(netif, i), target))
            return;
    if (!from)
        return;
    memcpy(body.mac, netif->hwaddr, sizeof body.mac);
    ip6_addr_copy_to_packed(body.header.target_address, *target);
    ip6_addr_set_solicitednode(&to, target->addr[3]);
    ip6_addr_assign_zone(&to, IP6_MULTICAST, netif);
    send_nd(netif, ip_2_ip6(from), &to, &body, sizeof body);
}

/* Again, for those who have not answered. */
static void solicit_again(struct um_card *card)
{
    for (int i = 0; i < LWIP_ND6_NUM_NEIGHBORS; i++) {
        const struct nd6_neighbor_cache_entry *entry = &neighbor_cache[i];
        if (entry->netif == &card->netif &&
            (entry->state == ND6_INCOMPLETE || entry->state == ND6_PROBE))
            um_solicit(card, &entry->next_hop_address);
    }
}

static void begin_at_once(struct netif *netif, s8_t i)
{
    netif_ip6_addr_set_state(netif, i, IP6_ADDR_PREFERRED);
    probe(netif, netif_ip6_addr(netif, i));
}

static int add_ipv6(struct um_card *card, const ip6_addr_t *addr, int prefix,
                    bool at_once)
{
    struct netif *netif = &card->netif;
    s8_t i = netif_get_ip6_addr_match(netif, addr);
    if (i < 0 && netif_add_ip6_address(netif, addr, &i) != ERR_OK)
        return -ENOSPC;
    card->prefix6[i] = (uint8_t)prefix;
    /* lwIP takes all of a static address's /64 for neighbours. */
    if (prefix > SLAAC_PREFIX) {
        netif_ip6_addr_set_valid_life(netif, i, IP6_ADDR_LIFE_INFINITE);
        netif_ip6_addr_set_pref_life(netif, i, IP6_ADDR_LIFE_INFINITE);
    }
    if (at_once)
        begin_at_once(netif, i);
    nd6_clear_destination_cache();
    return 0;
}

int um_card_address(struct um_stackd *d, const struct um_packet *packet)
{
    struct um_card *card = um_card_find(d, packet->card);
    ip_addr_t addr;
    if (!card || packet->prefix < 0 || packet->prefix > 128)
        return -EINVAL;
    um_addr_to_lwip(d, &packet->local, &addr);
    bool remove = packet->flags & UM_PACKET_REMOVE;
    if (IP_IS_V4(&addr)) {
        int bits = packet->prefix - V4_PREFIX;
        ip4_addr_t mask;
        if (bits < 0)
            return -EINVAL;
        mask.addr = bits ? lwip_htonl(UINT32_MAX << (32 - bits)) : 0;
        if (!remove)
            return add_ipv4(card, ip_2_ip4(&addr), &mask);
        remove_ipv4(card, ip_2_ip4(&addr));
        return 0;
    }
    ip6_addr_assign_zone(ip_2_ip6(&addr), IP6_UNICAST, &card->netif);
    if (!remove)
        return add_ipv6(card, ip_2_ip6(&addr), packet->prefix,
                        packet->flags & UM_PACKET_AT_ONCE);
    s8_t i = netif_get_ip6_addr_match(&card->netif, ip_2_ip6(&addr));
    if (i >= 0) {
        netif_ip6_addr_set_state(&card->netif, i, IP6_ADDR_INVALID);
        card->prefix6[i] = 0;
        nd6_clear_destination_cache();
    }
    return 0;
}

/* lwIP has no other way to note one that is forgotten in its time: an answer to
 * a question that was not put. */
void um_card_neighbour(struct um_stackd *d, const struct um_packet *packet)
{
    struct um_card *card = um_card_find(d, packet->card);
    ip_addr_t addr;
    um_addr_to_lwip(d, &packet->remote, &addr);
    if (!card || !IP_IS_V4(&addr))
        return;
    struct netif *netif = &card->netif;
    struct {
        struct eth_hdr eth;
        struct etharp_hdr arp;
    } __attribute__((packed)) frame = {.eth.type = PP_HTONS(ETHTYPE_ARP),
                                       .arp = {.hwtype = PP_HTONS(ARP_ETHERNET),
                                               .proto = PP_HTONS(ETHTYPE_IP),
                                               .hwlen = ETH_HWADDR_LEN,
                                               .protolen = sizeof(ip4_addr_t),
                                               .opcode = PP_HTONS(ARP_REPLY)}};
    memcpy(&frame.eth.dest, netif->hwaddr, ETH_HWADDR_LEN);
    memcpy(&frame.eth.src, packet->mac, ETH_HWADDR_LEN);
    memcpy(&frame.arp.shwaddr, packet->mac, ETH_HWADDR_LEN);
    memcpy(&frame.arp.dhwaddr, netif->hwaddr, ETH_HWADDR_LEN);
    memcpy(&frame.arp.sipaddr, ip_2_ip4(&addr), sizeof(ip4_addr_t));
    memcpy(&frame.arp.dipaddr, netif_ip4_addr(netif), sizeof(ip4_addr_t));
    struct pbuf *p = pbuf_alloc(PBUF_RAW, sizeof frame, PBUF_RAM);
    if (!p)
        return;
    pbuf_take(p, &frame, sizeof frame);
    if (netif->input(p, netif) != ERR_OK)
        pbuf_free(p);
}

int um_card_gateway(struct um_stackd *d, const struct um_packet *packet)
{
    struct um_card *card = um_card_find(d, packet->card);
    bool remove = packet->flags & UM_PACKET_REMOVE;
    ip_addr_t addr;
    if (!card)
        return -EINVAL;
    um_addr_to_lwip(d, &packet->remote, &addr);
    if (IP_IS_V4(&addr)) {
        netif_set_gw(&card->netif, remove ? NULL : ip_2_ip4(&addr));
        return 0;
    }
    ip6_addr_assign_zone(ip_2_ip6(&addr), IP6_UNICAST, &card->netif);
    ip6_addr_set(&card->gateway6, remove ? IP6_ADDR_ANY6 : ip_2_ip6(&addr));
    nd6_clear_destination_cache();
    return 0;
}

int um_card_group(struct um_stackd *d, const struct um_packet *packet)
{
    struct um_card *card = um_card_find(d, packet->card);
    bool leave = packet->flags & UM_PACKET_REMOVE;
    ip_addr_t group;
    if (!card)
        return -EINVAL;
    um_addr_to_lwip(d, &packet->remote, &group);
    if (!ip_addr_ismulticast(&group))
        return -EINVAL;
    err_t rc;
    if (IP_IS_V4(&group)) {
        rc = (leave ? igmp_leavegroup_netif
                    : igmp_joingroup_netif)(&card->netif, ip_2_ip4(&group));
    } else {
        ip6_addr_assign_zone(ip_2_ip6(&group), IP6_MULTICAST, &card->netif);
        rc = (leave ? mld6_leavegroup_netif
                    : mld6_joingroup_netif)(&card->netif, ip_2_ip6(&group));
    }
    return rc == ERR_OK ? 0 : -EINVAL;
}

/* ---- which netif ---- */

struct netif *um_address_netif(struct um_card *card, const struct pbuf *p)
{
    const struct eth_hdr *header = p->payload;
    ip4_addr_t target;
    if (!card->aliases || header->type != PP_HTONS(ETHTYPE_ARP) ||
        pbuf_copy_partial(p, &target, sizeof target,
                          SIZEOF_ETH_HDR + ARP_TARGET) != sizeof target)
        return &card->netif;
    struct um_alias *alias = *find_alias(card, &target);
    return alias ? &alias->netif : &card->netif;
}

bool um_card_owns4(struct um_card *card, const ip4_addr_t *addr)
{
    return ip4_addr_cmp(netif_ip4_addr(&card->netif), addr) ||
           *find_alias(card, addr);
}

/* ---- name servers ---- */

static void forget_servers(struct um_card *card, enum um_server_source source)
{
    card->servers[source].count = 0;
    card->d->addresses_changed = true;
}

/* lifetime: in seconds; 0: it is none any more. */
static void set_server(struct um_card *card, enum um_server_source source,
                       const ip_addr_t *addr, uint32_t lifetime)
{
    struct um_servers *servers = &card->servers[source];
    struct um_packet_name name;
    um_addr_from_lwip(card->d, addr, 0, &name);
    int i = 0;
    while (i < servers->count && !is_same(&servers->name[i], &name))
        i++;
    if (i == servers->count && (!lifetime || i == UM_SERVERS_MAX))
        return;
    if (!lifetime) {
        servers->count--;
        size_t left = (size_t)(servers->count - i);
        memmove(&servers->name[i], &servers->name[i + 1],
                left * sizeof *servers->name);
        memmove(&servers->left[i], &servers->left[i + 1],
                left * sizeof *servers->left);
        return;
    }
    servers->left[i] = lifetime;
    if (i == servers->count)
        servers->name[servers->count++] = name;
}

/* lwIP's DHCP clients have got their number n. */
void dns_setserver(u8_t n, const ip_addr_t *addr)
{
    struct um_card *card = um_card_of(ip_current_input_netif());
    enum um_server_source source =
        IP_IS_V4(addr) ? UM_SERVERS_DHCP : UM_SERVERS_DHCP6;
    if (n == 0)
        forget_servers(card, source);
    set_server(card, source, addr, UINT32_MAX);
}

void dns_init(void)
{
}

/* Each second. */
void dns_tmr(void)
{
    struct netif *netif;
    NETIF_FOREACH(netif)
    {
        struct um_card *card = um_card_of(netif);
        struct um_servers *servers = &card->servers[UM_SERVERS_RA];
        if (netif != &card->netif)
            continue;
        card->d->addresses_changed = true; /* routers end, too */
        solicit_again(card);
        for (int i = servers->count - 1; i >= 0; i--)
            if (servers->left[i] != UINT32_MAX && --servers->left[i] == 0) {
                ip_addr_t addr;
                um_addr_to_lwip(card->d, &servers->name[i], &addr);
                set_server(card, UM_SERVERS_RA, &addr, 0);
            }
    }
}

/* Ask for the domain, too: lwIP's list of what it asks for is fixed. */
void um_dhcp_ask(struct dhcp_msg *message, u16_t *len)
{
    uint8_t *options = message->options;
    for (u16_t at = 0; at + 2 <= *len; at = (u16_t)(at + 2 + options[at + 1]))
        if (options[at] == DHCP_OPTION_PARAMETER_REQUEST_LIST) {
            u16_t end = (u16_t)(at + 2 + options[at + 1]);
            if (*len + 1u >= DHCP_OPTIONS_LEN)
                return;
            memmove(options + end + 1, options + end, (size_t)(*len - end));
            options[end] = UM_DHCP_DOMAIN;
            options[at + 1]++;
            (*len)++;
            return;
        }
}

/* Anything but a name stays out: it is going to be part of a file. */
void um_dhcp_option(struct netif *netif, u8_t option, u8_t len, struct pbuf *p,
                    u16_t at)
{
    struct um_card *card = um_card_of(netif);
    char domain[UM_DOMAIN_MAX] = "";
    if (option != UM_DHCP_DOMAIN ||
        pbuf_copy_partial(p, domain, len, at) != len)
        return;
    for (size_t i = 0; domain[i]; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                    "0123456789-_.",
                    domain[i]))
            return;
    if (strcmp(domain, card->domain) == 0)
        return;
    strcpy(card->domain, domain);
    card->domain_changed = card->d->addresses_changed = true;
}

/* ---- router advertisements ---- */

static void take_servers(struct um_card *card, const uint8_t *option,
                         size_t len)
{
    uint32_t lifetime;
    memcpy(&lifetime, option + 4, sizeof lifetime);
    for (size_t at = RDNSS_HEADER; at + 16 <= len; at += 16) {
        ip_addr_t addr = IPADDR6_INIT(0, 0, 0, 0);
        memcpy(ip_2_ip6(&addr)->addr, option + at, 16);
        ip6_addr_assign_zone(ip_2_ip6(&addr), IP6_UNKNOWN, &card->netif);
        set_server(card, UM_SERVERS_RA, &addr, lwip_ntohl(lifetime));
    }
}

bool um_router_speaks(struct um_card *card, const uint8_t *message, size_t len)
{
    if (!(card->flags & (UM_PACKET_SLAAC | UM_PACKET_ROUTERS)))
        return false;
    if (IP6H_HOPLIM(ip6_current_header()) != ND6_HOPLIM ||
        !ip6_addr_islinklocal(ip6_current_src_addr()))
        return false;
    size_t at = sizeof(struct ra_header);
    while (at + 2 <= len) {
        size_t step = (size_t)message[at + 1] * 8;
        if (!step || at + step > len)
            return false;
        if (message[at] == OPTION_RDNSS && step >= RDNSS_HEADER)
            take_servers(card, message + at, step);
        at += step;
    }
    card->d->addresses_changed = true;
    return true;
}

/* lwIP tells nobody of its routers. */
static void tell_routers(struct um_card *card)
{
    struct um_packet_name now[UM_ROUTERS_MAX];
    int count = 0;
    for (int i = 0; i < LWIP_ND6_NUM_ROUTERS && count < UM_ROUTERS_MAX; i++) {
        const struct nd6_router_list_entry *entry = &default_router_list[i];
        if (!entry->neighbor_entry || !entry->invalidation_timer ||
            entry->neighbor_entry->netif != &card->netif)
            continue;
        ip_addr_t addr;
        ip_addr_copy_from_ip6(addr, entry->neighbor_entry->next_hop_address);
        um_addr_from_lwip(card->d, &addr, 0, &now[count++]);
    }
    for (int i = 0; i < card->router_count; i++) {
        int j = 0;
        while (j < count && !is_same(&card->routers[i], &now[j]))
            j++;
        if (j == count)
            tell_router(card, &card->routers[i], false);
    }
    for (int j = 0; j < count; j++) {
        int i = 0;
        while (i < card->router_count && !is_same(&card->routers[i], &now[j]))
            i++;
        if (i == card->router_count)
            tell_router(card, &now[j], true);
    }
    memcpy(card->routers, now, (size_t)count * sizeof *now);
    card->router_count = count;
}

static void tell_servers(struct um_card *card)
{
    struct um_packet packet = {.kind = UM_PACKET_DNS, .card = card->number};
    uint8_t data[sizeof card->told_servers];
    uint32_t len = 0;
    for (int source = 0; source < UM_SERVER_SOURCES; source++)
        for (int i = 0; i < card->servers[source].count; i++, len += 16)
            memcpy(data + len, card->servers[source].name[i].addr, 16);
    if (len == card->told_len && memcmp(data, card->told_servers, len) == 0)
        return;
    memcpy(card->told_servers, data, len);
    card->told_len = packet.len = len;
    um_tell(card->d, &packet, data, -1);
}

void um_addresses_tell(struct um_stackd *d)
{
    if (!d->addresses_changed)
        return;
    d->addresses_changed = false;
    for (struct um_card *card = d->cards; card; card = card->next) {
        bool leased = dhcp_supplied_address(&card->netif);
        if (!leased && card->leased) {
            forget_servers(card, UM_SERVERS_DHCP);
            card->domain_changed = card->domain[0];
            card->domain[0] = 0;
        }
        card->leased = leased;
        tell_routers(card);
        tell_servers(card);
        struct um_packet packet = {.kind = UM_PACKET_DOMAIN,
                                   .card = card->number,
                                   .len = (uint32_t)strlen(card->domain)};
        if (card->domain_changed)
            um_tell(d, &packet, card->domain, -1);
        card->domain_changed = false;
    }
}

/* ---- life ---- */

/* ---- a router's own advertisements ---- */

static void announce(struct um_card *card)
{
    ip6_addr_t to;
    ip6_addr_set_allnodes_linklocal(&to);
    ip6_addr_assign_zone(&to, IP6_MULTICAST, &card->netif);
    send_nd(&card->netif, netif_ip6_addr(&card->netif, 0), &to, card->announced,
            card->announced_len);
}

static void announce_again(void *arg)
{
    announce(arg);
    sys_timeout(ANNOUNCE_MS, announce_again, arg);
}

void um_card_solicited(struct um_card *card)
{
    if (card->announced)
        announce(card);
}

void um_card_announce(struct um_stackd *d, const struct um_packet *packet,
                      const uint8_t *data)
{
    struct um_card *card = um_card_find(d, packet->card);
    if (!card || card->announced || packet->len < sizeof(struct ra_header) ||
        packet->len > card->netif.mtu)
        return;
    card->announced = malloc(packet->len);
    if (!card->announced)
        return;
    memcpy(card->announced, data, packet->len);
    card->announced_len = (uint16_t)packet->len;
    ip6_addr_t routers;
    ip6_addr_set_allrouters_linklocal(&routers);
    ip6_addr_assign_zone(&routers, IP6_MULTICAST, &card->netif);
    mld6_joingroup_netif(&card->netif, &routers);
    announce_again(card);
}

void um_addresses_begin(struct um_card *card)
{
    struct netif *netif = &card->netif;
    if (card->flags & UM_PACKET_ONLY_V4) {
        netif->rs_count = 0;
        if (card->flags & UM_PACKET_DHCP)
            dhcp_start(netif);
        return;
    }
    netif_create_ip6_linklocal_address(netif, 1);
    begin_at_once(netif, 0);
    netif_set_ip6_autoconfig_enabled(netif,
                                     (card->flags & UM_PACKET_SLAAC) != 0);
    if (card->flags & (UM_PACKET_SLAAC | UM_PACKET_ROUTERS))
        solicit_routers(card);
    else
        netif->rs_count = 0;
    if (card->flags & UM_PACKET_DHCP)
        dhcp_start(netif);
    if (card->flags & UM_PACKET_DHCP6)
        dhcp6_enable_stateless(netif);
    /* lwIP waits for a router to say that there is a server. */
    if (card->flags & UM_PACKET_DHCP6 &&
        !(card->flags & (UM_PACKET_SLAAC | UM_PACKET_ROUTERS)))
        dhcp6_nd6_ra_trigger(netif, 0, 1);
}

void um_addresses_renew(struct um_card *card)
{
    struct netif *netif = &card->netif;
    etharp_cleanup_netif(netif);
    nd6_cleanup_netif(netif);
    netif_set_link_down(netif);
    netif_set_link_up(netif);
    if (card->flags & (UM_PACKET_SLAAC | UM_PACKET_ROUTERS))
        solicit_routers(card);
    else
        netif->rs_count = 0;
    for (struct um_alias *alias = card->aliases; alias; alias = alias->next) {
        alias->netif.mtu = netif->mtu;
        alias->netif.chksum_flags = netif->chksum_flags;
        etharp_cleanup_netif(&alias->netif);
        etharp_gratuitous(&alias->netif);
    }
}

void um_addresses_end(struct um_card *card)
{
    sys_untimeout(announce_again, card);
    free(card->announced);
    while (card->aliases)
        remove_alias(card, &card->aliases);
    dhcp_stop(&card->netif);
    dhcp_cleanup(&card->netif);
    dhcp6_disable(&card->netif);
    dhcp6_cleanup(&card->netif);
}
