/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * python.h - the two queues between the switchboard and Python
 */
#ifndef UM_PYTHON_H
#define UM_PYTHON_H

struct um_python;

struct um_python *um_python_create(void);
void um_python_destroy(struct um_python *python);

#endif
