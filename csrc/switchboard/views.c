/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * views.c - the views of a tree, what is mounted in them, and msocket
 *
 * Which stack a socket belongs to is decided in this order: the one that a path
 * names (msocket); the process's default for the family; what is mounted at
 * /dev/net/default in its view; what the enclosing view gave to the process that
 * became the view's root; in the outermost view the kernel's. Where none of this
 * can be told, it is a stack whose sockets fail (ENETDOWN), never the host's.
 *
 * msocket(path, domain, type, protocol) is a system call that the kernel does
 * not have: a number that is no call's on any architecture, which the filter
 * stops. Outside of views it says ENOSYS.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tracer.h"
#include "views.h"

enum { FAMILY_ALG = 38, LO_MTU = 65536, MAPPED_BITS = 96 };

static const char DEFAULT_PATH[] = "/dev/net/default";

struct um_view *um_view_find(struct um_switchboard *sb, int number)
{
    struct um_view *view = sb->views;
    while (view && view->number != number)
        view = view->next;
    return view;
}

/* ---- which stack ---- */

/* The default of a place for the i-th family. */
static struct um_stack *default_of(struct um_switchboard *sb,
                                   const struct um_place *place, int i)
{
    for (;;) {
        int number = place->defaults.stacks[i];
        if (number >= 0)
            return sb->stacks[number];
        if (number == UM_DEFAULT_GONE)
            return sb->gone;
        if (place->view->standard)
            return place->view->standard;
        if (!place->view->outer)
            return sb->native;
        place = place->view->outer;
    }
}

/* What a view has for callers in other network namespaces: loopback, made when
 * the first one comes. */
static struct um_stack *apart_of(struct um_switchboard *sb,
                                 struct um_view *view)
{
    if (view->apart)
        return view->apart;
    int number = um_stack_add(sb, UM_STACK_APART, true, true);
    struct um_tables *tables = calloc(1, sizeof *tables);
    if (number < 0 || !tables) {
        free(tables);
        return sb->gone;
    }
    tables->card_count = 1;
    tables->cards[0] = (struct um_card_entry){UM_CARD_LO, LO_MTU, "lo"};
    tables->address_count = 2;
    tables->addresses[0].prefix = MAPPED_BITS + 8;
    tables->addresses[1].prefix = 128;
    tables->addresses[0].card = tables->addresses[1].card = UM_CARD_LO;
    memcpy(tables->addresses[0].addr, um_loopback4, 16);
    memcpy(tables->addresses[1].addr, um_loopback6, 16);
    um_tables_set(sb, number, tables);
    free(tables);
    view->apart = sb->stacks[number];
    struct um_event event = {.kind = UM_EVENT_APART,
                             .stack = (uint32_t)number,
                             .view = view->number};
    um_tell_python(sb, &event);
    return view->apart;
}

struct um_stack *um_stack_of(struct um_call *call, int family)
{
    struct um_switchboard *sb = call->sb;
    int i = um_family_index(family);
    const struct um_place *place = um_place_at(sb, call->tid);
    struct um_stack *stack = default_of(sb, place, i < 0 ? 0 : i);
    struct um_stack *member = um_stack_member(stack, family);
    stack = member ? member : stack;
    return stack->kind == UM_STACK_NET && um_is_apart(call)
               ? apart_of(sb, place->view)
               : stack;
}

int um_view_kind(struct um_call *call)
{
    struct um_switchboard *sb = call->sb;
    struct um_stack *stack = default_of(sb, um_place_at(sb, call->tid), 0);
    const struct um_stack *member = um_stack_member(stack, AF_INET);
    return (member ? member : stack)->kind;
}

bool um_reaches_host(struct um_call *call)
{
    struct um_switchboard *sb = call->sb;
    const struct um_place *place = um_place_at(sb, call->tid);
    if (place == &sb->nowhere)
        return false;
    return place->view->native || place->defaults.native ||
           um_stack_leads_out(default_of(sb, place, 0));
}

int um_place_stack(struct um_switchboard *sb, int pid)
{
    const struct um_stack *stack = default_of(sb, um_place_at(sb, pid), 0);
    if (stack->kind == UM_STACK_GONE)
        return -ENETDOWN;
    return stack == sb->native ? -ENOENT : stack->number;
}

int um_view_of(struct um_call *call)
{
    const struct um_place *place = um_place_at(call->sb, call->tid);
    return place == &call->sb->nowhere ? -1 : place->view->number;
}

/* ---- views and mounts, for Python ---- */

static int new_view(struct um_switchboard *sb, struct um_view *parent,
                    const struct um_place *outer)
{
    struct um_view *view = calloc(1, sizeof *view);
    if (!view)
        return -ENOMEM;
    *view = (struct um_view){.next = sb->views,
                             .parent = parent,
                             .outer = outer,
                             .number = sb->views_made++};
    sb->views = view;
    return view->number;
}

