/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * um.h - what the files of the switchboard share
 *
 * The switchboard is one thread that owns everything declared here: sockets,
 * ports, stacks, parked calls. Two others touch it through one queue each:
 * Python (python.c) and the pump (pump.h). So there are no locks in here.
 *
 * Life of a stopped call: notify.c receives it into a struct um_call, calls.c
 * finds its handler in the one table, the handler (named like the call)
 * returns a verdict, notify.c answers. A handler may be run again for the same
 * call, after a signal or because it was parked: it changes nothing before it
 * is sure to answer, or sets call->undo for what it has done.
 *
 * Headers are split by reader: um_api.h is for Python, pump.h for the pump.
 */
#ifndef UM_H
#define UM_H

#include <limits.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "../um_api.h"

/* ---- lists: intrusive, circular, doubly linked ---- */

struct um_list {
    struct um_list *next, *prev;
};
#define UM_CONTAINER(ptr, type, member)                                        \
    ((type *)(void *)((char *)(ptr) - offsetof(type, member)))
static inline void um_list_init(struct um_list *l)
{
    l->next = l->prev = l;
}
static inline bool um_list_empty(const struct um_list *l)
{
    return l->next == l;
}
static inline void um_list_append(struct um_list *head, struct um_list *item)
{
    item->prev = head->prev;
    item->next = head;
    head->prev->next = item;
    head->prev = item;
}
static inline void um_list_remove(struct um_list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    um_list_init(item);
}

/* ---- verdicts: what a handler says ---- */

/* >= 0: the call returns this; -4095..-1: it fails with this errno; or: */
typedef int64_t um_verdict;
#define UM_CONTINUE                                                            \
    (INT64_MIN)                     /* the kernel runs it: only for what cannot
                                       reach the network */
#define UM_PARKED   (INT64_MIN + 1) /* um_park() holds it */
#define UM_ANSWERED (INT64_MIN + 2) /* the handler answered it itself */

struct um_sock;
struct um_switchboard;
struct um_stack;
struct um_trace;

/* What a thread was answered, but perhaps never told. */
struct um_untold {
    pid_t tid; /* 0: nothing */
    int nr;
    uint64_t args[6], asked;
    um_verdict verdict;
    int error; /* that getsockopt(SO_ERROR) took */
    bool sure; /* nobody waited for the answer */
};

/* An end of a socket: IPv6, or IPv4 as ::ffff:a.b.c.d; port in host order. */
struct um_name {
    uint8_t addr[16];
    uint16_t port;
    uint32_t scope;
};

/* What a policy was asked for a call, and its answer. */
struct um_word {
    uint32_t deed; /* 0: nothing */
    int error;
    uint64_t cookie;
    struct um_name name;
    /* Of the call, for when it goes on. */
    bool again;
    int64_t deadline_ms;
};

/* A stopped call. On the stack of the loop, or inside a struct um_parked. */
struct um_call {
    struct um_switchboard *sb;
    uint64_t id;  /* of the notification ... */
    int listener; /* ... that came by this descriptor; of seccomp.c */
    pid_t tid;    /* calling thread */
    int nr;       /* __NR_* of x86-64 or aarch64 */
    uint64_t args[6];
    uint64_t asked;       /* bind, connect: digest of the address */
    int fd;               /* our copy of descriptor args[0], or -1; the loop
                             closes it */
    struct um_sock *sock; /* what um_identify() found, or NULL */
    bool again;           /* run again after having been parked */
    bool limited;         /* deadline_ms is that of SO_RCVTIMEO, SO_SNDTIMEO */
    bool interrupted;    /* a signal ended this limited call; it is restarted */
    bool broken_pipe;    /* SIGPIPE follows the answer */
    bool brief;          /* parked for an answer that comes at once */
    int64_t deadline_ms; /* CLOCK_MONOTONIC; kept over parkings; 0: none */
    int64_t limit_ns;    /* recvmmsg: its own limit; CLOCK_MONOTONIC */
    uint32_t seen;       /* recvmmsg: datagrams that waited before; sendmmsg:
                            that were sent before */
    /* Called when the call was abandoned before our answer came. */
    void (*undo)(struct um_call *call);
    void *undo_arg;
    int undo_count;         /* of datagrams taken */
    int error;              /* that getsockopt(SO_ERROR) takes */
    struct um_trace *trace; /* trace.h; NULL: nothing is traced */
    struct um_word word;    /* of a policy */
};

typedef um_verdict um_handler(struct um_call *call);

/* A descriptor that the loop watches; fn is called with what epoll says.
 * Free a watch only through um_watch_remove() and um_later_free(): the batch of
 * events in hand may name it. */
