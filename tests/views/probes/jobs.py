"""Processes as parents see them: stopped, continued, ended, orphaned, at a tty."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator

from kit import child, exact, listener, name_of, outcome, settled, show, udp

_libc = ctypes.CDLL(None, use_errno=True)
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SYS_EXIT = 60
_WALL = 0x40000000


def _told(status: int) -> str:
    """Return what a wait status says."""
    if os.WIFSTOPPED(status):
        return f"stopped by {signal.Signals(os.WSTOPSIG(status)).name}"
    if os.WIFCONTINUED(status):
        return "continued"
    if os.WIFSIGNALED(status):
        core = " (core)" if os.WCOREDUMP(status) else ""
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}{core}"
    return f"exit status {os.WEXITSTATUS(status)}"


def _wait(pid: int, options: int = 0) -> str:
    return _told(os.waitpid(pid, options)[1])


def _started(work: Callable[[], object]) -> int:
    """Fork a process that does some work and ends with status 5; return its number."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(5)
    return pid


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]


def _sleeps(pid: int) -> None:
    """Wait until a process waits in a call."""
    settled(lambda: _state(pid), "S")
    time.sleep(0.02)


def _calls() -> list[tuple[str, Callable[[], object]]]:
    """Return calls that wait for ever, the middle ones of them as parked ones do."""
    server, sock = listener(), udp()
    sock.settimeout(None)
    reader, writer = os.pipe()
    near, far = socket.socketpair()
    return [
        ("pause", signal.pause),
        ("accept", server.accept),
        ("recvfrom", lambda: sock.recvfrom(1)),
        ("recvmsg", lambda: sock.recvmsg(1)),
        ("read", lambda: (os.read(reader, 1), writer)),
        ("recv", lambda: (near.recv(1), far)),
    ]


def case_stop_and_continue_are_told() -> None:
    for name, call in _calls():
        pid = _started(call)
        for number in _STOPS:
            _sleeps(pid)
            os.kill(pid, number)
            stopped = _wait(pid, os.WUNTRACED)
            os.kill(pid, signal.SIGCONT)
            show(name, stopped, _wait(pid, os.WCONTINUED))
        os.kill(pid, signal.SIGTERM)
        show(name, _wait(pid, os.WUNTRACED | os.WCONTINUED))


def case_stop_is_told_once() -> None:
    pid = _started(signal.pause)
    os.kill(pid, signal.SIGSTOP)
    show(_wait(pid, os.WUNTRACED), os.waitpid(pid, os.WUNTRACED | os.WNOHANG))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.02)
    show(os.waitpid(pid, os.WUNTRACED | os.WNOHANG))
    os.kill(pid, signal.SIGCONT)
    show(_wait(pid, os.WCONTINUED), os.waitpid(pid, os.WCONTINUED | os.WNOHANG))
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.02)
    show(os.waitpid(pid, os.WCONTINUED | os.WNOHANG))
    _end(pid)


def case_who_does_not_ask_is_not_told() -> None:
    pid = _started(signal.pause)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.02)
    show(os.waitpid(pid, os.WNOHANG), os.waitpid(pid, os.WNOHANG | os.WCONTINUED))
    show(os.waitpid(pid, os.WNOHANG | _WALL))
    show(_wait(pid, os.WUNTRACED))
    _end(pid)


def case_waitid_tells_all() -> None:
    every = os.WSTOPPED | os.WCONTINUED | os.WEXITED
    for name, call in _calls()[:3]:
        pid = _started(call)
        _sleeps(pid)
        for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGUSR1):
            os.kill(pid, number)
            for options in (every | os.WNOWAIT, every):
                told = os.waitid(os.P_PID, pid, options)
                assert told
                show(name, told.si_pid == pid, told.si_uid == os.getuid())
                show(told.si_code, told.si_status, told.si_signo)
    show(outcome(os.waitid, os.P_ALL, 0, every | os.WNOHANG))


