/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * check_seal.c - what a sealed process cannot do, tried out
 *
 * Arguments would do where the call is allowed: only the seal says EPERM here.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../csrc/stackd/seal.h"

enum { NULL_FD = 9, SOCKET_FD = 10 };

struct attempt {
    const char *name;
    long number, a, b, c, d;
};

#define P(text) ((long)(text))

static char path[] = "/dev/null";
static char *arguments[] = {path, NULL};
static int pair[2];

static const struct attempt forbidden[] = {
    {"openat", SYS_openat, AT_FDCWD, P(path), O_RDONLY, 0},
    {"openat2", SYS_openat2, AT_FDCWD, P(path), 0, 0},
    {"memfd_create", SYS_memfd_create, P("x"), 0, 0, 0},
    {"socket", SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0},
    {"socket of the host", SYS_socket, AF_INET, SOCK_STREAM, 0, 0},
    {"socketpair", SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, P(pair)},
    {"pipe2", SYS_pipe2, P(pair), 0, 0, 0},
    {"connect", SYS_connect, SOCKET_FD, P("\1\0/x"), 5, 0},
    {"bind", SYS_bind, SOCKET_FD, P("\1\0/x"), 5, 0},
    {"listen", SYS_listen, SOCKET_FD, 1, 0, 0},
    {"accept4", SYS_accept4, SOCKET_FD, 0, 0, 0},
    {"ioctl", SYS_ioctl, SOCKET_FD, 0x8933, P(path), 0},
    {"execve", SYS_execve, P("/bin/true"), P(arguments), P(arguments + 1), 0},
    {"clone", SYS_clone, SIGCHLD, 0, 0, 0},
    {"clone3", SYS_clone3, 0, 0, 0, 0},
    {"kill", SYS_kill, 1, 0, 0, 0},
    {"ptrace", SYS_ptrace, 0, 0, 0, 0},
    {"process_vm_readv", SYS_process_vm_readv, 1, 0, 0, 0},
    {"pidfd_open", SYS_pidfd_open, 1, 0, 0, 0},
    {"pidfd_getfd", SYS_pidfd_getfd, 0, 0, 0, 0},
    {"unlink", SYS_unlinkat, AT_FDCWD, P("/nosuch/x"), 0, 0},
    {"mkdirat", SYS_mkdirat, AT_FDCWD, P("/nosuch/x"), 0700, 0},
    {"stat", SYS_newfstatat, AT_FDCWD, P(path), P(path), 0},
    {"chmod", SYS_fchmodat, AT_FDCWD, P("/nosuch/x"), 0700, 0},
    {"setuid", SYS_setuid, 65534, 0, 0, 0},
    {"unshare", SYS_unshare, 0, 0, 0, 0},
    {"prctl", SYS_prctl, 3, 0, 0, 0},
    {"seccomp", SYS_seccomp, 2, 0, P(pair), 0},
    {"bpf", SYS_bpf, 0, 0, 0, 0},
    {"io_uring_setup", SYS_io_uring_setup, 1, 0, 0, 0},
    {"mprotect", SYS_mprotect, 0, 0, 0, 0},
    {"code", SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC,
     MAP_PRIVATE | MAP_ANONYMOUS},
};

int main(void)
{
    int wrong = 0, fd = open(path, O_WRONLY);
    if (dup2(fd, NULL_FD) < 0 ||
        dup2(socket(AF_UNIX, SOCK_STREAM, 0), SOCKET_FD) < 0 || um_seal() < 0)
        return 2;
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        const struct attempt *a = &forbidden[i];
        errno = 0;
        if (syscall(a->number, a->a, a->b, a->c, a->d, -1, 0) != -1 ||
            errno != EPERM) {
            fprintf(stderr, "%s: errno %d\n", a->name, errno);
            wrong = 1;
        }
    }
    if (write(NULL_FD, path, 1) != 1)
        wrong = 1;
    return wrong;
}
