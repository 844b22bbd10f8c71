/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * uplink.h - nat0 of a view inside another: out through the other's stack
 */
#ifndef UM_UPLINK_H
#define UM_UPLINK_H

#include "dgram.h"

/* Where what nat0 lets out comes to an end. */
struct um_way {
    int road;               /* of `stack`, or a negative errno */
    struct um_stack *stack; /* the last one: of the enclosing views, or own */
    struct um_name dest; /* as that stack knows it; UM_ROAD_RELAY: the host */
    uint8_t source[16];  /* the address of that stack that it comes from */
};

/* Follow what goes out to dest by nat0 of the stack (its maps have been asked). */
void um_uplink_way(struct um_stack *stack, int protocol,
                   const struct um_name *dest, struct um_way *ret);
/* The socket of way->stack that stands for sock there: made with the first use,
 * for a stream anew each time. Return: NULL without memory or ports. */
struct um_sock *um_uplink_sock(struct um_sock *sock, const struct um_way *way);
/* Forget all that stand for it. */
void um_uplink_forget(struct um_switchboard *sb, struct um_sock *sock);
/* Something has come for an `outer` that stands for another: give it the names
 * that the inner view knows. Return: who gets it; NULL: nobody. */
struct um_sock *um_uplink_inward(const struct um_sock *outer,
                                 struct um_name *from, uint8_t to[16]);

#endif