struct um_watch {
    void (*fn)(struct um_switchboard *sb, struct um_watch *watch,
               uint32_t events);
    int fd;
};

/* A call that waits. It costs its memory and nothing else. */
struct um_parked {
    struct um_call call;
    um_handler *handler;
    struct um_list waiters; /* in sock->waiters or alone */
    struct um_list all;     /* in sb->parked, by age */
    struct um_list timed;   /* in sb->timed, if it has a deadline */
    struct um_watch watch;  /* of um_park_until() */
    struct um_parked *tid_next;
    struct um_sock *sock;
    bool recalled;      /* it comes anew: its thread is on its way */
    um_verdict verdict; /* ... to get this; UM_PARKED: to be run again */
};

/* ---- names ---- */

bool um_addr_is_v4(const uint8_t addr[16]);
bool um_addr_is_any(const uint8_t addr[16]);      /* :: or 0.0.0.0 */
bool um_addr_is_loopback(const uint8_t addr[16]); /* 127/8 or ::1 */
bool um_addr_is_multicast(const uint8_t addr[16]);
bool um_addr_equal(const uint8_t a[16], const uint8_t b[16]);
bool um_name_equal(const struct um_name *a, const struct um_name *b);
extern const uint8_t um_any4[16], um_any6[16], um_loopback4[16],
    um_loopback6[16];
/* Read the sockaddr that a program gave for a socket of this domain. Return:
 * 0; -EINVAL (too short), -EAFNOSUPPORT (family); 1 for AF_UNSPEC. */
int um_name_parse(int domain, const void *sockaddr, size_t len,
                  struct um_name *ret);
/* Write name as a program with a socket of this domain expects it (an IPv4
 * name on an AF_INET6 socket is v4-mapped; any4 becomes :: there).
 * Return: the length. */
size_t um_name_format(int domain, const struct um_name *name,
                      struct sockaddr_storage *ret);
/* The same for a host socket of family AF_INET or AF_INET6, by the kind of
 * address. Return: the length; ret->ss_family says which. */
socklen_t um_name_to_host(const struct um_name *name,
                          struct sockaddr_storage *ret);
int um_name_from_host(const struct sockaddr_storage *ss, struct um_name *ret);
/* "10.0.2.15:80" or "[::1]:80", for the log. */
const char *um_name_text(const struct um_name *name, char buf[64]);

/* ---- sockets ---- */

enum um_state {
    UM_FRESH,      /* also: bound */
    UM_LISTENING,  /* stream */
    UM_CONNECTING, /* stream: a relayed connection is under way */
    UM_CONNECTED,  /* stream: established; others: connect() named a peer */
    UM_FAILED,     /* stream: the surrogate is used up by a refused
                      non-blocking connect; the next connect replaces it */
    UM_CLOSED      /* stream: was listening, shut down */
};

/* One set option: what getsockopt gives back. */
struct um_option {
    struct um_option *next;
    int32_t level, name;
    int32_t effect; /* what an int option reads back as */
    uint32_t len;
    uint8_t value[]; /* len bytes, as the program gave them */
};

struct um_conn;    /* a relayed stream: pump.h */
struct um_listen;  /* stream.h */
struct um_dial;    /* stream.h: a connect that is under way */
struct um_dgram;   /* dgram.c: UDP, ping, raw */
struct um_dgrams;  /* dgram.h */
struct um_netlink; /* netlink.c */
struct um_bind;    /* ports.c */

/* A socket of a view. Named by its surrogate's SO_COOKIE, which the kernel
 * never uses twice. */
