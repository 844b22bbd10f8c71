"""The command line: words in, an exit status out."""

from __future__ import annotations

import contextlib
import gc
import getopt
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from umview import __version__
from umview.errors import FAILED, UmviewError

if TYPE_CHECKING:
    from umview.job import Rc

_HELP = """\
Usage: umview [-p [PATH=]MODULE[,OPTION...]]... [-V NAME] [-v] COMMAND [ARG...]
       umview [-p [PATH=]MODULE[,OPTION...]]... [-V NAME] [-v] --pid PID

Run COMMAND, and all that it starts, in its own view of the network: own addresses,
own ports, own names. No privileges are needed and nothing of the host is changed.
Or let the program PID, which runs already, go on in such a view. Inside of a view
umview makes one in it.

  -p MODULE[,OPTION...]  use this module's stack; the first one is what programs get
                         (default: -p umnet). With PATH= before it, as in
                         /dev/net/work=umnet, the stack is mounted there
  -f FILE                read what a view has from this rc file (default:
                         ~/.config/umview/rc.toml, if there is one)
  -V NAME                name the view (default: umview- and a number)
  -v                     say what is set up
  --tracer auto|seccomp|ptrace
                         what stops the calls of programs (default: auto, which is
                         seccomp, or ptrace where that does not work)
  --trace[=FILE]         write a line for each stopped call to FILE, or to stderr
  --json                 ... with a JSON object for a line
  --overlay              show the stacks as files in /dev/net; slows down what looks at
                         many files
  --pid PID              a program of yours that runs enters the view, with what it will
                         start; sockets that it has stay the host's
  --help, --version      show this text, or the version

Modules:
  umnet        lo, and a card nat0 (10.0.2.15, fd00::15) that leads out through the
               host's own network
  umnetlwipv6  lo, and cards on virtual Ethernets: a host beside others
  umnetlink    sockets of some families from one stack, the rest from another
  umnetnull    no network at all
  umnetnative  the host's network; in a nested view only where the view around has it
  umnetcurrent the network of the view around this one
  Others can be installed by pip: docs/modules.md. Those without a stack have a say in
  what programs do on the others (-p umnet -p umfilter,...).

Options of umnet:
  fwd=[HOSTADDR:]HOSTPORT:PORT[/udp]  lead a port of the host (127.0.0.1 unless
                    HOSTADDR says another; IPv6 in brackets) into the view
  host              10.0.2.2 and fd00::2 lead to the host's loopback
  ip=ADDRESS/PREFIX gw=ADDRESS dns=ADDRESS   own addresses, gateway, name server
  domain=NAME hostname=NAME                  own names
  v4, v6            IPv4 only, IPv6 only
  nofiles           leave /etc/resolv.conf, /etc/hosts and nsswitch.conf alone

Options of umnetlwipv6: cards, each with the words after it, and options of umnet
  vdN=VNL           a card in a switch (vde://FOLDER), a slirp (slirp://), a tap
                    interface (tap://NAME), or wherever libvdeplug can plug it in
  wire=NAME         a card on a wire to another view
  nat0              the card of umnet, besides
  ip=ADDRESS/PREFIX gw=ADDRESS mtu=BYTES mac=ADDRESS   what a card has
  auto, auto4, auto6, dhcp, slaac, rd, dhcp6           what it asks its network for
  forward, ra=FILE  forward packets from card to card; announce the router

Examples:
  umview bash                                     a shell in a network of its own
  umview -p umnet,fwd=8080:80 python3 -m http.server 80
                                                  a server on port 80, by anyone,
                                                  seen on the host's port 8080
  umview -p umnet,host curl http://10.0.2.2:8080/ a look at the host's server
  umview -p umnet,ip=192.168.7.1/24,hostname=box bash
  umview -p umnetlwipv6,vd0=vde:///tmp/lan,ip=10.0.5.7/24 ping 10.0.5.80
                                                  a host on the Ethernet /tmp/lan
  umview -p umnetnull make                        a build that cannot download
  umview --trace=calls.log curl http://example.org/
                                                  what curl asks of the network
  umview -p umnet -p /dev/net/lan=umnetlwipv6,wire=w,ip=10.0.0.1/24 bash
                                                  two stacks; `mstack /dev/net/lan
                                                  COMMAND` runs it with the second one

umctl looks at views that run, changes, enters and ends them: umctl --help

The exit status is COMMAND's; 128+N if signal N ended it; 125 if umview itself failed,
126 if COMMAND cannot be executed, 127 if there is none of that name.
"""

_SHORT = "f:hp:V:v"
# getopt(3) knows options that may have a value, Python's does not: with one it goes by
# another name, which nobody can type.
_TRACE_TO = "trace\0"
_LONG = [
    *("help", "json", "overlay", "pid=", "trace", f"{_TRACE_TO}=", "tracer="),
    "version",
]
_KNOWN = (
    "-p, -f, -V, -v, --tracer, --pid, --trace, --json, --overlay, --help, --version"
)
_TRACERS = ("auto", "seccomp", "ptrace")


class Request(NamedTuple):
    """What the command line asks for."""

    mounts: tuple[str, ...]
    command: tuple[str, ...]
    name: str | None
    is_verbose: bool
    tracer: str
    is_traced: bool = False
    trace_file: str | None = None  # None: stderr
    is_json: bool = False
    is_overlaid: bool = False
    rc_file: str | None = None  # None: the user's own, if there is one
    pid: int = 0  # of the running program that enters the view
    text: str | None = None  # to show, in place of all else


