"""The one door to child processes: each has a deadline, a group of its own and bounded output."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
TAIL_BYTES = 64 * 1024
GRACE_S = 2.0  # between asking a group to end and ending it
_TICK_S = 0.2  # how soon a stop or a deadline is seen


_clock = threading.local()


@contextlib.contextmanager
def spent_in_children() -> Iterator[None]:
    """Count the block's duration as time that this thread waited for children."""
    began = time.monotonic()
    try:
        yield
    finally:
        _clock.waited_s = child_seconds() + time.monotonic() - began


def child_seconds() -> float:
    """Return how long this thread has waited for children so far, in seconds."""
    waited_s: float = getattr(_clock, "waited_s", 0.0)
    return waited_s


class ProcessError(Exception):
    """A command could not be started, or it failed; `returncode` is None where it had none."""

    def __init__(self, message: str, *, returncode: int | None = None) -> None:
        super().__init__(message)
        self.returncode = returncode


@dataclass(frozen=True)
class Command:
    """A program call: arguments, the whole environment, the folder."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    pass_fds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Completed:
    """How a child process ended, and the end of what it printed."""

    returncode: int  # negative: ended by that signal
    output_tail: str  # at most 64 KiB, undecodable bytes replaced
    timed_out: bool = False
    stopped: bool = False  # we ended it: the lease was lost, or a shutdown
    truncated: bool = False  # it printed more than the log may hold

    @property
    def ok(self) -> bool:
        """Say whether it ended by itself with code 0."""
        return self.returncode == 0 and not (self.timed_out or self.stopped)


class Log:
    """A file that takes output up to a limit; what goes beyond is dropped, and marked once."""

    def __init__(self, path: Path, limit_bytes: int = OUTPUT_LIMIT_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._left = limit_bytes - self._file.tell()
        self._lock = threading.Lock()
        self.truncated = self._left < 0  # an earlier run filled it, and marked that

    def write(self, chunk: bytes) -> None:
        """Append what still fits."""
        with self._lock:
            if self._left > 0:
                self._file.write(chunk[: self._left])
            self._left -= len(chunk)
            if self._left < 0 and not self.truncated:
                self.truncated = True
                self._file.write(b"\n[chimera] output limit reached; the rest is not kept\n")

    def line(self, text: str) -> None:
        """Append a line of Chimera's own."""
        self.write(f"[chimera] {text}\n".encode(errors="replace"))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@spent_in_children()
def run(
    command: Command,
    *,
    timeout_s: float,
    log: Log | None = None,
    stdin: bytes = b"",
    should_stop: Callable[[], bool] = lambda: False,
) -> Completed:
    """Run `command` to its end and keep the end of its output (stdout and stderr together).

    Blocks. At the deadline, or once `should_stop` says so, its whole group is ended: asked
    first, killed after two seconds. Raises ProcessError if it cannot be started.
    """
    child = _spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    feeder = threading.Thread(target=_feed, args=(child, stdin), daemon=True)
    feeder.start()
    deadline = time.monotonic() + timeout_s
    timed_out = stopped = False
    try:
        with _Reader(child, log) as reader:
            while not reader.finished():
                stopped = should_stop()
                timed_out = time.monotonic() >= deadline
                if stopped or timed_out:
                    break
            end_group(child)  # it, or what it left behind in its group
            reader.drain()
    finally:
        end_group(child)  # a full disk, or a `should_stop` that raised, leaves nothing behind
    returncode = child.wait()
    feeder.join(timeout=1)
    return Completed(
        returncode=returncode,
        output_tail=bytes(reader.tail).decode(errors="replace"),
        timed_out=timed_out and not stopped,
        stopped=stopped,
        truncated=log.truncated if log else False,
    )


@spent_in_children()
def output(command: Command, *, timeout_s: float, stdin: bytes = b"") -> bytes:
    """Return the standard output of a short command of our own. Raises ProcessError."""
    child = _spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said, complained = child.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ProcessError(f"{command.argv[0]}: no end after {timeout_s:g} s") from error
    finally:
        end_group(child)
        _close(child)
    if child.returncode != 0:
        message = complained.decode(errors="replace").strip()[-4000:]
        message = message or f"{command.argv[0]} ended with code {child.returncode}"
        raise ProcessError(message, returncode=child.returncode)
    return said


def start(command: Command, *, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """Start a child that lives on; the caller ends it with `end_group`. Raises ProcessError."""
    return _spawn(command, stdin=stdin, stdout=stdout)


def end_group(child: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """End every process of the child's group, with force after `grace_s`, and reap the child.

    Does nothing for a child that was reaped before: its number may name another group by now.
    """
    if child.returncode is not None:
        return
    _signal_group(child.pid, signal.SIGTERM)
    limit = time.monotonic() + grace_s
    while not _has_ended(child) and time.monotonic() < limit:
        time.sleep(0.02)
    _signal_group(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=5)


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Say whether the child has ended, without reaping it: until then its group is surely its."""
    if sys.platform == "darwin":
        return child.poll() is not None
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # reaped already
        return True


def _close(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


def _spawn(
    command: Command, *, stdin: int, stdout: int, stderr: int = subprocess.STDOUT
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=command.pass_fds,
        )
    except (OSError, ValueError) as error:
        raise ProcessError(f"{command.argv[0]}: {error}") from error


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _feed(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None  # noqa: S101 - started with a pipe
    with contextlib.suppress(OSError):
        child.stdin.write(data)
    with contextlib.suppress(OSError):
        child.stdin.close()


class _Reader:
    """Reads a child's output without ever holding more than the tail in memory."""

    def __init__(self, child: subprocess.Popen[bytes], log: Log | None) -> None:
        assert child.stdout is not None  # noqa: S101 - started with a pipe
        self._child = child
        self._pipe = child.stdout
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._is_open = True
        self.tail = bytearray()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._selector.close()
        self._pipe.close()

    def finished(self) -> bool:
        """Read what there is within a tick; True when the child has ended.

        The pipe says nothing about that: a child may close it and go on, and a grandchild may
        hold it open, or fill it, for ever.
        """
        if not self._is_open:
            time.sleep(0.02)
        elif self._selector.select(_TICK_S):
            self._is_open = self._read()
        return _has_ended(self._child)

    def drain(self) -> None:
        """Read what is left in the pipe, for a second at most."""
        limit = time.monotonic() + 1
        while self._is_open and self._selector.select(0) and time.monotonic() < limit:
            self._is_open = self._read()

    def _read(self) -> bool:
        chunk = os.read(self._pipe.fileno(), 65536)
        if self._log and chunk:
            self._log.write(chunk)
        self.tail += chunk
        del self.tail[:-TAIL_BYTES]
        return bool(chunk)


def arguments(line: str, replacements: Mapping[str, str]) -> tuple[str, ...]:
    """Split a command line into arguments (no shell) and replace {name} in each of them.

    Unknown names in braces stay as they are. Raises ValueError on an open quote.
    """
    words: Sequence[str] = shlex.split(line)
    result = []
    for word in words:
        for name, value in replacements.items():
            word = word.replace("{" + name + "}", value)
        result.append(word)
    return tuple(result)