struct um_sock {
    uint64_t cookie;
    struct um_sock *next; /* hash chain by cookie */
    uint32_t inode;       /* of the surrogate; 0: not asked for */
    uint32_t generation;  /* of the last collection that saw it */
    /* The surrogate as that collection saw it: bytes (of a listener:
     * connections) that wait, and whether no more will come. */
    uint32_t waiting;
    bool ended_read;
    struct um_stack *stack;
    int domain;   /* AF_INET, AF_INET6, AF_NETLINK */
    int type;     /* SOCK_STREAM, SOCK_DGRAM, SOCK_RAW */
    int protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, ... */
    enum um_state state;
    bool unread_result; /* stream: connect() is done but the program has not
                           been told: its next connect() returns 0 */
    int card;           /* that it is bound to (SO_BINDTODEVICE), or 0 */
    bool v6only;
    bool reuseaddr, reuseport;
    bool addr_bound; /* the program chose the address, not we */
    bool port_bound; /* ... the port */
    bool accepted;   /* stream: came from accept, so its peer has no name */
    bool over;       /* stream: both sides have ended, or it was reset */
    bool armed;      /* stream: um_stream_arm_reset() was asked for */
    int error;       /* pending SO_ERROR, > 0 */
    bool shut_read, shut_write;
    bool told_end;    /* ... to policies */
    int user;         /* 1 + the number of its user's view; 0: not asked for */
    bool reports_end; /* its end is reported (by the pump, or by HUP on our
                         end): the collector leaves it alone */
    pid_t tid;        /* where its descriptor was seen last: ... */
    int number;       /* ... in which thread's process, under which number */
    uint64_t partner; /* stream: cookie of what it is joined with, or 0 */
    struct um_name local, peer;
    struct um_untold untold;
    struct um_returned *returned; /* of stream_io.c, or NULL */
    struct um_bind *bind;         /* its port, or NULL */
    struct um_option *options;
    struct um_list waiters; /* um_parked: accept, recv*; connect */
    struct um_list wake;    /* in sb->wakes */
    bool wake_all;
    struct um_listen *listen;
    struct um_dial *dial;
    struct um_conn *conn;
    struct um_dgram *dgram;
    struct um_netlink *netlink;
    /* uplink.h: of a socket, those that stand for it in enclosing views' stacks
     * (linked by their own `outer`); of one of these, whom it stands for. */
    struct um_sock *outer, *inner;
    struct um_policed *policed; /* of policy.c, or NULL */
};

/* Make the entry for a fresh surrogate fd (which stays the caller's).
 * Return: NULL without memory. */
struct um_sock *um_sock_create(struct um_switchboard *sb,
                               struct um_stack *stack, int fd, int domain,
                               int type, int protocol);
/* Forget a socket: frees its port, its parts, fails its parked calls. */
void um_sock_destroy(struct um_switchboard *sb, struct um_sock *sock);
struct um_sock *um_sock_find(struct um_switchboard *sb, uint64_t cookie);
/* Note the inode of the surrogate fd: finds it faster later. */
void um_sock_note_inode(struct um_sock *sock, int fd);
/* Does the surrogate still exist? Asks the kernel (sock_diag). */
bool um_sock_alive(struct um_switchboard *sb, struct um_sock *sock);
/* Forget the sockets that ended without telling, when many were made. */
void um_collect(struct um_switchboard *sb, bool now);

/* ---- identify.c ---- */

/* Fill call->fd and call->sock for descriptor args[0]. Return: 1 one of
 * ours, 0 not ours (call->fd is open), or a negative errno, among them
 * -EBADF and -EPERM (the process cannot be looked into). */
int um_identify(struct um_call *call);
/* For what is not ours: the domain of call->fd, or -1 for no socket. */
int um_domain_of(int fd);
/* A copy of descriptor fd of thread tid. Return: fd or negative errno. */
int um_getfd(struct um_switchboard *sb, pid_t tid, int fd);
uint64_t um_cookie_of(int fd); /* 0 if it is no socket */
/* Does the process of thread tid catch signals that may come often? */
bool um_catches_signals(pid_t tid);
/* Does thread tid sleep now? Return: 1 yes, 0 it runs or is about to, or a
 * negative errno. */
int um_thread_sleeps(struct um_switchboard *sb, pid_t tid);

/* ---- memory.c: the only reader and writer of programs' memory ---- */

/* Copy from the caller; counts only if the call still stands.
 * Return: 0, -EFAULT, or -ENOENT (abandoned). */
int um_read(struct um_call *call, uint64_t address, void *ret, size_t len);
/* The same for as much as can be read. Return: bytes, or negative errno. */
ssize_t um_read_some(struct um_call *call, uint64_t address, void *ret,
                     size_t max);
/* Copy a NUL-terminated string, without asking whether the call still stands:
 * for a decision that the answer's own check makes good. Return: its length,
 * -EFAULT, -ENAMETOOLONG (no NUL in max bytes). */
ssize_t um_peek_string(struct um_call *call, uint64_t address, char *ret,
                       size_t max);
/* Gather from an iovec array that lies in the caller (iov, count).
 * Return: bytes copied (at most max), or negative errno (-EMSGSIZE when the
 * vector names more than max). */
ssize_t um_read_vector(struct um_call *call, uint64_t iov, size_t count,
                       void *ret, size_t max);
/* The same, but the first max bytes of a longer vector. */
ssize_t um_read_vector_some(struct um_call *call, uint64_t iov, size_t count,
                            void *ret, size_t max);
/* Write into the caller: last thing before the answer. Checks first that the
 * call still stands. Return: 0, -EFAULT, -ENOENT. */
