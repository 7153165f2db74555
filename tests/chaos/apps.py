"""What is other in a factory under attack: its phases, its probe, and processes that say who."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.conf import settings


class ChaosConfig(AppConfig):
    """Puts the quick phases into the place of those that need a browser."""

    name = "tests.chaos"

    def ready(self) -> None:
        """Change this process, and so all that are forked from it."""
        import django_q.cluster

        from tasks import phases
        from tasks.workspace import probe
        from tests.chaos import work

        phases.RUN.update(work.RUN)
        probe.find_trouble = lambda *_: ""  # the browser that it would try is of no use here
        for role in ("pusher", "monitor"):
            setattr(django_q.cluster, role, announced(role, getattr(django_q.cluster, role)))


def announced(role: str, target: Callable[..., Any]) -> Callable[..., Any]:
    """Return the process's function; it first leaves a file that says what it is."""

    def run(*arguments: Any) -> Any:
        (settings.CHAOS_NOTES / f"{role}.{os.getpid()}").touch()
        return target(*arguments)

    return run
