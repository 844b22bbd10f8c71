/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * trace.h - the moments of a call that `umview --trace` looks at
 *
 * call->trace is NULL where nothing is traced; whoever calls one of these has
 * looked at it, so that this costs one branch then.
 */
#ifndef UM_TRACE_H
#define UM_TRACE_H

#include "um.h"

/* The call has come: sets call->trace (not without memory). */
void um_trace_begin(struct um_call *call);
/* um_identify() has found its socket. */
void um_trace_socket(struct um_call *call);
/* It makes a socket of this stack. */
void um_trace_stack(struct um_call *call, const struct um_stack *stack);
/* The outputs are written, the answer will be this verdict. The first time
 * counts. */
void um_trace_look(struct um_call *call, um_verdict verdict);
/* The descriptor that an answer of um_answer_fd() returns. */
void um_trace_given(struct um_call *call, int number);
/* The answer was taken: frees call->trace, as does the next one. */
void um_trace_end(struct um_call *call, um_verdict verdict);
/* Nobody waits for an answer any more. */
void um_trace_abandon(struct um_call *call);

#endif
