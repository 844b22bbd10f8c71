/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stacks.c - a stack's addresses, routes and maps, and the road they choose
 *
 * A destination is looked at in this order: the unspecified address means
 * loopback, as in Linux; an address of the stack is local; a map leads to a
 * place on the host; then the longest prefix of the routes decides.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"
#include "views.h"

enum { LOOK_MS = 1000 };

static bool in_prefix(const uint8_t addr[16], const uint8_t to[16], int prefix)
{
    int whole = prefix / 8, rest = prefix % 8;
    if (memcmp(addr, to, (size_t)whole) != 0)
        return false;
    return rest == 0 || ((addr[whole] ^ to[whole]) >> (8 - rest)) == 0;
}

bool um_stack_owns(const struct um_stack *stack, const uint8_t addr[16])
{
    if (um_addr_is_loopback(addr))
        return true;
    for (int i = 0; i < stack->address_count; i++)
        if (um_addr_equal(stack->addresses[i].addr, addr))
            return true;
    return false;
}

static const struct um_map *find_map(const struct um_stack *stack, int protocol,
                                     const struct um_name *dest)
{
    const struct um_map *best = NULL;
    for (int i = 0; i < stack->map_count; i++) {
        const struct um_map *map = &stack->maps[i];
        if (!um_addr_equal(map->from, dest->addr) ||
            (map->protocol && map->protocol != protocol) ||
            (map->port && map->port != dest->port))
            continue;
        if (!best || (map->port && !best->port))
            best = map;
    }
    return best;
}

/* card: the one that it has to leave by, or 0. */
static const struct um_route *find_route(const struct um_stack *stack,
                                         const uint8_t addr[16], int card)
{
    const struct um_route *best = NULL;
    for (int i = 0; i < stack->route_count; i++) {
        const struct um_route *route = &stack->routes[i];
        if (in_prefix(addr, route->to, route->prefix) &&
            (!card || route->card == card) &&
            (!best || route->prefix > best->prefix))
            best = route;
    }
    return best;
}

/* A link-local destination names its card; else the routes by the card that the
 * socket is bound to come first, if it is bound to one. */
static const struct um_route *choose(const struct um_stack *stack,
                                     const struct um_name *dest, int card)
{
    if (dest->scope)
        return find_route(stack, dest->addr, (int)dest->scope);
    const struct um_route *by_card =
        card ? find_route(stack, dest->addr, card) : NULL;
    return by_card ? by_card : find_route(stack, dest->addr, 0);
}

static int route_by(const struct um_stack *stack, int protocol,
                    const struct um_name *dest, int card, struct um_name *host,
                    uint8_t source[16])
{
    bool v4 = um_addr_is_v4(dest->addr);
    if (v4 ? !stack->ipv4 : !stack->ipv6)
        return -ENETUNREACH;
    *host = *dest;
    if (um_addr_is_any(dest->addr))
        memcpy(host->addr, v4 ? um_loopback4 : um_loopback6, 16);
    memcpy(source, host->addr, 16);
    /* All of 127/8 is local, but packets leave from lo's one address. */
    if (um_addr_is_loopback(host->addr))
        memcpy(source, v4 ? um_loopback4 : um_loopback6, 16);
    if (um_stack_owns(stack, host->addr))
        return UM_ROAD_LOCAL;
    const struct um_route *route = choose(stack, dest, card);
    if (!route)
        return -ENETUNREACH;
    bool near = dest->addr[0] == 0xfe && (dest->addr[1] & 0xc0) == 0x80;
    if (near && !dest->scope && !card && route->road == UM_ROAD_PACKET)
        return -EINVAL; /* on which link? */
    if (route->has_source)
        memcpy(source, route->source, 16);
    if (!v4 && route->road == UM_ROAD_PACKET)
        um_source_choose(stack, route->card, dest->addr, source);
    const struct um_map *map = find_map(stack, protocol, dest);
    if (!map)
        return route->road != UM_ROAD_PACKET || um_line_stands(stack)
                   ? route->road
                   : -ENETDOWN;
    memcpy(host->addr, map->to, 16);
    if (map->to_port)
        host->port = map->to_port;
    return UM_ROAD_RELAY;
}

