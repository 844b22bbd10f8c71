/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * stream_io.c - sendto, recvfrom, sendmsg, recvmsg on TCP sockets
 *
 * send, recv, read and write are the kernel's: they are never stopped. Those
 * that may have an address or control data are, because a unix socket does
 * with these what TCP does not: it refuses a destination (EISCONN), passes
 * descriptors, and tells the peer's name, which for the side that connected is
 * the one of our private directory. What is asked for without them goes on in
 * the kernel.
 *
 * Bytes that were taken cannot go back, so a receive looks first (MSG_PEEK),
 * writes them to the program, and takes them last. If the call turns out to
 * have been abandoned they are held for the next such call, which is the same
 * one, restarted or made again: recv() and poll() do not see them.
 *
 * A send with MSG_FASTOPEN is a connect, and then a send: what Linux does as
 * long as it has no cookie of the server.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "messages.h"
#include "stream.h"

/* Is there nobody, now or before, whom it would talk to? */
static bool is_unconnected(const struct um_sock *sock)
{
    return sock->state == UM_FRESH || sock->state == UM_LISTENING ||
           sock->state == UM_CLOSED;
}

/* ---- sending ---- */

static void undo_tell(struct um_call *call)
{
    call->sock->error = (int)(intptr_t)call->undo_arg;
}

/* An error that waits (of a connect that failed later, of a disconnection) is
 * told once, by whichever call comes first. Return: it, or 0. */
static int tell_error(struct um_call *call)
{
    struct um_sock *sock = call->sock;
    int error = sock->error, native;
    socklen_t len = sizeof native;
    if (!error)
        return 0;
    getsockopt(call->fd, SOL_SOCKET, SO_ERROR, &native, &len);
    sock->error = 0;
    call->undo = undo_tell;
    call->undo_arg = (void *)(intptr_t)error;
    return -error;
}

/* Connect to the name that lies in the caller. Return: 0: now it may send. */
static um_verdict fast_open(struct um_call *call, uint64_t name, int32_t len)
{
    struct sockaddr_storage ss = {0};
    struct um_name to = {.port = 0};
    enum um_state state = call->sock->state;
    if (!name)
        return state == UM_FRESH || state == UM_CLOSED
                   ? -EINVAL
                   : um_stream_connect(call, &to); /* its state answers */
    if (len < 0 || len > (int32_t)sizeof ss)
        return -EINVAL;
    int rc = um_read(call, name, &ss, (size_t)len);
    if (rc == 0)
        rc = um_name_parse(call->sock->domain, &ss, (size_t)len, &to);
    if (rc < 0)
        return rc;
    return rc == 1 ? -EOPNOTSUPP : um_stream_connect(call, &to);
}

/* What a send can be told without doing it. Return: 0: do it. */
static um_verdict check_send(struct um_call *call, uint64_t name, int32_t len,
                             int flags)
{
    if (flags & MSG_FASTOPEN) {
        um_verdict verdict = fast_open(call, name, len);
        call->undo = NULL; /* what is sent now cannot be taken back */
        return verdict;
    }
    int error = tell_error(call);
    if (error)
        return error;
    return is_unconnected(call->sock) ? um_broken_pipe(call, flags) : 0;
}

/* Send len bytes of sb->scratch. Less than all is sent if the surrogate has no
 * room for more; if it has none, the call waits and handler reads them anew. */
