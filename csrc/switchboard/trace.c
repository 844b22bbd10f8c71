/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * trace.c - tell Python of each call that is stopped, for `umview --trace`
 *
 * Python writes the lines, but it comes too late to read what a call's pointers
 * name: the program has gone on by then. So what they name is copied here, in
 * the two moments in which the caller stands still: its inputs when the call
 * has come, its outputs right before the answer, when they have been written.
 * A table says for each call what lies where; what a copy means is Python's
 * business. Nothing is copied of long data but its beginning.
 *
 * A call has one line, sent when it is over: answered, left to the kernel (what
 * that has made of it, nobody tells us), or abandoned. An open that is left to
 * the kernel has nothing to do with the network: of such calls nothing is told.
 *
 * Nothing is lost: where Python falls behind, no further call is received
 * until it has caught up (um_python_behind()).
 */
#include <errno.h>
#include <linux/openat2.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "messages.h"
#include "stream.h"
#include "trace.h"
#include "tracee.h"

#ifndef __NR_open
#define __NR_open (-1) /* aarch64 has openat only */
#endif

enum {
    DATA_SHOWN = 64,
    CONTROL_SHOWN = 256,
    VALUE_SHOWN = 512,
    PATH_SHOWN = 256,
    MESSAGES_SHOWN = 4,
    ROOM = 1024,
    ALIGNMENT = 8,
    NS = 1000000000,
    IFREQ = 40,
    IFCONF = 16,
};

/* What was seen of a call so far; its record grows behind it. */
struct um_trace {
    uint64_t cookie;  /* of its socket, or 0 */
    int64_t began_ns; /* CLOCK_MONOTONIC */
    int64_t given;    /* the descriptor that it returns, or -1 */
    int stack;        /* that a socket is made of, or -1 */
    bool looked;      /* the outputs are in */
    bool named;       /* peer is set */
    bool came_in;     /* ... by what was received */
    uint8_t *record;  /* struct um_traced, and pieces */
    size_t len, room;
    struct sockaddr_storage peer;
    size_t peer_len;
};

/* ---- what lies where ---- */

enum form {
    NOTHING,
    DATA,     /* at .arg, args[.size] bytes */
    NAME,     /* the same, the address of a peer */
    OWN_NAME, /* the same, not of a peer */
    FIXED,    /* .size bytes */
    STRING,
    RECEIVED,    /* as many bytes as the call returns, args[.size] at most */
    SIZED,       /* as many as the int at args[.size] says */
    PEER_SIZED,  /* the same, the address of a peer */
    MESSAGE,     /* struct msghdr */
    MESSAGES,    /* args[2] of struct mmsghdr */
    CARD_REQUEST /* what an ioctl takes or gives */
};

struct place {
    uint8_t arg, form;
    uint16_t size;
};

static const struct row {
    int nr;
    bool told_if_answered; /* else nobody wants to know */
    struct place in[2], out[2];
} table[] = {
    {UM_NR_MSOCKET, false, {{0, STRING, 0}}, {{0}}},
    {__NR_bind, false, {{1, OWN_NAME, 2}}, {{0}}},
    {__NR_connect, false, {{1, NAME, 2}}, {{0}}},
    {__NR_accept, false, {{0}}, {{1, PEER_SIZED, 2}}},
    {__NR_accept4, false, {{0}}, {{1, PEER_SIZED, 2}}},
    {__NR_getsockname, false, {{0}}, {{1, SIZED, 2}}},
    {__NR_getpeername, false, {{0}}, {{1, PEER_SIZED, 2}}},
    {__NR_setsockopt, false, {{3, DATA, 4}}, {{0}}},
    {__NR_getsockopt, false, {{0}}, {{3, SIZED, 4}}},
    {__NR_sendto, false, {{1, DATA, 2}, {4, NAME, 5}}, {{0}}},
    {__NR_recvfrom, false, {{0}}, {{1, RECEIVED, 2}, {4, PEER_SIZED, 5}}},
    {__NR_sendmsg, false, {{1, MESSAGE, 0}}, {{0}}},
    {__NR_recvmsg, false, {{0}}, {{1, MESSAGE, 0}}},
    {__NR_sendmmsg, false, {{1, MESSAGES, 0}}, {{0}}},
    {__NR_recvmmsg,
     false,
     {{4, FIXED, sizeof(struct timespec)}},
     {{1, MESSAGES, 0}}},
    {__NR_ioctl, false, {{2, CARD_REQUEST, 0}}, {{2, CARD_REQUEST, 0}}},
    {__NR_open, true, {{0, STRING, 0}}, {{0}}},
    {__NR_openat, true, {{1, STRING, 0}}, {{0}}},
    {__NR_openat2,
     true,
     {{1, STRING, 0}, {2, FIXED, sizeof(struct open_how)}},
     {{0}}},
    {__NR_uname, true, {{0}}, {{0, FIXED, sizeof(struct utsname)}}},
    {__NR_sethostname, true, {{0, DATA, 1}}, {{0}}},
    {__NR_setdomainname, true, {{0, DATA, 1}}, {{0}}},
    {__NR_prctl, true, {{0}}, {{0}}},
};
enum { ROWS = sizeof table / sizeof *table };