int um_views_create(struct um_switchboard *sb)
{
    int rc = new_view(sb, NULL, NULL);
    sb->native = calloc(1, sizeof *sb->native);
    sb->gone = calloc(1, sizeof *sb->gone);
    if (rc < 0 || !sb->native || !sb->gone)
        return -ENOMEM;
    *sb->native = (struct um_stack){.number = -1, .kind = UM_STACK_NATIVE};
    *sb->gone = (struct um_stack){.number = -1, .kind = UM_STACK_GONE};
    sb->base.number = UM_PLACES_FROM;
    sb->base.view = sb->nowhere.view = sb->views;
    for (int i = 0; i < UM_FAMILIES; i++) {
        sb->base.defaults.stacks[i] = UM_DEFAULT_NONE;
        sb->nowhere.defaults.stacks[i] = UM_DEFAULT_GONE;
    }
    return 0;
}

static void drop_mount(struct um_mount *mount)
{
    free(mount->file);
    free(mount);
}

static void drop_view(struct um_switchboard *sb, struct um_view **at)
{
    struct um_view *view = *at;
    while (view->mounts) {
        struct um_mount *next = view->mounts->next;
        drop_mount(view->mounts);
        view->mounts = next;
    }
    um_places_forget(sb, view);
    *at = view->next;
    free(view);
}

void um_views_destroy(struct um_switchboard *sb)
{
    while (sb->views)
        drop_view(sb, &sb->views);
    free(sb->native);
    free(sb->gone);
}

int um_view_add(struct um_switchboard *sb, int number)
{
    struct um_view *parent = um_view_find(sb, number);
    if (!parent)
        return -EINVAL;
    /* Until its first process tells more, what the parent gives to anybody. */
    const struct um_place *outer = um_place_in(sb, parent, &sb->base.defaults);
    int made = outer ? new_view(sb, parent, outer) : -ENOMEM;
    int rc = made < 0 ? made : um_files_add(sb, made, number);
    if (rc < 0 && made >= 0)
        drop_view(sb, &sb->views);
    return rc < 0 ? rc : made;
}

int um_view_remove(struct um_switchboard *sb, int number)
{
    struct um_view **at = &sb->views;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    if (!*at || !(*at)->parent)
        return -EINVAL;
    for (struct um_view *view = sb->views; view; view = view->next) {
        if (view->outer && view->outer->view == *at)
            view->outer = &sb->nowhere;
        if (view->parent == *at)
            view->parent = (*at)->parent;
    }
    um_files_remove(sb, number);
    drop_view(sb, at);
    return 0;
}

static void unmount(struct um_view *view, struct um_mount **at)
{
    struct um_mount *mount = *at;
    if (strcmp(mount->path, DEFAULT_PATH) == 0)
        view->standard = NULL;
    *at = mount->next;
    drop_mount(mount);
}

static int mount_stack(struct um_view *view, struct um_stack *stack,
                       const char *path, const char *file)
{
    size_t size = strlen(path) + 1;
    struct um_mount *mount = malloc(sizeof *mount + size);
    char *copy = strdup(file);
    if (!mount || !copy) {
        free(mount);
        free(copy);
        return -ENOMEM;
    }
    *mount = (struct um_mount){view->mounts, stack, copy};
    memcpy(mount->path, path, size);
    view->mounts = mount;
    view->native |= um_stack_leads_out(stack);
    if (strcmp(path, DEFAULT_PATH) == 0)
        view->standard = stack;
    return 0;
}

int um_mount_set(struct um_switchboard *sb, int number, const char *path,
                 int stack_number, const char *file)
{
    struct um_view *view = um_view_find(sb, number);
    struct um_stack *stack = um_stack_find(sb, stack_number);
    if (!view || (stack_number >= 0 && !stack))
        return -EINVAL;
    struct um_mount **at = &view->mounts;
    while (*at && strcmp((*at)->path, path) != 0)
        at = &(*at)->next;
    if (!*at && !stack)
        return -ENOENT;
    if (*at)
        unmount(view, at);
    return stack ? mount_stack(view, stack, path, file) : 0;
}

void um_mounts_forget(struct um_switchboard *sb, const struct um_stack *stack)
{
    for (struct um_view *view = sb->views; view; view = view->next) {
        if (view->apart == stack)
            view->apart = NULL;
        for (struct um_mount **at = &view->mounts; *at;)
            if ((*at)->stack == stack)
                unmount(view, at);
            else
                at = &(*at)->next;
    }
}

/* ---- msocket ---- */

enum { OWNERS = 6, GROUPS = 3 };

/* Which of a file's three modes counts for a thread: a shift of its bits. -1:
 * none does, it is root's. */
