/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * options.c - setsockopt and getsockopt on the sockets of a view
 *
 * Linux knows some two hundred options for TCP and UDP sockets, each with its
 * own checks, limits and way of cutting a short buffer. To write them down
 * again would be wrong from the start, so the kernel is asked: for each kind of
 * socket there are two *models*, sockets of the host of the very same kind that
 * are never bound and never connected.
 *
 *     set   on the "touched" model: it fails or clamps as Linux does; what the
 *           program gave is kept in sock->options
 *     get   never set: the "untouched" model knows the default; else the kept
 *           value is set on the touched model again and read back from there,
 *           into a buffer of the program's size
 *
 * A model stands for many sockets, so it must not matter what other sockets set
 * on it before: only the options of the table below are set there, and those
 * that would (filters, groups of netlink) get a model for themselves, which is
 * closed at once (ALONE). Reading is harmless and needs no row. What has no
 * row cannot be set: ENOPROTOOPT.
 *
 * Rejected: a model for each socket, or the host socket of the relay made when
 * the first option is set: a descriptor and 5 µs for every client that sets
 * TCP_NODELAY, most of which never leave the stack.
 *
 * Where the model would tell the truth about the host instead of the view
 * (cards, groups, the state of the connection) the row has functions of its
 * own. SURROGATE and HOST tell who else is to obey an option: the program's
 * unix socket for what the kernel does there natively, the host socket of a
 * relayed stream for what shows on the wire.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "../pump/pump.h"
#include "options.h"
#include "packet.h"

/* SOL_NETLINK of linux/socket.h, and its last option. */
#define LEVEL_NETLINK 270
#define NETLINK_LAST  12 /* NETLINK_GET_STRICT_CHK */

/* ---- kept values ---- */

struct um_option *option_find(const struct um_sock *sock, int level, int name)
{
    struct um_option *option = sock->options;

    while (option != NULL && (option->level != level || option->name != name))
        option = option->next;
    return option;
}

void option_forget(struct um_sock *sock, struct um_option *option)
{
    struct um_option **at = &sock->options;

    while (*at != NULL && *at != option)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    *at = option->next;
    option_left(sock, option);
    free(option);
}

/* Keep one more value, also beside others of the same name. */
struct um_option *option_add(struct um_sock *sock, int level, int name,
                             const void *value, size_t len)
{
    struct um_option *option = malloc(sizeof(*option) + len);

    if (option == NULL)
        return NULL;
    option->level = level;
    option->name = name;
    option->effect = 0;
    option->len = (uint32_t)len;
    memcpy(option->value, value, len);
    option->next = sock->options;
    sock->options = option;
    return option;
}

/* Keep the value instead of the one before. effect: what it reads back as, for
 * um_option_int(). */
int option_keep(struct um_sock *sock, int level, int name, const void *value,
                size_t len, int effect)
{
    struct um_option *before = option_find(sock, level, name);
    struct um_option *option = option_add(sock, level, name, value, len);

    if (option == NULL)
        return -ENOMEM;
    option->effect = effect;
    option_forget(sock, before);
    return 0;
}

int um_option_int(const struct um_sock *sock, int level, int name, int fallback)
{
    const struct um_option *option = option_find(sock, level, name);

    return option != NULL ? option->effect : fallback;
}

/* An option has two names where struct timeval has two forms; they are one
 * form on a 64-bit machine. */
static int plain_name(int level, int name)
{
    if (level != SOL_SOCKET)
        return name;
    if (name == SO_RCVTIMEO_NEW)
        return SO_RCVTIMEO;
    return name == SO_SNDTIMEO_NEW ? SO_SNDTIMEO : name;
}

int64_t um_option_timeout_ms(const struct um_sock *sock, int name)
{
    const struct um_option *option = option_find(sock, SOL_SOCKET, name);
    struct timeval limit;

    if (option == NULL)
        return 0;
    memcpy(&limit, option->value, sizeof(limit));
    if (limit.tv_sec < 0)
        return 1; /* the kernel: fail at once */
    if (limit.tv_sec > INT32_MAX)
        return 0; /* the kernel: MAX_SCHEDULE_TIMEOUT */
    return limit.tv_sec * 1000 + (limit.tv_usec + 999) / 1000;
}

