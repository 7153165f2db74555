"""Opening and settling the tries of a task: short transactions, guarded by the fence."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from tasks import lifecycle
from tasks.addresses import addresses_of
from tasks.lifecycle import OPEN, Hold, Phase, Status, Step, Verdict
from tasks.models.artifact import Artifact
from tasks.models.breaker import Breaker, Noted
from tasks.models.deployment import Deployment
from tasks.models.event import Event
from tasks.models.lease import Lease, LeaseLostError, lease_end
from tasks.models.queue import QueueQuerySet
from tasks.models.run import PhaseRun
from tasks.models.staging_lease import HOLDING, StagingLease
from tasks.outcome import Outcome, TestReport

if TYPE_CHECKING:
    from tasks.models.task import Task


LOOK_AGAIN_S = 10  # at a staging address that another task had


class TaskQuerySet(QueueQuerySet):
    """The two writes of a worker that holds a lease."""

    def open_run(self, lease: Lease, now: datetime) -> PhaseRun | None:
        """Open the next try at the task's phase and count the attempt.

        None if another task has the staging address that it needs, or its agent is paused: it is
        put back then, with nothing spent, until that is over. Opening it again, after an outage
        that swallowed the answer, does no harm. Raises LeaseLostError.
        """
        with transaction.atomic(using=self.db):
            held = self.filter(pk=lease.task_pk, fence=lease.fence, status=Status.RUNNING)
            changed = held.update(
                attempts=F("attempts") + 1, lease_expires_at=lease_end(now), waits_for=""
            )
            if changed != 1:
                raise LeaseLostError(lease.task_id)
            task = self.select_related("project").get(pk=lease.task_pk)
            last = task.phase_runs.order_by("number").last()
            if last is not None and last.fence == lease.fence and not last.verdict:
                held.update(attempts=F("attempts") - 1)
                last.task = task
                return last
            taken = _take_addresses(task, lease, now)
            if taken is not None:
                _queue_behind(task, taken, now)
                return None
            paused = Breaker.objects.stopping(task, now)
            if paused is not None:
                _wait_for_agent(task, paused)
                return None
            run = PhaseRun.objects.create(
                task=task,
                number=1 if last is None else last.number + 1,
                phase=task.phase,
                round=task.rounds,
                attempt=task.attempts,
                worker=lease.holder,
                fence=lease.fence,
                started_at=now,
            )
            Event.objects.append("phase.started", task, run=run.number, **task.standing())
        return run

    def settle(
        self,
        lease: Lease,
        run: PhaseRun,
        outcome: Outcome,
        now: datetime,
        artifacts: Sequence[Artifact] = (),
    ) -> Task:
        """Write how `run` ended and where the task goes; return the task as it stands then.

        `artifacts` are unsaved rows for the outcome's evidence, written in the same transaction.

        Raises LeaseLostError, with nothing written, if the fence has moved on.
        """
        with transaction.atomic(using=self.db):
            task = (
                self.select_for_update(no_key=True)
                .filter(pk=lease.task_pk, fence=lease.fence)
                .first()
            )
            if task is None or task.status != Status.RUNNING:
                raise LeaseLostError(lease.task_id)
            noted = Breaker.objects.note(outcome.agent, task, now) if outcome.agent else Noted()
            waits_for = noted.paused if outcome.is_worth_another_try else None
            # A start that failed because its agent is down is none of the task's: nothing is spent.
            verdict = Verdict.INTERRUPTED if waits_for else outcome.verdict
            step = lifecycle.settle(task.state, verdict, permanent=outcome.permanent)
            held = self.filter(pk=task.pk, fence=lease.fence, status=Status.RUNNING)
            columns = _columns(task, step, outcome, now) | _hold_columns(waits_for)
            if held.update(**columns) != 1:
                raise LeaseLostError(lease.task_id)
            _close(run, outcome, now)
            Artifact.objects.bulk_create(artifacts)
            _record_deployment(task, lease, outcome, now)
            if task.phase in HOLDING and step.state.phase not in HOLDING:
                _wake_waiting(task, now)
            task.refresh_from_db()
            _tell(task, run, outcome)
            noted.tell()
        return task

    def put_back_running(self, reason: str, now: datetime) -> int:
        """Queue all running tasks where they are, with nothing spent; return how many.

        For a home that was restored: none of their holders can be there.
        """
        with transaction.atomic(using=self.db):
            tasks = list(self.filter(status=Status.RUNNING).select_for_update())
            for task in tasks:
                was_open = task.phase_runs.filter(verdict="").exists()
                task.close_open_run(now, reason)
                self.filter(pk=task.pk, fence=task.fence).update(
                    status=Status.QUEUED,
                    attempts=max(0, task.attempts - was_open),
                    reason=reason,
                    due_at=now,
                    holder="",
                    lease_expires_at=None,
                    fence=F("fence") + 1,
                )
                task.status = Status.QUEUED
                Event.objects.append("task.restored", task, reason=reason, **task.standing())
        return len(tasks)


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


def _queue_behind(task: Task, taken: StagingLease, now: datetime) -> None:
    """Queue the task, with nothing spent, until `taken` is free; it looks again by itself too."""
    reason = f"Waits for {taken.address}, where {taken.task} is deployed and proven."
    due_at = now + timedelta(seconds=LOOK_AGAIN_S)
    _put_back(task, waits_for=taken.address, reason=reason, due_at=due_at)
    if task.reason != reason:
        _tell_waiting(task, reason)


def _wait_for_agent(task: Task, paused: Breaker) -> None:
    """Put the task back, with nothing spent, until its agent may be started again."""
    _put_back(task, **_hold_columns(paused))
    _tell_waiting(task, paused.why_wait)


def _put_back(task: Task, **columns: Any) -> None:
    """Queue a task whose attempt was counted, but whose try does not begin yet."""
    type(task).objects.filter(pk=task.pk).update(
        status=Status.QUEUED,
        attempts=F("attempts") - 1,
        holder="",
        lease_expires_at=None,
        **columns,
    )


def _tell_waiting(task: Task, reason: str) -> None:
    task.status = Status.QUEUED
    Event.objects.append("task.waiting", task, reason=reason, **task.standing())


def _hold_columns(paused: Breaker | None) -> dict[str, Any]:
    if paused is None:
        return {}
    return {"hold": Hold.AGENT, "paused_agent": paused, "reason": paused.why_wait}


def _wake_waiting(task: Task, now: datetime) -> None:
    """Make those due that wait for the addresses that this task had; the best goes first."""
    if task.project.staging_addresses:
        had = StagingLease.objects.filter(task=task).values("address")
        type(task).objects.filter(waits_for__in=had).update(due_at=now, waits_for="")


def _columns(task: Task, step: Step, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return the columns of the task's row that the outcome changes."""
    state = step.state
    columns: dict[str, Any] = {
        "status": state.status,
        "phase": state.phase,
        "rounds": state.rounds,
        "attempts": state.attempts,
        "crashes": state.crashes,
        "stopped_in": step.stopped_in or "",
        **_checkpoint_columns(outcome),
    }
    if outcome.verdict == Verdict.REJECTED:
        columns["findings"] = [finding.as_json() for finding in outcome.findings]
    elif outcome.verdict == Verdict.PASSED and task.phase != Phase.GUARDIAN_REVIEW:
        columns["findings"] = []
    if state.status != Status.RUNNING:
        columns |= {"holder": "", "lease_expires_at": None}
    if state.status == Status.QUEUED:
        wait_s = step.delay_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads retries
        columns |= {"due_at": now + timedelta(seconds=wait_s), "reason": outcome.reason}
    elif state.status not in OPEN:
        columns |= {"completed_at": now, "reason": _ending(task, step, outcome)}
    return columns


