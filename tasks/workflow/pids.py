"""Telling one process from the next that gets its number: a pid together with its start."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessId:
    """A process of this host: its pid, and its start in clock ticks since the host booted."""

    pid: int
    start: int

    @property
    def is_alive(self) -> bool:
        """Say whether this very process runs; a zombie doesn't."""
        return start_of(self.pid) == self.start


def current() -> ProcessId:
    """Return the calling process. Raises RuntimeError where the system doesn't tell."""
    start = start_of(os.getpid())
    if start is None:
        raise RuntimeError("the start of this process cannot be read")
    return ProcessId(os.getpid(), start)


def start_of(pid: int) -> int | None:
    """Return when `pid` was started, in ticks since boot; None if it is gone or a zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None if (_PROC / "self").exists() else _start_without_proc(pid)
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before may hold anything
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def _start_without_proc(pid: int) -> int | None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return int(process.create_time() * 100)
    return None


@functools.cache
def host_name() -> str:
    """Return the name of this machine, as rows carry it."""
    return socket.gethostname()


def name_of(process: ProcessId) -> str:
    """Return `host:pid:start`, the name under which a process of this host holds leases."""
    return f"{host_name()}:{process.pid}:{process.start}"


def parse_name(name: str) -> tuple[str, ProcessId] | None:
    """Read what `name_of` wrote: the host and the process; None for any other text."""
    host, _, rest = name.partition(":")
    pid, _, start = rest.partition(":")
    if not (pid.isdecimal() and start.isdecimal()):
        return None
    return host, ProcessId(int(pid), int(start))
