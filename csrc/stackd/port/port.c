/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * port.c - random numbers, checksums and assertions for lwIP
 *
 * Its clock, sys_now(), is that of the program: main.c has the real one, the
 * tests one that they move by hand.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "arch/cc.h"

/* Port numbers, sequence numbers, transaction ids: not to be guessed. */
uint32_t um_random(void)
{
    static uint32_t pool[64];
    static unsigned int left;
    if (left == 0) {
        if (getrandom(pool, sizeof pool, 0) != (ssize_t)sizeof pool)
            um_stackd_defect("no random numbers", __FILE__, __LINE__);
        left = sizeof pool / sizeof *pool;
    }
    return pool[--left];
}

/* RFC 1071, 8 bytes at a time: the sum of one's complement does not depend on
 * the width in which it is taken, nor on the byte order. */
uint16_t um_checksum(const void *data, int len)
{
    const uint8_t *at = data;
    size_t left = (size_t)len;
    uint64_t sum = 0, high = 0;
    /* Two sums of 32-bit halves cannot overflow within 2^32 words. */
    for (; left >= 8; at += 8, left -= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        sum += word & 0xffffffff;
        high += word >> 32;
    }
    uint64_t tail = 0;
    memcpy(&tail, at, left);
    sum += high + (tail & 0xffffffff) + (tail >> 32);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

void um_stackd_defect(const char *what, const char *file, int line)
{
    fprintf(stderr, "umview: stack server: %s (%s:%d)\n", what, file, line);
    abort();
}
