"""What a task's rows tell a person: steps, the card on top, ages. Pure; rows in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.dashboard.plain import duration, plain
from tasks.lifecycle import ROUTE, Hold, Phase, Status, Verdict, finished_phases
from tasks.models import PhaseRun, Task

SHOWN_REASON = 4000  # characters of a reason; the log has all of it
SHOWN_FINDINGS = 100

# Words for a phase where space is short; the full name is its label.
SHORT = {
    Phase.WORKSPACE_PREPARATION: "Workspace",
    Phase.E2E_TEST_GENERATION: "Test",
    Phase.RED_VERIFICATION: "Red",
    Phase.CODE_IMPLEMENTATION: "Code",
    Phase.GUARDIAN_REVIEW: "Guardian",
    Phase.STAGING_DEPLOYMENT: "Staging",
    Phase.E2E_VALIDATION: "Green",
}
LABELS = {phase: phase.label.replace("E2E", "end-to-end").capitalize() for phase in Phase}
WAITS_FOR = {
    Hold.APPROVAL: "somebody's approval",
    Hold.AGENT: "its agent to become available",
    Hold.LIMIT: "room below a limit",
    Hold.INTAKE: "the intake to be opened again",
}


@dataclass(frozen=True)
class Mark:
    """One of the seven steps as the stepper shows it; `state` names its icon and its class."""

    name: str
    label: str
    state: str  # done | active | waiting | failed | cancelled | again | todo

    @property
    def word(self) -> str:
        """Return the state as people say it."""
        return {"active": "running", "again": "to do again", "todo": "to do"}.get(
            self.state, self.state
        )


@dataclass(frozen=True)
class FindingLine:
    """One thing that was wrong with a change, in plain text."""

    place: str
    rule: str
    message: str


@dataclass(frozen=True)
class Try:
    """One PhaseRun."""

    number: int
    verdict: str  # passed | rejected | errored | interrupted | open
    took: str
    since: datetime | None  # of an open try, for the clock
    round: int
    attempt: int
    worker: str
    reason: str
    findings: tuple[FindingLine, ...]
    cost: str


@dataclass(frozen=True)
class Step:
    """A phase of the route with every try at it."""

    mark: Mark
    number: int
    tries: tuple[Try, ...]
    took: str

    @property
    def is_open(self) -> bool:
        """Tell whether the step is unfolded on first paint."""
        return self.mark.state in {"active", "failed", "waiting"} and bool(self.tries)


@dataclass(frozen=True)
class Card:
    """The top of a task's page: what happened, why, and what to do next."""

    tone: str  # a Status
    headline: str
    why: str
    next_action: str


def marks_of(task: Task, tried: frozenset[str] = frozenset()) -> tuple[Mark, ...]:
    """Return the seven steps of a task; `tried` holds the phases that have a PhaseRun."""
    stopped_in = Phase(task.stopped_in) if task.stopped_in else None
    finished = finished_phases(Phase(task.phase), stopped_in)
    here = {
        Status.RUNNING: "active",
        Status.QUEUED: "waiting",
        Status.FAILED: "failed",
        Status.CANCELLED: "cancelled",
    }
    marks = []
    for position, phase in enumerate(ROUTE):
        if position < finished:
            state = "done"
        elif position == finished:
            state = here.get(Status(task.status), "done")
        else:
            state = "again" if phase in tried else "todo"
        marks.append(Mark(SHORT[phase], LABELS[phase], state))
    return tuple(marks)


def steps_of(task: Task, runs: Sequence[PhaseRun], now: datetime) -> tuple[Step, ...]:
    """Return the seven steps with their tries, oldest first."""
    marks = marks_of(task, frozenset(run.phase for run in runs))
    steps = []
    for number, (phase, mark) in enumerate(zip(ROUTE, marks, strict=True), start=1):
        mine = [run for run in runs if run.phase == phase]
        spent_s = sum(((run.finished_at or now) - run.started_at).total_seconds() for run in mine)
        took = duration(spent_s) if mine else ""
        steps.append(Step(mark, number, tuple(_try(run, now) for run in mine), took))
    return tuple(steps)


