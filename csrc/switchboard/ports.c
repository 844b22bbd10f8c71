/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * ports.c - which socket of a stack has which port
 *
 * One table per stack, hashed by port; a port's chain holds the few sockets
 * that share it, the latest first, as in the kernel (so that the latest of
 * several SO_REUSEADDR datagram sockets gets what arrives). The rules of
 * sharing are those of inet_bind_conflict() and udp_lib_lport_inuse() in
 * net/ipv4: two names are in each other's way if they have a family in common
 * and the addresses are equal or one is the wildcard; then
 *
 *     both SO_REUSEADDR   datagram: fine; stream: fine unless the other listens
 *     both SO_REUSEPORT   fine
 *     else                EADDRINUSE
 *
 * A dual-stack wildcard covers both families, a v4-mapped name only IPv4.
 *
 * What differs, on purpose: accepted connections hold no port and there is no
 * TIME_WAIT, so a server restarts at once. The user ids of SO_REUSEPORT sharers
 * are not compared: one user owns all of a view.
 *
 * The trap: a stream socket that was bound or that listened and is then closed
 * reports nothing (see um_sock_alive()). So whoever is in the way is asked
 * whether it still exists, and forgotten if not. Forgetting changes the chain
 * in hand: every loop that forgets starts over. The search for an ephemeral
 * port does not ask 28,232 times; it collects once when it has found nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "packet.h"

#define BUCKETS 4096

/* /proc/sys/net/ipv4/ip_local_port_range of a fresh network namespace. */
#define EPHEMERAL_FIRST 32768
#define EPHEMERAL_LAST  60999

/* From linux/in.h, younger than the C library's headers. */
#define OPTION_LOCAL_PORT_RANGE 51

struct um_ports {
    struct um_bind *chains[BUCKETS];
    uint32_t random; /* state of next_random(), never 0 */
};

struct um_ports *um_ports_create(void)
{
    /* Of a stack with few ports, few pages of it are used. */
    struct um_ports *ports = mmap(NULL, sizeof(*ports), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (ports == MAP_FAILED)
        return NULL;
    if (getrandom(&ports->random, sizeof(ports->random), GRND_NONBLOCK) < 0)
        ports->random = (uint32_t)um_now_ms();
    ports->random |= 1;
    return ports;
}

void um_ports_destroy(struct um_ports *ports)
{
    if (ports != NULL)
        munmap(ports, sizeof(*ports));
}

/* Marsaglia's xorshift32: ports need to be spread, not secret. */
static uint32_t next_random(struct um_ports *ports)
{
    ports->random ^= ports->random << 13;
    ports->random ^= ports->random >> 17;
    ports->random ^= ports->random << 5;
    return ports->random;
}

static struct um_bind **chain_of(struct um_ports *ports, uint16_t port)
{
    return &ports->chains[port % BUCKETS];
}

/* What sock would hold under this name, without a place in the table. */
static struct um_bind claim(struct um_sock *sock, const struct um_name *name)
{
    bool v4 = um_addr_is_v4(name->addr);
    bool any = um_addr_is_any(name->addr);
    struct um_bind want = {
        .sock = sock,
        .stack = sock->stack,
        .protocol = sock->protocol,
        .port = name->port,
        .any = any,
        .fam4 = v4 || (any && !sock->v6only),
        .fam6 = !v4,
    };

