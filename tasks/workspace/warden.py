"""The warden of a program that runs without a sandbox: nothing that it started outlives it.

Run as a program of its own (`python -I -S warden.py PROGRAM ARGUMENT…`, standard library only).
Linux only.

It is two processes. The front stands for PROGRAM in its caller's group: it may be killed there,
and ends with its caller. The warden behind it has a session of its own and is handed every orphan
among PROGRAM's descendants, so nobody gets away by forking twice or by leaving the group. It is no
containment: PROGRAM has the rights to kill its warden.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
GRACE_S = 2.0  # between asking and killing, as in process.py
GIVE_UP_AFTER_S = 10.0  # on what cannot be killed, e.g. because it is somebody else's
_HEARD = (signal.SIGTERM, signal.SIGCHLD)
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    """Run the program to its end, with all its descendants; return its exit code."""
    caller = os.getppid()
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != caller:
        return 1
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    front = os.getpid()
    warden = os.fork()
    if warden == 0:
        code = 1
        try:
            code = guard(sys.argv[1:], front)
        finally:
            os._exit(code)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(warden, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    _, status = os.waitpid(warden, 0)
    return os.waitstatus_to_exitcode(status)


def guard(argv: list[str], front: int) -> int:
    """Run `argv` until it ends, the front is gone, or both ask for it; then end all it started."""
    os.setsid()
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
    program = os.fork()
    if program == 0:
        _become(argv)
    status = _watch(program, front)
    ended = _end_all()
    status = ended.get(program) if status is None else status
    code = 1 if status is None else os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def descendants(of: int) -> list[int]:
    """Return the pids of all processes that descend from `of`, which is not among them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - plain names
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                parent = int(stat.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    found, looked_at = [of], 0
    while looked_at < len(found):
        found += children.get(found[looked_at], [])
        looked_at += 1
    return found[1:]


def _become(argv: list[str]) -> None:
    """Turn this process into the program, in a session of its own. Does not return."""
    os.setsid()
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    # Exec keeps what is ignored: by Python, or by whoever started the service, as nohup does.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell; the caller chose the program
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{argv[0]}: {error}\n")
        sys.stderr.flush()
        os._exit(127)


def _watch(program: int, front: int) -> int | None:
    """Wait for the program's end and return its status; None when it has to be ended."""
    until = float("inf")
    while True:
        heard = signal.sigtimedwait(_HEARD, min(1.0, max(0.0, until - time.monotonic())))
        if os.getppid() != front:
            return None
        if heard and heard.si_signo == signal.SIGTERM and until == float("inf"):
            until = time.monotonic() + GRACE_S
            _signal_all(signal.SIGTERM)
        ended = _reap()
        if program in ended:
            return ended[program]
        if time.monotonic() >= until:
            return None


def _end_all() -> dict[int, int]:
    """Kill every descendant; return the status of each child of ours, by pid."""
    ended: dict[int, int] = {}
    until = time.monotonic() + GIVE_UP_AFTER_S
    while time.monotonic() < until:
        _signal_all(signal.SIGKILL)
        ended |= _reap()
        if not descendants(os.getpid()):
            break
        time.sleep(0.005)
    return ended


def _signal_all(number: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def _reap() -> dict[int, int]:
    """Return the status of each child that has ended since the last call, by pid."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
            ended[found[0]] = found[1]
    return ended


if __name__ == "__main__":
    sys.exit(main())
