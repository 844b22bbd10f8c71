/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stream.c - TCP sockets: bind, listen, accept
 *
 * A TCP socket's surrogate is an AF_UNIX stream socket from socket() on, and
 * stays the same object all its life: what the program registered in epoll,
 * dup()ed or inherited keeps working. listen() is carried out on it: it is
 * bound to a name in our private directory, the name is removed at once, and
 * we keep an O_PATH descriptor of the inode, through which only we can
 * connect. Every connection to a listener is made by us, whichever road it
 * came, so the kernel's queue (which is FIFO) and our list of names beside it
 * run in step, as long as every accept is ours too: that is why accept is
 * stopped even when it asks for no address.
 *
 * Never block on a program's descriptor: accept only after poll says IN, and
 * connect only while the queue, which we count, has room (unix(7): a full
 * queue blocks a blocking connect, and the flag is the program's).
 *
 * An accepted connection whose caller was sent away by a signal goes to
 * `returned`, to be given out first; a dummy connection takes its place in the
 * kernel's queue so that poll() still says IN.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "dgram.h"
#include "packet.h"
#include "policy.h"
#include "stream.h"
#include "tracer.h"

/* ---- private names ---- */

int um_bind_private(struct um_switchboard *sb, int fd)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    char name[32];
    snprintf(name, sizeof name, "%llu", (unsigned long long)++sb->serial);
    /* By way of /proc, or a long runtime directory would not fit. */
    snprintf(sun.sun_path, sizeof sun.sun_path, "/proc/self/fd/%d/%s",
             sb->dir_fd, name);
    if (bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0)
        return -errno;
    int path_fd = openat(sb->dir_fd, name, O_PATH | O_CLOEXEC);
    int rc = path_fd < 0 ? -errno : path_fd;
    unlinkat(sb->dir_fd, name, 0);
    return rc;
}

int um_connect_to(int fd, int path_fd)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    snprintf(sun.sun_path, sizeof sun.sun_path, "/proc/self/fd/%d", path_fd);
    return connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0 ? -errno : 0;
}

int um_streams_open(struct um_switchboard *sb)
{
    um_list_init(&sb->dials);
    FILE *f = fopen("/proc/sys/net/core/somaxconn", "re");
    if (!f || fscanf(f, "%d", &sb->somaxconn) != 1 || sb->somaxconn < 1)
        sb->somaxconn = 128;
    if (f)
        fclose(f);
    sb->relay_fd =
        socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sb->relay_fd < 0)
        return -errno;
    int rc = um_bind_private(sb, sb->relay_fd);
    if (rc < 0)
        return rc;
    sb->relay_path_fd = rc;
    return listen(sb->relay_fd, 64) < 0 ? -errno : 0;
}

void um_streams_close(struct um_switchboard *sb)
{
    um_forwards_close(sb, NULL);
    if (sb->relay_fd >= 0)
        close(sb->relay_fd);
    if (sb->relay_path_fd >= 0)
        close(sb->relay_path_fd);
}

int um_stream_open(int flags)
{
    int fd = socket(AF_UNIX,
                    SOCK_STREAM | SOCK_CLOEXEC | (flags & SOCK_NONBLOCK), 0);
    return fd < 0 ? -errno : fd;
}

