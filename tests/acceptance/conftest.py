"""Fixtures for real work on real sites: the factory's hands, and what must be ended after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tasks.models import Deployment, Project, Task
from tasks.workflow import executor
from tasks.workspace import staging
from tests.acceptance import scripts


@pytest.fixture
def play(tmp_path: Path) -> Path:
    """Return the folder of a scripted agent that does its work well."""
    folder = tmp_path / "play"
    scripts.good_author(folder)
    scripts.good_coder(folder)
    return folder


@pytest.fixture
def shop(transactional_db: None, tmp_path: Path, play: Path) -> Iterator[Project]:
    """Return a project: a small real site, worked on by the scripted agent of `play`."""
    yield Project.objects.create(
        name=f"shop-{tmp_path.name[-40:].lower().replace('_', '-')}",
        repository=str(scripts.make_repository(tmp_path / "repository")),
        target_url="https://shop.example/",
        serve_command=scripts.SERVE,
        test_command="python -m pytest -q -p no:cacheprovider tests",
        author=f"scripted:{play}",
        coder=f"scripted:{play}",
    )
    for row in Deployment.objects.all():
        staging.end(row.pid, row.pid_started)


@pytest.fixture
def work(shop: Project) -> Callable[..., Task]:
    """Return a function that submits a request, works on it here and now, and returns the task."""

    def call(feature: str = "Spring sale", *, max_retries: int = 0, **options: Any) -> Task:
        task = Task.submit(shop, feature, "https://shop.example/", **options)
        Task.objects.filter(pk=task.pk).update(max_retries=max_retries)
        carry_on(task)
        return task

    return call


def carry_on(task: Task) -> None:
    """Claim the task, as a worker would, and run it as far as it goes; retries are not awaited."""
    Task.objects.filter(pk=task.pk).update(due_at=timezone.now())
    lease = Task.objects.claim("test:1:1", timezone.now())
    assert lease is not None
    assert lease.task_pk == task.pk
    executor.run(lease, lambda: False)
    task.refresh_from_db()
