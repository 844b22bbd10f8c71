/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * lookup.c - find a segment's connection without a walk over all of them
 *
 * tcp_input() walks the list of connections, each a miss of the cache: with 4,000
 * of them, of which any may be next, 60 us for each segment, where all else is 5.
 * It looks at the first one first; so what a segment is for is brought to the
 * front before lwIP sees it.
 *
 * A hash table finds it. To take it out of a list with one direction its
 * predecessor is needed, and lwIP changes the list without a word to us. So each
 * connection has a guess at its predecessor, which is right if that is alive and
 * has it as its next; where it is not, one walk puts all guesses right. What is
 * guessed at never becomes free memory: an entry lives on for another connection.
 *
 * Births and deaths of connections are told by lwIP (its "ext args").
 */
#include <errno.h>
#include <stdlib.h>

#include "lwip/ip.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/tcp.h"
#include "lwip/raw.h"
#include "stackd.h"

enum { BUCKETS = 4096, EXT_ARG = 1 };

struct entry {
    struct entry *next; /* in its bucket, or of those without a pcb */
    struct um_lookup *lookup;
    struct entry **bucket; /* lwIP forgets the port before it tells the death */
    struct tcp_pcb *pcb;   /* NULL: it is gone */
    struct entry *before;  /* the guess; NULL: none */
};

struct um_lookup {
    struct entry *buckets[BUCKETS], *unused;
    struct raw_pcb *raw[2]; /* IPv4, IPv6 */
};

static uint32_t hash_of(const ip_addr_t *remote, uint16_t remote_port,
                        uint16_t local_port)
{
    uint32_t hash = IP_IS_V4(remote) ? ip4_addr_get_u32(ip_2_ip4(remote))
                                     : ip_2_ip6(remote)->addr[3];
    hash ^= (uint32_t)remote_port << 16 | local_port;
    hash *= UINT32_C(0x9e3779b1);
    return (hash ^ hash >> 16) % BUCKETS;
}

static struct entry **bucket_of(struct um_lookup *lookup,
                                const struct tcp_pcb *pcb)
{
    return &lookup->buckets[hash_of(&pcb->remote_ip, pcb->remote_port,
                                    pcb->local_port)];
}

static struct entry *entry_of(const struct tcp_pcb *pcb)
{
    return pcb ? tcp_ext_arg_get(pcb, EXT_ARG) : NULL;
}

/* ---- births and deaths ---- */

static void died(u8_t id, void *data)
{
    (void)id;
    struct entry *entry = data;
    struct entry **at = entry->bucket;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    entry->pcb = NULL;
    entry->next = entry->lookup->unused;
    entry->lookup->unused = entry;
}

/* Without memory it is found as lwIP finds it. */
void um_lookup_add(struct um_stackd *d, struct tcp_pcb *pcb)
{
    static const struct tcp_ext_arg_callbacks callbacks = {.destroy = died};
    struct um_lookup *lookup = d->lookup;
    struct entry *entry = lookup->unused;
    if (entry)
        lookup->unused = entry->next;
    else
        entry = malloc(sizeof *entry);
    if (!entry)
        return;
    struct entry **bucket = bucket_of(lookup, pcb);
    *entry = (struct entry){*bucket, lookup, bucket, pcb, NULL};
    *bucket = entry;
    tcp_ext_arg_set(pcb, EXT_ARG, entry);
    tcp_ext_arg_set_callbacks(pcb, EXT_ARG, &callbacks);
    struct entry *after = entry_of(pcb->next);
    if (after)
        after->before = entry;
}

static err_t was_born(u8_t id, struct tcp_pcb_listen *listener,
                      struct tcp_pcb *pcb)
{
    um_lookup_add(listener->ext_args[id].data, pcb);
    return ERR_OK;
}

static void nothing_died(u8_t id, void *data)
{
    (void)id;
    (void)data;
}