def case_sigchld_of_a_stop() -> None:
    """SIGCHLD for each change, with what it was; with SA_NOCLDSTOP for the end only."""
    chld = {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, chld)
    for name, call in _calls()[:3]:
        pid = _started(call)
        for number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGTSTP, signal.SIGKILL):
            if number != signal.SIGKILL:
                settled(lambda: _state(pid) in "STt", True)  # noqa: B023
            os.kill(pid, number)
            told = signal.sigtimedwait(chld, 5)
            assert told
            show(name, told.si_code, told.si_status, told.si_pid == pid)
        show(_wait(pid), signal.sigtimedwait(chld, 0.02))


def case_sigchld_for_every_child() -> None:
    chld = {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, chld)
    seen = []
    for number in range(60):
        pid = os.fork()
        if pid == 0:
            os._exit(number)
        told = signal.sigtimedwait(chld, 5)
        assert told
        right = (told.si_pid, told.si_status) == (pid, number)
        # Who got the signal can have the child at once.
        seen.append((right, _told(os.waitpid(pid, os.WNOHANG)[1])))
    show(seen)
    show(signal.sigtimedwait(chld, 0.02))


def case_descriptor_of_a_process_tells_its_end() -> None:
    seen = []
    for number in range(60):
        pid = os.fork()
        if pid == 0:
            os._exit(number)
        fd = os.pidfd_open(pid)
        select.select([fd], [], [], 5)
        told = os.waitid(os.P_PIDFD, fd, os.WEXITED)
        seen.append(told and told.si_status)
        os.close(fd)
    show(seen)


def case_ignored_children_leave_nothing() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    pids = [_started(lambda: None) for _ in range(20)]
    show({str(outcome(os.waitpid, pid, 0)) for pid in pids})
    show(outcome(os.waitpid, -1, 0))


def case_many_short_children() -> None:
    """500 children and as many grandchildren, each with a socket, all told right."""
    server = listener()
    wrong = 0

    def work(number: int) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if udp().getsockname()[1] else 1)
        status = os.waitpid(pid, 0)[1]
        named = socket.socket(fileno=os.dup(server.fileno())).getsockname()
        os._exit(number if status == 0 and named == server.getsockname() else 255)

    for start in range(0, 500, 50):
        pids = {}
        for number in range(start, start + 50):
            pid = os.fork()
            if pid == 0:
                work(number % 199)
            pids[pid] = number % 199
        while pids:
            pid, status = os.waitpid(-1, 0)
            wrong += pids.pop(pid) != os.waitstatus_to_exitcode(status)
    show(wrong, outcome(os.waitpid, -1, os.WNOHANG))


