/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * names.c - addresses and ports: read from programs, written to them
 *
 * Inside the switchboard an address is always 16 bytes, IPv4 in its mapped form
 * (::ffff:a.b.c.d): one table, one comparison, and a dual-stack socket needs no
 * second name. What a program sees depends on its socket's domain only here.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "um.h"

/* RFC 2133's sockaddr_in6 had no scope; Linux takes it still (SIN6_LEN_RFC2133
 * in net/ipv6.h). */
#define SIN6_WITHOUT_SCOPE 24

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

const uint8_t um_any4[16] = {[10] = 0xff, [11] = 0xff};
const uint8_t um_any6[16] = {0};
const uint8_t um_loopback4[16] = {
    [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
const uint8_t um_loopback6[16] = {[15] = 1};

bool um_addr_is_v4(const uint8_t addr[16])
{
    return memcmp(addr, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool um_addr_equal(const uint8_t a[16], const uint8_t b[16])
{
    return memcmp(a, b, 16) == 0;
}

bool um_addr_is_any(const uint8_t addr[16])
{
    return um_addr_equal(addr, um_any6) || um_addr_equal(addr, um_any4);
}

bool um_addr_is_loopback(const uint8_t addr[16])
{
    if (um_addr_is_v4(addr))
        return addr[12] == 127;
    return um_addr_equal(addr, um_loopback6);
}

bool um_addr_is_multicast(const uint8_t addr[16])
{
    if (um_addr_is_v4(addr))
        return (addr[12] & 0xf0) == 0xe0;
    return addr[0] == 0xff;
}

static bool is_link_local(const uint8_t addr[16])
{
    return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

bool um_name_equal(const struct um_name *a, const struct um_name *b)
{
    return a->port == b->port && um_addr_equal(a->addr, b->addr);
}

static void from_in(const struct sockaddr_in *in, struct um_name *ret)
{
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->addr, v4_prefix, sizeof(v4_prefix));
    memcpy(ret->addr + 12, &in->sin_addr, 4);
    ret->port = ntohs(in->sin_port);
}

/* A scope counts only with a link-local address, as in the kernel. */
static void from_in6(const struct sockaddr_in6 *in6, struct um_name *ret)
{
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->addr, &in6->sin6_addr, 16);
    ret->port = ntohs(in6->sin6_port);
    if (is_link_local(ret->addr))
        ret->scope = in6->sin6_scope_id;
}

/* The order of the tests is the kernel's: a sockaddr_in is too short for an
 * IPv6 socket (EINVAL) before its family is looked at, but AF_UNSPEC comes
 * first of all. */
int um_name_parse(int domain, const void *sockaddr, size_t len,
                  struct um_name *ret)
{
    struct sockaddr_storage ss = {0};
    size_t least =
        domain == AF_INET6 ? SIN6_WITHOUT_SCOPE : sizeof(struct sockaddr_in);

    if (len < sizeof(sa_family_t) || len > sizeof(ss))
        return -EINVAL;
    memcpy(&ss, sockaddr, len);
    if (ss.ss_family == AF_UNSPEC) {
        from_in((const struct sockaddr_in *)&ss, ret);
        return 1;
    }
    if (len < least)
        return -EINVAL;
    if (ss.ss_family != domain)
        return -EAFNOSUPPORT;
    if (domain == AF_INET6)
        from_in6((const struct sockaddr_in6 *)&ss, ret);
    else
        from_in((const struct sockaddr_in *)&ss, ret);
    return 0;
}

static void to_in(const struct um_name *name, struct sockaddr_in *ret)
{
    ret->sin_family = AF_INET;
    ret->sin_port = htons(name->port);
    memcpy(&ret->sin_addr, name->addr + 12, 4);
}

static void to_in6(const struct um_name *name, struct sockaddr_in6 *ret)
{
    ret->sin6_family = AF_INET6;
    ret->sin6_port = htons(name->port);
    memcpy(&ret->sin6_addr, name->addr, 16);
    ret->sin6_scope_id = name->scope;
}

size_t um_name_format(int domain, const struct um_name *name,
                      struct sockaddr_storage *ret)
{
    struct um_name shown = *name;

    memset(ret, 0, sizeof(*ret));
    if (domain == AF_INET) {
        to_in(name, (struct sockaddr_in *)ret);
        return sizeof(struct sockaddr_in);
    }
    if (um_addr_is_any(name->addr))
        memcpy(shown.addr, um_any6, sizeof(shown.addr));
    to_in6(&shown, (struct sockaddr_in6 *)ret);
    return sizeof(struct sockaddr_in6);
}

socklen_t um_name_to_host(const struct um_name *name,
                          struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (um_addr_is_v4(name->addr)) {
        to_in(name, (struct sockaddr_in *)ret);
        return sizeof(struct sockaddr_in);
    }
    to_in6(name, (struct sockaddr_in6 *)ret);
    return sizeof(struct sockaddr_in6);
}

int um_name_from_host(const struct sockaddr_storage *ss, struct um_name *ret)
{
    if (ss->ss_family == AF_INET)
        from_in((const struct sockaddr_in *)ss, ret);
    else if (ss->ss_family == AF_INET6)
        from_in6((const struct sockaddr_in6 *)ss, ret);
    else
        return -EAFNOSUPPORT;
    return 0;
}

const char *um_name_text(const struct um_name *name, char buf[64])
{
    char text[INET6_ADDRSTRLEN] = "?";

    if (um_addr_is_v4(name->addr)) {
        inet_ntop(AF_INET, name->addr + 12, text, sizeof(text));
        snprintf(buf, 64, "%s:%u", text, name->port);
    } else {
        inet_ntop(AF_INET6, name->addr, text, sizeof(text));
        snprintf(buf, 64, "[%s]:%u", text, name->port);
    }
    return buf;
}