int um_stack_route(const struct um_stack *stack, int protocol,
                   const struct um_name *dest, struct um_name *host,
                   uint8_t source[16])
{
    return route_by(stack, protocol, dest, 0, host, source);
}

int um_stack_card(const struct um_stack *stack, const uint8_t addr[16])
{
    for (int i = 0; i < stack->address_count; i++)
        if (um_addr_equal(stack->addresses[i].addr, addr))
            return stack->addresses[i].card;
    return um_addr_is_loopback(addr) ? UM_CARD_LO : 0;
}

uint32_t um_stack_mtu(const struct um_stack *stack, const uint8_t addr[16])
{
    int card = um_stack_card(stack, addr);
    for (int i = 0; i < stack->card_count; i++)
        if (stack->cards[i].number == card)
            return (uint32_t)stack->cards[i].mtu;
    return UINT16_MAX;
}

const char *um_stack_card_name(const struct um_stack *stack, int card)
{
    for (int i = 0; i < stack->card_count; i++)
        if (stack->cards[i].number == card)
            return stack->cards[i].name;
    return NULL;
}

int um_stack_groups_card(const struct um_stack *stack)
{
    const uint8_t all4[16] = {[10] = 0xff, 0xff, 224}, all6[16] = {0xff};
    const struct um_route *route = find_route(stack, all4, 0);
    if (!route)
        route = find_route(stack, all6, 0);
    return route ? route->card : UM_CARD_LO;
}

/* What is bound to a card reaches the stack's addresses on it, and what routes
 * lead to by it. Through lo all of the stack's addresses can be reached. Linux
 * sends anything else, too, for somebody on the wire might be waiting for it; a
 * connection would be given up after minutes, so it fails at once. */
int um_sock_route(const struct um_sock *sock, const struct um_name *dest,
                  struct um_name *host, uint8_t source[16])
{
    int road =
        route_by(sock->stack, sock->protocol, dest, sock->card, host, source);
    if (road < 0 || sock->card == 0 || um_addr_is_multicast(dest->addr))
        return road;
    int card = UM_CARD_LO;
    if (road != UM_ROAD_LOCAL)
        card = choose(sock->stack, dest, sock->card)->card;
    else if (sock->card != UM_CARD_LO)
        card = um_stack_card(sock->stack, host->addr);
    if (card == sock->card)
        return road;
    return sock->type == SOCK_STREAM ? -ENETUNREACH : UM_ROAD_LOST;
}

void um_stack_unmap(const struct um_stack *stack, int protocol,
                    const struct um_name *host, struct um_name *ret)
{
    *ret = *host;
    const struct um_map *best = NULL;
    for (int i = 0; i < stack->map_count; i++) {
        const struct um_map *map = &stack->maps[i];
        if (!um_addr_equal(map->to, host->addr) ||
            (map->protocol && map->protocol != protocol) ||
            (map->to_port && map->to_port != host->port))
            continue;
        if (!best || (map->to_port && !best->to_port))
            best = map;
    }
    if (!best)
        return;
    memcpy(ret->addr, best->from, 16);
    if (best->port)
        ret->port = best->port;
}

bool um_stack_card_address(const struct um_stack *stack, int card, bool v4,
                           uint8_t ret[16])
{
    for (int i = 0; i < stack->address_count; i++) {
        const struct um_card_address *a = &stack->addresses[i];
        if (a->card != card || um_addr_is_v4(a->addr) != v4)
            continue;
        memcpy(ret, a->addr, 16);
        return true;
    }
    return false;
}

/* ---- configuration, from Python ---- */

