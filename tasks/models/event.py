"""Append-only facts with a commit-ordered number; the live feed reads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models, transaction

from tasks.models.nudge import nudge_in_turn

if TYPE_CHECKING:
    from tasks.models.task import Task

EVIDENCE_REMOVED = "evidence.removed"
# Any constant will do: it names the one lock under which PostgreSQL hands out `seq`.
_TURNSTILE = 0x43484D52


class EventQuerySet(models.QuerySet["Event"]):
    """Reading in order, writing in commit order."""

    def after(self, seq: int) -> EventQuerySet:
        """Return the events that a reader at `seq` has not seen, oldest first."""
        return self.filter(seq__gt=seq).order_by("seq")

    def append(self, kind: str, task: Task | None = None, **data: Any) -> Event:
        """Write one event; call it last in the transaction whose change it tells of.

        SQLite has one writer, so ids commit in order. PostgreSQL has many: the lock, held to
        the end of the transaction, makes the next id wait for this commit. Whoever waits for
        work or for news is nudged.
        """
        event = Event.about(kind, task, **data)
        self.append_all([event])
        return event

    def append_all(self, events: Sequence[Event]) -> None:
        """Write unsaved events in this order, as `append` does with one."""
        if events:
            with transaction.atomic(using=self.db, savepoint=False):
                nudge_in_turn(self.db, _TURNSTILE)
                self.bulk_create(events)

    def evidence_removed_at(self, task: Task) -> datetime | None:
        """Return when the logs and evidence of a task were last removed to save space."""
        told = self.filter(task=task, kind=EVIDENCE_REMOVED).order_by("-seq")
        return told.values_list("created_at", flat=True).first()


class Event(models.Model):
    """One fact: `kind` is `<noun>.<participle>`, e.g. `phase.passed`; `data` holds JSON values."""

    seq = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=40)
    task = models.ForeignKey(
        "tasks.Task", null=True, on_delete=models.CASCADE, related_name="events"
    )
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["seq"]
        indexes = [models.Index(fields=["task", "seq"], name="event_task_seq")]

    @classmethod
    def about(cls, kind: str, task: Task | None = None, **data: Any) -> Event:
        """Return an unsaved event."""
        return cls(kind=kind, task=task, data=data)

    def __str__(self) -> str:
        return f"{self.seq} {self.kind}"
