/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * um_api.h - what Python sees of the C core
 *
 * One text for two readers: the C files include it, and cffi's cdef() reads it
 * (csrc/build_ffi.py drops the lines that begin with '#include', '#ifndef' and
 * the like). So it holds simple defines, enums, structs and prototypes only.
 *
 * Conventions. Functions return >= 0 or a negative errno. Addresses are 16
 * bytes: an IPv6 address, or an IPv4 address in its IPv4-mapped form
 * (::ffff:a.b.c.d); prefix lengths count in that space (10.0.2.0/24 is 120).
 * Ports are in host byte order. All functions are for one thread, Python's. What
 * configures a switchboard is called before um_switchboard_start(), or later
 * between um_hold() and um_release(). A buffer belongs to its caller and is not
 * kept.
 */
#ifndef UM_API_H
#define UM_API_H

#include <stddef.h>
#include <stdint.h>

/* What a stack does with the sockets of its view. */
enum um_stack_kind {
    UM_STACK_NET,    /* addresses, ports and routes of its own */
    UM_STACK_NULL,   /* every socket() fails: EAFNOSUPPORT */
    UM_STACK_NATIVE, /* the host's network: calls go through unchanged */
    UM_STACK_APART,  /* as NET, for callers of a view of such a default that are
                        in other network namespaces: see UM_EVENT_APART */
    UM_STACK_LINK    /* sockets of each family are another stack's */
};

/* Where a route leads. */
enum um_road {
    UM_ROAD_LOCAL,       /* both ends in this stack */
    UM_ROAD_RELAY,       /* by a socket of the host */
    UM_ROAD_REFUSED,     /* there is a host, its ports are closed */
    UM_ROAD_UNREACHABLE, /* EHOSTUNREACH */
    UM_ROAD_PACKET,      /* by a card, which the stack server has */
    UM_ROAD_LOST /* never a route's: sent by a card that leads nowhere */
};

enum um_log_level { UM_LOG_DEBUG, UM_LOG_INFO, UM_LOG_WARNING, UM_LOG_ERROR };

/* What the switchboard tells Python. */
enum um_event_kind {
    UM_EVENT_LOG,     /* level, data = text */
    UM_EVENT_NETLINK, /* a request on a netlink socket: cookie, data; id may
                         be 0 (nobody waits for an answer) */
    UM_EVENT_IOCTL,   /* id, request = the SIOC* number, arg = its pointer,
                         data = the struct ifreq or ifconf that it points to */
    UM_EVENT_OPEN,    /* id, request = the flags, data = the path: a file of a
                         folder of um_folder_add() */
    UM_EVENT_CALL,    /* data = struct um_traced: see um_tell_of_calls() */
    UM_EVENT_CHILD,   /* um_switchboard_trace(): the process pid has ended or
                         stopped; request = its wait status, arg = whether
                         others are left */
    UM_EVENT_ENDED,   /* no process is left under the filter */
    UM_EVENT_CARD, /* stack; data = a message of its stack server about a card
                         (struct um_packet, then its text) */
    UM_EVENT_MSOCKET, /* id, request = the family, arg = the type, protocol,
                         data = the path (absolute, normalised): one that no
                         mount of the view has. um_answer_open() or um_answer() */
    UM_EVENT_UNUSED,  /* stack: see um_stack_remove() */
    UM_EVENT_APART,   /* stack, view: it has got this stack, of that kind */
    UM_EVENT_ACT /* stack, cookie, data = struct um_act. It is asked for, or
                    told: see enum um_deed. With an id it is a call's:
                    um_policy_answer(); else um_policy_receive() */
};

struct um_event {
    uint32_t kind;
    uint32_t level;
    uint64_t id;      /* of the stopped call, for um_answer() */
    uint64_t cookie;  /* of the socket */
    uint64_t arg;     /* third argument of the call */
    uint32_t request; /* ioctl number, or flags of an open */
    uint32_t stack;
    int32_t pid;       /* of the calling thread */
    int32_t view;      /* that it is in; -1: of one that has ended */
    uint32_t protocol; /* netlink protocol; 0 is NETLINK_ROUTE */
    uint32_t portid;   /* netlink address of the socket */
    uint32_t len;
    uint8_t *data; /* len bytes, freed by um_event_free() */
};