int um_write(struct um_call *call, uint64_t address, const void *data,
             size_t len);
/* The same for several places at once. */
#define UM_PIECES_MAX 8
struct um_piece {
    uint64_t address;
    const void *data;
    size_t len;
};
int um_write_pieces(struct um_call *call, const struct um_piece *pieces,
                    size_t count);
/* Scatter to an iovec array of the caller. Return: bytes written (less than
 * len when the vector is shorter), or negative errno. */
ssize_t um_write_vector(struct um_call *call, uint64_t iov, size_t count,
                        const void *data, size_t len);
/* Write a sockaddr and its length as accept(2) and friends do: at most *len
 * bytes, then *len = true length. address 0: nothing. */
int um_write_name(struct um_call *call, uint64_t address, uint64_t len_address,
                  const void *sockaddr, size_t len);
bool um_call_valid(struct um_call *call);

/* ---- notify.c ---- */

/* Park the call until um_unpark() or its deadline. The handler runs again
 * then. Put on sock->waiters (sock may be NULL). Return: UM_PARKED, or
 * -ENOMEM as a verdict. */
um_verdict um_park(struct um_call *call, um_handler *handler,
                   struct um_sock *sock);
/* Park until fd (call->fd; kept open meanwhile) shows events. */
um_verdict um_park_until(struct um_call *call, um_handler *handler, int events);
/* After the call in hand, run the waiters of sock again: the oldest first,
 * until one has to wait on (wake_all: each of them once). */
void um_wake(struct um_switchboard *sb, struct um_sock *sock, bool wake_all);
/* The parked call of this notification, or NULL. */
struct um_parked *um_parked_find(struct um_switchboard *sb, uint64_t id);
/* Answer a parked call and free it. */
void um_unpark(struct um_parked *parked, um_verdict verdict);
/* Run its handler again, if the call still stands. */
void um_parked_resume(struct um_parked *parked);
/* Install fd (which stays the caller's) in the caller's process and answer
 * the call with its number there. cloexec: O_CLOEXEC or 0.
 * Return: the number, or -ENOENT (abandoned: undo what was done), ... */
int um_answer_fd(struct um_call *call, int fd, int cloexec);
/* Will the caller get a value? A signal wakes it, but until it has left the
 * kernel takes an answer, only to throw it away. So a value that hands
 * something over is given only after this has said yes: it waits until the
 * caller is seen asleep (yes), or its notification is gone (no). */
bool um_call_waits(struct um_call *call);
bool um_call_nonblocking(struct um_call *call, int msg_flags);
/* The deadline of a blocking call on sock from SO_RCVTIMEO (or SO_SNDTIMEO):
 * sets call->deadline_ms the first time. */
void um_call_deadline(struct um_call *call, struct um_sock *sock, int option);
bool um_call_expired(const struct um_call *call);
int64_t um_now_ms(void);

int um_watch_add(struct um_switchboard *sb, struct um_watch *watch, int fd,
                 uint32_t events);
int um_watch_change(struct um_switchboard *sb, struct um_watch *watch,
                    uint32_t events);
void um_watch_remove(struct um_switchboard *sb, struct um_watch *watch);
void um_later_free(struct um_switchboard *sb, void *memory);

/* ---- untold.c ---- */

/* Note the answer of a call; taken: as far as send() knows. */
void um_untold_note(const struct um_call *call, um_verdict verdict, bool taken);
/* Is it the call that was noted, come again? Only once: a third is new. */
bool um_untold(const struct um_call *call);
/* What the caller is to get: verdict, or what it perhaps was not told. */
um_verdict um_untold_verdict(const struct um_call *call, um_verdict verdict);

/* ---- python.c ---- */

__attribute__((format(printf, 3, 4))) void
um_log(struct um_switchboard *sb, int level, const char *fmt, ...);
/* Hand a call to Python: parks it. Takes data (malloced). */
um_verdict um_ask_python(struct um_call *call, struct um_event *event);
/* The same, and run handler when um_policy_answer() has come. */
um_verdict um_ask_python_then(struct um_call *call, um_handler *handler,
                              struct um_event *event);
/* An event without a call. */
void um_tell_python(struct um_switchboard *sb, struct um_event *event);
void um_python_kicked(struct um_switchboard *sb);
/* Has Python too much to take that nobody waits for? */
bool um_python_behind(struct um_switchboard *sb);

/* ---- stacks.c ---- */

