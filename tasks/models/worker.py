"""The heartbeat of one worker process."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Who is there."""

    def live(self, now: datetime, silence_s: float = 30.0) -> WorkerQuerySet:
        """Return the workers that were heard from within `silence_s` and take work."""
        return self.filter(seen_at__gte=now - timedelta(seconds=silence_s), is_draining=False)


class Worker(models.Model):
    """One django-q2 worker process; `name` is the holder that its leases carry."""

    name = models.CharField(max_length=200, unique=True, help_text="host:pid:start time")
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    pid_started = models.FloatField(help_text="seconds since the epoch")
    cluster = models.CharField(max_length=100)
    task = models.ForeignKey(
        "tasks.Task", null=True, blank=True, on_delete=models.SET_NULL, related_name="workers"
    )
    is_draining = models.BooleanField(default=False)
    trouble = models.TextField(blank=True, default="", help_text="why it cannot do its work")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["host", "pid"]

    def __str__(self) -> str:
        return self.name
