/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * overlay.c - /dev/net and the stacks mounted in a view, shown as files
 *
 * A mount has a real file, a unix socket in the runtime directory, and a view's
 * mounts below /dev/net have one folder there. With the overlay, a call that
 * names one of these paths is carried out on the real file, and its result
 * given; so the modes are the kernel's, and what chmod changes guards msocket.
 * All other paths are the kernel's business.
 *
 * It is off unless it is asked for: a path can only be seen by stopping the
 * call, and the stat family is what programs call most. What a program does in
 * a folder that it has opened costs nothing: that is the real one.
 *
 * Nothing depends on what is shown: a program that rewrites a path behind our
 * back gets the kernel's answer, and msocket() looks at the mounts itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "oldcalls.h"
#include "views.h"

static const char NET[] = "/dev/net";
enum { REAL_MAX = PATH_MAX };

/* What a path of the overlay stands for. */
struct target {
    bool is_folder;
    char real[REAL_MAX];
};

/* ---- paths ---- */

static const char *last_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* May it be one of ours? For who has to look where a relative path begins. */
static bool may_be(const struct um_view *view, const char *path)
{
    const char *last = last_of(path);
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0 ||
        strcmp(last, "net") == 0)
        return path[0] != '/' || strstr(path, "net");
    for (const struct um_mount *m = view->mounts; m; m = m->next)
        if (strcmp(last_of(m->path), last) == 0 ||
            strcmp(last_of(m->file), last) == 0)
            return true;
    return false;
}

/* The folder of a view's special files (umview/special.py), made if there is
 * none, for a view may have no mounts. */
static void find_folder(struct um_switchboard *sb, int view, char *ret)
{
    char name[32];
    snprintf(name, sizeof name, "net/%d", view);
    (void)mkdirat(sb->dir_fd, "net", 0700); /* mostly they exist */
    (void)mkdirat(sb->dir_fd, name, 0700);
    snprintf(ret, REAL_MAX, "/proc/self/fd/%d/%s", sb->dir_fd, name);
}

/* By its path, or by its name in the folder, which is another where the path is
 * not just one below /dev/net. */
static bool is_named(const struct um_mount *mount, const char *full)
{
    size_t len = sizeof NET - 1;
    return strcmp(mount->path, full) == 0 ||
           (strncmp(full, NET, len) == 0 && full[len] == '/' &&
            strcmp(full + len + 1, last_of(mount->file)) == 0);
}

static bool find(struct um_call *call, int dirfd, const char *path,
                 struct target *ret)
{
    char full[2 * PATH_MAX];
    const struct um_view *view = um_view_find(call->sb, um_view_of(call));
    if (!view || !may_be(view, path) ||
        !um_path_absolute(call, dirfd, path, full))
        return false;
    ret->is_folder = strcmp(full, NET) == 0;
    if (ret->is_folder) {
        find_folder(call->sb, view->number, ret->real);
        return true;
    }
    for (const struct um_mount *m = view->mounts; m; m = m->next)
        if (m->file[0] && is_named(m, full)) {
            snprintf(ret->real, sizeof ret->real, "%s", m->file);
            return true;
        }
    return false;
}

/* ---- what is done with one; rest: the arguments behind the path ---- */

typedef um_verdict act(struct um_call *call, const struct target *target,
                       const uint64_t *rest);

static um_verdict give_stat(struct um_call *call, const struct target *target,
                            const uint64_t *rest)
{
    struct stat st;
    if (lstat(target->real, &st) != 0)
        return -errno;
    int rc = um_write(call, rest[0], &st, sizeof st);
    return rc < 0 ? rc : 0;
}

static um_verdict give_statx(struct um_call *call, const struct target *target,
                             const uint64_t *rest)
{
    struct statx st;
    uint64_t flags = rest[0] | AT_SYMLINK_NOFOLLOW;
    if (syscall(SYS_statx, AT_FDCWD, target->real, flags, rest[1], &st) != 0)
        return -errno;
    int rc = um_write(call, rest[2], &st, sizeof st);
    return rc < 0 ? rc : 0;
}

static um_verdict give_access(struct um_call *call, const struct target *target,
                              const uint64_t *rest)
{
    unsigned int wanted = (unsigned int)rest[0];
    if (wanted & ~(unsigned int)(R_OK | W_OK | X_OK))
        return -EINVAL;
    return um_may_access(call, target->real, wanted);
}

static um_verdict give_no_link(struct um_call *call,
                               const struct target *target,
                               const uint64_t *rest)
{
    (void)call;
    (void)target;
    (void)rest;
    return -EINVAL;
}