def _checkpoint_columns(outcome: Outcome) -> dict[str, Any]:
    columns = dict(outcome.checkpoint)
    baseline = columns.get("baseline")
    if isinstance(baseline, TestReport):
        columns["baseline"] = baseline.as_json()
    return columns


def _ending(task: Task, step: Step, outcome: Outcome) -> str:
    if outcome.verdict == Verdict.REJECTED and task.phase in lifecycle.BACK_TO:
        return f"{outcome.reason} (No round left: {step.state.max_retries + 1} tries were made.)"
    return outcome.reason


def _close(run: PhaseRun, outcome: Outcome, now: datetime) -> None:
    changed = PhaseRun.objects.filter(pk=run.pk, verdict="").update(
        verdict=outcome.verdict,
        reason=outcome.reason,
        facts=dict(outcome.facts),
        findings=[finding.as_json() for finding in outcome.findings],
        cost_usd=outcome.cost_usd,
        finished_at=now,
    )
    if changed != 1:
        raise LeaseLostError(f"run {run.number} was closed by somebody else")


def _record_deployment(task: Task, lease: Lease, outcome: Outcome, now: datetime) -> None:
    """Write the new staging copy; older copies of the same task are over."""
    if outcome.is_withdrawn:
        Deployment.objects.filter(task=task, ended_at=None).update(ended_at=now)
        return
    if outcome.deployment is None:
        return
    found = outcome.deployment
    live = Deployment.objects.filter(ended_at=None)
    live.filter(task=task).update(ended_at=now)
    if not found.host:  # whatever was at that address is not there any more
        live.filter(host="", url=found.url).update(ended_at=now)
    hours = settings.CHIMERA.staging_hours if found.host else 0  # else it is not ours to end
    expires_at = now + timedelta(hours=hours) if hours else None
    Deployment.objects.create(task=task, fence=lease.fence, expires_at=expires_at, **asdict(found))


def _tell(task: Task, run: PhaseRun, outcome: Outcome) -> None:
    about = {"run": run.number, "of": run.phase, "reason": outcome.reason}
    Event.objects.append(f"phase.{outcome.verdict}", task, **about, **task.standing())
    if task.status not in OPEN:
        Event.objects.append(f"task.{task.status}", task, reason=task.reason, **task.standing())
