"""Descriptors that are shared: dup, fork, exec, SCM_RIGHTS, threads, many acceptors."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time

from kit import (
    ADDRESSES,
    V4,
    child,
    closed_port,
    exact,
    listener,
    name_of,
    outcome,
    pair,
    polled,
    settled,
    show,
    udp,
    wait_for,
)


def case_dup_before_connect() -> None:
    for family, _ in ADDRESSES:
        server = listener(family)
        client = socket.socket(family)
        copy = client.dup()
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        show(outcome(copy.send, b"x"), accepted.recv(1), polled(copy))
        show(copy.getpeername() == client.getpeername())
        client.close()
        accepted.send(b"still")
        show(exact(copy, 5), polled(accepted))
        copy.close()
        show(accepted.recv(1))


def case_dup_before_listen() -> None:
    server = socket.socket()
    copy = server.dup()
    server.bind((V4, 0))
    show(copy.getsockname() == server.getsockname())
    copy.listen()
    client = socket.create_connection(server.getsockname())
    wait_for(server)
    show(polled(copy), server.accept()[1] == client.getsockname())


def case_fork_before_connect() -> None:
    server = listener()
    client = socket.socket()
    reader, writer = os.pipe()

    def work() -> None:
        os.read(reader, 1)
        client.send(b"from the child")

    with child(work):
        client.connect(server.getsockname())
        os.write(writer, b"x")
        accepted, _ = server.accept()
        show(exact(accepted, 14))


def case_child_connects_for_the_parent() -> None:
    server = listener()
    client = socket.socket()
    with child(lambda: client.connect(server.getsockname())):
        pass
    accepted, name = server.accept()
    show(name == client.getsockname())
    client.send(b"x")
    show(accepted.recv(1))


def case_forked_server() -> None:
    server = listener()

    def work() -> None:
        for _ in range(3):
            accepted, _ = server.accept()
            accepted.sendall(exact(accepted, 4)[::-1])
            accepted.close()

    with child(work):
        for word in (b"abcd", b"efgh", b"ijkl"):
            with socket.create_connection(server.getsockname()) as client:
                client.sendall(word)
                show(exact(client, 10))


def case_exec_inherits() -> None:
    server = listener()
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    code = (
        "import socket,sys\n"
        "s=socket.socket(fileno=int(sys.argv[1]))\n"
        "print(s.family==2, s.type==1, s.getpeername()[0]); s.sendall(b'exec')\n"
        "l=socket.socket(fileno=int(sys.argv[2])); l.listen(5); a,_=l.accept()\n"
        "a.sendall(b'accepted')\n"
    )
    fds = (accepted.fileno(), server.fileno())
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, fds)],
        pass_fds=fds,
        stdout=subprocess.PIPE,
    ) as process:
        accepted.close()
        show(exact(client, 4))
        second = socket.create_connection(server.getsockname())
        show(exact(second, 8))
        assert process.stdout is not None
        show(process.stdout.read())
    show(process.returncode, client.recv(1))


def case_close_on_exec() -> None:
    server, client, accepted = pair()
    show(subprocess.run([sys.executable, "-c", "pass"], check=False).returncode)
    accepted.close()
    show(client.recv(1), server.fileno() > 0)


def _pass(sock: socket.socket, *fds: int) -> None:
    sock.sendmsg(
        [b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    )


def _taken(sock: socket.socket) -> list[socket.socket]:
    _, control, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(4 * 4))
    fds = array.array("i")
    for _, _, data in control:
        fds.frombytes(data)
    return [socket.socket(fileno=fd) for fd in fds]


def case_pass_connected() -> None:
    near, far = socket.socketpair()
    _, client, accepted = pair()

    def work() -> None:
        (got,) = _taken(far)
        got.sendall(b"by the other process")

    with child(work):
        _pass(near, accepted.fileno())
        accepted.close()
        show(exact(client, 20))


def case_pass_fresh_and_connect_there() -> None:
    near, far = socket.socketpair()
    server = listener()
    fresh = socket.socket()

    def work() -> None:
        (got,) = _taken(far)
        got.connect(server.getsockname())
        got.sendall(b"there")

    with child(work):
        _pass(near, fresh.fileno())
        accepted, _ = server.accept()
        show(exact(accepted, 5))
    show(fresh.getpeername() == server.getsockname())
    fresh.send(b"here")
    show(exact(accepted, 4))


def case_pass_listener_and_datagram() -> None:
    near, far = socket.socketpair()
    server, datagram = listener(), udp()
    datagram.settimeout(None)

    def work() -> None:
        got, other = _taken(far)
        accepted, _ = got.accept()
        accepted.sendall(b"hello")
        data, name = other.recvfrom(10)
        other.sendto(data[::-1], name)

    with child(work):
        _pass(near, server.fileno(), datagram.fileno())
        client = socket.create_connection(server.getsockname())
        show(exact(client, 5))
        peer = udp()
        peer.sendto(b"abc", datagram.getsockname())
        show(peer.recv(10))


def case_passed_and_closed_in_flight() -> None:
    near, far = socket.socketpair()
    _, client, accepted = pair()
    _pass(near, accepted.fileno())
    accepted.close()
    client.send(b"kept")
    (got,) = _taken(far)
    show(exact(got, 4))
    _pass(near, got.fileno())
    got.close()
    near.close()
    far.close()
    show(client.recv(1))


def case_child_ends_connection_ends() -> None:
    server = listener()

    def work() -> None:
        socket.create_connection(server.getsockname()).send(b"x")

    with child(work):
        accepted, _ = server.accept()
        show(accepted.recv(1), accepted.recv(1))


def case_listener_ends_with_its_last_process() -> None:
    reader, writer = os.pipe()
    done_reader, done_writer = os.pipe()

    def work() -> None:
        server = listener()
        os.write(writer, str(server.getsockname()[1]).encode())
        os.close(done_writer)
        os.read(done_reader, 1)

    with child(work):
        port = int(os.read(reader, 10))
        socket.create_connection((V4, port)).close()
        os.close(done_writer)
    client = socket.socket()
    show(outcome(client.connect, (V4, port)))


def case_competing_threads() -> None:
    server = listener(backlog=256)
    taken: list[bytes] = []
    lock = threading.Lock()

    def accept() -> None:
        while True:
            accepted, _ = server.accept()
            data = exact(accepted, 4)
            accepted.close()
            if data == b"stop":
                return
            with lock:
                taken.append(data)

    threads = [threading.Thread(target=accept) for _ in range(16)]
    for thread in threads:
        thread.start()
    for i in range(400):
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"%04d" % i)
    for _ in threads:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"stop")
    for thread in threads:
        thread.join()
    show(len(taken), len(set(taken)))


def case_competing_processes() -> None:
    server = listener(backlog=256)
    reader, writer = os.pipe()

    def work() -> None:
        while True:
            accepted, _ = server.accept()
            data = exact(accepted, 4)
            accepted.close()
            if data == b"stop":
                return
            os.write(writer, data)

    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(child(work))
        for i in range(200):
            with socket.create_connection(server.getsockname()) as client:
                client.sendall(b"%04d" % i)
        for _ in range(8):
            with socket.create_connection(server.getsockname()) as client:
                client.sendall(b"stop")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    words = {data[i : i + 4] for i in range(0, len(data), 4)}
    show(len(data) // 4, len(words))


def case_competing_nonblocking_acceptors() -> None:
    server = listener(backlog=256)
    server.setblocking(False)
    reader, writer = os.pipe()
    stop_reader, stop_writer = os.pipe()

    def work() -> None:
        os.close(stop_writer)
        epoll = select.epoll()
        epoll.register(server, select.EPOLLIN)
        epoll.register(stop_reader, select.EPOLLHUP)
        while True:
            if any(fd == stop_reader for fd, _ in epoll.poll(5)):
                return
            with contextlib.suppress(BlockingIOError):
                accepted, _ = server.accept()
                os.write(writer, b"x")
                accepted.close()

    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(child(work))
        for _ in range(200):
            with socket.create_connection(server.getsockname()) as client:
                client.recv(1)
        os.close(stop_writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        show(len(pipe.read()))


def case_connect_from_many_threads() -> None:
    server = listener(backlog=512)
    names: list[object] = []

    def connect() -> None:
        for _ in range(20):
            with socket.create_connection(server.getsockname()) as client:
                names.append(client.getsockname())
                client.recv(1)

    threads = [threading.Thread(target=connect) for _ in range(16)]
    for thread in threads:
        thread.start()
    for _ in range(320):
        server.accept()[0].close()
    for thread in threads:
        thread.join()
    show(len(names))


def case_one_socket_connected_by_two_threads() -> None:
    server = listener()
    client = socket.socket()
    results: list[str] = []
    gate = threading.Barrier(2)

    def connect() -> None:
        gate.wait()
        results.append(name_of(client.connect_ex(server.getsockname())))

    threads = [threading.Thread(target=connect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    show(sorted(results))


def case_thousand_parked_accepts() -> None:
    threading.stack_size(65536)
    server = listener(backlog=1024)
    taken: list[int] = []

    def accept() -> None:
        accepted, _ = server.accept()
        taken.append(accepted.recv(1)[0])
        accepted.close()

    threads = [threading.Thread(target=accept) for _ in range(1000)]
    for thread in threads:
        thread.start()
    begin = time.process_time()
    for i in range(1000):
        with socket.create_connection(server.getsockname()) as client:
            client.send(bytes([i % 256]))
    for thread in threads:
        thread.join()
    show(len(taken), time.process_time() - begin < 20)


def case_thousand_parked_receives() -> None:
    threading.stack_size(65536)
    sock, sender = udp(), udp()
    sock.settimeout(None)
    got: list[bytes] = []

    def receive() -> None:
        got.append(sock.recvfrom(10)[0])

    threads = [threading.Thread(target=receive) for _ in range(1000)]
    for thread in threads:
        thread.start()
    for i in range(1000):
        sender.sendto(b"%04d" % i, sock.getsockname())
        if i % 50 == 49:
            settled(lambda: len(got), i + 1)
    for thread in threads:
        thread.join(5)
    show(len(got), len(set(got)))


def case_thousand_clients() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    server = listener(backlog=1024)
    clients = []
    accepted = []
    for _ in range(1000):
        clients.append(socket.create_connection(server.getsockname()))
        accepted.append(server.accept()[0])
    for i, sock in enumerate(accepted):
        sock.send(b"%04d" % i)
    show(all(exact(sock, 4) == b"%04d" % i for i, sock in enumerate(clients)))
    show(len({sock.getsockname() for sock in clients}), soft > 0)


def case_vfork_and_spawn() -> None:
    server = listener()
    pid = os.posix_spawn(
        sys.executable,
        [
            sys.executable,
            "-c",
            "import socket,sys;"
            "socket.create_connection(('127.0.0.1',int(sys.argv[1]))).send(b'spawned')",
            str(server.getsockname()[1]),
        ],
        os.environ,
    )
    accepted, _ = server.accept()
    show(exact(accepted, 7))
    show(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def case_plain_unix_sockets_work() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.sendmsg([b"one"])
    show(far.recvmsg(10, 64)[0], outcome(far.recvmsg, 1, 0, socket.MSG_DONTWAIT))
    path = f"/tmp/probe-{os.getpid()}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    accepted, _ = server.accept()
    client.sendmsg([b"hello"])
    show(accepted.recvmsg(10)[0], client.getpeername() == path)
    os.unlink(path)
    show(closed_port() > 0)
