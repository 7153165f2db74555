"""Ending with one's parent: what keeps a killed process from leaving its children behind.

As a program, `python -m tasks.workspace.leash PARENT_PID PROGRAM ARGUMENT…` becomes PROGRAM on
a leash: the kernel keeps it across exec, so any program can be started that way.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def end_with(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends. Linux only.

    A parent that is gone already can't be waited for: then this process ends at once.
    """
    if _libc is None:
        return
    if _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if os.getppid() != parent_pid:
        os._exit(1)


@functools.cache
def prefix() -> tuple[str, ...]:
    """Return the words before a command that is to end with the thread that starts it.

    util-linux's setpriv, as quick as an exec; nothing where it is missing.
    """
    has_setpriv = sys.platform == "linux" and shutil.which("setpriv") is not None
    return ("setpriv", "--pdeathsig", "KILL", "--") if has_setpriv else ()


def leash_forks(led_by: int, lead_group: Callable[[], None]) -> None:
    """Put every process that is forked from now on, here and in children, on a leash.

    `lead_group` is called in children of the process `led_by`, before they do anything else.
    """
    parent_pid = os.getpid()

    def remember() -> None:
        nonlocal parent_pid
        parent_pid = os.getpid()

    def tie() -> None:
        end_with(parent_pid)
        if parent_pid == led_by:
            lead_group()

    os.register_at_fork(before=remember, after_in_child=tie)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell; the caller chose the program
