/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * messages.c - sendto, recvfrom, sendmsg, recvmsg, sendmmsg, recvmmsg
 *
 * These calls are stopped whatever they are made on, so every program that
 * passes descriptors or credentials over a unix socket (X11, D-Bus, browsers)
 * comes by here. Whose socket it is comes first, therefore, and what is not
 * ours goes on in the kernel after as few calls of our own as possible.
 *
 * "Goes on" is safe for all that cannot send: a receive brings nothing that
 * the descriptor did not give already. A send goes on if the socket is not of
 * the network, or is connected and a stream: an inherited one keeps the peer
 * that it had before the view. A socket of the host that can choose its
 * destination by an argument is refused (EPERM).
 *
 * A datagram for a stopped call is taken out of the surrogate, written to the
 * program, and goes back to the front of the queue if the call turns out to
 * have been abandoned. For that the datagrams of one call lie in sb->scratch,
 * each behind a struct taken, until the answer is given; recvmmsg returns what
 * it has when no more fit.
 *
 * The layouts are those of 64-bit Linux; a message header is read once.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dgram.h"
#include "messages.h"
#include "policy.h"

enum {
    SLOTS_MAX = 1024, /* UIO_MAXIOV */
    WAITING_MAX = 256,
    NS = 1000000000,
    NAME_ROOM = sizeof(struct sockaddr_storage),
};

/* A datagram that was taken for the call in hand. */
struct taken {
    struct um_arrival arrival;
    uint8_t data[];
};

enum { TAKEN_ROOM = sizeof(struct taken) + UM_DGRAM_MAX };
_Static_assert(UM_SCRATCH >= 2 * sizeof(struct taken) + UM_DGRAM_MAX, "room");

um_verdict um_broken_pipe(struct um_call *call, int flags)
{
    call->broken_pipe = !(flags & MSG_NOSIGNAL);
    return -EPIPE;
}

static bool is_stream(const struct um_sock *sock)
{
    return sock->type == SOCK_STREAM;
}

/* ---- what is not ours ---- */

/* A send on call->fd, which is none of our sockets. named: the call has, or
 * may have, a destination of its own. */
