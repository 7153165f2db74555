"""Reads a history and says which promise it breaks. Pure: no database, no clock, no factory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from tasks.lifecycle import BACK_TO, MAX_CRASHES, ROUTE, Phase
from tests.chaos.history import EventRow, History, RunRow, TaskRow
from tests.chaos.ledger import BEGAN, MADE, Effect

ENDS = frozenset({"completed", "failed", "cancelled"})
VANISHED = "vanished"  # how a try ends whose worker was killed


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, and where."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


Check = Callable[[History], Iterator[str]]


def check(history: History) -> list[Violation]:
    """Return everything that is wrong, in the order of the promises."""
    return [
        Violation(promise, what) for promise, look in PROMISES.items() for what in look(history)
    ]


def accepted_tasks_are_there(history: History) -> Iterator[str]:
    """A 201 means committed; what was never asked for is not there, and nothing twice."""
    rows = {task.task_id: task for task in history.tasks}
    for asked in history.submissions:
        row = rows.get(asked.task_id)
        if asked.code == 201 and (row is None or row.number != asked.number):
            yield f"{asked.task_id} (request {asked.number}) was accepted and is not there"
    may_be = {asked.number for asked in history.submissions if asked.code == 201}
    may_be |= {asked.number for asked in history.submissions if not _is_refusal(asked.code)}
    for number, times in Counter(task.number for task in history.tasks).items():
        if times > 1:
            yield f"request {number} became {times} tasks"
        if number not in may_be:
            yield f"request {number} was refused and is there"


def _is_refusal(code: int | None) -> bool:
    return code is not None and 400 <= code < 500


def tasks_end_once(history: History) -> Iterator[str]:
    """Every task has exactly one terminal state, and stays in it."""
    events = history.events_of()
    for task in history.tasks:
        if task.status not in ENDS:
            yield f"{task.task_id} is {task.status} in {task.phase}"
        told = [event.kind for event in events.get(task.task_id, []) if _is_end(event)]
        if told != [f"task.{task.status}"] and task.status in ENDS:
            yield f"{task.task_id} is {task.status}, and its events say {told}"
    ended: dict[str, str] = {}
    for sight in history.sights:
        before = ended.get(sight.task_id)
        if before and sight.status != before:
            yield f"{sight.task_id} was {before} and then {sight.status}"
        if sight.status in ENDS:
            ended[sight.task_id] = sight.status


def _is_end(event: EventRow) -> bool:
    return event.kind in {f"task.{end}" for end in ENDS}


def ends_are_explained(history: History) -> Iterator[str]:
    """Nothing is cancelled that nobody cancelled; nothing fails but poison."""
    asked = {cancel.task_id for cancel in history.cancels}
    agreed = {cancel.task_id for cancel in history.cancels if cancel.code == 200}
    runs = history.runs_of()
    for task in history.tasks:
        if task.status == "cancelled" and task.task_id not in asked:
            yield f"{task.task_id} is cancelled, and nobody asked for that"
        if task.task_id in agreed and task.status != "cancelled":
            yield f"{task.task_id} was said to be cancelled, and is {task.status}"
        if task.status == "failed" and not _is_poison(runs.get(task.task_id, [])):
            yield f"{task.task_id} failed, and not as poison: {task.reason}"


def _is_poison(runs: list[RunRow]) -> bool:
    last = runs[-1].phase if runs else ""
    crashes = [run for run in runs if run.phase == last and VANISHED in run.reason]
    return len(crashes) >= MAX_CRASHES


def effects_happen_once(history: History) -> Iterator[str]:
    """No phase passed twice in a round, no work was done twice, and rows tell of that work."""
    passed = Counter((r.task_id, r.phase, r.round) for r in history.runs if r.verdict == "passed")
    for (task_id, phase, number), times in passed.items():
        if times > 1:
            yield f"{task_id} passed {phase} {times} times in round {number}"
    lines = Counter((e.what, *_key(e)) for e in history.effects)
    for (what, *where), times in lines.items():
        if times > 1:
            yield f"{where} {what} {times} times"
    began = {_key(e) for e in history.effects if e.what == BEGAN}
    made = {_key(e) for e in history.effects if e.what == MADE}
    for key in sorted(made - began):
        yield f"{key} made something that it never began"
    for run in history.runs:
        if run.verdict == "passed" and _key(run) not in made:
            yield f"{_key(run)} passed, and nobody did that work"
    yield from _events_tell_once(history)


def _key(of: Effect | RunRow) -> tuple[str, str, int, int]:
    return (of.task_id, of.phase, of.round, of.fence)


def _events_tell_once(history: History) -> Iterator[str]:
    told = Counter(
        (event.task_id, event.run) for event in history.events if event.kind == "phase.passed"
    )
    recorded = {(run.task_id, run.number) for run in history.runs if run.verdict == "passed"}
    for key in sorted(told.keys() | recorded):
        if told[key] != 1 or key not in recorded:
            yield f"try {key} passed is told {told[key]} times, recorded: {key in recorded}"


def tries_follow_the_route(history: History) -> Iterator[str]:
    """Each try is at the phase to which the one before led; a completed task went all the way."""
    tasks = {task.task_id: task for task in history.tasks}
    for task_id, runs in history.runs_of().items():
        if [run.number for run in runs] != list(range(1, len(runs) + 1)):
            yield f"{task_id} has the tries {[run.number for run in runs]}"
        expected: Phase | None = ROUTE[0]
        for run in runs:
            if run.phase != expected:
                yield f"{task_id} try {run.number} is at {run.phase}, not at {expected}"
            expected = _next(run)
        task = tasks.get(task_id)
        if task and (task.status == "completed") != (expected is None):
            yield f"{task_id} is {task.status} after {runs[-1].phase} {runs[-1].verdict}"


def _next(run: RunRow) -> Phase | None:
    phase = Phase(run.phase)
    if run.verdict == "rejected":
        return BACK_TO.get(phase)
    if run.verdict != "passed":
        return phase
    return None if phase == ROUTE[-1] else ROUTE[ROUTE.index(phase) + 1]


def fences_do_not_overlap(history: History) -> Iterator[str]:
    """Of one task, an effect under a fence comes before all those under a later one."""
    fences = {task.task_id: task.fence for task in history.tasks}
    for task_id, runs in history.runs_of().items():
        for one, other in pairwise(runs):
            if other.fence < one.fence:
                yield f"{task_id} try {other.number} has fence {other.fence} after {one.fence}"
            if other.started_at < one.finished_at:
                late_s = one.finished_at - other.started_at
                yield f"{task_id} try {other.number} began {late_s:.3f} s before {one.number} ended"
        if runs[-1].fence > fences.get(task_id, 0):
            yield f"{task_id} was tried under fence {runs[-1].fence}, and its row is older"
    yield from _one_worker_per_fence(history)
    for task_id, events in history.events_of().items():
        yield from _told_in_order(task_id, events)


def _one_worker_per_fence(history: History) -> Iterator[str]:
    held = {(run.task_id, run.fence, run.worker) for run in history.runs}
    held |= {(effect.task_id, effect.fence, f"pid {effect.pid}") for effect in history.effects}
    names = [(task_id, fence, name[:4] == "pid ") for task_id, fence, name in sorted(held)]
    for (task_id, fence, _), times in Counter(names).items():
        if times > 1:
            yield f"{times} workers had fence {fence} of {task_id}"


def _told_in_order(task_id: str, events: list[EventRow]) -> Iterator[str]:
    """Events are numbered as they commit, so they show what rows with a time cannot."""
    is_over, open_run = False, 0
    for event in events:
        if is_over:
            yield f"{task_id}: {event.kind} ({event.seq}) after its end"
        if event.kind == "phase.started":
            if open_run:
                yield f"{task_id}: try {event.run} began while {open_run} was open"
            open_run = event.run
        elif event.kind.startswith("phase."):
            if event.run and event.run != open_run:
                yield f"{task_id}: {event.kind} of try {event.run} while {open_run} was open"
            open_run = 0
        is_over = is_over or _is_end(event)


def readers_miss_nothing(history: History) -> Iterator[str]:
    """Each reader was told of every event, in order, across all its connections."""
    seqs = sorted(event.seq for event in history.events)
    for reader in history.readers:
        last, told = 0, set()
        for reading in history.readings:
            if reading.reader != reader:
                continue
            if reading.seq <= last and not reading.is_resync:
                yield f"{reader} heard of {reading.seq} after {last}"
            if reading.is_resync:
                told |= {seq for seq in seqs if last < seq <= reading.seq}
            told.add(reading.seq)
            last = max(last, reading.seq)
        missed = [seq for seq in seqs if seq not in told]
        if missed:
            yield f"{reader} missed {len(missed)} events, the first {missed[0]}"
        invented = told - set(seqs) - {0}
        if invented:
            yield f"{reader} heard of {sorted(invented)[:5]}, which nobody wrote"


def branches_are_as_recorded(history: History) -> Iterator[str]:
    """A branch holds exactly the commits that its row and the ledger name."""
    found = {branch.task_id: branch.commits for branch in history.branches}
    for task in history.tasks:
        recorded = [sha for sha in (task.code_sha, task.test_sha) if sha]
        if found.get(task.task_id, []) != recorded:
            yield f"{task.task_id} has {found.get(task.task_id, [])}, recorded are {recorded}"
    for name in sorted(found.keys() - {task.task_id for task in history.tasks}):
        yield f"there is a branch of {name}, and no such task"
    runs = history.runs_of()
    for task in history.tasks:
        yield from _commits_are_those_made(task, runs.get(task.task_id, []), history)


def _commits_are_those_made(task: TaskRow, runs: list[RunRow], history: History) -> Iterator[str]:
    made = {_key(effect): effect.sha for effect in history.effects if effect.what == MADE}
    for phase, sha in (
        (Phase.E2E_TEST_GENERATION, task.test_sha),
        (Phase.CODE_IMPLEMENTATION, task.code_sha),
    ):
        passed = [run for run in runs if run.phase == phase and run.verdict == "passed"]
        expected = made.get(_key(passed[-1]), "") if passed else ""
        if sha != expected:
            yield f"{task.task_id} records {sha or 'nothing'}, and {phase} made {expected}"


def copies_are_those_made(history: History) -> Iterator[str]:
    """Every recorded copy was started by the claim that recorded it, of the commit it names."""
    made = {
        (effect.task_id, effect.fence, effect.url, effect.sha)
        for effect in history.effects
        if effect.what == MADE and effect.url
    }
    copies = [(copy.task_id, copy.fence, copy.url, copy.commit_sha) for copy in history.copies]
    for copy, times in Counter(copies).items():
        if times > 1 or copy not in made:
            yield f"{copy} is recorded {times} times, made by its claim: {copy in made}"


def nothing_is_left(history: History) -> Iterator[str]:
    """No process, workspace or copy is left that nothing owns."""
    yield from history.leftovers


def the_database_is_sound(history: History) -> Iterator[str]:
    """The database finds no damage in itself."""
    if history.damage:
        yield history.damage


PROMISES: dict[str, Check] = {
    "lost task": accepted_tasks_are_there,
    "one terminal state": tasks_end_once,
    "unexplained end": ends_are_explained,
    "doubled effect": effects_happen_once,
    "route": tries_follow_the_route,
    "overlapping fences": fences_do_not_overlap,
    "feed": readers_miss_nothing,
    "branch": branches_are_as_recorded,
    "staging copy": copies_are_those_made,
    "leftover": nothing_is_left,
    "damaged database": the_database_is_sound,
}
