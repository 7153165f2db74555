"""What /health tells a monitor."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import OperationalError, connection
from django.db.models import Count
from django.test import Client
from django.utils import timezone

from tasks.lifecycle import Status
from tasks.models import Breaker, Project, Task, Worker
from tasks.models.task import rank_of

pytestmark = pytest.mark.django_db


class Usage(NamedTuple):
    """What `shutil.disk_usage` says, as far as it is asked."""

    total: int
    used: int

    @property
    def free(self) -> int:
        return self.total - self.used


def add_worker(pid: int = 1, **columns: Any) -> Worker:
    now = timezone.now()
    given = {"host": "h", "pid": pid, "pid_started": 1.0, "started_at": now, "seen_at": now}
    return Worker.objects.create(name=f"h:{pid}:1", **{**given, **columns})


def test_with_a_worker_it_is_healthy_and_counts(
    client: Client, submit: Callable[..., Task]
) -> None:
    tasks = [submit() for _ in range(4)]
    tasks[0].cancel()
    task = Task.objects.get(pk=tasks[1].pk)
    Task.objects.claim("h:1:1", timezone.now())
    add_worker(task=task)
    response = client.get("/health")
    body = response.json()
    assert response.status_code == 200
    assert list(body)[:6] == [
        "status", "uptime", "tasks_queued", "tasks_running", "tasks_completed", "tasks_failed",
    ]  # fmt: skip
    assert body["status"] == "healthy"
    assert type(body["uptime"]) is int
    assert (body["tasks_queued"], body["tasks_running"]) == (2, 1)
    assert (body["tasks_completed"], body["tasks_failed"]) == (0, 0)
    (worker,) = body["workers"]
    assert worker["task"] == task.task_id
    assert worker["phase"] == "WORKSPACE_PREPARATION"
    assert worker["last_seen"].endswith("Z")


def test_without_a_live_worker_it_says_so_with_503(client: Client, db: None) -> None:
    add_worker(1, seen_at=timezone.now() - timedelta(minutes=5))
    add_worker(2, is_draining=True)
    response = client.get("/health/")
    assert response.status_code == 503
    assert response.json()["status"] == "unhealthy"
    assert "qcluster" in response.json()["reason"]
    assert response.json()["workers"] == []


def test_it_is_unhealthy_only_once_every_worker_has_trouble(client: Client, db: None) -> None:
    add_worker(1, trouble="No browser was found.")
    assert client.get("/health").status_code == 503
    assert "No browser was found." in client.get("/health").json()["reason"]
    add_worker(2)
    assert client.get("/health").status_code == 200


def test_a_database_that_does_not_answer_is_unhealthy(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> Any:
        raise OperationalError("no route to it")

    monkeypatch.setattr(type(Worker.objects.all()), "live", gone)
    response = client.get("/health")
    assert response.status_code == 503
    assert "database" in response.json()["reason"]


def test_callers_from_elsewhere_learn_nothing_of_the_workers(client: Client, db: None) -> None:
    add_worker()
    response = client.get("/health", REMOTE_ADDR="192.0.2.1")
    assert response.status_code == 200
    assert "workers" not in response.json()


def test_a_disk_that_is_nearly_full_is_unhealthy(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_worker()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 10**10 - 499_999_999))
    body = client.get("/health")
    assert body.status_code == 503
    assert "nearly full: 499 MB are free, and 500 are needed" in body.json()["reason"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 10**10 - 500_000_000))
    assert client.get("/health").status_code == 200


def test_paused_agents_are_listed_and_no_reason_to_be_unhealthy(client: Client, db: None) -> None:
    add_worker()
    until = datetime(2030, 1, 1, 12, 5, tzinfo=UTC)
    paused = {"paused_until": until, "failures": 5, "reason": "No such file"}
    Breaker.objects.create(digest="a", agent="command:./coder", **paused)
    Breaker.objects.create(digest="b", agent="playbook", failures=4)
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["agents_paused"] == [
        {
            "agent": "command:./coder",
            "until": "2030-01-01T12:05:00Z",
            "failures": 5,
            "reason": "No such file",
        }
    ]
    assert "agents_paused" not in client.get("/health", REMOTE_ADDR="203.0.113.9").json()


def test_twenty_thousand_tasks_are_counted_from_the_index(
    client: Client, project: Project, django_assert_num_queries: Any
) -> None:
    now = timezone.now()
    ended = {"status": Status.COMPLETED, "phase": "COMPLETE", "completed_at": now}
    for first in range(0, 20_000, 1000):  # PostgreSQL ends a transaction that stays idle for long
        Task.objects.bulk_create(
            Task(
                project=project,
                task_id=f"chimera-{number}",
                feature="x",
                target_url="https://shop.example/",
                rank=rank_of(now, 5),
                due_at=now,
                created_at=now,
                **(ended if number % 2 else {}),
            )
            for number in range(first, first + 1000)
        )
    add_worker()
    with django_assert_num_queries(3):
        body = client.get("/health").json()
    assert (body["tasks_queued"], body["tasks_completed"]) == (10_000, 10_000)
    counting = Task.objects.order_by().values_list("status").annotate(Count("pk"))
    if connection.vendor == "sqlite":
        assert "COVERING INDEX task_status_newest" in counting.explain()
