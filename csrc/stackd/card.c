/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * card.c - cards: lwIP's netifs, their frames and their queues
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

#include "lwip/etharp.h"
#include "lwip/ethip6.h"
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
    SOURCE = 6, /* where its sender stands in a frame ... */
    TYPE = 12,  /* ... and what it carries */
    SHORTEST = 60,
    BEHIND = 64 /* bytes of nothing */
};

struct um_frame {
    struct um_frame *next;
    size_t len;
    uint8_t bytes[];
};

/* lwIP's macros ask for it without a word of ours. */
uint32_t um_tcp_window;

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

void um_card_empty(struct um_card *card)
{
    while (card->queue)
        drop_first(card);
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
        if (card->link && card->link->flush)
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
    um_neighbour_frame(card, p);
    for (struct pbuf *q = p; q && count < PIECES_MAX; q = q->next) {
        if (!q->len)
            continue;
        iov[count].iov_base = q->payload;
        iov[count++].iov_len = q->len;
        len += q->len;
    }
    err_t rc = len == p->tot_len ? ERR_OK : ERR_BUF;
    if (rc == ERR_OK && card->link &&
        (card->queue || card->link->send(card, iov, count) == -EAGAIN))
        enqueue(card, iov, count, len);
    pbuf_add_header(p, ETH_PAD_SIZE);
    return rc;
}

/* Read into memory for the longest frame; a short one moves out of it. lwIP takes
 * for granted that it is as long as Ethernet's are at least, and looks at an UDP
 * header before it knows that there is one. */
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
    if (*rc < SHORTEST) {
        memset(frame + *rc, 0, (size_t)(SHORTEST - *rc));
        len = SHORTEST + ETH_PAD_SIZE;
    }
    struct pbuf *small = pbuf_alloc(PBUF_RAW, len + BEHIND, PBUF_RAM);
    if (small) {
        memcpy(small->payload, p->payload, len);
        memset((uint8_t *)small->payload + len, 0, BEHIND);
        pbuf_realloc(small, len); /* the memory stays */
    }
    return small;
}

/* A link may bring back what was sent (a hub that is wired in a circle): our
 * own words would tell us that somebody else has our addresses. It may bring
 * what is for others (a switch that does not know where they are): who forwards
 * would send it twice. */
void um_card_input(struct um_card *card, struct pbuf *p)
{
    const uint8_t *to = (const uint8_t *)p->payload + ETH_PAD_SIZE;
    const uint8_t *own = card->netif.hwaddr;
    struct netif *netif = um_address_netif(card, p);
    bool others = !(to[0] & 1) && memcmp(to, own, 6) != 0;
    bool ipv6 =
        to[TYPE] == ETHTYPE_IPV6 >> 8 && to[TYPE + 1] == (ETHTYPE_IPV6 & 0xff);
    if (others || (ipv6 && card->flags & UM_PACKET_ONLY_V4) ||
        memcmp(to + SOURCE, own, 6) == 0 || netif->input(p, netif) != ERR_OK)
        pbuf_free(p);
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
        if (p)
            um_card_input(card, p);
        if (rc == -EPIPE)
            um_link_lost(card);
        if (rc <= 0)
            break;
    }
}

/* ---- life ---- */

/* The MTU is set in here: lwIP copies it to that of IPv6 (mtu6) right after, and
 * without one a segment is as long as TCP_MSS. */
err_t um_card_netif(struct netif *netif)
{
    netif->mtu = um_card_of(netif)->mtu;
    netif->name[0] = 'u';
    netif->name[1] = 'm';
    netif->linkoutput = output;
    netif->output = um_output4;
    netif->output_ip6 = um_neighbour_output6;
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
    netif_set_up(netif);
    netif_set_link_up(netif); /* it never has another word: see link.c */
    um_addresses_begin(card);
}

int um_card_add(struct um_stackd *d, const struct um_packet *packet, int fd)
{
    struct um_card *card = NULL;
    if (fd >= 0 && !um_card_find(d, packet->card) && packet->mtu <= MTU_MAX &&
        packet->mtu >= MTU_MIN)
        card = calloc(1, sizeof *card);
    if (!card) {
        if (fd >= 0)
            close(fd);
        return -EINVAL;
    }
    card->d = d;
    card->number = packet->card;
    card->flags = packet->flags;
    card->mtu = packet->mtu;
    card->queue_end = &card->queue;
    card->watch.fn = card_ready;
    card->plug.fn = um_link_told;
    card->plug.fd = fd;
    netif_add_noaddr(&card->netif, card, um_card_netif, ethernet_input);
    choose_mac(card, packet->mac);
    card->next = d->cards;
    d->cards = card;
    if (!card->next)
        netif_add_ext_callback(&d->changes, um_netif_changed);
    um_watch(d, &card->plug, EPOLLIN);
    um_link_told(d, &card->plug, EPOLLIN); /* a link may be there already */
    start(card);
    return 0;
}

void um_cards_close(struct um_stackd *d)
{
    if (d->cards)
        netif_remove_ext_callback(&d->changes);
    while (d->cards) {
        struct um_card *card = d->cards;
        d->cards = card->next;
        um_addresses_end(card);
        netif_remove(&card->netif);
        um_link_close(card);
        free(card);
    }
}
