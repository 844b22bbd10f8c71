"""The directory of a view's sockets, and the name that it takes by having one.

``$XDG_RUNTIME_DIR/umview/NAME``, or ``/tmp/umview-UID/NAME`` where that is missing. The
supervisor holds a lock (flock(2)) on its directory for as long as it lives, so a
directory that can be locked was left by one that was killed, and the next to come
removes it. Whoever makes or removes one holds a lock on the directory above, which is
removed with its last view: after taking that lock one has to look whether the
directory is still the one that was opened.

Paths are strings here: pathlib would be 5 of the 90 ms that umview takes to start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping

from umview.errors import UmviewError

_LONGEST = 64
_TRIES = 1000  # of which each fails only where another process was faster


class Runtime:
    """A view's own directory; its name is taken until the lock's last copy closes."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._other = ""  # a link of that name, so that no other view gets it

    def release(self) -> None:
        """Leave the directory to the other processes that hold it open."""
        os.close(self._lock)

    def remove(self) -> None:
        """Remove the directory, unless another view has taken the name since."""
        with contextlib.suppress(OSError), _locked(os.path.dirname(self.path)):
            self._free()
            _remove(self.path)

    def rename(self, name: str) -> None:
        """Take another name, in place of the one before; the directory stays.

        Raises:
            UmviewError: The name is in use, or cannot be taken.
        """
        root, own = os.path.split(self.path)
        if f"{root}/{name}" == self._other:
            return
        try:
            with _locked(root):
                if name != own:
                    os.symlink(own, f"{root}/{name}")
                self._free()
        except FileExistsError:
            raise UmviewError(
                f"{name}: a view of this name is running; choose another name"
            ) from None
        except OSError as exc:
            raise UmviewError(f"{name}: {exc.strerror}") from exc
        self._other = f"{root}/{name}" if name != own else ""

    def _free(self) -> None:
        if self._other:
            os.unlink(self._other)
            self._other = ""

    def remove_stale(self) -> None:
        """Remove the directory where its supervisor was killed."""
        root = os.path.dirname(self.path)
        with contextlib.suppress(OSError), _locked(root):
            _remove_dead(self.path)
            for name in os.listdir(root):
                if os.path.islink(f"{root}/{name}"):
                    _remove_dead(f"{root}/{name}")


def create(name: str, environ: Mapping[str, str]) -> Runtime:
    """Take a name, and clean up after killed supervisors.

    Args:
        name: The view's name.
        environ: The environment, for XDG_RUNTIME_DIR.

    Raises:
        UmviewError: The name is in use or has no sense, or no directory can be made.
    """
    if not is_name(name):
        raise UmviewError(
            f"-V {name}: a name is up to 64 letters, digits, dots, - and _"
        )
    root = _root(environ)
    try:
        with _locked(root):
            with os.scandir(root) as entries:
                for entry in sorted(entries, key=os.DirEntry.is_symlink):
                    _remove_dead(entry.path)
            path = f"{root}/{name}"
            os.mkdir(path, mode=0o700)
            return Runtime(path, _lock(path))
    except FileExistsError:
        raise UmviewError(
            f"-V {name}: a view of this name is running; choose another name"
        ) from None
    except OSError as exc:
        raise UmviewError(
            f"cannot make the directory {root}/{name}: {exc.strerror}; "
            "set XDG_RUNTIME_DIR to a directory of your own"
        ) from exc


def views(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the names and directories of the user's views, by name.

    Args:
        environ: The environment, for XDG_RUNTIME_DIR; root can name another user's.
    """
    roots = {_root(environ)}
    if os.getuid() == 0 and (given := environ.get("XDG_RUNTIME_DIR")):
        roots.add(f"{given}/umview")
    return sorted(found for root in roots for found in _views(root))


def _views(root: str) -> list[tuple[str, str]]:
    try:
        with os.scandir(root) as entries:
            return [
                (entry.name, entry.path)
                for entry in entries
                if is_name(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def folder(name: str, environ: Mapping[str, str]) -> str:
    """Return the directory of a view."""
    return f"{_root(environ)}/{name}"


def wire(name: str, environ: Mapping[str, str]) -> str:
    """Return where the two ends of a wire meet; no view can be called ``.wires``."""
    return f"{_root(environ)}/.wires/{name}"


def is_name(name: str) -> bool:
    """Whether a view or a wire can have this name."""
    plain = name.translate({ord(mark): "x" for mark in "-_."})
    wanted = plain.isascii() and plain.isalnum() and name[0] not in "-."
    return wanted and len(name) <= _LONGEST


def _root(environ: Mapping[str, str]) -> str:
    given = environ.get("XDG_RUNTIME_DIR")
    if given and _is_own(given) and os.access(given, os.W_OK | os.X_OK):
        return f"{given}/umview"
    return f"/tmp/umview-{os.getuid()}"


def _is_own(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


@contextlib.contextmanager
def _locked(root: str) -> Iterator[None]:
    """Hold the lock on the directory of all views, made if it is missing.

    It is removed at the end if it is empty.

    Raises:
        OSError: It cannot be made, or is not the user's own.
    """
    fd = _lock_root(root)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(root)
        os.close(fd)


def _lock_root(root: str) -> int:
    """Return a descriptor that holds the lock on the directory of all views.

    Another view may remove the directory after any step, so the steps are repeated.

    Raises:
        OSError: As `_locked`.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            os.mkdir(root, mode=0o700)
        try:
            fd = _open(root)
        except FileNotFoundError:
            continue
        if os.fstat(fd).st_uid != os.getuid():
            os.close(fd)
            raise PermissionError(errno.EPERM, "it belongs to somebody else")
        fcntl.flock(fd, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.lstat(root)):
                return fd
        os.close(fd)
    raise BlockingIOError(errno.EAGAIN, "other views keep on removing it")


def _lock(path: str) -> int:
    """Return a descriptor that holds the lock on a directory.

    Raises:
        BlockingIOError: Another process holds it.
    """
    fd = _open(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise
    return fd


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _remove_dead(path: str) -> None:
    if os.path.islink(path):
        if not os.path.exists(path):
            os.unlink(path)
        return
    try:
        fd = _lock(path)
    except OSError:
        return  # alive, or already gone
    _remove(path)
    os.close(fd)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _remove(entry.path)
                else:
                    os.unlink(entry.path)
        os.rmdir(path)
