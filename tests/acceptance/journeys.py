"""One request that goes the whole way, and where others take it up without walking it again."""

from __future__ import annotations

import os
import subprocess
import tempfile
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connections
from django.test.utils import override_settings
from django.utils import timezone

from tasks.lifecycle import ROUTE, Phase
from tasks.models import Artifact, Deployment, PhaseRun, Project, Task
from tasks.workflow import executor
from tasks.workspace import checkout, staging
from tests.acceptance import scripts

FEATURE = "Spring sale"
TARGET_URL = "https://shop.example/"
LEARNT_IN: dict[Phase, tuple[str, ...]] = {
    Phase.WORKSPACE_PREPARATION: ("base_sha", "baseline"),
    Phase.E2E_TEST_GENERATION: ("test_path", "test_sha"),
    Phase.RED_VERIFICATION: ("red_reason",),
    Phase.CODE_IMPLEMENTATION: ("draft_sha", "code_sha"),
    Phase.GUARDIAN_REVIEW: ("review_decision",),
    Phase.STAGING_DEPLOYMENT: ("deployment_url",),
}


@dataclass(frozen=True)
class Journey:
    """What was seen of that request. Its rows are gone, its repository and evidence are not."""

    task: Task
    runs: tuple[PhaseRun, ...]
    artifacts: tuple[Artifact, ...]
    page: bytes  # what its staging copy served
    scratch: tuple[str, ...]  # what was left there

    def columns_at(self, phase: Phase) -> dict[str, Any]:
        """Return what the row of a task holds when it enters `phase`."""
        assert self.task.status == "completed", self.task.reason
        passed = ROUTE[: ROUTE.index(phase)]
        return {name: getattr(self.task, name) for step in passed for name in LEARNT_IN[step]}


def open_shop(name: str, repository: Path, play: Path) -> Project:
    """Register a small real site that the scripted agent of `play` works on."""
    return Project.objects.create(
        name=name,
        repository=str(repository),
        target_url=TARGET_URL,
        serve_command=scripts.SERVE,
        test_command="python -m pytest -q -p no:cacheprovider tests",
        author=f"scripted:{play}",
        coder=f"scripted:{play}",
    )


def walk(folder: Path) -> Journey:
    """Take one request from the first phase to the last, look at it, and remove its rows."""
    play = folder / "play"
    scripts.good_author(play)
    scripts.good_coder(play)
    project = open_shop("journey", scripts.make_repository(folder / "repository"), play)
    task = Task.submit(project, FEATURE, TARGET_URL)
    Task.objects.filter(pk=task.pk).update(max_retries=0)
    try:
        carry_on(task)
        runs = list(task.phase_runs.all())
        artifacts = list(task.artifacts.select_related("phase_run"))
        task.project = project  # kept with it: there is no row to ask later
        for artifact in artifacts:
            artifact.task = task
        return Journey(task, tuple(runs), tuple(artifacts), _page(task), left_in_scratch())
    finally:
        close_shops()
        Task.objects.filter(pk=task.pk).delete()
        Project.objects.filter(pk=project.pk).delete()


def carry_on(task: Task) -> None:
    """Claim the task, as a worker would, and run it as far as it goes; retries are not awaited."""
    Task.objects.filter(pk=task.pk).update(due_at=timezone.now())
    lease = Task.objects.claim("test:1:1", timezone.now())
    assert lease is not None
    assert lease.task_pk == task.pk
    executor.run(lease, lambda: False)
    task.refresh_from_db()


@dataclass(frozen=True)
class End:
    """How a task ended, and which phases it had tries at."""

    task: Task
    phases: tuple[str, ...]


def walk_all(
    site: dict[str, str], features: Sequence[str], folder: Path, **project: str
) -> list[End]:
    """Have the playbook agent work on requests for a site, and remove their rows.

    They are worked on two at a time, as by two workers, and never tried again.
    """
    repository = scripts.make_repository(folder / "repository", site)
    row = Project.objects.create(repository=str(repository), **project)
    tasks = [Task.submit(row, feature, row.target_url) for feature in features]
    Task.objects.filter(project=row).update(max_retries=0)
    try:
        patient = replace(settings.CHIMERA, lease_s=600)  # no heartbeat renews a lease here
        with override_settings(CHIMERA=patient), ThreadPoolExecutor(2) as workers:
            list(workers.map(_work, ("test:1:1", "test:2:1")))
        ends = []
        for task in tasks:
            task.refresh_from_db()
            ends.append(End(task, tuple(run.phase for run in task.phase_runs.all())))
        return ends
    finally:
        close_shops()
        Task.objects.filter(project=row).delete()
        row.delete()


def _work(worker: str) -> None:
    """Claim tasks and run them, as long as there are any."""
    try:
        while lease := Task.objects.claim(worker, timezone.now()):
            executor.run(lease, lambda: False)
    finally:
        connections.close_all()


def commit(project: Project, parent: str, files: dict[str, str]) -> str:
    """Commit files on top of `parent` in the service's repository; return the new commit's sha."""
    bare = settings.CHIMERA.home / "repositories" / f"{project.name}.git"
    author = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@localhost"}
    committer = {"GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@localhost"}
    with tempfile.TemporaryDirectory() as folder:
        env = {"PATH": os.environ["PATH"], "GIT_INDEX_FILE": f"{folder}/index"}

        def git(*words: str, text: str = "") -> str:
            said = subprocess.run(
                ["git", "--git-dir", str(bare), *words],
                env={**env, **author, **committer},
                input=text.encode(),
                check=True,
                capture_output=True,
            )
            return said.stdout.decode().strip()

        git("read-tree", parent)
        for name, text in files.items():
            blob = git("hash-object", "-w", "--stdin", text=text)
            git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
        return git("commit-tree", git("write-tree"), "-p", parent, "-m", "By hand")


def close_shops() -> None:
    """End every staging copy that a row tells of, and remove their folders."""
    for row in Deployment.objects.all():
        staging.end(row.pid, row.pid_started)
    checkout.remove(settings.CHIMERA.home / "staging")


def left_in_scratch() -> tuple[str, ...]:
    """Return the names of what lies in the scratch folder."""
    folder = settings.CHIMERA.home / "scratch"
    return tuple(path.name for path in folder.iterdir()) if folder.is_dir() else ()


def _page(task: Task) -> bytes:
    if not task.deployment_url:
        return b""
    port = urlsplit(task.deployment_url).port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return bytes(answer.read())
