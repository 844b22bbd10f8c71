/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * pump.h - the threads that move the bytes of relayed streams
 *
 * The switchboard makes a connection complete and gives it away with
 * um_pump_add(); from then on the pump owns both descriptors until it puts the
 * connection on its list of finished ones, which the switchboard empties.
 */
#ifndef UM_PUMP_H
#define UM_PUMP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct um_dial;
struct um_line;
struct um_pump;
struct um_sock;

/* One direction of a connection. */
struct um_flow {
    uint8_t *held; /* bytes that the receiving side would not take yet */
    size_t at, len;
    bool held_urgent; /* it is an urgent byte */
    bool urgent;      /* the sender has sent one, further on */
    int pipe[2];      /* -1 until the first bulk data */
    size_t in_pipe;   /* bytes that wait in it */
    bool pours;       /* may have a pipe */
    bool bulk;        /* the last read was a large one */
    bool ended;       /* the sender's last word has reached the receiver */
    bool unheard;     /* the receiver has shut its reading side down: what comes
                       is read and dropped */
};

/* A side of a connection: its descriptor and what epoll watches there. */
struct um_side {
    struct um_conn *conn;
    int fd;
    uint32_t watched; /* events asked for */
    bool left;        /* out of epoll, after it hung up */
};

struct um_conn {
    struct um_side surrogate, host;
    struct um_flow up, down; /* up: program to host */
    /* For a reset: where the program's descriptor was seen last, as
     * um_conn_seen() writes it. */
    uint64_t place;
    uint64_t cookie; /* of the program's socket */
    /* The switchboard's, not touched by the pump: */
    struct um_sock *sock;
    struct um_conn **holder; /* the pointer to us, cleared at our end */
    struct um_conn *next;    /* in the list of ending or finished ones */
    /* Of one by packets, which the pump never sees (packet.c): */
    struct um_line *line;
    uint64_t id;
    struct um_dial *dial; /* that waits for it, or NULL */
    uint16_t mss;         /* its longest segment */
    bool ending;
    bool closed;          /* under lock: the descriptors are gone */
    pthread_mutex_t lock; /* guards host.fd against being closed while the
                             switchboard sets an option on it */
};

/* Note that number of thread tid leads to the program's end. */
static inline void um_conn_seen(struct um_conn *conn, pid_t tid, int number)
{
    __atomic_store_n(&conn->place,
                     (uint64_t)(uint32_t)tid << 32 | (uint32_t)number,
                     __ATOMIC_RELEASE);
}

struct um_pump *um_pump_create(void);
void um_pump_destroy(struct um_pump *pump);
int um_pump_start(struct um_pump *pump);
struct um_conn *um_conn_create(void);
void um_conn_destroy(struct um_conn *conn);
/* Send one byte through the program's own descriptor into the queue of our end,
 * so that closing that resets instead of ending. */
void um_conn_plant_byte(struct um_conn *conn);
/* Give a connection to the pump. Return: 0 or negative errno (still the
 * caller's). */
int um_pump_add(struct um_pump *pump, struct um_conn *conn);
/* Take the finished connections (a list by ->next), or NULL. */
struct um_conn *um_pump_finished(struct um_pump *pump);

#endif
