/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * messages.h - between messages.c and stream_io.c
 */
#ifndef UM_MESSAGES_H
#define UM_MESSAGES_H

#include "um.h"

/* struct msghdr as it lies in a program. */
struct message {
    uint64_t name;
    int32_t name_len;
    uint32_t pad1;
    uint64_t iov;
    uint64_t iov_count;
    uint64_t control;
    uint64_t control_len;
    uint32_t flags;
    uint32_t pad2;
};

/* struct mmsghdr. */
struct message_slot {
    struct message message;
    uint32_t len;
    uint32_t pad;
};

_Static_assert(sizeof(struct message) == 56, "struct msghdr");
_Static_assert(sizeof(struct message_slot) == 64, "struct mmsghdr");

/* Linux signals the thread that writes to what is closed. Return: -EPIPE. */
um_verdict um_broken_pipe(struct um_call *call, int flags);

/* ---- stream_io.c ---- */

um_handler um_stream_sendto, um_stream_sendmsg, um_stream_sendmmsg,
    um_stream_recvfrom, um_stream_recvmsg, um_stream_recvmmsg;

#endif
