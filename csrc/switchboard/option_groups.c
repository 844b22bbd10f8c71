/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * option_groups.c - the options that name a card or a multicast group
 *
 * The host's cards are not the view's, so no model is asked here. A membership
 * is kept as an option like any other, one entry for each group and card, with
 * the sources that it includes or excludes as ip_mc_source() keeps them; udp.c
 * and ports.c ask for them by um_options_joined() and um_options_hears().
 */
#include <errno.h>
#include <net/if.h>
#include <string.h>

#include "options.h"
#include "packet.h"

/* ---- cards ---- */

static int bind_to_card(struct um_call *call, int card)
{
    /* Only CAP_NET_RAW may change it (sock_bindtoindex_locked()). */
    if (call->sock->card != 0)
        return -EPERM;
    if (card < 0)
        return -EINVAL;
    call->sock->card = card;
    return 0;
}

int option_set_bindtodevice(struct um_call *call, const struct row *row,
                            const uint8_t *value, size_t len)
{
    char name[IFNAMSIZ] = {0};

    (void)row;
    memcpy(name, value, len < sizeof(name) ? len : sizeof(name) - 1);
    if (name[0] == '\0')
        return bind_to_card(call, 0);
    const struct um_stack *stack = call->sock->stack;
    for (int i = 0; i < stack->card_count; i++)
        if (strcmp(name, stack->cards[i].name) == 0)
            return bind_to_card(call, stack->cards[i].number);
    return -ENODEV;
}

int option_get_bindtodevice(struct um_call *call, uint8_t *ret, size_t asked)
{
    const char *name = um_stack_card_name(call->sock->stack, call->sock->card);

    if (name == NULL)
        return 0;
    if (asked < IFNAMSIZ)
        return -EINVAL;
    memcpy(ret, name, strlen(name) + 1);
    return (int)strlen(name) + 1;
}

int option_set_bindtoifindex(struct um_call *call, const struct row *row,
                             const uint8_t *value, size_t len)
{
    int card;

    (void)row;
    if (len < sizeof(card))
        return -EINVAL;
    memcpy(&card, value, sizeof(card));
    return bind_to_card(call, card);
}

int option_get_bindtoifindex(struct um_call *call, uint8_t *ret, size_t asked)
{
    (void)asked;
    return option_give_int(ret, call->sock->card);
}

/* ---- multicast ---- */

enum { SOURCES_MAX = 10 }; /* net.ipv4.igmp_max_msf */

/* A membership, kept under MCAST_JOIN_GROUP whatever it was asked with. */
struct member {
    uint8_t group[16];
    int card;
    bool include; /* only what the sources send; else all but that */
    int count;
    uint8_t sources[SOURCES_MAX][16];
};

/* What the many options of joining and leaving say. */
struct asked {
    uint8_t group[16], source[16];
    int card;
};

static bool is_any_of(int name, int a, int b, int c, int d)
{
    return name == a || name == b || name == c || name == d;
}

static void from_v4(const void *in_addr, uint8_t ret[16])
{
    memcpy(ret, um_any4, 12);
    memcpy(ret + 12, in_addr, 4);
}

/* Read what the many forms of joining and leaving hold. Return: 0 or a
 * negative errno; *card -1: the address in it belongs to no card. */
