"""Opening and settling the tries of a task: short transactions, guarded by the fence."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F

from tasks import lifecycle
from tasks.lifecycle import OPEN, Phase, Status, Step, Verdict
from tasks.models.artifact import Artifact
from tasks.models.breaker import Breaker, Noted
from tasks.models.deployment import Deployment
from tasks.models.event import Event
from tasks.models.lease import Lease, LeaseLostError, lease_end
from tasks.models.opening import hold_columns, open_try
from tasks.models.queue import QueueQuerySet
from tasks.models.run import PhaseRun
from tasks.models.staging_lease import HOLDING, StagingLease
from tasks.outcome import Outcome, TestReport

if TYPE_CHECKING:
    from tasks.models.task import Task


@dataclass(frozen=True)
class Advance:
    """Where a settled task stands, and the try that was opened at its next phase, if any."""

    task: Task
    run: PhaseRun | None


class TaskQuerySet(QueueQuerySet):
    """What a worker that holds a lease writes."""

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
            events: list[Event] = []
            run = open_try(task, lease, 1 if last is None else last.number + 1, now, events)
            Event.objects.append_all(events)
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
            events: list[Event] = []
            task = self._settle(_Ending(lease, run, outcome, now), artifacts, events)
            Event.objects.append_all(events)
        return task

    def advance(
        self,
        lease: Lease,
        run: PhaseRun,
        outcome: Outcome,
        now: datetime,
        artifacts: Sequence[Artifact] = (),
    ) -> Advance:
        """Settle `run` and, if the task goes on, open its next try, in one transaction.

        As `settle` and `open_run` do, with half of their statements. Doing it again, after an
        outage that swallowed the answer, does no harm. Raises LeaseLostError.
        """
        ending = _Ending(lease, run, outcome, now, opens_next=True)
        try:
            with transaction.atomic(using=self.db):
                events: list[Event] = []
                following = None
                task = self._settle(ending, artifacts, events)
                if task.status == Status.RUNNING:
                    following = open_try(task, lease, run.number + 1, now, events)
                Event.objects.append_all(events)
        except LeaseLostError:
            if done := self._done_before(ending):
                return done
            raise
        return Advance(task, following)

    def _settle(self, ending: _Ending, artifacts: Sequence[Artifact], events: list[Event]) -> Task:
        """Settle by what is known of the row; where it says something else, by the row."""
        # A breaker is locked after the task's row, always: the start of an agent needs that row.
        settled = None
        if not ending.outcome.agent:
            settled = self._settle_as(ending.run.task, ending, artifacts, events)
        if settled is None:
            locked = self._locked(ending.lease)
            settled = self._settle_as(locked, ending, artifacts, events)
        if settled is None:
            raise LeaseLostError(ending.lease.task_id)
        if ending.outcome.verdict != Verdict.PASSED:  # its project may have been mended meanwhile
            settled = self.select_related("project").get(pk=settled.pk)
        return settled

    def _settle_as(
        self, task: Task, ending: _Ending, artifacts: Sequence[Artifact], events: list[Event]
    ) -> Task | None:
        """Settle a task that stands as `task` does; None, with nothing written, if it does not."""
        lease, outcome, now = ending.lease, ending.outcome, ending.now
        noted = Breaker.objects.note(outcome.agent, task, now) if outcome.agent else Noted()
        waits_for = noted.paused if outcome.is_worth_another_try else None
        # A start that failed because its agent is down is none of the task's: nothing is spent.
        verdict = Verdict.INTERRUPTED if waits_for else outcome.verdict
        step = lifecycle.settle(task.state, verdict, permanent=outcome.permanent)
        columns = _columns(task, step, outcome, now) | hold_columns(waits_for)
        if ending.opens_next and step.state.status == Status.RUNNING:
            columns["attempts"] += 1
            columns |= {"lease_expires_at": lease_end(now), "waits_for": ""}
        state = asdict(task.state)
        if self.filter(pk=task.pk, fence=lease.fence, **state).update(**columns) != 1:
            return None
        _close(ending.run, outcome, now)
        Artifact.objects.bulk_create(artifacts)
        _record_deployment(task, lease, outcome, now)
        if task.phase in HOLDING and step.state.phase not in HOLDING:
            _wake_waiting(task, now)
        after = copy.copy(task)
        for name, value in columns.items():
            setattr(after, name, value)
        events += _ending_events(after, ending.run, outcome)
        events += noted.events()
        return after

    def _locked(self, lease: Lease) -> Task:
        mine = self.filter(pk=lease.task_pk, fence=lease.fence, status=Status.RUNNING)
        rows = mine.select_related("project").select_for_update(of=("self",), no_key=True)
        task = rows.first()
        if task is None:
            raise LeaseLostError(lease.task_id)
        return task

    def _done_before(self, ending: _Ending) -> Advance | None:
        """Return what an earlier call for the same try wrote; None if there was none."""
        lease = ending.lease
        mine = self.select_related("project").filter(pk=lease.task_pk, fence=lease.fence)
        task = mine.first()
        if task is None or PhaseRun.objects.filter(pk=ending.run.pk, verdict="").exists():
            return None
        following = task.phase_runs.filter(verdict="", fence=lease.fence).first()
        if following is not None:
            following.task = task
        return Advance(task, following)

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


@dataclass(frozen=True)
class _Ending:
    """The end of one try."""

    lease: Lease
    run: PhaseRun
    outcome: Outcome
    now: datetime
    opens_next: bool = False


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


def _ending_events(task: Task, run: PhaseRun, outcome: Outcome) -> list[Event]:
    about = {"run": run.number, "of": run.phase, "reason": outcome.reason}
    events = [Event.about(f"phase.{outcome.verdict}", task, **about, **task.standing())]
    if task.status not in OPEN:
        ended = f"task.{task.status}"
        events.append(Event.about(ended, task, reason=task.reason, **task.standing()))
    return events