/* What became of a stopped call. */
enum um_outcome {
    UM_OUTCOME_ANSWERED,    /* result: a value, or a negative errno */
    UM_OUTCOME_KERNEL,      /* it was left to the kernel; no result is known */
    UM_OUTCOME_INTERRUPTED, /* a signal came first */
    UM_OUTCOME_GONE         /* the thread ended first */
};

/* A stopped call; pieces of what its arguments name follow. */
struct um_traced {
    int64_t began_ns; /* CLOCK_REALTIME */
    int64_t took_ns;
    int64_t result;
    uint64_t args[6];
    int32_t nr; /* __NR_* */
    int32_t tid;
    uint32_t outcome;
    int32_t stack; /* -1: none */
    int32_t road;  /* -1: none */
    int32_t pad;
};

enum um_part {
    UM_PART_VALUE,   /* what the argument points to */
    UM_PART_ROOM,    /* the same, an int: the length that the program gave */
    UM_PART_HEADER,  /* a struct msghdr; and what that names: */
    UM_PART_NAME,    /* ... a sockaddr */
    UM_PART_DATA,    /* ... the data of its vector */
    UM_PART_CONTROL, /* ... control messages */
};

/* Before the bytes of a piece; the next one begins at a multiple of 8. */
struct um_piece_head {
    uint8_t arg;   /* which argument */
    uint8_t part;  /* enum um_part */
    uint8_t out;   /* seen before the answer, not when the call came */
    uint8_t index; /* of the message, in sendmmsg and recvmmsg */
    uint32_t len;  /* of what was named, of which ... */
    uint32_t size; /* ... these many bytes follow */
    uint32_t pad;
};

/* What policies want to know of (um_policy_set()). */
enum um_deed {
    /* Asked, before it is done. */
    UM_DEED_BIND = 1, /* local: the name that is taken */
    UM_DEED_LISTEN = 2,
    UM_DEED_CONNECT = 4, /* also of a datagram socket */
    UM_DEED_ACCEPT = 8,
    UM_DEED_SEND = 16,    /* a datagram, to a peer who is new to the socket */
    UM_DEED_RECEIVE = 32, /* the same from one; no call waits for it */
    /* Told. */
    UM_DEED_CONNECTED = 64,
    UM_DEED_ACCEPTED = 128,
    UM_DEED_FAILED = 256, /* to connect; error */
    UM_DEED_ENDED = 512   /* what was connected */
};
struct um_act {
    uint32_t deed;
    int32_t protocol, error; /* an errno > 0 */
    uint32_t has_remote;
    uint8_t local[16], remote[16];
    uint16_t local_port, remote_port;
};

/* One line of the listing of sockets, see um_socket_list(). */
struct um_socket_info {
    uint64_t cookie;
    uint32_t stack;
    uint16_t family;
    uint16_t type;
    uint16_t protocol;
    uint16_t state; /* TCP states as in <netinet/tcp.h>; 7 is closed */
    uint8_t local[16];
    uint8_t remote[16];
    uint16_t local_port;
    uint16_t remote_port;
    uint32_t inode;   /* of the surrogate */
    uint32_t card;    /* that it is bound to (SO_BINDTODEVICE), or 0 */
    uint32_t waiting; /* bytes to be read, or connections to be accepted */
    uint32_t backlog; /* of a listener */
    uint32_t v6only;
};

/* The number of msocket(path, domain, type, protocol): no call of the kernel's,
 * on any architecture. Its type SOCK_DEFAULT opens no socket, but makes the
 * stack at path the process's default. */
#define UM_NR_MSOCKET   30061
#define UM_SOCK_DEFAULT 0

/* Bits of um_filter_install()'s flags: which optional calls are stopped. */
#define UM_FILTER_FILES 1 /* open, openat, openat2 for reading */
/* What stops them: ptrace(2), and no listener. */
#define UM_FILTER_TRACE 2
/* Paths, for um_overlay_show(). */
#define UM_FILTER_OVERLAY 4

/* What a stack consists of: um_tables_set(). Card 1 is lo. */
#define UM_MAX_CARDS     32
#define UM_MAX_ADDRESSES 128
#define UM_MAX_ROUTES    512
#define UM_CARD_NAME     16
struct um_card_entry {
    int32_t number, mtu;
    char name[UM_CARD_NAME];
};
struct um_card_address {
    uint8_t addr[16];
    int32_t prefix, card;
};
/* source: what a socket gets that takes this road, if there is one. */
struct um_route {
    uint8_t to[16], source[16];
    int32_t prefix, road, card, has_source;
};
struct um_tables {
    int32_t card_count, address_count, route_count;
    struct um_card_entry cards[UM_MAX_CARDS];
    struct um_card_address addresses[UM_MAX_ADDRESSES];
    struct um_route routes[UM_MAX_ROUTES];
};

