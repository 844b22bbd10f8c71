/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * source.c - which of a card's IPv6 addresses a packet is sent from
 *
 * RFC 6724, section 5, as far as addresses of one card differ: rules 2 (scope),
 * 6 (label of the policy table) and 8 (longest matching prefix). Of equals the
 * last one counts. IPv4 has the address of the route, as in Linux.
 */
#include <string.h>

#include "um.h"

enum { LINK_LOCAL = 2, SITE_LOCAL = 5, GLOBAL = 14 };

struct policy {
    uint8_t prefix[16];
    int bits, label;
};

static const struct policy policies[] = {
    {{[15] = 1}, 128, 0},
    {{[10] = 0xff, 0xff}, 96, 4},
    {{0}, 96, 3},
    {{0x20, 0x01}, 32, 5},
    {{0x20, 0x02}, 16, 2},
    {{0x3f, 0xfe}, 16, 12},
    {{0xfe, 0xc0}, 10, 11},
    {{0xfc}, 7, 13},
    {{0}, 0, 1},
};

static int common_bits(const uint8_t a[16], const uint8_t b[16])
{
    int i = 0;
    while (i < 128 && !((a[i / 8] ^ b[i / 8]) & 0x80 >> i % 8))
        i++;
    return i;
}

static int label_of(const uint8_t addr[16])
{
    const struct policy *policy = policies;
    while (common_bits(addr, policy->prefix) < policy->bits)
        policy++;
    return policy->label;
}

static int scope_of(const uint8_t addr[16])
{
    if (addr[0] == 0xff)
        return addr[1] & 0xf;
    if (addr[0] != 0xfe)
        return GLOBAL;
    int kind = addr[1] & 0xc0;
    return kind == 0x80 ? LINK_LOCAL : kind == 0xc0 ? SITE_LOCAL : GLOBAL;
}

/* Is a better than b? */
static bool is_better(const struct um_card_address *a,
                      const struct um_card_address *b, const uint8_t dest[16])
{
    int scope_a = scope_of(a->addr), scope_b = scope_of(b->addr);
    if (scope_a < scope_b)
        return scope_a >= scope_of(dest);
    if (scope_b < scope_a)
        return scope_b < scope_of(dest);
    int label = label_of(dest);
    bool fits_a = label_of(a->addr) == label,
         fits_b = label_of(b->addr) == label;
    if (fits_a != fits_b)
        return fits_a;
    int bits_a = common_bits(a->addr, dest),
        bits_b = common_bits(b->addr, dest);
    return (bits_a < a->prefix ? bits_a : a->prefix) >
           (bits_b < b->prefix ? bits_b : b->prefix);
}

bool um_source_choose(const struct um_stack *stack, int card,
                      const uint8_t dest[16], uint8_t ret[16])
{
    const struct um_card_address *best = NULL;
    for (int i = 0; i < stack->address_count; i++) {
        const struct um_card_address *one = &stack->addresses[i];
        if (one->card == card && !um_addr_is_v4(one->addr) &&
            (!best || !is_better(best, one, dest)))
            best = one;
    }
    if (best)
        memcpy(ret, best->addr, 16);
    return best != NULL;
}
