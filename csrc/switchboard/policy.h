/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * policy.h - what handlers ask and tell policies
 *
 * Where no policy is set a question costs the test of a bit.
 */
#ifndef UM_POLICY_H
#define UM_POLICY_H

#include "dgram.h"

/* Of um_policy_ask(): the call may go on. No handler returns this. */
#define UM_ALLOWED (INT64_MIN + 3)

um_verdict um_policy_ask_anew(struct um_call *call, uint32_t deed,
                              const struct um_name *local,
                              const struct um_name *remote);

/* Before call->sock does what it is asked: is it allowed? local: its name, or the
 * one that it is to get; remote: the peer's, or NULL. Return: UM_ALLOWED; else a
 * verdict (it is parked and comes here again; or it is denied). */
static inline um_verdict um_policy_ask(struct um_call *call, uint32_t deed,
                                       const struct um_name *local,
                                       const struct um_name *remote)
{
    return call->sock->stack->deeds & deed
               ? um_policy_ask_anew(call, deed, local, remote)
               : UM_ALLOWED;
}

/* The same before it sends a datagram: a peer that may be sent to may answer. */
static inline um_verdict um_policy_ask_send(struct um_call *call,
                                            const struct um_name *to)
{
    return call->sock->stack->deeds & (UM_DEED_SEND | UM_DEED_RECEIVE)
               ? um_policy_ask_anew(call, UM_DEED_SEND, &call->sock->local, to)
               : UM_ALLOWED;
}

/* Does a datagram that has come wait for its question? It is copied then. */
bool um_policy_holds(struct um_switchboard *sb, struct um_sock *sock,
                     const struct um_arrival *arrival, const void *data);

/* Tell what has come of a socket. error: an errno > 0, of UM_DEED_FAILED. */
void um_policy_tell(struct um_switchboard *sb, struct um_sock *sock,
                    uint32_t deed, int error);
static inline void um_policy_note(struct um_switchboard *sb,
                                  struct um_sock *sock, uint32_t deed,
                                  int error)
{
    if (sock->stack->deeds & deed)
        um_policy_tell(sb, sock, deed, error);
}
/* Its connection is over: told once. */
void um_policy_told_end(struct um_switchboard *sb, struct um_sock *sock);

/* When sockets are to be looked at whether they have ended; -1: never. */
int64_t um_policy_due_ms(const struct um_switchboard *sb);
bool um_policy_is_due(struct um_switchboard *sb);
/* All are over. */
void um_policy_tell_all(struct um_switchboard *sb);

void um_policed_destroy(struct um_sock *sock);
/* Have policies a say in the caller's view? */
bool um_is_policed(struct um_call *call);

/* The answers, by python.c. */
void um_policy_answered(struct um_parked *parked, int error);
void um_policy_release(struct um_switchboard *sb, uint64_t cookie,
                       const struct um_name *peer, int error);

#endif
