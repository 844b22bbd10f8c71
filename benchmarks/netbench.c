/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * netbench.c - the programs that `make bench` measures
 *
 * Everything that is timed is in here, so that what is measured is system calls
 * and not an interpreter. One run measures one thing for a given time and prints
 * one number; benchmarks/run.py starts it natively and in views, in turn.
 * Four choices need a reason:
 * (1) A server binds port 0 and says which port it got: connections of an earlier
 *     run that are in TIME_WAIT make every later run on the same port slower,
 *     natively too.
 * (2) The address "self" forks the server into the same view as the client; any
 *     other address is that of a server that run.py started on the host.
 * (3) A sender's clock stops when the receiver has read the last byte (half close,
 *     then wait for its close), because bytes in buffers have not travelled.
 * (4) What is repeated counts in its quickest slice of 20 ms, and a compiler in its
 *     quickest run: whatever else the machine does only adds.
 * An alarm ends a run that hangs, and a server dies with whoever started it.
 *
 *     netbench serve KIND [ADDRESS]           KIND: echo, sink, source, udp
 *     netbench up|down ADDRESS PORT STREAMS SECONDS    prints Gbit/s, bytes
 *     netbench connect ADDRESS PORT SECONDS                  connections a second
 *     netbench tcp|udp ADDRESS PORT SECONDS                  us a round trip
 *     netbench getpid|unixmsg SECONDS                        ns, us a turn
 *     netbench open SECONDS FILE                             us a turn
 *     netbench spawn SECONDS COMMAND [ARGUMENT...]           ms a run, silent
 *     netbench idle                           says "ready", ends with its input
 *     netbench paused WHAT...  says "ready"; a line of input starts it, and the end
 *                              of the input ends it, so that what it cost is seen
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define BLOCK_SIZE    (128 * 1024) /* what iperf3 writes at a time */
#define MESSAGE_SIZE  64
#define SLICE_SECONDS 0.02
#define BATCH         100 /* turns between two looks at the clock */
#define MAX_STREAMS   16
#define LOOPBACK      "127.0.0.1"
#define HANG_SECONDS  5 /* beyond its own time a run is given up */

typedef void serve_fn(int fd);
typedef void turn_fn(void *arg);

struct server {
    const char *kind;
    int type; /* SOCK_STREAM or SOCK_DGRAM */
    serve_fn *serve;
};

struct stream {
    pthread_t thread;
    int fd;
    double deadline;
    size_t moved; /* bytes */
};

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "netbench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void check(bool good, const char *what)
{
    if (!good)
        fail(what);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- servers ---- */

static void serve_echo(int listener)
{
    char block[MESSAGE_SIZE];

    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        check(fd >= 0, "accept4");
        ssize_t n;
        while ((n = recv(fd, block, sizeof block, 0)) > 0)
            if (send(fd, block, (size_t)n, MSG_NOSIGNAL) != n)
                break;
        close(fd);
    }
}

static void *sink_one(void *arg)
{
    int fd = (int)(long)arg;
    static _Thread_local char block[BLOCK_SIZE];

    while (recv(fd, block, sizeof block, 0) > 0)
        ;
    close(fd);
    return NULL;
}

static void *source_one(void *arg)
{
    int fd = (int)(long)arg;
    static _Thread_local char block[BLOCK_SIZE];

    while (send(fd, block, sizeof block, MSG_NOSIGNAL) > 0)
        ;
    close(fd);
    return NULL;
}

static void serve_threads(int listener, void *(*one)(void *))
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        pthread_t thread;
        check(fd >= 0, "accept4");
        errno = pthread_create(&thread, NULL, one, (void *)(long)fd);
        check(errno == 0, "pthread_create");
        pthread_detach(thread);
    }
}

static void serve_sink(int listener)
{
    serve_threads(listener, sink_one);
}

static void serve_source(int listener)
{
    serve_threads(listener, source_one);
}

static void serve_udp(int fd)
{
    char block[MESSAGE_SIZE];
    struct sockaddr_in from;

    for (;;) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, block, sizeof block, 0,
                             (struct sockaddr *)&from, &len);
        check(n >= 0, "recvfrom");
        check(sendto(fd, block, (size_t)n, 0, (struct sockaddr *)&from, len) ==
                  n,
              "sendto");
    }
}

static const struct server servers[] = {
    {"echo", SOCK_STREAM, serve_echo},
    {"sink", SOCK_STREAM, serve_sink},
    {"source", SOCK_STREAM, serve_source},
    {"udp", SOCK_DGRAM, serve_udp},
};

static const struct server *find_server(const char *kind)
{
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++)
        if (!strcmp(servers[i].kind, kind))
            return &servers[i];
    errno = EINVAL;
    fail(kind);
}

/* Bind server's socket to a fresh port of an address, and write where into *at.
 *
 * Return: the socket, owned by the caller.
 */