struct um_map {
    uint8_t from[16], to[16];
    int protocol;
    uint16_t port, to_port;
};
#define UM_CARD_LO 1
/* Those that stacks provide: um_family_index(). */
#define UM_FAMILIES 4
#define UM_MAX_MAPS 64
struct um_stack {
    struct um_switchboard *sb;
    int number, kind;
    bool ipv4, ipv6;
    struct um_card_entry *cards; /* one piece of memory with the next two */
    int card_count;
    struct um_card_address *addresses;
    int address_count;
    struct um_route *routes;
    int route_count;
    struct um_map maps[UM_MAX_MAPS];
    int map_count;
    struct um_ports *ports;
    struct um_line *line;                  /* packet.h; NULL: no packet cards */
    struct um_stack *uplink;               /* behind nat0; NULL: the host */
    bool leaving;                          /* it is to be removed when unused */
    struct um_stack *members[UM_FAMILIES]; /* of a LINK */
    uint32_t deeds;    /* that policies want to know of: policy.h */
    uint32_t policies; /* changes of them */
};
/* Is it one of the stack's own (all of 127/8 is)? */
bool um_stack_owns(const struct um_stack *stack, const uint8_t addr[16]);
/* Where does a packet to dest go? host: the destination on the host for
 * UM_ROAD_RELAY (translated by the maps). source: the address of ours that it
 * leaves from. Return: a road, or -ENETUNREACH. dest any means loopback. */
int um_stack_route(const struct um_stack *stack, int protocol,
                   const struct um_name *dest, struct um_name *host,
                   uint8_t source[16]);
/* The same for what a socket sends, which may be bound to a card. */
int um_sock_route(const struct um_sock *sock, const struct um_name *dest,
                  struct um_name *host, uint8_t source[16]);
/* The card that has an address of the stack's own; lo for 127/8; else 0. */
void um_stacks_destroy(struct um_switchboard *sb);
/* Tell Python of stacks that are unused now, if it waits for that. */
void um_stacks_tick(struct um_switchboard *sb);
/* The longest packet that the card with an address of the stack's own takes. */
uint32_t um_stack_mtu(const struct um_stack *stack, const uint8_t addr[16]);
/* Return: NULL if the stack has no such card. */
const char *um_stack_card_name(const struct um_stack *stack, int card);
/* source.c: the card's IPv6 address for packets to there (RFC 6724). Return: false
 * if it has none. */
bool um_source_choose(const struct um_stack *stack, int card,
                      const uint8_t dest[16], uint8_t ret[16]);
/* The card of what goes to a group and names no card. */
int um_stack_groups_card(const struct um_stack *stack);
int um_stack_card(const struct um_stack *stack, const uint8_t addr[16]);
/* The name under which the view knows the peer `host` of protocol (the maps
 * the other way round; host's loopback without a map stays as it is). */
void um_stack_unmap(const struct um_stack *stack, int protocol,
                    const struct um_name *host, struct um_name *ret);
/* The first address of the card, if it has one of the family. */
bool um_stack_card_address(const struct um_stack *stack, int card, bool v4,
                           uint8_t ret[16]);

/* ---- views.c ---- */

/* The kind of a stack whose sockets fail, for who has lost his: ENETDOWN. */
#define UM_STACK_GONE (-1)

/* What the caller's default stack does with sockets. */
int um_view_kind(struct um_call *call);
/* The stack that a new socket of the caller's and this family belongs to. */
struct um_stack *um_stack_of(struct um_call *call, int family);
/* Can the caller have sockets of the host by a stack of its view? */
bool um_reaches_host(struct um_call *call);
/* The number of the caller's view; -1: one that has ended. */
int um_view_of(struct um_call *call);
/* Make the outermost view. Return: 0 or -ENOMEM. */
int um_views_create(struct um_switchboard *sb);
void um_views_destroy(struct um_switchboard *sb);

/* ---- place.c ---- */

/* A view, and a default stack for each family that stacks provide. */
enum { UM_DEFAULT_NONE = -1, UM_DEFAULT_GONE = -2 };
struct um_defaults {
    int16_t stacks[UM_FAMILIES]; /* numbers, or one of the above */
    bool native; /* one leads or has led to the host's network */
};
struct um_view;
struct um_place {
    struct um_place *next;    /* hash chain by number */
    struct um_place *sibling; /* in the same view */
    uint64_t number;
    struct um_view *view;
    struct um_defaults defaults;
};

/* ---- netns.c ---- */

/* Note which network namespace is ours. */
void um_netns_init(struct um_switchboard *sb);
/* Is the caller in another network namespace? One that cannot be told, too. */
bool um_is_apart(struct um_call *call);

/* ---- ports.c ---- */

