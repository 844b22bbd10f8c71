/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * check_ports.c - the table of ports and the names, without a switchboard
 *
 * Links ports.c and names.c; what they call elsewhere is played here: sockets
 * that end without a word, and the collector that finds them.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../csrc/switchboard/um.h"

enum { FIRST = 32768, LAST = 60999, EPHEMERAL = LAST - FIRST + 1 };

static struct um_switchboard board;
static struct um_stack stack = {.sb = &board};
static int collections, destroyed;
static struct um_sock *ended; /* the one that has ended without telling */

bool um_sock_alive(struct um_switchboard *sb, struct um_sock *sock)
{
    (void)sb;
    return sock != ended;
}

void um_sock_destroy(struct um_switchboard *sb, struct um_sock *sock)
{
    (void)sb;
    um_port_release(sock);
    free(sock);
    destroyed++;
    ended = NULL;
}

int um_stack_card(const struct um_stack *of, const uint8_t addr[16])
{
    (void)of;
    return um_addr_is_loopback(addr) ? UM_CARD_LO : 2;
}

void um_collect(struct um_switchboard *sb, bool now)
{
    collections++;
    if (now && ended)
        um_sock_destroy(sb, ended);
}

int um_option_int(const struct um_sock *sock, int level, int name, int fallback)
{
    (void)sock;
    (void)level;
    (void)name;
    return fallback;
}

bool um_options_joined(const struct um_sock *sock, const uint8_t group[16])
{
    (void)sock;
    (void)group;
    return false;
}

bool um_options_hears(const struct um_sock *sock, const uint8_t group[16],
                      const uint8_t source[16], int card, bool fallback)
{
    (void)sock;
    (void)group;
    (void)source;
    (void)card;
    return fallback;
}

void um_packet_port(struct um_stack *of, int protocol, uint16_t port,
                    bool taken)
{
    (void)of;
    (void)protocol;
    (void)port;
    (void)taken;
}

void um_packet_listen(struct um_sock *sock)
{
    (void)sock;
}

void um_packet_unlisten(struct um_sock *sock)
{
    (void)sock;
}

int64_t um_now_ms(void)
{
    return 1;
}

static struct um_name v4(uint8_t last, uint16_t port)
{
    struct um_name name = {.port = port};
    memcpy(name.addr, last ? um_loopback4 : um_any4, 16);
    if (last)
        name.addr[15] = last;
    return name;
}

static struct um_sock *make(int type, bool reuseport)
{
    struct um_sock *sock = calloc(1, sizeof *sock);
    assert(sock);
    sock->stack = &stack;
    sock->domain = AF_INET;
    sock->type = type;
    sock->protocol = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    sock->reuseport = reuseport;
    return sock;
}

static void drop(struct um_sock *sock)
{
    um_port_release(sock);
    free(sock);
}

static void listen_on(struct um_sock *sock, struct um_name name)
{
    assert(um_port_take(sock, &name) == 0);
    assert(um_port_listen(sock) == 0);
    sock->state = UM_LISTENING;
}

static void check_dead_holder_is_forgotten(void)
{
    struct um_name name = v4(1, 80), any = v4(0, 80);
    struct um_sock *old = make(SOCK_STREAM, false);
    struct um_sock *new = make(SOCK_STREAM, false);
    listen_on(old, name);
    assert(um_port_take(new, &any) == -EADDRINUSE);
    ended = old;
    assert(um_port_take(new, &any) == 0);
    assert(destroyed == 1 && new->local.port == 80);
    drop(new);
}

static void check_group_passes_over_the_dead(void)
{
    enum { MEMBERS = 4 };
    struct um_sock *member[MEMBERS];
    struct um_name name = v4(1, 81);
    bool hit[MEMBERS] = {0};
    for (int i = 0; i < MEMBERS; i++) {
        member[i] = make(SOCK_STREAM, true);
        listen_on(member[i], name);
    }
    ended = member[2];
    for (uint16_t port = 1000; port < 1200; port++) {
        struct um_name from = v4(1, port);
        struct um_sock *found = um_port_find(&stack, IPPROTO_TCP, &name, &from);
        for (int i = 0; i < MEMBERS; i++)
            hit[i] |= found == member[i];
        assert(found == um_port_find(&stack, IPPROTO_TCP, &name, &from));
    }
    assert(hit[0] && hit[1] && !hit[2] && hit[3] && destroyed == 2);
    drop(member[0]);
    drop(member[1]);
    drop(member[3]);
}

static void check_every_ephemeral_port_is_found(void)
{
    static struct um_sock *all[EPHEMERAL];
    static bool seen[LAST + 1];
    struct um_name name = v4(1, 0);
    struct um_sock *one_more = make(SOCK_STREAM, false);
    for (int i = 0; i < EPHEMERAL; i++) {
        all[i] = make(SOCK_STREAM, false);
        assert(um_port_take(all[i], &name) == 0);
        uint16_t port = all[i]->local.port;
        assert(port >= FIRST && port <= LAST && !seen[port]);
        seen[port] = true;
    }
    assert(collections == 0);
    assert(um_port_take(one_more, &name) == -EADDRINUSE && collections == 1);
    ended = all[7];
    all[7] = NULL;
    assert(um_port_take(one_more, &name) == 0 && collections == 2);
    drop(one_more);
    for (int i = 0; i < EPHEMERAL; i++)
        if (all[i])
            drop(all[i]);
}

static void check_connected_datagram_sockets_come_first(void)
{
    struct um_name to = v4(1, 53), peer = v4(1, 5000), other = v4(1, 5001);
    struct um_sock *open = make(SOCK_DGRAM, true);
    struct um_sock *connected = make(SOCK_DGRAM, true);
    assert(um_port_take(open, &to) == 0);
    assert(um_port_take(connected, &to) == 0);
    connected->state = UM_CONNECTED;
    connected->peer = peer;
    assert(um_port_find(&stack, IPPROTO_UDP, &to, &peer) == connected);
    assert(um_port_find(&stack, IPPROTO_UDP, &to, &other) == open);
    drop(open);
    assert(um_port_find(&stack, IPPROTO_UDP, &to, &other) == NULL);
    drop(connected);
}

static void check_names_survive_the_round_trip(void)
{
    struct sockaddr_storage ss;
    struct um_name name = v4(9, 4242), back;
    char text[64];
    assert(um_name_format(AF_INET, &name, &ss) == sizeof(struct sockaddr_in));
    assert(um_name_parse(AF_INET, &ss, 16, &back) == 0);
    assert(um_name_equal(&name, &back));
    assert(um_name_format(AF_INET6, &name, &ss) == sizeof(struct sockaddr_in6));
    assert(um_name_parse(AF_INET6, &ss, 28, &back) == 0);
    assert(um_name_equal(&name, &back));
    assert(um_name_parse(AF_INET, &ss, 28, &back) == -EAFNOSUPPORT);
    assert(um_name_parse(AF_INET6, &ss, 23, &back) == -EINVAL);
    assert(strcmp(um_name_text(&name, text), "127.0.0.9:4242") == 0);
    ss.ss_family = AF_UNSPEC;
    assert(um_name_parse(AF_INET6, &ss, 2, &back) == 1);
}

int main(void)
{
    stack.ports = um_ports_create();
    assert(stack.ports);
    check_dead_holder_is_forgotten();
    check_group_passes_over_the_dead();
    check_every_ephemeral_port_is_found();
    check_connected_datagram_sockets_come_first();
    check_names_survive_the_round_trip();
    um_ports_destroy(stack.ports);
    return 0;
}