struct um_switchboard;

/* The tables that say who answers: docs/compatibility.md is made from them. */
struct um_call_row {
    const char *name;
    const char *when;   /* it is stopped; NULL: always */
    const char *answer; /* who gives it */
};
struct um_option_row {
    const char *level, *name;
    int level_number, name_number;
    int settable;
    int refused;      /* it can be set to its default only */
    int checked;      /* a socket of the host says what is wrong with a value */
    int on_surrogate; /* set on the program's unix socket, too */
    int on_host;      /* ... on the host's socket of a relayed stream */
    int own_set;      /* the view itself does what it asks for */
    int own_get;      /* the view itself gives it */
    int live;         /* of a relayed stream the host's socket gives it */
};
/* Row i of a table. Return: 1, or 0 behind the last one. */
int um_call_row(int i, struct um_call_row *ret);
int um_option_row(int i, struct um_option_row *ret);

/* Make a switchboard, with the outermost view. rundir: a directory of mode 0700 in which sockets are
 * bound for a moment (no name stays). Return: NULL with errno set. */
struct um_switchboard *um_switchboard_create(const char *rundir);
/* Stop the switchboard's thread; calls that still wait are over, and events may
 * be taken yet. */
void um_switchboard_stop(struct um_switchboard *sb);
/* Stop the threads and free everything; NULL is fine. Programs that still
 * wait get ENOSYS from the kernel. */
void um_switchboard_destroy(struct um_switchboard *sb);

/* Add a stack; also while it runs. Return: its number. */
int um_stack_add(struct um_switchboard *sb, int kind, int ipv4, int ipv6);
/* Replace a stack's cards, addresses and routes. Of routes the longest prefix
 * wins, the first of equals. */
int um_tables_set(struct um_switchboard *sb, int stack,
                  const struct um_tables *tables);
/* Let what leaves a stack by UM_ROAD_RELAY go on by another stack's routes, and
 * not by the host: that of the enclosing view. Maps lead there, too. */
int um_uplink_set(struct um_switchboard *sb, int stack, int uplink);
/* Translate a destination before the road is chosen: relayed connections to
 * address and port (0: any) go to to_address and to_port (0: the same) of the
 * host. protocol: IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP or 0 for any. */
int um_map_add(struct um_switchboard *sb, int stack, const uint8_t *address,
               int protocol, int port, const uint8_t *to_address, int to_port);
/* Lead a port of the host into the stack. fd: a socket of the host, listening
 * (TCP) or bound (UDP); the switchboard owns it from now on. gateway4 and
 * gateway6: the source address shown for peers on the host's loopback. */
int um_forward_add(struct um_switchboard *sb, int stack, int protocol, int fd,
                   int port, const uint8_t *gateway4, const uint8_t *gateway6);
/* The same with a TCP port of the stack that um_uplink_set() named, at one of its
 * addresses (or all of a family: the unspecified one). Return: -EADDRINUSE,
 * -EADDRNOTAVAIL, ... */
int um_forward_outside(struct um_switchboard *sb, int stack,
                       const uint8_t *address, int port, int to_port,
                       const uint8_t *gateway4, const uint8_t *gateway6);
/* Let sockets of a family (PF_UNSPEC: of all) that a stack of the kind LINK is
 * asked for be those of member; if that is a LINK, of its member. Families that
 * have none: EAFNOSUPPORT. A member can be removed lazily only. */
int um_link_set(struct um_switchboard *sb, int stack, int family, int member);
/* Give a stack with packet cards the line to its stack server, whose cards are
 * there (csrc/stackd/packet_road.h). fd: owned from now on. */
int um_line_add(struct um_switchboard *sb, int stack, int fd);
/* Have policies asked for, and told of, these deeds (enum um_deed) of a stack's
 * sockets; also while it runs. */
int um_policy_set(struct um_switchboard *sb, int stack, uint32_t deeds);
/* Let the programs of a view have no sockets of the host, for nobody could be
 * asked for these. */
int um_view_police(struct um_switchboard *sb, int view, int on);
/* Ask what opening path gives, and whatever lies below it: UM_EVENT_OPEN. With
 * a '/' at its end only what lies below. For all views, except where the stack
 * of the caller is the host's. */