def card_of(task: Task, now: datetime, *, has_workers: bool) -> Card:
    """Say in words where the task stands."""
    reason = plain(task.reason, SHOWN_REASON)
    where = LABELS[Phase(task.stopped_in)] if task.stopped_in else ""
    if task.status == Status.COMPLETED:
        return Card(
            task.status,
            "The test failed before the change and passes after it",
            "Chimera saw both in a real browser, the second time on the staging copy.",
            f"Try it on staging, then review and merge {task.branch}.",
        )
    if task.status == Status.FAILED:
        advice = "Read the last try below, put the cause right, then retry from there."
        return Card(task.status, f"Stopped in: {where}", reason, advice)
    if task.status == Status.CANCELLED:
        advice = "Retry takes it up where it stopped; what earlier steps produced is kept."
        return Card(task.status, f"Cancelled in: {where}" if where else "Cancelled", reason, advice)
    if task.status == Status.RUNNING:
        return _running_card(task, now)
    return _queued_card(task, reason, now, has_workers)


def elapsed(task: Task, now: datetime) -> str:
    """Say how long it is since the start, up to the end if there is one; "" before the start."""
    if task.started_at is None:
        return ""
    return duration(((task.completed_at or now) - task.started_at).total_seconds())


def age(moment: datetime, now: datetime) -> str:
    """Say how long ago `moment` was."""
    return f"{duration((now - moment).total_seconds())} ago"


def _running_card(task: Task, now: datetime) -> Card:
    label = LABELS[Phase(task.phase)]
    headline = f"Working on: {label}"
    if task.lease_expires_at is not None and task.lease_expires_at <= now:
        why = "Its worker has gone silent; the next free one takes the task up in this step."
        return Card(task.status, headline, why, "Nothing to do: this heals by itself.")
    counts = []
    if task.attempts > 1:
        counts.append(f"attempt {task.attempts}")
    if task.rounds:
        counts.append(f"sent back {_times(task.rounds)}, {task.max_retries} at most")
    why = f"{', '.join(counts).capitalize()}." if counts else ""
    return Card(task.status, headline, why, "Nothing to do: this page follows along.")


def _queued_card(task: Task, reason: str, now: datetime, has_workers: bool) -> Card:
    label = LABELS[Phase(task.phase)]
    if task.hold:
        why = f"It waits for {WAITS_FOR[Hold(task.hold)]}. {reason}".strip()
        return Card(task.status, f"On hold before: {label}", why, "It goes on when that is there.")
    if not has_workers:
        advice = "Start workers: chimera-daemon start, or manage.py qcluster on any host."
        return Card(task.status, f"Waiting in: {label}", "No worker is alive to take it.", advice)
    if task.waits_for:
        advice = "It goes on when that task is done there; higher priority goes first."
        return Card(task.status, f"Waiting for its turn: {label}", reason, advice)
    if task.due_at > now:
        due = duration((task.due_at - now).total_seconds() + 1)
        advice = f"It is tried again by itself in {due}."
        return Card(task.status, f"Waiting to try again: {label}", reason, advice)
    advice = "It starts as soon as a worker is free; higher priority goes first."
    return Card(task.status, f"In the queue for: {label}", reason, advice)


def _try(run: PhaseRun, now: datetime) -> Try:
    is_open = run.finished_at is None
    took = duration(((run.finished_at or now) - run.started_at).total_seconds())
    return Try(
        number=run.number,
        verdict=Verdict(run.verdict).value if run.verdict else "open",
        took=took,
        since=run.started_at if is_open else None,
        round=run.round,
        attempt=run.attempt,
        worker=plain(run.worker),
        reason=plain(run.reason, SHOWN_REASON),
        findings=tuple(_finding(each) for each in run.findings[:SHOWN_FINDINGS]),
        cost="" if run.cost_usd is None else f"${run.cost_usd:.2f}",
    )


def _finding(found: dict[str, Any]) -> FindingLine:
    file, line = plain(str(found.get("file", ""))), found.get("line") or 0
    return FindingLine(
        place=f"{file}:{line}" if file and line else file,
        rule=plain(str(found.get("rule", ""))),
        message=plain(str(found.get("message", "")), SHOWN_REASON),
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
