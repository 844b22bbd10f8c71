"""umview --pid: a program that runs enters a view."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.apps.lab import SYSTEM_PYTHON, User
from tests.setting import TRACER, umview

pytestmark = pytest.mark.view

_PROGRAMS = Path(__file__).with_name("programs")
_DEADLINE = 15.0
_READY = "ready"

Program = subprocess.Popen[str]

# Where only ancestors may trace (Yama), a program may allow it to all: for itself, and
# for what it becomes.
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_SCOPE = int(_YAMA.read_text()) if _YAMA.exists() else 0
_ALLOW = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def _allowing(*argv: str) -> list[str]:
    """Return what runs a program that others may trace."""
    if _SCOPE > 1:
        pytest.skip(f"kernel.yama.ptrace_scope is {_SCOPE}: no program can be moved")
    return [SYSTEM_PYTHON, "-c", _ALLOW, *argv] if _SCOPE else list(argv)


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextlib.contextmanager
def started(user: User, *argv: str, group: int | None = None) -> Iterator[Program]:
    """Start a program natively, with pipes; at the end of the block it is killed."""
    process = subprocess.Popen(
        user.command(_allowing(*argv), "native"),
        text=True,
        bufsize=1,
        cwd=user.folder,
        env=user.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=group,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(_DEADLINE)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@contextlib.contextmanager
def _python(user: User, *words: str) -> Iterator[Program]:
    """Start running.py and wait until it is ready."""
    program = str(_PROGRAMS / "running.py")
    with started(user, SYSTEM_PYTHON, program, *words) as process:
        assert line_of(process).startswith(_READY)
        yield process


def line_of(process: Program) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def tell(process: Program, line: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _move(user: User, pid: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Put a process into a view."""
    return user.run(umview(*options, "--pid", str(pid)), "native")


def moved(user: User, pid: int, *options: str) -> None:
    done = _move(user, pid, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _is_waiting(pid: int) -> bool:
    """Tell whether a process waits in a call."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0].isdigit()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _views(user: User) -> list[str]:
    folder = user.runtime / "umview"
    return sorted(os.listdir(folder)) if folder.exists() else []


@contextlib.contextmanager
def _echo() -> Iterator[int]:
    """Answer with what comes, at a TCP and UDP port of the host; give the port."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
    ):
        datagram.bind(listener.getsockname())

        def answer(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                while data := sock.recv(100):
                    sock.sendall(data)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    threading.Thread(target=answer, args=(sock,), daemon=True).start()

        def serve_datagrams() -> None:
            with contextlib.suppress(OSError):
                while (got := datagram.recvfrom(100)) != (b"", None):
                    datagram.sendto(*got)

        for target in (serve, serve_datagrams):
            threading.Thread(target=target, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            datagram.shutdown(socket.SHUT_RDWR)


def _ask_both(tcp: int, udp: int) -> None:
    """Ask a TCP and a UDP server of the host's loopback."""
    with socket.create_connection(("127.0.0.1", tcp), _DEADLINE) as sock:
        sock.sendall(b"ping")
        assert sock.recv(100) == b"ping"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_DEADLINE)
        sock.sendto(b"ping", ("127.0.0.1", udp))
        assert sock.recv(100) == b"ping"


def test_new_sockets_are_the_views_and_old_ones_the_hosts(user: User) -> None:
    program = str(_PROGRAMS / "running.py")
    with (
        _echo() as port,
        started(user, SYSTEM_PYTHON, program, "network", str(port)) as process,
    ):
        tcp, udp = map(int, line_of(process).split()[1:])
        _ask_both(tcp, udp)
        moved(user, process.pid)
        _ask_both(tcp, udp)
        tell(process)
        assert process.stdout is not None
        assert process.stdout.read().splitlines() == [
            "connected ok",
            "fresh ok ok",
            "bound ok 127.0.0.1",
            "sender ok",
            "new ECONNREFUSED",
            "new bind ok",
            "child lo nat0",
            "names True",
        ]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("nanosleep", "0"),
        ("poll", "0"),
        ("poll-stdin", "1"),
        ("ppoll", "0"),
        ("epoll", "0"),
        ("epoll-stdin", "1"),
        ("futex", "ETIMEDOUT"),
        ("sigtimedwait", "EAGAIN"),
        ("recv", "EAGAIN"),
        ("accept", "EAGAIN"),
        ("read-stdin", "1"),
    ],
)
def test_call_that_waits_goes_on(user: User, kind: str, wanted: str) -> None:
    with _python(user, "wait", kind) as process:
        _wait_until(lambda: _is_waiting(process.pid))
        moved(user, process.pid)
        tell(process)
        assert line_of(process) == f"{wanted} True"


def test_threads_at_work_see_nothing_but_another_network(user: User) -> None:
    for _ in range(3):
        with _echo() as port, _python(user, "crowd", str(port)) as process:
            moved(user, process.pid)
            assert line_of(process) == "ECONNREFUSED"


