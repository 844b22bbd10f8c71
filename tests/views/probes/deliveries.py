"""Signals as they are delivered: how many, in what order, with what they tell."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from kit import child, exact, listener, name_of, outcome, settled, show, udp

_libc = ctypes.CDLL(None, use_errno=True)
_FIRST, _SECOND = signal.SIGRTMIN, signal.SIGRTMIN + 3
_SA_SIGINFO, _SA_RESTART, _SA_RESETHAND = 4, 0x10000000, 0x80000000
_INFO = struct.Struct("iii4xiIi")  # signo, errno, code; then pid, uid, value
_FD_INFO = struct.Struct("IiiIIiIIIIii")  # signo, errno, code, pid ... status, int
_TRAP = b"\xcc\xc3"  # int3; ret
_SYS_RT_TGSIGQUEUEINFO = 297
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """struct sigaction of the C library, 64 bits."""

    _fields_ = (
        ("handler", _HANDLER),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


Note = Callable[[int, int, int, int], object]  # signo, code, pid, value


@contextlib.contextmanager
def _told(number: int, note: Note, flags: int = 0) -> Iterator[None]:
    """Handle a signal by a handler that is called at once, in whatever call it meets.

    Only calls of ctypes may be interrupted: they hold no lock of the interpreter.
    """

    def handler(signo: int, info: int, _: int) -> None:
        _, _, code, pid, _, value = _INFO.unpack(ctypes.string_at(info, _INFO.size))
        note(signo, code, pid, value)

    action = _Action(_HANDLER(handler), flags=_SA_SIGINFO | flags)
    assert not _libc.sigaction(number, ctypes.byref(action), None)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_IGN)


def _queue(pid: int, number: int, value: int) -> None:
    """sigqueue(3)."""
    assert not _libc.sigqueue(pid, number, ctypes.c_void_p(value))


def _soon(work: Callable[[], object], seconds: float = 0.05) -> Callable[[], None]:
    """Return what does some work a while after its call."""

    def wait() -> None:
        time.sleep(seconds)
        work()

    return wait


def _recvfrom(sock: socket.socket) -> int:
    """Receive as recvfrom(2), which is stopped where it asks for an address."""
    buf, name = ctypes.create_string_buffer(64), ctypes.create_string_buffer(16)
    size = ctypes.c_int(16)
    return int(_libc.recvfrom(sock.fileno(), buf, 9, 0, name, ctypes.byref(size)))


def _calls() -> list[tuple[str, Callable[[], int]]]:
    """Return calls that wait for ever, two of them as parked ones do."""
    server, sock = listener(), udp()
    sock.settimeout(None)
    return [
        ("pause", lambda: _libc.pause()),
        ("accept", lambda: _libc.accept(server.fileno(), None, None)),
        ("recvfrom", lambda: _recvfrom(sock)),
    ]


def case_queued_signals_keep_their_order() -> None:
    """100 of each of two real-time signals, blocked meanwhile: none is lost."""
    both = [_FIRST, _SECOND]
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    me = os.getpid()

    def work() -> None:
        for value in range(100):
            _queue(me, _SECOND, value)
            _queue(me, _FIRST, value)

    with child(work) as pid:
        pass
    buf = ctypes.create_string_buffer(128)
    mask = ctypes.c_uint64(sum(1 << (number - 1) for number in both))
    seen = []
    for _ in range(200):
        assert _libc.sigwaitinfo(ctypes.byref(mask), buf) > 0
        number, _, code, sender, uid, value = _INFO.unpack_from(buf)
        seen.append((number, value))
        assert (code, sender, uid) == (-1, pid, os.getuid())
    wanted = [(int(number), value) for number in both for value in range(100)]
    show(seen == wanted, signal.sigtimedwait(both, 0))


def case_handlers_keep_the_order() -> None:
    """Signals queued for a thread that waits in a call, each taken by a handler."""
    for name, call in _calls():
        seen: list[tuple[int, int]] = []
        signal.pthread_sigmask(signal.SIG_BLOCK, [_FIRST])

        def note(_: int, code: int, _pid: int, value: int) -> None:
            seen.append((code, value))  # noqa: B023

        def work() -> None:
            for value in range(50):
                _queue(os.getppid(), _FIRST, value)

        with _told(_FIRST, note):
            with child(work):
                pass
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [_FIRST])
            with child(_soon(lambda: _queue(os.getppid(), _FIRST, 99))):
                result = call(), name_of(ctypes.get_errno())
        show(name, result, seen == [(-1, value) for value in (*range(50), 99)])


def case_signals_one_by_one_in_a_waiting_call() -> None:
    """Every signal of 100 is taken once, and the call goes on with SA_RESTART."""
    server, sock = listener(), udp()
    sock.settimeout(None)
    calls: list[tuple[str, Callable[[], int]]] = [
        ("accept", lambda: _libc.accept(server.fileno(), None, None) > 0),
        ("recvfrom", lambda: _recvfrom(sock)),
    ]
    for name, call in calls:
        seen: list[int] = []
        near, far = socket.socketpair()

        def note(_: int, _code: int, _pid: int, value: int) -> None:
            seen.append(value)  # noqa: B023
            near.send(b".")  # noqa: B023

        def work() -> None:
            for value in range(100):
                _queue(os.getppid(), _FIRST, value)
                exact(far, 1)  # noqa: B023
            socket.create_connection(server.getsockname())
            udp().sendto(b"data", sock.getsockname())

        with _told(_FIRST, note, _SA_RESTART):
            pid = os.fork()
            if pid == 0:
                try:
                    work()
                finally:
                    os._exit(0)
            # No Python runs between the calls that the signals meet.
            result = call()
            os.waitpid(pid, 0)
        show(name, result, seen == list(range(100)))
        if name == "accept":
            sock.recv(9)


def case_what_a_handler_is_told() -> None:
    me = os.getpid()
    thread = threading.get_native_id()
    seen: list[object] = []
    info = _INFO.pack(_FIRST, 0, -77, 1, 2, 3).ljust(128, b"\0")
    acts: list[tuple[str, Callable[[], object]]] = [
        ("kill", lambda: os.kill(me, _FIRST)),
        ("tgkill", lambda: _libc.tgkill(me, thread, _FIRST)),
        ("sigqueue", lambda: _queue(me, _FIRST, 7)),
        (
            "tgsigqueueinfo",
            lambda: _libc.syscall(_SYS_RT_TGSIGQUEUEINFO, me, thread, _FIRST, info),
        ),
    ]
    for name, act in acts:
        for from_child in (False, True):
            if from_child and name == "tgsigqueueinfo":
                continue  # nobody may claim such a code to another

            def note(signo: int, code: int, pid: int, value: int) -> None:
                mine = "mine" if pid == me else pid if code == -77 else "another's"
                kept = value if code in (-1, -77) else "-"
                seen.append((signo, code, mine, kept))

            with _told(_FIRST, note):
                if from_child:
                    with child(act):
                        pass
                else:
                    act()
                udp().getsockname()
            show(name, from_child, seen)
            seen.clear()


def case_signalfd_tells_the_same() -> None:
    numbers = [_FIRST, signal.SIGCHLD, signal.SIGUSR1]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    mask = ctypes.c_uint64(sum(1 << (number - 1) for number in numbers))
    fd = _libc.signalfd(-1, ctypes.byref(mask), 0)
    me = os.getpid()

    def work() -> None:
        for value in range(3):
            _queue(me, _FIRST, value)
        os.kill(me, signal.SIGUSR1)
        udp().getsockname()
        os._exit(9)

    pid = os.fork()
    if pid == 0:
        work()
    seen = []
    for _ in range(5):
        select.select([fd], [], [], 5)
        got = _FD_INFO.unpack_from(os.read(fd, 128))
        seen.append((got[0], got[2], got[3] == pid, got[10], got[11]))
    show(sorted(seen), os.waitpid(pid, 0)[1], select.select([fd], [], [], 0)[0])


def case_sigwait_in_one_thread_for_all() -> None:
    """A thread waits for signals while others wait in calls; it gets every one."""
    numbers = [_FIRST, signal.SIGTERM, signal.SIGUSR1]
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    server, sock = listener(), udp()
    sock.settimeout(None)
    got: list[object] = []
    for call in (server.accept, lambda: got.append(sock.recvfrom(9)[0])):
        threading.Thread(target=call).start()
    time.sleep(0.05)
    me = os.getpid()

    def work() -> None:
        for value in range(30):
            _queue(me, _FIRST, value)

    with child(work):
        pass
    os.kill(me, signal.SIGUSR1)
    os.kill(me, signal.SIGTERM)
    seen = [signal.sigtimedwait(numbers, 5) for _ in range(32)]
    show([one and one.si_signo for one in seen], signal.sigtimedwait(numbers, 0))
    socket.create_connection(server.getsockname())
    udp().sendto(b"data", sock.getsockname())
    settled(lambda: threading.active_count(), 1)
    show(got, threading.active_count())


def case_timer_in_a_waiting_call() -> None:
    """A call that is restarted by each tick of a timer, and the ticks are counted."""
    server = listener()
    ticks: list[int] = []
    with _told(signal.SIGALRM, lambda *told: ticks.append(told[1]), _SA_RESTART):
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        with child(_soon(lambda: _connect(server), 0.5)):
            show(_libc.accept(server.fileno(), None, None) > 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    show(len(ticks) > 20, set(ticks))


def _connect(server: socket.socket) -> None:
    socket.create_connection(server.getsockname()).close()


def case_timers_of_processor_time() -> None:
    """Such a timer counts what the process runs, and not what its calls wait."""
    for kind, number in (
        (signal.ITIMER_VIRTUAL, signal.SIGVTALRM),
        (signal.ITIMER_PROF, signal.SIGPROF),
    ):
        ticks: list[int] = []
        signal.signal(number, lambda *_: ticks.append(1))  # noqa: B023
        signal.setitimer(kind, 0.02)
        sock = udp()
        sock.settimeout(0.2)
        show(outcome(sock.recvfrom, 1), len(ticks))
        while not ticks:
            pass
        show(len(ticks))


def case_limit_of_processor_time() -> None:
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        while True:
            udp().close()
            for _ in range(100_000):
                pass
    show(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def case_mask_and_handler_of_a_parked_call() -> None:
    """What is blocked stays so; a handler is reset, as asked, after its first run."""
    server = listener()
    number = signal.SIGUSR1
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        with _told(number, lambda *_: None, _SA_RESTART | _SA_RESETHAND):
            _libc.accept(server.fileno(), None, None)
        os._exit(1)
    for sent, is_end in ((signal.SIGTERM, False), (number, False), (number, True)):
        _parked(pid)
        os.kill(pid, sent)
        show(sent, settled(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, is_end))


def _parked(pid: int) -> None:
    def state() -> str:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0]

    settled(state, "S")
    time.sleep(0.02)


def case_trap_of_the_programs_own() -> None:
    """SIGTRAP by int3, by kill and by raise is the program's, as every signal is."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(_TRAP)
    code = ctypes.c_char.from_buffer(memory)
    trap = ctypes.CFUNCTYPE(None)(ctypes.addressof(code))
    seen: list[tuple[int, int]] = []
    with _told(signal.SIGTRAP, lambda *told: seen.append(told[:2])):
        for act in (
            trap,
            lambda: os.kill(os.getpid(), signal.SIGTRAP),
            lambda: signal.raise_signal(signal.SIGTRAP),
            lambda: _libc.sigqueue(os.getpid(), signal.SIGTRAP, None),
        ):
            for _ in range(3):
                act()
                udp().close()
            show(seen)
            seen.clear()
    for number in (signal.SIGTRAP, signal.SIGSTOP):
        pid = os.fork()
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGTRAP, signal.SIG_DFL)
            if number == signal.SIGTRAP:
                trap()
            os.kill(os.getpid(), number)
            os._exit(6)
        _, status = os.waitpid(pid, os.WUNTRACED)
        show(hex(status))
        if os.WIFSTOPPED(status):
            os.kill(pid, signal.SIGCONT)
            show(os.waitpid(pid, 0)[1])


