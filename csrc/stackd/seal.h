/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * seal.h - give up what a stack server does not need
 */
#ifndef UM_SEAL_H
#define UM_SEAL_H

/* For good. Return: 0, or a negative errno, with which nothing may go on. */
int um_seal(void);

#endif
