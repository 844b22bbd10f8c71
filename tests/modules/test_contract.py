"""What every module has to keep, whatever it does.

The modules are umview's own; one that cannot be mounted without options has some in
NEEDED. Those of examples/modules are tested in tests/trees.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, cast

import pytest

from umview import cli, module, names
from umview._ffi import Switchboard
from umview.errors import UmviewError
from umview.view import Address, Filter, Road, Route, Stack, StackKind

MODULES = module.BUILT_IN
NEEDED = {"umnetlink": ("rest=/dev/net/work",)}
DOCS = Path(__file__).parents[2] / "docs"
WORK = Stack(7, StackKind.NET)  # what is mounted at /dev/net/work
WRONG = (
    "",
    "=",
    "nonsense",
    "ip=1.2.3.4/99",
    "4=",
    "rest=work",
    "vd0",
    "fwd=x",
    "fwd=1:2:3:4:5",
    "mtu=-1",
    "wire=",
    "v4=1",
    "\n",
)


class Recorder:
    """A switchboard that only notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def note(*args: Any, **kwargs: Any) -> int:  # noqa: ANN401
            self.calls.append((name, args, kwargs))
            if name == "add_forward":
                args[1].close()
            return 0

        return note

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [args for called, args, _ in self.calls if called == name]


def text_of(name: str) -> str:
    return ",".join((name, *NEEDED.get(name, ())))


def mounted(text: str) -> tuple[Stack, Filter, Recorder]:
    recorder = Recorder()
    mount = module.ask(text).mount
    mount.prepare(None)
    context = context_of(recorder)
    stack = mount.add(context)
    return stack, mount.furnish(context), recorder


def context_of(recorder: Recorder) -> module.Context:
    return module.Context(cast("Any", recorder), 0, None, stack_at)


def stack_at(path: str) -> Stack:
    if path != "/dev/net/work":
        raise UmviewError(f"{path}: no stack is mounted there")
    return WORK


