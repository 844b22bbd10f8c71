/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * files.c - files and names of the view: open(2), uname(2)
 *
 * A program reads its name servers from /etc/resolv.conf, and it must be the
 * view's. An open for reading is stopped (the filter cannot see a path), its
 * path read and, if it names one of a few files, answered with a copy of our
 * text; of what lies in a few folders (/proc/net) Python is asked; anything
 * else goes on in the kernel. Most paths are dismissed by their look. This
 * is for resolution, not for secrecy: a program that rewrites the path
 * behind our back reads the host's file, as it may.
 *
 * Files, refused sockets and names belong to a view. What a view has not itself
 * it has from the view around it. What lies in the folders tells of the stack
 * that is the caller's default, so they are the same for all views. Who has the
 * host's network for a default has the host's files and names, too: the view's
 * name server is not reached from there.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "um.h"

struct file {
    struct file *next;
    char *path;
    int fd; /* of the content */
};

/* A path of which Python is asked, or that no unix socket is found at. */
struct path {
    struct path *next;
    char text[];
};

/* What a view has itself; where it has nothing, its parent's is looked at. The
 * names are its own from the beginning, as those of a UTS namespace are. */
struct shown {
    struct shown *parent; /* that of the view around it, or NULL */
    struct file *files;
    struct path *refused;
    char hostname[65], domainname[65];
};

struct um_files {
    struct path *folders;
    struct shown **views; /* by number; NULL: there is none */
    int room;
};

static bool path_in(const struct path *list, const char *text)
{
    for (; list; list = list->next)
        if (strcmp(list->text, text) == 0)
            return true;
    return false;
}

static int path_add(struct path **list, const char *text)
{
    if (path_in(*list, text))
        return 0;
    size_t size = strlen(text) + 1;
    struct path *path = malloc(sizeof *path + size);
    if (!path)
        return -ENOMEM;
    memcpy(path->text, text, size);
    path->next = *list;
    *list = path;
    return 0;
}

static void paths_free(struct path *path)
{
    struct path *next;
    for (; path; path = next) {
        next = path->next;
        free(path);
    }
}

/* ---- the views ---- */

/* Return: NULL without memory. */
static struct um_files *have_room(struct um_switchboard *sb, int view)
{
    if (!sb->files)
        sb->files = calloc(1, sizeof *sb->files);
    struct um_files *files = sb->files;
    if (!files || view < files->room)
        return files;
    int room = 2 * view + 1;
    struct shown **more = realloc(files->views, (size_t)room * sizeof *more);
    if (!more)
        return NULL;
    for (int i = files->room; i < room; i++)
        more[i] = NULL;
    files->views = more;
    files->room = room;
    return files;
}

int um_files_add(struct um_switchboard *sb, int view, int parent)
{
    struct um_files *files = have_room(sb, view);
    struct shown *shown = calloc(1, sizeof *shown);
    if (!files || !shown) {
        free(shown);
        return -ENOMEM;
    }
    if (parent >= 0) {
        const struct shown *from = shown->parent = files->views[parent];
        memcpy(shown->hostname, from->hostname, sizeof shown->hostname);
        memcpy(shown->domainname, from->domainname, sizeof shown->domainname);
    }
    files->views[view] = shown;
    return 0;
}

int um_files_clear(struct um_switchboard *sb, int view)
{
    struct shown *shown =
        view >= 0 && view < sb->files->room ? sb->files->views[view] : NULL;
    if (!shown)
        return -EINVAL;
    struct file *next;
    for (struct file *f = shown->files; f; f = next) {
        next = f->next;
        close(f->fd);
        free(f->path);
        free(f);
    }
    shown->files = NULL;
    paths_free(shown->refused);
    shown->refused = NULL;
    return 0;
}

void um_files_remove(struct um_switchboard *sb, int view)
{
    struct shown *shown = sb->files->views[view];
    for (int i = 0; i < sb->files->room; i++)
        if (sb->files->views[i] && sb->files->views[i]->parent == shown)
            sb->files->views[i]->parent = shown->parent;
    um_files_clear(sb, view);
    free(shown);
    sb->files->views[view] = NULL;
}

