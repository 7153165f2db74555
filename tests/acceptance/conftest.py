"""Fixtures for real work on real sites: the factory's hands, and what must be ended after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import DjangoDbBlocker

from tasks.lifecycle import Phase
from tasks.models import Project, Task
from tests.acceptance import journeys, scripts
from tests.acceptance.journeys import Journey, carry_on

__all__ = ["carry_on"]


@pytest.fixture
def play(tmp_path: Path) -> Path:
    """Return the folder of a scripted agent that does its work well."""
    folder = tmp_path / "play"
    scripts.good_author(folder)
    scripts.good_coder(folder)
    return folder


@pytest.fixture
def shop(transactional_db: None, tmp_path: Path, play: Path) -> Iterator[Project]:
    """Return a project that is new to the factory: a small real site, worked on by `play`."""
    name = f"shop-{tmp_path.name[-40:].lower().replace('_', '-')}"
    yield journeys.open_shop(name, scripts.make_repository(tmp_path / "repository"), play)
    journeys.close_shops()


@pytest.fixture
def work(shop: Project) -> Iterator[Callable[..., Task]]:
    """Return a function that submits a request, works on it here and now, and returns the task."""
    yield lambda feature=journeys.FEATURE, **options: submit_and_work(shop, feature, **options)
    assert journeys.left_in_scratch() == ()


@pytest.fixture(scope="session")
def journey(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: Any
) -> Journey:
    """Return what was seen of one good request that really went from the first phase to the last.

    Tests that only look at it share it; others take its work up in the middle by `known_shop`.
    """
    with django_db_blocker.unblock():
        return journeys.walk(tmp_path_factory.mktemp("journey"))


@pytest.fixture
def known_shop(transactional_db: None, journey: Journey, play: Path) -> Iterator[Project]:
    """Return the project of `journey` again, with its repository here, worked on by `play`."""
    known = journey.task.project
    yield journeys.open_shop(known.name, Path(known.repository), play)
    journeys.close_shops()


@pytest.fixture
def work_from(known_shop: Project, journey: Journey) -> Iterator[Callable[..., Task]]:
    """Return a function like `work`, for a task that stands at `phase` as `journey` stood there."""

    def call(
        phase: Phase, feature: str = journeys.FEATURE, code_sha: str = "", **options: Any
    ) -> Task:
        start = {"phase": phase, **journey.columns_at(phase)}
        start |= {"code_sha": code_sha} if code_sha else {}
        return submit_and_work(known_shop, feature, start=start, **options)

    yield call
    assert journeys.left_in_scratch() == ()


@pytest.fixture
def review(
    known_shop: Project, journey: Journey, work_from: Callable[..., Task]
) -> Callable[[dict[str, str]], Task]:
    """Return a function that hands a good change with these files beside it to the guardian."""

    def call(files: dict[str, str]) -> Task:
        page = scripts.PAGE.format(banner=scripts.BANNER).format(feature=journeys.FEATURE)
        sha = journeys.commit(known_shop, journey.task.test_sha, {"index.html": page, **files})
        return work_from(Phase.GUARDIAN_REVIEW, code_sha=sha)

    return call


def submit_and_work(
    project: Project,
    feature: str,
    *,
    max_retries: int = 0,
    start: dict[str, Any] | None = None,
    **options: Any,
) -> Task:
    """Submit a request, let it stand where the columns of `start` say, and work on it."""
    task = Task.submit(project, feature, journeys.TARGET_URL, **options)
    Task.objects.filter(pk=task.pk).update(max_retries=max_retries, **(start or {}))
    carry_on(task)
    return task
