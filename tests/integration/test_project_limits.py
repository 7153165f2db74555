"""How many tasks of one project run at once, and what that costs the queue: rows only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks.models import Lease, Project, Task

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.get_default_timezone())
Submit = Callable[..., Task]


@pytest.fixture
def other(db: None) -> Project:
    """Return a second project, without a limit."""
    return Project.objects.create(
        name="other", repository="/x", target_url="https://other.example/", serve_command="x"
    )


def limit(project: Project, number: int) -> None:
    """Let so many tasks of a project run at once."""
    Project.objects.filter(pk=project.pk).update(max_open_tasks=number)


def queue(project: Project, **options: Any) -> Task:
    """Submit a task of a project."""
    return Task.submit(project, "x", project.target_url, **options)


def claim(now: datetime = NOW) -> int | None:
    """Claim the best task; return its key."""
    lease = Task.objects.claim("w", now)
    return lease.task_pk if lease else None


def test_no_more_than_the_limit_run_and_the_rest_stay_queued(project: Project) -> None:
    limit(project, 2)
    tasks = [queue(project) for _ in range(3)]
    assert [claim() for _ in range(3)] == [tasks[0].pk, tasks[1].pk, None]
    assert not Task.objects.claimable(NOW).exists()
    assert Task.objects.get(pk=tasks[2].pk).status == "queued"


def test_the_next_one_is_claimed_when_one_has_ended(project: Project) -> None:
    limit(project, 1)
    first, second = queue(project), queue(project)
    claim()
    first.cancel()
    assert Task.objects.claimable(NOW).exists()
    assert claim() == second.pk


def test_others_pass_a_full_project_in_the_exact_order_of_rank(
    project: Project, other: Project
) -> None:
    third = Project.objects.create(
        name="third", repository="/x", target_url="https://third.example/", serve_command="x"
    )
    limit(project, 1)
    limit(third, 2)
    queue(project, priority=10)
    queue(project, priority=10)
    expected = [queue(each, priority=p).pk for p, each in ((9, other), (8, third), (7, other))]
    expected += [queue(third, priority=6).pk, queue(other, priority=4).pk]
    last = [queue(third, priority=5).pk]
    claim()
    assert [claim() for _ in range(6)] == [*expected, None]
    assert Task.objects.get(pk=last[0]).status == "queued"


def test_a_task_that_is_not_due_does_not_stand_for_its_project(project: Project) -> None:
    limit(project, 2)
    waits, due = queue(project, priority=10), queue(project)
    queue(project)
    Task.objects.filter(pk=waits.pk).update(due_at=NOW + timedelta(days=1))
    claim()
    assert Task.objects.get(pk=due.pk).status == "running"


def test_an_abandoned_task_is_taken_up_though_its_project_is_full(project: Project) -> None:
    limit(project, 1)
    task = queue(project)
    claim()
    assert claim(NOW + timedelta(hours=1)) == task.pk


def test_a_limit_that_is_taken_back_lets_all_go(project: Project) -> None:
    limit(project, 1)
    for _ in range(3):
        queue(project)
    claim()
    limit(project, 0)
    assert claim() is not None
    assert claim() is not None


@pytest.mark.django_db(transaction=True)
def test_of_many_claimers_no_more_than_the_limit_get_a_task(project: Project) -> None:
    limit(project, 2)
    for _ in range(8):
        queue(project)
    start = threading.Barrier(4)
    leases: list[Lease] = []

    def race(name: str) -> None:
        try:
            start.wait(timeout=10)
            while lease := Task.objects.claim(name, NOW):
                leases.append(lease)
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len({lease.task_pk for lease in leases}) == len(leases) == 2


def explain(sql: str, params: Any) -> list[str]:
    """Ask SQLite how it searches."""
    own = connection.connection.cursor()
    rows = own.execute("EXPLAIN QUERY PLAN " + sql.replace("%s", "?"), params).fetchall()
    return [row[3] for row in rows]


def test_no_search_of_the_queue_sorts_or_scans_it(project: Project, other: Project) -> None:
    if connection.vendor != "sqlite":
        return  # PostgreSQL decides by its statistics, and scans so small a table
    plans: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        plans.extend(explain(sql, params) if sql.startswith("SELECT") else [])
        return execute(sql, params, many, context)

    for each in (project, other):
        for _ in range(3):
            queue(each)
    for number in (0, 1):
        limit(project, number)
        limit(other, number)
        with connection.execute_wrapper(note):
            claim()
            Task.objects.has_claimable(NOW)
            Task.objects.claimable(NOW).exists()
    of_tasks = [plan for plan in plans if "tasks_task" in plan or "U0" in plan]
    assert of_tasks
    assert not [plan for plan in of_tasks if "task_by_" not in plan and "PRIMARY KEY" not in plan]
    assert not [plan for plan in plans if "TEMP B-TREE FOR ORDER BY" in plan]
