"""Opening a try at a phase, or putting the task back where that has to wait."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import F

from tasks.addresses import addresses_of
from tasks.lifecycle import Hold, Status
from tasks.models.breaker import Breaker
from tasks.models.event import Event
from tasks.models.lease import Lease
from tasks.models.run import PhaseRun
from tasks.models.staging_lease import HOLDING, StagingLease

if TYPE_CHECKING:
    from tasks.models.task import Task

LOOK_AGAIN_S = 10  # at a staging address that another task had


def open_try(
    task: Task, lease: Lease, number: int, now: datetime, events: list[Event]
) -> PhaseRun | None:
    """Open a try whose attempt is counted; None if the task was put back instead."""
    taken = _take_addresses(task, lease, now)
    if taken is not None:
        events += _queue_behind(task, taken, now)
        return None
    paused = Breaker.objects.stopping(task, now)
    if paused is not None:
        events += _wait_for_agent(task, paused)
        return None
    run = PhaseRun.objects.create(
        task=task,
        number=number,
        phase=task.phase,
        round=task.rounds,
        attempt=task.attempts,
        worker=lease.holder,
        fence=lease.fence,
        started_at=now,
    )
    events.append(Event.about("phase.started", task, run=number, **task.standing()))
    return run


def _take_addresses(task: Task, lease: Lease, now: datetime) -> StagingLease | None:
    """Take the staging addresses that the task's phase needs; return what another task has."""
    patterns = task.project.staging_addresses
    if task.phase not in HOLDING or not patterns:
        return None
    try:
        addresses = addresses_of(task.staging_url, patterns)
    except ValueError:
        return None  # the phase itself says what is wrong with them
    return StagingLease.objects.take(lease, addresses, now)


def _queue_behind(task: Task, taken: StagingLease, now: datetime) -> list[Event]:
    """Queue the task, with nothing spent, until `taken` is free; it looks again by itself too."""
    reason = f"Waits for {taken.address}, where {taken.task} is deployed and proven."
    due_at = now + timedelta(seconds=LOOK_AGAIN_S)
    _put_back(task, waits_for=taken.address, reason=reason, due_at=due_at)
    return [] if task.reason == reason else [_waiting_event(task, reason)]


def _wait_for_agent(task: Task, paused: Breaker) -> list[Event]:
    """Put the task back, with nothing spent, until its agent may be started again."""
    _put_back(task, **hold_columns(paused))
    return [_waiting_event(task, paused.why_wait)]


def _put_back(task: Task, **columns: Any) -> None:
    """Queue a task whose attempt was counted, but whose try does not begin yet."""
    type(task).objects.filter(pk=task.pk).update(
        status=Status.QUEUED,
        attempts=F("attempts") - 1,
        holder="",
        lease_expires_at=None,
        **columns,
    )


def _waiting_event(task: Task, reason: str) -> Event:
    task.status = Status.QUEUED
    return Event.about("task.waiting", task, reason=reason, **task.standing())


def hold_columns(paused: Breaker | None) -> dict[str, Any]:
    """Return the columns of a task that waits for a paused agent; {} for one that does not."""
    if paused is None:
        return {}
    return {"hold": Hold.AGENT, "paused_agent": paused, "reason": paused.why_wait}
