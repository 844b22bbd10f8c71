/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * memory.c - the only reader and writer of programs' memory
 *
 * A thread that waits in a stopped call may die, or be sent on by a signal,
 * while we work, and its number go to a stranger. So what was read counts
 * only if the notification is still valid after the read, and a write comes
 * right after the same check, last before the answer. A sibling thread may
 * change the memory at any time: everything is read once and decided on the
 * copy. See seccomp_unotify(2), NOTES.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>

#include "um.h"

enum { PAGE = 4096, VECTOR_MAX = 1024 };

bool um_call_valid(struct um_call *call)
{
    return ioctl(call->sb->notify_fd, SECCOMP_IOCTL_NOTIF_ID_VALID,
                 &call->id) == 0;
}

ssize_t um_read_some(struct um_call *call, uint64_t address, void *ret,
                     size_t max)
{
    if (max == 0)
        return 0;
    struct iovec local = {ret, max};
    struct iovec remote = {(void *)(uintptr_t)address, max};
    ssize_t n = process_vm_readv(call->tid, &local, 1, &remote, 1, 0);
    if (n < 0)
        n = errno == ESRCH ? -ENOENT : errno == EPERM ? -EPERM : -EFAULT;
    return um_call_valid(call) ? n : -ENOENT;
}

int um_read(struct um_call *call, uint64_t address, void *ret, size_t len)
{
    ssize_t n = um_read_some(call, address, ret, len);
    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : -EFAULT;
}

ssize_t um_read_string(struct um_call *call, uint64_t address, char *ret,
                       size_t max)
{
    size_t have = 0;
    while (have < max) {
        /* Not over the end of a page: the next one may be missing. */
        size_t step = PAGE - (size_t)((address + have) % PAGE);
        if (step > max - have)
            step = max - have;
        ssize_t n = um_read_some(call, address + have, ret + have, step);
        if (n < 0)
            return n;
        const char *end = memchr(ret + have, 0, (size_t)n);
        if (end)
            return end - ret;
        if ((size_t)n < step)
            return -EFAULT;
        have += step;
    }
    return -ENAMETOOLONG;
}

/* Read an iovec array. Return: 0, or -EINVAL, -EMSGSIZE, -EFAULT, ... */
static int read_iovec(struct um_call *call, uint64_t iov, size_t count,
                      struct iovec vector[VECTOR_MAX])
{
    if (count > VECTOR_MAX)
        return -EMSGSIZE;
    return um_read(call, iov, vector, count * sizeof *vector);
}

ssize_t um_read_vector(struct um_call *call, uint64_t iov, size_t count,
                       void *ret, size_t max)
{
    struct iovec vector[VECTOR_MAX];
    int rc = read_iovec(call, iov, count, vector);
    if (rc < 0)
        return rc;
    size_t have = 0;
    for (size_t i = 0; i < count; i++) {
        if (vector[i].iov_len > max - have)
            return -EMSGSIZE;
        if (vector[i].iov_len == 0)
            continue;
        rc = um_read(call, (uintptr_t)vector[i].iov_base, (char *)ret + have,
                     vector[i].iov_len);
        if (rc < 0)
            return rc;
        have += vector[i].iov_len;
    }
    return (ssize_t)have;
}

int um_write(struct um_call *call, uint64_t address, const void *data,
             size_t len)
{
    if (!um_call_valid(call))
        return -ENOENT;
    if (len == 0)
        return 0;
    struct iovec local = {(void *)(uintptr_t)data, len};
    struct iovec remote = {(void *)(uintptr_t)address, len};
    ssize_t n = process_vm_writev(call->tid, &local, 1, &remote, 1, 0);
    if (n < 0)
        return errno == ESRCH ? -ENOENT : -EFAULT;
    return (size_t)n == len ? 0 : -EFAULT;
}

ssize_t um_write_vector(struct um_call *call, uint64_t iov, size_t count,
                        const void *data, size_t len)
{
    struct iovec vector[VECTOR_MAX];
    int rc = read_iovec(call, iov, count, vector);
    if (rc < 0)
        return rc;
    size_t done = 0;
    for (size_t i = 0; i < count && done < len; i++) {
        size_t step = vector[i].iov_len;
        if (step > len - done)
            step = len - done;
        rc = um_write(call, (uintptr_t)vector[i].iov_base,
                      (const char *)data + done, step);
        if (rc < 0)
            return rc;
        done += step;
    }
    return (ssize_t)done;
}

int um_write_name(struct um_call *call, uint64_t address, uint64_t len_address,
                  const void *sockaddr, size_t len)
{
    if (!address)
        return 0;
    int32_t room;
    int rc = um_read(call, len_address, &room, sizeof room);
    if (rc < 0)
        return rc;
    if (room < 0)
        return -EINVAL;
    size_t step = (size_t)room < len ? (size_t)room : len;
    int32_t full = (int32_t)len;
    rc = um_write(call, address, sockaddr, step);
    if (rc == 0)
        rc = um_write(call, len_address, &full, sizeof full);
    return rc;
}
