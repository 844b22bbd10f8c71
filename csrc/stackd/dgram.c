/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * dgram.c - UDP and ICMP: packets for the switchboard, packets from it
 *
 * UDP is taken before lwIP's own sockets see it, at the ports that the
 * switchboard has named. The rest is lwIP's: its DHCP client's, or "port
 * unreachable". Of ICMP the switchboard gets a copy, and lwIP goes on to answer
 * what is asked.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "lwip/icmp.h"
#include "lwip/icmp6.h"
#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/prot/icmp.h"
#include "lwip/raw.h"
#include "lwip/udp.h"
#include "stackd.h"

enum { DHCP_PORT = 68, DHCP6_PORT = 546 };

void um_dgram_port(struct um_stackd *d, uint16_t port, bool taken)
{
    uint8_t bit = (uint8_t)(1 << port % 8);
    if (taken)
        d->ports[port / 8] |= bit;
    else
        d->ports[port / 8] &= (uint8_t)~bit;
}

static bool is_taken(const struct um_stackd *d, uint16_t port)
{
    return d->ports[port / 8] >> port % 8 & 1;
}

/* Tell of the packet in hand, whose header of skip bytes is not for it. */
static void pass(struct um_stackd *d, struct pbuf *p, uint16_t skip,
                 uint16_t from, uint16_t to, int protocol)
{
    struct um_card *card = um_card_of(ip_current_input_netif());
    struct um_packet packet = {.kind = UM_PACKET_RECEIVED,
                               .protocol = (uint16_t)protocol,
                               .card = card->number};
    if (ip_current_is_v6()) {
        const struct ip6_hdr *header = ip6_current_header();
        packet.ttl = IP6H_HOPLIM(header);
        packet.tos = (uint8_t)IP6H_TC(header);
    } else {
        packet.ttl = IPH_TTL(ip4_current_header());
        packet.tos = IPH_TOS(ip4_current_header());
    }
    um_addr_from_lwip(d, ip_current_src_addr(), from, &packet.remote);
    um_addr_from_lwip(d, ip_current_dest_addr(), to, &packet.local);
    packet.len =
        pbuf_copy_partial(p, d->scratch, (u16_t)(p->tot_len - skip), skip);
    um_tell(d, &packet, d->scratch, -1);
}

/* A header and its data are whole; p starts with the UDP header. */
static bool is_right(struct pbuf *p, const struct udp_hdr *header)
{
    uint16_t len = lwip_ntohs(header->len);
    if (len < sizeof *header || len > p->tot_len)
        return false;
    pbuf_realloc(p, len);
    IF__NETIF_CHECKSUM_ENABLED(ip_current_input_netif(),
                               NETIF_CHECKSUM_CHECK_UDP)
    {
        if (header->chksum || ip_current_is_v6())
            return ip_chksum_pseudo(p, IP_PROTO_UDP, len, ip_current_src_addr(),
                                    ip_current_dest_addr()) == 0;
    }
    return true;
}

static u8_t udp_came(void *arg, struct raw_pcb *pcb, struct pbuf *p,
                     const ip_addr_t *addr)
{
    (void)pcb;
    (void)addr;
    struct um_stackd *d = arg;
    struct udp_hdr header;
    uint16_t skip = ip_current_header_tot_len();
    if (pbuf_copy_partial(p, &header, sizeof header, skip) != sizeof header)
        return 0;
    uint16_t to = lwip_ntohs(header.dest);
    if (to == (ip_current_is_v6() ? DHCP6_PORT : DHCP_PORT))
        return 0;
    if (!is_taken(d, to)) {
        if (d->admitting)
            return 0;
        um_syns_keep(&d->strays, p);
        return 1;
    }
    pbuf_remove_header(p, skip);
    if (is_right(p, &header))
        pass(d, p, sizeof header, lwip_ntohs(header.src), to, IPPROTO_UDP);
    pbuf_free(p);
    return 1;
}

/* What is acted upon, or passed on, before lwIP looks at it. */
static bool icmp_is_right(struct pbuf *p, u16_t skip)
{
    const struct netif *netif = ip_current_input_netif();
    u16_t sum = 0;
    pbuf_remove_header(p, skip);
    if (ip_current_is_v6()) {
        IF__NETIF_CHECKSUM_ENABLED(netif, NETIF_CHECKSUM_CHECK_ICMP6)
        sum =
            ip6_chksum_pseudo(p, IP6_NEXTH_ICMP6, p->tot_len,
                              ip6_current_src_addr(), ip6_current_dest_addr());
    } else {
        IF__NETIF_CHECKSUM_ENABLED(netif, NETIF_CHECKSUM_CHECK_ICMP)
        sum = inet_chksum_pbuf(p);
    }
    pbuf_add_header_force(p, skip);
    return sum == 0;
}

/* A packet of ours, of which header and len bytes are quoted, was too long. */
static void too_big(const uint8_t *quoted, size_t len, uint32_t mtu)
{
    enum { PORTS_AND_SEQUENCE = 8 };
    ip_addr_t local, remote;
    size_t skip = IP6_HLEN;
    uint8_t protocol;
    if (len < (ip_current_is_v6() ? IP6_HLEN : IP_HLEN) + PORTS_AND_SEQUENCE)
        return;
    memset(&local, 0, sizeof local);
    memset(&remote, 0, sizeof remote);
    if (ip_current_is_v6()) {
        const struct ip6_hdr *header = (const void *)quoted;
        protocol = IP6H_NEXTH(header);
        ip_addr_copy_from_ip6_packed(local, header->src);
        ip_addr_copy_from_ip6_packed(remote, header->dest);
    } else {
        const struct ip_hdr *header = (const void *)quoted;
        protocol = IPH_PROTO(header);
        skip = IPH_HL_BYTES(header);
        ip_addr_copy_from_ip4(local, header->src);
        ip_addr_copy_from_ip4(remote, header->dest);
    }
    if (protocol != IPPROTO_TCP || len < skip + PORTS_AND_SEQUENCE)
        return;
    uint16_t ports[2];
    uint32_t sequence;
    memcpy(ports, quoted + skip, sizeof ports);
    memcpy(&sequence, quoted + skip + sizeof ports, sizeof sequence);
    um_flow_mtu(&local, lwip_ntohs(ports[0]), &remote, lwip_ntohs(ports[1]),
                lwip_ntohl(sequence), mtu);
}

