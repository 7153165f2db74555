"""A staging copy of a site; it outlives its task and is held by a keeper process of its own."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Deployment(models.Model):
    """Which commit is live where, and the keeper that holds it; over when `ended_at` is set.

    One that a project's own script made has no keeper: host "" and pid 0.
    """

    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="deployments")
    url = models.CharField(max_length=500)
    commit_sha = models.CharField(max_length=64)
    host = models.CharField(max_length=255)
    boot_id = models.CharField(max_length=64)
    pid = models.PositiveIntegerField()
    pid_started = models.FloatField(help_text="seconds since the epoch")
    fence = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="None: not ours to end")
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(
                fields=["host", "created_at"],
                condition=Q(ended_at=None),
                name="deployment_live_by_host",
            )
        ]

    def __str__(self) -> str:
        return f"{self.url} {self.commit_sha[:10]}"