void um_files_destroy(struct um_switchboard *sb)
{
    struct um_files *files = sb->files;
    if (!files)
        return;
    for (int view = 0; view < files->room; view++)
        if (files->views[view])
            um_files_remove(sb, view);
    paths_free(files->folders);
    free(files->views);
    free(files);
    sb->files = NULL;
}

/* Those of the caller's view; the outermost's, if that has ended. */
static struct shown *shown_to(struct um_call *call)
{
    int view = um_view_of(call);
    return call->sb->files->views[view < 0 ? 0 : view];
}

/* ---- configuration, from Python ---- */

/* Return: NULL if the view has ended. */
static struct shown *shown_in(struct um_switchboard *sb, int view)
{
    return view < sb->files->room ? sb->files->views[view] : NULL;
}

/* Return: a descriptor of a file with that content. */
static int file_of(const char *path, const void *content, size_t len)
{
    int fd = memfd_create(path, MFD_CLOEXEC);
    if (fd < 0 ||
        (write(fd, content, len) == (ssize_t)len && fchmod(fd, 0444) == 0))
        return fd < 0 ? -errno : fd;
    close(fd);
    return -EIO;
}

int um_file_set(struct um_switchboard *sb, int view, const char *path,
                const void *content, size_t len)
{
    struct shown *shown = shown_in(sb, view);
    if (!shown)
        return -ESRCH;
    int fd = file_of(path, content, len);
    if (fd < 0)
        return fd;
    struct file *f = shown->files;
    while (f && strcmp(f->path, path) != 0)
        f = f->next;
    if (f) {
        close(f->fd);
        f->fd = fd;
        return 0;
    }
    f = calloc(1, sizeof *f);
    char *copy = strdup(path);
    if (!f || !copy) {
        close(fd);
        free(f);
        free(copy);
        return -ENOMEM;
    }
    *f = (struct file){shown->files, copy, fd};
    shown->files = f;
    return 0;
}

int um_folder_add(struct um_switchboard *sb, const char *path)
{
    return path_add(&sb->files->folders, path);
}

int um_unix_refuse(struct um_switchboard *sb, int view, const char *path)
{
    struct shown *shown = shown_in(sb, view);
    return shown ? path_add(&shown->refused, path) : -ESRCH;
}

int um_hostname_set(struct um_switchboard *sb, int view, const char *host,
                    const char *domain)
{
    struct shown *shown = shown_in(sb, view);
    if (!shown)
        return -ESRCH;
    if ((host && strlen(host) > 64) || (domain && strlen(domain) > 64))
        return -ENAMETOOLONG;
    if (host)
        snprintf(shown->hostname, sizeof shown->hostname, "%s", host);
    if (domain)
        snprintf(shown->domainname, sizeof shown->domainname, "%s", domain);
    return 0;
}

bool um_unix_refused(struct um_call *call, const char *path)
{
    for (const struct shown *s = shown_to(call); s; s = s->parent)
        if (path_in(s->refused, path))
            return true;
    return false;
}

/* ---- paths ---- */

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool um_path_absolute(struct um_call *call, int dirfd, const char *path,
                      char ret[2 * PATH_MAX])
{
    char joined[2 * PATH_MAX], link[64];
    size_t at = 0;
    if (path[0] != '/') {
        if (dirfd == AT_FDCWD)
            snprintf(link, sizeof link, "/proc/%d/cwd", call->tid);
        else
            snprintf(link, sizeof link, "/proc/%d/fd/%d", call->tid, dirfd);
        ssize_t n = readlink(link, joined, PATH_MAX - 1);
        if (n <= 0)
            return false;
        at = (size_t)n;
        joined[at++] = '/';
    }
    size_t len = strlen(path);
    if (at + len >= sizeof joined)
        return false;
    memcpy(joined + at, path, len + 1);
    size_t out = 0;
    char *state;
    for (char *part = strtok_r(joined, "/", &state); part;
         part = strtok_r(NULL, "/", &state)) {
        if (strcmp(part, ".") == 0)
            continue;
        if (strcmp(part, "..") == 0) {
            while (out > 0 && ret[--out] != '/')
                ;
            continue;
        }
        size_t n = strlen(part);
        ret[out++] = '/';
        memcpy(ret + out, part, n);
        out += n;
    }
    ret[out] = 0;
    return true;
}

