"""The queue: which task is next, and who gets it. The table is the queue; messages only nudge."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connections, models, transaction
from django.db.models import Count, F, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from tasks import lifecycle
from tasks.lifecycle import OPEN, Hold, Status
from tasks.models.event import Event
from tasks.models.lease import Lease, lease_end
from tasks.models.nudge import nudge
from tasks.models.project import Project

if TYPE_CHECKING:
    from tasks.models.task import Task


_WAITING = Q(status=Status.QUEUED, hold=Hold.NONE)
# Each begins with what its condition fixes: SQLite takes an index for a search only if it knows
# the first columns, and would else sort thousands of rows by rank.
QUEUE_INDEXES = [
    models.Index(fields=["status", "hold", "rank", "id"], condition=_WAITING, name="task_by_rank"),
    models.Index(
        fields=["status", "hold", "project", "rank", "id"],
        condition=_WAITING,
        name="task_by_project_and_rank",
    ),
    models.Index(
        fields=["hold", "paused_agent", "rank"],
        condition=Q(hold=Hold.AGENT),
        name="task_waiting_for_agent",
    ),
    models.Index(
        fields=["status", "lease_expires_at"],
        condition=Q(status=Status.RUNNING),
        name="task_by_lease",
    ),
]


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
        if self._is_one_full():
            # Named, not left out: the index then leads past all that wait for a full one.
            queued &= Q(project__in=list(self._with_room().values_list("pk", flat=True)))
        expired = Q(status=Status.RUNNING, lease_expires_at__lte=now)
        return self.filter(queued | expired)

    def has_claimable(self, now: datetime) -> bool:
        """Say whether there is anything to claim: one query while projects have room, or two."""
        best = self.waiting(now).values_list("project__max_open_tasks", flat=True).first()
        if best is None:
            return self.abandoned(now).exists()
        return best == 0 or self.claimable(now).exists()

    def claim(self, worker: str, now: datetime) -> Lease | None:
        """Give the best claimable task to `worker`; None when there is nothing to do.

        Two claimers of one task: the compare-and-set on the fence lets one of them through,
        and the other goes on to the next task.
        """
        while True:
            with transaction.atomic(using=self.db):
                task = self._pick_abandoned(now) or self._pick_waiting(now)
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

    def _pick_abandoned(self, now: datetime) -> Task | None:
        # There is none, nearly always; to ask that costs less than to ask for all columns.
        return self._pick(self.abandoned(now)) if self.abandoned(now).exists() else None

    def _pick_waiting(self, now: datetime) -> Task | None:
        """Return the best task whose project has room for one more that runs.

        The best of all is looked at first, which is one query while no project is full. Then the
        best of each project with room: past those of a full one, thousands perhaps, it would be
        slow to search by rank.
        """
        task = self._pick(self.waiting(now).annotate(limit=F("project__max_open_tasks")))
        if task is None or not vars(task)["limit"] or self._has_room(task.project_id):
            return task
        passed_by: list[int] = []
        while True:
            mine = self.waiting(now).filter(project=OuterRef("pk")).exclude(pk__in=passed_by)
            heads = self._with_room().annotate(head=Subquery(mine.values("pk")[:1]))
            best = [pk for pk in heads.values_list("head", flat=True) if pk is not None]
            found = self.filter(pk__in=best).order_by("rank", "id").first()
            if found is None:
                return None
            task = self._pick(self.waiting(now).filter(pk=found.pk))
            if task is not None and self._has_room(task.project_id):
                return task
            passed_by.append(found.pk)  # another claimer has it, or took the project's last place

    def _with_room(self) -> models.QuerySet[Project]:
        """Return the projects that may have one more task running."""
        room = Q(max_open_tasks=0) | Q(running__lt=F("max_open_tasks"))
        return self._counted(Project.objects.all()).filter(room)

    def _is_one_full(self) -> bool:
        limited = Project.objects.filter(max_open_tasks__gt=0)
        return self._counted(limited).filter(Q(running__gte=F("max_open_tasks"))).exists()

    def _has_room(self, project_pk: int) -> bool:
        """Say whether the project is not full; others wait with asking until we are done.

        PostgreSQL has several claimers at a time. All lock the same rows in the same order.
        """
        limited = Project.objects.filter(max_open_tasks__gt=0).order_by("pk")
        list(limited.select_for_update(no_key=True).values_list("pk"))
        return self._with_room().filter(pk=project_pk).exists()

    def _counted(self, projects: models.QuerySet[Project]) -> models.QuerySet[Project]:
        mine = self.filter(status=Status.RUNNING, project=OuterRef("pk")).order_by()
        number = mine.values("project").annotate(number=Count("pk")).values("number")
        return projects.annotate(running=Coalesce(Subquery(number), 0))

    def _pick(self, candidates: QueueQuerySet) -> Task | None:
        if connections[self.db].features.has_select_for_update_skip_locked:
            # Not the full lock: whoever writes a row that refers to the task would have it skipped.
            candidates = candidates.select_for_update(skip_locked=True, of=("self",), no_key=True)
        return candidates.first()


class TakenTask(models.Model):
    """The part of Task that changes hands."""

    hold = models.CharField(max_length=10, choices=Hold.choices, blank=True, default=Hold.NONE)
    paused_agent = models.ForeignKey(
        "tasks.Breaker",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="waiting",
        db_index=False,
        help_text="the agent that it waits for, held",
    )

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