static int bind_server(const struct server *server, const char *address,
                       struct sockaddr_in *at)
{
    int fd = socket(AF_INET, server->type | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *at;

    check(fd >= 0, "socket");
    *at = (struct sockaddr_in){.sin_family = AF_INET};
    errno = EINVAL;
    check(inet_pton(AF_INET, address, &at->sin_addr) == 1, address);
    check(!bind(fd, (struct sockaddr *)at, sizeof *at), "bind");
    check(!getsockname(fd, (struct sockaddr *)at, &len), "getsockname");
    if (server->type == SOCK_STREAM)
        check(!listen(fd, 128), "listen");
    return fd;
}

static pid_t forked_server; /* of "self"; a global because atexit() wants it */

static void end_forked_server(void)
{
    if (forked_server > 0) {
        kill(forked_server, SIGKILL);
        waitpid(forked_server, NULL, 0);
    }
}

static void fork_server(const char *kind, struct sockaddr_in *at)
{
    const struct server *server = find_server(kind);
    int fd = bind_server(server, LOOPBACK, at);
    pid_t parent = getpid();
    pid_t pid = fork();

    check(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it died before the line above */
            _exit(1);
        server->serve(fd);
    }
    close(fd);
    forked_server = pid;
    atexit(end_forked_server);
}

/* ---- clients ---- */

/* Find the server of a client's command line, forking it for "self". */
static struct sockaddr_in resolve(char **argv, const char *kind)
{
    struct sockaddr_in at = {.sin_family = AF_INET};