bool um_option_linger(const struct um_sock *sock, struct linger *ret)
{
    const struct um_option *option = option_find(sock, SOL_SOCKET, SO_LINGER);

    if (option == NULL || option->len < sizeof(*ret))
        return false;
    memcpy(ret, option->value, sizeof(*ret));
    return true;
}

void um_options_destroy(struct um_sock *sock)
{
    while (sock->options != NULL)
        option_forget(sock, sock->options);
}

/* ---- models ---- */

enum { KINDS = 7 }; /* (IPv4, IPv6) x (TCP, UDP, UDP-Lite), netlink */

struct um_models {
    int touched[KINDS], untouched[KINDS]; /* descriptors, or -1 */
};

static struct um_models *models_of(struct um_switchboard *sb)
{
    if (sb->models != NULL)
        return sb->models;
    sb->models = malloc(sizeof(*sb->models));
    for (int i = 0; sb->models != NULL && i < KINDS; i++)
        sb->models->touched[i] = sb->models->untouched[i] = -1;
    return sb->models;
}

void um_models_destroy(struct um_models *models)
{
    for (int i = 0; models != NULL && i < KINDS; i++) {
        if (models->touched[i] >= 0)
            close(models->touched[i]);
        if (models->untouched[i] >= 0)
            close(models->untouched[i]);
    }
    free(models);
}

/* A host socket as sock would be one. Ping and raw sockets, which not every
 * user may open, and UDP-Lite where the kernel has none, are modelled by UDP;
 * an IPv6 socket by an IPv4 one where the host has no IPv6 at all. */
static int model_open(const struct um_sock *sock)
{
    int type = sock->type == SOCK_STREAM ? SOCK_STREAM : SOCK_DGRAM;
    int fd = -1;

    if (sock->domain == AF_NETLINK)
        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, sock->protocol);
    else if (sock->protocol == IPPROTO_UDPLITE)
        fd = socket(sock->domain, type | SOCK_CLOEXEC, IPPROTO_UDPLITE);
    if (fd < 0 && sock->domain != AF_NETLINK)
        fd = socket(sock->domain, type | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && sock->domain == AF_INET6)
        fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int model(struct um_switchboard *sb, const struct um_sock *sock,
                 bool touched)
{
    struct um_models *models = models_of(sb);
    int kind, *at;

    if (models == NULL)
        return -ENOMEM;
    if (sock->domain == AF_NETLINK)
        kind = KINDS - 1;
    else
        kind = (sock->domain == AF_INET6 ? 3 : 0) +
               (sock->type == SOCK_STREAM           ? 0
                : sock->protocol != IPPROTO_UDPLITE ? 1
                                                    : 2);
    at = touched ? &models->touched[kind] : &models->untouched[kind];
    if (*at < 0)
        *at = model_open(sock);
    return *at;
}

/* The model to set row's option on. */
static int model_take(struct um_call *call, const struct row *row)
{
    if (row->how & ALONE)
        return model_open(call->sock);
    return model(call->sb, call->sock, true);
}

static void model_give_back(const struct row *row, int fd)
{
    if (row->how & ALONE)
        close(fd);
}

/* ---- who else obeys ---- */

/* The host socket of a relayed stream, safe from being closed until
 * option_host_done(). Return: -1 if there is none. */
int option_host_of(struct um_sock *sock)
{
    if (sock->type != SOCK_STREAM || sock->conn == NULL)
        return -1;
    pthread_mutex_lock(&sock->conn->lock);
    if (!sock->conn->closed && sock->conn->host.fd >= 0)
        return sock->conn->host.fd;
    pthread_mutex_unlock(&sock->conn->lock);
    return -1;
}

void option_host_done(struct um_sock *sock)
{
    pthread_mutex_unlock(&sock->conn->lock);
}

/* A unix socket holds sender's and receiver's bytes in the sender's buffer; TCP
 * has the receiver's beside it. A small SO_SNDBUF obeyed to the letter would
 * block two programs that each send a little before they read. So it may only
 * raise the bound; memory is bounded without it. */
static void raise_sndbuf(int fd, const struct um_option *option)
{
    int has = 0;
    socklen_t len = sizeof(has);

    getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &has, &len);
    if (option->effect > has)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, option->value, option->len);
}

