"""Fixtures for all rings: unit (no database), integration (rows), acceptance (real processes)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks.models import Project, Task


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
