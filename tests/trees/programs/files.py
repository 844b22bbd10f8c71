"""Show what calls say of a folder with the unix sockets default and umnetnull1."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import subprocess
import sys
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)


def show(what: str, call: Callable[..., object], *args: object) -> None:
    """Print what a call returns, or its errno."""
    try:
        said = call(*args)
    except OSError as exc:
        said = exc.errno
    sys.stdout.write(f"{what} {said}\n")


def described(found: os.stat_result) -> str:
    return f"{stat.filemode(found.st_mode)} {found.st_uid} {found.st_size}"


def output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    return f"{done.returncode} {said.replace(folder, 'FOLDER')!r}"


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


folder = sys.argv[1]
one = f"{folder}/default"
show("listdir", lambda: sorted(os.listdir(folder)))
show("folder", lambda: stat.S_ISDIR(os.stat(folder).st_mode))
for what, path in {
    "whole": one,
    "double": f"{folder}//default",
    "dotted": f"{folder}/./default",
    "absent": f"{folder}/absent",
}.items():
    show(f"stat {what}", lambda path: described(os.stat(path)), path)
    show(f"lstat {what}", lambda path: described(os.lstat(path)), path)
    show(f"access {what}", os.access, path, os.R_OK | os.W_OK)
    show(f"run {what}", os.access, path, os.X_OK)
    show(f"open {what}", os.open, path, os.O_RDONLY)
    show(f"write {what}", os.open, path, os.O_WRONLY)
show("effective", lambda: os.access(one, os.W_OK, effective_ids=True))
show("create", lambda: os.open(one, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
show("exclusive", lambda: os.open(one, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
show("listdir of one", lambda: os.listdir(one))
show("write to the folder", lambda: os.open(folder, os.O_WRONLY))
show("readlink", lambda: os.readlink(one))
show("realpath", lambda: os.path.realpath(one) == one)
show("getxattr", lambda: os.getxattr(one, "user.none"))
show("listxattr", lambda: os.listxattr(one, follow_symlinks=False))
show("chown", lambda: os.chown(one, 1, 1))
show("chown to none", lambda: os.chown(one, -1, -1))
with contextlib.closing(os.scandir(folder)) as entries:
    for entry in sorted(entries, key=lambda entry: entry.name):
        show("entry", lambda entry: described(entry.stat()), entry)
fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
show("at", lambda: described(os.stat("default", dir_fd=fd)))
show("path", lambda: stat.S_ISDIR(os.fstat(os.open(folder, os.O_PATH)).st_mode))
show("bad buffer", lambda: checked(_libc.lstat(one.encode(), ctypes.c_void_p(8))))
for mode in (0o000, 0o640, 0o600):
    show("chmod", os.chmod, one, mode)
    show("mode", lambda: described(os.stat(one)))
    show("may write", lambda: os.access(one, os.W_OK))
os.chdir(folder)
show("relative", lambda: described(os.stat("umnetnull1")))
show("here", lambda: sorted(os.listdir(".")))
show("ls", lambda: output("ls", "-A", folder))
show("test", lambda: output("test", "-S", one))
show("find", lambda: output("find", folder, "-type", "s", "-name", "d*"))
show("stat", lambda: output("stat", "-c", "%F %a", one, "umnetnull1"))
show("cat", lambda: output("cat", one))