@pytest.fixture(autouse=True)
def _sockets_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a name server opened; the supervisor just ends."""
    made: list[names.Proxy] = []
    original = names.Proxy.__init__

    def init(self: names.Proxy) -> None:
        original(self)
        made.append(self)

    monkeypatch.setattr(names.Proxy, "__init__", init)
    yield
    for proxy in made:
        proxy._udp.close()
        proxy._tcp.close()


@pytest.mark.parametrize("name", MODULES)
def test_it_is_found_by_name(name: str) -> None:
    assert name in module.BUILT_IN
    assert inspect.getdoc(module.find(name))


@pytest.mark.parametrize("name", MODULES)
def test_unknown_option_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(UmviewError, match=f"^{name}: unknown option 'nonsense'"):
        module.ask(f"{name},nonsense")


@pytest.mark.parametrize("name", MODULES)
def test_it_adds_one_stack(name: str) -> None:
    stack, _, recorder = mounted(text_of(name))
    assert stack.number == 0
    ((kind,),) = recorder.named("add_stack")
    assert kind == stack.kind


@pytest.mark.parametrize("name", MODULES)
def test_its_tables_are_of_its_cards(name: str) -> None:
    stack, _, recorder = mounted(text_of(name))
    for number, cards, _ in recorder.named("set_tables"):
        assert (number, cards) == (stack.number, stack.cards)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_an_option_is_a_line(name: str, wrong: str) -> None:
    try:
        module.ask(f"{name},{wrong}")
    except UmviewError as exc:
        text = str(exc)
        assert text.startswith(f"{name}: ")
        assert len(text.splitlines()) == 1
    else:
        assert wrong in ("vd0", ""), "it was taken"


@pytest.mark.parametrize("name", MODULES)
def test_to_read_options_changes_nothing(name: str, tmp_path: Path) -> None:
    before = held()
    asked = [module.ask(text_of(name)) for _ in range(2)]
    assert held() == before
    assert asked[0].mount is not asked[1].mount


@pytest.mark.parametrize(
    "text",
    [
        *(text_of(name) for name in MODULES),
        "umnet,fwd={}:80,fwd={}:53/udp",
        "umnetlwipv6,wire=contract,ip=10.7.0.1/24",
    ],
)
def test_what_was_mounted_leaves_nothing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv(MARK, tmp_path.name)
    (tmp_path / "board").mkdir(mode=0o700)
    board = Switchboard(str(tmp_path / "board"))
    work = board.add_stack(StackKind.NET, ipv4=True, ipv6=True)

    def at(path: str) -> Stack:
        return Stack(work, StackKind.NET)

    context = module.Context(board, 0, None, at)
    before: list[str] = []
    for _ in range(3):
        mount = module.ask(text.format(free_port(), free_port())).mount
        mount.prepare(None)
        stack = mount.add(context)
        mount.furnish(context)
        assert board.remove_stack(stack.number)
        mount.remove()
        before = before or held()  # with what the switchboard opens once
        assert held() == before
    board.close()
    until_none_is_left(tmp_path.name)


@pytest.mark.parametrize(
    "text",
    [
        "umnet,fwd={}:80",
        "umnet,fwd={1}:81,fwd={0}:80",
        "umnetlwipv6,wire=contract,vd1=vde:///nowhere/{}",
    ],
)
def test_what_cannot_be_mounted_leaves_nothing(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv(MARK, tmp_path.name)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = held()
        ports = taken.getsockname()[1], free_port()
        mount = module.ask(text.format(*ports)).mount
        with pytest.raises(UmviewError) as caught:
            mount.prepare(None)
        assert len(str(caught.value).splitlines()) == 1
        mount.remove()
        assert held() == before
    until_none_is_left(tmp_path.name)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


MARK = "UMVIEW_TEST_CONTRACT"


def held() -> list[str]:
    """What this process has open, and its threads."""
    fds = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the folder itself
            fds.append(os.readlink(f"/proc/self/fd/{fd}").partition(":[")[0])
    fds = [fd for fd in fds if not fd.startswith("/memfd:")]  # files of the view
    return sorted(fds) + sorted(one.name for one in threading.enumerate())


def until_none_is_left(mark: str) -> None:
    """Wait for the end of the processes that were started here."""
    wanted = f"{MARK}={mark}".encode()
    end = time.monotonic() + 60
    left = [""]
    while left:
        left = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if wanted in path.read_bytes().split(b"\0"):
                    left.append(path.parent.name)
        assert time.monotonic() < end, left
        time.sleep(0.02)


@pytest.mark.parametrize("name", MODULES)
def test_its_options_are_in_the_documentation(name: str) -> None:
    with pytest.raises(UmviewError) as caught:
        module.ask(f"{name},nonsense")
    known = str(caught.value).partition("known options: ")[2]
    pages = [DOCS / "stacks.md", DOCS / "modules.md", DOCS.parent / "README.md"]
    text = "".join(page.read_text() for page in pages) + cli._HELP
    for option in filter(None, known.split(", ")):
        word = option.rpartition(": ")[2].split("=")[0].split("[")[0]
        assert f"`{word}" in text or f"  {word}" in text, option
    assert name in text


def test_unknown_module_names_the_known_ones() -> None:
    with pytest.raises(UmviewError) as caught:
        module.ask("umnope,host")
    for name in MODULES:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("umnetnull", StackKind.NULL), ("umnetnative", StackKind.NATIVE)],
)
def test_plain_modules_leave_files_alone(name: str, kind: StackKind) -> None:
    stack, needed, recorder = mounted(name)
    assert stack.kind is kind
    assert needed == Filter.FILES  # for the views inside
    assert [called for called, _, _ in recorder.calls] == ["add_stack"]


# ---- umnet ----


def road(recorder: Recorder, to: str) -> tuple[Road, Address | None]:
    """Return what the longest prefix says, the first of equals."""
    best: Route | None = None
    for route in routes(recorder):
        if ip_address(to) in route.to and (
            best is None or route.to.prefixlen > best.to.prefixlen
        ):
            best = route
    assert best is not None
    return best.road, best.source


def routes(recorder: Recorder) -> list[Route]:
    *_, (_, _, table) = recorder.named("set_tables")
    return list(table)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("127.0.0.1", Road.LOCAL),
        ("127.9.9.9", Road.LOCAL),
        ("::1", Road.LOCAL),
        ("10.0.2.15", Road.LOCAL),
        ("fd00::15", Road.LOCAL),
        ("10.0.2.2", Road.REFUSED),
        ("fd00::2", Road.REFUSED),
        ("10.0.2.3", Road.REFUSED),
        ("fd00::3", Road.REFUSED),
        ("10.0.2.77", Road.UNREACHABLE),
        ("fd00::77", Road.UNREACHABLE),
        ("10.0.3.1", Road.RELAY),
        ("192.0.2.1", Road.RELAY),
        ("2001:db8::1", Road.RELAY),
        ("224.0.0.251", Road.UNREACHABLE),
        ("255.255.255.255", Road.UNREACHABLE),
        ("ff02::fb", Road.UNREACHABLE),
        ("fe80::1", Road.UNREACHABLE),
    ],
)
def test_umnet_roads(to: str, expected: Road) -> None:
    _, _, recorder = mounted("umnet")
    found, source = road(recorder, to)
    assert found is expected
    assert source is not None
    assert source.version == ip_address(to).version


def test_umnet_leads_the_gateway_to_the_host_only_on_demand() -> None:
    def gateway_maps(text: str) -> list[tuple[str, str]]:
        _, _, recorder = mounted(text)
        return [
            (str(args[1]), str(args[2]))
            for name, args, kwargs in recorder.calls
            if name == "add_map" and not kwargs
        ]

    assert gateway_maps("umnet") == []
    assert gateway_maps("umnet,host") == [("10.0.2.2", "127.0.0.1"), ("fd00::2", "::1")]
    assert gateway_maps("umnet,host,v4") == [("10.0.2.2", "127.0.0.1")]


def test_umnet_has_a_name_server_in_both_families_and_protocols() -> None:
    _, _, recorder = mounted("umnet")
    maps = {
        (str(args[1]), kwargs["protocol"], kwargs["port"])
        for name, args, kwargs in recorder.calls
        if name == "add_map"
    }
    assert maps == {
        (server, protocol, 53)
        for server in ("10.0.2.3", "fd00::3")
        for protocol in (6, 17)
    }


def test_umnet_files_and_names() -> None:
    _, needed, recorder = mounted("umnet,hostname=box")
    assert needed == Filter.FILES
    paths = {path for _, path, _ in recorder.named("set_file")}
    assert paths >= {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"}
    assert recorder.named("set_hostname") == [(0, "box", None)]
    assert (0, "/run/nscd/socket") in recorder.named("refuse_unix")


def test_umnet_nofiles_leaves_files_alone() -> None:
    _, needed, recorder = mounted("umnet,nofiles")
    assert needed == Filter.NONE
    assert recorder.named("set_file") == []
    assert recorder.named("refuse_unix")


def test_umnet_forward_that_cannot_be_had_says_which() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        mount = module.ask(f"umnet,fwd={port}:80").mount
        with pytest.raises(UmviewError, match=f"port {port} "):
            mount.prepare(None)


def test_umnet_own_networks_are_on_the_card() -> None:
    stack, _, recorder = mounted("umnet,ip=192.168.7.1/24,v4")
    assert [str(one) for one in stack.cards[1].addresses] == ["192.168.7.1/24"]
    networks = [route.to for route in routes(recorder)]
    assert ip_network("192.168.7.0/24") in networks
    assert all(network.version == 4 for network in networks)
