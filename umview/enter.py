"""Become a command of a view that runs: for `umctl attach` and `umview.View`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from umview._ffi import Stage, child_exec, execute, is_in_view
from umview.control import Caller
from umview.errors import FAILED, UmviewError
from umview.view import Filter


def enter(caller: Caller, view: object, command: Sequence[str]) -> OSError:
    """Become a command of a view.

    Args:
        caller: A connection to its supervisor.
        view: Its number, or name.
        command: The command.

    Returns:
        Only on failure: why the command cannot be executed.

    Raises:
        UmviewError: The view cannot be entered.
    """
    is_inside = is_in_view()
    told = caller.ask("enter", view=view, is_inside=is_inside)
    if is_inside:
        code = execute(command)
        return OSError(code, os.strerror(code))
    caller.sock.setblocking(True)
    stage, code = child_exec(
        caller.sock.fileno(), Filter(int(str(told["filter"]))), command
    )
    if stage is not Stage.EXEC:
        raise UmviewError(f"cannot enter the view: {os.strerror(code)}")
    return OSError(code, os.strerror(code))


def main() -> int:
    """Enter for `umview.api`, which hears on a pipe what has failed.

    Arguments: the view's number, its supervisor's directory ("" inside of a view), the
    pipe's descriptor, the command.
    """
    number, folder, tells, *command = sys.argv[1:]
    os.set_inheritable(int(tells), False)
    try:
        caller = Caller.outside(folder) if folder else Caller.inside()
        failure = enter(caller, int(number), command)
        text = f"{failure.errno}"
    except UmviewError as exc:
        text = f"0 {exc}"
    except OSError as exc:
        text = f"0 the view does not answer: {exc.strerror}"
    os.write(int(tells), os.fsencode(text))
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
