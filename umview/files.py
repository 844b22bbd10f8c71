"""Open the files that tell of a view's network: /proc/net, /proc/sys/net, sysfs.

/sys/class/net is, for each stack, a tree of real files below our own directory, made
when it is first asked for: who has opened a directory of it goes on in the kernel.
(opendir(3) is not stopped, for that makes `ls -R` 2.4 times as slow; Go's is an open
like others.) The settings below /proc/sys/net are the host's but for those in which a
view differs. What is handed out can be read only.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence

from umview import procnet
from umview.errors import os_error
from umview.view import FOLDERS, Card, Socket, Stack

_PROC, _SYSCTL, _CLASS = FOLDERS
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_LO_FLAGS, _CARD_FLAGS = 0x9, 0x1003
_COUNTERS = (
    *("collisions", "multicast"),
    *(f"rx_{what}" for what in ("bytes", "compressed", "crc_errors", "dropped")),
    *(f"rx_{what}" for what in ("errors", "fifo_errors", "frame_errors")),
    *(f"rx_{what}" for what in ("length_errors", "missed_errors", "nohandler")),
    *(f"rx_{what}" for what in ("over_errors", "packets")),
    *(f"tx_{what}" for what in ("aborted_errors", "bytes", "carrier_errors")),
    *(f"tx_{what}" for what in ("compressed", "dropped", "errors", "fifo_errors")),
    *(f"tx_{what}" for what in ("heartbeat_errors", "packets", "window_errors")),
)
_SETTINGS = {
    "ipv4/ip_forward": "0",
    "ipv4/ip_local_port_range": "32768\t60999",
    "ipv4/ip_local_reserved_ports": "",
    "ipv4/ip_nonlocal_bind": "0",
    "ipv4/ip_unprivileged_port_start": "0",
    "ipv4/ping_group_range": "0\t2147483647",
    "ipv6/bindv6only": "0",
}


def open_one(
    path: str,
    flags: int,
    stack: Stack,
    sockets: Callable[[], Sequence[Socket]],
    folder: str,
) -> int:
    """Return a descriptor of a file in one of the folders.

    Args:
        path: The file, absolute and normalised.
        flags: Those of the program's open(2).
        stack: The stack that is the program's default.
        sockets: Lists all sockets.
        folder: The directory of the tree of views.

    Raises:
        OSError: As open(2); ENOENT for what the host alone has.
    """
    if path.startswith(_CLASS):
        return _open_class(path[len(_CLASS) :], flags, stack, folder)
    if path.startswith(_SYSCTL):
        return _open_setting(path[len(_SYSCTL) :], flags, stack)
    name = path[len(_PROC) :]

    def own() -> list[Socket]:
        return [sock for sock in sockets() if sock.stack == stack.number]

    return _text(procnet.compose(name, stack.cards, own), flags)


def _text(text: str, flags: int) -> int:
    if flags & os.O_DIRECTORY:
        raise os_error(errno.ENOTDIR)
    fd = os.memfd_create("umview")
    try:
        os.write(fd, text.encode())
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    finally:
        os.close(fd)


# ---- settings ----


def _open_setting(name: str, flags: int, stack: Stack) -> int:
    value = _SETTINGS.get(name)
    if name.startswith("ipv6/conf/") and name.endswith("/disable_ipv6"):
        has6 = any(own.version == 6 for card in stack.cards for own in card.addresses)
        value = str(int(not has6))
    words = name.split("/")
    if len(words) > 2 and words[1] in ("conf", "neigh"):
        if words[2] not in ("all", "default", *(card.name for card in stack.cards)):
            raise os_error(errno.ENOENT)
        if words[2] not in ("all", "lo"):
            words[2] = "default"  # the host has no card of that name
    if value is not None:
        return _text(f"{value}\n", flags)
    fd = os.open(_SYSCTL + "/".join(words), os.O_RDONLY | flags & os.O_DIRECTORY)
    if not os.fstat(fd).st_mode & stat.S_IROTH:  # the program may have fewer rights
        os.close(fd)
        raise os_error(errno.EACCES)
    return fd


# ---- /sys/class/net ----


def forget(folder: str, stack: int) -> None:
    """Have the tree of /sys/class/net made anew: the cards are not what they were.

    Args:
        folder: The directory of the tree of views.
        stack: The number of the stack, which may also have gone.
    """
    shutil.rmtree(_tree(folder, stack), ignore_errors=True)


def _tree(folder: str, stack: int) -> str:
    return f"{folder}/class-net/{stack}"


def _open_class(name: str, flags: int, stack: Stack, folder: str) -> int:
    tree = _tree(folder, stack.number)
    if not os.path.isdir(tree):
        os.makedirs(tree, mode=0o755)
        for card in stack.cards:
            _make(f"{tree}/{card.name}", _card_files(card))
            counters = dict.fromkeys(_COUNTERS, "0")
            _make(f"{tree}/{card.name}/statistics", counters)
    return os.open(tree + name, os.O_RDONLY | flags & os.O_DIRECTORY)


def _make(folder: str, texts: dict[str, str]) -> None:
    os.makedirs(folder, mode=0o755)
    for name, text in texts.items():
        fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        os.write(fd, f"{text}\n".encode("ascii"))
        os.close(fd)


def _card_files(card: Card) -> dict[str, str]:
    lo = card.is_loopback
    files = {
        "addr_assign_type": "0",
        "addr_len": "6",
        "address": card.mac.hex(":"),
        "broadcast": (bytes(6) if lo else b"\xff" * 6).hex(":"),
        "carrier": str(int(card.has_carrier)),
        "carrier_changes": "0",
        "carrier_down_count": "0",
        "carrier_up_count": "0",
        "dev_id": "0x0",
        "dev_port": "0",
        "dormant": "0",
        "flags": hex(_LO_FLAGS if lo else _CARD_FLAGS),
        "ifalias": "",
        "ifindex": str(card.number),
        "iflink": str(card.number),
        "link_mode": "0",
        "mtu": str(card.mtu),
        "name_assign_type": "2",
        "netdev_group": "0",
        "operstate": "unknown" if lo else "up" if card.has_carrier else "down",
        "tx_queue_len": "1000",
        "type": str(_ARPHRD_LOOPBACK if lo else _ARPHRD_ETHER),
        "uevent": f"INTERFACE={card.name}\nIFINDEX={card.number}",
    }
    return files if lo else files | {"duplex": "full", "speed": "10000"}