static int read_asked(struct um_call *call, const struct row *row,
                      const uint8_t *value, size_t len, struct asked *ret)
{
    const struct um_stack *stack = call->sock->stack;
    const uint8_t *card_addr = NULL;
    struct um_name name;
    uint8_t addr[16];

    memset(ret, 0, sizeof(*ret));
    if (row->level == IPPROTO_IPV6 &&
        (row->name == IPV6_JOIN_GROUP || row->name == IPV6_LEAVE_GROUP)) {
        if (len < sizeof(struct ipv6_mreq))
            return -EINVAL;
        memcpy(ret->group, value, 16);
        memcpy(&ret->card, value + 16, sizeof(ret->card));
    } else if (row->name >= MCAST_JOIN_GROUP &&
               row->name <= MCAST_LEAVE_SOURCE_GROUP) {
        bool sourced =
            row->name != MCAST_JOIN_GROUP && row->name != MCAST_LEAVE_GROUP;
        struct group_source_req req;

        if (len < (sourced ? sizeof(req) : sizeof(struct group_req)))
            return -EINVAL;
        memset(&req, 0, sizeof(req));
        memcpy(&req, value, len < sizeof(req) ? len : sizeof(req));
        ret->card = (int)req.gsr_interface;
        if (um_name_from_host(&req.gsr_group, &name) < 0)
            return -EINVAL;
        memcpy(ret->group, name.addr, 16);
        if (sourced && um_name_from_host(&req.gsr_source, &name) < 0)
            return -EADDRNOTAVAIL;
        if (sourced)
            memcpy(ret->source, name.addr, 16);
    } else if (is_any_of(row->name, IP_ADD_SOURCE_MEMBERSHIP,
                         IP_DROP_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE,
                         IP_UNBLOCK_SOURCE)) {
        if (len != sizeof(struct ip_mreq_source))
            return -EINVAL;
        from_v4(value, ret->group);
        card_addr = value + offsetof(struct ip_mreq_source, imr_interface);
        from_v4(value + offsetof(struct ip_mreq_source, imr_sourceaddr),
                ret->source);
    } else { /* IP_ADD_MEMBERSHIP: struct ip_mreq or ip_mreqn */
        if (call->sock->type == SOCK_STREAM)
            return -EPROTO;
        if (len < sizeof(struct ip_mreq))
            return -EINVAL;
        from_v4(value, ret->group);
        card_addr = value + offsetof(struct ip_mreq, imr_interface);
        if (len >= sizeof(struct ip_mreqn))
            memcpy(&ret->card, value + offsetof(struct ip_mreqn, imr_ifindex),
                   sizeof(ret->card));
    }
    if (ret->card == 0 && card_addr != NULL) {
        from_v4(card_addr, addr);
        if (!um_addr_is_any(addr)) {
            ret->card = um_stack_card(stack, addr);
            if (ret->card == 0)
                ret->card = -1;
        }
    }
    return 0;
}

/* The entry of a group. any_card: whatever card it was joined on. */
static struct um_option *find_member(const struct um_sock *sock,
                                     const uint8_t group[16], int card,
                                     bool any_card)
{
    struct um_option *option = sock->options;

    for (; option != NULL; option = option->next) {
        struct member member;

        if (option->level != IPPROTO_IP || option->name != MCAST_JOIN_GROUP)
            continue;
        memcpy(&member, option->value, sizeof(member));
        if (um_addr_equal(member.group, group) &&
            (any_card || member.card == card))
            break;
    }
    return option;
}

bool um_options_joined(const struct um_sock *sock, const uint8_t group[16])
{
    return find_member(sock, group, 0, true) != NULL;
}

static int find_source(const struct member *member, const uint8_t source[16])
{
    int at = 0;

    while (at < member->count && !um_addr_equal(member->sources[at], source))
        at++;
    return at;
}

bool um_options_hears(const struct um_sock *sock, const uint8_t group[16],
                      const uint8_t source[16], int card, bool fallback)
{
    const struct um_option *option = find_member(sock, group, card, false);
    struct member member;

    if (option == NULL)
        return fallback;
    memcpy(&member, option->value, sizeof(member));
    return (find_source(&member, source) < member.count) == member.include;
}

int um_options_multicast_card(const struct um_sock *sock, bool v4)
{
    const struct um_option *option =
        option_find(sock, v4 ? IPPROTO_IP : IPPROTO_IPV6,
                    v4 ? IP_MULTICAST_IF : IPV6_MULTICAST_IF);
    int card = sock->card;
    uint8_t addr[16];

    if (card == 0 && option != NULL)
        card = option->effect;
    if (card == 0 && option != NULL && v4) {
        from_v4(option->value, addr);
        card = um_stack_card(sock->stack, addr);
    }
    if (card == 0)
        card = um_stack_card(sock->stack, sock->local.addr);
    return card != 0 ? card : um_stack_groups_card(sock->stack);
}