def case_trap_in_a_waiting_call() -> None:
    for name, call in _calls():
        with (
            _told(signal.SIGTRAP, lambda *_: None),
            child(_soon(lambda: os.kill(os.getppid(), signal.SIGTRAP))),
        ):
            show(name, call(), name_of(ctypes.get_errno()))


def case_fault_that_a_handler_repairs() -> None:
    """Between calls of the view that meet the same page."""
    page = mmap.mmap(-1, 4096)
    view = ctypes.c_char.from_buffer(page)
    at = ctypes.addressof(view)
    seen: list[int] = []

    def repair(_: int, code: int, _pid: int, _value: int) -> None:
        seen.append(code)
        _libc.mprotect(ctypes.c_void_p(at), 4096, 3)

    sock = udp()
    with _told(signal.SIGSEGV, repair):
        for _ in range(3):
            _libc.mprotect(ctypes.c_void_p(at), 4096, 0)
            # A call of the kernel's finds no page: EFAULT, and no signal.
            result = _libc.getsockname(sock.fileno(), ctypes.c_void_p(at), page_size())
            show(result, name_of(ctypes.get_errno()), len(seen))
            ctypes.memset(at, 1, 1)
            udp().close()
            show(seen)


def page_size() -> ctypes.Array[ctypes.c_char]:
    """Return a length of 16 for a call that writes a name."""
    return ctypes.create_string_buffer(struct.pack("i", 16))