/* Return: lwIP is to see it, too. */
static bool heed(const uint8_t *message, size_t len)
{
    enum { HEADER = 8 };
    uint32_t value;
    if (len < HEADER)
        return true;
    memcpy(&value, message + 4, sizeof value);
    value = lwip_ntohl(value);
    if (!ip_current_is_v6()) {
        if (message[0] == ICMP_DUR && message[1] == ICMP_DUR_FRAG)
            too_big(message + HEADER, len - HEADER, value & UINT16_MAX);
        return true;
    }
    if (message[0] == ICMP6_TYPE_RA)
        return um_router_speaks(um_card_of(ip_current_input_netif()), message,
                                len);
    if (message[0] != ICMP6_TYPE_PTB)
        return true;
    /* No link has less; lwIP would divide its packets into nothing. */
    if (value < IP6_MIN_MTU_LENGTH)
        return false;
    too_big(message + HEADER, len - HEADER, value);
    return true;
}

static u8_t icmp_came(void *arg, struct raw_pcb *pcb, struct pbuf *p,
                      const ip_addr_t *addr)
{
    (void)addr;
    struct um_stackd *d = arg;
    u16_t skip = ip_current_header_tot_len();
    if (!icmp_is_right(p, skip))
        return 0; /* lwIP drops it */
    pass(d, p, skip, 0, 0, pcb->protocol);
    if (ip_current_is_v6() && d->scratch[0] == ICMP6_TYPE_RS)
        um_card_solicited(um_card_of(ip_current_input_netif()));
    if (heed(d->scratch, p->tot_len - skip))
        return 0;
    pbuf_free(p);
    return 1;
}

/* The card that a message names, or the one that routes lead to. */
static struct netif *netif_for(struct um_stackd *d,
                               const struct um_packet *packet,
                               const ip_addr_t *from, const ip_addr_t *to)
{
    struct um_card *card = um_card_find(d, packet->card);
    return card ? &card->netif : ip_route(from, to);
}

void um_dgram_send(struct um_stackd *d, const struct um_packet *packet,
                   const uint8_t *data)
{
    ip_addr_t from, to;
    um_addr_to_lwip(d, &packet->local, &from);
    um_addr_to_lwip(d, &packet->remote, &to);
    struct netif *netif = netif_for(d, packet, &from, &to);
    bool udp = packet->protocol == IPPROTO_UDP;
    if (!netif || packet->len > UINT16_MAX ||
        (!packet->ttl && ip_addr_ismulticast(&to))) /* it stays in the view */
        return;
    struct pbuf *p = pbuf_alloc(udp ? PBUF_TRANSPORT : PBUF_IP,
                                (u16_t)packet->len, PBUF_RAM);
    if (!p)
        return;
    pbuf_take(p, data, (u16_t)packet->len);
    if (udp) {
        struct udp_pcb *pcb = d->udp;
        pcb->local_port = packet->local.port;
        pcb->ttl = pcb->mcast_ttl = packet->ttl;
        pcb->tos = packet->tos;
        udp_sendto_if_src(pcb, p, &to, packet->remote.port, netif, &from);
    } else {
        struct raw_pcb *pcb = d->raw[IP_IS_V6(&to)];
        pcb->ttl = pcb->mcast_ttl = packet->ttl;
        pcb->tos = packet->tos;
        raw_sendto_if_src(pcb, p, &to, netif, &from);
    }
    pbuf_free(p);
}

static struct raw_pcb *listen_raw(struct um_stackd *d, u8_t type, u8_t protocol,
                                  raw_recv_fn fn)
{
    struct raw_pcb *pcb = raw_new_ip_type(type, protocol);
    if (pcb)
        raw_recv(pcb, fn, d);
    return pcb;
}

int um_dgrams_open(struct um_stackd *d)
{
    d->udp = udp_new_ip_type(IPADDR_TYPE_ANY);
    d->raw[0] = listen_raw(d, IPADDR_TYPE_V4, IP_PROTO_ICMP, icmp_came);
    d->raw[1] = listen_raw(d, IPADDR_TYPE_V6, IP6_NEXTH_ICMP6, icmp_came);
    struct raw_pcb *udp4 =
        listen_raw(d, IPADDR_TYPE_V4, IP_PROTO_UDP, udp_came);
    struct raw_pcb *udp6 =
        listen_raw(d, IPADDR_TYPE_V6, IP6_NEXTH_UDP, udp_came);
    if (!d->udp || !d->raw[0] || !d->raw[1] || !udp4 || !udp6)
        return -ENOMEM;
    d->raw[1]->chksum_reqd = 1;
    d->raw[1]->chksum_offset = 2;
    d->udp4 = udp4;
    d->udp6 = udp6;
    return 0;
}

void um_dgrams_close(struct um_stackd *d)
{
    struct raw_pcb *all[] = {d->raw[0], d->raw[1], d->udp4, d->udp6};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            raw_remove(all[i]);
    if (d->udp)
        udp_remove(d->udp);
}
