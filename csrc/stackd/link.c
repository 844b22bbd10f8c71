/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * link.c - links come and go: what a card's plug process says (see plug.h)
 *
 * A card without a link is like one whose cable is pulled: its addresses and
 * routes stay, connections wait and end in their time, and what it sends is
 * lost. lwIP is not told, for its routing would leave out the card at once,
 * and a connection would fail that Linux lets wait. It is told of a link that
 * comes, as if its cable had been pulled for a moment: then it announces its
 * addresses and groups, renews what DHCP gave and asks for routers. What it
 * knew of neighbours is forgotten, for they may be others now.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stackd.h"

static void tell(struct um_card *card)
{
    struct um_packet packet = {.kind = card->link ? UM_PACKET_FOUND
                                                  : UM_PACKET_LOST,
                               .card = card->number,
                               .mtu = card->netif.mtu};
    um_tell(card->d, &packet, NULL, -1);
}

static void unplug(struct um_card *card)
{
    um_watch(card->d, &card->watch, 0);
    card->link->close(card);
    card->link = NULL;
    card->more = false;
    um_card_empty(card);
}

void um_link_lost(struct um_card *card)
{
    struct um_packet packet = {.kind = UM_PACKET_LOST, .id = card->link_id};
    unplug(card);
    if (card->plug.events)
        send(card->plug.fd, &packet, sizeof packet,
             MSG_DONTWAIT | MSG_NOSIGNAL);
    tell(card);
}

/* One window for all of lwIP: that of the link which bears least. */
static void choose_window(const struct um_stackd *d)
{
    uint32_t window = UINT32_MAX;
    for (const struct um_card *card = d->cards; card; card = card->next)
        if (card->link && card->window < window)
            window = card->window;
    um_tcp_window = window;
}

static void plug_in(struct um_card *card, const struct um_packet *packet,
                    int fd)
{
    struct netif *netif = &card->netif;
    if (card->link)
        unplug(card);
    netif->mtu = packet->mtu < card->mtu ? packet->mtu : card->mtu;
    netif->mtu6 = netif->mtu;
    NETIF_SET_CHECKSUM_CTRL(netif, packet->flags & UM_PACKET_BARE
                                       ? NETIF_CHECKSUM_DISABLE_ALL
                                       : NETIF_CHECKSUM_ENABLE_ALL);
    card->link_id = packet->id;
    int rc = packet->flags & UM_PACKET_TRAINS ? um_wire_open(card, fd)
                                              : um_frames_open(card, fd);
    if (rc < 0)
        return;
    if (um_watch(card->d, &card->watch, EPOLLIN) < 0) {
        um_link_lost(card);
        return;
    }
    choose_window(card->d);
    if (netif_is_up(netif)) /* else it begins with this link */
        um_addresses_renew(card);
    tell(card);
}

/* Return: false when there is no more. */
static bool take_message(struct um_card *card)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct um_packet packet;
    struct iovec iov = {&packet, sizeof packet};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    int fd = -1;
    ssize_t n = recvmsg(card->plug.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) { /* the link that is there may last, but no other will come */
        um_watch(card->d, &card->plug, 0);
        return false;
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    bool found = n == (ssize_t)sizeof packet && packet.kind == UM_PACKET_FOUND;
    if (found && fd >= 0) {
        plug_in(card, &packet, fd);
    } else if (fd >= 0) {
        close(fd);
    } else if (!found && card->link && packet.id == card->link_id) {
        unplug(card);
        tell(card);
    }
    return true;
}

void um_link_told(struct um_stackd *d, struct um_watch *watch, uint32_t events)
{
    (void)d;
    (void)events;
    struct um_card *card = UM_CONTAINER(watch, struct um_card, plug);
    while (take_message(card))
        ;
}

void um_link_close(struct um_card *card)
{
    if (card->link)
        unplug(card);
    um_watch(card->d, &card->plug, 0);
    close(card->plug.fd);
}
