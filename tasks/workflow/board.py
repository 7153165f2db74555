"""What the processes of one cluster tell each other: shared memory, no database, few locks.

multiprocessing's events and queues are not used for this: a process that is killed while it
waits on one of them takes its lock along, and everybody after it waits for ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from tasks.workflow import pids
from tasks.workflow.pids import ProcessId

NUDGE_LOST_AFTER_S = 2.0  # its worker was killed, or it waits behind an ordinary message

_DRAINING = 0  # one byte
_NUDGED_AT = 8  # monotonic seconds, the same clock in all processes of a host; 0.0 = none
_DISPATCHED_AT = 16
_SEATS = 32
_SEAT = struct.Struct("<IIQ")  # pid, state, start
_CLOCK = struct.Struct("<d")


class Seat(IntEnum):
    """What a worker process does."""

    EMPTY = 0
    IDLE = 1
    BUSY = 2


@dataclass(frozen=True)
class Seated:
    """One worker process and where it sits."""

    place: int
    process: ProcessId
    seat: Seat


class Board:
    """A few numbers in memory that all processes forked from here on share.

    Each number has one writer at a time, or one for which the last word is right; only taking
    a seat needs a lock, and the kernel takes that one back from a process that is killed.
    """

    def __init__(self, cluster: str, seats: int) -> None:
        self.cluster = cluster
        self._memory = mmap.mmap(-1, _SEATS + seats * _SEAT.size)
        self._lock_file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the board
        self._places = range(seats)

    def close(self) -> None:
        """Give the memory back; the board is of no use then."""
        self._memory.close()
        self._lock_file.close()

    @property
    def is_draining(self) -> bool:
        """Say whether the cluster stops: nobody claims, running phases end as interrupted."""
        return self._memory[_DRAINING] == 1

    def drain(self) -> None:
        """Tell everybody to stop. Safe in a signal handler."""
        self._memory[_DRAINING] = 1

    def nudge_sent(self) -> None:
        """Note that a nudge is on its way to a worker."""
        self._write_clock(_NUDGED_AT, time.monotonic())

    def nudge_taken(self) -> None:
        """Note that a worker looked at the table: messages get through."""
        self._write_clock(_DISPATCHED_AT, time.monotonic())
        self._write_clock(_NUDGED_AT, 0.0)

    @property
    def is_nudge_under_way(self) -> bool:
        """Say whether a nudge was sent that no worker has taken; a lost one is forgotten."""
        sent_at = self._read_clock(_NUDGED_AT)
        return sent_at > 0 and time.monotonic() - sent_at < NUDGE_LOST_AFTER_S

    @property
    def dispatched_at(self) -> float:
        """Return when a worker last looked at the table, in monotonic seconds; 0.0 = never."""
        return self._read_clock(_DISPATCHED_AT)

    def take_seat(self, process: ProcessId) -> int:
        """Seat an idle worker and return its place. Raises RuntimeError when all are taken.

        The seats of the dead stay theirs until `remove_dead` has told of them.
        """
        with self._locked():
            for place in self._places:
                if self._read(place).seat == Seat.EMPTY:
                    self._write(place, process, Seat.IDLE)
                    return place
        raise RuntimeError("the cluster has more workers than seats")

    def mark(self, place: int, process: ProcessId, seat: Seat) -> None:
        """Note what the worker in `place` does now."""
        self._write(place, process, seat)

    def leave(self, place: int) -> None:
        """Empty the seat of a worker that ends properly."""
        self._write(place, ProcessId(0, 0), Seat.EMPTY)

    def workers(self, seat: Seat) -> list[Seated]:
        """Return the living workers that are idle, or busy."""
        return [seated for seated in self._seated(seat) if seated.process.is_alive]

    def may_be_idle(self) -> bool:
        """Say whether a seat is marked idle, without asking whether its worker lives."""
        return any(True for _ in self._seated(Seat.IDLE))

    def has_dead(self) -> bool:
        """Say whether somebody died in a seat and was not told of yet."""
        return any(True for _ in self._dead())

    def remove_dead(self) -> list[Seated]:
        """Empty the seats of workers that are gone, and return who sat there."""
        dead = list(self._dead())
        with self._locked():
            for seated in dead:
                if self._read(seated.place).process == seated.process:
                    self.leave(seated.place)
        return dead

    def _dead(self) -> Iterator[Seated]:
        taken = (*self._seated(Seat.IDLE), *self._seated(Seat.BUSY))
        return (seated for seated in taken if not seated.process.is_alive)

    def _seated(self, seat: Seat) -> Iterator[Seated]:
        return (found for found in map(self._read, self._places) if found.seat == seat)

    def _read(self, place: int) -> Seated:
        pid, seat, start = _SEAT.unpack_from(self._memory, _SEATS + place * _SEAT.size)
        return Seated(place, ProcessId(pid, start), Seat(seat))

    def _write(self, place: int, process: ProcessId, seat: Seat) -> None:
        offset = _SEATS + place * _SEAT.size
        _SEAT.pack_into(self._memory, offset, process.pid, seat, process.start)

    def _read_clock(self, offset: int) -> float:
        seconds: float = _CLOCK.unpack_from(self._memory, offset)[0]
        return seconds

    def _write_clock(self, offset: int, seconds: float) -> None:
        _CLOCK.pack_into(self._memory, offset, seconds)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # A record lock belongs to the process and goes with it; flock would belong to the open
        # file, which all processes here have inherited.
        fcntl.lockf(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock_file, fcntl.LOCK_UN)


_installed: Board | None = None


def install(seats: int) -> Board:
    """Make the board of the cluster whose main process this is; call it before forking."""
    global _installed
    _installed = Board(pids.name_of(pids.current()), seats)
    return _installed


def current() -> Board:
    """Return the board of this process's cluster; outside of one, a board of its own."""
    return _installed or install(seats=8)
