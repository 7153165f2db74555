"""What a worker process does when it is nudged: claim the best task and see it through."""

from __future__ import annotations

import logging
import multiprocessing.util
import time
from collections.abc import Callable
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone
from django_q import signals

from tasks.models import Lease, Task
from tasks.workflow import board, heartbeat, pids
from tasks.workflow.board import Seat
from tasks.workflow.diskspace import disk_trouble

logger = logging.getLogger(__name__)

TAKE_FOR_S = 60.0  # then the worker goes back to its pool, which may want to replace it
_LEAVE_BEFORE_QUEUES = 20  # multiprocessing ends finalizers with a higher number first


def work() -> int:
    """Claim and perform one task after the other; return how many. Blocks as long as they last.

    The entry of every nudge. Nothing to claim is the common end and costs one transaction.
    """
    shared = board.current()
    until = time.monotonic() + TAKE_FOR_S
    performed = 0
    while not shared.is_draining and time.monotonic() < until:
        try:
            heart = heartbeat.start()
            is_fit = not (disk_trouble() or heart.touch.is_lost)
            lease = Task.objects.claim(heart.name, timezone.now()) if is_fit else None
        except DatabaseError as error:  # the next nudge comes when it is back
            logger.warning("The database does not answer; nothing is claimed: %s", error)
            connection.close()
            break
        finally:
            shared.nudge_taken()
        if lease is None:
            break
        logger.info("%s claimed by %s, fence %d", lease.task_id, lease.holder, lease.fence)
        with heartbeat.holding(lease) as should_stop:
            perform(lease, should_stop)
        performed += 1
    return performed


def perform(lease: Lease, should_stop: Callable[[], bool]) -> None:
    """Take the task through its phases until it ends, waits, or must be let go."""
    from tasks.workflow import executor  # phases and agents: neither pusher nor main needs them

    executor.run(lease, should_stop)


class _Place:
    """Where this worker sits on the board of its cluster."""

    def __init__(self) -> None:
        self._process = pids.current()
        self._number = board.current().take_seat(self._process)

    def mark(self, seat: Seat) -> None:
        board.current().mark(self._number, self._process, seat)

    def leave(self) -> None:
        board.current().leave(self._number)


_place: _Place | None = None


def follow_django_q() -> None:
    """Keep board and heartbeat in step with the workers that are forked from here on."""
    signals.post_spawn.connect(_enter)
    signals.pre_execute.connect(_be_busy)
    signals.post_execute_in_worker.connect(_be_idle)


def _enter(**_: Any) -> None:
    global _place
    _place = _Place()
    heartbeat.start()
    multiprocessing.util.Finalize(None, _leave, exitpriority=_LEAVE_BEFORE_QUEUES)


def _leave() -> None:
    if _place is not None:
        _place.leave()
    heartbeat.stop()


def _be_busy(**_: Any) -> None:
    if _place is not None:
        _place.mark(Seat.BUSY)


def _be_idle(**_: Any) -> None:
    if _place is not None:
        _place.mark(Seat.IDLE)
