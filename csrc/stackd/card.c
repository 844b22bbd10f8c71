/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * card.c - cards: lwIP's netifs, their addresses and their queues
 *
 * lwIP's TCP falls to a crawl when frames are lost, and a lost frame is what a
 * full socket makes of it by default. So a card queues what its link cannot
 * take at once. TCP's windows bound what comes together there; what a flood of
 * datagrams adds beyond QUEUE_MAX is dropped. A queued frame is a copy: the
 * memory that it names is a flow's, which may end before the frame leaves.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "lwip/dhcp.h"
#include "lwip/dhcp6.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/mld6.h"
#include "netif/ethernet.h"
#include "stackd.h"

enum {
    FRAMES_AT_ONCE = 64,
    HEADER = 14,
    FRAME_MAX = 65535 - ETH_PAD_SIZE,
    MTU_MAX = 65500,
    MTU_MIN = 1280, /* of IPv6 */
    SMALL = 16384,  /* a longer frame stays in the memory it was read to */
    QUEUE_MAX = 1 << 24,
    V4_PREFIX = 96
};

struct um_frame {
    struct um_frame *next;
    size_t len;
    uint8_t bytes[];
};

/* lwIP's macros ask for these without a word of ours. */
uint32_t um_tcp_window;
static bool forwards;

int um_stackd_forwards(void)
{
    return forwards ? 1 : 0;
}

void um_forward_set(bool on)
{
    forwards = on;
}

struct um_card *um_card_find(struct um_stackd *d, uint32_t number)
{
    struct um_card *card = d->cards;
    while (card && card->number != number)
        card = card->next;
    return card;
}

struct um_card *um_card_of(struct netif *netif)
{
    return netif->state;
}

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

/* ---- frames ---- */