static int whose_mode(pid_t tid, const struct stat *st)
{
    char path[32], line[4096];
    unsigned int user = UINT_MAX, group;
    bool is_group = false;
    struct stat process;
    /* As a rule it is the owner's, and to read of its groups costs 40 us. */
    snprintf(path, sizeof path, "/proc/%d", tid);
    if (st->st_uid != 0 && stat(path, &process) == 0 &&
        process.st_uid == st->st_uid)
        return OWNERS;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        int used, at = 0;
        if (sscanf(line, "Uid: %*u %*u %*u %u", &user) == 1)
            continue;
        if (sscanf(line, "Gid: %*u %*u %*u %u", &group) == 1)
            is_group |= group == st->st_gid;
        if (strncmp(line, "Groups:", 7) != 0)
            continue;
        for (at = 7; sscanf(line + at, "%u%n", &group, &used) == 1; at += used)
            is_group |= group == st->st_gid;
        break;
    }
    if (f)
        fclose(f);
    if (user == 0)
        return -1;
    return user == st->st_uid ? OWNERS : is_group ? GROUPS : 0;
}

int um_may_access(struct um_call *call, const char *file, unsigned int wanted)
{
    struct stat st;
    if (stat(file, &st) != 0)
        return -errno;
    int shift = whose_mode(call->tid, &st);
    return shift < 0 || (wanted & ~(st.st_mode >> shift)) == 0 ? 0 : -EACCES;
}

bool um_is_owner(struct um_call *call, const struct stat *st)
{
    int shift = whose_mode(call->tid, st);
    return shift < 0 || shift == OWNERS;
}

static struct um_mount *find_mount(const struct um_view *view, const char *path)
{
    struct um_mount *mount = view->mounts;
    while (mount && strcmp(mount->path, path) != 0 &&
           strcmp(mount->file, path) != 0)
        mount = mount->next;
    return mount;
}

static um_verdict ask_for_path(struct um_call *call, const char *path)
{
    struct um_event event = {
        .kind = UM_EVENT_MSOCKET,
        .request = (uint32_t)call->args[1],
        .arg = call->args[2],
        .protocol = (uint32_t)call->args[3],
        .stack = UINT32_MAX,
        .data = (uint8_t *)strdup(path),
        .len = (uint32_t)strlen(path),
    };
    return event.data ? um_ask_python(call, &event) : -ENOMEM;
}

/* Make a stack the caller's default. stack NULL: the one that it is already. */
static um_verdict set_default(struct um_call *call,
                              const struct um_stack *stack, int32_t family)
{
    if (!stack) {
        if (family == PF_UNSPEC)
            return 0;
        int i = um_family_index(family);
        stack = i < 0 ? NULL : um_stack_of(call, family);
        return stack && um_stack_has(stack, family) ? 0 : -EAFNOSUPPORT;
    }
    return um_defaults_set(call->sb, call->tid, &family, family != PF_UNSPEC,
                           stack);
}

/* The stack that the path names, NULL for none: *verdict says what follows. */
static struct um_stack *named(struct um_call *call, um_verdict *verdict)
{
    struct um_switchboard *sb = call->sb;
    const struct um_place *place = um_place_at(sb, call->tid);
    char path[PATH_MAX], full[2 * PATH_MAX];
    ssize_t len = um_peek_string(call, call->args[0], path, sizeof path);
    *verdict = len < 0 ? len : -ENOENT;
    if (len <= 0 || !um_path_absolute(call, AT_FDCWD, path, full))
        return NULL;
    if (place == &sb->nowhere || um_is_apart(call)) {
        *verdict = -ENETDOWN;
        return NULL;
    }
    const struct um_mount *mount = find_mount(place->view, full);
    if (!mount) {
        *verdict = ask_for_path(call, full);
        return NULL;
    }
    *verdict = mount->file[0] ? um_may_access(call, mount->file, W_OK) : 0;
    return *verdict == 0 ? mount->stack : NULL;
}

um_verdict um_handle_msocket(struct um_call *call)
{
    struct um_stack *stack = NULL;
    int domain = (int)call->args[1];
    int type = (int)call->args[2];
    if (call->args[0]) {
        um_verdict verdict;
        stack = named(call, &verdict);
        if (!stack)
            return verdict;
    }
    if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == UM_SOCK_DEFAULT)
        return set_default(call, stack, domain);
    if (!stack && (domain == AF_UNIX || domain == FAMILY_ALG))
        stack = call->sb->native; /* the kernel's, as in socket(2) */
    else if (um_family_index(domain) < 0 &&
             (domain != AF_UNIX || stack->kind != UM_STACK_NATIVE))
        return -EAFNOSUPPORT;
    if (!stack)
        stack = um_stack_of(call, domain);
    return um_socket_open(call, stack, domain, type, (int)call->args[3]);
}
