/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * neighbour.c - packets for a neighbour that does not answer
 *
 * lwIP asks for its Ethernet address some seconds long, and then drops what has
 * waited for it, without a word. In Linux the sender hears after 3 s that there is
 * no such host; so the switchboard gets the ICMP error that a router would send.
 * A packet that makes no frame has to wait: its beginning is kept, until it leaves
 * in a frame after all or its time is over.
 */
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>

#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/inet_chksum.h"
#include "lwip/sys.h"
#include "lwip/timeouts.h"
#include "stackd.h"

enum {
    PATIENCE_MS = 3000, /* 3 questions, a second apart: arp(7), mcast_solicit */
    LOOK_MS = 250,
    KEPT_MAX = 256,
    ICMP_HEAD = 8,
    QUOTED_MAX = 576 - 20 - ICMP_HEAD,
    ETHERNET = 14,
    KEY_MAX = 40,
    TOS_OF_ERRORS = 0xc0
};

struct um_kept {
    struct um_kept *next;
    uint32_t since_ms, card;
    bool v6;
    uint16_t len;
    uint8_t error[ICMP_HEAD + QUOTED_MAX]; /* len bytes of it */
};

/* Where a packet's addresses are, and what follows its IP header. */
struct shape {
    size_t header, addresses, addresses_len, source_len;
};

static struct shape shape_of(bool v6)
{
    return v6 ? (struct shape){40, 8, 32, 16} : (struct shape){20, 12, 8, 4};
}

/* Both ends, and the first bytes of what is above IP. */
static size_t key(const uint8_t *ip, bool v6, uint8_t ret[KEY_MAX])
{
    struct shape shape = shape_of(v6);
    memcpy(ret, ip + shape.addresses, shape.addresses_len);
    memcpy(ret + shape.addresses_len, ip + shape.header, 8);
    return shape.addresses_len + 8;
}

static void look(void *arg);

static void look_later(struct um_stackd *d)
{
    if (d->kept)
        sys_timeout(LOOK_MS, look, d);
}

static void tell(struct um_stackd *d, struct um_kept *kept)
{
    struct shape shape = shape_of(kept->v6);
    struct um_packet packet = {.kind = UM_PACKET_RECEIVED,
                               .protocol =
                                   kept->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
                               .card = kept->card,
                               .ttl = 64,
                               .tos = kept->v6 ? 0 : TOS_OF_ERRORS,
                               .len = kept->len};
    uint8_t *own = packet.local.addr;
    if (!kept->v6)
        own[10] = own[11] = 0xff;
    memcpy(own + 16 - shape.source_len,
           kept->error + ICMP_HEAD + shape.addresses, shape.source_len);
    packet.remote = packet.local;
    if (!kept->v6) {
        uint16_t sum = inet_chksum(kept->error, kept->len);
        memcpy(kept->error + 2, &sum, sizeof sum);
    }
    um_tell(d, &packet, kept->error, -1);
}

static void forget(struct um_stackd *d, struct um_kept **at)
{
    struct um_kept *kept = *at;
    *at = kept->next;
    d->kept_count--;
    free(kept);
}

static void look(void *arg)
{
    struct um_stackd *d = arg;
    while (d->kept && sys_now() - d->kept->since_ms >= PATIENCE_MS) {
        tell(d, d->kept);
        forget(d, &d->kept);
    }
    look_later(d);
}

static void keep(struct um_card *card, struct pbuf *p, bool v6)
{
    struct um_stackd *d = card->d;
    struct shape shape = shape_of(v6);
    struct um_kept *kept =
        d->kept_count < KEPT_MAX && p->tot_len >= shape.header + 8
            ? calloc(1, sizeof *kept)
            : NULL;
    if (!kept)
        return;
    kept->since_ms = sys_now();
    kept->card = card->number;
    kept->v6 = v6;
    kept->error[0] = v6 ? ICMP6_DST_UNREACH : ICMP_DEST_UNREACH;
    kept->error[1] = v6 ? ICMP6_DST_UNREACH_ADDR : ICMP_HOST_UNREACH;
    kept->len =
        (uint16_t)(ICMP_HEAD + pbuf_copy_partial(p, kept->error + ICMP_HEAD,
                                                 QUOTED_MAX, 0));
    struct um_kept **end = &d->kept;
    while (*end)
        end = &(*end)->next;
    *end = kept;
    if (++d->kept_count == 1)
        look_later(d);
}

static bool sends_itself(struct um_card *card, const struct pbuf *p, bool v6)
{
    if (v6) {
        ip6_addr_t source;
        const struct ip6_hdr *header = p->payload;
        ip6_addr_copy_from_packed(source, header->src);
        ip6_addr_assign_zone(&source, IP6_UNICAST, &card->netif);
        return netif_get_ip6_addr_match(&card->netif, &source) >= 0;
    }
    ip4_addr_t source;
    ip4_addr_copy(source, ((const struct ip_hdr *)p->payload)->src);
    return um_card_owns4(card, &source);
}

/* frames: how many there were before. Those of what went on meanwhile (the
 * question for the neighbour is a packet, too) are not counted by who is around. */
static err_t waits_or_not(struct um_card *card, struct pbuf *p, bool v6,
                          uint32_t frames, err_t rc)
{
    if (rc == ERR_OK && card->frames == frames && sends_itself(card, p, v6))
        keep(card, p, v6);
    card->frames = frames;
    return rc;
}

err_t um_neighbour_output4(struct netif *netif, struct pbuf *p,
                           const ip4_addr_t *dest)
{
    struct um_card *card = um_card_of(netif);
    uint32_t frames = card->frames;
    err_t rc = etharp_output(netif, p, dest);
    return waits_or_not(card, p, false, frames, rc);
}

err_t um_neighbour_output6(struct netif *netif, struct pbuf *p,
                           const ip6_addr_t *dest)
{
    struct um_card *card = um_card_of(netif);
    uint32_t frames = card->frames;
    err_t rc = ethip6_output(netif, p, dest);
    return waits_or_not(card, p, true, frames, rc);
}

void um_neighbour_frame(struct um_card *card, struct pbuf *p)
{
    uint8_t frame[ETHERNET + 48], ours[KEY_MAX], theirs[KEY_MAX];
    struct um_stackd *d = card->d;
    uint16_t type = (uint16_t)(pbuf_get_at(p, 12) << 8 | pbuf_get_at(p, 13));
    bool v6 = type == ETHTYPE_IPV6;
    if (type != ETHTYPE_ARP)
        card->frames++;
    if (!d->kept || (type != ETHTYPE_IP && !v6) ||
        pbuf_copy_partial(p, frame, sizeof frame, 0) <
            ETHERNET + shape_of(v6).header + 8)
        return;
    size_t len = key(frame + ETHERNET, v6, ours);
    struct um_kept **at = &d->kept;
    while (*at) {
        if ((*at)->v6 == v6 &&
            key((*at)->error + ICMP_HEAD, v6, theirs) == len &&
            memcmp(ours, theirs, len) == 0)
            forget(d, at);
        else
            at = &(*at)->next;
    }
}

void um_neighbours_close(struct um_stackd *d)
{
    sys_untimeout(look, d);
    while (d->kept)
        forget(d, &d->kept);
}
