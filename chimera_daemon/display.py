"""Show a task on its way: a table that moves in a terminal, a line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from chimera_daemon.client import ChimeraClient
from chimera_daemon.errors import UnreachableError, WaitTimeoutError
from chimera_daemon.values import ROUTE, PhaseRun, Task

POLL_S = 0.3
SILENCE_LIMIT_S = 60.0  # how long a server that restarts may be away
MARKS = {
    "waiting": ("·", "dim"),
    "running": ("▶", "cyan"),
    "passed": ("✓", "green"),
    "rejected": ("↺", "yellow"),
    "errored": ("✗", "red"),
    "interrupted": ("‖", "yellow"),
}


@dataclass(frozen=True)
class Step:
    """How one of the seven phases stands; `state` is a verdict, running or waiting."""

    phase: str
    state: str
    tries: int
    seconds: float  # over all tries so far
    reason: str


def steps(runs: Sequence[PhaseRun], now: datetime) -> list[Step]:
    """Return the seven phases in their order, each by its latest try."""
    return [_step(phase, [run for run in runs if run.phase == phase], now) for phase in ROUTE]


def _step(phase: str, tries: list[PhaseRun], now: datetime) -> Step:
    if not tries:
        return Step(phase, "waiting", 0, 0.0, "")
    last = tries[-1]
    seconds = sum(_seconds(run, now) for run in tries)
    return Step(phase, last.verdict or "running", len(tries), seconds, last.reason)


def _seconds(run: PhaseRun, now: datetime) -> float:
    if run.duration_s is not None:
        return run.duration_s
    return max(0.0, (now - (run.started_at or now)).total_seconds())


def printable(text: str, limit: int = 200) -> str:
    """Return a text from a task as one harmless line: agents and sites wrote parts of it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def follow(
    client: ChimeraClient, task_id: str, console: Console, timeout_s: float | None = None
) -> Task:
    """Show the task until it has ended, and return it.

    Blocks. Raises WaitTimeoutError after `timeout_s`, and UnreachableError when the server
    stays away for a minute.
    """
    looks = _looks(client, task_id, timeout_s)
    if console.is_terminal:
        return _move(looks, console)
    return _tell(looks, console)


Look = tuple[Task, list[PhaseRun]]


def _looks(client: ChimeraClient, task_id: str, timeout_s: float | None) -> Iterator[Look]:
    """Yield how the task stands, again and again, the last time when it has ended."""
    began = heard = time.monotonic()
    while True:
        now = time.monotonic()
        try:
            task = client.get_task(task_id)  # before its phases, so that the end shows all
            runs = client.phases(task_id)
        except UnreachableError:
            if now - heard > SILENCE_LIMIT_S:
                raise
        else:
            heard = now
            yield task, runs
            if task.is_finished:
                return
        if timeout_s is not None and now - began > timeout_s:
            raise WaitTimeoutError(f"{task_id} has not ended after {timeout_s:.0f} s; it goes on")
        time.sleep(POLL_S)


def _move(looks: Iterator[Look], console: Console) -> Task:
    task, runs = next(looks)
    spinner = Spinner("dots", style="cyan")

    def draw() -> Table:
        return table(task, steps(runs, datetime.now(UTC)), spinner)

    with Live(get_renderable=draw, console=console, refresh_per_second=8):
        for look in looks:
            task, runs = look
    return task


def table(task: Task, stand: list[Step], spinner: Spinner | None = None) -> Table:
    """Return the seven phases as a table."""
    title = Text(printable(task.feature or task.id, 60), style="bold")
    shown = Table(
        title=title, title_justify="left", box=None, padding=(0, 1), show_header=False, expand=True
    )
    for width in (1, 23, 11, 7):  # fixed, so that nothing jumps; the reason gets the rest
        shown.add_column(min_width=width, no_wrap=True)
    shown.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    shown.caption = Text(f"{task.id}  {task.status}  {task.progress}", style="dim")
    shown.caption_justify = "left"
    for number, step in enumerate(stand, 1):
        mark, style = MARKS.get(step.state, ("?", ""))
        spins = step.state == "running" and spinner is not None and not task.is_finished
        tries = f"try {step.tries}" if step.tries > 1 else ""
        seconds = f"{step.seconds:5.1f} s" if step.tries else ""
        shown.add_row(
            spinner if spins and spinner else Text(mark, style=style),
            Text(f"{number} {step.phase}", style="" if step.tries else "dim"),
            Text(step.state, style=style),
            Text(seconds, style="dim"),
            Text(" ".join(filter(None, [tries, printable(step.reason)])), style="dim"),
        )
    return shown


def _tell(looks: Iterator[Look], console: Console) -> Task:
    """Print one line per change."""
    told: set[tuple[int, str]] = set()
    task: Task | None = None
    for look in looks:
        task, runs = look
        for run in runs:
            if (run.number, "") not in told and not run.verdict:
                line(console, run, "started")
            if run.verdict and (run.number, run.verdict) not in told:
                line(console, run, run.verdict)
            told |= {(run.number, ""), (run.number, run.verdict)}
    assert task is not None  # noqa: S101 - _looks yields at least once, or raises
    return task


def line(console: Console, run: PhaseRun, word: str) -> None:
    """Print what happened to one try at a phase."""
    position = f"{ROUTE.index(run.phase) + 1}/{len(ROUTE)}" if run.phase in ROUTE else "-"
    seconds = "" if run.duration_s is None else f"{run.duration_s:.1f} s"
    parts = [position, f"{run.phase:<21}", f"{word:<11}", f"{seconds:>7}", printable(run.reason)]
    console.out("  ".join(parts).rstrip(), highlight=False)