static int check_group(struct um_call *call, const struct row *row,
                       const struct asked *asked)
{
    bool v4 = um_addr_is_v4(asked->group);

    if (call->sock->type == SOCK_STREAM)
        return -EPROTO;
    if (row->level == IPPROTO_IPV6 && call->sock->domain != AF_INET6)
        return -ENOPROTOOPT;
    if (!um_addr_is_multicast(asked->group) || v4 != (row->level == IPPROTO_IP))
        return -EINVAL;
    return 0;
}

/* Read, check, and fill in the card. Return: 0 or a negative errno. */
static int ask(struct um_call *call, const struct row *row,
               const uint8_t *value, size_t len, struct asked *ret)
{
    int rc = read_asked(call, row, value, len, ret);

    if (rc == 0)
        rc = check_group(call, row, ret);
    if (rc < 0)
        return rc;
    if (ret->card == 0)
        ret->card = um_stack_groups_card(call->sock->stack);
    return um_stack_card_name(call->sock->stack, ret->card) ? 0 : -ENODEV;
}

/* An abandoned call runs again, and must not find itself there. */
static void undo_join(struct um_call *call)
{
    option_forget(call->sock, call->undo_arg);
}

/* Return: NULL without memory. */
static struct um_option *join(struct um_call *call, const struct asked *asked,
                              bool include)
{
    struct member member = {.card = asked->card, .include = include};

    memcpy(member.group, asked->group, sizeof(member.group));
    call->undo_arg = option_add(call->sock, IPPROTO_IP, MCAST_JOIN_GROUP,
                                &member, sizeof(member));
    call->undo = undo_join;
    if (call->undo_arg != NULL)
        um_packet_group(call->sock->stack, member.card, member.group, true);
    return call->undo_arg;
}

void option_left(struct um_sock *sock, const struct um_option *option)
{
    struct member member;

    if (option->level != IPPROTO_IP || option->name != MCAST_JOIN_GROUP)
        return;
    memcpy(&member, option->value, sizeof(member));
    um_packet_group(sock->stack, member.card, member.group, false);
}

int option_set_join(struct um_call *call, const struct row *row,
                    const uint8_t *value, size_t len)
{
    struct asked asked;
    int rc = ask(call, row, value, len, &asked);

    if (rc < 0)
        return rc;
    if (find_member(call->sock, asked.group, asked.card, false) != NULL)
        return -EADDRINUSE;
    return join(call, &asked, false) != NULL ? 0 : -ENOMEM;
}

int option_set_leave(struct um_call *call, const struct row *row,
                     const uint8_t *value, size_t len)
{
    struct asked asked;
    struct um_option *option;
    int rc = read_asked(call, row, value, len, &asked);

    if (rc == 0)
        rc = check_group(call, row, &asked);
    /* ip_mc_leave_group() looks for what it is told, whatever it is. */
    if (rc == -EINVAL && um_addr_is_v4(asked.group) &&
        !um_addr_is_multicast(asked.group))
        rc = -EADDRNOTAVAIL;
    if (rc < 0)
        return rc;
    /* "No card" is any for IPv6, and the default one for IPv4. */
    if (asked.card <= 0 && row->level == IPPROTO_IP)
        asked.card = um_stack_groups_card(call->sock->stack);
    option = find_member(call->sock, asked.group, asked.card, asked.card == 0);
    if (option == NULL)
        return -EADDRNOTAVAIL;
    option_forget(call->sock, option);
    return 0;
}

/* The source that was added last goes, and the entry if it was made for it. */
static void undo_source(struct um_call *call)
{
    struct um_option *option = call->undo_arg;
    struct member member;

    memcpy(&member, option->value, sizeof(member));
    member.count--;
    memcpy(option->value, &member, sizeof(member));
    if (call->undo_count)
        option_forget(call->sock, option);
}

static int add_source(struct um_call *call, struct um_option *option,
                      struct member *member, const uint8_t source[16])
{
    if (find_source(member, source) < member->count)
        return -EADDRNOTAVAIL;
    if (member->count == SOURCES_MAX)
        return -ENOBUFS;
    memcpy(member->sources[member->count++], source, 16);
    memcpy(option->value, member, sizeof(*member));
    call->undo_count = call->undo == undo_join;
    call->undo_arg = option;
    call->undo = undo_source;
    return 0;
}

