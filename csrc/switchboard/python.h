/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * python.h - the two queues between the switchboard and Python
 */
#ifndef UM_PYTHON_H
#define UM_PYTHON_H

#include "um.h"

struct um_python;

struct um_python *um_python_create(void);
void um_python_destroy(struct um_python *python);
/* For Python's thread: let the thread of the loop do something, and wait for its
 * end; without such a thread yet, do it at once. Return: what it returns. */
int um_python_run(struct um_switchboard *sb,
                  int (*fn)(struct um_switchboard *sb, void *arg), void *arg);

#endif
