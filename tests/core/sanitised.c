/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * sanitised.c - what the program needs besides, where it has address and undefined
 * checks built in
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

PUBLIC void *dlopen(const char *file, int mode);
PUBLIC const char *__asan_default_options(void);
PUBLIC const char *__ubsan_default_options(void);

/* libvdeplug loads its plug-ins with RTLD_DEEPBIND, with which they would find
 * another malloc(); the address sanitiser refuses it. */
void *dlopen(const char *file, int mode)
{
    void *(*next)(const char *, int) =
        (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    return next(file, mode & ~RTLD_DEEPBIND);
}

/* The leak check traces the process, which a seal forbids. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

const char *__ubsan_default_options(void)
{
    return "print_stacktrace=1";
}

/* A sealed process cannot open a file to report to, so it is opened before. */
__attribute__((constructor)) static void open_report(void)
{
    char path[4096];
    const char *folder = getenv("UMVIEW_REPORTS");
    if (!folder)
        return;
    snprintf(path, sizeof path, "%s/%d", folder, (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd >= 0)
        dup2(fd, 2);
    if (fd > 2)
        close(fd);
}
