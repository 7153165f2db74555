"""Fixtures for all rings: unit (no database), integration (rows), acceptance (real processes)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from tasks.models import Project, Task
from tasks.workflow import dump
from tests import postgres

DATABASE = "postgresql" if settings.CHIMERA.database_url else "sqlite"
ROW_FIXTURES = {"db", "transactional_db"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other database, and on PostgreSQL what is the same on both."""
    left_out = [item for item in items if not _is_for(DATABASE, item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _is_for(DATABASE, item)]


def _is_for(database: str, item: pytest.Item) -> bool:
    mark = item.get_closest_marker("only_on")
    if mark is not None:
        return bool(mark.args[0] == database)
    if database == "postgresql" and not _has_programs(item):
        return False
    if database == "sqlite" or item.get_closest_marker("on_both") is not None:
        return True
    has_rows = bool(ROW_FIXTURES & set(getattr(item, "fixturenames", ())))
    touches_rows = has_rows or item.get_closest_marker("django_db") is not None
    return touches_rows and "acceptance" not in item.path.parts


def _has_programs(item: pytest.Item) -> bool:
    """Say whether PostgreSQL's programs that the test needs are here; its server may be alone."""
    mark = item.get_closest_marker("needs")
    try:
        return all(dump.find_program(name) for name in (mark.args if mark else ()))
    except dump.DumpError:
        return False


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> Iterator[None]:
    """Start this process's PostgreSQL, where it is the database of the tests."""
    if DATABASE == "postgresql":
        postgres.own().start()
    yield
    if DATABASE == "postgresql":
        connections.close_all()
        postgres.own().remove()


@pytest.fixture(scope="session")
def django_db_keepdb(request: pytest.FixtureRequest) -> bool:
    """Drop no database of a server that goes as a whole: forgotten connections would forbid it."""
    return DATABASE == "postgresql" or bool(request.config.getvalue("reuse_db"))


@pytest.fixture
def project(db: None) -> Project:
    """Return a registered project whose site is meant to live at https://shop.example."""
    return Project.objects.create(
        name="shop",
        repository="/nowhere/shop.git",
        target_url="https://shop.example/",
        serve_command="python -m http.server {port}",
    )


@pytest.fixture
def submit(project: Project) -> Callable[..., Task]:
    """Return a function that queues a task: submit(feature="…", priority=5)."""

    def call(feature: str = "Add dark mode toggle", **options: Any) -> Task:
        return Task.submit(project, feature, "https://shop.example/", **options)

    return call