def case_signal_in_the_first_call_of_a_child() -> None:
    """A child that finds a signal waiting takes it before its first call is done."""
    number = signal.SIGUSR1
    seen = []
    for _ in range(30):
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        pid = os.fork()
        if pid == 0:
            taken: list[int] = []
            signal.signal(number, lambda *_: taken.append(1))  # noqa: B023
            os.kill(os.getpid(), number)
            sock = socket.socket()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
            os._exit(len(taken) + 2 * (sock.fileno() > 0))
        seen.append(os.waitpid(pid, 0)[1])
    show(set(seen))


def case_signals_to_a_group() -> None:
    """Every process of a group, in whatever call, gets it once."""
    server, sock = listener(), udp()
    sock.settimeout(None)
    near, far = socket.socketpair()

    def work(call: Callable[[], object]) -> None:
        os.setpgid(0, leader)
        signal.signal(signal.SIGUSR1, lambda *_: near.send(b"1"))
        near.send(b"r")
        call()
        os._exit(0)

    leader = 0
    pids = []
    for call in (signal.pause, server.accept, lambda: sock.recvfrom(1)) * 4:
        pid = os.fork()
        if pid == 0:
            work(call)
        exact(far, 1)
        pids.append(pid)
        leader = leader or pid
    for pid in pids:
        _parked(pid)
    os.killpg(leader, signal.SIGUSR1)
    show(exact(far, len(pids)))
    os.killpg(leader, signal.SIGTERM)
    show({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids[1:]})
    os.waitpid(leader, 0)