struct um_stack *um_stack_find(struct um_switchboard *sb, int number)
{
    if (number < 0 || number >= sb->stack_count)
        return NULL;
    return sb->stacks[number];
}

int um_stack_add(struct um_switchboard *sb, int kind, int ipv4, int ipv6)
{
    int number = 0;
    while (number < sb->stack_count && sb->stacks[number])
        number++;
    if (number == UM_MAX_STACKS)
        return -ENOSPC;
    struct um_stack *stack = calloc(1, sizeof *stack);
    if (!stack)
        return -ENOMEM;
    stack->ports = um_ports_create();
    if (!stack->ports) {
        free(stack);
        return -ENOMEM;
    }
    stack->sb = sb;
    stack->kind = kind;
    stack->ipv4 = ipv4 != 0;
    stack->ipv6 = ipv6 != 0;
    stack->number = number;
    sb->stacks[number] = stack;
    if (number == sb->stack_count)
        sb->stack_count++;
    return number;
}

/* With those that stand there for sockets of views inside (uplink.h). */
static int count_sockets(struct um_switchboard *sb,
                         const struct um_stack *stack)
{
    int count = 0;
    for (size_t i = 0; i < UM_SOCK_BUCKETS; i++)
        for (const struct um_sock *s = sb->socks[i]; s; s = s->next) {
            count += s->stack == stack;
            for (const struct um_sock *o = s->outer; o; o = o->outer)
                count += o->stack == stack;
        }
    return count;
}

int um_stack_sockets(struct um_switchboard *sb, int number)
{
    const struct um_stack *stack = um_stack_find(sb, number);
    if (!stack)
        return -EINVAL;
    um_collect(sb, true);
    return count_sockets(sb, stack);
}

/* Let links have `other` in the place of a stack. Return: how many had it. */
static int replace_member(struct um_switchboard *sb,
                          const struct um_stack *stack, struct um_stack *other)
{
    int count = 0;
    for (int i = 0; i < sb->stack_count; i++)
        for (int f = 0; sb->stacks[i] && f < UM_FAMILIES; f++)
            if (sb->stacks[i]->members[f] == stack) {
                sb->stacks[i]->members[f] = other;
                count++;
            }
    return count;
}

static bool in_use(struct um_switchboard *sb, struct um_stack *stack)
{
    for (int i = 0; i < sb->stack_count; i++)
        if (sb->stacks[i] && sb->stacks[i]->uplink == stack)
            return true;
    if (replace_member(sb, stack, stack))
        return true;
    return count_sockets(sb, stack) > 0;
}

static void destroy(struct um_switchboard *sb, struct um_stack *stack)
{
    um_line_close(stack);
    um_ports_destroy(stack->ports);
    free(stack->cards);
    sb->stacks[stack->number] = NULL;
    um_later_free(sb, stack);
}

/* Let nobody find it any more; who has found it goes on. */
static void leave(struct um_switchboard *sb, struct um_stack *stack)
{
    um_mounts_forget(sb, stack);
    replace_member(sb, stack, sb->gone);
    um_places_lose(sb, stack->number);
    if (!stack->leaving)
        sb->leaving++;
    stack->leaving = true;
    sb->next_look_ms = um_now_ms() + LOOK_MS;
}

int um_stack_remove(struct um_switchboard *sb, int number, int lazily)
{
    struct um_stack *stack = um_stack_find(sb, number);
    if (!stack)
        return -EINVAL;
    um_collect(sb, true);
    bool busy = in_use(sb, stack);
    if (busy && !lazily)
        return -EBUSY;
    leave(sb, stack);
    if (busy)
        return 1;
    sb->leaving--;
    um_forwards_close(sb, stack);
    if (sb->dgrams)
        um_forwards_destroy(sb, sb->dgrams, stack);
    destroy(sb, stack);
    return 0;
}

