/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * loop.h - between notify.c and the loop in switchboard.c
 */
#ifndef UM_LOOP_H
#define UM_LOOP_H

#include "um.h"

/* Run what um_wake() has asked for. */
void um_run_wakes(struct um_switchboard *sb);
/* How long the loop may sleep for the sake of parked calls; -1: for ever. */
int um_parked_timeout_ms(struct um_switchboard *sb);
/* End parked calls whose time is over; look for stale ones. */
void um_parked_tick(struct um_switchboard *sb);
void um_parked_drop_all(struct um_switchboard *sb);
/* identify.c: the descriptors of threads */
void um_pidfds_init(struct um_switchboard *sb);
void um_pidfds_close(struct um_switchboard *sb);

#endif