/* A port in use. fam4, fam6: which families it covers. */
struct um_bind {
    struct um_bind *next;
    struct um_sock *sock;
    struct um_stack *stack;
    int protocol;
    uint16_t port;
    uint8_t addr[16];
    bool any, fam4, fam6;
    bool listening; /* stream */
};
struct um_ports *um_ports_create(void);
void um_ports_destroy(struct um_ports *ports);
/* Give sock the name (port 0: an ephemeral one). Sets sock->bind,
 * sock->local. Return: 0, -EADDRINUSE, -ENOMEM. */
int um_port_take(struct um_sock *sock, const struct um_name *name);
void um_port_release(struct um_sock *sock);
/* May sock start to listen on its port? 0 or -EADDRINUSE. */
int um_port_listen(struct um_sock *sock);
/* Who gets what arrives at `to` from `from`: the most specific bind; for
 * datagrams a socket connected to `from` goes first and one connected
 * elsewhere is passed over; among SO_REUSEPORT equals by hash of from.
 * Stream: listeners only. Return: NULL if nobody. */
struct um_sock *um_port_find(struct um_stack *stack, int protocol,
                             const struct um_name *to,
                             const struct um_name *from);
/* The stream that connects from `local` to `peer`, or NULL. */
struct um_sock *um_port_connecting(struct um_stack *stack,
                                   const struct um_name *local,
                                   const struct um_name *peer);
/* Call fn for every datagram socket that a multicast or broadcast to `to`
 * by the card, from `from`, reaches. */
void um_port_each(struct um_stack *stack, int protocol,
                  const struct um_name *to, const struct um_name *from,
                  int card, void (*fn)(struct um_sock *sock, void *arg),
                  void *arg);

/* ---- options.c ---- */

/* What an int option reads back as, or fallback if it was never set. */
int um_option_int(const struct um_sock *sock, int level, int name,
                  int fallback);
/* Milliseconds of SO_RCVTIMEO or SO_SNDTIMEO; 0: no limit. */
int64_t um_option_timeout_ms(const struct um_sock *sock, int name);
/* The value of SO_LINGER. Return: false if it was never set. */
bool um_option_linger(const struct um_sock *sock, struct linger *ret);
void um_options_destroy(struct um_sock *sock);
/* Is sock a member of the multicast group? */
bool um_options_joined(const struct um_sock *sock, const uint8_t group[16]);
/* Does it want what source sends to the group by the card? fallback: what a
 * socket says that is no member there. */
bool um_options_hears(const struct um_sock *sock, const uint8_t group[16],
                      const uint8_t source[16], int card, bool fallback);
/* The card by which sock's multicasts leave. */
int um_options_multicast_card(const struct um_sock *sock, bool v4);
void um_options_inherit(const struct um_sock *listener, struct um_sock *sock);
/* Apply what was set before a host socket existed to the host socket. */
void um_options_to_host(const struct um_sock *sock, int host_fd);
/* Apply what was set to another surrogate: an accepted or a replaced one. */
void um_options_to_surrogate(const struct um_sock *sock, int fd);
struct um_models; /* host sockets that know what Linux says to an option */
void um_models_destroy(struct um_models *models);

/* ---- stream.c, connect.c ---- */

int um_stream_open(int flags); /* fresh surrogate, or negative errno */
void um_stream_destroy(struct um_switchboard *sb, struct um_sock *sock);
um_verdict um_stream_bind(struct um_call *call, const struct um_name *name);
um_verdict um_stream_connect(struct um_call *call, const struct um_name *name);
um_verdict um_stream_disconnect(struct um_call *call);
um_verdict um_stream_shutdown(struct um_call *call, int how);
/* Let the close() of a joined connection be a reset. */
void um_stream_arm_reset(struct um_call *call);
/* SO_LINGER or SO_OOBINLINE was set: what that means for close(). */
void um_stream_lingers(struct um_call *call);
void um_stream_forget_returned(struct um_sock *sock); /* stream_io.c */
/* Is the connection over, both ways, as far as its surrogate tells? */
bool um_stream_over(struct um_call *call);
/* ---- dgram.c: UDP, ping and raw ICMP sockets ---- */

/* A fresh surrogate; our end goes into *end. */
int um_dgram_pair(int flags, int *end);
/* Let an end of a surrogate hold as much as those of um_dgram_pair(). */
void um_dgram_size(int fd);
/* Set up sock->dgram around our end (owned from now on). */
int um_dgram_open(struct um_switchboard *sb, struct um_sock *sock, int end);
void um_dgram_destroy(struct um_switchboard *sb, struct um_sock *sock);
/* What all datagram sockets share; after the last of them. */
void um_dgrams_destroy(struct um_switchboard *sb);
um_verdict um_dgram_bind(struct um_call *call, const struct um_name *name);
um_verdict um_dgram_connect(struct um_call *call, const struct um_name *name);
um_verdict um_dgram_disconnect(struct um_call *call);
um_verdict um_dgram_shutdown(struct um_call *call, int how);
/* Bytes of the next datagram (FIONREAD), 0 if there is none. */
int um_dgram_next_size(struct um_sock *sock);
int um_dgram_forward(struct um_switchboard *sb, struct um_stack *stack, int fd,
                     int port, const uint8_t gateway4[16],
                     const uint8_t gateway6[16]);