int um_folder_add(struct um_switchboard *sb, const char *path);
/* Show the stacks of a view as files; with UM_FILTER_OVERLAY, else they can be
 * opened only. */
void um_overlay_show(struct um_switchboard *sb);

/* What follows belongs to a view (0: the outermost) and to those around which it
 * is, as far as they have not the same themselves. Return: 0; -ESRCH: the view
 * has ended. */

/* Show content where a program opens path (absolute, normalised). */
int um_file_set(struct um_switchboard *sb, int view, const char *path,
                const void *content, size_t len);
/* Refuse (ECONNREFUSED) connections to the unix socket at path. */
int um_unix_refuse(struct um_switchboard *sb, int view, const char *path);
/* Show a view no files, and refuse no sockets, but those of the view around it. */
int um_files_clear(struct um_switchboard *sb, int view);
/* The names that uname(2) gives; NULL leaves what they were. A view begins with
 * the names of the view around it, the outermost with the host's. */
int um_hostname_set(struct um_switchboard *sb, int view, const char *host,
                    const char *domain);

/* Views: number 0, the outermost, is there from the start, and every process is
 * in it that has not been put elsewhere. parent: the view that encloses it.
 * Return: the number of the new view, never used again. */
int um_view_add(struct um_switchboard *sb, int parent);
/* Forget a view that has ended, its mounts and places; its stacks stay. Who is
 * in it yet makes no socket any more (ENETDOWN). */
int um_view_remove(struct um_switchboard *sb, int view);
/* Let process pid, and all that it will start, be in the view. The first one in
 * a view is its root: what its parent gave it is what the view has where nothing
 * is mounted at /dev/net/default. Return: 0; -EINVAL: no such view; -ESRCH. */
int um_place_set(struct um_switchboard *sb, int pid, int view);
/* Return: the view that a process is in; -ENETDOWN: one that has ended. */
int um_place_view(struct um_switchboard *sb, int pid);
/* Return: the stack that is a process's default for IPv4; -ENOENT: the kernel's,
 * without a number; -ENETDOWN: the process's view, or the stack, has ended. */
int um_place_stack(struct um_switchboard *sb, int pid);
/* Let a stack be the default of process pid, and of all that it will start, for
 * these families; count 0: for all that the stack has. stack -1: none again.
 * Return: 0; -EAFNOSUPPORT: the stack has not all of them, or no stack has. */
int um_place_default(struct um_switchboard *sb, int pid,
                     const int32_t *families, int count, int stack);
/* Mount a stack at path (absolute, normalised) of a view, in the place of what
 * is there; stack -1: unmount. What is at /dev/net/default is the default of
 * all who have no other. file: a real file whose mode says who may name the
 * stack, and which is a name of it, too; or "". */
int um_mount_set(struct um_switchboard *sb, int view, const char *path,
                 int stack, const char *file);

/* How many sockets of programs a stack has. */
int um_stack_sockets(struct um_switchboard *sb, int stack);
/* Remove a stack; its number may be another's then. Return: 0; -EBUSY: it has
 * sockets, or another stack goes out by it. lazily: 1 instead of that; nobody
 * finds it any more from now on, and UM_EVENT_UNUSED tells when to ask again. */
int um_stack_remove(struct um_switchboard *sb, int stack, int lazily);

/* In the child that becomes the view's first process: install the filter,
 * write the listener's descriptor number (an int; -1 with UM_FILTER_TRACE) to
 * sync_fd, wait until a byte can be read there, close it and execute argv as
 * execvp(3) does.
 * Return: only on failure, a negative errno; *stage tells where
 * (0 filter, 1 hand-over, 2 exec). */
int um_child_exec(int sync_fd, int flags, char **argv, int *stage);
/* Execute argv as execvp(3) does. Return: only on failure, a negative errno. */
int um_exec(char **argv);
/* Can a process be put under a filter with a listener that answers calls with
 * descriptors (-EBUSY: it has a listener; -EOPNOTSUPP: Linux 5.9 to 5.13), can
 * one be traced by ptrace(2)? Return: 0 or a negative errno. */
int um_seccomp_try(void);
int um_ptrace_try(void);
/* Is the calling process in a view? Its switchboard answers. Return: 0 or 1. */
int um_in_view(void);
/* Knock at the door of the view that the calling process is in: a connection to
 * its supervisor (AF_UNIX, SOCK_SEQPACKET). Return: its descriptor. */
