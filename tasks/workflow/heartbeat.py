"""The pulse of a worker process: it says that the worker lives and keeps its lease alive.

One thread per process, on a database connection of its own, so that a phase may block.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator

import psutil
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import close_old_connections, connection
from django.utils import timezone

from tasks.lifecycle import Status
from tasks.models import Lease, Task, Worker
from tasks.workflow import board, pids
from tasks.workflow.touch import Touch

logger = logging.getLogger(__name__)

BEAT_S = 5.0
BEATS_PER_LEASE = 4  # so many may be missed before a short lease runs out
LOOK_S = 1.0  # how soon a cancelled task is noticed
TICK_S = 0.25


class Hold:
    """A lease in hand: lost for good, or run out because it could not be renewed in time."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self._lost = threading.Event()
        self._good_until = time.monotonic() + settings.CHIMERA.lease_s

    def renewed(self, asked_at: float) -> None:
        """Note a renewal that was asked for at `asked_at`, in monotonic seconds."""
        self._good_until = asked_at + settings.CHIMERA.lease_s

    def lose(self) -> None:
        """Note that somebody else holds the task, or that it was cancelled."""
        self._lost.set()

    def should_stop(self) -> bool:
        """Say whether the work has to stop: the lease is lost or stale, or the cluster drains.

        A stale lease may come back, when it can be renewed and nobody has taken the task.
        """
        is_stale = time.monotonic() >= self._good_until
        return self._lost.is_set() or is_stale or board.current().is_draining


class Heart:
    """Beats as long as its process works."""

    def __init__(self) -> None:
        process = pids.current()
        self.name = pids.name_of(process)
        self.pid = process.pid
        self.touch = Touch()
        self._hold: Hold | None = None
        self._told: tuple[bool, int | None] = (False, None)
        self._next_beat = self._next_look = 0.0
        self._is_down = False
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and take the worker's row away. Blocks for five seconds at most."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout=5)
        with contextlib.suppress(DatabaseError):
            Worker.objects.filter(name=self.name).delete()

    @contextlib.contextmanager
    def holding(self, lease: Lease) -> Iterator[Callable[[], bool]]:
        """Keep `lease` alive within the block; the value says when its work has to stop."""
        hold = Hold(lease)
        self._hold = hold  # shown at the next tick; a task that ends before is not worth a write
        try:
            yield hold.should_stop
        finally:
            self._hold = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self._try_to_beat()
            self._wake.wait(TICK_S)
        connection.close()

    def _try_to_beat(self) -> None:
        try:
            close_old_connections()
            self._beat(self._hold, time.monotonic())
            self._is_down = False
        except DatabaseError as error:  # tried again at the next tick, while the lease may hold
            if not self._is_down:
                logger.warning("%s cannot reach the database: %s", self.name, error)
            self._is_down = True
            connection.close()

    def _beat(self, hold: Hold | None, now: float) -> None:
        standing = (board.current().is_draining, hold.lease.fence if hold else None)
        if now >= self._next_beat or standing != self._told or self.touch.has_jumped:
            if hold is not None:
                self._renew(hold)
            self._show(hold, is_draining=standing[0])
            self.touch.made()
            self._told = standing
            self._next_beat = now + beat_s()
        elif hold is not None and now >= self._next_look:
            self._look(hold)
            self._next_look = now + LOOK_S

    def _renew(self, hold: Hold) -> None:
        asked_at = time.monotonic()
        if Task.objects.renew(hold.lease, timezone.now()):
            hold.renewed(asked_at)
        else:
            hold.lose()

    def _look(self, hold: Hold) -> None:
        """Notice a cancel or a take-over before the next renewal would."""
        held = Task.objects.filter(pk=hold.lease.task_pk, fence=hold.lease.fence)
        if not held.filter(status=Status.RUNNING).exists():
            hold.lose()

    def _show(self, hold: Hold | None, *, is_draining: bool) -> None:
        now = timezone.now()
        task_pk = hold.lease.task_pk if hold else None
        own = Worker.objects.filter(name=self.name)
        if own.update(seen_at=now, task_id=task_pk, is_draining=is_draining) == 0:
            Worker.objects.create(
                name=self.name,
                host=pids.host_name(),
                pid=self.pid,
                pid_started=psutil.Process(self.pid).create_time(),
                cluster=board.current().cluster,
                task_id=task_pk,
                is_draining=is_draining,
                started_at=now,
                seen_at=now,
            )


def beat_s() -> float:
    """Return the seconds between two renewals."""
    return float(min(BEAT_S, settings.CHIMERA.lease_s / BEATS_PER_LEASE))


_heart: Heart | None = None


def start() -> Heart:
    """Return the heart of this process; start it at the first call."""
    global _heart
    if _heart is None or _heart.pid != os.getpid():
        _heart = Heart()
        _heart.start()
    return _heart


def stop() -> None:
    """Stop the heart of this process, if it beats."""
    global _heart
    if _heart is not None and _heart.pid == os.getpid():
        _heart.stop()
    _heart = None


def holding(lease: Lease) -> contextlib.AbstractContextManager[Callable[[], bool]]:
    """Keep `lease` alive within the block; the value is a function: must the work stop?"""
    return start().holding(lease)