def case_statuses_of_ends() -> None:
    """With no core, whoever kills, and by whatever."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def abort() -> None:
        os.abort()

    def fault() -> None:
        ctypes.string_at(8)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        with open(os.memfd_create("x"), "wb", buffering=0) as file:
            file.write(b"x")

    def pipe() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        reader, writer = os.pipe()
        os.close(reader)
        os.write(writer, b"x")

    for work in (abort, fault, limit, pipe):
        show(work.__name__, _wait(_started(work)))
    for number in (*range(1, 32), 34, 64):
        if number in (*_STOPS, signal.SIGCONT):
            continue

        def die() -> None:
            if number not in (signal.SIGKILL, signal.SIGSTOP):  # noqa: B023
                signal.signal(number, signal.SIG_DFL)  # noqa: B023
            os.kill(os.getpid(), number)  # noqa: B023

        show(number, os.waitpid(_started(die), 0)[1])
    for status in (0, 1, 127, 128, 255):
        pid = os.fork()
        if pid == 0:
            os._exit(status)
        show(_wait(pid))


def case_signals_of_the_stopped() -> None:
    """What comes during a stop is taken when it is over; SIGKILL at once."""
    for name, call in _calls():
        pid = _started(call)
        _sleeps(pid)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)
        show(name, os.waitpid(pid, os.WNOHANG | os.WUNTRACED))
        os.kill(pid, signal.SIGCONT)
        show(_wait(pid))
        pid = _started(call)
        _sleeps(pid)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        os.kill(pid, signal.SIGKILL)
        show(_wait(pid, os.WUNTRACED | os.WCONTINUED))


def case_handlers_of_stops() -> None:
    """SIGTSTP caught, ignored and blocked; a handler of SIGCONT runs after the stop."""
    reader, writer = os.pipe()

    def work() -> None:
        for number in (signal.SIGTSTP, signal.SIGCONT):
            signal.signal(number, lambda got, _: os.write(writer, b"%d." % got))
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        os.write(writer, b"ready.")
        while True:
            listener().accept()

    pid = _started(work)
    show(os.read(reader, 99))
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        _sleeps(pid)
        os.kill(pid, number)
        time.sleep(0.03)
        show(number, os.waitpid(pid, os.WUNTRACED | os.WNOHANG)[0] == pid)
    os.kill(pid, signal.SIGSTOP)
    show(_wait(pid, os.WUNTRACED))
    os.kill(pid, signal.SIGCONT)
    show(_wait(pid, os.WCONTINUED))
    wanted = b"%d.%d." % (signal.SIGTSTP, signal.SIGCONT)
    show(os.read(reader, len(wanted[:3])), os.read(reader, 3))
    _end(pid)


def case_how_a_stopped_process_looks() -> None:
    def status() -> list[str]:
        with open(f"/proc/{pid}/status") as file:
            found = dict(line.split(":", 1) for line in file)
        tracer = int(found["TracerPid"])
        return [found["State"].strip(), "traced" if tracer else "not traced"]

    pid = _started(signal.pause)
    settled(lambda: _state(pid), "S")
    show(*status())
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    show(*status())
    _end(pid)


def case_stops_itself() -> None:
    def work() -> None:
        for number in _STOPS:
            os.kill(os.getpid(), number)
            udp().getsockname()
        signal.raise_signal(signal.SIGSTOP)

    pid = _started(work)
    while "stopped" in (told := _wait(pid, os.WUNTRACED)):
        show(told)
        os.kill(pid, signal.SIGCONT)
    show(told)


def case_stop_holds_every_thread() -> None:
    """Threads that run and threads in stopped calls stand still, and all go on."""
    server = listener(backlog=16)
    near, far = socket.socketpair()

    def serve() -> None:
        accepted, _ = server.accept()
        accepted.sendall(b"a")

    def run() -> None:
        # A socket call each: a thread may be stopped in the middle of any.
        while True:
            udp().close()
            near.send(b".")

    def work() -> None:
        for target in (serve, serve, serve, run, run):
            threading.Thread(target=target, daemon=True).start()
        signal.pause()

    pid = _started(work)
    far.setblocking(False)
    for _ in range(5):
        select.select([far], [], [], 5)
        os.kill(pid, signal.SIGSTOP)
        stopped = _wait(pid, os.WUNTRACED)
        with contextlib.suppress(BlockingIOError):
            while far.recv(1 << 16):
                pass
        quiet = not select.select([far], [], [], 0.03)[0]
        os.kill(pid, signal.SIGCONT)
        show(stopped, quiet, _wait(pid, os.WCONTINUED))
        show(bool(select.select([far], [], [], 5)[0]))
    for _ in range(3):
        with socket.create_connection(server.getsockname(), 5) as client:
            show(client.recv(1))
    _end(pid)


def case_stop_meets_a_busy_thread() -> None:
    """SIGSTOP and SIGCONT at any instant of calls; nothing is lost."""
    server, sock = listener(), udp()

    def work() -> None:
        for number in range(150):
            with socket.create_connection(server.getsockname()) as client:
                client.sendall(b"%03d" % number)
            udp().sendto(b"%03d" % number, sock.getsockname())

    pid = _started(work)
    seen: list[tuple[bytes, bytes]] = []

    def serve() -> None:
        for _ in range(150):
            accepted, _ = server.accept()
            datagram = sock.recvfrom(3)[0]
            # A send that is stopped may go out twice: docs/compatibility.md.
            while seen and datagram == seen[-1][1]:
                datagram = sock.recvfrom(3)[0]
            seen.append((exact(accepted, 3), datagram))

    thread = threading.Thread(target=serve)
    thread.start()
    os.kill(pid, signal.SIGSTOP)
    while "stopped" in (told := _wait(pid, os.WUNTRACED)):
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.003)
        os.kill(pid, signal.SIGSTOP)
    thread.join(5)
    wanted = [(b"%03d" % i, b"%03d" % i) for i in range(150)]
    show([one for one in zip(seen, wanted, strict=True) if one[0] != one[1]], told)


def case_calls_across_a_stop() -> None:
    """What each waiting call says after SIGSTOP and SIGCONT: goes on, or EINTR."""
    reader, _writer = os.pipe()
    epoll = select.epoll()
    timeout = struct.pack("qq", 0, 300_000_000)
    wanted = ctypes.c_ulong(1 << (signal.SIGUSR2 - 1))
    limit = struct.pack("ll", 0, 300_000)
    entry = struct.pack("ihh", reader, select.POLLIN, 0)
    server, sock = listener(), udp()
    sock.settimeout(None)
    for one in (server, sock):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    buf, size = ctypes.create_string_buffer(64), ctypes.c_int(16)
    calls: list[tuple[str, Callable[[], int]]] = [
        ("nanosleep", lambda: _libc.nanosleep(timeout, None)),
        ("poll", lambda: _libc.poll(entry, 1, 300)),
        ("epoll_wait", lambda: _libc.epoll_wait(epoll.fileno(), buf, 1, 300)),
        (
            "sigtimedwait",
            lambda: _libc.sigtimedwait(ctypes.byref(wanted), None, timeout),
        ),
        ("accept", lambda: _libc.accept(server.fileno(), None, None)),
        (
            "recvfrom",
            lambda: _libc.recvfrom(sock.fileno(), buf, 9, 0, buf, ctypes.byref(size)),
        ),
    ]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    for name, call in calls:
        near, far = socket.socketpair()

        def work() -> None:
            result = call()  # noqa: B023
            near.sendall(f"{result} {name_of(ctypes.get_errno())}".encode())  # noqa: B023

        with child(work) as pid:
            _sleeps(pid)
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)
            os.kill(pid, signal.SIGCONT)
            show(name, far.recv(99))


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    """Give both ends of a terminal that becomes the caller's own."""
    master, slave = os.openpty()
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    yield master, slave
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.close(master)
    os.close(slave)