void um_lookup_listen(struct um_stackd *d, struct tcp_pcb *listener)
{
    static const struct tcp_ext_arg_callbacks callbacks = {nothing_died,
                                                           was_born};
    tcp_ext_arg_set(listener, EXT_ARG, d);
    tcp_ext_arg_set_callbacks(listener, EXT_ARG, &callbacks);
}

/* ---- segments ---- */

/* Put all guesses right. Return: what stands before pcb, or NULL. */
static struct tcp_pcb *walk(const struct tcp_pcb *pcb)
{
    struct tcp_pcb *found = NULL;
    for (struct tcp_pcb *at = tcp_active_pcbs; at; at = at->next) {
        struct entry *after = entry_of(at->next);
        if (after)
            after->before = entry_of(at);
        if (at->next == pcb)
            found = at;
    }
    return found;
}

static void bring_to_front(struct entry *entry)
{
    struct tcp_pcb *pcb = entry->pcb, *first = tcp_active_pcbs;
    bool active = pcb->state > LISTEN && pcb->state < TIME_WAIT;
    if (pcb == first || !active)
        return;
    struct tcp_pcb *before = entry->before ? entry->before->pcb : NULL;
    if (!before || before->next != pcb)
        before = walk(pcb);
    if (!before)
        return;
    before->next = pcb->next;
    pcb->next = first;
    tcp_active_pcbs = pcb;
    struct entry *after = entry_of(before->next);
    if (after)
        after->before = entry_of(before);
    if (entry_of(first))
        entry_of(first)->before = entry;
}

/* lwIP gets it next. */
static u8_t segment_came(void *arg, struct raw_pcb *raw, struct pbuf *p,
                         const ip_addr_t *addr)
{
    (void)raw;
    struct um_lookup *lookup = arg;
    uint16_t ports[2];
    if (pbuf_copy_partial(p, ports, sizeof ports,
                          ip_current_header_tot_len()) != sizeof ports)
        return 0;
    uint16_t remote = lwip_ntohs(ports[0]), local = lwip_ntohs(ports[1]);
    struct entry *entry = lookup->buckets[hash_of(addr, remote, local)];
    while (entry &&
           !(entry->pcb->remote_port == remote &&
             entry->pcb->local_port == local &&
             ip_addr_cmp(&entry->pcb->remote_ip, addr) &&
             ip_addr_cmp(&entry->pcb->local_ip, ip_current_dest_addr())))
        entry = entry->next;
    if (entry)
        bring_to_front(entry);
    return 0;
}

/* ---- life ---- */

int um_lookup_open(struct um_stackd *d)
{
    static const u8_t types[2] = {IPADDR_TYPE_V4, IPADDR_TYPE_V6};
    d->lookup = calloc(1, sizeof *d->lookup);
    for (int i = 0; i < 2 && d->lookup; i++) {
        d->lookup->raw[i] = raw_new_ip_type(types[i], IP_PROTO_TCP);
        if (!d->lookup->raw[i])
            return -ENOMEM;
        raw_recv(d->lookup->raw[i], segment_came, d->lookup);
    }
    return d->lookup ? 0 : -ENOMEM;
}

static void destroy_all(struct entry *entry)
{
    while (entry) {
        struct entry *next = entry->next;
        if (entry->pcb) { /* lwIP goes on with it alone, to no end */
            tcp_ext_arg_set(entry->pcb, EXT_ARG, NULL);
            entry->pcb->ext_args[EXT_ARG].callbacks = NULL;
        }
        free(entry);
        entry = next;
    }
}

void um_lookup_close(struct um_stackd *d)
{
    if (!d->lookup)
        return;
    for (int i = 0; i < 2; i++)
        if (d->lookup->raw[i])
            raw_remove(d->lookup->raw[i]);
    for (int i = 0; i < BUCKETS; i++)
        destroy_all(d->lookup->buckets[i]);
    destroy_all(d->lookup->unused);
    free(d->lookup);
}