def _visible(pid: int) -> tuple[object, ...]:
    """Return what a program could see of itself, but for its filter."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        kept = re.compile(r"Sig[PBIC]|Shd|Name|Uid|Groups|Cap|Threads|VmLck")
        status = [line for line in file if kept.match(line)]
    links = Path(f"/proc/{pid}/fd")
    fds = sorted((link.name, os.readlink(link)) for link in links.iterdir())
    return fds, Path(f"/proc/{pid}/maps").read_text(), status


def test_nothing_is_left_in_the_program(user: User) -> None:
    with _python(user, "idle") as process:
        _wait_until(lambda: _is_waiting(process.pid))
        before = _visible(process.pid)
        moved(user, process.pid)
        assert _visible(process.pid) == before
        tell(process, "alive")
        assert line_of(process) == "alive ok"


def test_nothing_is_left_when_the_program_ends(user: User) -> None:
    with _python(user, "idle") as process:
        moved(user, process.pid, "-V", "given")
        assert _views(user) == ["given"]
    _wait_until(lambda: _views(user) == [])


def test_stopped_job_stays_stopped(user: User) -> None:
    with _python(user, "idle") as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        tell(process, "while-stopped")
        moved(user, process.pid)
        assert _state(process.pid) in "Tt"
        os.kill(process.pid, signal.SIGCONT)
        assert line_of(process) == "while-stopped ok"


def test_signals_that_come_meanwhile_arrive(user: User) -> None:
    script = """
import signal, sys
count = 0
def seen(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, seen)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
print("ready", flush=True)
for line in sys.stdin:
    last = count
    while count < last + 100:
        pass
    print(line.strip(), "ok", flush=True)
"""
    for _ in range(5):
        with started(user, SYSTEM_PYTHON, "-c", script) as process:
            assert line_of(process) == _READY
            moved(user, process.pid)
            tell(process, "alive")
            assert line_of(process) == "alive ok"


def test_shell_can_move_itself(user: User) -> None:
    script = f"{' '.join(umview('--pid'))} $$; echo $?; cat /proc/net/dev"
    done = user.run(_allowing("sh", "-c", script), "native")
    status, *cards = done.stdout.splitlines()
    assert status == "0"
    assert "nat0" in "".join(cards)
    assert done.stderr == ""


def test_children_that_are_there_stay_outside(user: User) -> None:
    script = (
        "(read line <go; cat /proc/net/dev >outside) & "
        "echo ready; read line; cat /proc/net/dev >inside; wait"
    )
    os.mkfifo(user.folder / "go")
    user.own(user.folder / "go")
    with started(user, "/bin/sh", "-c", script) as process:
        assert line_of(process) == _READY
        moved(user, process.pid)
        (user.folder / "go").write_text("\n")
        tell(process)
        assert process.wait(_DEADLINE) == 0
    assert "nat0" in (user.folder / "inside").read_text()
    assert "nat0" not in (user.folder / "outside").read_text()


def test_killed_supervisor_ends_the_network(user: User) -> None:
    """Under ptrace the program too: a call that stands would be the host's else."""
    with _python(user, "idle") as process:
        moved(user, process.pid, "-V", "doomed")
        tell(process, "alive")
        assert line_of(process) == "alive ok"
        folder = user.runtime / "umview" / "doomed"
        (supervisor,) = _holders(folder)
        os.kill(supervisor, signal.SIGKILL)
        if TRACER == "ptrace":
            assert process.wait(_DEADLINE) == -signal.SIGKILL
        else:
            _wait_until(lambda: _holders(folder) == [])
            tell(process, "alive")
            assert line_of(process) == "alive ENOSYS"
    user.run(umview("true"), "native")  # the next one cleans up


def _holders(folder: Path) -> list[int]:
    """Return the processes that hold a folder open."""
    found = []
    for fds in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(os.readlink(fd) == str(folder) for fd in fds.iterdir()):
                found.append(int(fds.parent.name))
    return found


def test_verbose_says_what_was_done(user: User) -> None:
    with _python(user, "idle") as process:
        done = _move(user, process.pid, "-v")
        said = f"process {process.pid} is in the view with all its threads"
        assert said in done.stderr
        assert done.returncode == 0


def test_calls_are_logged_to_a_file(user: User) -> None:
    log = user.folder / "log"
    with _python(user, "idle") as process:
        moved(user, process.pid, f"--trace={log}")
        tell(process, "alive")
        assert line_of(process) == "alive ok"
    _wait_until(lambda: _views(user) == [])
    assert "socket(" in log.read_text()


# ---- where it cannot be ----

