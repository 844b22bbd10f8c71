/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * place.c - whose view a process is in, and which stacks are its defaults
 *
 * Both are inherited over fork and exec, whatever becomes of the parent, and
 * nobody tells us of a fork. Looking for the nearest ancestor that is known
 * does not do: a daemon's parent has ended before the daemon makes its first
 * socket, a child that was there before its parent chose another default keeps
 * the old one, and who kills the root of a nested view would set its programs
 * free. So it is the kernel that hands the knowledge down, as the soft limit
 * RLIMIT_LOCKS of the process: Linux enforces none since 2.4.25, but it is
 * copied by fork, kept by exec, and can be read and set from here (prlimit(2),
 * 0.3 us) by the number of any thread. The filter refuses to set it, so a
 * program cannot go elsewhere by it (filter.c).
 *
 * A place is a value: a view, and a default stack or none for each family. The
 * limit is its number, the same for all processes that are in that place. So a
 * place costs memory once, nothing has to be known about processes, and a
 * process that changes its defaults goes to another place, while its children
 * stay where they are. Numbers are not used again: one that is not known any
 * more is that of a view that has ended, and there sockets fail (ENETDOWN).
 *
 * Most processes have a limit that is no place's, "unlimited". They are at the
 * base: the outermost view, without defaults. As long as nobody has a place,
 * nobody is asked for it.
 *
 * See getrlimit(2).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "views.h"

/* What numbers begin with is 16 bits long. */
#define PLACES_MASK (0xffffULL << 48)

/* The families of which a process can have a default: those that stacks
 * provide. */
static const int families[UM_FAMILIES] = {AF_INET, AF_INET6, AF_NETLINK,
                                          AF_PACKET};

int um_family_index(int family)
{
    for (int i = 0; i < UM_FAMILIES; i++)
        if (families[i] == family)
            return i;
    return -EAFNOSUPPORT;
}

bool um_stack_has(const struct um_stack *stack, int family)
{
    if (stack->kind == UM_STACK_LINK) {
        int i = um_family_index(family);
        return i >= 0 && stack->members[i] &&
               um_stack_has(stack->members[i], family);
    }
    if (stack->kind != UM_STACK_NET && stack->kind != UM_STACK_APART)
        return true;
    if (family == AF_INET)
        return stack->ipv4;
    return family == AF_INET6 ? stack->ipv6 : true;
}

static struct um_place **bucket(struct um_switchboard *sb, uint64_t number)
{
    return &sb->places[number % UM_PLACE_BUCKETS];
}

const struct um_place *um_place_at(struct um_switchboard *sb, pid_t tid)
{
    struct rlimit limit;
    if (!sb->places_made)
        return &sb->base;
    if (prlimit(tid, RLIMIT_LOCKS, NULL, &limit) != 0) {
        um_log(sb, UM_LOG_WARNING, "cannot tell the view of process %d: %s",
               tid, strerror(errno));
        return &sb->nowhere;
    }
    if ((limit.rlim_cur & PLACES_MASK) != UM_PLACES_FROM ||
        limit.rlim_cur == sb->base.number)
        return &sb->base;
    const struct um_place *place = *bucket(sb, limit.rlim_cur);
    while (place && place->number != limit.rlim_cur)
        place = place->next;
    return place ? place : &sb->nowhere;
}

static bool equal(const struct um_defaults *a, const struct um_defaults *b)
{
    return a->native == b->native &&
           memcmp(a->stacks, b->stacks, sizeof a->stacks) == 0;
}

const struct um_place *um_place_in(struct um_switchboard *sb,
                                   struct um_view *view,
                                   const struct um_defaults *defaults)
{
    if (view == sb->base.view && equal(defaults, &sb->base.defaults))
        return &sb->base;
    for (struct um_place *p = view->places; p; p = p->sibling)
        if (equal(defaults, &p->defaults))
            return p;
    struct um_place *place = malloc(sizeof *place);
    if (!place)
        return NULL;
    *place = (struct um_place){.number = UM_PLACES_FROM | ++sb->places_made,
                               .view = view,
                               .defaults = *defaults,
                               .sibling = view->places};
    view->places = place;
    struct um_place **head = bucket(sb, place->number);
    place->next = *head;
    *head = place;
    return place;
}

void um_places_forget(struct um_switchboard *sb, struct um_view *view)
{
    while (view->places) {
        struct um_place *place = view->places;
        view->places = place->sibling;
        struct um_place **at = bucket(sb, place->number);
        while (*at != place)
            at = &(*at)->next;
        *at = place->next;
        free(place);
    }
}

void um_places_lose(struct um_switchboard *sb, int stack)
{
    for (int i = 0; i < UM_PLACE_BUCKETS; i++)
        for (struct um_place *p = sb->places[i]; p; p = p->next)
            for (int f = 0; f < UM_FAMILIES; f++)
                if (p->defaults.stacks[f] == stack)
                    p->defaults.stacks[f] = UM_DEFAULT_GONE;
}

/* Let a process be in the place with that view and these defaults. Return: 0,
 * or a negative errno. */
static int put(struct um_switchboard *sb, pid_t pid, struct um_view *view,
               const struct um_defaults *defaults)
{
    const struct um_place *place = um_place_in(sb, view, defaults);
    struct rlimit limit;
    if (!place)
        return -ENOMEM;
    if (prlimit(pid, RLIMIT_LOCKS, NULL, &limit) != 0)
        return -errno;
    limit.rlim_cur = place->number;
    return prlimit(pid, RLIMIT_LOCKS, &limit, NULL) == 0 ? 0 : -errno;
}

int um_place_set(struct um_switchboard *sb, int pid, int number)
{
    struct um_view *view = um_view_find(sb, number);
    if (!view)
        return -EINVAL;
    const struct um_place *before = um_place_at(sb, pid);
    if (before == &sb->base && view == sb->base.view)
        return 0;
    int rc = put(sb, pid, view, &sb->base.defaults);
    if (rc == 0 && !view->entered) {
        view->entered = true;
        if (before->view == view->parent)
            view->outer = before;
    }
    return rc;
}

int um_place_view(struct um_switchboard *sb, int pid)
{
    const struct um_place *place = um_place_at(sb, pid);
    return place == &sb->nowhere ? -ENETDOWN : place->view->number;
}

int um_defaults_set(struct um_switchboard *sb, pid_t pid, const int32_t *wanted,
                    int count, const struct um_stack *stack)
{
    const struct um_place *before = um_place_at(sb, pid);
    if (before == &sb->nowhere)
        return -ENETDOWN;
    struct um_defaults defaults = before->defaults;
    int16_t number = stack ? (int16_t)stack->number : UM_DEFAULT_NONE;
    for (int i = 0; i < count; i++) {
        int index = um_family_index(wanted[i]);
        if (index < 0 || (stack && !um_stack_has(stack, wanted[i])))
            return -EAFNOSUPPORT;
        defaults.stacks[index] = number;
    }
    for (int i = 0; count == 0 && i < UM_FAMILIES; i++)
        if (!stack || um_stack_has(stack, families[i]))
            defaults.stacks[i] = number;
    defaults.native |= stack && um_stack_leads_out(stack);
    return put(sb, pid, before->view, &defaults);
}

int um_place_default(struct um_switchboard *sb, int pid, const int32_t *wanted,
                     int count, int number)
{
    const struct um_stack *stack =
        number < 0 ? NULL : um_stack_find(sb, number);
    if (number >= 0 && !stack)
        return -EINVAL;
    return um_defaults_set(sb, pid, wanted, count, stack);
}