void um_stacks_tick(struct um_switchboard *sb)
{
    if (!sb->leaving || um_now_ms() < sb->next_look_ms)
        return;
    sb->next_look_ms = um_now_ms() + LOOK_MS;
    um_collect(sb, true);
    for (int i = 0; i < sb->stack_count; i++) {
        struct um_stack *stack = sb->stacks[i];
        if (!stack || !stack->leaving || in_use(sb, stack))
            continue;
        stack->leaving = false;
        sb->leaving--;
        struct um_event event = {.kind = UM_EVENT_UNUSED, .stack = (uint32_t)i};
        um_tell_python(sb, &event);
    }
}

void um_stacks_destroy(struct um_switchboard *sb)
{
    for (int i = 0; i < sb->stack_count; i++)
        if (sb->stacks[i])
            destroy(sb, sb->stacks[i]);
}

int um_tables_set(struct um_switchboard *sb, int number,
                  const struct um_tables *tables)
{
    struct um_stack *stack = um_stack_find(sb, number);
    if (!stack)
        return -EINVAL;
    size_t cards = (size_t)tables->card_count * sizeof *stack->cards;
    size_t addresses = (size_t)tables->address_count * sizeof *stack->addresses;
    size_t routes = (size_t)tables->route_count * sizeof *stack->routes;
    uint8_t *memory = malloc(cards + addresses + routes + 1);
    if (!memory)
        return -ENOMEM;
    free(stack->cards);
    stack->cards = (void *)memory;
    stack->addresses = (void *)(memory + cards);
    stack->routes = (void *)(memory + cards + addresses);
    memcpy(stack->cards, tables->cards, cards);
    memcpy(stack->addresses, tables->addresses, addresses);
    memcpy(stack->routes, tables->routes, routes);
    stack->card_count = tables->card_count;
    stack->address_count = tables->address_count;
    stack->route_count = tables->route_count;
    return 0;
}

int um_uplink_set(struct um_switchboard *sb, int number, int uplink)
{
    struct um_stack *stack = um_stack_find(sb, number);
    if (!stack || !um_stack_find(sb, uplink) || uplink == number)
        return -EINVAL;
    stack->uplink = um_stack_find(sb, uplink);
    return 0;
}

struct um_stack *um_stack_member(struct um_stack *stack, int family)
{
    int i = um_family_index(family);
    if (stack->kind != UM_STACK_LINK)
        return stack;
    return i < 0 ? NULL : stack->members[i];
}

bool um_stack_leads_out(const struct um_stack *stack)
{
    for (int i = 0; i < UM_FAMILIES; i++)
        if (stack->members[i] && stack->members[i]->kind == UM_STACK_NATIVE)
            return true;
    return stack->kind == UM_STACK_NATIVE;
}

/* No member is a LINK, so there are no circles. */
int um_link_set(struct um_switchboard *sb, int number, int family, int member)
{
    static const int families[] = {AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};
    struct um_stack *stack = um_stack_find(sb, number);
    struct um_stack *other = um_stack_find(sb, member);
    if (!stack || !other || stack->kind != UM_STACK_LINK || stack == other ||
        (family != PF_UNSPEC && um_family_index(family) < 0))
        return -EINVAL;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (family == PF_UNSPEC || family == families[i])
            stack->members[um_family_index(families[i])] =
                um_stack_member(other, families[i]);
    return 0;
}

int um_map_add(struct um_switchboard *sb, int number, const uint8_t *address,
               int protocol, int port, const uint8_t *to_address, int to_port)
{
    struct um_stack *stack = um_stack_find(sb, number);
    if (!stack || port < 0 || port > 65535 || to_port < 0 || to_port > 65535)
        return -EINVAL;
    if (stack->map_count == UM_MAX_MAPS)
        return -ENOSPC;
    struct um_map *map = &stack->maps[stack->map_count++];
    memcpy(map->from, address, 16);
    memcpy(map->to, to_address, 16);
    map->protocol = protocol;
    map->port = (uint16_t)port;
    map->to_port = (uint16_t)to_port;
    return 0;
}
