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

#include "tracer.h"

enum { PAGE = 4096, VECTOR_MAX = 1024 };

bool um_call_valid(struct um_call *call)
{
    return call->sb->tracer->valid(call);
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

ssize_t um_peek_string(struct um_call *call, uint64_t address, char *ret,
                       size_t max)
{
    size_t have = 0;
    while (have < max) {
        /* Not over the end of a page: the next one may be missing. */
        size_t step = PAGE - (size_t)((address + have) % PAGE);
        if (step > max - have)
            step = max - have;
        struct iovec local = {ret + have, step};
        struct iovec remote = {(void *)(uintptr_t)(address + have), step};
        ssize_t n = process_vm_readv(call->tid, &local, 1, &remote, 1, 0);
        if (n < 0)
            return -EFAULT;
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

/* Gather what the vector names: all of it, or -EMSGSIZE; or as much as fits. */
static ssize_t gather(struct um_call *call, uint64_t iov, size_t count,
                      void *ret, size_t max, bool all)
{
    struct iovec vector[VECTOR_MAX];
    int rc = read_iovec(call, iov, count, vector);
    if (rc < 0)
        return rc;
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        if (vector[i].iov_len > max - len) {
            if (all)
                return -EMSGSIZE;
            vector[i].iov_len = max - len;
        }
        len += vector[i].iov_len;
    }
    if (len == 0)
        return 0;
    struct iovec local = {ret, len};
    ssize_t n = process_vm_readv(call->tid, &local, 1, vector, count, 0);
    if (!um_call_valid(call))
        return -ENOENT;
    return n == (ssize_t)len ? n : -EFAULT;
}

ssize_t um_read_vector(struct um_call *call, uint64_t iov, size_t count,
                       void *ret, size_t max)
{
    return gather(call, iov, count, ret, max, true);
}

ssize_t um_read_vector_some(struct um_call *call, uint64_t iov, size_t count,
                            void *ret, size_t max)
{
    return gather(call, iov, count, ret, max, false);
}

int um_write_pieces(struct um_call *call, const struct um_piece *pieces,
                    size_t count)
{
    struct iovec local[UM_PIECES_MAX], remote[UM_PIECES_MAX];
    size_t len = 0, n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!pieces[i].len)
            continue;
        local[n] =
            (struct iovec){(void *)(uintptr_t)pieces[i].data, pieces[i].len};
        remote[n++] =
            (struct iovec){(void *)(uintptr_t)pieces[i].address, pieces[i].len};
        len += pieces[i].len;
    }
    if (!um_call_valid(call))
        return -ENOENT;
    if (len == 0)
        return 0;
    ssize_t done = process_vm_writev(call->tid, local, n, remote, n, 0);
    if (done < 0)
        return errno == ESRCH ? -ENOENT : -EFAULT;
    return (size_t)done == len ? 0 : -EFAULT;
}

int um_write(struct um_call *call, uint64_t address, const void *data,
             size_t len)
{
    struct um_piece piece = {address, data, len};
    return um_write_pieces(call, &piece, 1);
}

ssize_t um_write_vector(struct um_call *call, uint64_t iov, size_t count,
                        const void *data, size_t len)
{
    struct iovec vector[VECTOR_MAX];
    int rc = read_iovec(call, iov, count, vector);
    if (rc < 0)
        return rc;
    size_t used = 0, room = 0;
    for (; used < count && room < len; used++) {
        if (vector[used].iov_len > len - room)
            vector[used].iov_len = len - room;
        room += vector[used].iov_len;
    }
    if (!um_call_valid(call))
        return -ENOENT;
    if (room == 0)
        return 0;
    struct iovec local = {(void *)(uintptr_t)data, room};
    ssize_t n = process_vm_writev(call->tid, &local, 1, vector, used, 0);
    if (n < 0 && errno == ESRCH)
        return -ENOENT;
    return n == (ssize_t)room ? n : -EFAULT;
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
    int32_t full = (int32_t)len;
    struct um_piece pieces[] = {
        {address, sockaddr, (size_t)room < len ? (size_t)room : len},
        {len_address, &full, sizeof full},
    };
    return um_write_pieces(call, pieces, 2);
}
