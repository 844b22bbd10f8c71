/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * gates.c - make system calls by the other gates of an x86-64 kernel
 *
 * Usage: gates i386|x32 NUMBER [ARG...]
 *
 * Prints the result (negative: an errno). socketcall(2) of i386 takes its
 * arguments from memory below 4 GiB: ARG "=A,B,C" is put there.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define X32 0x40000000L

static long i386_call(long nr, const long args[5])
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(nr), "b"(args[0]), "c"(args[1]), "d"(args[2]),
                       "S"(args[3]), "D"(args[4])
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static long x32_call(long nr, const long args[5])
{
    long result;
    register long r10 __asm__("r10") = args[3];
    register long r8 __asm__("r8") = args[4];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr | X32), "D"(args[0]), "S"(args[1]), "d"(args[2]),
                       "r"(r10), "r"(r8)
                     : "memory", "rcx", "r11");
    return result;
}

/* Put "=A,B,C" where 32 bits reach, and return the address. */
static long put_low(char *text)
{
    uint32_t *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    char *rest = NULL;
    size_t count = 0;
    if (low == MAP_FAILED)
        exit(3);
    for (char *word = strtok_r(text + 1, ",", &rest); word;
         word = strtok_r(NULL, ",", &rest))
        low[count++] = (uint32_t)strtol(word, NULL, 0);
    return (long)(uintptr_t)low;
}

int main(int argc, char **argv)
{
    long args[5] = {0}, nr;
    if (argc < 3 || argc > 8)
        return 2;
    nr = strtol(argv[2], NULL, 0);
    for (int i = 3; i < argc; i++)
        args[i - 3] =
            argv[i][0] == '=' ? put_low(argv[i]) : strtol(argv[i], NULL, 0);
    printf("%ld\n",
           strcmp(argv[1], "x32") ? i386_call(nr, args) : x32_call(nr, args));
    return 0;
}