static void enqueue(struct um_card *card, const struct iovec *iov, int count,
                    size_t len)
{
    struct um_frame *frame =
        card->queued + len > QUEUE_MAX ? NULL : malloc(sizeof *frame + len);
    if (!frame)
        return;
    frame->next = NULL;
    frame->len = len;
    uint8_t *at = frame->bytes;
    for (int i = 0; i < count; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    *card->queue_end = frame;
    card->queue_end = &frame->next;
    card->queued += len;
    um_watch(card->d, &card->watch, EPOLLIN | EPOLLOUT);
}

static void drop_first(struct um_card *card)
{
    struct um_frame *frame = card->queue;
    card->queue = frame->next;
    if (!card->queue)
        card->queue_end = &card->queue;
    card->queued -= frame->len;
    free(frame);
}

static void flush(struct um_card *card)
{
    bool full = card->link->flush && card->link->flush(card) == -EAGAIN;
    um_watch(card->d, &card->watch,
             full || card->queue ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void um_cards_flush(struct um_stackd *d)
{
    for (struct um_card *card = d->cards; card; card = card->next)
        if (card->link->flush && card->watch.events)
            flush(card);
}

static void send_queue(struct um_card *card)
{
    while (card->queue) {
        struct iovec iov = {card->queue->bytes, card->queue->len};
        if (card->link->send(card, &iov, 1) == -EAGAIN)
            return;
        drop_first(card);
    }
    flush(card);
}

/* The frame lies behind ETH_PAD_SIZE bytes of the first piece. */
static err_t output(struct netif *netif, struct pbuf *p)
{
    struct um_card *card = um_card_of(netif);
    struct iovec iov[PIECES_MAX];
    int count = 0;
    size_t len = 0;
    pbuf_remove_header(p, ETH_PAD_SIZE);
    for (struct pbuf *q = p; q && count < PIECES_MAX; q = q->next) {
        if (!q->len)
            continue;
        iov[count].iov_base = q->payload;
        iov[count++].iov_len = q->len;
        len += q->len;
    }
    err_t rc = len == p->tot_len ? ERR_OK : ERR_BUF;
    if (rc == ERR_OK && card->watch.events &&
        (card->queue || card->link->send(card, iov, count) == -EAGAIN))
        enqueue(card, iov, count, len);
    pbuf_add_header(p, ETH_PAD_SIZE);
    return rc;
}

/* Read into memory for the longest frame; a short one moves out of it. */
static struct pbuf *take_frame(struct um_card *card, ssize_t *rc)
{
    struct um_stackd *d = card->d;
    if (!d->spare)
        d->spare = pbuf_alloc(PBUF_RAW, FRAME_MAX + ETH_PAD_SIZE, PBUF_RAM);
    struct pbuf *p = d->spare;
    if (!p) {
        *rc = 0;
        return NULL;
    }
    uint8_t *frame = (uint8_t *)p->payload + ETH_PAD_SIZE;
    *rc = card->link->receive(card, frame, FRAME_MAX);
    if (*rc < HEADER)
        return NULL;
    uint16_t len = (uint16_t)(*rc + ETH_PAD_SIZE);
    if (len > SMALL) {
        d->spare = NULL;
        pbuf_realloc(p, len);
        return p;
    }
    struct pbuf *small = pbuf_alloc(PBUF_RAW, len, PBUF_RAM);
    if (small)
        memcpy((uint8_t *)small->payload + ETH_PAD_SIZE, frame, (size_t)*rc);
    return small;
}

/* Connections wait and end in their time, as with a cable that is pulled. */
static void lose_link(struct um_card *card)
{
    struct um_packet packet = {.kind = UM_PACKET_LOST, .card = card->number};
    um_watch(card->d, &card->watch, 0);
    um_watch(card->d, &card->control, 0);
    netif_set_link_down(&card->netif);
    um_tell(card->d, &packet, NULL, -1);
}

static void control_hung_up(struct um_stackd *d, struct um_watch *watch,
                            uint32_t events)
{
    (void)d;
    (void)events;
    lose_link(UM_CONTAINER(watch, struct um_card, control));
}

static void card_ready(struct um_stackd *d, struct um_watch *watch,
                       uint32_t events)
{
    (void)d;
    struct um_card *card = UM_CONTAINER(watch, struct um_card, watch);
    if (events & EPOLLOUT)
        send_queue(card);
    for (int i = 0; i < FRAMES_AT_ONCE || card->more; i++) {
        ssize_t rc;
        struct pbuf *p = take_frame(card, &rc);
        if (p && card->netif.input(p, &card->netif) != ERR_OK)
            pbuf_free(p);
        if (rc == -EPIPE)
            lose_link(card);
        if (rc <= 0)
            break;
    }
}

/* ---- addresses ---- */

static void tell_address(struct um_card *card, const ip_addr_t *addr,
                         int prefix, bool there)
{
    struct um_packet packet = {.kind = UM_PACKET_HAS,
                               .card = card->number,
                               .prefix = (int16_t)prefix,
                               .flags = there ? 0 : UM_PACKET_REMOVE};
    um_addr_from_lwip(card->d, addr, 0, &packet.local);
    um_tell(card->d, &packet, NULL, -1);
}

static int prefix_of(const ip4_addr_t *mask)
{
    return V4_PREFIX + __builtin_popcount(ip4_addr_get_u32(mask));
}

static void tell_router(struct um_card *card, const ip_addr_t *addr)
{
    struct um_packet packet = {.kind = UM_PACKET_ROUTER, .card = card->number};
    um_addr_from_lwip(card->d, addr, 0, &packet.remote);
    um_tell(card->d, &packet, NULL, -1);
}

static void ipv4_changed(struct um_card *card,
                         const netif_ext_callback_args_t *args)
{
    const ip_addr_t *old = args->ipv4_changed.old_address;
    const struct netif *netif = &card->netif;
    if (old && !ip_addr_isany(old))
        tell_address(card, old, V4_PREFIX, false);
    if (!ip_addr_isany(&netif->ip_addr))
        tell_address(card, &netif->ip_addr, prefix_of(netif_ip4_netmask(netif)),
                     true);
    if (!ip_addr_isany(&netif->gw))
        tell_router(card, &netif->gw);
}

static void netif_changed(struct netif *netif, netif_nsc_reason_t reason,
                          const netif_ext_callback_args_t *args)
{
    struct um_card *card = um_card_of(netif);
    if (!card || card->netif.num != netif->num || !args)
        return;
    if (reason & LWIP_NSC_IPV4_SETTINGS_CHANGED)
        ipv4_changed(card, args);
    if (reason & LWIP_NSC_IPV6_ADDR_STATE_CHANGED) {
        s8_t i = args->ipv6_addr_state_changed.addr_index;
        bool was = ip6_addr_isvalid(args->ipv6_addr_state_changed.old_state);
        bool is = ip6_addr_isvalid(netif_ip6_addr_state(netif, i));
        if (was != is)
            tell_address(card, netif_ip_addr6(netif, i), 64, is);
    }
}

int um_card_address(struct um_stackd *d, const struct um_packet *packet)
{
    struct um_card *card = um_card_find(d, packet->card);
    ip_addr_t addr;
    if (!card || packet->prefix < 0 || packet->prefix > 128)
        return -EINVAL;
    um_addr_to_lwip(d, &packet->local, &addr);
    bool remove = packet->flags & UM_PACKET_REMOVE;
    struct netif *netif = &card->netif;
    if (IP_IS_V4(&addr)) {
        int bits = packet->prefix - V4_PREFIX;
        ip4_addr_t mask, none = {0};
        if (bits < 0)
            return -EINVAL;
        mask.addr = bits ? lwip_htonl(UINT32_MAX << (32 - bits)) : 0;
        netif_set_addr(netif, remove ? &none : ip_2_ip4(&addr),
                       remove ? &none : &mask, netif_ip4_gw(netif));
        return 0;
    }
    s8_t i = netif_get_ip6_addr_match(netif, ip_2_ip6(&addr));
    if (remove) {
        if (i >= 0)
            netif_ip6_addr_set_state(netif, i, IP6_ADDR_INVALID);
        return 0;
    }
    if (i < 0 && netif_add_ip6_address(netif, ip_2_ip6(&addr), &i) != ERR_OK)
        return -ENOSPC;
    if (packet->flags & UM_PACKET_AT_ONCE)
        netif_ip6_addr_set_state(netif, i, IP6_ADDR_PREFERRED);
    return 0;
}

int um_card_gateway(struct um_stackd *d, const struct um_packet *packet)
{
    struct um_card *card = um_card_find(d, packet->card);
    ip_addr_t addr;
    if (!card)
        return -EINVAL;
    um_addr_to_lwip(d, &packet->remote, &addr);
    if (!IP_IS_V4(&addr))
        return -EOPNOTSUPP;
    netif_set_gw(&card->netif, ip_2_ip4(&addr));
    netif_set_default(&card->netif);
    return 0;
}

/* ---- life ---- */

/* The MTU is set in here: lwIP copies it to that of IPv6 (mtu6) right after, and
 * without one a segment is as long as TCP_MSS. */
static err_t netif_start(struct netif *netif)
{
    netif->mtu = um_card_of(netif)->mtu;
    netif->name[0] = 'u';
    netif->name[1] = 'm';
    netif->linkoutput = output;
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP |
                   NETIF_FLAG_ETHERNET | NETIF_FLAG_IGMP | NETIF_FLAG_MLD6;
    return ERR_OK;
}

static void choose_mac(struct um_card *card, const uint8_t mac[6])
{
    static const uint8_t none[6];
    uint8_t *own = card->netif.hwaddr;
    card->netif.hwaddr_len = 6;
    memcpy(own, mac, 6);
    if (memcmp(mac, none, 6) != 0)
        return;
    uint32_t random[2] = {um_random(), um_random()};
    memcpy(own, random, 6);
    own[0] = (uint8_t)((own[0] | 2) & ~1); /* locally given, of one card */
}

static void start(struct um_card *card)
{
    struct netif *netif = &card->netif;
    if (card->flags & UM_PACKET_BARE)
        NETIF_SET_CHECKSUM_CTRL(netif, NETIF_CHECKSUM_DISABLE_ALL);
    netif_set_up(netif);
    netif_set_link_up(netif);
    netif_create_ip6_linklocal_address(netif, 1);
    netif_set_ip6_autoconfig_enabled(netif,
                                     (card->flags & UM_PACKET_SLAAC) != 0);
    if (card->flags & UM_PACKET_DHCP)
        dhcp_start(netif);
    if (card->flags & UM_PACKET_DHCP6)
        dhcp6_enable_stateless(netif);
    /* One window for all of lwIP: that of the link which bears least. */
    if (!um_tcp_window || card->window < um_tcp_window)
        um_tcp_window = card->window;
}

int um_card_add(struct um_stackd *d, const struct um_packet *packet,
                const char *text, int fd)
{
    struct um_card *card = calloc(1, sizeof *card);
    int rc = card ? 0 : -ENOMEM;
    if (um_card_find(d, packet->card) || packet->mtu > MTU_MAX ||
        packet->mtu < MTU_MIN)
        rc = -EINVAL;
    else if (d->sealed && fd < 0)
        rc = -EPERM;
    if (rc < 0) {
        free(card);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    card->d = d;
    card->number = packet->card;
    card->flags = packet->flags;
    card->mtu = packet->mtu;
    card->queue_end = &card->queue;
    card->watch.fn = card_ready;
    card->control.fn = control_hung_up;
    card->control.fd = -1;
    rc = fd >= 0 ? um_wire_open(card, fd) : um_vde_open(card, text);
    if (rc == 0) {
        netif_add_noaddr(&card->netif, card, netif_start, ethernet_input);
        choose_mac(card, packet->mac);
        card->next = d->cards;
        d->cards = card;
        if (!card->next)
            netif_add_ext_callback(&d->changes, netif_changed);
        rc = um_watch(d, &card->watch, EPOLLIN);
        if (rc == 0 && card->control.fd >= 0)
            rc = um_watch(d, &card->control, EPOLLRDHUP);
        start(card);
        return rc;
    }
    free(card);
    return rc;
}

void um_cards_close(struct um_stackd *d)
{
    if (d->cards)
        netif_remove_ext_callback(&d->changes);
    while (d->cards) {
        struct um_card *card = d->cards;
        d->cards = card->next;
        dhcp_stop(&card->netif);
        dhcp_cleanup(&card->netif);
        dhcp6_disable(&card->netif);
        dhcp6_cleanup(&card->netif);
        netif_remove(&card->netif);
        um_watch(d, &card->watch, 0);
        um_watch(d, &card->control, 0);
        while (card->queue)
            drop_first(card);
        card->link->close(card);
        free(card);
    }
}
