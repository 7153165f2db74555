"""The queue: which task is next, and who gets it. The table is the queue; messages only nudge."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction
from django.db.models import F, Q

from tasks import lifecycle
from tasks.lifecycle import OPEN, Hold, Status
from tasks.models.event import Event
from tasks.models.lease import Lease, lease_end
from tasks.models.nudge import nudge

if TYPE_CHECKING:
    from tasks.models.task import Task


class QueueQuerySet(models.QuerySet["Task"]):
    """Claiming and keeping a task; each write is guarded by the fence."""

    def waiting(self, now: datetime) -> QueueQuerySet:
        """Return queued tasks that are due and not held, the best first."""
        due = self.filter(status=Status.QUEUED, hold=Hold.NONE, due_at__lte=now)
        return due.order_by("rank", "id")

    def abandoned(self, now: datetime) -> QueueQuerySet:
        """Return running tasks whose lease has run out, the longest first."""
        expired = self.filter(status=Status.RUNNING, lease_expires_at__lte=now)
        return expired.order_by("lease_expires_at", "id")

    def claimable(self, now: datetime) -> QueueQuerySet:
        """Return every task that a worker could claim, in no order."""
        queued = Q(status=Status.QUEUED, hold=Hold.NONE, due_at__lte=now)
        expired = Q(status=Status.RUNNING, lease_expires_at__lte=now)
        return self.filter(queued | expired)

    def claim(self, worker: str, now: datetime) -> Lease | None:
        """Give the best claimable task to `worker`; None when there is nothing to do.

        Two claimers of one task: the compare-and-set on the fence lets one of them through,
        and the other goes on to the next task.
        """
        while True:
            with transaction.atomic(using=self.db):
                task = self._pick(self.abandoned(now)) or self._pick(self.waiting(now))
                if task is None:
                    return None
                lease = task.take(worker, now)
            if lease is not None:
                return lease

    def renew(self, lease: Lease, now: datetime) -> bool:
        """Keep the lease alive; False when it is lost."""
        held = self.filter(pk=lease.task_pk, fence=lease.fence, status=Status.RUNNING)
        return held.update(lease_expires_at=lease_end(now)) == 1

    def free(self, task: Task, now: datetime) -> bool:
        """Let the lease of a holder that is known to be dead run out at once."""
        held = self.filter(pk=task.pk, fence=task.fence, holder=task.holder, status=Status.RUNNING)
        with transaction.atomic(using=self.db):
            is_free = held.update(lease_expires_at=now) == 1
            if is_free:
                nudge(self.db)
        return is_free

    def _pick(self, candidates: QueueQuerySet) -> Task | None:
        if connections[self.db].features.has_select_for_update_skip_locked:
            # Not the full lock: whoever writes a row that refers to the task would have it skipped.
            candidates = candidates.select_for_update(skip_locked=True, no_key=True)
        return candidates.first()


class TakenTask(models.Model):
    """The part of Task that changes hands."""

    class Meta:
        abstract = True

    def take(self: Any, worker: str, now: datetime) -> Lease | None:
        """Claim this very row for `worker`; None if it changed, or turned out to be poison."""
        if self.status == Status.RUNNING and self.phase_runs.filter(verdict="").exists():
            step = lifecycle.crash(self.state)
            reason = "The worker vanished in the middle of this phase."
            self.close_open_run(now, reason, "errored")
            Event.objects.append("phase.errored", self, reason=reason, **self.standing())
            if step.state.status == Status.FAILED:
                self.end_as_poison(step, now)
                return None
            self.crashes = step.state.crashes
        taken = type(self).objects.filter(pk=self.pk, fence=self.fence, status__in=sorted(OPEN))
        changed = taken.update(
            status=Status.RUNNING,
            holder=worker,
            fence=F("fence") + 1,
            lease_expires_at=lease_end(now),
            started_at=self.started_at or now,
            crashes=self.crashes,
        )
        return Lease(self.pk, self.task_id, worker, self.fence + 1) if changed == 1 else None

    def end_as_poison(self: Any, step: lifecycle.Step, now: datetime) -> None:
        """Fail the task that ended its worker too often."""
        reason = f"Its worker died {step.state.crashes} times in {self.phase}; giving up."
        held = type(self).objects.filter(pk=self.pk, fence=self.fence, status=Status.RUNNING)
        changed = held.update(
            status=Status.FAILED,
            phase=step.state.phase,
            stopped_in=step.stopped_in,
            reason=reason,
            crashes=step.state.crashes,
            holder="",
            lease_expires_at=None,
            fence=F("fence") + 1,
            completed_at=now,
        )
        if changed == 1:
            self.refresh_from_db()
            Event.objects.append("task.failed", self, reason=reason, **self.standing())
