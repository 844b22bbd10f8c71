/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * syn.c - the first packets of connections that come in
 *
 * Nothing tells anybody that a program has closed its listener: the switchboard
 * learns it when it looks. lwIP would go on to accept, only to reset what the
 * peer takes for a connection; so a listener is asked for before it answers. Its
 * first packets wait meanwhile, and then come anew: to lwIP's listener, or, if
 * that is gone, to be refused. All that come before the answer cost one question.
 *
 * A packet may be quicker than the word of the socket that it is for: the frame
 * is read before the message that was sent earlier. So what nobody waits for comes
 * anew, too, after all messages that are there.
 */
#include <stdlib.h>

#include "lwip/ip.h"
#include "lwip/prot/tcp.h"
#include "lwip/raw.h"
#include "lwip/tcp.h"
#include "stackd.h"

enum { FLAGS_AT = 13, SYNS_MAX = 1024 };

struct um_syn {
    struct um_syn *next;
    struct pbuf *p;
    uint32_t card;
};

void um_syns_init(struct um_syns *syns)
{
    syns->first = NULL;
    syns->end = &syns->first;
    syns->count = 0;
}

static struct um_listener *listener_at(struct um_stackd *d, uint16_t port)
{
    struct um_listener *listener = d->listeners;
    while (listener && listener->pcb->local_port != port)
        listener = listener->next;
    return listener;
}

static void ask(struct um_listener *listener, uint16_t from)
{
    struct um_stackd *d = listener->d;
    struct um_packet packet = {.kind = UM_PACKET_ASK, .id = listener->id};
    um_addr_from_lwip(d, ip_current_src_addr(), from, &packet.remote);
    um_addr_from_lwip(d, ip_current_dest_addr(), listener->pcb->local_port,
                      &packet.local);
    um_tell(d, &packet, NULL, -1);
}

void um_syns_keep(struct um_syns *syns, struct pbuf *p)
{
    struct um_syn *syn = syns->count < SYNS_MAX ? malloc(sizeof *syn) : NULL;
    if (!syn) { /* it comes again */
        pbuf_free(p);
        return;
    }
    syn->next = NULL;
    syn->p = p;
    syn->card = um_card_of(ip_current_input_netif())->number;
    *syns->end = syn;
    syns->end = &syn->next;
    syns->count++;
}

static u8_t came(void *arg, struct raw_pcb *pcb, struct pbuf *p,
                 const ip_addr_t *addr)
{
    (void)pcb;
    (void)addr;
    struct um_stackd *d = arg;
    uint16_t at = ip_current_header_tot_len();
    um_ended_heed(p, at);
    if (d->admitting || (pbuf_get_at(p, (u16_t)(at + FLAGS_AT)) &
                         (TCP_SYN | TCP_ACK)) != TCP_SYN)
        return 0;
    struct tcp_hdr header;
    if (pbuf_copy_partial(p, &header, sizeof header, at) != sizeof header)
        return 0;
    struct um_listener *listener = listener_at(d, lwip_ntohs(header.dest));
    if (listener && !listener->syns.count)
        ask(listener, lwip_ntohs(header.src));
    um_syns_keep(listener ? &listener->syns : &d->strays, p);
    return 1;
}

/* What is kept meanwhile waits for the next time. */
void um_syns_release(struct um_stackd *d, struct um_syns *syns)
{
    struct um_syn *first = syns->first;
    um_syns_init(syns);
    d->admitting = true;
    while (first) {
        struct um_syn *syn = first;
        struct um_card *card = um_card_find(d, syn->card);
        first = syn->next;
        if (card)
            ip_input(syn->p, &card->netif);
        else
            pbuf_free(syn->p);
        free(syn);
    }
    d->admitting = false;
}

void um_strays_release(struct um_stackd *d)
{
    if (!d->strays.first)
        return;
    um_control_drain(d);
    um_syns_release(d, &d->strays);
}

void um_syns_admit(struct um_stackd *d, uint64_t id)
{
    struct um_listener *listener = d->listeners;
    while (listener && listener->id != id)
        listener = listener->next;
    if (!listener)
        return;
    um_syns_release(d, &listener->syns);
}

int um_syns_open(struct um_stackd *d)
{
    static const u8_t types[] = {IPADDR_TYPE_V4, IPADDR_TYPE_V6};
    for (int i = 0; i < 2; i++) {
        d->tcp[i] = raw_new_ip_type(types[i], IP_PROTO_TCP);
        if (!d->tcp[i])
            return -1;
        raw_recv(d->tcp[i], came, d);
    }
    return 0;
}

void um_syns_close(struct um_stackd *d)
{
    for (int i = 0; i < 2; i++)
        if (d->tcp[i])
            raw_remove(d->tcp[i]);
}