def _at_terminal(work: Callable[[], None]) -> None:
    """Do work in a process that may become a session's leader, and wait for it."""
    with child(work):
        pass


def _job(slave: int, work: Callable[[], object]) -> int:
    """Start a job as a shell does, in the foreground."""

    def start() -> None:
        os.setpgid(0, 0)
        os.tcsetpgrp(slave, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        work()

    pid = _started(start)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    settled(lambda: os.tcgetpgrp(slave), pid)
    return pid


def case_keys_of_a_terminal() -> None:
    """Ctrl-Z, fg, and Ctrl-C or Ctrl-backslash, by a shell that waits for its job."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    told, tell = socket.socketpair()

    def say(*words: object) -> None:
        tell.sendall((" ".join(map(str, words)) + "\n").encode())

    def work() -> None:
        with _terminal() as (master, slave):
            for name, call in _calls():
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                for key in (b"\x03", b"\x1c"):
                    pid = _job(slave, call)
                    for _ in range(2):
                        _sleeps(pid)
                        os.write(master, b"\x1a")
                        say(name, _wait(pid, os.WUNTRACED))
                        os.tcsetpgrp(slave, os.getpid())
                        os.tcsetpgrp(slave, pid)
                        os.killpg(pid, signal.SIGCONT)
                        say(_wait(pid, os.WCONTINUED))
                    _sleeps(pid)
                    os.write(master, key)
                    say(_wait(pid, os.WUNTRACED))
                    os.tcsetpgrp(slave, os.getpid())

    _at_terminal(work)
    tell.close()
    with told.makefile() as file:
        for line in file:
            show(line.strip())


def case_job_in_the_background_reads() -> None:
    told, tell = socket.socketpair()

    def work() -> None:
        with _terminal() as (master, slave):
            pid = _job(slave, lambda: tell.send(os.read(slave, 9)))
            os.tcsetpgrp(slave, os.getpid())
            settled(lambda: _state(pid), "S")
            os.kill(pid, signal.SIGSTOP)
            os.waitpid(pid, os.WUNTRACED)
            os.kill(pid, signal.SIGCONT)
            tell.send(_wait(pid, os.WUNTRACED).encode())
            os.tcsetpgrp(slave, pid)
            os.killpg(pid, signal.SIGCONT)
            os.write(master, b"typed\n")
            tell.send(_wait(pid, os.WUNTRACED).encode())
            os.tcsetpgrp(slave, os.getpid())

    _at_terminal(work)
    tell.close()
    text = b""
    while chunk := told.recv(999):
        text += chunk
    show(text)


def case_end_of_a_terminals_session() -> None:
    """The leader's end hangs up on the foreground, and on orphans that are stopped."""
    told, tell = socket.socketpair()

    def note(number: int, _: object) -> None:
        tell.send(b"%d." % number)

    def wait() -> None:
        for number in (signal.SIGHUP, signal.SIGCONT):
            signal.signal(number, note)
        signal.alarm(10)  # nobody else would end it
        tell.send(b"%7d" % os.getpid())
        while True:
            signal.pause()

    def work() -> None:
        _master, slave = os.openpty()
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        pid = _job(slave, wait)
        select.select([told], [], [])
        os.tcsetpgrp(slave, os.getpid())
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)

    with child(work):
        pass
    pid = int(exact(told, 7))
    text = b""
    while text.count(b".") < 2 and select.select([told], [], [], 3)[0]:
        text += told.recv(99)
    show(sorted(text.split(b".")))
    os.kill(pid, signal.SIGKILL)