    memcpy(want.addr, name->addr, sizeof(want.addr));
    return want;
}

static bool overlaps(const struct um_bind *a, const struct um_bind *b)
{
    if (a->protocol != b->protocol || a->port != b->port)
        return false;
    if (!(a->fam4 && b->fam4) && !(a->fam6 && b->fam6))
        return false;
    return a->any || b->any || um_addr_equal(a->addr, b->addr);
}

static bool may_share(const struct um_bind *want, const struct um_bind *held)
{
    if (want->sock->reuseport && held->sock->reuseport)
        return true;
    return want->sock->reuseaddr && held->sock->reuseaddr && !held->listening;
}

/* Does the socket still exist? If not, it is forgotten and the chain in hand
 * is void. */
static bool still_there(const struct um_bind *held)
{
    struct um_sock *sock = held->sock;

    if (sock->reports_end || um_sock_alive(sock->stack->sb, sock))
        return true;
    um_sock_destroy(sock->stack->sb, sock);
    return false;
}

/* The first socket that forbids `want`, NULL if none does. share: whether two
 * that agree to share a port may. */
static const struct um_bind *in_the_way(const struct um_bind *want, bool share)
{
    const struct um_bind *held = *chain_of(want->stack->ports, want->port);

    for (; held != NULL; held = held->next)
        if (held->sock != want->sock && overlaps(want, held) &&
            !(share && may_share(want, held)))
            break;
    return held;
}

/* May `want` be had beside all that still exist? 0 or -EADDRINUSE. */
static int check(const struct um_bind *want)
{
    const struct um_bind *held;

    while ((held = in_the_way(want, true)) != NULL)
        if (still_there(held))
            return -EADDRINUSE;
    return 0;
}

/* Set want->port to a port that nobody has. 0 or -EADDRINUSE. */
static int pick_once(struct um_bind *want, uint16_t first, uint16_t last)
{
    uint32_t count = (uint32_t)last - first + 1;
    uint32_t start = next_random(want->stack->ports) % count;

    for (uint32_t i = 0; i < count; i++) {
        want->port = (uint16_t)(first + (start + i) % count);
        if (in_the_way(want, false) == NULL)
            return 0;
    }
    return -EADDRINUSE;
}

static int pick(struct um_bind *want)
{
    uint32_t range = (uint32_t)um_option_int(want->sock, IPPROTO_IP,
                                             OPTION_LOCAL_PORT_RANGE, 0);
    uint16_t first = range & 0xffff ? (uint16_t)range : EPHEMERAL_FIRST;
    uint16_t last = range >> 16 ? (uint16_t)(range >> 16) : EPHEMERAL_LAST;

    /* As the kernel does with a range that is none. */
    if (first > last) {
        first = EPHEMERAL_FIRST;
        last = EPHEMERAL_LAST;
    }
    if (pick_once(want, first, last) == 0)
        return 0;
    um_collect(want->stack->sb, true);
    return pick_once(want, first, last);
}

int um_port_take(struct um_sock *sock, const struct um_name *name)
{
    struct um_bind want = claim(sock, name);
    struct um_bind *held, **chain;
    int rc = name->port == 0 ? pick(&want) : check(&want);

    if (rc < 0)
        return rc;
    held = malloc(sizeof(*held));
    if (held == NULL)
        return -ENOMEM;
    um_port_release(sock);
    *held = want;
    chain = chain_of(sock->stack->ports, want.port);
    held->next = *chain;
    *chain = held;
    um_packet_port(want.stack, want.protocol, want.port, true);
    sock->bind = held;
    sock->local = *name;
    sock->local.port = want.port;
    return 0;
}

void um_port_release(struct um_sock *sock)
{
    struct um_bind **at;

    if (sock->bind == NULL)
        return;
    at = chain_of(sock->stack->ports, sock->bind->port);
    while (*at != sock->bind)
        at = &(*at)->next;
    *at = sock->bind->next;
    um_packet_port(sock->stack, sock->protocol, sock->bind->port, false);
    free(sock->bind);
    sock->bind = NULL;
}

int um_port_listen(struct um_sock *sock)
{
    int rc = check(sock->bind);

    if (rc == 0)
        sock->bind->listening = true;
    return rc;
}

/* ---- who gets what arrives ---- */

/* How well `held` fits what goes to `to` from `from`; -1: not at all. The
 * weights are those of compute_score() in net/ipv4/udp.c: connected to the
 * sender, then bound to the address, then a socket of the very family. */
static int fitness(const struct um_bind *held, int protocol,
                   const struct um_name *to, const struct um_name *from)
{
    const struct um_sock *sock = held->sock;
    bool v4 = um_addr_is_v4(to->addr);
    int score = v4 == (sock->domain == AF_INET) ? 1 : 0;

    if (held->protocol != protocol || held->port != to->port)
        return -1;
    if (v4 ? !held->fam4 : !held->fam6)
        return -1;
    if (!held->any && !um_addr_equal(held->addr, to->addr))
        return -1;
    /* What is sent to an address of a card arrives there. */
    if (sock->card != 0 && sock->card != um_stack_card(held->stack, to->addr))
        return -1;
    if (sock->card != 0)
        score += 4;
    if (!held->any)
        score += 2;
    if (sock->type == SOCK_STREAM)
        return held->listening && sock->state == UM_LISTENING ? score : -1;
    if (sock->state != UM_CONNECTED)
        return score;
    /* connect() narrowed a wildcard down to the address of the route. */
    if (!um_addr_is_any(sock->local.addr) &&
        !um_addr_equal(sock->local.addr, to->addr))
        return -1;
    return um_name_equal(&sock->peer, from) ? score + 4 : -1;
}

/* FNV-1a over both ends, so that one client's connection always meets the same
 * member of a group, and many clients meet all. */
static uint32_t hash_ends(const struct um_name *to, const struct um_name *from)
{
    const struct um_name *ends[2] = {to, from};
    uint32_t hash = 2166136261u;

    for (int end = 0; end < 2; end++) {
        for (size_t i = 0; i < sizeof(to->addr); i++)
            hash = (hash ^ ends[end]->addr[i]) * 16777619u;
        hash = (hash ^ (ends[end]->port & 0xffu)) * 16777619u;
        hash = (hash ^ (ends[end]->port >> 8)) * 16777619u;
    }
    return hash ^ hash >> 15;
}

/* The sharer of number `choice` among the `score` ones. */
static struct um_bind *sharer(struct um_bind *held, int protocol,
                              const struct um_name *to,
                              const struct um_name *from, int score,
                              uint32_t choice)
{
    for (; held != NULL; held = held->next)
        if (held->sock->reuseport &&
            fitness(held, protocol, to, from) == score && choice-- == 0)
            break;
    return held;
}

struct um_sock *um_port_find(struct um_stack *stack, int protocol,
                             const struct um_name *to,
                             const struct um_name *from)
{
    for (;;) {
        struct um_bind *chain = *chain_of(stack->ports, to->port);
        struct um_bind *best = NULL;
        int best_score = -1;
        uint32_t sharers = 0;

        for (struct um_bind *held = chain; held != NULL; held = held->next) {
            int score = fitness(held, protocol, to, from);

            if (score > best_score) {
                best = held;
                best_score = score;
                sharers = 0;
            }
            if (score >= 0 && score == best_score && held->sock->reuseport)
                sharers++;
        }
        if (best == NULL)
            return NULL;
        if (!best->sock->reuseport || sharers < 2)
            return best->sock;
        best = sharer(chain, protocol, to, from, best_score,
                      hash_ends(to, from) % sharers);
        /* A lone listener that is gone refuses, as it should; one of a group
         * must leave its share to the others. */
        if (still_there(best))
            return best->sock;
    }
}

struct um_sock *um_port_connecting(struct um_stack *stack,
                                   const struct um_name *local,
                                   const struct um_name *peer)
{
    const struct um_bind *held = *chain_of(stack->ports, local->port);

    for (; held != NULL; held = held->next) {
        const struct um_sock *sock = held->sock;

        if (sock->type == SOCK_STREAM && sock->state == UM_CONNECTING &&
            held->port == local->port && sock->peer.port == peer->port &&
            um_addr_equal(sock->local.addr, local->addr) &&
            um_addr_equal(sock->peer.addr, peer->addr))
            return held->sock;
    }
    return NULL;
}

/* Has one of the sockets at this port joined the group? */
static bool anyone_joined(const struct um_bind *held, const struct um_name *to)
{
    for (; held != NULL; held = held->next)
        if (held->port == to->port && um_options_joined(held->sock, to->addr))
            return true;
    return false;
}

/* IP_MULTICAST_ALL (the default): a group that anybody here has joined reaches
 * every socket that is bound to the wildcard. */
static bool wants_all_groups(const struct um_sock *sock)
{
    if (sock->domain == AF_INET6)
        return um_option_int(sock, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 1) != 0;
    return um_option_int(sock, IPPROTO_IP, IP_MULTICAST_ALL, 1) != 0;
}

/* Is it connected to somebody else than `from`? */
static bool has_another_peer(const struct um_sock *sock,
                             const struct um_name *from)
{
    return sock->state == UM_CONNECTED && !um_name_equal(&sock->peer, from);
}

void um_port_each(struct um_stack *stack, int protocol,
                  const struct um_name *to, const struct um_name *from,
                  int card, void (*fn)(struct um_sock *sock, void *arg),
                  void *arg)
{
    struct um_bind *held = *chain_of(stack->ports, to->port), *next;
    bool multicast = um_addr_is_multicast(to->addr);
    bool joined = multicast && anyone_joined(held, to);

    for (; held != NULL; held = next) {
        next = held->next; /* fn may find that its socket has ended */
        if (held->protocol != protocol || held->port != to->port ||
            !(um_addr_is_v4(to->addr) ? held->fam4 : held->fam6))
            continue;
        if (!held->any && !um_addr_equal(held->addr, to->addr))
            continue;
        if (has_another_peer(held->sock, from))
            continue;
        if (multicast && held->sock->card != 0 && held->sock->card != card)
            continue;
        if (multicast &&
            !um_options_hears(held->sock, to->addr, from->addr, card,
                              joined && wants_all_groups(held->sock)))
            continue;
        fn(held->sock, arg);
    }
}
