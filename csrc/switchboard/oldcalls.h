/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * oldcalls.h - numbers of calls that not every architecture or header has
 *
 * A call that an architecture lacks has the number -1, which none has.
 */
#ifndef UM_OLDCALLS_H
#define UM_OLDCALLS_H

#include <sys/syscall.h>

#ifndef __NR_open
#define __NR_open     (-1)
#define __NR_stat     (-1)
#define __NR_lstat    (-1)
#define __NR_access   (-1)
#define __NR_readlink (-1)
#define __NR_chmod    (-1)
#define __NR_chown    (-1)
#define __NR_lchown   (-1)
#endif
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

#endif