/* Skip one component of a path ("/name") if it is of digits, or `name`.
 * Return: what follows it, or NULL. */
static const char *skip(const char *path, const char *name)
{
    if (!path || *path != '/')
        return NULL;
    size_t len = strcspn(path + 1, "/");
    if (len == 0)
        return NULL;
    if (name ? strlen(name) == len && memcmp(path + 1, name, len) == 0
             : strspn(path + 1, "0123456789") == len)
        return path + 1 + len;
    return NULL;
}

/* /proc/PID, /proc/self and /proc/thread-self, with /task/TID behind it.
 * Return: what follows it, or NULL. */
static const char *skip_process(const char *path)
{
    const char *at = skip(path, "proc"), *rest = skip(at, NULL);
    if (!rest)
        rest = skip(at, "self");
    if (!rest)
        rest = skip(at, "thread-self");
    const char *task = skip(skip(rest, "task"), NULL);
    return task ? task : rest;
}

/* Bring the many names of a file below /proc to its plain one: a process's root
 * is that of all, and its "net" is /proc/net: who is in a view sees the
 * view's, whomever it asks about. */
static void fold_proc(char path[2 * PATH_MAX])
{
    const char *rest, *root;
    while ((rest = skip_process(path)) && (root = skip(rest, "root")))
        memmove(path, root, strlen(root) + 1);
    if (rest && skip(rest, "net"))
        memmove(path + sizeof "/proc" - 1, rest, strlen(rest) + 1);
}

/* May this path name a file that we show? Most are dismissed by their look. A
 * relative one costs a look at the directory that it starts from, and the files
 * that matter there have no dot in their names. */
static bool may_be_shown(const struct shown *shown, const char *path)
{
    const char *last = last_component(path);
    for (; shown; shown = shown->parent)
        for (const struct file *f = shown->files; f; f = f->next)
            if (strcmp(last_component(f->path), last) == 0)
                return true;
    if (path[0] != '/')
        return !strchr(last, '.') || strcmp(path, ".") == 0;
    return strstr(path, "/net") &&
           (strstr(path, "/proc/") || strstr(path, "/sys/"));
}

static const struct file *find(const struct shown *shown, const char *path)
{
    for (; shown; shown = shown->parent)
        for (const struct file *f = shown->files; f; f = f->next)
            if (strcmp(f->path, path) == 0)
                return f;
    return NULL;
}

static bool in_folder(const struct um_files *files, const char *path)
{
    for (const struct path *f = files->folders; f; f = f->next) {
        size_t len = strlen(f->text);
        if (strncmp(path, f->text, len) == 0 &&
            (f->text[len - 1] == '/' || !path[len] || path[len] == '/'))
            return true;
    }
    return false;
}

/* Answer with a file: opened anew, a descriptor of its own offset, for reading
 * only. */