_FILTER = """
import ctypes, os, struct, sys
def forbid(number):
    load, is_it, give, fails, runs = 0x20, 0x15, 0x06, 0x50001, 0x7fff0000
    lines = ((load, 0, 0, 0), (is_it, 0, 1, number),
             (give, 0, 0, fails), (give, 0, 0, runs))
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("=HxxxxxxQ", len(lines), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
ptrace = {"x86_64": 101, "aarch64": 117}[os.uname().machine]
"""
_NO_PTRACE = f"{_FILTER}forbid(ptrace); os.execv(sys.argv[1], sys.argv[1:])"
_ONE_THREAD_FILTERED = f"""{_FILTER}
import threading
def work():
    forbid(ptrace)
    print("ready", flush=True)
    for line in sys.stdin:
        print(line.strip(), flush=True)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def _refused(user: User, pid: int, *options: str) -> str:
    done = _move(user, pid, *options)
    assert (done.returncode, done.stdout) == (125, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("umview: ")
    return line


def test_process_of_another_user_is_refused(user: User) -> None:
    others = os.getpid() if os.geteuid() == 0 else 1
    if Path(f"/proc/{others}").stat().st_uid == user.folder.stat().st_uid:
        pytest.skip("this process namespace has one user")
    assert "is not yours" in _refused(user, others)


@pytest.mark.skipif(_SCOPE == 0, reason="anybody may trace here")
def test_program_that_only_ancestors_may_trace_is_refused(user: User) -> None:
    with user.popen(["sleep", "60"], "native") as process:
        line = _refused(user, process.pid)
        assert f"kernel.yama.ptrace_scope is {_SCOPE} on this host" in line


def test_process_that_is_not_there_is_refused(user: User) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert f"there is no process {gone.pid}" in _refused(user, gone.pid)


def test_zombie_is_refused(user: User) -> None:
    with started(user, "/bin/true") as process:
        _wait_until(lambda: _state(process.pid) == "Z")
        assert "has ended" in _refused(user, process.pid)


def test_kernel_thread_is_refused(user: User) -> None:
    kthreadd = 2
    if "kthreadd" not in Path(f"/proc/{kthreadd}/comm").read_text():
        pytest.skip("this process namespace shows no kernel threads")
    assert "the kernel's own" in _refused(user, kthreadd)


def test_thread_is_refused_and_its_process_named(user: User) -> None:
    with _echo() as port, _python(user, "crowd", str(port)) as process:
        tids = {int(name) for name in os.listdir(f"/proc/{process.pid}/task")}
        line = _refused(user, max(tids - {process.pid}))
        assert f"--pid {process.pid}" in line


def test_process_in_a_view_is_refused_and_goes_on(user: User) -> None:
    with _python(user, "idle") as process:
        moved(user, process.pid)
        assert "is in a view" in _refused(user, process.pid)
        tell(process, "alive")
        assert line_of(process) == "alive ok"


def test_process_with_a_filtered_thread_is_refused_and_goes_on(user: User) -> None:
    with started(user, SYSTEM_PYTHON, "-c", _ONE_THREAD_FILTERED) as process:
        assert line_of(process) == _READY
        before = _visible(process.pid)
        assert "a seccomp filter of its own" in _refused(user, process.pid)
        assert _visible(process.pid) == before
        tell(process, "alive")
        assert line_of(process) == "alive"


def test_traced_process_is_refused_and_goes_on(user: User) -> None:
    tracer = (
        "import ctypes, sys\n"
        "seize, pid = 0x4206, int(sys.argv[1])\n"
        "print(ctypes.CDLL(None).ptrace(seize, pid, None, None), flush=True)\n"
        "sys.stdin.read()"
    )
    with (
        _python(user, "idle") as process,
        started(user, SYSTEM_PYTHON, "-c", tracer, str(process.pid)) as debugger,
    ):
        assert line_of(debugger) == "0"
        assert f"traced by process {debugger.pid}" in _refused(user, process.pid)
        tell(process, "alive")
        assert line_of(process) == "alive ok"


def test_hidden_process_is_refused(user: User) -> None:
    script = (
        "import ctypes, sys\n"
        "ctypes.CDLL(None).prctl(4, 0)\n"
        'print("ready", flush=True)\n'
        "sys.stdin.read()"
    )
    with started(user, SYSTEM_PYTHON, "-c", script) as process:
        assert line_of(process) == _READY
        assert "may not be traced" in _refused(user, process.pid)


def test_forbidden_ptrace_is_one_line(user: User) -> None:
    """As under a container's filter; ptrace(2) fails with EPERM."""
    with _python(user, "idle") as process:
        argv = umview("--pid", str(process.pid))
        done = user.run([SYSTEM_PYTHON, "-c", _NO_PTRACE, *argv], "native")
        assert done.returncode == 125
        (line,) = done.stderr.splitlines()
        if TRACER == "ptrace":
            assert "ptrace(2) fails: Operation not permitted" in line
        else:
            assert line.startswith(f"umview: process {process.pid} may not be traced")
