/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * talk.c - hold sockets on many stacks at once, and talk over all of them
 *
 * Usage: talk STACK ADDRESS PORT [STACK ADDRESS PORT]...
 *
 * Connects one socket on each stack, waits for all by one poll(2), says "hello"
 * on each when all are there, and prints own address and answer in the order of
 * the arguments. A child of fork(2) reads the answers of every second one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <umview/msocket.h>

#define MOST 8

static struct pollfd all[MOST];

static void check(int is_well, const char *what)
{
    if (!is_well) {
        fprintf(stderr, "%s: %s %s\n", what, strerror(errno),
                umview_msocket_error());
        exit(1);
    }
}

/* Wait until each has what it waits for; call that for each. */
static void each(int count, short events, void (*then)(int))
{
    struct pollfd left[MOST];
    for (int i = 0; i < count; i++)
        left[i] = (struct pollfd){.fd = all[i].fd, .events = events};
    for (int done = 0; done < count;) {
        check(poll(left, (nfds_t)count, 60000) > 0, "poll");
        for (int i = 0; i < count; i++)
            if (left[i].fd >= 0 && left[i].revents) {
                then(i);
                left[i].fd = -1;
                done++;
            }
    }
}

static void connected(int i)
{
    int error = 0;
    socklen_t len = sizeof error;
    check(getsockopt(all[i].fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0,
          "SO_ERROR");
    errno = error;
    check(error == 0, "connect");
}

static char answers[MOST][64];

static void answered(int i)
{
    check(read(all[i].fd, answers[i], sizeof answers[i] - 1) > 0, "read");
}

static void show(int i)
{
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    char text[INET_ADDRSTRLEN];
    check(getsockname(all[i].fd, (struct sockaddr *)&own, &len) == 0, "name");
    printf("%s %s", inet_ntop(AF_INET, &own.sin_addr, text, sizeof text),
           answers[i]);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int count = (argc - 1) / 3;
    for (int i = 0; i < count; i++) {
        char **words = argv + 1 + 3 * i;
        struct sockaddr_in to = {.sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)atoi(words[2]))};
        inet_pton(AF_INET, words[1], &to.sin_addr);
        all[i].fd = msocket(words[0], AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        check(all[i].fd >= 0, "msocket");
        check(connect(all[i].fd, (struct sockaddr *)&to, sizeof to) == 0 ||
                  errno == EINPROGRESS,
              "connect");
    }
    each(count, POLLOUT, connected);
    for (int i = 0; i < count; i++)
        check(write(all[i].fd, "hello\n", 6) == 6, "write");
    each(count, POLLIN, answered);
    for (int i = 0; i < count; i++) {
        pid_t pid = i % 2 ? fork() : 0;
        check(pid >= 0, "fork");
        if (pid == 0)
            show(i);
        if (i % 2 && pid == 0)
            _exit(0);
        check(pid == 0 || waitpid(pid, NULL, 0) == pid, "wait");
    }
    return 0;
}