static um_verdict give_file(struct um_call *call, const struct file *f,
                            uint64_t flags)
{
    char link[32];
    if (flags & O_DIRECTORY)
        return -ENOTDIR;
    snprintf(link, sizeof link, "/proc/self/fd/%d", f->fd);
    int fd = open(link, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int number = um_answer_fd(call, fd, (int)(flags & O_CLOEXEC));
    close(fd);
    return number < 0 ? number : UM_ANSWERED;
}

static um_verdict ask_for_file(struct um_call *call, const char *path,
                               uint64_t flags)
{
    struct um_event event = {
        .kind = UM_EVENT_OPEN,
        .request = (uint32_t)flags,
        .stack = (uint32_t)um_stack_of(call, AF_INET)->number,
        .data = (uint8_t *)strdup(path),
        .len = (uint32_t)strlen(path),
    };
    return event.data ? um_ask_python(call, &event) : -ENOMEM;
}

static um_verdict open_file(struct um_call *call, int dirfd, const char *path,
                            uint64_t flags)
{
    const struct shown *shown = shown_to(call);
    char full[2 * PATH_MAX];
    if (!may_be_shown(shown, path) ||
        !um_path_absolute(call, dirfd, path, full))
        return UM_CONTINUE;
    fold_proc(full);
    const struct file *f = find(shown, full);
    if ((!f && !in_folder(call->sb->files, full)) ||
        um_view_kind(call) == UM_STACK_NATIVE)
        return UM_CONTINUE;
    return f ? give_file(call, f, flags) : ask_for_file(call, full, flags);
}

/* unlike: flags of opens that are not asked for a file, but stopped for the
 * overlay only. */
static um_verdict open_at(struct um_call *call, int dirfd, uint64_t address,
                          uint64_t flags, uint64_t unlike)
{
    char path[PATH_MAX];
    /* Unchecked: if the call was abandoned, its answer will say so. */
    if (um_peek_string(call, address, path, sizeof path) <= 0)
        return UM_CONTINUE;
    um_verdict verdict = um_overlay_open(call, dirfd, path, flags);
    return verdict == UM_CONTINUE && !(flags & unlike)
               ? open_file(call, dirfd, path, flags)
               : verdict;
}

static const uint64_t NO_READ = O_ACCMODE | O_CREAT | O_PATH;

um_verdict um_handle_open(struct um_call *call)
{
    return open_at(call, AT_FDCWD, call->args[0], call->args[1],
                   NO_READ | O_DIRECTORY);
}

um_verdict um_handle_openat(struct um_call *call)
{
    return open_at(call, (int)call->args[0], call->args[1], call->args[2],
                   NO_READ | O_DIRECTORY);
}

um_verdict um_handle_openat2(struct um_call *call)
{
    struct open_how how;
    if (call->args[3] < sizeof how ||
        um_read(call, call->args[2], &how, sizeof how) < 0 ||
        (how.resolve & ~(uint64_t)(RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                                   RESOLVE_NO_XDEV)))
        return UM_CONTINUE;
    return open_at(call, (int)call->args[0], call->args[1], how.flags, NO_READ);
}

/* ---- names ---- */

/* Has the caller names of its own: a UTS namespace that is not ours? */
static bool is_named_apart(const struct um_call *call)
{
    char link[32], ours[64], theirs[64];
    snprintf(link, sizeof link, "/proc/%d/ns/uts", call->tid);
    ssize_t len = readlink("/proc/self/ns/uts", ours, sizeof ours);
    return len > 0 && readlink(link, theirs, sizeof theirs) == len &&
           memcmp(ours, theirs, (size_t)len) != 0;
}

um_verdict um_handle_uname(struct um_call *call)
{
    struct utsname names;
    const struct shown *shown = shown_to(call);
    if ((!shown->hostname[0] && !shown->domainname[0]) ||
        um_view_kind(call) == UM_STACK_NATIVE || is_named_apart(call))
        return UM_CONTINUE;
    if (uname(&names) != 0)
        return -errno;
    if (shown->hostname[0])
        memcpy(names.nodename, shown->hostname, sizeof shown->hostname);
    if (shown->domainname[0])
        memcpy(names.domainname, shown->domainname, sizeof shown->domainname);
    int rc = um_write(call, call->args[0], &names, sizeof names);
    return rc < 0 ? rc : 0;
}

/* Everybody may name a view, as everybody may bind its low ports. */
static um_verdict set_name(struct um_call *call, char name[65])
{
    int32_t len = (int32_t)call->args[1];
    char text[65] = {0};
    if (is_named_apart(call))
        return UM_CONTINUE;
    if (len < 0 || len > 64)
        return -EINVAL;
    int rc = um_read(call, call->args[0], text, (size_t)len);
    if (rc < 0)
        return rc;
    memcpy(name, text, sizeof text);
    return 0;
}

um_verdict um_handle_sethostname(struct um_call *call)
{
    return set_name(call, shown_to(call)->hostname);
}

um_verdict um_handle_setdomainname(struct um_call *call)
{
    return set_name(call, shown_to(call)->domainname);
}
