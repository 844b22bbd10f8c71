/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cc.h - what lwIP wants to know of the compiler and of its surroundings
 */
#ifndef UM_STACKD_CC_H
#define UM_STACKD_CC_H

#include <stdint.h>
#include <stdlib.h>

/* port.c */
uint32_t um_random(void);
uint16_t um_checksum(const void *data, int len);
_Noreturn void um_stackd_defect(const char *what, const char *file, int line);

#define LWIP_RAND()           um_random()
#define LWIP_CHKSUM           um_checksum
#define LWIP_NO_CTYPE_H       0
#define LWIP_PLATFORM_DIAG(x) ((void)0)
/* A broken invariant: the process ends, and with it one stack. */
#define LWIP_PLATFORM_ASSERT(x) um_stackd_defect(x, __FILE__, __LINE__)
#define LWIP_ERRNO_STDINCLUDE   1

#endif
