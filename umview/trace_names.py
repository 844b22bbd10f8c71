"""The names of the numbers that stopped calls take, as the kernel's headers have them.

The names of options are the core's (`umview._ffi.options`); those of calls and of
their arguments are python-ptrace's.
"""

from __future__ import annotations

import os
import socket

from umview.abi.ifreq import Siocgif

PROTOCOLS = {
    0: "IPPROTO_IP",
    1: "IPPROTO_ICMP",
    6: "IPPROTO_TCP",
    17: "IPPROTO_UDP",
    58: "IPPROTO_ICMPV6",
    132: "IPPROTO_SCTP",
    136: "IPPROTO_UDPLITE",
    255: "IPPROTO_RAW",
    262: "IPPROTO_MPTCP",
}
NETLINK_PROTOCOLS = {
    0: "NETLINK_ROUTE",
    4: "NETLINK_SOCK_DIAG",
    9: "NETLINK_AUDIT",
    12: "NETLINK_NETFILTER",
    15: "NETLINK_KOBJECT_UEVENT",
    16: "NETLINK_GENERIC",
}
SOL_NETLINK = 270
NETLINK_OPTIONS = {
    1: "NETLINK_ADD_MEMBERSHIP",
    2: "NETLINK_DROP_MEMBERSHIP",
    3: "NETLINK_PKTINFO",
    5: "NETLINK_NO_ENOBUFS",
    10: "NETLINK_CAP_ACK",
    11: "NETLINK_EXT_ACK",
    12: "NETLINK_GET_STRICT_CHK",
}
SOCKET_TYPES = {
    1: "SOCK_STREAM",
    2: "SOCK_DGRAM",
    3: "SOCK_RAW",
    4: "SOCK_RDM",
    5: "SOCK_SEQPACKET",
    10: "SOCK_PACKET",
}
MSOCKET_TYPES = {0: "SOCK_DEFAULT", **SOCKET_TYPES}
SOCKET_FLAGS = {
    int(socket.SOCK_NONBLOCK): "SOCK_NONBLOCK",
    int(socket.SOCK_CLOEXEC): "SOCK_CLOEXEC",
}
MSG = {
    0x1: "MSG_OOB",
    0x2: "MSG_PEEK",
    0x4: "MSG_DONTROUTE",
    0x8: "MSG_CTRUNC",
    0x20: "MSG_TRUNC",
    0x40: "MSG_DONTWAIT",
    0x80: "MSG_EOR",
    0x100: "MSG_WAITALL",
    0x800: "MSG_CONFIRM",
    0x2000: "MSG_ERRQUEUE",
    0x4000: "MSG_NOSIGNAL",
    0x8000: "MSG_MORE",
    0x10000: "MSG_WAITFORONE",
    0x4000000: "MSG_ZEROCOPY",
    0x20000000: "MSG_FASTOPEN",
    0x40000000: "MSG_CMSG_CLOEXEC",
}
SHUT = {0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"}
ACCESS = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR"}
OPEN = {
    os.O_TMPFILE: "O_TMPFILE",  # before O_DIRECTORY, which is part of it
    os.O_CREAT: "O_CREAT",
    os.O_EXCL: "O_EXCL",
    os.O_NOCTTY: "O_NOCTTY",
    os.O_TRUNC: "O_TRUNC",
    os.O_APPEND: "O_APPEND",
    os.O_NONBLOCK: "O_NONBLOCK",
    os.O_SYNC: "O_SYNC",
    os.O_DSYNC: "O_DSYNC",
    os.O_DIRECT: "O_DIRECT",
    os.O_DIRECTORY: "O_DIRECTORY",
    os.O_NOFOLLOW: "O_NOFOLLOW",
    os.O_NOATIME: "O_NOATIME",
    os.O_CLOEXEC: "O_CLOEXEC",
    os.O_PATH: "O_PATH",
}
CLONE = {
    0x00000080: "CLONE_NEWTIME",
    0x00020000: "CLONE_NEWNS",
    0x02000000: "CLONE_NEWCGROUP",
    0x04000000: "CLONE_NEWUTS",
    0x08000000: "CLONE_NEWIPC",
    0x10000000: "CLONE_NEWUSER",
    0x20000000: "CLONE_NEWPID",
    0x40000000: "CLONE_NEWNET",
}
PRCTL = {3: "PR_GET_DUMPABLE", 4: "PR_SET_DUMPABLE"}
IOCTL = {
    0x5411: "TIOCOUTQ",
    0x541B: "FIONREAD",
    0x8901: "FIOSETOWN",
    0x8902: "SIOCSPGRP",
    0x8903: "FIOGETOWN",
    0x8904: "SIOCGPGRP",
    0x8905: "SIOCATMARK",
    0x8914: "SIOCSIFFLAGS",
    0x8916: "SIOCSIFADDR",
    0x891C: "SIOCSIFNETMASK",
    0x8922: "SIOCSIFMTU",
    0x8946: "SIOCETHTOOL",
    **{one.value: f"SIOCGIF{one.name}" for one in Siocgif},
}
CONTROL = {1: "SCM_RIGHTS", 2: "SCM_CREDENTIALS", 3: "SCM_SECURITY", 4: "SCM_PIDFD"}