static const struct row *row_of(int nr)
{
    static const struct row plain = {.nr = -1};
    for (size_t i = 0; i < ROWS; i++)
        if (table[i].nr == nr)
            return &table[i];
    return &plain;
}

/* ---- the record ---- */

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS + now.tv_nsec;
}

static struct um_traced *head_of(struct um_trace *trace)
{
    return (struct um_traced *)(void *)trace->record;
}

/* Make room for a piece of size bytes. Return: where they go; NULL without
 * memory, and the line will show a number in their place. */
static uint8_t *add_piece(struct um_trace *trace, struct um_piece_head head,
                          size_t size)
{
    size_t need = trace->len + sizeof head + size + ALIGNMENT;
    if (need > trace->room) {
        uint8_t *record = realloc(trace->record, 2 * need);
        if (!record)
            return NULL;
        trace->record = record;
        trace->room = 2 * need;
    }
    uint8_t *at = trace->record + trace->len;
    head.size = (uint32_t)size;
    memcpy(at, &head, sizeof head);
    size_t step = sizeof head + size;
    trace->len += (step + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    return at + sizeof head;
}

/* The bytes that a piece was given turned out to be fewer. */
static void cut_piece(struct um_trace *trace, uint8_t *bytes, size_t size)
{
    struct um_piece_head head;
    uint8_t *at = bytes - sizeof head;
    memcpy(&head, at, sizeof head);
    head.size = (uint32_t)size;
    memcpy(at, &head, sizeof head);
    size_t step = sizeof head + size;
    trace->len = (size_t)(at - trace->record) +
                 ((step + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1));
}

static void drop_piece(struct um_trace *trace, uint8_t *bytes)
{
    trace->len = (size_t)(bytes - trace->record) - sizeof(struct um_piece_head);
}

/* Copy `len` bytes at address, at most `most`. Return: them, or NULL; *got of
 * them. */
static const uint8_t *copy(struct um_call *call, struct um_piece_head head,
                           uint64_t address, size_t len, size_t most,
                           size_t *got)
{
    if (!address)
        return NULL;
    size_t size = len < most ? len : most;
    head.len = (uint32_t)len;
    uint8_t *bytes = add_piece(call->trace, head, size);
    if (!bytes)
        return NULL;
    ssize_t n = um_read_some(call, address, bytes, size);
    if (n < 0) {
        drop_piece(call->trace, bytes);
        return NULL;
    }
    cut_piece(call->trace, bytes, (size_t)n);
    *got = (size_t)n;
    return bytes;
}

/* Note whom the call speaks to, or who has spoken. */
static void note_peer(struct um_trace *trace, const uint8_t *name, size_t len,
                      bool came_in)
{
    if (!name || trace->named || len > sizeof trace->peer)
        return;
    memcpy(&trace->peer, name, len);
    trace->peer_len = len;
    trace->named = true;
    trace->came_in = came_in;
}

/* ---- messages ---- */

static void copy_vector(struct um_call *call, struct um_piece_head head,
                        const struct message *m, size_t len)
{
    size_t most = len < DATA_SHOWN ? len : DATA_SHOWN;
    head.part = UM_PART_DATA;
    head.len = (uint32_t)len;
    uint8_t *bytes = add_piece(call->trace, head, most);
    if (!bytes)
        return;
    ssize_t n = um_read_vector_some(call, m->iov, m->iov_count, bytes, most);
    if (n < 0)
        drop_piece(call->trace, bytes);
    else
        cut_piece(call->trace, bytes, (size_t)n);
}

/* How many bytes the vector names in all; 0 where that cannot be read. */
static size_t vector_len(struct um_call *call, const struct message *m)
{
    enum { LOOK = 64 };
    struct iovec vector[LOOK];
    size_t count = m->iov_count < LOOK ? m->iov_count : LOOK, len = 0;
    if (um_read(call, m->iov, vector, count * sizeof *vector) < 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        len += vector[i].iov_len;
    return len;
}

/* Copy the message at address. received: how much data came with it; -1: it is
 * being sent. */
static void copy_message(struct um_call *call, struct um_piece_head head,
                         uint64_t address, int64_t received)
{
    struct message m;
    size_t got;
    bool out = received >= 0;
    head.part = UM_PART_HEADER;
    const uint8_t *bytes = copy(call, head, address, sizeof m, sizeof m, &got);
    if (!bytes || got < sizeof m)
        return;
    memcpy(&m, bytes, sizeof m);
    if (m.name && m.name_len > 0) {
        head.part = UM_PART_NAME;
        const uint8_t *name = copy(call, head, m.name, (size_t)m.name_len,
                                   sizeof(struct sockaddr_storage), &got);
        note_peer(call->trace, name, name ? got : 0, out);
    }
    if (m.control && m.control_len) {
        head.part = UM_PART_CONTROL;
        copy(call, head, m.control, m.control_len, CONTROL_SHOWN, &got);
    }
    copy_vector(call, head, &m, out ? (size_t)received : vector_len(call, &m));
}

static void copy_messages(struct um_call *call, struct um_piece_head head,
                          uint64_t address, int64_t count, bool out)
{
    for (int i = 0; i < count && i < MESSAGES_SHOWN; i++) {
        uint64_t slot = address + (uint64_t)i * sizeof(struct message_slot);
        uint32_t len = 0;
        if (out && um_read(call, slot + offsetof(struct message_slot, len),
                           &len, sizeof len) < 0)
            return;
        head.index = (uint8_t)i;
        copy_message(call, head, slot, out ? (int64_t)len : -1);
    }
}

/* ---- one place ---- */

static size_t ioctl_size(uint32_t request)
{
    bool flag = request == FIONREAD || request == TIOCOUTQ ||
                (request >= FIOSETOWN && request <= SIOCATMARK);
    return flag ? sizeof(int) : request == SIOCGIFCONF ? IFCONF : IFREQ;
}

static void copy_name(struct um_call *call, struct um_piece_head head,
                      const struct place *place)
{
    int32_t len = (int32_t)call->args[place->size];
    size_t got;
    if (len < 0)
        return;
    const uint8_t *name = copy(call, head, call->args[place->arg], (size_t)len,
                               sizeof(struct sockaddr_storage), &got);
    if (place->form == NAME)
        note_peer(call->trace, name, name ? got : 0, false);
}

/* What lies behind a length of which the call has made the true one. */
static void copy_sized(struct um_call *call, struct um_piece_head head,
                       const struct place *place)
{
    int32_t len;
    size_t got;
    if (!call->args[place->arg] || !call->args[place->size] ||
        um_read(call, call->args[place->size], &len, sizeof len) < 0 || len < 0)
        return;
    const uint8_t *value = copy(call, head, call->args[place->arg], (size_t)len,
                                VALUE_SHOWN, &got);
    if (place->form == PEER_SIZED)
        note_peer(call->trace, value, value ? got : 0, true);
}

static void copy_string(struct um_call *call, struct um_piece_head head,
                        const struct place *place)
{
    uint8_t *text = add_piece(call->trace, head, PATH_SHOWN);
    if (!text)
        return;
    ssize_t n =
        um_peek_string(call, call->args[place->arg], (char *)text, PATH_SHOWN);
    if (n < 0 && n != -ENAMETOOLONG)
        drop_piece(call->trace, text);
    else
        cut_piece(call->trace, text, n < 0 ? PATH_SHOWN : (size_t)n);
}

/* Copy what lies at a place. result: what the call returns; meaningless before
 * the answer. */
static void copy_place(struct um_call *call, const struct place *place,
                       bool out, int64_t result)
{
    struct um_piece_head head = {.arg = place->arg, .out = out};
    uint64_t address = call->args[place->arg];
    size_t got;
    uint64_t len;
    switch ((enum form)place->form) {
    case NOTHING:
        break;
    case DATA:
        copy(call, head, address, call->args[place->size], DATA_SHOWN, &got);
        break;
    case NAME:
    case OWN_NAME:
        copy_name(call, head, place);
        break;
    case FIXED:
        copy(call, head, address, place->size, VALUE_SHOWN, &got);
        break;
    case STRING:
        copy_string(call, head, place);
        break;
    case RECEIVED:
        len = (uint64_t)result;
        if (len > call->args[place->size])
            len = call->args[place->size];
        copy(call, head, address, len, DATA_SHOWN, &got);
        break;
    case SIZED:
    case PEER_SIZED:
        copy_sized(call, head, place);
        break;
    case MESSAGE:
        copy_message(call, head, address, out ? result : -1);
        break;
    case MESSAGES:
        copy_messages(call, head, address,
                      out ? result : (int64_t)(uint32_t)call->args[2], out);
        break;
    case CARD_REQUEST:
        copy(call, head, address, ioctl_size((uint32_t)call->args[1]),
             VALUE_SHOWN, &got);
        break;
    }
}

/* The length that the program gave for an output, for it will be overwritten.
 */
static void copy_room(struct um_call *call, const struct place *place)
{
    struct um_piece_head head = {.arg = (uint8_t)place->size,
                                 .part = UM_PART_ROOM};
    size_t got;
    if (place->form == SIZED || place->form == PEER_SIZED)
        copy(call, head, call->args[place->size], sizeof(int32_t),
             sizeof(int32_t), &got);
}

/* ---- the road ---- */

/* By which road the call speaks or has been spoken to; -1: neither. */
static int road_of(const struct um_trace *trace, const struct um_sock *sock)
{
    struct um_name peer, host;
    uint8_t source[16];
    if (!sock || sock->domain == AF_NETLINK)
        return -1;
    if (sock->type == SOCK_STREAM && sock->state == UM_CONNECTED)
        return !sock->conn        ? UM_ROAD_LOCAL
               : sock->conn->line ? UM_ROAD_PACKET
                                  : UM_ROAD_RELAY;
    if (trace->named) {
        int domain = trace->peer.ss_family == AF_INET ? AF_INET : sock->domain;
        if (um_name_parse(domain, &trace->peer, trace->peer_len, &peer) != 0)
            return -1;
    } else if (sock->state == UM_CONNECTED || sock->state == UM_CONNECTING) {
        peer = sock->peer;
    } else {
        return -1;
    }
    if (trace->came_in)
        return um_stack_owns(sock->stack, peer.addr) ? UM_ROAD_LOCAL
                                                     : UM_ROAD_RELAY;
    int road = um_sock_route(sock, &peer, &host, source);
    return road < 0 || road == UM_ROAD_LOST ? UM_ROAD_UNREACHABLE : road;
}

/* ---- the life of a call ---- */

void um_trace_begin(struct um_call *call)
{
    struct um_trace *trace = calloc(1, sizeof *trace);
    uint8_t *record = malloc(ROOM);
    if (!trace || !record) {
        free(trace);
        free(record);
        return;
    }
    *trace = (struct um_trace){.record = record,
                               .room = ROOM,
                               .len = sizeof(struct um_traced),
                               .given = -1,
                               .stack = -1,
                               .began_ns = now_ns(CLOCK_MONOTONIC)};
    struct um_traced head = {.began_ns = now_ns(CLOCK_REALTIME),
                             .nr = call->nr,
                             .tid = call->tid,
                             .stack = -1,
                             .road = -1};
    memcpy(head.args, call->args, sizeof head.args);
    memcpy(record, &head, sizeof head);
    call->trace = trace;
    const struct row *row = row_of(call->nr);
    for (size_t i = 0; i < 2; i++) {
        copy_place(call, &row->in[i], false, 0);
        copy_room(call, &row->out[i]);
    }
}

void um_trace_socket(struct um_call *call)
{
    call->trace->cookie = call->sock->cookie;
}

void um_trace_stack(struct um_call *call, const struct um_stack *stack)
{
    call->trace->stack = stack->number;
}

void um_trace_look(struct um_call *call, um_verdict verdict)
{
    struct um_trace *trace = call->trace;
    if (trace->looked)
        return;
    trace->looked = true;
    const struct row *row = row_of(call->nr);
    for (size_t i = 0; i < 2 && verdict >= 0; i++)
        copy_place(call, &row->out[i], true, verdict);
    const struct um_sock *sock = um_sock_find(call->sb, trace->cookie);
    if (sock)
        head_of(trace)->stack = sock->stack->number;
    else
        head_of(trace)->stack = trace->stack;
    head_of(trace)->road = road_of(trace, sock);
}

void um_trace_given(struct um_call *call, int number)
{
    call->trace->given = number;
}

/* Send the record, or forget it. */
static void end(struct um_call *call, enum um_outcome outcome, int64_t result)
{
    struct um_trace *trace = call->trace;
    struct um_traced *head = head_of(trace);
    struct um_event event = {.kind = UM_EVENT_CALL,
                             .data = trace->record,
                             .len = (uint32_t)trace->len};
    head->took_ns = now_ns(CLOCK_MONOTONIC) - trace->began_ns;
    head->outcome = outcome;
    head->result = result;
    call->trace = NULL;
    if (outcome != UM_OUTCOME_ANSWERED && row_of(call->nr)->told_if_answered)
        free(event.data);
    else
        um_tell_python(call->sb, &event);
    free(trace);
}

void um_trace_end(struct um_call *call, um_verdict verdict)
{
    if (verdict == UM_CONTINUE)
        end(call, UM_OUTCOME_KERNEL, 0);
    else if (verdict == UM_ANSWERED)
        end(call, UM_OUTCOME_ANSWERED, call->trace->given);
    else
        end(call, UM_OUTCOME_ANSWERED, verdict);
}

void um_trace_abandon(struct um_call *call)
{
    bool gone = um_thread_has_ended(call->tid);
    end(call, gone ? UM_OUTCOME_GONE : UM_OUTCOME_INTERRUPTED, 0);
}

void um_tell_of_calls(struct um_switchboard *sb)
{
    sb->tracing = true;
}