void um_kick_writers(int fd)
{
    int size = UM_SURROGATE_SNDBUF;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* ---- bind ---- */

static void undo_bind(struct um_call *call)
{
    struct um_sock *sock = call->undo_arg;
    sock->addr_bound = sock->port_bound = false;
    um_stream_unname(sock);
    sock->local.port = 0;
}

void um_stream_unname(struct um_sock *sock)
{
    if (!sock->port_bound)
        um_port_release(sock);
    if (!sock->addr_bound)
        memcpy(sock->local.addr, sock->domain == AF_INET ? um_any4 : um_any6,
               16);
}

/* As inet_addr_valid_or_nonlocal() and inet6_bind() have it: an IPv4 socket may
 * even have the address of a group. */
static int may_bind(const struct um_sock *sock, const uint8_t addr[16])
{
    bool group = um_addr_is_multicast(addr);
    if (group && !um_addr_is_v4(addr))
        return -EINVAL;
    if (group || um_addr_is_any(addr) || um_stack_owns(sock->stack, addr) ||
        um_stack_broadcasts(sock->stack, addr) ||
        um_option_int(sock, IPPROTO_IP, IP_FREEBIND, 0))
        return 0;
    return -EADDRNOTAVAIL;
}

um_verdict um_stream_bind(struct um_call *call, const struct um_name *name)
{
    int rc = um_stream_renew(call);
    if (rc < 0)
        return rc;
    struct um_sock *sock = call->sock;
    if (um_stream_over(call)) /* as Linux: its port is free again */
        um_stream_unname(sock);
    else if (sock->state != UM_FRESH)
        return -EINVAL;
    if (sock->bind)
        return -EINVAL;
    rc = may_bind(sock, name->addr);
    if (rc < 0)
        return rc;
    bool later = name->port == 0 && !um_addr_is_any(name->addr) &&
                 um_option_int(sock, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0);
    rc = later ? 0 : um_port_take(sock, name);
    if (rc < 0)
        return rc;
    if (later) /* connect chooses the port */
        sock->local = *name;
    sock->addr_bound = !um_addr_is_any(name->addr);
    sock->port_bound = name->port != 0;
    um_sock_note_inode(sock, call->fd);
    call->undo = undo_bind;
    call->undo_arg = sock;
    return 0;
}

/* ---- listen ---- */

int um_listen_start(struct um_switchboard *sb, struct um_sock *sock, int fd)
{
    struct um_listen *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    um_list_init(&l->offers);
    um_list_init(&l->returned);
    um_list_init(&l->dials);
    int rc = um_bind_private(sb, fd);
    if (rc >= 0) {
        l->path_fd = rc;
        l->backlog = sb->somaxconn;
        if (listen(fd, sb->somaxconn) < 0) {
            rc = -errno;
            close(l->path_fd);
        }
    }
    if (rc < 0) {
        free(l);
        return rc;
    }
    um_sock_note_inode(sock, fd);
    sock->listen = l;
    return 0;
}

um_verdict um_handle_listen(struct um_call *call)
{
    int rc = um_identify(call);
    if (rc <= 0) {
        int listens = 0;
        socklen_t len = sizeof listens;
        if (rc == 0)
            getsockopt(call->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len);
        return rc < 0 ? rc : listens ? UM_CONTINUE : um_foreign(call);
    }
    struct um_sock *sock = call->sock;
    if (sock->type != SOCK_STREAM)
        return -EOPNOTSUPP;
    if (sock->state == UM_CLOSED) {
        rc = um_stream_renew(call);
        if (rc < 0)
            return rc;
        sock = call->sock;
    }
    if (sock->state != UM_FRESH && sock->state != UM_LISTENING)
        return -EINVAL;
    if (sock->state == UM_FRESH) {
        um_verdict verdict =
            um_policy_ask(call, UM_DEED_LISTEN, &sock->local, NULL);
        if (verdict != UM_ALLOWED)
            return verdict;
        /* Its wildcard address, or a chosen one that still lacks a port. */
        struct um_name any = sock->local;
        any.port = 0;
        rc = sock->bind ? 0 : um_port_take(sock, &any);
        if (rc == 0)
            rc = um_port_listen(sock);
        if (rc == 0)
            rc = um_listen_start(call->sb, sock, call->fd);
        if (rc < 0) {
            if (sock->bind)
                sock->bind->listening = false;
            return rc;
        }
        sock->state = UM_LISTENING;
    }
    int backlog = (int)call->args[1];
    if (backlog < 0 || backlog > call->sb->somaxconn)
        backlog = call->sb->somaxconn;
    sock->listen->backlog = backlog;
    if (!sock->listen->heard)
        um_packet_listen(sock);
    return 0;
}

/* ---- queueing a connection ---- */

static struct um_offer *new_offer(const struct um_name *local,
                                  const struct um_name *peer)
{
    struct um_offer *offer = calloc(1, sizeof *offer);
    if (!offer)
        return NULL;
    um_list_init(&offer->list);
    if (local)
        offer->local = *local;
    if (peer)
        offer->peer = *peer;
    offer->fd = -1;
    return offer;
}

static void free_offer(struct um_offer *offer)
{
    um_list_remove(&offer->list);
    if (offer->conn)
        offer->conn->holder = NULL;
    if (offer->fd >= 0)
        close(offer->fd);
    free(offer);
}

int um_offer(struct um_switchboard *sb, struct um_sock *listener, int fd,
             const struct um_name *local, const struct um_name *peer,
             struct um_conn *conn, const struct um_sock *partner)
{
    struct um_listen *l = listener->listen;
    if (l->pending > (unsigned int)l->backlog)
        return -EAGAIN;
    struct um_offer *offer = new_offer(local, peer);
    if (!offer)
        return -ENOMEM;
    int rc = um_connect_to(fd, l->path_fd);
    if (rc < 0) {
        free_offer(offer);
        if (rc == -ECONNREFUSED)
            um_sock_destroy(sb, listener);
        return rc;
    }
    offer->partner = partner ? partner->cookie : 0;
    offer->conn = conn;
    if (conn)
        conn->holder = &offer->conn;
    um_list_append(&l->offers, &offer->list);
    l->pending++;
    um_wake(sb, listener, false);
    return 0;
}

/* ---- accept ---- */

static struct um_offer *take_first(struct um_list *list)
{
    if (um_list_empty(list))
        return NULL;
    struct um_offer *offer = UM_CONTAINER(list->next, struct um_offer, list);
    um_list_remove(&offer->list);
    return offer;
}

/* Give a connection back whose caller went away. */
static void give_back(struct um_switchboard *sb, struct um_sock *sock,
                      struct um_offer *offer)
{
    struct um_listen *l = sock->listen;
    um_list_append(&l->returned, &offer->list);
    struct um_offer *dummy = new_offer(NULL, NULL);
    int fd = um_stream_open(SOCK_NONBLOCK);
    if (dummy && fd >= 0 && um_connect_to(fd, l->path_fd) == 0) {
        dummy->dummy = true;
        um_list_append(&l->offers, &dummy->list);
        l->pending++;
    } else {
        free(dummy);
    }
    if (fd >= 0)
        close(fd);
    um_wake(sb, sock, false);
}

/* The oldest connection that was given back, as its new caller wants it. */
static struct um_offer *take_returned(struct um_listen *l, int flags)
{
    struct um_offer *offer = take_first(&l->returned);
    if (offer)
        fcntl(offer->fd, F_SETFL,
              flags & SOCK_NONBLOCK ? O_RDWR | O_NONBLOCK : O_RDWR);
    return offer;
}

bool um_listen_take(struct um_sock *sock, struct um_name *peer)
{
    struct um_offer *offer = take_first(&sock->listen->offers);
    if (!offer)
        return false;
    if (sock->listen->pending)
        sock->listen->pending--;
    *peer = offer->peer;
    free_offer(offer);
    return true;
}

/* The connection that next_offer() is about to take, or NULL. */
static const struct um_offer *coming(const struct um_listen *l)
{
    if (!um_list_empty(&l->returned))
        return UM_CONTAINER(l->returned.next, struct um_offer, list);
    for (struct um_list *i = l->offers.next; i != &l->offers; i = i->next)
        if (!UM_CONTAINER(i, struct um_offer, list)->dummy)
            return UM_CONTAINER(i, struct um_offer, list);
    return NULL;
}

/* Take what is coming by a descriptor of our own, and close it. */
static void turn_away(struct um_call *call)
{
    struct um_listen *l = call->sock->listen;
    struct um_offer *offer = take_first(&l->returned);
    while (!offer) {
        int fd = accept4(call->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (l->pending)
            l->pending--;
        offer = take_first(&l->offers);
        if (offer && offer->dummy) {
            free_offer(offer);
            offer = NULL;
        }
        if (fd >= 0)
            close(fd);
        if (fd < 0 && !offer)
            return;
    }
    free_offer(offer);
}

/* Ask for the next connection, and pass over those that are denied. Return:
 * UM_ALLOWED: it may be taken; or the question's verdict. */
static um_verdict ask_for_next(struct um_call *call)
{
    for (;;) {
        struct pollfd p = {.fd = call->fd, .events = POLLIN};
        const struct um_offer *next = coming(call->sock->listen);
        if (!next || poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))
            return UM_ALLOWED;
        um_verdict verdict =
            um_policy_ask(call, UM_DEED_ACCEPT, &next->local, &next->peer);
        if (verdict == UM_ALLOWED || verdict == UM_PARKED ||
            verdict != -call->word.error)
            return verdict;
        turn_away(call);
        call->word.deed = 0;
        um_dials_room(call->sb, call->sock);
    }
}

/* Take the next connection of the queue. Return: NULL if there is none, or, in
 * *rc, an errno of accept(2). */
static struct um_offer *next_offer(struct um_call *call, int flags, int *rc)
{
    struct um_listen *l = call->sock->listen;
    for (;;) {
        struct pollfd p = {.fd = call->fd, .events = POLLIN};
        if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLIN))
            return take_returned(l, flags);
        int fd = call->sb->tracer->accept(call, flags);
        if (fd < 0 && fd != -EAGAIN)
            *rc = fd;
        if (fd < 0)
            return take_returned(l, flags);
        struct um_offer *offer = take_first(&l->offers);
        if (l->pending)
            l->pending--;
        if (!offer || offer->dummy) {
            close(fd);
            if (offer)
                free_offer(offer);
            offer = take_returned(l, flags);
            if (!offer)
                continue;
        } else {
            offer->fd = fd;
            if (!um_list_empty(&l->returned)) {
                um_list_append(&l->returned, &offer->list);
                offer = take_returned(l, flags);
            }
        }
        return offer;
    }
}

