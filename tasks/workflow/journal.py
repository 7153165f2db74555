"""Between rows and values: a task's row becomes an order, evidence becomes artifact rows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from tasks.lifecycle import Phase
from tasks.models import Artifact, Deployment, PhaseRun, Project, Task
from tasks.outcome import DeploymentFacts, Evidence, Finding
from tasks.phases.base import Order, ProjectSpec


def order_of(task: Task, run: PhaseRun) -> Order:
    """Return what the phase needs to know of the task."""
    return Order(
        task_id=task.task_id,
        feature=task.feature,
        start_path=start_path(task.target_url),
        phase=Phase(run.phase),
        round=run.round,
        fence=run.fence,
        project=spec_of(task.project),
        checkpoint=task.checkpoint,
        findings=tuple(Finding(**finding) for finding in task.findings),
        deployment=_live_deployment(task),
        staging_url=task.staging_url,
    )


def spec_of(project: Project) -> ProjectSpec:
    """Return the project as phases see it."""
    return ProjectSpec(
        name=project.name,
        repository=project.repository,
        branch=project.branch,
        serve_command=project.serve_command,
        install_command=project.install_command,
        test_command=project.test_command,
        health_path=project.health_path,
        e2e_folder=project.e2e_folder,
        protected_paths=tuple(project.protected_paths),
        author=project.author,
        coder=project.coder,
        reviewer=project.reviewer,
        deploy_command=project.deploy_command,
        rollback_command=project.rollback_command,
        commit_check=project.commit_check,
        staging_origins=tuple(project.staging_origins),
        agent_network=project.agent_network,
        max_changed_lines=project.max_changed_lines,
        max_changed_files=project.max_changed_files,
    )


def start_path(target_url: str) -> str:
    """Return path and query of the target URL; its origin is never contacted."""
    parts = urlsplit(target_url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def artifacts_of(run: PhaseRun, evidence: tuple[Evidence, ...]) -> list[Artifact]:
    """Return unsaved rows, with hash and size, for the files that a phase left behind."""
    task = run.task
    return [_artifact(task, run, item) for item in evidence if Path(item.path).is_file()]


def _artifact(task: Task, run: PhaseRun, item: Evidence) -> Artifact:
    path = Path(item.path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Artifact(
        task=task,
        phase_run=run,
        kind=item.kind,
        title=item.title[:200],
        path=path.relative_to(task.folder).as_posix(),
        sha256=digest,
        size_bytes=path.stat().st_size,
    )


def _live_deployment(task: Task) -> DeploymentFacts | None:
    row = Deployment.objects.filter(task=task, ended_at=None).order_by("-id").first()
    if row is None:
        return None
    return DeploymentFacts(
        url=row.url,
        commit_sha=row.commit_sha,
        host=row.host,
        boot_id=row.boot_id,
        pid=row.pid,
        pid_started=row.pid_started,
    )