def parse(words: Sequence[str]) -> Request:
    """Read the words after ``umview``; the options end where the command begins.

    Raises:
        UmviewError: They have no sense.
    """
    try:
        options, rest = getopt.getopt([_named(word) for word in words], _SHORT, _LONG)
    except getopt.GetoptError as exc:
        raise UmviewError(f"{exc.msg}; known options: {_KNOWN}") from None
    command = words[len(words) - len(rest) :]
    found = dict(options)
    trace_file = found.get(f"--{_TRACE_TO}")
    is_traced = trace_file is not None or "--trace" in found
    text = None
    if "--help" in found or "-h" in found:
        text = _HELP
    elif "--version" in found:
        text = f"umview {__version__}\n"
    elif "--pid" not in found and not command:
        raise UmviewError("no command: say what to run, as in: umview bash")
    tracer = found.get("--tracer", "auto")
    if tracer not in _TRACERS:
        known = ", ".join(_TRACERS)
        raise UmviewError(f"unknown tracer '{tracer}'; known tracers: {known}")
    if "--json" in found and not is_traced:
        raise UmviewError("--json says how --trace writes; give --trace, too")
    pid = 0
    if "--pid" in found and text is None:
        pid = _read_pid(found["--pid"], command)
    if pid and is_traced and trace_file is None:
        raise UmviewError(
            "--trace needs a file with --pid: umview has returned when the program "
            "makes its calls; give --trace=FILE"
        )
    return Request(
        mounts=tuple(value for option, value in options if option == "-p"),
        command=tuple(command),
        name=found.get("-V"),
        is_verbose="-v" in found,
        tracer=tracer,
        is_traced=is_traced,
        trace_file=trace_file,
        is_json="--json" in found,
        is_overlaid="--overlay" in found,
        rc_file=found.get("-f"),
        pid=pid,
        text=text,
    )


def _named(word: str) -> str:
    name, equals, value = word.partition("=")
    return f"--{_TRACE_TO}={value}" if (name, equals) == ("--trace", "=") else word


def _read_pid(text: str, command: Sequence[str]) -> int:
    """Return the process id of --pid.

    Raises:
        UmviewError: It is none, or there is a command, too.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31):
        raise UmviewError(f"--pid {text}: a process id is a number, as ps shows it")
    if command:
        raise UmviewError(
            f"--pid {text} {command[0]}: a program that runs, or a command to run, "
            "not both"
        )
    return int(text)


def main() -> int:
    """Run umview.

    Returns:
        The exit status, where no command was run; after one the process ends at once,
        for to take down the interpreter would cost another 5 ms.
    """
    _end_by_interrupt()
    inherited = _open_descriptors()
    try:
        request = parse(sys.argv[1:])
        if request.text is not None:
            sys.stdout.write(request.text)
            return 0
        os._exit(_run(request, inherited))
    except UmviewError as exc:
        sys.stderr.write(f"umview: {exc}\n")
        return FAILED


def _run(request: Request, inherited: tuple[int, ...]) -> int:
    # A start makes nothing that has to be collected, and looking for it takes 7 of 90
    # ms; who goes on after it enables this again.
    gc.disable()
    from umview import front, module, runtime
    from umview.job import Job, Tracing

    ignores_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL) == signal.SIG_IGN
    mask = frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, front.TAKEN))
    is_nested = _is_in_view()
    if is_nested and request.is_traced:
        raise UmviewError(
            "--trace: the log of calls is that of all views of a tree: give it to the "
            "outermost umview"
        )
    # a nested view is as it is asked for: the file is for the one that it is in
    said = _read_rc(request.rc_file or (None if is_nested else _own_rc()))
    mounts, policies = module.ask_all(request.mounts, said.words)
    tracing = None
    if request.is_traced:
        fd = None if request.trace_file is None else _create(request.trace_file)
        tracing = Tracing(fd, request.is_json)
    name = request.name or said.name or f"umview-{os.getpid()}"
    directory = None if is_nested else runtime.create(name, os.environ)
    job = Job(
        name,
        mounts,
        policies,
        request.command,
        request.pid,
        request.is_verbose,
        mask,
        ignores_children,
        inherited,
        request.tracer,
        tracing,
        request.is_overlaid or said.is_overlaid,
    )
    return front.run(directory, job)


def _is_in_view() -> bool:
    """Tell whether umview runs in a view; who is under no filter is not asked twice."""
    with contextlib.suppress(OSError), open("/proc/self/status", "rb") as file:
        if b"\nSeccomp:\t0\n" in file.read():
            return False
    from umview import _ffi

    return _ffi.is_in_view()


def _own_rc() -> str | None:
    """Return the user's own rc file, if there is one."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not folder.startswith("/"):
        folder = os.path.expanduser("~/.config")
    path = f"{folder}/umview/rc.toml"
    return path if os.path.exists(path) else None


def _read_rc(path: str | None) -> Rc:
    from umview import job

    if path is None:
        return job.Rc()
    from umview import rc

    return rc.read(path)


def _create(path: str) -> int:
    """Open a file for the log of calls, while the directory is still the user's."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as exc:
        raise UmviewError(
            f"--trace: cannot write to '{path}': {exc.strerror}; name another file"
        ) from None


def _end_by_interrupt() -> None:
    """Let Ctrl-C end this process as it ends others: at once, without a traceback.

    Only where Python has changed it: nohup(1) and the like have to reach the command.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_descriptors() -> tuple[int, ...]:
    """Return the descriptors above 2 that umview was started with.

    A standard one that is closed is opened, and closed again for the command
    (close-on-exec), so that none of ours gets its number.
    """
    for fd in range(3):
        if not _is_open(fd):
            os.open(os.devnull, os.O_RDWR)
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    return tuple(fd for fd in listed if fd > 2 and _is_open(fd))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
