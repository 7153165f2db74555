"""How rows look in JSON: the names and the shapes of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import OuterRef, QuerySet, Subquery
from django.urls import reverse

from tasks.lifecycle import Status
from tasks.models import Artifact, Breaker, Deployment, PhaseRun, Task, Worker

STAGING_EXPIRY = "staging_expires_at"


def instant(moment: datetime | None) -> str | None:
    """Return a time in UTC to the second, as in 2030-01-31T10:30:05Z."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_staging_expiry(tasks: QuerySet[Task]) -> QuerySet[Task]:
    """Have the tasks know, in the same query, when their live staging copy is ended."""
    live = Deployment.objects.filter(task=OuterRef("pk"), ended_at=None).order_by("-id")
    return tasks.annotate(**{STAGING_EXPIRY: Subquery(live.values("expires_at")[:1])})


def receipt(task: Task) -> dict[str, Any]:
    """Return what a caller gets for a new task."""
    return {
        "task_id": task.task_id,
        "status": task.status,
        "created_at": instant(task.created_at),
        "project": task.project.name,
    }


def task_json(task: Task) -> dict[str, Any]:
    """Return a task as it stands; `result` is there when it is completed.

    The task comes from a query that `with_staging_expiry` has widened.
    """
    body: dict[str, Any] = {
        "task_id": task.task_id,
        "status": task.status,
        "phase": task.phase,
        "progress": task.progress,
    }
    if task.status == Status.COMPLETED:
        body["result"] = result_json(task)
    body |= {"created_at": instant(task.created_at), "started_at": instant(task.started_at)}
    if task.completed_at is not None:
        body |= {"completed_at": instant(task.completed_at), "duration": task.duration_s}
    return body | {
        "project": task.project.name,
        "feature": task.feature,
        "target_url": task.target_url,
        "staging_url": task.staging_url,
        "priority": task.priority,
        "reason": task.reason,
        "hold": task.hold,
        "waits_for": task.waits_for,
        "stopped_in": task.stopped_in,
        "rounds": task.rounds,
        "max_retries": task.max_retries,
        "branch": task.branch,
        "base_sha": task.base_sha,
        "test_sha": task.test_sha,
        "code_sha": task.code_sha,
        "red_reason": task.red_reason,
    }


def result_json(task: Task) -> dict[str, Any]:
    """Return what a completed task has produced."""
    return {
        "test_path": task.test_path,
        "code_pr_id": f"local-{task.task_id}",
        "review_decision": task.review_decision,
        "deployment_url": task.deployment_url,
        "validation_status": task.validation_status,
        "commit_sha": task.code_sha,
        "branch": task.branch,
        "test_commit": task.test_sha,
        "staging_expires_at": instant(vars(task)[STAGING_EXPIRY]),
    }


def run_json(run: PhaseRun) -> dict[str, Any]:
    """Return one try at a phase; `verdict` and `finished_at` are null while it lasts."""
    return {
        "run": run.number,
        "phase": run.phase,
        "round": run.round,
        "attempt": run.attempt,
        "verdict": run.verdict or None,
        "reason": run.reason,
        "findings": run.findings,
        "facts": run.facts,
        "cost_usd": run.cost_usd,
        "worker": run.worker,
        "started_at": instant(run.started_at),
        "finished_at": instant(run.finished_at),
    }


def artifact_json(artifact: Artifact) -> dict[str, Any]:
    """Return what is known of a piece of evidence, and where to fetch it."""
    task_id = artifact.task.task_id
    return {
        "id": artifact.pk,
        "run": artifact.phase_run.number,
        "phase": artifact.phase_run.phase,
        "kind": artifact.kind,
        "title": artifact.title,
        "path": artifact.path,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "created_at": instant(artifact.created_at),
        "removed_at": instant(artifact.removed_at),
        "url": reverse("task-artifact", kwargs={"task_id": task_id, "pk": artifact.pk}),
    }


def worker_json(worker: Worker) -> dict[str, Any]:
    """Return a worker and the task in its hand, if it has one."""
    return {
        "host": worker.host,
        "pid": worker.pid,
        "task": worker.task.task_id if worker.task else None,
        "phase": worker.task.phase if worker.task else None,
        "last_seen": instant(worker.seen_at),
        "trouble": worker.trouble,
    }


def breaker_json(breaker: Breaker) -> dict[str, Any]:
    """Return an agent that is paused, until when, and how its last start failed."""
    return {
        "agent": breaker.agent,
        "until": instant(breaker.paused_until),
        "failures": breaker.failures,
        "reason": breaker.reason,
    }
