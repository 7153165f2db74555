"""Count what each phase of the demo task costs: SQL statements, child processes, seconds.

    .venv/bin/python -m benchmarks.cost

One demo task is claimed and carried to its end in this process, with the real executor, Git,
sandbox and browser, in a CHIMERA_HOME of its own that is gone afterwards. The heartbeat of a
worker process is not among the figures.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django

from benchmarks.bench import FEATURE, machine

READS = ("SELECT", "PRAGMA")
WRITES = ("INSERT", "UPDATE", "DELETE")
COLUMNS = ("reads", "writes", "git", "sandboxed", "rooms", "other")


@dataclass
class Tally:
    """What happened from the opening of one try, or from then on, to the opening of the next.

    A passed try's end and the next one's opening are one transaction; it counts for the former.
    """

    phase: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))
    seconds: float = 0.0
    children_s: float = 0.0

    def add(self, name: str) -> None:
        """Count one."""
        self.counts[name] += 1


class Meter:
    """Sees every statement of this thread's connection and every child that it starts."""

    def __init__(self) -> None:
        self.tallies = [Tally("claim")]

    @property
    def now(self) -> Tally:
        """Return the tally that counts at this moment."""
        return self.tallies[-1]

    def statement(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Count a statement; what opens or closes a transaction is neither read nor write."""
        word = sql.lstrip().split(None, 1)[0].upper()
        if word in READS + WRITES:
            self.now.add("reads" if word in READS else "writes")
        return execute(sql, params, many, context)

    def spawn(self, start: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that starts children, counting."""

        def counting(command: Any, **streams: Any) -> Any:
            self.now.add(kind_of(command.argv))
            return start(command, **streams)

        return counting

    def opening(self, open_run: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that opens a try, beginning a new tally with each."""

        def counting(*args: Any) -> Any:
            self.tallies.append(Tally(""))
            run = open_run(*args)
            self.now.phase = run.phase
            return run

        return counting

    def advancing(self, advance: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that settles a try and opens the next, beginning a new tally."""

        def counting(*args: Any) -> Any:
            advanced = advance(*args)
            if advanced.run is not None:
                self.tallies.append(Tally(advanced.run.phase))
            return advanced

        return counting


def kind_of(argv: tuple[str, ...]) -> str:
    """Say what a call starts: git, a command in the sandbox, a room, or something else."""
    names = [Path(word).name for word in argv]
    if "git" in names and "bwrap" not in names:
        return "git"
    if "room.py" in names:
        return "rooms"
    return "sandboxed" if "bwrap" in names else "other"


def main() -> int:
    """Carry one demo task through its phases and print a table in Markdown."""
    with tempfile.TemporaryDirectory(prefix="chimera-cost-") as home:
        for name in ("CHIMERA_DATABASE_URL", "CHIMERA_DB_PATH", "CHIMERA_DEMO", "CHIMERA_CONFIG"):
            os.environ.pop(name, None)
        os.environ |= {
            "CHIMERA_HOME": home,
            "CHIMERA_LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
        }
        django.setup()
        tallies = measure()
        print(", ".join(f"{name} {value}" for name, value in machine().items()), end="\n\n")
    print_table(tallies)
    return 0


def measure() -> list[Tally]:
    """Return what each phase cost; the first tally is the claim's."""
    from django.db import connection
    from django.utils import timezone

    from tasks.models import Project, Task
    from tasks.models.settlement import TaskQuerySet
    from tasks.workflow import deployments, executor, first_start
    from tasks.workspace import process

    first_start.prepare()
    demo = Project.objects.get(name=first_start.DEMO_NAME)
    task = Task.submit(demo, FEATURE, first_start.DEMO_ADDRESS)
    meter = Meter()
    process._spawn = meter.spawn(process._spawn)
    TaskQuerySet.open_run = meter.opening(TaskQuerySet.open_run)  # type: ignore[method-assign]
    TaskQuerySet.advance = meter.advancing(TaskQuerySet.advance)  # type: ignore[method-assign]
    try:
        with connection.execute_wrapper(meter.statement):
            lease = Task.objects.claim("cost:1:1", timezone.now())
            assert lease is not None
            executor.run(lease, lambda: False)
    finally:
        deployments.end_since(0)
    task.refresh_from_db()
    if task.status != "completed":
        raise SystemExit(f"The task {task.status} in {task.stopped_in}: {task.reason}")
    for tally, run in zip(meter.tallies[1:], task.phase_runs.all(), strict=True):
        tally.seconds, tally.children_s = run.facts["seconds"], run.facts["children_s"]
    return meter.tallies


def print_table(tallies: list[Tally]) -> None:
    """Print one row for each phase, and their sum."""
    print("| phase |", " | ".join(COLUMNS), "| seconds | outside children |")
    print("|---|" + "---:|" * (len(COLUMNS) + 2))
    whole = Tally("all")
    for tally in tallies:
        print_row(tally)
        whole.seconds += tally.seconds
        whole.children_s += tally.children_s
        for name in COLUMNS:
            whole.counts[name] += tally.counts[name]
    print_row(whole)


def print_row(tally: Tally) -> None:
    """Print one row."""
    outside = tally.seconds - tally.children_s
    counts = " | ".join(str(tally.counts[name]) for name in COLUMNS)
    print(f"| `{tally.phase}` | {counts} | {tally.seconds:.2f} | {outside:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