    if (!strcmp(argv[0], "self")) {
        fork_server(kind, &at);
    } else {
        errno = EINVAL;
        check(inet_pton(AF_INET, argv[0], &at.sin_addr) == 1, argv[0]);
        at.sin_port = htons((in_port_t)atoi(argv[1]));
    }
    return at;
}

static int connect_to(const struct sockaddr_in *at, int type)
{
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    check(fd >= 0, "socket");
    check(!connect(fd, (const struct sockaddr *)at, sizeof *at), "connect");
    return fd;
}

/* Read the SECONDS of a command line and arm the alarm beyond it. */
static double arm(const char *seconds)
{
    double value = atof(seconds);

    alarm((unsigned)value + HANG_SECONDS);
    return value;
}

/* Repeat turn(arg) in slices for a time. batch: turns between two looks at the
 * clock. Return: seconds a turn in the quickest slice. */
static double best_turn(const char *seconds, int batch, turn_fn *turn,
                        void *arg)
{
    double end = now() + arm(seconds);
    double best = 1e9;

    do {
        double start = now();
        double took = 0;
        long turns = 0;
        for (; took < SLICE_SECONDS; took = now() - start) {
            for (int i = 0; i < batch; i++)
                turn(arg);
            turns += batch;
        }
        took /= (double)turns;
        best = took < best ? took : best;
    } while (now() < end);
    return best;
}

static void *stream_up(void *arg)
{
    struct stream *s = arg;
    static _Thread_local char block[BLOCK_SIZE];

    while (now() < s->deadline) {
        ssize_t n = send(s->fd, block, sizeof block, MSG_NOSIGNAL);
        check(n > 0, "send");
        s->moved += (size_t)n;
    }
    check(!shutdown(s->fd, SHUT_WR), "shutdown");
    check(recv(s->fd, block, sizeof block, 0) == 0, "end of stream");
    return NULL;
}

static void *stream_down(void *arg)
{
    struct stream *s = arg;
    static _Thread_local char block[BLOCK_SIZE];

    while (now() < s->deadline) {
        ssize_t n = recv(s->fd, block, sizeof block, 0);
        check(n > 0, "recv");
        s->moved += (size_t)n;
    }
    return NULL;
}

/* ADDRESS PORT STREAMS SECONDS; prints the sum over all streams, and its bytes. */
static void run_streams(char **argv, bool up)
{
    struct sockaddr_in at = resolve(argv, up ? "sink" : "source");
    struct stream streams[MAX_STREAMS] = {0};
    int count = atoi(argv[2]);
    double seconds = arm(argv[3]);
    size_t moved = 0;

    errno = EINVAL;
    check(count >= 1 && count <= MAX_STREAMS, "streams");
    for (int i = 0; i < count; i++)
        streams[i].fd = connect_to(&at, SOCK_STREAM);
    double start = now();
    for (int i = 0; i < count; i++) {
        streams[i].deadline = start + seconds;
        errno = pthread_create(&streams[i].thread, NULL,
                               up ? stream_up : stream_down, &streams[i]);
        check(errno == 0, "pthread_create");
    }
    for (int i = 0; i < count; i++) {
        pthread_join(streams[i].thread, NULL);
        moved += streams[i].moved;
    }
    printf("%.4f %zu\n", (double)moved * 8 / 1e9 / (now() - start), moved);
}

static void round_trip(int fd)
{
    char block[MESSAGE_SIZE] = {0};

    check(send(fd, block, sizeof block, MSG_NOSIGNAL) == sizeof block, "send");
    check(recv(fd, block, sizeof block, MSG_WAITALL) == sizeof block, "recv");
}

static void turn_connect(void *at)
{
    int fd = connect_to(at, SOCK_STREAM);

    round_trip(fd);
    close(fd);
}

static void run_connect(char **argv)
{
    struct sockaddr_in at = resolve(argv, "echo");

    printf("%.1f\n", 1 / best_turn(argv[2], 1, turn_connect, &at));
}

static void turn_round_trip(void *fd)
{
    round_trip(*(int *)fd);
}

static void run_round_trips(char **argv, bool tcp)
{
    struct sockaddr_in at = resolve(argv, tcp ? "echo" : "udp");
    int fd = connect_to(&at, tcp ? SOCK_STREAM : SOCK_DGRAM);

    round_trip(fd); /* the first one resolves addresses and wakes the server */
    printf("%.4f\n", best_turn(argv[2], BATCH, turn_round_trip, &fd) * 1e6);
}

/* ---- what is not the network ---- */

static void turn_getpid(void *unused)
{
    (void)unused;
    syscall(SYS_getpid); /* never the C library's idea of it */
}

static void turn_open(void *path)
{
    char block[MESSAGE_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    check(fd >= 0, path);
    check(read(fd, block, sizeof block) >= 0, "read");
    close(fd);
}

static void turn_unixmsg(void *arg)
{
    const int *pair = arg;
    char block[MESSAGE_SIZE] = {0};
    struct iovec iov = {block, sizeof block};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    check(sendmsg(pair[0], &msg, 0) == sizeof block, "sendmsg");
    check(recvmsg(pair[1], &msg, 0) == sizeof block, "recvmsg");
}

static void run_unixmsg(char **argv)
{
    int pair[2];

    check(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    printf("%.4f\n", best_turn(argv[0], BATCH, turn_unixmsg, pair) * 1e6);
}

/* SECONDS COMMAND...; prints the quickest run: what disturbs only adds to it. */
static void run_spawn(char **argv)
{
    double end = now() + arm(argv[0]);
    double best = 1e9;
    posix_spawn_file_actions_t silent;

    posix_spawn_file_actions_init(&silent);
    posix_spawn_file_actions_addopen(&silent, STDOUT_FILENO, "/dev/null",
                                     O_WRONLY, 0);
    do {
        double start = now();
        pid_t pid;
        int status = 0;
        errno = posix_spawnp(&pid, argv[1], &silent, NULL, argv + 1, environ);
        check(errno == 0, argv[1]);
        check(waitpid(pid, &status, 0) == pid, "waitpid");
        errno = ECHILD;
        check(status == 0, argv[1]);
        double took = now() - start;
        best = took < best ? took : best;
    } while (now() < end);
    printf("%.4f\n", best * 1e3);
}

static void run_serve(char **argv, int count)
{
    const struct server *server = find_server(argv[0]);
    struct sockaddr_in at;
    int fd = bind_server(server, count > 1 ? argv[1] : LOOPBACK, &at);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    server->serve(fd);
}

static void run(const char *what, char **rest, int count);

static void run_idle(void)
{
    char block[MESSAGE_SIZE];

    printf("ready\n");
    fflush(stdout);
    while (read(0, block, sizeof block) > 0)
        ;
}

static void run_paused(char **argv, int count)
{
    char block[MESSAGE_SIZE];

    printf("ready\n");
    fflush(stdout);
    check(read(0, block, sizeof block) > 0, "start");
    run(argv[0], argv + 1, count - 1);
    fflush(stdout);
    while (read(0, block, sizeof block) > 0)
        ;
}

/* Do what a command line asks for; count: of argv. */
static void run(const char *what, char **rest, int count)
{
    if (!strcmp(what, "serve") && (count == 1 || count == 2))
        run_serve(rest, count);
    else if (!strcmp(what, "up") && count == 4)
        run_streams(rest, true);
    else if (!strcmp(what, "down") && count == 4)
        run_streams(rest, false);
    else if (!strcmp(what, "connect") && count == 3)
        run_connect(rest);
    else if (!strcmp(what, "tcp") && count == 3)
        run_round_trips(rest, true);
    else if (!strcmp(what, "udp") && count == 3)
        run_round_trips(rest, false);
    else if (!strcmp(what, "getpid") && count == 1)
        printf("%.4f\n", best_turn(rest[0], BATCH, turn_getpid, NULL) * 1e9);
    else if (!strcmp(what, "unixmsg") && count == 1)
        run_unixmsg(rest);
    else if (!strcmp(what, "open") && count == 2)
        printf("%.4f\n", best_turn(rest[0], BATCH, turn_open, rest[1]) * 1e6);
    else if (!strcmp(what, "spawn") && count >= 2)
        run_spawn(rest);
    else if (!strcmp(what, "idle") && count == 0)
        run_idle();
    else if (!strcmp(what, "paused") && count >= 1)
        run_paused(rest, count);
    else {
        fprintf(stderr, "netbench: unknown command line; see netbench.c\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    run(argc > 1 ? argv[1] : "", argv + 2, argc - 2);
    return 0;
}