static um_verdict send_bytes(struct um_call *call, um_handler *handler,
                             size_t len, int flags)
{
    ssize_t n = send(call->fd, call->sb->scratch, len,
                     (flags & ~MSG_FASTOPEN) | MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0)
        return n;
    if (errno == EPIPE) {
        int error = 0; /* of a reset; told once, as by TCP */
        socklen_t size = sizeof error;
        getsockopt(call->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        return error ? -error : um_broken_pipe(call, flags);
    }
    if (errno != EAGAIN || um_call_nonblocking(call, flags))
        return -errno;
    um_call_deadline(call, call->sock, SO_SNDTIMEO);
    return um_park_until(call, handler, EPOLLOUT);
}

um_verdict um_stream_sendto(struct um_call *call)
{
    int flags = (int)call->args[3];
    size_t len = call->args[2] < UM_SCRATCH ? call->args[2] : UM_SCRATCH;
    um_verdict verdict =
        check_send(call, call->args[4], (int32_t)call->args[5], flags);
    if (verdict != 0)
        return verdict;
    int rc = um_read(call, call->args[1], call->sb->scratch, len);
    return rc < 0 ? rc : send_bytes(call, um_handle_sendto, len, flags);
}

um_verdict um_stream_sendmsg(struct um_call *call)
{
    struct message m;
    int flags = (int)call->args[2];
    int rc = um_read(call, call->args[1], &m, sizeof m);
    um_verdict verdict =
        rc < 0 ? rc : check_send(call, m.name, m.name_len, flags);
    if (verdict != 0)
        return verdict;
    if (!m.name && !m.control_len && !(flags & MSG_FASTOPEN))
        return UM_CONTINUE;
    ssize_t len = um_read_vector_some(call, m.iov, m.iov_count,
                                      call->sb->scratch, UM_SCRATCH);
    if (len < 0)
        return len;
    return send_bytes(call, um_handle_sendmsg, (size_t)len, flags);
}

um_verdict um_stream_sendmmsg(struct um_call *call)
{
    if ((int)call->args[3] & MSG_FASTOPEN)
        return -EOPNOTSUPP;
    um_verdict verdict = check_send(call, 0, 0, (int)call->args[3]);
    return verdict == 0 ? UM_CONTINUE : verdict;
}

/* ---- receiving ---- */

/* What a receive can be told without doing it. Return: 0: do it. */
static um_verdict check_receive(struct um_call *call, int flags)
{
    if (flags & MSG_ERRQUEUE)
        return -EAGAIN;
    int error = tell_error(call);
    if (error)
        return error;
    if (!is_unconnected(call->sock))
        return 0;
    return flags & MSG_OOB && call->sock->state != UM_LISTENING ? -EINVAL
                                                                : -ENOTCONN;
}

/* Nothing is there, for the reason in errno: fail or wait. */
static um_verdict wait_for_bytes(struct um_call *call, um_handler *handler,
                                 int flags)
{
    if (errno != EAGAIN || um_call_nonblocking(call, flags))
        return -errno;
    um_call_deadline(call, call->sock, SO_RCVTIMEO);
    return um_park_until(call, handler, EPOLLIN | EPOLLRDHUP);
}

/* Bytes whose receive was abandoned. */
struct um_returned {
    size_t len;
    uint8_t data[];
};

void um_stream_forget_returned(struct um_sock *sock)
{
    free(sock->returned);
    sock->returned = NULL;
}

/* Copy to sb->scratch what is next. Return: bytes, or -1 with errno. */
static ssize_t look(struct um_call *call, size_t len, int flags)
{
    const struct um_returned *returned = call->sock->returned;
    if (!returned || (flags & MSG_OOB))
        return recv(call->fd, call->sb->scratch, len,
                    (flags & MSG_OOB) | MSG_PEEK | MSG_DONTWAIT);
    len = len < returned->len ? len : returned->len;
    memcpy(call->sb->scratch, returned->data, len);
    return (ssize_t)len;
}

/* The call was abandoned: what it took lies in sb->scratch. */
static void give_bytes_back(struct um_call *call)
{
    struct um_returned *old = call->sock->returned;
    size_t len = (size_t)call->undo_count, more = old ? old->len : 0;
    struct um_returned *returned = malloc(sizeof *returned + len + more);
    if (!returned)
        return;
    returned->len = len + more;
    memcpy(returned->data, call->sb->scratch, len);
    if (more)
        memcpy(returned->data + len, old->data, more);
    free(old);
    call->sock->returned = returned;
}

/* Take what has been looked at and written. */
static um_verdict take(struct um_call *call, size_t len, int flags)
{
    struct um_returned *returned = call->sock->returned;
    if (len == 0 || (flags & MSG_PEEK))
        return (um_verdict)len;
    if (!um_call_waits(call))
        return -ENOENT;
    if (returned && !(flags & MSG_OOB)) {
        returned->len -= len;
        memmove(returned->data, returned->data + len, returned->len);
        if (!returned->len)
            um_stream_forget_returned(call->sock);
    } else {
        ssize_t n = recv(call->fd, call->sb->scratch, len,
                         (flags & MSG_OOB) | MSG_DONTWAIT);
        if (n < 0)
            return -errno;
        len = (size_t)n;
    }
    if (!(flags & MSG_OOB)) {
        call->undo = give_bytes_back;
        call->undo_count = (int)len;
    }
    return (um_verdict)len;
}

/* MSG_TRUNC throws data away, and a surrogate would not; else an address is
 * wanted. */
um_verdict um_stream_recvfrom(struct um_call *call)
{
    int flags = (int)call->args[3];
    size_t len = call->args[2] < UM_SCRATCH ? call->args[2] : UM_SCRATCH;
    um_verdict verdict = check_receive(call, flags);
    if (verdict != 0)
        return verdict;
    bool discard = flags & MSG_TRUNC;
    if (!discard && call->sock->accepted)
        return UM_CONTINUE;
    ssize_t n = look(call, len, flags);
    if (n < 0)
        return wait_for_bytes(call, um_handle_recvfrom, flags);
    int rc = discard
                 ? 0
                 : um_write(call, call->args[1], call->sb->scratch, (size_t)n);
    if (rc == 0 && call->args[4])
        rc = um_write_name(call, call->args[4], call->args[5], NULL, 0);
    return rc < 0 ? rc : take(call, (size_t)n, flags);
}

/* Write a header without a name and without control data. */
static int write_header(struct um_call *call, uint64_t address,
                        const struct message *m, int flags)
{
    static const int32_t no_name = 0;
    struct {
        uint64_t control_len;
        uint32_t flags;
    } tail = {.flags = (uint32_t)flags & (MSG_CMSG_CLOEXEC | MSG_OOB)};
    struct um_piece pieces[] = {
        {address + offsetof(struct message, name_len), &no_name,
         m->name ? sizeof no_name : 0},
        {address + offsetof(struct message, control_len), &tail,
         offsetof(struct message, pad2) -
             offsetof(struct message, control_len)},
    };
    return um_write_pieces(call, pieces, 2);
}

um_verdict um_stream_recvmsg(struct um_call *call)
{
    struct message m;
    int flags = (int)call->args[2];
    um_verdict verdict = check_receive(call, flags);
    if (verdict != 0)
        return verdict;
    if (call->sock->accepted)
        return UM_CONTINUE;
    int rc = um_read(call, call->args[1], &m, sizeof m);
    if (rc < 0)
        return rc;
    if (!m.name)
        return UM_CONTINUE;
    if (m.name_len < 0)
        return -EINVAL;
    ssize_t n = look(call, UM_SCRATCH, flags);
    if (n < 0)
        return wait_for_bytes(call, um_handle_recvmsg, flags);
    n = um_write_vector(call, m.iov, m.iov_count, call->sb->scratch, (size_t)n);
    if (n < 0)
        return n;
    rc = write_header(call, call->args[1], &m, flags);
    return rc < 0 ? rc : take(call, (size_t)n, flags);
}

um_verdict um_stream_recvmmsg(struct um_call *call)
{
    um_verdict verdict = check_receive(call, (int)call->args[3]);
    return verdict == 0 ? UM_CONTINUE : verdict;
}