static void apply_to_surrogate(int fd, const struct um_option *option)
{
    if (option->level == SOL_SOCKET && option->name == SO_SNDBUF)
        raise_sndbuf(fd, option);
    else
        setsockopt(fd, option->level, option->name, option->value, option->len);
}

/* The pump closes the host socket when the program's end is closed. A reset
 * instead of a FIN (SO_LINGER with no time) is wanted there too; with a time,
 * close() would hold up the pump, as it does a program. */
static void apply_to_host(int fd, const struct um_option *option)
{
    struct linger linger;

    if (option->level != SOL_SOCKET || option->name != SO_LINGER) {
        setsockopt(fd, option->level, option->name, option->value, option->len);
        return;
    }
    memcpy(&linger, option->value, sizeof(linger));
    linger.l_onoff = linger.l_onoff && linger.l_linger == 0;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void um_options_to_surrogate(const struct um_sock *sock, int fd)
{
    const struct um_option *option = sock->options;

    for (; option != NULL; option = option->next) {
        const struct row *row = option_row_of(option->level, option->name);

        if (row != NULL && (row->how & SURROGATE))
            apply_to_surrogate(fd, option);
    }
}

void um_options_to_host(const struct um_sock *sock, int host_fd)
{
    const struct um_option *option = sock != NULL ? sock->options : NULL;

    for (; option != NULL; option = option->next) {
        const struct row *row = option_row_of(option->level, option->name);

        if (row != NULL && (row->how & HOST))
            apply_to_host(host_fd, option);
    }
}

static void apply(struct um_call *call, const struct row *row)
{
    struct um_option *option =
        option_find(call->sock, row->level, plain_name(row->level, row->name));
    int host =
        option != NULL && (row->how & HOST) ? option_host_of(call->sock) : -1;

    if (host >= 0) {
        apply_to_host(host, option);
        option_host_done(call->sock);
    }
    if (row->how & HOST)
        um_packet_options(call->sock);
    if (option != NULL && (row->how & SURROGATE))
        apply_to_surrogate(call->fd, option);
}

/* Kept values are shared with nobody: each socket has its copy. */
void um_options_inherit(const struct um_sock *listener, struct um_sock *sock)
{
    const struct um_option *option = listener->options;

    sock->reuseaddr = listener->reuseaddr;
    sock->reuseport = listener->reuseport;
    sock->v6only = listener->v6only;
    sock->card = listener->card;
    for (; option != NULL; option = option->next) {
        const struct row *row = option_row_of(option->level, option->name);

        if (row != NULL && !(row->how & UNSHARED))
            option_keep(sock, option->level, option->name, option->value,
                        option->len, option->effect);
    }
}

/* ---- set and get by the model ---- */

int option_give_int(uint8_t *ret, int value)
{
    memcpy(ret, &value, sizeof(value));
    return sizeof(value);
}

static int set_by_model(struct um_call *call, const struct row *row,
                        const uint8_t *value, size_t len)
{
    int fd = model_take(call, row), effect = 0, rc = 0;
    socklen_t effect_len = sizeof(effect);

    if (fd < 0)
        return fd;
    if (setsockopt(fd, row->level, row->name, value, (socklen_t)len) < 0)
        rc = -errno;
    else
        getsockopt(fd, row->level, row->name, &effect, &effect_len);
    model_give_back(row, fd);
    if (rc < 0)
        return rc;
    if (row->level == LEVEL_NETLINK && (row->name == NETLINK_ADD_MEMBERSHIP ||
                                        row->name == NETLINK_DROP_MEMBERSHIP)) {
        memcpy(&effect, value, sizeof(effect));
        um_netlink_member(call->sock, effect,
                          row->name == NETLINK_ADD_MEMBERSHIP);
        return 0;
    }
    return option_keep(call->sock, row->level,
                       plain_name(row->level, row->name), value, len, effect);
}

int option_try(struct um_call *call, const struct row *row,
               const uint8_t *value, size_t len, bool *changed)
{
    uint8_t before[MAX_VALUE], after[MAX_VALUE];
    int fd = model_open(call->sock), rc = 0, had, has;

    if (fd < 0)
        return fd;
    had = option_get_from(fd, row->level, row->name, before, sizeof(before));
    if (setsockopt(fd, row->level, row->name, value, (socklen_t)len) < 0)
        rc = -errno;
    has = option_get_from(fd, row->level, row->name, after, sizeof(after));
    close(fd);
    if (changed != NULL)
        *changed =
            has != had || (has > 0 && memcmp(before, after, (size_t)has) != 0);
    return rc;
}

static int set_refused(struct um_call *call, const struct row *row,
                       const uint8_t *value, size_t len)
{
    bool changed;
    int rc = option_try(call, row, value, len, &changed);

    return rc == 0 && changed ? -ENOPROTOOPT : rc;
}

int option_set_stored(struct um_call *call, const struct row *row,
                      const uint8_t *value, size_t len)
{
    int effect = 0;

    if (call->sock->type != SOCK_RAW)
        return -ENOPROTOOPT;
    memcpy(&effect, value, len < sizeof(effect) ? len : sizeof(effect));
    return option_keep(call->sock, row->level, row->name, value, len, effect);
}

int option_get_from(int fd, int level, int name, uint8_t *ret, size_t asked)
{
    socklen_t len = (socklen_t)asked;

    if (getsockopt(fd, level, name, ret, &len) < 0)
        return -errno;
    return (int)len;
}

/* Set the kept value on the touched model again and read it back. */
static int get_replayed(struct um_call *call, const struct row *row,
                        const struct um_option *option, uint8_t *ret,
                        size_t asked)
{
    int fd = model_take(call, row), rc;

    if (fd < 0)
        return fd;
    setsockopt(fd, option->level, option->name, option->value, option->len);
    rc = option_get_from(fd, row->level, row->name, ret, asked);
    model_give_back(row, fd);
    return rc;
}

static int get_stored(const struct um_option *option, uint8_t *ret)
{
    memcpy(ret, option->value, option->len);
    return (int)option->len;
}

int option_get_by_model(struct um_call *call, const struct row *row, int level,
                        int name, uint8_t *ret, size_t asked)
{
    const struct um_option *option =
        option_find(call->sock, level, plain_name(level, name));
    int host =
        row != NULL && (row->how & LIVE) ? option_host_of(call->sock) : -1;
    int fd, rc;

    if (host >= 0) {
        rc = option_get_from(host, level, name, ret, asked);
        option_host_done(call->sock);
        return rc;
    }
    if (option != NULL && row != NULL && (row->how & STORED))
        return get_stored(option, ret);
    if (option != NULL && row != NULL)
        return get_replayed(call, row, option, ret, asked);
    if (row != NULL && row->set == option_set_stored &&
        call->sock->type == SOCK_RAW)
        return option_give_int(ret, 0);
    fd = model(call->sb, call->sock, false);
    return fd < 0 ? fd : option_get_from(fd, level, name, ret, asked);
}

/* ---- the calls ---- */

/* Return: 1 ours; or, as a verdict in *ret, what to say. Options of what is
 * not ours, also of what may not be looked into, cannot reach the network. */
static int identify(struct um_call *call, um_verdict *ret)
{
    int rc = um_identify(call);

    if (rc > 0)
        return 1;
    *ret = rc == 0 || rc == -EPERM ? UM_CONTINUE : rc;
    return 0;
}

static bool is_udp(const struct um_sock *sock)
{
    return sock->type == SOCK_DGRAM &&
           (sock->protocol == IPPROTO_UDP || sock->protocol == IPPROTO_UDPLITE);
}

/* Does a socket of this kind look at options of the level at all? */
static bool level_applies(const struct um_sock *sock, int level)
{
    if (level == SOL_SOCKET)
        return true;
    if (sock->domain == AF_NETLINK)
        return level == LEVEL_NETLINK;
    switch (level) {
    case IPPROTO_TCP:
        return sock->type == SOCK_STREAM;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
        return is_udp(sock);
    case IPPROTO_IPV6:
    case IPPROTO_ICMPV6:
        return sock->domain == AF_INET6;
    default:
        return level != LEVEL_NETLINK;
    }
}

/* The row of an option of sock, NULL if it has none. Those of netlink(7) are
 * all of one make, and made up in *netlink. */
static const struct row *row_of(const struct um_sock *sock, int level, int name,
                                struct row *netlink)
{
    if (!level_applies(sock, level))
        return NULL;
    if (level != LEVEL_NETLINK)
        return option_row_of(level, name);
    *netlink =
        (struct row){.level = level, .name = name, .how = KERNEL | ALONE};
    return name <= NETLINK_LAST ? netlink : NULL;
}

/* UDP stands for ping and raw sockets, but not with its own level. */
static bool level_is_the_models(const struct um_sock *sock, int level)
{
    return level == IPPROTO_UDP && sock->type != SOCK_STREAM &&
           sock->domain != AF_NETLINK && !is_udp(sock);
}

/* What the kernel says to an option that it has never heard of. */
static int unknown(const struct um_sock *sock, int level, size_t len)
{
    bool wants_int =
        level == SOL_SOCKET ||
        (sock->type == SOCK_STREAM && level == IPPROTO_TCP) ||
        (is_udp(sock) && (level == IPPROTO_UDP || level == IPPROTO_UDPLITE));

    return wants_int && len < sizeof(int) ? -EINVAL : -ENOPROTOOPT;
}

static setter *setter_of(const struct row *row)
{
    if (row->set != NULL)
        return row->set;
    if (row->how & REFUSED)
        return set_refused;
    return row->how & KERNEL ? set_by_model : NULL;
}

um_verdict um_handle_setsockopt(struct um_call *call)
{
    int level = (int)call->args[1], name = (int)call->args[2];
    int asked = (int)call->args[4], rc;
    uint8_t value[MAX_VALUE] = {0};
    struct row netlink;
    const struct row *row;
    setter *set;
    ssize_t len = 0;
    um_verdict verdict;

    if (!identify(call, &verdict))
        return verdict;
    if (asked < 0)
        return -EINVAL;
    if (asked > MAX_VALUE)
        asked = MAX_VALUE;
    if (asked > 0)
        len = um_read_some(call, call->args[3], value, (size_t)asked);
    if (len < 0)
        return len;
    row = row_of(call->sock, level, name, &netlink);
    set = row != NULL ? setter_of(row) : NULL;
    if (set == NULL)
        return unknown(call->sock, level, (size_t)len);
    if ((row->how & EARLY) && call->sock->state == UM_CONNECTED)
        return -EINVAL;
    rc = set(call, row, value, (size_t)len);
    if (rc < 0)
        return rc;
    /* Before a surrogate obeys SO_OOBINLINE. */
    if (level == SOL_SOCKET && (name == SO_LINGER || name == SO_OOBINLINE))
        um_stream_lingers(call);
    if (row->then != NULL)
        row->then(call->sock, row, um_option_int(call->sock, level, name, 0));
    if (row->how & (SURROGATE | HOST))
        apply(call, row);
    return 0;
}

um_verdict um_handle_getsockopt(struct um_call *call)
{
    int level = (int)call->args[1], name = (int)call->args[2];
    uint8_t value[MAX_VALUE] = {0};
    struct row netlink;
    const struct row *row;
    um_verdict verdict;
    int32_t asked;
    int rc, len;

    if (!identify(call, &verdict))
        return verdict;
    rc = um_read(call, call->args[4], &asked, sizeof(asked));
    if (rc < 0)
        return rc;
    if (asked < 0)
        return -EINVAL;
    if (asked > MAX_VALUE)
        asked = MAX_VALUE;
    row = row_of(call->sock, level, name, &netlink);
    if (level_is_the_models(call->sock, level))
        return -ENOPROTOOPT;
    /* A few (IP_MSFILTER) read what they are asked from where they answer. */
    if ((row == NULL || (row->how & REFUSED)) && asked > 0 &&
        um_read_some(call, call->args[3], value, (size_t)asked) == -ENOENT)
        return -ENOENT;
    if (row != NULL && row->get != NULL)
        len = row->get(call, value, (size_t)asked);
    else
        len = option_get_by_model(call, row, level, name, value, (size_t)asked);
    if (len < 0)
        return len;
    if (len > asked)
        len = asked;
    rc = um_write(call, call->args[3], value, (size_t)len);
    if (rc == 0)
        rc = um_write(call, call->args[4], &len, sizeof(len));
    return rc;
}
