"""A piece of evidence on disk, with its hash and size."""

from __future__ import annotations

from pathlib import Path

from django.db import models


class Artifact(models.Model):
    """A file under the task's folder; `path` is relative to it, with forward slashes."""

    class Kind(models.TextChoices):
        TEST = "test"
        DIFF = "diff"
        REVIEW = "review"
        SCREENSHOT = "screenshot"
        VIDEO = "video"
        TRACE = "trace"
        REPORT = "report"
        LOG = "log"

    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="artifacts")
    phase_run = models.ForeignKey(
        "tasks.PhaseRun", on_delete=models.CASCADE, related_name="artifacts"
    )
    kind = models.CharField(max_length=12, choices=Kind.choices)
    title = models.CharField(max_length=200, blank=True)
    path = models.CharField(max_length=500)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(
        null=True, blank=True, help_text="when its file was removed to save space; the hash stays"
    )

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["task", "path"], name="artifact_path_once")]

    @property
    def file(self) -> Path:
        """Return where the evidence lies on disk."""
        return self.task.folder / self.path

    def __str__(self) -> str:
        return f"{self.task_id} {self.path}"
