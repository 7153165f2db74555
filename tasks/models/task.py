"""One feature request: what was asked, where it stands, who holds it.

Every write to a row that others may write too names the state and the fence that it expects.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from tasks import lifecycle
from tasks.lifecycle import OPEN, Hold, Phase, State, Status
from tasks.models.event import Event
from tasks.models.project import Project
from tasks.models.queue import QUEUE_INDEXES, TakenTask
from tasks.models.settlement import TaskQuerySet
from tasks.outcome import Checkpoint, TestReport, forgotten_from

ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: read aloud without mistakes


class TaskStateError(Exception):
    """The task is not in a state that allows this."""


def new_task_id() -> str:
    """Return `chimera-` and ten random characters (50 bits), lower case, fit for a host name."""
    return "chimera-" + "".join(secrets.choice(ID_ALPHABET) for _ in range(10))


def rank_of(created_at: datetime, priority: int) -> int:
    """Return the place in the queue in milliseconds; the smallest goes first.

    A point of priority is worth `CHIMERA_PRIORITY_AGING` seconds of waiting, so nothing starves.
    """
    aged_s = created_at.timestamp() - priority * settings.CHIMERA.priority_aging_s
    return int(aged_s * 1000)


class Task(TakenTask):
    """A feature request on its way along the route."""

    task_id = models.CharField(max_length=40, unique=True, default=new_task_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="tasks")
    feature = models.TextField(max_length=10_000)
    target_url = models.CharField(max_length=2000)
    staging_url = models.CharField(max_length=2000, blank=True, default="")
    priority = models.PositiveSmallIntegerField(
        default=5, validators=[MinValueValidator(1), MaxValueValidator(10)]
    )
    rank = models.BigIntegerField(editable=False)

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    phase = models.CharField(max_length=30, choices=Phase.choices, default=lifecycle.ROUTE[0])
    stopped_in = models.CharField(max_length=30, choices=Phase.choices, blank=True, default="")
    reason = models.TextField(blank=True, default="", help_text="why it ended, or waits")
    rounds = models.PositiveIntegerField(default=0)
    max_retries = models.PositiveIntegerField(default=3)
    attempts = models.PositiveIntegerField(default=0)
    crashes = models.PositiveIntegerField(default=0)

    holder = models.CharField(max_length=200, blank=True, default="")
    fence = models.PositiveBigIntegerField(default=0)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField()
    waits_for = models.CharField(
        max_length=300, blank=True, default="", help_text="a staging address that another has"
    )

    base_sha = models.CharField(max_length=64, blank=True, default="")
    test_path = models.CharField(max_length=500, blank=True, default="")
    test_sha = models.CharField(max_length=64, blank=True, default="")
    draft_sha = models.CharField(max_length=64, blank=True, default="")
    code_sha = models.CharField(max_length=64, blank=True, default="")
    red_reason = models.TextField(blank=True, default="")
    review_decision = models.CharField(max_length=20, blank=True, default="")
    deployment_url = models.CharField(max_length=500, blank=True, default="")
    validation_status = models.CharField(max_length=20, blank=True, default="")
    baseline = models.JSONField(null=True, blank=True)
    findings = models.JSONField(default=list, blank=True, help_text="for the next brief")

    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    objects = TaskQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            *QUEUE_INDEXES,
            models.Index(fields=["status", "-id"], name="task_status_newest"),
            models.Index(
                fields=["waits_for"], condition=~Q(waits_for=""), name="task_waiting_for_staging"
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(priority__gte=1, priority__lte=10), name="task_priority_1_to_10"
            ),
            models.CheckConstraint(
                condition=~Q(status=Status.RUNNING)
                | (~Q(holder="") & Q(lease_expires_at__isnull=False)),
                name="task_running_has_lease",
            ),
            models.CheckConstraint(
                condition=Q(status__in=sorted(OPEN), completed_at=None)
                | (~Q(status__in=sorted(OPEN)) & Q(completed_at__isnull=False)),
                name="task_ended_has_time",
            ),
        ]

    def __str__(self) -> str:
        return self.task_id

    @classmethod
    def submit(
        cls,
        project: Project,
        feature: str,
        target_url: str,
        *,
        staging_url: str = "",
        priority: int = 5,
    ) -> Task:
        """Put a request into the queue; it is safe once this has returned and committed."""
        now = timezone.now()
        with transaction.atomic():
            task = cls.objects.create(
                project=project,
                feature=feature,
                target_url=target_url,
                staging_url=staging_url,
                priority=priority,
                rank=rank_of(now, priority),
                max_retries=settings.CHIMERA.max_retries,
                due_at=now,
                created_at=now,
            )
            Event.objects.append("task.queued", task, **task.standing())
        return task

    @property
    def state(self) -> State:
        """Return what `lifecycle.settle` decides on."""
        return State(
            status=Status(self.status),
            phase=Phase(self.phase),
            rounds=self.rounds,
            attempts=self.attempts,
            crashes=self.crashes,
            max_retries=self.max_retries,
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """Return what the phases passed so far have produced."""
        baseline = None if self.baseline is None else TestReport.from_json(self.baseline)
        return Checkpoint(
            base_sha=self.base_sha,
            test_path=self.test_path,
            test_sha=self.test_sha,
            draft_sha=self.draft_sha,
            code_sha=self.code_sha,
            red_reason=self.red_reason,
            review_decision=self.review_decision,
            deployment_url=self.deployment_url,
            validation_status=self.validation_status,
            baseline=baseline,
        )

    @property
    def progress(self) -> str:
        """Say how far it is, as in "3/7 phases complete"."""
        stopped_in = Phase(self.stopped_in) if self.stopped_in else None
        return lifecycle.progress(Phase(self.phase), stopped_in)

    @property
    def folder(self) -> Path:
        """Return the folder with the logs and the evidence of this task."""
        return Path(settings.CHIMERA.home) / "tasks" / self.task_id

    @property
    def branch(self) -> str:
        """Return the branch that holds the test commit and the code commit."""
        return f"chimera/{self.task_id}"

    @property
    def duration_s(self) -> int | None:
        """Return whole seconds from start to end; None before the end, or if never started."""
        if self.started_at is None or self.completed_at is None:
            return None
        return max(0, int((self.completed_at - self.started_at).total_seconds()))

    def standing(self) -> dict[str, Any]:
        """Return what an event tells of the task."""
        return {"status": self.status, "phase": self.phase, "progress": self.progress}

    def cancel(self) -> None:
        """End the task now; a worker that holds it loses its lease and stops.

        Cancelling twice is harmless. Raises TaskStateError if it is completed or failed.
        """
        now = timezone.now()
        with transaction.atomic():
            current = Task.objects.select_for_update(no_key=True).get(pk=self.pk)
            if current.status == Status.CANCELLED:
                return
            if current.status not in OPEN:
                raise TaskStateError(f"{self.task_id} is {current.status} already")
            won = Task.objects.filter(pk=self.pk, fence=current.fence, status=current.status)
            changed = won.update(
                status=Status.CANCELLED,
                phase=Phase.CANCELLED,
                stopped_in=current.phase,
                reason="Cancelled on request.",
                waits_for="",
                holder="",
                hold=Hold.NONE,
                lease_expires_at=None,
                fence=F("fence") + 1,
                completed_at=now,
            )
            if changed != 1:
                raise TaskStateError(f"{self.task_id} changed at the same moment; try again")
            current.close_open_run(now, "The task was cancelled.")
            current.refresh_from_db()
            Event.objects.append("task.cancelled", current, **current.standing())
        self.refresh_from_db()

    def retry(self, from_phase: Phase | None = None) -> None:
        """Queue a failed or cancelled task again where it stopped, or at an earlier phase.

        Where it stopped, it goes on with all that it has; an earlier phase that is named starts
        anew, and what was made from there on is forgotten (the history is not). Raises
        TaskStateError for a task in another state or a phase that it never reached.
        """
        now = timezone.now()
        with transaction.atomic():
            current = Task.objects.select_for_update(no_key=True).get(pk=self.pk)
            if current.status not in {Status.FAILED, Status.CANCELLED}:
                raise TaskStateError(
                    f"{self.task_id} is {current.status}; only failed or "
                    "cancelled tasks can be retried"
                )
            start = from_phase or Phase(current.stopped_in or lifecycle.ROUTE[0])
            current._refuse_unreached(start)
            won = Task.objects.filter(pk=self.pk, fence=current.fence, status=current.status)
            changed = won.update(
                status=Status.QUEUED,
                phase=start,
                stopped_in="",
                reason="",
                rounds=0,
                attempts=0,
                crashes=0,
                fence=F("fence") + 1,
                completed_at=None,
                due_at=now,
                **({"findings": [], **forgotten_from(from_phase)} if from_phase else {}),
            )
            if changed != 1:
                raise TaskStateError(f"{self.task_id} changed at the same moment; try again")
            current.refresh_from_db()
            Event.objects.append("task.retried", current, **current.standing())
        self.refresh_from_db()

    def close_open_run(self, now: datetime, reason: str, verdict: str = "interrupted") -> None:
        """Give the open PhaseRun, if there is one, its end; its worker will not write it."""
        self.phase_runs.filter(verdict="").update(verdict=verdict, reason=reason, finished_at=now)

    def _refuse_unreached(self, start: Phase) -> None:
        if start not in lifecycle.ROUTE:
            raise TaskStateError(f"{start} is not a phase of the route")
        reached = Phase(self.stopped_in or lifecycle.ROUTE[0])
        if lifecycle.ROUTE.index(start) > lifecycle.ROUTE.index(reached):
            raise TaskStateError(f"{self.task_id} stopped in {reached} and never reached {start}")
