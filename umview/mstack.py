"""``mstack``: run a command with another stack of the view as its default."""

from __future__ import annotations

import errno
import getopt
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from umview import _msocket
from umview.errors import FAILED, UmviewError

_HELP = """\
Usage: mstack [-o LIST] [-v] STACK COMMAND [ARG...]

Run COMMAND, and all that it starts, with the stack that is mounted at STACK as the
default one. Other stacks stay within its reach, by msocket.

  -o LIST       only for these families of addresses (default: all)
  -v            say for which families the stack is the default now
  -h, --help    show this text

LIST is made of words with commas between them; + before a word adds it, which is what
no sign means, too, and - takes it away. Where - comes first, it takes from all.

  all           whatever the stack has of ip
  ip            ipv4, ipv6, netlink and packet
  ipv4 (4), ipv6 (6), netlink (n), packet (p), unix (u), bluetooth (b), irda (i)
  #N            the family with this number

Examples:
  mstack /dev/net/work firefox
  mstack -o ipv4 /dev/net/work curl http://10.0.0.1/
  mstack -o -netlink /dev/net/work ssh 10.0.0.1

The exit status is COMMAND's; 125 if mstack itself failed, 126 if COMMAND cannot be
executed, 127 if there is none of that name.
"""

_NUMBERS = {
    "unix": 1,
    "ipv4": 2,
    "ipv6": 10,
    "netlink": 16,
    "packet": 17,
    "irda": 23,
    "bluetooth": 31,
}
_NAMES = {number: name for name, number in _NUMBERS.items()}
_SHORT = {
    "u": "unix",
    "4": "ipv4",
    "6": "ipv6",
    "n": "netlink",
    "p": "packet",
    "i": "irda",
    "b": "bluetooth",
}
_IP = frozenset(_NUMBERS[name] for name in ("ipv4", "ipv6", "netlink", "packet"))
_MOST = 63  # the last number that a family can have
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


class Families(NamedTuple):
    """What a LIST asks for.

    Attributes:
        named: Each of these; that the stack lacks one is an error.
        some: Those of these that the stack has.
    """

    named: frozenset[int]
    some: frozenset[int]


def families(text: str) -> Families:
    """Read a LIST.

    Raises:
        UmviewError: It has a word that is none, or nothing is left.
    """
    named: frozenset[int] = frozenset()
    some = _IP if text.startswith("-") else frozenset[int]()
    for word in text.split(","):
        sign, plain = (word[0], word[1:]) if word[:1] in ("+", "-") else ("+", word)
        is_group = plain in ("all", "ip")
        meant = _IP if is_group else frozenset((_number(plain),))
        if sign == "-":
            named, some = named - meant, some - meant
        elif is_group:
            some |= meant
        else:
            named |= meant
    if not named | some:
        raise UmviewError(f"-o {text}: no family is left")
    return Families(named, some - named)


def _number(word: str) -> int:
    """Return the number of the family that a word names.

    Raises:
        UmviewError: It names none.
    """
    name = _SHORT.get(word, word)
    if name in _NUMBERS:
        return _NUMBERS[name]
    digits = word.removeprefix("#")
    if word.startswith("#") and digits.isascii() and digits.isdigit():
        number = int(digits)
        if 0 < number <= _MOST:
            return number
    known = ", ".join(("all", "ip", *_NUMBERS))
    raise UmviewError(
        f"-o: '{word}' is no family; known words: {known}, #1 to #{_MOST}"
    )


def set_defaults(stack: str, wanted: Families) -> list[int]:
    """Make a stack this process's default, which what it executes inherits.

    Args:
        stack: Its path.
        wanted: For which families.

    Returns:
        For which families it is.

    Raises:
        UmviewError: It cannot be.
    """
    made = []
    for family in sorted(wanted.named | wanted.some):
        try:
            _msocket.msocket(stack, family, _msocket.SOCK_DEFAULT)
        except OSError as exc:
            if exc.errno != errno.EAFNOSUPPORT:
                raise UmviewError(exc.strerror) from None
            if family in wanted.named:
                raise UmviewError(_lacking(stack, family)) from None
        else:
            made.append(family)
    if not made:
        raise UmviewError(
            f"{stack}: no stack, or one with none of: {_named(wanted.some)}"
        )
    return made


def _lacking(stack: str, family: int) -> str:
    if family == _NUMBERS["unix"]:
        return (
            "-o unix: unix sockets belong to no network; they are the kernel's in "
            "every view"
        )
    return f"{stack}: no stack, or one without {_named([family])}"


def _named(numbers: Iterable[int]) -> str:
    return ", ".join(_NAMES.get(number, f"#{number}") for number in sorted(numbers))


def main() -> int:
    """Run mstack.

    Returns:
        The exit status, where no command was run.
    """
    try:
        return _run(sys.argv[1:])
    except UmviewError as exc:
        sys.stderr.write(f"mstack: {exc}\n")
        return FAILED


def _run(words: Sequence[str]) -> int:
    try:
        options, rest = getopt.getopt(list(words), "ho:v", ["help"])
    except getopt.GetoptError as exc:
        raise UmviewError(f"{exc.msg}; known options: -o, -v, --help") from None
    found = dict(options)
    if "-h" in found or "--help" in found:
        sys.stdout.write(_HELP)
        return 0
    match rest:
        case [stack, *command] if command:
            pass
        case _:
            raise UmviewError("say a stack and a command: mstack /dev/net/work bash")
    made = set_defaults(stack, families(found.get("-o", "all")))
    if "-v" in found:
        sys.stderr.write(f"mstack: {stack} is the default for: {_named(made)}\n")
    return _become(command)


def _become(command: Sequence[str]) -> int:
    """Execute the command; on failure say why.

    Returns:
        The exit status, as a shell's.
    """
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # what Python has changed
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))
    except FileNotFoundError as exc:
        text = "command not found" if "/" not in command[0] else exc.strerror
        status = _NOT_FOUND
    except OSError as exc:
        text, status = exc.strerror, _NOT_EXECUTABLE
    sys.stderr.write(f"mstack: {command[0]}: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
