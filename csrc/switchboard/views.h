/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * views.h - views and the places of processes: between views.c and place.c
 */
#ifndef UM_VIEWS_H
#define UM_VIEWS_H

#include "um.h"

/* What the numbers of places begin with, "um"; infinity and what a user may have
 * set do not. It is that of the base. */
#define UM_PLACES_FROM (0x756dULL << 48)

struct um_mount {
    struct um_mount *next;
    struct um_stack *stack;
    char *file; /* whose mode guards it, or "" */
    char path[];
};

struct um_view {
    struct um_view *next, *parent; /* parent NULL: the outermost */
    int number;
    struct um_mount *mounts;
    struct um_stack *standard; /* what is at /dev/net/default, or NULL */
    struct um_stack *apart;    /* for other network namespaces, or NULL */
    /* Where standard is NULL: the place that its first process had before. */
    const struct um_place *outer;
    struct um_place *places;
    bool policed; /* um_view_police() */
    bool entered; /* somebody has been put into it */
    bool native;  /* a stack of its leads or has led to the host's network */
};

/* NULL if it is not there (any more). */
struct um_view *um_view_find(struct um_switchboard *sb, int number);
struct um_stack *um_stack_find(struct um_switchboard *sb, int number);

/* Which of a place's defaults is for that family. Return: -EAFNOSUPPORT for
 * families that no stack provides. */
int um_family_index(int family);
/* Does the stack answer sockets of that family, and be it by refusing them? */
bool um_stack_has(const struct um_stack *stack, int family);

struct stat;
/* May the caller do what is wanted (R_OK, W_OK, X_OK) with a file, as far as its
 * mode says? That is also what connect(2) asks of a unix socket. Return: 0,
 * -EACCES, or what stat(2) says. */
int um_may_access(struct um_call *call, const char *file, unsigned int wanted);
/* Is it the caller's own, or is the caller root? */
bool um_is_owner(struct um_call *call, const struct stat *st);
/* The stack itself, or the member that a LINK has for the family. Return: NULL if
 * it has none. */
struct um_stack *um_stack_member(struct um_stack *stack, int family);
/* Has it sockets of the host? */
bool um_stack_leads_out(const struct um_stack *stack);

/* The place with that view and these defaults; made if there is none yet.
 * Return: NULL without memory. */
const struct um_place *um_place_in(struct um_switchboard *sb,
                                   struct um_view *view,
                                   const struct um_defaults *defaults);
/* The place of a thread; where it cannot be told, sb->nowhere. */
const struct um_place *um_place_at(struct um_switchboard *sb, pid_t tid);
/* Let the stack be a process's default for these families; count 0: for all
 * that it has; NULL: none again. Return: 0; -EAFNOSUPPORT, -ENETDOWN, ... */
int um_defaults_set(struct um_switchboard *sb, pid_t pid, const int32_t *wanted,
                    int count, const struct um_stack *stack);
/* A stack ends: nothing leads to it any more. */
void um_mounts_forget(struct um_switchboard *sb, const struct um_stack *stack);
/* Forget the places of a view that ends. */
void um_places_forget(struct um_switchboard *sb, struct um_view *view);
/* A stack ends: who has it for a default has lost its network. */
void um_places_lose(struct um_switchboard *sb, int stack);

#endif
