"""The page with all tasks: rows, counters and worker slots, in a fixed number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import Count

from tasks.dashboard import story
from tasks.dashboard.plain import plain
from tasks.dashboard.tailer import newest_seq
from tasks.lifecycle import ROUTE, Phase, Status, finished_phases
from tasks.models import Breaker, Project, Task, Worker

PAGE_SIZE = 25
SHOWN_FEATURE = 160  # characters
SHOWN_WORKERS = 60
SHOWN_AGENTS = 10
FORGOTTEN_AFTER = timedelta(minutes=5)  # a worker that was silent for longer is not shown


@dataclass(frozen=True)
class Row:
    """One task in the list."""

    task_id: str
    feature: str
    project: str
    priority: int
    status: str
    phase: str
    marks: tuple[story.Mark, ...]
    done: int
    progress: str
    elapsed: str
    since: datetime | None  # of a running task, for the clock
    created_at: datetime
    age: str


@dataclass(frozen=True)
class Counter:
    """How many tasks have a status, and where to see only those."""

    name: str
    count: int
    query: str
    is_chosen: bool


@dataclass(frozen=True)
class Slot:
    """One worker and the task in its hand."""

    name: str
    state: str  # busy | idle | silent | draining | trouble
    task_id: str
    feature: str
    phase: str
    seen: str
    trouble: str


@dataclass(frozen=True)
class PausedAgent:
    """An agent that is not started for a while, and how its last start failed."""

    name: str
    until: str
    reason: str


@dataclass(frozen=True)
class Paging:
    """Where in the list this page stands; queries are "" at either end."""

    number: int
    last: int
    newer: str
    older: str


def list_context(status: str, page: int, now: datetime) -> dict[str, Any]:
    """Return all that the list shows. Blocks on the database."""
    # The number of the newest event comes first: what happens after it is told by the feed.
    seq = newest_seq()
    counts = dict(Task.objects.order_by().values_list("status").annotate(count=Count("id")))
    chosen = status if status in Status.values else ""
    total = counts.get(chosen, 0) if chosen else sum(counts.values())
    last = max(1, -(-total // PAGE_SIZE))
    page = min(max(1, page), last)
    tasks = Task.objects.select_related("project").defer("baseline", "findings")
    if chosen:
        tasks = tasks.filter(status=chosen)
    slots = _slots(now)
    return {
        "seq": seq,
        "rows": [_row(task, now) for task in tasks[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]],
        "counters": _counters(counts, chosen),
        "chosen": chosen,
        "total": total,
        "paging": _paging(chosen, page, last),
        "slots": slots,
        "paused_agents": _paused_agents(),
        "busy": sum(slot.state == "busy" for slot in slots),
        "max_workers": settings.CHIMERA.max_workers,
        "now": now,
        "summary": ", ".join(f"{counts.get(each.value, 0)} {each.value}" for each in Status),
        "has_projects": bool(total) or Project.objects.exists(),
    }


def _paused_agents() -> list[PausedAgent]:
    return [
        PausedAgent(plain(each.agent, 120), each.until, plain(each.reason, 300))
        for each in Breaker.objects.paused().order_by("paused_until")[:SHOWN_AGENTS]
    ]


def _row(task: Task, now: datetime) -> Row:
    stopped_in = Phase(task.stopped_in) if task.stopped_in else None
    here = Phase(task.stopped_in or task.phase)
    return Row(
        task_id=task.task_id,
        feature=plain(task.feature, SHOWN_FEATURE),
        project=plain(task.project.name),
        priority=task.priority,
        status=task.status,
        phase=story.LABELS[here] if here in ROUTE else "",
        marks=story.marks_of(task),
        done=finished_phases(Phase(task.phase), stopped_in),
        progress=task.progress,
        elapsed=story.elapsed(task, now),
        since=task.started_at if task.status == Status.RUNNING else None,
        created_at=task.created_at,
        age=story.age(task.created_at, now),
    )


def _counters(counts: dict[str, int], chosen: str) -> list[Counter]:
    every = Counter("all", sum(counts.values()), "?", not chosen)
    return [every] + [
        Counter(each.value, counts.get(each.value, 0), f"?status={each.value}", each == chosen)
        for each in Status
    ]


def _slots(now: datetime) -> list[Slot]:
    recent = Worker.objects.filter(seen_at__gte=now - FORGOTTEN_AFTER)
    alive = set(Worker.objects.live(now).values_list("pk", flat=True))
    workers = recent.select_related("task").order_by("-seen_at")[:SHOWN_WORKERS]
    slots = [_slot(worker, now, is_alive=worker.pk in alive) for worker in workers]
    return sorted(slots, key=lambda slot: (slot.state == "silent", slot.name))


def _slot(worker: Worker, now: datetime, *, is_alive: bool) -> Slot:
    if worker.is_draining:
        state = "draining"
    elif not is_alive:
        state = "silent"
    elif worker.trouble:
        state = "trouble"
    else:
        state = "busy" if worker.task else "idle"
    task = worker.task
    return Slot(
        name=f"{plain(worker.host)}:{worker.pid}",
        state=state,
        task_id=task.task_id if task else "",
        feature=plain(task.feature, 60) if task else "",
        phase=story.LABELS[Phase(task.phase)] if task else "",
        seen=story.age(worker.seen_at, now),
        trouble=plain(worker.trouble, 300),
    )


def _paging(chosen: str, page: int, last: int) -> Paging:
    def query(number: int) -> str:
        fields = {"status": chosen} if chosen else {}
        return "?" + urlencode(fields | ({"page": str(number)} if number > 1 else {}))

    return Paging(
        number=page,
        last=last,
        newer=query(page - 1) if page > 1 else "",
        older=query(page + 1) if page < last else "",
    )