/* ---- resets of joined connections ----
 *
 * The close() of a unix socket is a reset for its peer if something lies unread
 * in it. So the peer's end sends it a byte that no program sees: an urgent one,
 * which the next ordinary receive throws away. The price is that poll says
 * IN|PRI until then; so it is done when a program asks for it on a connection,
 * most often right before close(), and not for all that it will have. */

static void send_unseen(int fd)
{
    (void)!send(fd, "", 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The entry of an accepted socket; takes the offer. */
static void register_accepted(struct um_call *call, struct um_offer *offer,
                              int number)
{
    struct um_sock *listener = call->sock;
    struct um_sock *sock =
        um_sock_create(call->sb, listener->stack, offer->fd, listener->domain,
                       SOCK_STREAM, listener->protocol);
    if (sock) {
        sock->state = UM_CONNECTED;
        sock->accepted = true;
        sock->tid = call->tid;
        sock->number = number;
        struct um_sock *partner = um_sock_find(call->sb, offer->partner);
        if (partner) {
            sock->partner = partner->cookie;
            partner->partner = sock->cookie;
            if (partner->armed)
                send_unseen(offer->fd);
        }
        sock->local = offer->local;
        sock->peer = offer->peer;
        sock->v6only = listener->v6only;
        um_options_inherit(listener, sock);
        um_options_to_surrogate(sock, offer->fd);
        if (offer->conn) {
            sock->conn = offer->conn;
            sock->reports_end = true;
            offer->conn->sock = sock;
            offer->conn->holder = &sock->conn;
            offer->conn->cookie = sock->cookie;
            um_conn_seen(offer->conn, call->tid, number);
            offer->conn = NULL;
            um_packet_options(sock);
        }
        um_policy_note(call->sb, sock, UM_DEED_ACCEPTED, 0);
    }
    free_offer(offer);
}

static um_verdict accept_with(struct um_call *call, int flags)
{
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
        return -EINVAL;
    int rc = um_identify(call);
    if (rc <= 0)
        return rc < 0 ? rc : UM_CONTINUE;
    struct um_sock *sock = call->sock;
    if (sock->type != SOCK_STREAM)
        return -EOPNOTSUPP;
    if (sock->state != UM_LISTENING)
        return -EINVAL;
    if (sock->stack->deeds & UM_DEED_ACCEPT) {
        um_verdict verdict = ask_for_next(call);
        if (verdict != UM_ALLOWED)
            return verdict;
    }
    rc = 0;
    struct um_offer *offer = next_offer(call, flags, &rc);
    if (!offer) {
        if (rc < 0)
            return rc;
        if (um_call_nonblocking(call, 0))
            return -EAGAIN;
        um_call_deadline(call, sock, SO_RCVTIMEO);
        return um_park(call,
                       call->nr == __NR_accept4 ? um_handle_accept4
                                                : um_handle_accept,
                       sock);
    }
    struct sockaddr_storage ss;
    size_t len = um_name_format(sock->domain, &offer->peer, &ss);
    rc = um_write_name(call, call->args[1], call->args[2], &ss, len);
    if (rc < 0 && rc != -ENOENT) {
        free_offer(offer); /* as Linux: a bad address costs the connection */
        return rc;
    }
    int number = rc < 0 ? rc
                        : um_answer_fd(call, offer->fd,
                                       flags & SOCK_CLOEXEC ? O_CLOEXEC : 0);
    if (number < 0 && call->sb->tracer->brings_fds)
        give_back(call->sb, sock, offer);
    else if (number < 0)
        free_offer(offer); /* its process ends, and had it already */
    else
        register_accepted(call, offer, number);
    um_dials_room(call->sb, sock);
    return number < 0 ? number : UM_ANSWERED;
}

um_verdict um_handle_accept(struct um_call *call)
{
    return accept_with(call, 0);
}

um_verdict um_handle_accept4(struct um_call *call)
{
    return accept_with(call, (int)call->args[3]);
}

/* ---- shutdown ---- */

static short poll_now(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

static bool shut_both(const struct um_sock *sock)
{
    return sock->shut_read && sock->shut_write;
}

static bool conn_closed(struct um_conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    bool closed = conn->closed;
    pthread_mutex_unlock(&conn->lock);
    return closed;
}

bool um_stream_over(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    if (sock->type != SOCK_STREAM || sock->state != UM_CONNECTED || sock->over)
        return sock->over;
    short seen = poll_now(call->fd);
    /* RDHUP tells of the peer only while the program itself reads; the pump
     * is done when both sides have ended, or this one will not hear more. */
    sock->over = (seen & POLLERR) ||
                 (sock->conn && !shut_both(sock) && conn_closed(sock->conn)) ||
                 (sock->shut_write && !sock->shut_read && (seen & POLLRDHUP));
    return sock->over;
}

/* Stop to listen: who waits in accept or poll is told. */
static void shutdown_listener(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    sock->state = UM_CLOSED;
    um_packet_unlisten(sock);
    if (sock->bind)
        sock->bind->listening = false;
    um_stream_unname(sock);
    shutdown(call->fd, SHUT_RDWR);
    um_wake(call->sb, sock, true);
}

um_verdict um_stream_shutdown(struct um_call *call, int how)
{
    struct um_sock *sock = call->sock;
    switch (sock->state) {
    case UM_LISTENING:
        if (how != SHUT_WR)
            shutdown_listener(call);
        return 0;
    case UM_CONNECTING:
        um_dial_fail(sock->dial, ECONNRESET);
        return 0;
    case UM_FRESH:
        /* Linux says ENOTCONN, and shows it in poll all the same. */
        shutdown(call->fd, how);
        return -ENOTCONN;
    case UM_FAILED:
    case UM_CLOSED:
        return -ENOTCONN;
    case UM_CONNECTED:
        break;
    }
    if (um_stream_over(call))
        return -ENOTCONN;
    if (how != SHUT_RD && !sock->shut_read && (poll_now(call->fd) & POLLRDHUP))
        sock->over = true;
    sock->shut_read |= how != SHUT_WR;
    sock->shut_write |= how != SHUT_RD;
    if (how != SHUT_WR)
        um_packet_options(sock);
    return UM_CONTINUE;
}

/* ---- resets of joined connections ---- */

/* A copy of the descriptor of sock, or a negative errno. */
static int fetch(struct um_switchboard *sb, const struct um_sock *sock)
{
    int fd = um_getfd(sb, sock->tid, sock->number);
    if (fd >= 0 && um_cookie_of(fd) != sock->cookie) {
        close(fd);
        return -EBADF;
    }
    return fd;
}

void um_stream_arm_reset(struct um_call *call)
{
    struct pollfd p = {.fd = call->fd, .events = POLLPRI};
    struct um_sock *partner = um_sock_find(call->sb, call->sock->partner);
    /* A second urgent byte would make the first an ordinary one. */
    if (!partner || poll(&p, 1, 0) > 0)
        return;
    int fd = fetch(call->sb, partner);
    if (fd < 0)
        return;
    send_unseen(fd);
    close(fd);
}

void um_stream_lingers(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    struct linger linger;
    bool inline_too = um_option_int(sock, SOL_SOCKET, SO_OOBINLINE, 0);
    if (sock->type != SOCK_STREAM || sock->state != UM_CONNECTED ||
        sock->conn || !um_option_linger(sock, &linger))
        return;
    if (linger.l_onoff && linger.l_linger == 0 && !inline_too) {
        um_stream_arm_reset(call);
        sock->armed = true;
    } else if (sock->armed) {
        char byte;
        sock->armed = false;
        (void)!recv(call->fd, &byte, 1, MSG_OOB | MSG_DONTWAIT);
    }
}

/* ---- the end ---- */

static void free_offers(struct um_list *list)
{
    struct um_offer *offer;
    while ((offer = take_first(list)))
        free_offer(offer);
}

void um_stream_destroy(struct um_switchboard *sb, struct um_sock *sock)
{
    (void)sb;
    um_stream_forget_returned(sock);
    if (sock->conn) {
        sock->conn->sock = NULL;
        sock->conn->holder = NULL;
        sock->conn = NULL;
    }
    if (sock->dial) {
        sock->dial->sock = NULL;
        um_dial_fail(sock->dial, 0);
        sock->dial = NULL;
    }
    struct um_listen *l = sock->listen;
    if (!l)
        return;
    um_packet_unlisten(sock);
    sock->listen = NULL;
    while (!um_list_empty(&l->dials))
        um_dial_fail(UM_CONTAINER(l->dials.next, struct um_dial, waiting),
                     ECONNREFUSED);
    free_offers(&l->offers);
    free_offers(&l->returned);
    close(l->path_fd);
    free(l);
}

void um_streams_reap(struct um_switchboard *sb)
{
    struct um_conn *conn = um_pump_finished(sb->pump);
    while (conn) {
        struct um_conn *next = conn->next;
        um_conn_over(sb, conn);
        conn = next;
    }
    um_dials_tick(sb);
}