/* ---- netlink.c ---- */

/* What is said to a group of NETLINK_ROUTE. */
void um_netlink_spread(struct um_switchboard *sb, struct um_stack *stack,
                       int group, const void *data, size_t len);
/* NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP, whose value is right. */
void um_netlink_member(struct um_sock *sock, int group, bool is);

int um_netlink_open(struct um_switchboard *sb, struct um_sock *sock, int end);
void um_netlink_destroy(struct um_switchboard *sb, struct um_sock *sock);
um_verdict um_netlink_bind(struct um_call *call, const void *sockaddr,
                           size_t len);
um_verdict um_netlink_connect(struct um_call *call, const void *sockaddr,
                              size_t len);
/* sockaddr_nl of the socket (peer: of its peer). Return: length. */
size_t um_netlink_name(struct um_sock *sock, bool peer,
                       struct sockaddr_storage *ret);
um_verdict um_netlink_send(struct um_call *call, const void *data, size_t len);
/* A datagram from Python for the program. */
int um_netlink_deliver(struct um_switchboard *sb, struct um_sock *sock,
                       const void *data, size_t len);

/* ---- the handlers, by file ---- */

/* calls.c */
/* What happens to bind, connect and listen on a socket that is not the view's:
 * unix sockets are the kernel's; a socket of the host that was there before the
 * view, or came from outside, gets no new address and no new peers, unless it
 * is kept. */
um_verdict um_foreign(struct um_call *call);
/* Is what is done with call->fd, which is none of the view's, left to the
 * kernel? */
bool um_left_alone(struct um_call *call);
/* Make a socket of the stack's and answer the caller, who has said socket or
 * msocket, with it. */
um_verdict um_socket_open(struct um_call *call, struct um_stack *stack,
                          int domain, int type, int protocol);
um_handler um_handle_socket, um_handle_bind, um_handle_connect,
    um_handle_getsockname, um_handle_getpeername, um_handle_shutdown,
    um_handle_ioctl;
/* views.c */
um_handler um_handle_msocket;
/* netns.c */
um_handler um_handle_clone, um_handle_unshare, um_handle_setns;
/* dumpable.c */
um_handler um_handle_prctl;
/* ptrace.c */
um_handler um_handle_ptrace;
/* stream.c */
um_handler um_handle_listen, um_handle_accept, um_handle_accept4;
/* options.c */
um_handler um_handle_setsockopt, um_handle_getsockopt;
/* messages.c */
um_handler um_handle_sendto, um_handle_recvfrom, um_handle_sendmsg,
    um_handle_recvmsg, um_handle_sendmmsg, um_handle_recvmmsg;
/* files.c */
um_handler um_handle_overlaid;
um_handler um_handle_open, um_handle_openat, um_handle_openat2, um_handle_uname,
    um_handle_sethostname, um_handle_setdomainname;

/* files.c: does a path of um_unix_refuse() forbid this connect? */
bool um_unix_refused(struct um_call *call, const char *path);
/* Make a path of the caller's absolute, without ".", ".." and double slashes.
 * Symbolic links stay. Return: false if it cannot be. */
bool um_path_absolute(struct um_call *call, int dirfd, const char *path,
                      char ret[2 * PATH_MAX]);
/* overlay.c: open a path that it shows. Return: UM_CONTINUE if it is none. */
um_verdict um_overlay_open(struct um_call *call, int dirfd, const char *path,
                           uint64_t flags);
/* The number of the i-th call that is stopped for the overlay, -1 on an
 * architecture that lacks it; empty: which of its arguments has AT_EMPTY_PATH,
 * with which it is not, or -1. Return: false behind the last. */
bool um_overlay_call(size_t i, int *nr, int *empty);
/* A new view, and one that is over. parent: the view around it, or -1. */
int um_files_add(struct um_switchboard *sb, int view, int parent);
void um_files_remove(struct um_switchboard *sb, int view);
void um_files_destroy(struct um_switchboard *sb);
/* dumpable.c */
void um_hidden_destroy(struct um_switchboard *sb);