/* Who includes no source is no member any more. */
static int drop_source(struct um_call *call, struct um_option *option,
                       struct member *member, const uint8_t source[16])
{
    int at = find_source(member, source);

    if (at == member->count)
        return -EADDRNOTAVAIL;
    memcpy(member->sources[at], member->sources[--member->count], 16);
    memcpy(option->value, member, sizeof(*member));
    if (member->include && member->count == 0)
        option_forget(call->sock, option);
    return 0;
}

int option_set_source(struct um_call *call, const struct row *row,
                      const uint8_t *value, size_t len)
{
    bool include = is_any_of(row->name, IP_ADD_SOURCE_MEMBERSHIP,
                             IP_DROP_SOURCE_MEMBERSHIP, MCAST_JOIN_SOURCE_GROUP,
                             MCAST_LEAVE_SOURCE_GROUP);
    bool add = is_any_of(row->name, IP_ADD_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE,
                         MCAST_JOIN_SOURCE_GROUP, MCAST_BLOCK_SOURCE);
    struct um_option *option;
    struct member member;
    struct asked asked;
    int rc = ask(call, row, value, len, &asked);

    if (rc < 0)
        return rc;
    option = find_member(call->sock, asked.group, asked.card, false);
    if (option == NULL && !(include && add))
        return -EINVAL;
    if (option == NULL && (option = join(call, &asked, true)) == NULL)
        return -ENOMEM;
    memcpy(&member, option->value, sizeof(member));
    if (member.include != include && member.count > 0)
        return -EINVAL;
    /* An empty list may change its sense. */
    member.include = include;
    memcpy(option->value, &member, sizeof(member));
    return (add ? add_source : drop_source)(call, option, &member,
                                            asked.source);
}

/* in_addr, ip_mreq or ip_mreqn; reads back as an address. */
int option_set_multicast_if4(struct um_call *call, const struct row *row,
                             const uint8_t *value, size_t len)
{
    const uint8_t *at = value;
    uint8_t addr[16];
    int card = 0;

    if (call->sock->type == SOCK_STREAM)
        return -EINVAL;
    if (len < sizeof(struct in_addr))
        return -EINVAL;
    if (len >= sizeof(struct ip_mreq))
        at = value + offsetof(struct ip_mreq, imr_interface);
    if (len >= sizeof(struct ip_mreqn))
        memcpy(&card, value + offsetof(struct ip_mreqn, imr_ifindex),
               sizeof(card));
    from_v4(at, addr);
    if (card != 0 && !um_stack_card_name(call->sock->stack, card))
        return -EADDRNOTAVAIL;
    if (card == 0 && !um_addr_is_any(addr) &&
        um_stack_card(call->sock->stack, addr) == 0)
        return -EADDRNOTAVAIL;
    return option_keep(call->sock, row->level, row->name, at,
                       sizeof(struct in_addr), card);
}

/* An int that names a card. IPV6_UNICAST_IF and IP_UNICAST_IF have it in
 * network byte order. */
int option_set_card(struct um_call *call, const struct row *row,
                    const uint8_t *value, size_t len)
{
    bool swapped = row->name == (row->level == IPPROTO_IPV6 ? IPV6_UNICAST_IF
                                                            : IP_UNICAST_IF);
    int raw, card;

    if (!swapped && call->sock->type == SOCK_STREAM)
        return -ENOPROTOOPT;
    if (swapped ? len != sizeof(raw) : len < sizeof(raw))
        return -EINVAL;
    memcpy(&raw, value, sizeof(raw));
    card = swapped ? (int)ntohl((uint32_t)raw) : raw;
    if (card != 0 && !um_stack_card_name(call->sock->stack, card))
        return swapped ? -EADDRNOTAVAIL : -ENODEV;
    return option_keep(call->sock, row->level, row->name, value, sizeof(raw),
                       raw);
}
