/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * proxy.c - lead a port of one stack to a host of another
 *
 *     cc -o proxy proxy.c $(python3 -m umview.config --cflags --libs)
 *     proxy INSIDE PORT OUTSIDE ADDRESS HOSTPORT
 *
 * As proxy.py, with a process for each connection: it holds a socket of either
 * stack and copies what comes from the one to the other.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <umview/msocket.h>

static int stream_on(const char *stack)
{
    int fd = msocket(stack, AF_INET, SOCK_STREAM, 0);
    if (fd < 0) {
        fprintf(stderr, "proxy: %s\n", umview_msocket_error());
        exit(1);
    }
    return fd;
}

static struct sockaddr_in name_of(const char *address, const char *port)
{
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1) {
        fprintf(stderr, "proxy: %s is no IPv4 address\n", address);
        exit(1);
    }
    return name;
}

/* Copy what there is. Return: whether there may be more. */
static bool copy(int from, int to)
{
    char data[1 << 16];
    ssize_t len = read(from, data, sizeof data);
    for (ssize_t sent = 0, n; sent < len; sent += n)
        if ((n = write(to, data + sent, (size_t)(len - sent))) <= 0)
            return false;
    if (len <= 0)
        shutdown(to, SHUT_WR);
    return len > 0;
}

/* Copy both ways until both have ended. */
static void join(int inside, int outside)
{
    struct pollfd ends[] = {{.fd = inside, .events = POLLIN},
                            {.fd = outside, .events = POLLIN}};
    while ((ends[0].fd >= 0 || ends[1].fd >= 0) && poll(ends, 2, -1) > 0)
        for (int i = 0; i < 2; i++)
            if (ends[i].revents && !copy(ends[i].fd, i == 0 ? outside : inside))
                ends[i].fd = -1;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: %s INSIDE PORT OUTSIDE ADDRESS HOSTPORT\n",
                argv[0]);
        return 1;
    }
    struct sockaddr_in own = name_of("0.0.0.0", argv[2]);
    struct sockaddr_in host = name_of(argv[4], argv[5]);
    int listener = stream_on(argv[1]), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) != 0 ||
        listen(listener, SOMAXCONN) != 0) {
        perror("proxy");
        return 1;
    }
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    printf("%s port %s leads to %s by %s\n", argv[1], argv[2], argv[4],
           argv[3]);
    fflush(stdout);
    for (;;) {
        int inside = accept(listener, NULL, NULL);
        if (inside >= 0 && fork() == 0) {
            int outside = stream_on(argv[3]);
            if (connect(outside, (struct sockaddr *)&host, sizeof host) != 0) {
                perror("proxy: connect");
                _exit(1);
            }
            join(inside, outside);
            _exit(0);
        }
        close(inside);
    }
}
