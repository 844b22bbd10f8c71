/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * files.c - files and names of the view: open(2), uname(2)
 *
 * A program reads its name servers from /etc/resolv.conf, and it must be the
 * view's. An open for reading is stopped (the filter cannot see a path), its
 * path read and, if it names one of a few files, answered with a copy of our
 * text; anything else goes on in the kernel. Most paths are dismissed by
 * their last component. This is for resolution, not for secrecy: a program
 * that rewrites the path behind our back reads the host's file, as it may.
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

struct refused {
    struct refused *next;
    char *path;
};

struct um_files {
    struct file *files;
    struct refused *refused;
};

void um_files_destroy(struct um_switchboard *sb)
{
    if (!sb->files)
        return;
    struct file *next;
    for (struct file *f = sb->files->files; f; f = next) {
        next = f->next;
        close(f->fd);
        free(f->path);
        free(f);
    }
    struct refused *after;
    for (struct refused *r = sb->files->refused; r; r = after) {
        after = r->next;
        free(r->path);
        free(r);
    }
    free(sb->files);
    sb->files = NULL;
}

static int have_files(struct um_switchboard *sb)
{
    if (!sb->files)
        sb->files = calloc(1, sizeof *sb->files);
    return sb->files ? 0 : -ENOMEM;
}

int um_file_add(struct um_switchboard *sb, const char *path,
                const void *content, size_t len)
{
    if (have_files(sb) < 0)
        return -ENOMEM;
    struct file *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    f->path = strdup(path);
    f->fd = memfd_create(path, MFD_CLOEXEC);
    if (!f->path || f->fd < 0 || write(f->fd, content, len) != (ssize_t)len ||
        fchmod(f->fd, 0444) != 0) {
        if (f->fd >= 0)
            close(f->fd);
        free(f->path);
        free(f);
        return -EIO;
    }
    f->next = sb->files->files;
    sb->files->files = f;
    return 0;
}

int um_unix_refuse(struct um_switchboard *sb, const char *path)
{
    if (have_files(sb) < 0)
        return -ENOMEM;
    struct refused *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->path = strdup(path);
    r->next = sb->files->refused;
    sb->files->refused = r;
    return 0;
}

bool um_unix_refused(struct um_switchboard *sb, const char *path)
{
    if (!sb->files)
        return false;
    for (struct refused *r = sb->files->refused; r; r = r->next)
        if (strcmp(r->path, path) == 0)
            return true;
    return false;
}

static const char *last_component(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Make path (in the caller's directory dirfd) absolute, without ".", ".."
 * and double slashes. Symbolic links stay. Return: false if it cannot be. */
static bool absolute(struct um_call *call, int dirfd, const char *path,
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

/* /proc/PID/net, /proc/self/net, /proc/PID/task/TID/net are /proc/net: who
 * is in a view sees the view's, whomever it asks about.
 * Return: whether the path lies below /proc/net. */
static bool fold_proc_net(char path[2 * PATH_MAX])
{
    const char *at = skip(path, "proc"), *net = skip(at, "net");
    if (!at || net)
        return net != NULL;
    const char *rest = skip(at, NULL);
    if (!rest)
        rest = skip(at, "self");
    if (!rest)
        rest = skip(at, "thread-self");
    const char *task = skip(skip(rest, "task"), NULL);
    net = skip(task ? task : rest, "net");
    if (!net)
        return false;
    size_t start = (size_t)(net - path) - (sizeof "/net" - 1);
    memmove(path + sizeof "/proc" - 1, path + start, strlen(path + start) + 1);
    return true;
}

/* May this path name a file that we show? Most are dismissed by their last
 * component. */
static bool may_be_shown(const struct um_files *files, const char *path)
{
    if (strncmp(path, "/proc/", 6) == 0 && strstr(path, "/net/"))
        return true;
    const char *last = last_component(path);
    for (const struct file *f = files->files; f; f = f->next)
        if (strcmp(last_component(f->path), last) == 0)
            return true;
    return false;
}

/* Find the file that an open names. Return: 1 with *ret; 0 if it is none of
 * ours; -ENOENT for what the host alone has below /proc/net. */
static int find_file(struct um_call *call, int dirfd, uint64_t address,
                     const struct file **ret)
{
    const struct um_files *files = call->sb->files;
    if (!files)
        return 0;
    char path[PATH_MAX], full[2 * PATH_MAX];
    /* Unchecked: if the call was abandoned, its answer will say so. */
    if (um_peek_string(call, address, path, sizeof path) <= 0 ||
        !may_be_shown(files, path) || !absolute(call, dirfd, path, full))
        return 0;
    bool below_net = fold_proc_net(full);
    for (*ret = files->files; *ret; *ret = (*ret)->next)
        if (strcmp((*ret)->path, full) == 0)
            return 1;
    return below_net ? -ENOENT : 0;
}

static um_verdict open_at(struct um_call *call, int dirfd, uint64_t path,
                          uint64_t flags)
{
    const struct file *f;
    int found = find_file(call, dirfd, path, &f);
    if (found <= 0)
        return found < 0 ? found : UM_CONTINUE;
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", f->fd);
    /* Opened anew: a descriptor of its own offset, for reading only. */
    int fd = open(link, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int number = um_answer_fd(call, fd, (int)(flags & O_CLOEXEC));
    close(fd);
    return number < 0 ? number : UM_ANSWERED;
}

um_verdict um_handle_open(struct um_call *call)
{
    return open_at(call, AT_FDCWD, call->args[0], call->args[1]);
}

um_verdict um_handle_openat(struct um_call *call)
{
    return open_at(call, (int)call->args[0], call->args[1], call->args[2]);
}

um_verdict um_handle_openat2(struct um_call *call)
{
    struct open_how how;
    if (call->args[3] < sizeof how ||
        um_read(call, call->args[2], &how, sizeof how) < 0 ||
        (how.flags & (O_ACCMODE | O_CREAT | O_DIRECTORY | O_PATH)) ||
        (how.resolve & ~(uint64_t)(RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                                   RESOLVE_NO_XDEV)))
        return UM_CONTINUE;
    return open_at(call, (int)call->args[0], call->args[1], how.flags);
}

int um_hostname_set(struct um_switchboard *sb, const char *host,
                    const char *domain)
{
    if ((host && strlen(host) > 64) || (domain && strlen(domain) > 64))
        return -ENAMETOOLONG;
    if (host)
        snprintf(sb->hostname, sizeof sb->hostname, "%s", host);
    if (domain)
        snprintf(sb->domainname, sizeof sb->domainname, "%s", domain);
    return 0;
}

um_verdict um_handle_uname(struct um_call *call)
{
    struct utsname names;
    if (uname(&names) != 0)
        return -errno;
    if (call->sb->hostname[0])
        memcpy(names.nodename, call->sb->hostname, sizeof call->sb->hostname);
    if (call->sb->domainname[0])
        memcpy(names.domainname, call->sb->domainname,
               sizeof call->sb->domainname);
    int rc = um_write(call, call->args[0], &names, sizeof names);
    return rc < 0 ? rc : 0;
}

/* Everybody may name a view, as everybody may bind its low ports. */
static um_verdict set_name(struct um_call *call, char name[65])
{
    int32_t len = (int32_t)call->args[1];
    char text[65] = {0};
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
    return set_name(call, call->sb->hostname);
}

um_verdict um_handle_setdomainname(struct um_call *call)
{
    return set_name(call, call->sb->domainname);
}