/* The row of a call in the table (calls.c). Return: NULL if it has none. */
um_handler *um_handler_of(int nr);
/* The number of the i-th call that is stopped whatever its arguments. Return:
 * -1 behind the last. */
int um_always_stopped(size_t i);
/* What a switchboard says to who asks for one by a stopped call: an errno that
 * no such call has. */
#define UM_PRESENT EL2HLT
bool um_is_question(const struct um_call *call);
/* Is the calling process in a view, and does each call that is always stopped,
 * and socket(AF_INET), come there? */
bool um_all_answered(void);

/* ---- filter.c ---- */

struct sock_filter;
/* The filter as instructions, malloced, *count of them. Return: NULL with *rc
 * set. */
struct sock_filter *um_filter_compile(int flags, unsigned short *count,
                                      int *rc);

/* ---- attach.c ---- */

/* The sockets of the host that a program held when it entered the view. */
struct um_kept {
    uint64_t *cookies; /* sorted */
    size_t count;
};
/* Is call->fd, which is none of the view's, one of them? */
bool um_is_kept(struct um_call *call);

/* ---- the switchboard itself ---- */

#define UM_SOCK_BUCKETS  16384
#define UM_TID_BUCKETS   1024
#define UM_PIDFD_SLOTS   1024
#define UM_MAX_STACKS    1024
#define UM_PLACE_BUCKETS 256
#define UM_NETNS_NAME    32
#define UM_SCRATCH       (1 << 17)

struct um_pidfd_slot {
    pid_t tid;
    int fd;
    int wchan_fd; /* /proc/TID/wchan, or -1: not opened yet */
};

struct um_tracer;
struct um_tracees;

struct um_switchboard {
    const struct um_tracer *tracer;
    /* What the loop waits for: what tells the tracer, listeners or a signalfd
     * under ptrace; and last epoll_fd. */
    struct pollfd *sources;
    int source_count;
    int epoll_fd, kick_fd, event_fd;
    int dir_fd; /* rundir */
    struct um_watch kick_watch;
    struct um_stack *stacks[UM_MAX_STACKS];
    int stack_count;      /* with the free places among them */
    int leaving;          /* stacks that are to be removed when unused ... */
    int64_t next_look_ms; /* ... and when that is asked next */
    /* Stacks without a number: the kernel's own network, and none any more. */
    struct um_stack *native, *gone;
    struct um_view *views;
    int views_made;
    struct um_place *places[UM_PLACE_BUCKETS];
    uint64_t places_made;
    /* Of who has no place: the outermost view; and of who has one no more. */
    struct um_place base, nowhere;
    char netns[UM_NETNS_NAME];
    bool some_left; /* our namespace: the caller's is to be looked at */

    struct um_sock *socks[UM_SOCK_BUCKETS];
    uint32_t sock_count, socks_made, socks_collected_at, generation;
    uint32_t socks_left; /* by the latest collection */
    int diag_fd;
    struct um_pidfd_slot pidfds[UM_PIDFD_SLOTS];
    bool wchan_tells; /* this kernel says who sleeps */

    struct seccomp_notif *notif; /* of seccomp.c */
    size_t notif_size;
    struct um_tracees *tracees; /* of ptrace.c */
    struct um_list parked;      /* every um_parked, oldest first */
    struct um_list timed;       /* those with a deadline */
    struct um_list wakes;       /* sockets whose waiters are to run */
    uint32_t parked_count;
    struct um_parked *parked_by_tid[UM_TID_BUCKETS];
    int64_t next_sweep_ms;

    void **later; /* memory to free after the batch */
    size_t later_count, later_room;

    int relay_fd;      /* listener that relayed surrogates connect to */
    int relay_path_fd; /* O_PATH of its inode */
    int somaxconn;
    struct um_list dials; /* connects that wait for room in a backlog */
    int64_t next_dial_tick_ms;
    struct um_forward *forwards;
    struct um_pump *pump;

    struct um_files *files;
    bool overlaid;            /* overlay.c */
    struct um_models *models; /* of options.c, or NULL */
    struct um_hidden *hidden; /* of dumpable.c */
    struct um_kept kept;

    struct um_dgrams *dgrams;
    struct um_python *python;
    bool running;
    bool tracing;    /* calls are told of: trace.h */
    bool tells_acts; /* policies want to know of something ... */
    bool tells_ends; /* ... of ended connections, too */
    int64_t next_ends_ms;
    bool more; /* the tracer is to be asked again at once */
    volatile int stop;
    unsigned long thread;
    uint64_t serial;
    uint8_t *scratch; /* UM_SCRATCH bytes for one call's data */
};

#endif
