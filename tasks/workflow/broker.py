"""What django-q2 takes its messages from: nudges for the Task table, and ordinary messages.

A nudge is made when somebody can take it and thrown away when it was taken. None is stored, so
none can be lost, doubled, stale or in the wrong order: the row is the truth.
"""

from __future__ import annotations

import logging
import time
from typing import Any
from uuid import uuid4

from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.signing import SignedPackage

from tasks.models import Task
from tasks.workflow import board
from tasks.workflow.board import Board, Seat
from tasks.workflow.changes import PostgreSQLChanges, SQLiteChanges, watch_changes
from tasks.workflow.diskspace import disk_trouble

logger = logging.getLogger(__name__)

TURN_S = 0.5  # one dequeue; between two, the pusher looks whether it has to stop
ORDINARY_EVERY_S = 1.0  # schedules are in no hurry, and the parent sleeps when it finds nothing
LOOK_EVERY_S = 1.0  # due times and leases run out without a write that could be noticed
OUTAGE_PAUSE_S = 1.0
WORK = "tasks.workflow.worker.work"

Message = tuple[int | None, str]  # what to acknowledge (None: nothing), and a signed package


class TaskBroker(ORM):  # type: ignore[misc] # django_q has no types
    """The parent's queue for schedules, and the Task table for everything else."""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key)
        self._start_over()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._start_over()

    def _start_over(self) -> None:
        self._changes: SQLiteChanges | PostgreSQLChanges = watch_changes()
        self._is_down = False
        self._looked_at = self._served_ordinary_at = float("-inf")

    def dequeue(self) -> list[Message] | None:
        """Return one message, or None after half a second without any. Blocks.

        An exception would cost ten seconds and the pusher, so a database that is away is
        waited for here.
        """
        try:
            message = self._ordinary() or self._await_work(board.current())
            self._is_down = False
            return message
        except DatabaseError as error:
            if not self._is_down:
                logger.warning("The database does not answer; waiting for it: %s", error)
            self._is_down = True
            connection.close()
            time.sleep(OUTAGE_PAUSE_S)
            return None

    def _ordinary(self) -> list[Message] | None:
        if time.monotonic() - self._served_ordinary_at < ORDINARY_EVERY_S:
            return None
        messages: list[Message] | None = super().dequeue()
        if not messages:
            self._served_ordinary_at = time.monotonic()
        return messages

    def _await_work(self, shared: Board) -> list[Message] | None:
        until = time.monotonic() + TURN_S
        while (now := time.monotonic()) < until:
            if number := self._nudges_due(shared):
                shared.nudge_sent()
                return [(None, new_nudge()) for _ in range(number)]
            next_look = self._looked_at + LOOK_EVERY_S
            self._changes.wait(min(until, next_look if next_look > now else until) - now)
        return None

    def _nudges_due(self, shared: Board) -> int:
        """Return for how many idle workers there is work.

        Without an idle worker the pusher would block with the nudge in hand, and shutdown with
        it. None are due while one is under way: until its worker has looked, the row still seems
        to be free. Changes stay unread meanwhile, so the table is looked at once somebody is idle
        again.
        """
        if shared.is_draining or shared.is_nudge_under_way or not shared.may_be_idle():
            return 0
        is_time = time.monotonic() - self._looked_at >= LOOK_EVERY_S
        if not (self._changes.seen() or is_time):
            return 0
        self._looked_at = time.monotonic()
        if disk_trouble():
            return 0
        now = timezone.now()
        idle = len(shared.workers(Seat.IDLE)) if Task.objects.has_claimable(now) else 0
        return Task.objects.claimable(now)[:idle].count() if idle > 1 else idle


def new_nudge() -> str:
    """Return a message that makes a worker look at the table; it says nothing else."""
    nudge = {
        "id": uuid4().hex,
        "name": "nudge",
        "func": WORK,
        "args": (),
        "kwargs": {},
        "started": timezone.now(),
    }
    signed: str = SignedPackage.dumps(nudge)
    return signed