static um_verdict send_foreign(struct um_call *call, int flags, bool named)
{
    int type = 0;
    socklen_t len = sizeof type;
    if (um_left_alone(call))
        return UM_CONTINUE;
    if (getsockopt(call->fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0)
        return -EPERM;
    if ((flags & MSG_FASTOPEN) || (named && type != SOCK_STREAM))
        return -EPERM;
    return UM_CONTINUE;
}

/* Identify for a receive. Return: 1 ours; 0 the kernel's business. */
static int identify_receiver(struct um_call *call)
{
    return um_identify(call) == 1;
}

/* ---- sending datagrams ---- */

/* The destination that a message names. Return: 1, 0 for none, or negative
 * errno. */
static int read_destination(struct um_call *call, const struct message *m,
                            struct um_name *ret)
{
    struct sockaddr_storage ss = {0};
    int domain = call->sock->domain;
    if (!m->name)
        return 0;
    if (m->name_len < 0 || m->name_len > (int)NAME_ROOM)
        return -EINVAL;
    size_t len = (size_t)m->name_len;
    int rc = um_read(call, m->name, &ss, len);
    if (rc < 0)
        return rc;
    if (len < sizeof ss.ss_family)
        return -EINVAL;
    /* Sending to AF_UNSPEC: an IPv4 socket reads it as AF_INET, an IPv6 one
     * as no address; and an IPv6 socket takes a sockaddr_in. */
    if (ss.ss_family == AF_UNSPEC && domain == AF_INET)
        ss.ss_family = AF_INET;
    else if (ss.ss_family == AF_UNSPEC)
        return 0;
    if (ss.ss_family == AF_INET)
        domain =
            domain == AF_INET6 && um_is_icmp(call->sock) ? domain : AF_INET;
    rc = um_name_parse(domain, &ss, len, ret);
    return rc < 0 ? rc : 1;
}

/* Read what a message is to carry into sb->scratch. Return: bytes. */
static ssize_t read_data(struct um_call *call, const struct message *m)
{
    return um_read_vector(call, m->iov, m->iov_count, call->sb->scratch,
                          UM_SCRATCH);
}

/* Send one datagram whose bytes lie in sb->scratch. */
static um_verdict send_datagram(struct um_call *call, const struct message *m,
                                size_t len, int flags)
{
    struct um_switchboard *sb = call->sb;
    struct um_sock *sock = call->sock;
    struct um_name dest;
    struct um_how how = {.more = flags & MSG_MORE, .program_fd = call->fd};
    if (flags & MSG_OOB)
        return -EOPNOTSUPP;
    int named = read_destination(call, m, &dest);
    if (named < 0)
        return named;
    if (named) {
        um_verdict verdict = um_policy_ask_send(call, &dest);
        if (verdict != UM_ALLOWED)
            return verdict;
    }
    bool v4 = um_addr_is_v4(named ? dest.addr : sock->peer.addr);
    int rc = um_control_read(call, m->control, m->control_len,
                             v4 || sock->domain == AF_INET, &how);
    if (rc < 0)
        return rc;
    ssize_t n =
        um_dgram_send(sb, sock, named ? &dest : NULL, &how, sb->scratch, len);
    return n == -EPIPE ? um_broken_pipe(call, flags) : n;
}

/* The answer to one of several requests is not waited for. */
static um_verdict send_netlink(struct um_call *call, const struct message *m,
                               size_t len)
{
    struct sockaddr_nl name = {0};
    if (m->name) {
        if (m->name_len < (int)sizeof name)
            return -EINVAL;
        int rc = um_read(call, m->name, &name, sizeof name);
        if (rc < 0)
            return rc;
        if (name.nl_family != AF_NETLINK)
            return -EINVAL;
        if (name.nl_pid || name.nl_groups)
            return -EPERM;
    }
    if (call->nr != __NR_sendmmsg)
        return um_netlink_send(call, call->sb->scratch, len);
    um_netlink_request(call->sb, call->sock, call->sb->scratch, len);
    return (um_verdict)len;
}

static um_verdict send_read(struct um_call *call, const struct message *m,
                            ssize_t len, int flags)
{
    if (len < 0)
        return len;
    if (call->sock->domain == AF_NETLINK)
        return send_netlink(call, m, (size_t)len);
    return send_datagram(call, m, (size_t)len, flags);
}

/* What the program sent before, without our being asked, goes first. */
static um_verdict send_message(struct um_call *call, const struct message *m,
                               int flags)
{
    um_dgram_drain(call->sb, call->sock);
    return send_read(call, m, read_data(call, m), flags);
}

um_verdict um_handle_sendto(struct um_call *call)
{
    int flags = (int)call->args[3];
    struct message m = {.name = call->args[4],
                        .name_len = (int32_t)call->args[5]};
    int rc = um_identify(call);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return send_foreign(call, flags, call->args[4] != 0);
    if (is_stream(call->sock))
        return um_stream_sendto(call);
    if (call->args[2] > UM_SCRATCH)
        return -EMSGSIZE;
    um_dgram_drain(call->sb, call->sock);
    rc = um_read(call, call->args[1], call->sb->scratch, call->args[2]);
    return send_read(call, &m, rc < 0 ? rc : (ssize_t)call->args[2], flags);
}

/* The part that sendmsg and sendmmsg share: whose is it, may it send?
 * Return: 0: it is ours. */
static um_verdict begin_send(struct um_call *call, int flags)
{
    int rc = um_identify(call);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return send_foreign(call, flags, true);
    return 0;
}

um_verdict um_handle_sendmsg(struct um_call *call)
{
    struct message m;
    int flags = (int)call->args[2];
    um_verdict verdict = begin_send(call, flags);
    if (verdict != 0)
        return verdict;
    if (is_stream(call->sock))
        return um_stream_sendmsg(call);
    int rc = um_read(call, call->args[1], &m, sizeof m);
    return rc < 0 ? rc : send_message(call, &m, flags);
}

um_verdict um_handle_sendmmsg(struct um_call *call)
{
    int flags = (int)call->args[3];
    uint32_t count = (uint32_t)call->args[2], done = 0;
    um_verdict verdict = begin_send(call, flags);
    if (verdict != 0)
        return verdict;
    if (is_stream(call->sock))
        return um_stream_sendmmsg(call);
    if (count > SLOTS_MAX)
        count = SLOTS_MAX;
    for (; done < count; done++) {
        struct message m;
        uint64_t at = call->args[1] + done * sizeof(struct message_slot);
        verdict = um_read(call, at, &m, sizeof m);
        call->seen = done;
        if (verdict == 0)
            verdict = send_message(call, &m, flags);
        if (verdict < 0)
            break;
        uint32_t len = (uint32_t)verdict;
        verdict = um_write(call, at + offsetof(struct message_slot, len), &len,
                           sizeof len);
        if (verdict < 0)
            break;
    }
    return done ? (um_verdict)done : verdict;
}

/* ---- receiving datagrams ---- */

/* Where a call's data go and what came with them. */
struct receipt {
    struct message *message;        /* NULL: recvfrom */
    uint64_t address;               /* of the message in the program */
    size_t at;                      /* in scratch */
    const struct um_report *report; /* of the error queue, or NULL */
};

static struct taken *taken_at(struct um_call *call, size_t at)
{
    return (struct taken *)(void *)(call->sb->scratch + at);
}

static size_t taken_size(const struct taken *taken)
{
    size_t size = sizeof *taken + taken->arrival.len;
    return (size + _Alignof(struct taken) - 1) & ~(_Alignof(struct taken) - 1);
}

/* The call was abandoned: give back what was taken, the last one first. */
static void give_back(struct um_call *call)
{
    struct um_sock *sock = um_sock_find(call->sb, (uintptr_t)call->undo_arg);
    if (!sock || !sock->dgram)
        return;
    size_t starts[SLOTS_MAX], at = 0;
    int count = call->undo_count;
    for (int i = 0; i < count; i++) {
        starts[i] = at;
        at += taken_size(taken_at(call, at));
    }
    while (count-- > 0) {
        struct taken *taken = taken_at(call, starts[count]);
        um_dgram_return(call->sb, sock, call->fd, &taken->arrival, taken->data);
    }
}

static void note_taken(struct um_call *call)
{
    if (!call->undo) {
        call->undo = give_back;
        /* Named by its cookie: it may end meanwhile. */
        call->undo_arg = (void *)(uintptr_t)call->sock->cookie;
        call->undo_count = 0;
    }
    call->undo_count++;
}

static void pend_again(struct um_call *call)
{
    um_error_pend(call->sb, call->sock, (int)(intptr_t)call->undo_arg);
}

/* The pending error was taken for the call. */
static void note_error(struct um_call *call, int error)
{
    if (call->undo) { /* some of several were taken: the next call tells */
        um_error_pend(call->sb, call->sock, error);
        return;
    }
    call->undo = pend_again;
    call->undo_arg = (void *)(intptr_t)error;
}

static size_t sender_name(const struct um_sock *sock,
                          const struct um_arrival *arrival,
                          struct sockaddr_storage *ret)
{
    if (sock->domain != AF_NETLINK)
        return um_name_format(sock->domain, &arrival->from, ret);
    memset(ret, 0, sizeof *ret);
    ret->ss_family = AF_NETLINK;
    return sizeof(struct sockaddr_nl);
}

/* Write the header's name, control data and flags. */
static int write_header(struct um_call *call, const struct receipt *r,
                        const struct um_arrival *arrival, uint32_t flags)
{
    const struct message *m = r->message;
    struct sockaddr_storage ss;
    uint8_t control[UM_CONTROL_ROOM];
    struct {
        uint64_t control_len;
        uint32_t flags;
    } tail = {.flags = flags};
    size_t room = m->control ? m->control_len : 0, count = 2;
    tail.control_len = um_control_compose(call->sock, arrival, r->report, room,
                                          control, &tail.flags);
    struct um_piece pieces[4] = {
        {m->control, control, tail.control_len},
        {r->address + offsetof(struct message, control_len), &tail,
         offsetof(struct message, pad2) -
             offsetof(struct message, control_len)},
    };
    int32_t name_len = 0;
    if (m->name) {
        name_len = (int32_t)sender_name(call->sock, arrival, &ss);
        int32_t step = m->name_len < name_len ? m->name_len : name_len;
        pieces[count++] = (struct um_piece){m->name, &ss, (size_t)step};
        pieces[count++] =
            (struct um_piece){r->address + offsetof(struct message, name_len),
                              &name_len, sizeof name_len};
    }
    return um_write_pieces(call, pieces, count);
}

static um_verdict write_message(struct um_call *call, const struct receipt *r,
                                const struct um_arrival *arrival,
                                const void *data, int flags)
{
    ssize_t n = um_write_vector(call, r->message->iov, r->message->iov_count,
                                data, arrival->len);
    if (n < 0)
        return n;
    bool cut = (size_t)n < arrival->len;
    uint32_t shown = (uint32_t)flags & MSG_CMSG_CLOEXEC;
    if (r->report)
        shown |= MSG_ERRQUEUE;
    int rc = write_header(call, r, arrival, cut ? shown | MSG_TRUNC : shown);
    if (rc < 0)
        return rc;
    return flags & MSG_TRUNC ? (um_verdict)arrival->len : n;
}

static um_verdict write_plain(struct um_call *call,
                              const struct um_arrival *arrival,
                              const void *data, int flags)
{
    struct sockaddr_storage ss;
    size_t len = arrival->len;
    size_t step = call->args[2] < len ? call->args[2] : len;
    int32_t room = 0, name_len = (int32_t)sender_name(call->sock, arrival, &ss);
    if (call->args[4]) {
        int rc = um_read(call, call->args[5], &room, sizeof room);
        if (rc < 0)
            return rc;
        if (room < 0)
            return -EINVAL;
    }
    struct um_piece pieces[] = {
        {call->args[1], data, step},
        {call->args[4], &ss, (size_t)(room < name_len ? room : name_len)},
        {call->args[5], &name_len, call->args[4] ? sizeof name_len : 0},
    };
    int rc = um_write_pieces(call, pieces, 3);
    return rc < 0 ? rc : (um_verdict)(flags & MSG_TRUNC ? len : step);
}

/* Nothing will come any more: 0 bytes from nobody. */
static um_verdict write_end(struct um_call *call, const struct receipt *r,
                            struct taken *taken)
{
    static const uint8_t nothing[offsetof(struct message, pad2) -
                                 offsetof(struct message, control_len)] = {0};
    int32_t zero = 0;
    taken->arrival.len = 0;
    if (!r->message)
        return um_write_name(call, call->args[4], call->args[5], NULL, 0);
    int rc = 0;
    if (r->message->name)
        rc = um_write(call, r->address + offsetof(struct message, name_len),
                      &zero, sizeof zero);
    return rc < 0 ? rc
                  : um_write(call,
                             r->address + offsetof(struct message, control_len),
                             nothing, sizeof nothing);
}

static um_verdict write_received(struct um_call *call, const struct receipt *r,
                                 const struct um_arrival *arrival,
                                 const void *data, int flags)
{
    return r->message ? write_message(call, r, arrival, data, flags)
                      : write_plain(call, arrival, data, flags);
}

static void give_report_back(struct um_call *call)
{
    struct um_sock *sock = um_sock_find(call->sb, (uintptr_t)call->undo_arg);
    if (sock && sock->dgram)
        um_reports_return(call, sock);
}

/* Receive from the error queue; MSG_PEEK and MSG_TRUNC mean nothing there. */
static um_verdict receive_report(struct um_call *call, struct receipt *r,
                                 int flags)
{
    struct um_report *report = um_report_next(call);
    if (!report)
        return -EAGAIN;
    r->report = report;
    call->undo = give_report_back;
    call->undo_arg = (void *)(uintptr_t)call->sock->cookie;
    um_report_take(call, report);
    return write_received(call, r, &report->arrival, report->data,
                          flags & ~MSG_TRUNC);
}

/* Receive one datagram. Return: what recvmsg(2) does, -EAGAIN if none is
 * there. */
static um_verdict receive_one(struct um_call *call, struct receipt *r,
                              int flags)
{
    struct taken *taken = taken_at(call, r->at);
    bool peek = flags & MSG_PEEK;
    if (flags & MSG_ERRQUEUE)
        return receive_report(call, r, flags);
    int rc =
        um_dgram_take(call->sock, call->fd, peek, &taken->arrival, taken->data);
    /* Who would not wait is not told: __skb_recv_udp(). */
    if (rc == -ESHUTDOWN)
        return um_call_nonblocking(call, flags) ? -EAGAIN
                                                : write_end(call, r, taken);
    if (rc < 0) {
        if (rc != -EAGAIN)
            note_error(call, -rc);
        return rc;
    }
    if (!peek)
        note_taken(call);
    um_verdict verdict =
        write_received(call, r, &taken->arrival, taken->data, flags);
    /* As Linux: what could not be written is lost. */
    if (verdict < 0 && verdict != -ENOENT && !peek)
        call->undo_count--;
    return verdict;
}

/* Nothing is there: fail or wait. */
static um_verdict wait_for_datagram(struct um_call *call, um_handler *handler,
                                    int flags)
{
    if ((flags & MSG_ERRQUEUE) || um_call_nonblocking(call, flags))
        return -EAGAIN;
    um_call_deadline(call, call->sock, SO_RCVTIMEO);
    return um_park(call, handler, call->sock);
}

um_verdict um_handle_recvfrom(struct um_call *call)
{
    int flags = (int)call->args[3];
    struct receipt r = {0};
    if (!identify_receiver(call))
        return UM_CONTINUE;
    if (is_stream(call->sock))
        return um_stream_recvfrom(call);
    um_verdict verdict = receive_one(call, &r, flags);
    if (verdict == -EAGAIN)
        return wait_for_datagram(call, um_handle_recvfrom, flags);
    return verdict;
}

static um_verdict receive_message(struct um_call *call, uint64_t address,
                                  size_t at, int flags)
{
    struct message m;
    struct receipt r = {.message = &m, .address = address, .at = at};
    int rc = um_read(call, address, &m, sizeof m);
    if (rc < 0)
        return rc;
    if (m.name && m.name_len < 0)
        return -EINVAL;
    return receive_one(call, &r, flags);
}

um_verdict um_handle_recvmsg(struct um_call *call)
{
    int flags = (int)call->args[2];
    if (!identify_receiver(call))
        return UM_CONTINUE;
    if (is_stream(call->sock))
        return um_stream_recvmsg(call);
    um_verdict verdict = receive_message(call, call->args[1], 0, flags);
    if (verdict == -EAGAIN)
        return wait_for_datagram(call, um_handle_recvmsg, flags);
    return verdict;
}

/* Take what is there, at most count. Return: how many, or an errno. */
static um_verdict receive_messages(struct um_call *call, uint32_t count,
                                   int flags)
{
    um_verdict verdict = 0;
    uint32_t done = 0;
    size_t at = 0;
    while (done < count && at + TAKEN_ROOM <= UM_SCRATCH) {
        uint64_t slot = call->args[1] + done * sizeof(struct message_slot);
        verdict = receive_message(call, slot, at, flags);
        if (verdict < 0)
            break;
        uint32_t len = (uint32_t)verdict;
        verdict = um_write(call, slot + offsetof(struct message_slot, len),
                           &len, sizeof len);
        if (verdict < 0)
            break;
        if (!(flags & MSG_ERRQUEUE))
            at += taken_size(taken_at(call, at));
        done++;
    }
    if (verdict == -ENOENT)
        return verdict;
    return done ? (um_verdict)done : verdict;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS + now.tv_nsec;
}

/* Until when recvmmsg may go on. Return: 0 or negative errno. */
static int read_limit(struct um_call *call)
{
    struct timespec limit;
    if (call->again || !call->args[4])
        return 0;
    int rc = um_read(call, call->args[4], &limit, sizeof limit);
    if (rc < 0)
        return rc;
    if (limit.tv_sec < 0 || limit.tv_nsec < 0 || limit.tv_nsec >= NS)
        return -EINVAL;
    if (limit.tv_sec > INT32_MAX)
        limit.tv_sec = INT32_MAX;
    call->limit_ns = now_ns() + (int64_t)limit.tv_sec * NS + limit.tv_nsec;
    return 0;
}

/* What is left of the time goes back to the program. */
static int write_limit(struct um_call *call)
{
    int64_t left = call->limit_ns - now_ns();
    struct timespec limit = {0};
    if (!call->args[4])
        return 0;
    if (left > 0) {
        limit.tv_sec = left / NS;
        limit.tv_nsec = left % NS;
    }
    return um_write(call, call->args[4], &limit, sizeof limit);
}

/* Is it time to take what waits, though it is less than was wanted? The limit
 * of recvmmsg(2) is looked at when a datagram has come, that of SO_RCVTIMEO
 * begins anew with each; and no more is let wait than can be taken at once. */
static bool enough(struct um_call *call, uint32_t waiting)
{
    const struct um_dgram *dgram = call->sock->dgram;
    bool one_came = waiting != call->seen;
    if (call->sock->error || call->sock->shut_read || waiting >= WAITING_MAX ||
        um_dgram_waiting_bytes(dgram) + waiting * sizeof(struct taken) >
            UM_SCRATCH - TAKEN_ROOM)
        return true;
    if (one_came || !call->again) {
        int64_t limit_ms = um_option_timeout_ms(call->sock, SO_RCVTIMEO);
        call->deadline_ms = limit_ms ? um_now_ms() + limit_ms : 0;
    }
    call->seen = waiting;
    if (!waiting)
        return false;
    return um_call_expired(call) ||
           (one_came && call->args[4] && now_ns() >= call->limit_ns);
}

/* A blocking recvmmsg waits for all that it wants, or for the first, and only
 * then takes them, so that nothing is kept while it waits. */
um_verdict um_handle_recvmmsg(struct um_call *call)
{
    int flags = (int)call->args[3];
    uint32_t count = (uint32_t)call->args[2];
    if (!identify_receiver(call))
        return UM_CONTINUE;
    if (is_stream(call->sock))
        return um_stream_recvmmsg(call);
    int rc = read_limit(call);
    if (rc < 0)
        return rc;
    if (count > SLOTS_MAX)
        count = SLOTS_MAX;
    /* No time at all is enough for one. */
    if (!call->again && count && call->args[4] && now_ns() >= call->limit_ns)
        count = 1;
    uint32_t waiting = um_dgram_waiting(call->sock);
    uint32_t wanted = flags & MSG_WAITFORONE ? 1 : count;
    if (!(flags & MSG_ERRQUEUE) && waiting < wanted &&
        !um_call_nonblocking(call, flags) && !enough(call, waiting))
        return um_park(call, um_handle_recvmmsg, call->sock);
    um_verdict verdict = receive_messages(call, count, flags & ~MSG_WAITFORONE);
    if (verdict > 0) {
        rc = write_limit(call);
        verdict = rc < 0 ? rc : verdict;
    }
    return verdict;
}