int um_door_open(void);
/* Take descriptor fd of process pid. Return: our copy. */
int um_take_fd(int pid, int fd);
/* Make the calling process the parent of orphans below it (prctl(2),
 * PR_SET_CHILD_SUBREAPER). */
int um_subreaper_set(void);
/* Start a program that is no process of a view: a session of its own, "/",
 * /dev/null for stdin, stdout and stderr, all signals as by default. argv[0] is
 * its path; fds are its descriptors 3, 4, ..., at most UM_MAX_SPAWN_FDS. It is
 * nobody's to wait for here. */
#define UM_MAX_SPAWN_FDS 8
int um_spawn(char **argv, const int *fds, int count);
/* Tell of every call when it is over: UM_EVENT_CALL. */
void um_tell_of_calls(struct um_switchboard *sb);
/* Start the threads; listener: of the filter, owned from now on. Further ones
 * may come while it runs, here and below. */
int um_switchboard_start(struct um_switchboard *sb, int listener);
/* Start the threads and trace process pid, which is under the filter and may
 * make no filtered call yet. SIGCHLD must be blocked in all threads, and only
 * we may wait(2) from now on. Return: 0; -EPERM: tracing is forbidden. */
int um_switchboard_trace(struct um_switchboard *sb, int pid);
/* Put a running process, with all its threads, under the filter, and start the
 * threads. Its sockets stay what they are; the next ones are the view's. With
 * UM_FILTER_TRACE it stays traced; then as um_switchboard_trace(), but the end
 * of all is told only. Return: 0, or a negative errno: -EPERM (it cannot be
 * traced), -ESRCH (it has ended), -ENOEXEC (it is no 64-bit program), -EBUSY (a
 * thread of it is under a filter that others are not, or has a listener),
 * -ETIMEDOUT (it waits where no signal reaches it), ... */
int um_switchboard_attach(struct um_switchboard *sb, int pid, int flags);
/* How many sockets it has kept. */
int um_kept_count(struct um_switchboard *sb);

/* Have the switchboard's thread stand still between two rounds of its loop, from
 * now on until um_release(): what configures it may be called then, and takes
 * effect for programs at once and as a whole. Several may be within each other.
 * Before the start, nothing. */
int um_hold(struct um_switchboard *sb);
void um_release(struct um_switchboard *sb);

/* The rest may be called while the switchboard runs. */

/* Readable when an event waits. */
int um_event_fd(struct um_switchboard *sb);
/* Take the next event. Return: 1, or 0 when there is none. */
int um_event_next(struct um_switchboard *sb, struct um_event *ret);
void um_event_free(struct um_event *event);
/* Put a datagram into the queue of a netlink socket. from: netlink port id of
 * the sender (0: the kernel). */
int um_netlink_push(struct um_switchboard *sb, uint64_t cookie,
                    const void *data, size_t len);
/* Put a datagram into the queues of all sockets of a stack that listen to a
 * group of NETLINK_ROUTE. group: RTNLGRP_*. */
int um_netlink_tell(struct um_switchboard *sb, int stack, int group,
                    const void *data, size_t len);
/* Say something to the stack server of a stack, if it lives. packet: a struct
 * um_packet without data (csrc/stackd/packet_road.h). */
int um_line_tell(struct um_switchboard *sb, int stack, const void *packet,
                 size_t len);
/* Note a write into the caller's memory, done when um_answer() is called. */
int um_answer_write(struct um_switchboard *sb, uint64_t id, uint64_t address,
                    const void *data, size_t len);
/* Answer a stopped call: error (an errno, 0 for none) or value. */
int um_answer(struct um_switchboard *sb, uint64_t id, int64_t value, int error);
/* Answer a stopped open with a descriptor, owned from now on. flags: those of
 * the event. */
int um_answer_open(struct um_switchboard *sb, uint64_t id, int fd,
                   uint32_t flags);
/* Let a call go on that was asked for, or fail with an errno (> 0). */
int um_policy_answer(struct um_switchboard *sb, uint64_t id, int error);
/* Let what a peer has sent to a socket come through, or drop it. */
int um_policy_receive(struct um_switchboard *sb, uint64_t cookie,
                      const uint8_t *address, int port, int error);
/* List the sockets. Return: how many there are; at most max are written. */
int um_socket_list(struct um_switchboard *sb, struct um_socket_info *ret,
                   int max);

#endif
