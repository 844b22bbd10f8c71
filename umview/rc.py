"""The rc file: what a view has, in TOML, for those who do not want to say it each time.

    [view]
    name = "work"
    overlay = true
    modules = ["umfilter,deny=10.0.0.0/8"]

    [[mount]]
    path = "/dev/net/default"
    type = "umnet"
    options = "fwd=8080:80"

What the command line says comes first: -V for the name, -p for what is at a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umview.errors import UmviewError
from umview.job import Rc

_VIEW = {"name": str, "overlay": bool, "modules": list}
_MOUNT = {"path": str, "type": str, "options": str, "source": str}
_CALLED = {str: "a string", bool: "true or false", list: "a list of strings"}


def read(path: str) -> Rc:
    """Read an rc file.

    Raises:
        UmviewError: It cannot be read, or something in it has no sense; the text names
            file, table and key.
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as exc:
        raise UmviewError(f"{path}: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UmviewError(f"{path}: {exc}") from None
    try:
        return _read(tables)
    except UmviewError as exc:
        raise UmviewError(f"{path}: {exc}") from None


def _read(tables: dict[str, object]) -> Rc:
    for name in tables:
        if name not in ("view", "mount"):
            raise UmviewError(f"unknown table '{name}'; known: [view], [[mount]]")
    view = _checked("[view]", tables.get("view", {}), _VIEW)
    mounts = tables.get("mount", [])
    if not isinstance(mounts, list):
        raise UmviewError("mount: it is a list of tables: write [[mount]]")
    words = [_mount(f"[[mount]] {at}", one) for at, one in enumerate(mounts, 1)]
    for module in view.get("modules", ()):
        if not isinstance(module, str):
            raise UmviewError("[view] modules: give a list of strings")
        words.append(module)
    return Rc(view.get("name"), view.get("overlay", False), tuple(words))


def _mount(where: str, table: object) -> str:
    """Return what -p would say."""
    given = _checked(where, table, _MOUNT)
    for key in ("path", "type"):
        if key not in given:
            raise UmviewError(f"{where}: {key} is missing")
    if not given["path"].startswith("/"):
        raise UmviewError(f"{where} path: give an absolute one, as /dev/net/work")
    options = given.get("options", "")
    return f"{given['path']}={given['type']}{options and ','}{options}"


def _checked(where: str, table: object, known: Mapping[str, type]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UmviewError(f"{where}: it is a table")
    for key, value in table.items():
        if key not in known:
            names = ", ".join(known)
            raise UmviewError(f"{where}: unknown key '{key}'; known keys: {names}")
        if not isinstance(value, known[key]):
            raise UmviewError(f"{where} {key}: give {_CALLED[known[key]]}")
    return table
