/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stream.h - between stream.c (listeners), connect.c and relay.c
 */
#ifndef UM_STREAM_H
#define UM_STREAM_H

#include "../pump/pump.h"
#include "um.h"

/* A connection that waits in a listener's queue, in the kernel's order. */
struct um_offer {
    struct um_list list;
    struct um_name local, peer; /* as the accepting side sees them */
    struct um_conn *conn;       /* of a relayed one, else NULL */
    uint64_t partner;           /* cookie of who connects, if it is joined */
    int fd;                     /* accepted but given back, else -1 */
    bool dummy;                 /* stands for one that was given back */
};

struct um_listen {
    int path_fd; /* O_PATH of the socket's inode: where to connect */
    int backlog;
    unsigned int pending;    /* connections in the kernel's queue */
    struct um_list offers;   /* one um_offer each, oldest first */
    struct um_list returned; /* um_offer with fd: taken by abandoned calls */
    struct um_list dials;    /* um_dial that wait for room */
    struct um_heard *heard;  /* its name, of packet.c, or NULL */
};

/* A connect that is under way. */
struct um_dial {
    struct um_watch watch;  /* of host, while the host connects */
    struct um_list waiting; /* in um_listen.dials */
    struct um_list all;     /* in sb->dials while it waits for room */
    struct um_switchboard *sb;
    struct um_sock *sock;       /* who connects, or NULL: it comes in */
    struct um_sock *listener;   /* whose backlog is full */
    struct um_name local, peer; /* of the accepting side */
    int64_t deadline_ms;
    int program; /* copy of the program's descriptor, or -1 */
    int end;     /* our end of it, or -1 */
    int junk;    /* bytes in our end that keep it from being writable */
    int host;    /* host socket, or -1 */
    struct um_conn *conn; /* by packets, or NULL */
    pid_t tid;
    int program_fd;
};

int um_streams_open(struct um_switchboard *sb);
void um_streams_close(struct um_switchboard *sb);
/* Release what the pump has finished; once a second, look after the dials
 * that wait for room. */
void um_streams_reap(struct um_switchboard *sb);
/* Bind fd to a name that nobody else can reach. Return: an O_PATH descriptor
 * of it, or a negative errno. */
int um_bind_private(struct um_switchboard *sb, int fd);
/* Connect fd to the unix socket behind path_fd. Return: 0, -ECONNREFUSED
 * (nobody listens any more), -EAGAIN (queue full), ... */
int um_connect_to(int fd, int path_fd);
/* Let fd, the surrogate of sock, which has its port, listen. Return: 0 or a
 * negative errno. */
int um_listen_start(struct um_switchboard *sb, struct um_sock *sock, int fd);
/* A connection has been accepted for sock by us: whose it is. Return: false if
 * nobody knows. */
bool um_listen_take(struct um_sock *sock, struct um_name *peer);
/* Connect fd to the listener and queue the names. It is that of a connection
 * (conn), or of the socket (partner) that is joined. Return: 0; -EAGAIN if the
 * backlog is full; -ECONNREFUSED if the listener is gone (destroyed then). */
int um_offer(struct um_switchboard *sb, struct um_sock *listener, int fd,
             const struct um_name *local, const struct um_name *peer,
             struct um_conn *conn, const struct um_sock *partner);
/* In place: connect the program's fresh surrogate to us.
 * Return: our end (non-blocking), or a negative errno. */
int um_attach(struct um_switchboard *sb, int program);
/* Join our end with a host socket and give both to the pump; they are the
 * pump's, or closed. Return: NULL without memory. */
struct um_conn *um_relay_start(struct um_switchboard *sb, int end, int host,
                               struct um_sock *sock, pid_t tid, int program_fd);
/* Note whose connection it is, and where its descriptor was seen. */
void um_conn_belongs(struct um_conn *conn, struct um_sock *sock, pid_t tid,
                     int program_fd);
/* Free a connection whose end has come. */
void um_conn_over(struct um_switchboard *sb, struct um_conn *conn);
/* Open a host socket towards name and start to connect. Return: fd, with
 * *done true if it is connected; or a negative errno. */
int um_host_connect(struct um_sock *sock, const struct um_name *name,
                    bool *done);
/* There is room in the listener's backlog: let the next dial go on. */
void um_dials_room(struct um_switchboard *sb, struct um_sock *listener);
/* Forget of a socket's name what bind() did not choose: its connection has
 * failed or ended. */
void um_stream_unname(struct um_sock *sock);
/* Give the descriptor of a used-up surrogate (UM_FAILED, UM_CLOSED) a fresh
 * one; any other stays. Return: 0 or a negative errno. */
int um_stream_renew(struct um_call *call);
/* End a dial with an error (> 0) or, for 0, without a word. */
void um_dial_fail(struct um_dial *dial, int error);
/* An ICMP error has come for a connect from local to peer, if that is still under
 * way: Linux gives it up at once, too. */
void um_dial_unreachable(struct um_stack *stack, const struct um_name *local,
                         const struct um_name *peer, int error);
/* Its connection by packets stands. */
void um_dial_stands(struct um_dial *dial);
/* A connection that comes in waits for room in the listener's backlog: a host
 * socket, or one by packets. */
void um_dial_incoming(struct um_switchboard *sb, struct um_sock *listener,
                      int host, struct um_conn *conn,
                      const struct um_name *local, const struct um_name *peer);
void um_dials_tick(struct um_switchboard *sb);
/* Those into the stack; NULL: all. */
void um_forwards_close(struct um_switchboard *sb, const struct um_stack *stack);
/* An edge for those who wait in epoll for writability. */
void um_kick_writers(int fd);

enum { UM_SURROGATE_SNDBUF = 212992 / 2 }; /* the kernel doubles it */

#endif