static um_verdict give_no_attribute(struct um_call *call,
                                    const struct target *target,
                                    const uint64_t *rest)
{
    (void)call;
    (void)target;
    (void)rest;
    return -ENODATA;
}

static um_verdict give_no_attributes(struct um_call *call,
                                     const struct target *target,
                                     const uint64_t *rest)
{
    (void)call;
    (void)target;
    (void)rest;
    return 0;
}

/* The folder is umview's. */
static bool may_change(struct um_call *call, const struct target *target)
{
    struct stat st;
    return !target->is_folder && lstat(target->real, &st) == 0 &&
           um_is_owner(call, &st);
}

static um_verdict change_mode(struct um_call *call, const struct target *target,
                              const uint64_t *rest)
{
    if (!may_change(call, target))
        return -EPERM;
    return chmod(target->real, (mode_t)rest[0]) == 0 ? 0 : -errno;
}

static um_verdict change_owner(struct um_call *call,
                               const struct target *target,
                               const uint64_t *rest)
{
    if (!may_change(call, target))
        return -EPERM;
    int rc = lchown(target->real, (uid_t)rest[0], (gid_t)rest[1]);
    return rc == 0 ? 0 : -errno;
}

/* ---- the calls ---- */

static const struct form {
    int nr;
    int dirfd; /* which argument; -1: none */
    int path;
    int empty; /* the one of flags with AT_EMPTY_PATH; -1: none */
    act *act;
} forms[] = {
    {__NR_stat, -1, 0, -1, give_stat},
    {__NR_lstat, -1, 0, -1, give_stat},
    {__NR_newfstatat, 0, 1, 3, give_stat},
    {__NR_statx, 0, 1, 2, give_statx},
    {__NR_access, -1, 0, -1, give_access},
    {__NR_faccessat, 0, 1, -1, give_access},
    {__NR_faccessat2, 0, 1, -1, give_access},
    {__NR_readlink, -1, 0, -1, give_no_link},
    {__NR_readlinkat, 0, 1, -1, give_no_link},
    {__NR_getxattr, -1, 0, -1, give_no_attribute},
    {__NR_lgetxattr, -1, 0, -1, give_no_attribute},
    {__NR_listxattr, -1, 0, -1, give_no_attributes},
    {__NR_llistxattr, -1, 0, -1, give_no_attributes},
    {__NR_chmod, -1, 0, -1, change_mode},
    {__NR_fchmodat, 0, 1, -1, change_mode},
    {__NR_fchmodat2, 0, 1, -1, change_mode},
    {__NR_chown, -1, 0, -1, change_owner},
    {__NR_lchown, -1, 0, -1, change_owner},
    {__NR_fchownat, 0, 1, -1, change_owner},
};
enum { FORMS = sizeof forms / sizeof *forms };

bool um_overlay_call(size_t i, int *nr, int *empty)
{
    if (i >= FORMS)
        return false;
    *nr = forms[i].nr;
    *empty = forms[i].empty;
    return true;
}

um_verdict um_handle_overlaid(struct um_call *call)
{
    const struct form *form = forms;
    while (form->nr != call->nr)
        form++;
    char path[PATH_MAX];
    struct target target;
    int dirfd = form->dirfd < 0 ? AT_FDCWD : (int)call->args[form->dirfd];
    if (um_peek_string(call, call->args[form->path], path, sizeof path) <= 0 ||
        !find(call, dirfd, path, &target))
        return UM_CONTINUE;
    return form->act(call, &target, &call->args[form->path + 1]);
}

/* What opening a stack's path says: the same as of a unix socket. O_PATH, too,
 * for such a descriptor cannot be handed over (SECCOMP_IOCTL_NOTIF_ADDFD). */
static int open_target(const struct target *target, uint64_t flags)
{
    if ((flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if (!target->is_folder)
        return flags & O_DIRECTORY ? -ENOTDIR : -ENXIO;
    if (!(flags & O_PATH) && (flags & (O_ACCMODE | O_CREAT)))
        return -EISDIR;
    int fd = open(target->real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

um_verdict um_overlay_open(struct um_call *call, int dirfd, const char *path,
                           uint64_t flags)
{
    struct target target;
    if (!call->sb->overlaid || !find(call, dirfd, path, &target))
        return UM_CONTINUE;
    int fd = open_target(&target, flags);
    if (fd < 0)
        return fd;
    int number = um_answer_fd(call, fd, (int)(flags & O_CLOEXEC));
    close(fd);
    return number < 0 ? number : UM_ANSWERED;
}

void um_overlay_show(struct um_switchboard *sb)
{
    sb->overlaid = true;
}