def case_orphans_have_another_parent() -> None:
    """They go on, and their new parent is told of their ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    near, far = socket.socketpair()

    def orphan() -> None:
        server = listener()
        near.send(b"%d %d" % (os.getpid(), server.getsockname()[1]))
        accepted, _ = server.accept()
        accepted.sendall(b"%d" % os.getppid())
        accepted.close()
        os._exit(33)

    for _ in range(5):
        with child(lambda: _started(orphan)):
            pass
        pid, port = map(int, far.recv(99).split())
        with socket.create_connection(("127.0.0.1", port)) as client:
            show(int(exact(client, 9)) == os.getpid(), _wait(pid))
    show(outcome(os.waitpid, -1, 0))


def case_signal_at_the_parents_end() -> None:
    near, far = socket.socketpair()

    def orphan() -> None:
        number = signal.SIGUSR1
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        parent = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        near.send(b"ready")
        told = signal.sigtimedwait([number], 5)
        near.send(b"%d" % (told is not None and told.si_pid == parent))

    def work() -> None:
        _started(orphan)
        signal.pause()

    pid = _started(work)
    show(far.recv(9))
    _end(pid)
    show(far.recv(9))


def case_first_thread_ends_before_the_others() -> None:
    """Its process is a zombie that goes on serving, and is reaped at its real end."""
    server = listener()

    def serve() -> None:
        time.sleep(0.05)
        for _ in range(3):
            accepted, _ = server.accept()
            accepted.sendall(b"%d" % (udp().getsockname()[1] > 0))
            accepted.close()
        os._exit(44)

    def work() -> None:
        threading.Thread(target=serve).start()
        _libc.syscall(_SYS_EXIT, 3)

    pid = _started(work)
    settled(lambda: _state(pid), "Z")
    show(_state(pid), os.waitpid(pid, os.WNOHANG))
    for _ in range(3):
        with socket.create_connection(server.getsockname()) as client:
            show(exact(client, 1))
    show(_wait(pid))


def case_first_thread_ends_and_the_rest_is_killed() -> None:
    server = listener()

    def work() -> None:
        for _ in range(4):
            threading.Thread(target=server.accept).start()
        _libc.syscall(_SYS_EXIT, 3)

    for number in (signal.SIGKILL, signal.SIGTERM):
        pid = _started(work)
        settled(lambda: _state(pid), "Z")  # noqa: B023
        time.sleep(0.03)
        os.kill(pid, signal.SIGSTOP)
        show(_wait(pid, os.WUNTRACED))
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        show(_wait(pid))
    client = socket.create_connection(server.getsockname())
    show(server.accept()[1] == client.getsockname())


def case_threads_end_one_by_one() -> None:
    """Every thread ends by itself, the first one first."""

    def last() -> None:
        time.sleep(0.05)
        _libc.syscall(_SYS_EXIT, 9)

    def work() -> None:
        threading.Thread(target=last).start()
        _libc.syscall(_SYS_EXIT, 7)

    show(_wait(_started(work)))
