"""Try a project before it is registered: phase 1 on its repository, with no task around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tasks.lifecycle import TIME_LIMITS_S, Phase
from tasks.models import Project
from tasks.outcome import Checkpoint, Outcome
from tasks.phases import prepare
from tasks.phases.base import Order
from tasks.phases.bench import Bench
from tasks.workflow import journal
from tasks.workflow.executor import host_for
from tasks.workspace.process import Log


class EchoLog(Log):
    """A log whose own lines, not those of the children, are shown to a person as well."""

    def __init__(self, path: Path, echo: Callable[[str], object]) -> None:
        super().__init__(path)
        self._echo = echo

    def line(self, text: str) -> None:
        """Append a line and show it."""
        super().line(text)
        self._echo(text)


def try_project(project: Project, echo: Callable[[str], object]) -> Outcome:
    """Clone, install, run the tests and start the site, telling `echo` each step. Blocks.

    `project` need not be saved. Raises SandboxError, and whatever broken machinery raises.
    """
    host = host_for(project)
    order = Order(
        task_id=f"trial-{project.name}"[:40],
        feature="",
        start_path="/",
        phase=Phase.WORKSPACE_PREPARATION,
        round=0,
        fence=0,
        project=journal.spec_of(project),
        checkpoint=Checkpoint(),
    )
    folder = host.home / "trials" / project.name
    log = EchoLog(folder / "log.txt", echo)
    deadline = time.monotonic() + TIME_LIMITS_S[Phase.WORKSPACE_PREPARATION]
    try:
        return prepare.run(Bench(order, host, folder, log, deadline, lambda: False))
    finally:
        log.close()
