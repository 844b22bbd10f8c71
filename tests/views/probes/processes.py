"""Ways to make processes, threads and programs, and what they share of sockets."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from kit import V4, child, exact, listener, outcome, pair, show, udp

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_FILES = 0x400
_CLONE_FS = 0x200
_CLONE_PARENT = 0x8000
_CLONE_PIDFD = 0x1000
_CLONE_UNTRACED = 0x800000
_WALL = 0x40000000
_CLONE3 = 435


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal"),
            *("stack", "stack_size", "tls", "set_tid", "set_tid_size", "cgroup"),
        )
    ]


def _clone3(flags: int) -> int:
    args = _CloneArgs(flags=flags, exit_signal=signal.SIGCHLD)
    return int(_libc.syscall(_CLONE3, ctypes.byref(args), ctypes.sizeof(args)))


def case_clone3() -> None:
    server = listener()
    pid = _clone3(0)
    if pid == 0:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"cloned")
        os._exit(0)
    accepted, _ = server.accept()
    show(exact(accepted, 9), os.waitpid(pid, 0)[1])


def case_clone3_with_one_table_of_files() -> None:
    server = listener()
    reader, writer = os.pipe()
    pid = _clone3(_CLONE_FILES)
    if pid == 0:
        made = socket.create_connection(server.getsockname())
        os.write(writer, str(made.fileno()).encode())
        os._exit(0)
    number = int(os.read(reader, 9))
    show(os.waitpid(pid, 0)[1])
    made = socket.socket(fileno=number)
    accepted, name = server.accept()
    show(made.getsockname() == name)
    made.sendall(b"the child's")
    show(exact(accepted, 11))


def case_thread_with_its_own_files() -> None:
    """One number, two sockets: what a thread has after unshare(CLONE_FILES)."""
    server = listener()
    mine = socket.socket()
    number = mine.fileno()
    seen: list[object] = []

    def work() -> None:
        seen.append(_libc.unshare(_CLONE_FILES))
        os.close(number)
        other = socket.socket()
        seen.append(other.fileno() == number)
        other.connect(server.getsockname())
        seen.append(other.getpeername() == server.getsockname())
        other.sendall(b"by the thread")

    thread = threading.Thread(target=work)
    thread.start()
    accepted, _ = server.accept()
    show(exact(accepted, 13))
    thread.join(5)
    show(seen, outcome(mine.getpeername))
    mine.connect(server.getsockname())
    show(mine.getpeername() == server.getsockname())


def case_vfork() -> None:
    server = listener()
    code = "import socket,sys; socket.create_connection(('127.0.0.1',int(sys.argv[1])))"
    for options in ({}, {"close_fds": False}, {"start_new_session": True}):
        done = subprocess.run(
            [sys.executable, "-c", code, str(server.getsockname()[1])],
            check=False,
            **options,  # type: ignore[call-overload]
        )
        show(done.returncode, server.accept()[0].recv(1))


def case_exec_from_a_thread() -> None:
    """exec by another thread than the first, with threads in stopped calls."""
    server, sock = listener(), udp()
    sock.settimeout(None)
    server.set_inheritable(True)
    code = (
        "import os,socket,sys\n"
        "server=socket.socket(fileno=int(sys.argv[1]))\n"
        "accepted,_=server.accept()\n"
        "accepted.sendall(b'%d' % (os.getpid() == int(sys.argv[2])))\n"
    )

    def work() -> None:
        argv = [sys.executable, "-c", code, str(server.fileno()), str(os.getpid())]
        for call in (server.accept, lambda: sock.recvfrom(1)):
            threading.Thread(target=call, daemon=True).start()
        thread = threading.Timer(0.1, os.execv, (sys.executable, argv))
        thread.start()
        sock.recvmsg(1)  # the first thread waits, too

    pid = os.fork()
    if pid == 0:
        work()
    time.sleep(0.5)
    client = socket.create_connection(server.getsockname())
    show(client.recv(9), os.waitpid(pid, 0)[1])


def case_exec_by_the_first_thread() -> None:
    """Threads that wait in stopped calls end, and what is executed has the number."""
    server, sock = listener(), udp()
    sock.settimeout(None)
    server.set_inheritable(True)
    code = "import os,sys; sys.exit(os.getpid() != int(sys.argv[1]))"
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            for call in (server.accept, lambda: sock.recvfrom(1)) * 5:
                threading.Thread(target=call, daemon=True).start()
            argv = [sys.executable, "-ISc", code, str(os.getpid())]
            os.execv(sys.executable, argv)
        show(os.waitpid(pid, 0)[1])
    client = socket.create_connection(server.getsockname())
    show(server.accept()[1] == client.getsockname())


def case_exec_again_and_again_from_threads() -> None:
    """Each program executes the next from a thread, while its first one waits."""
    code = (
        "import os,socket,sys,threading\n"
        "left,pid=int(sys.argv[2]),int(sys.argv[3])\n"
        "assert os.getpid()==pid\n"
        "if not left: sys.exit(7)\n"
        "server=socket.create_server(('127.0.0.1',0))\n"
        "argv=[sys.executable,'-ISc',sys.argv[1],sys.argv[1],str(left-1),str(pid)]\n"
        "threading.Timer(0.01,os.execv,(sys.executable,argv)).start()\n"
        "server.accept()\n"
    )
    pid = os.fork()
    if pid == 0:
        argv = [sys.executable, "-ISc", code, code, "6", str(os.getpid())]
        os.execv(sys.executable, argv)
    show(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def case_exec_that_fails_disturbs_nobody() -> None:
    server = listener()
    taken: list[object] = []
    thread = threading.Thread(target=lambda: taken.append(server.accept()[1]))
    thread.start()
    for path in ("/nowhere", "/etc/passwd", "/"):
        show(outcome(os.execv, path, ["x"]))
    client = socket.create_connection(server.getsockname())
    thread.join(5)
    show(taken == [client.getsockname()])


def case_posix_spawn() -> None:
    """By vfork with a shared memory: the caller waits until the program is there."""
    server = listener()
    at = f"/dev/tcp/127.0.0.1/{server.getsockname()[1]}"
    for number in range(10):
        argv = ["bash", "-c", f"echo -n {number} >{at}; exit {number}"]
        pid = os.posix_spawn("/bin/bash", argv, os.environ)
        show(exact(server.accept()[0], 9), os.waitpid(pid, 0)[1])
    show(outcome(os.posix_spawn, "/nowhere", ["x"], {}), outcome(os.waitpid, -1, 0))


def case_posix_spawn_from_many_threads() -> None:
    """Calls of others are answered while a thread waits for its child's exec."""
    server = listener(backlog=128)
    statuses: list[int] = []

    def work(number: int) -> None:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {number}"], {})
        with socket.create_connection(server.getsockname()):
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    for start in range(0, 60, 20):
        threads = [threading.Thread(target=work, args=(start + i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for _ in threads:
            server.accept()[0].close()
        for thread in threads:
            thread.join()
    show(sorted(statuses) == list(range(60)))


def _clone3_with(flags: int, number: int) -> None:
    """Clone a process that connects; show that it did, and how its end is told."""
    server = listener()
    server.settimeout(5)
    fd = ctypes.c_int(-1)
    args = _CloneArgs(
        flags=flags | _CLONE_PIDFD, exit_signal=number, pidfd=ctypes.addressof(fd)
    )
    pid = _libc.syscall(_CLONE3, ctypes.byref(args), ctypes.sizeof(args))
    if pid == 0:
        try:
            socket.create_connection(server.getsockname()).close()
        except OSError as exc:
            os._exit(exc.errno or 1)
        os._exit(0)
    ended = bool(select.select([fd.value], [], [], 5)[0])
    status = outcome(lambda: os.waitpid(pid, _WALL)[1])
    show(flags, int(number), ended, status)
    os.close(fd.value)


def case_clone3_of_every_kind() -> None:
    """With a pidfd, with no signal at the end, as a sibling, with the files."""
    for flags in (0, _CLONE_FILES, _CLONE_FILES | _CLONE_FS):
        for number in (signal.SIGCHLD, 0):
            _clone3_with(flags, number)
    _clone3_with(_CLONE_PARENT, 0)


def case_clone3_untraced() -> None:
    """A process that says that no tracer is to follow it."""
    _clone3_with(_CLONE_UNTRACED, signal.SIGCHLD)


def case_exec_by_a_shell() -> None:
    server = listener()
    os.set_inheritable(server.fileno(), True)
    code = (
        "import socket,sys\n"
        "print(socket.socket(fileno=int(sys.argv[1])).getsockname()[0])\n"
    )
    number = str(server.fileno())
    script = 'exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, sys.executable, code, number],
        close_fds=False,
        capture_output=True,
        check=False,
    )
    show(done.returncode, done.stdout, done.stderr)


def case_fork_with_a_thousand_sockets() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    server = listener(backlog=400)
    ends = []
    for _ in range(300):
        client = socket.create_connection(server.getsockname())
        ends.append((client, server.accept()[0]))
    spare = [udp() for _ in range(200)] + [socket.socket() for _ in range(200)]

    def work() -> None:
        for i, (client, accepted) in enumerate(ends):
            assert client.getsockname() == accepted.getpeername()
            client.sendall(b"%03d" % i)
        for sock in spare:
            sock.getsockname()
            sock.close()

    for _ in range(2):
        with child(work):
            pass
        words = [exact(accepted, 3) for _, accepted in ends]
        show(words == [b"%03d" % i for i in range(300)])
    spare[0].sendto(b"still", spare[1].getsockname())
    show(spare[1].recvfrom(9)[0])


def case_ten_thousand_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, 10_100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    null = os.open(os.devnull, os.O_RDONLY)
    count = 0
    while count < limit - 60:
        count = os.dup(null)
    server, client, accepted = pair()
    show(min(one.fileno() for one in (server, client, accepted)) > 1000)
    client.sendall(b"high")
    show(exact(accepted, 4), client.getpeername() == server.getsockname())
    epoll = select.epoll()
    epoll.register(server, select.EPOLLIN)
    other = socket.create_connection(server.getsockname())
    show(len(epoll.poll(5)), server.accept()[1] == other.getsockname())
    sock = udp()
    sock.sendto(b"datagram", sock.getsockname())
    show(sock.recvfrom(9)[0])
    with child(lambda: client.sendall(b"child")):
        show(exact(accepted, 5))


def case_every_descriptor_taken() -> None:
    server, sock = listener(), udp()
    client = socket.create_connection(server.getsockname())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    null = os.open(os.devnull, os.O_RDONLY)
    taken = []
    while isinstance(fd := outcome(os.dup, null), int):
        taken.append(fd)
    show(fd, outcome(socket.socket), outcome(server.accept))
    show(outcome(sock.sendto, b"x", sock.getsockname()), sock.recvfrom(9)[0])
    os.close(taken.pop())
    show(server.accept()[1] == client.getsockname())


def case_daemon() -> None:
    """Forked twice, in a session of its own, it serves after its parents' end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        server = listener()
        os.write(writer, str(server.getsockname()[1]).encode())
        os.close(writer)
        for _ in range(2):
            accepted, _ = server.accept()
            accepted.sendall(b"from a daemon")
            accepted.close()
        os._exit(0)
    show(os.waitpid(pid, 0)[1])
    port = int(os.read(reader, 9))
    for _ in range(2):
        with socket.create_connection((V4, port)) as client:
            show(exact(client, 20))


def case_descriptor_outlives_its_creator() -> None:
    """Made, bound and connected by a process that is gone."""
    near, far = socket.socketpair()

    def work() -> None:
        server, sock = listener(), udp()
        client = socket.create_connection(server.getsockname())
        fds = [server.fileno(), sock.fileno(), client.fileno()]
        socket.send_fds(near, [b"x"], fds)

    with child(work):
        pass
    _, fds, _, _ = socket.recv_fds(far, 1, 3)
    server, sock, client = (socket.socket(fileno=fd) for fd in fds)
    accepted, name = server.accept()
    show(name == client.getsockname(), client.getpeername() == server.getsockname())
    accepted.sendall(b"kept")
    show(exact(client, 4))
    sock.sendto(b"too", sock.getsockname())
    show(sock.recvfrom(9)[0])
    second = socket.create_connection(server.getsockname())
    show(server.accept()[1] == second.getsockname())


def case_pool_of_workers() -> None:
    """Forked workers accept from one listener; some die, others take their place."""
    server = listener(backlog=64)

    def work() -> None:
        for _ in range(5):
            accepted, _ = server.accept()
            data = exact(accepted, 3)
            accepted.sendall(data)
            accepted.close()

    answers = []
    for _ in range(4):
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                work()
                os._exit(0)
            pids.append(pid)
        for i in range(10):
            with socket.create_connection(server.getsockname()) as client:
                client.sendall(b"%03d" % i)
                answers.append(exact(client, 9) == b"%03d" % i)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    show(len(answers), all(answers))


def case_threads_come_and_go() -> None:
    server = listener(backlog=128)
    wrong: list[int] = []

    def work(number: int) -> None:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"%04d" % number)
            if exact(client, 4) != b"%04d" % number:
                wrong.append(number)

    def serve() -> None:
        for _ in range(300):
            accepted, _ = server.accept()
            accepted.sendall(exact(accepted, 4))
            accepted.close()

    servant = threading.Thread(target=serve)
    servant.start()
    for start in range(0, 300, 20):
        threads = [threading.Thread(target=work, args=(start + i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    servant.join(5)
    show(wrong)


def case_two_hundred_threads() -> None:
    """Each with sockets of its own, all waiting at the same time."""
    count = 200
    ready = threading.Barrier(count + 1)
    socks: list[socket.socket] = []
    seen: list[bytes] = []

    def work() -> None:
        server, sock = listener(), udp()
        sock.settimeout(None)
        socks.append(sock)
        client = socket.create_connection(server.getsockname())
        server.accept()[0].sendall(b"own")
        assert exact(client, 3) == b"own"
        ready.wait()
        seen.append(sock.recvfrom(9)[0])

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    with udp() as sender:
        for number, sock in enumerate(socks):
            sender.sendto(b"%d" % number, sock.getsockname())
    for thread in threads:
        thread.join()
    show(sorted(map(int, seen)) == list(range(count)))


def case_process_with_many_threads_is_killed() -> None:
    server = listener()
    reader, writer = os.pipe()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            for _ in range(100):
                sock = udp()
                sock.settimeout(None)
                threading.Thread(target=sock.recvfrom, args=(9,)).start()
            os.write(writer, b"r")
            server.accept()
        os.read(reader, 1)
        os.kill(pid, signal.SIGKILL)
        show(os.waitpid(pid, 0)[1])
    client = socket.create_connection(server.getsockname())
    show(server.accept()[1] == client.getsockname())
