/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * options.h - between options.c, option_table.c and option_groups.c
 */
#ifndef UM_OPTIONS_H
#define UM_OPTIONS_H

#include "um.h"

/* The longest value that is read or written. */
enum { MAX_VALUE = 4096 };

/* How an option is treated. */
enum {
    KERNEL = 1,    /* the model checks it */
    STORED = 2,    /* it is kept as it is (raw sockets have no model) */
    SURROGATE = 4, /* ... and set on the program's unix socket */
    HOST = 8,      /* ... and on the host socket of a relayed stream, or told to
                      the stack server of one by packets */
    LIVE = 16,     /* a relayed stream's host socket is asked, not the model */
    ALONE = 32,    /* with a model for itself */
    UNSHARED = 64, /* an accepted socket does not inherit it */
    REFUSED = 128, /* the model says what is wrong with the value; what it would
                      take is ENOPROTOOPT, unless it changes nothing */
    EARLY = 256,   /* EINVAL on a connection */
    VIEW = 512,    /* the kept value is looked at elsewhere (documentation) */
};

struct row;
/* Value as the program gave it. Return: 0 or a negative errno. */
typedef int setter(struct um_call *call, const struct row *row,
                   const uint8_t *value, size_t len);
/* Room in ret is MAX_VALUE; asked is what the program has.
 * Return: the full length of the value, or a negative errno. */
typedef int getter(struct um_call *call, uint8_t *ret, size_t asked);

struct row {
    int level, name, how;
    setter *set; /* instead of the model */
    getter *get; /* instead of the model */
    /* After it was set: what it means for the switchboard. */
    void (*then)(struct um_sock *sock, const struct row *row, int value);
    const char *level_text, *text; /* the kernel's names */
};

/* The row of an option, NULL if it has none. */
const struct row *option_row_of(int level, int name);

/* ---- kept values (options.c) ---- */

struct um_option *option_find(const struct um_sock *sock, int level, int name);
void option_forget(struct um_sock *sock, struct um_option *option);
/* Keep one more value, also beside others of the same name. Return: NULL
 * without memory. */
struct um_option *option_add(struct um_sock *sock, int level, int name,
                             const void *value, size_t len);
/* Keep the value instead of the one before. effect: what it reads back as, for
 * um_option_int(). Return: 0 or -ENOMEM. */
int option_keep(struct um_sock *sock, int level, int name, const void *value,
                size_t len, int effect);

/* ---- asking the kernel (options.c) ---- */

/* The host socket of a relayed stream, safe from being closed until
 * option_host_done(). Return: -1 if there is none. */
int option_host_of(struct um_sock *sock);
void option_host_done(struct um_sock *sock);
/* What the kernel says to the value, on a model for itself. changed, if not
 * NULL: whether the option reads otherwise now. Return: 0 or negative errno. */
int option_try(struct um_call *call, const struct row *row,
               const uint8_t *value, size_t len, bool *changed);
/* What the kernel says of the option of sock; row may be NULL. Return: length
 * or negative errno. */
int option_get_by_model(struct um_call *call, const struct row *row, int level,
                        int name, uint8_t *ret, size_t asked);
int option_get_from(int fd, int level, int name, uint8_t *ret, size_t asked);
int option_give_int(uint8_t *ret, int value);
setter option_set_stored;

/* ---- cards and groups (option_groups.c) ---- */

setter option_set_bindtodevice, option_set_bindtoifindex, option_set_join,
    option_set_leave, option_set_source, option_set_multicast_if4,
    option_set_card;
getter option_get_bindtodevice, option_get_bindtoifindex;
/* An option of sock goes: if it is a membership, its card is told. */
void option_left(struct um_sock *sock, const struct um_option *option);

#endif
