"""One try at one phase: the append-only history of a task."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from django.db import models
from django.db.models import Q

from tasks.lifecycle import Phase, Verdict


class PhaseRun(models.Model):
    """Who tried which phase under which fence, and how it ended; open while `verdict` is empty."""

    task = models.ForeignKey("tasks.Task", on_delete=models.CASCADE, related_name="phase_runs")
    number = models.PositiveIntegerField(help_text="1, 2, 3 … within the task")
    phase = models.CharField(max_length=30, choices=Phase.choices)
    round = models.PositiveIntegerField(default=0)
    attempt = models.PositiveIntegerField(default=1)
    worker = models.CharField(max_length=200)
    fence = models.PositiveBigIntegerField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    verdict = models.CharField(max_length=12, choices=Verdict.choices, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    facts = models.JSONField(default=dict, blank=True)
    findings = models.JSONField(default=list, blank=True)
    cost_usd = models.FloatField(null=True, blank=True)

    class Meta:
        ordering = ["task", "number"]
        constraints = [
            models.UniqueConstraint(fields=["task", "number"], name="run_number_once"),
            models.UniqueConstraint(
                fields=["task"], condition=Q(verdict=""), name="run_one_open_per_task"
            ),
            models.CheckConstraint(
                condition=Q(verdict="", finished_at=None)
                | (~Q(verdict="") & Q(finished_at__isnull=False)),
                name="run_finished_with_verdict",
            ),
        ]

    @property
    def folder(self) -> Path:
        """Return the folder with what this try left behind."""
        return self.task.folder / f"{self.number:03d}-{self.phase.lower()}"

    @property
    def log_path(self) -> Path:
        """Return the file that the output of agents and commands goes to; it may not exist."""
        return self.folder / "log.txt"

    def ended_before(self, moment: datetime) -> bool:
        """Say whether it had ended by then, so that its files were among those removed then."""
        return self.finished_at is not None and self.finished_at <= moment

    def __str__(self) -> str:
        return f"{self.task_id} #{self.number} {self.phase} {self.verdict or 'open'}"
