"""What is done to tasks over the API, who may do it, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from tasks.lifecycle import Phase, Status, Verdict
from tasks.models import Event, Project, Task
from tasks.outcome import Finding, Outcome

pytestmark = pytest.mark.django_db
Submit = Callable[..., Task]
REQUEST = {"feature": "Add dark mode", "target_url": "https://shop.example/"}


def post(client: Client, path: str, body: Any = None) -> Any:
    """POST as curl does: JSON, or nothing at all."""
    if body is None:
        return client.generic("POST", path)
    return client.post(path, json.dumps(body), content_type="application/json")


def fail(task: Task, stopped_in: Phase) -> Task:
    """Let the task have failed in a phase."""
    Task.objects.filter(pk=task.pk).update(
        status=Status.FAILED,
        phase=Phase.FAILED,
        stopped_in=stopped_in,
        completed_at=timezone.now(),
    )
    return task


def test_cancelling_ends_a_task_and_twice_is_once(client: Client, submit: Submit) -> None:
    task = submit()
    first = post(client, f"/api/tasks/{task.task_id}/cancel")
    second = post(client, f"/api/tasks/{task.task_id}/cancel/")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["status"] == "cancelled"
    assert Event.objects.filter(kind="task.cancelled").count() == 1


def test_a_task_that_has_ended_cannot_be_cancelled(client: Client, submit: Submit) -> None:
    task = fail(submit(), Phase.CODE_IMPLEMENTATION)
    response = post(client, f"/api/tasks/{task.task_id}/cancel")
    assert response.status_code == 409
    assert "failed already" in response.json()["detail"]


def test_a_failed_task_is_retried_where_it_stopped_or_earlier(
    client: Client, submit: Submit
) -> None:
    task = fail(submit(), Phase.CODE_IMPLEMENTATION)
    response = post(client, f"/api/tasks/{task.task_id}/retry")
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["phase"]) == (
        "queued",
        "CODE_IMPLEMENTATION",
    )
    fail(task, Phase.CODE_IMPLEMENTATION)
    earlier = post(
        client, f"/api/tasks/{task.task_id}/retry", {"from_phase": "E2E_TEST_GENERATION"}
    )
    assert earlier.json()["phase"] == "E2E_TEST_GENERATION"


@pytest.mark.parametrize(
    ("phase", "status"),
    [
        ("DREAMING", 422),
        ("COMPLETE", 422),
        ("E2E_VALIDATION", 422),  # never reached
        (7, 400),
    ],
)
def test_a_retry_from_a_phase_that_cannot_be_is_refused(
    client: Client, submit: Submit, phase: Any, status: int
) -> None:
    task = fail(submit(), Phase.CODE_IMPLEMENTATION)
    response = post(client, f"/api/tasks/{task.task_id}/retry", {"from_phase": phase})
    task.refresh_from_db()
    assert response.status_code == status
    assert task.status == Status.FAILED


@pytest.mark.parametrize("body", [None, {"from_phase": "WORKSPACE_PREPARATION"}])
def test_only_failed_and_cancelled_tasks_are_retried(
    client: Client, submit: Submit, body: Any
) -> None:
    response = post(client, f"/api/tasks/{submit().task_id}/retry", body)
    assert response.status_code == 409
    assert "only failed or cancelled" in response.json()["detail"]


def test_the_phases_show_each_try_with_what_was_found(client: Client, submit: Submit) -> None:
    task = submit()
    now = timezone.now()
    lease = Task.objects.claim("host:1:1", now)
    assert lease is not None
    run = Task.objects.open_run(lease, now)
    path = f"/api/tasks/{task.task_id}/phases"
    during = client.get(path).json()["phases"][0]
    assert (during["run"], during["verdict"], during["finished_at"]) == (1, None, None)
    finding = Finding("ruff:S602", "a shell", "app.py", 3)
    outcome = Outcome(Verdict.ERRORED, "It broke.", findings=(finding,), facts={"code": 3})
    Task.objects.settle(lease, run, outcome, now)
    after = client.get(path).json()["phases"][0]
    assert (after["verdict"], after["reason"]) == ("errored", "It broke.")
    assert after["findings"] == [finding.as_json()]
    assert after["facts"] == {"code": 3}
    assert after["finished_at"].endswith("Z")


@pytest.mark.only_on("sqlite", "PostgreSQL keeps no row with half a surrogate")
def test_half_a_surrogate_in_an_agents_report_breaks_no_answer(
    client: Client, submit: Submit
) -> None:
    task = submit()
    now = timezone.now()
    lease = Task.objects.claim("host:1:1", now)
    assert lease is not None
    run = Task.objects.open_run(lease, now)
    type(run).objects.filter(pk=run.pk).update(facts={"said": "\ud800é"})
    response = client.get(f"/api/tasks/{task.task_id}/phases")
    assert response.status_code == 200
    assert response.json()["phases"][0]["facts"] == {"said": "\ud800é"}


def test_browsers_get_pages_and_programs_json(client: Client, submit: Submit) -> None:
    task = submit("<b>bold</b>")
    for path in ("/api/tasks", f"/api/tasks/{task.task_id}", f"/api/tasks/{task.task_id}/phases"):
        assert client.get(path)["Content-Type"] == "application/json"
        page = client.get(path, headers={"Accept": "text/html,*/*;q=0.8"})
        assert page["Content-Type"].startswith("text/html")
        assert b"<b>bold</b>" not in page.content
    missing = client.get("/api/tasks/none", headers={"Accept": "text/html"})
    assert (missing.status_code, missing["Content-Type"]) == (404, "text/html; charset=utf-8")
    odd = client.get("/api/tasks", headers={"Accept": "image/png"})
    assert (odd.status_code, odd["Content-Type"]) == (200, "application/json")


def test_callers_from_elsewhere_are_refused(
    client: Client, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/tasks/{submit().task_id}"
    assert client.get(path, REMOTE_ADDR="192.0.2.1").status_code == 403
    assert client.get(path, REMOTE_ADDR="").status_code == 403
    assert client.get(path, REMOTE_ADDR="::ffff:127.0.0.1").status_code == 200
    passed_on = client.get(path, headers={"X-Forwarded-For": "127.0.0.1"})
    assert passed_on.status_code == 403
    assert "CHIMERA_AUTH" in passed_on.json()["detail"]
    monkeypatch.setattr(settings, "CHIMERA", replace(settings.CHIMERA, auth="off"))
    assert client.get(path, REMOTE_ADDR="192.0.2.1").status_code == 200


def test_a_view_that_names_nobody_is_open_to_nobody() -> None:
    class Forgotten(APIView):
        def get(self, request: Any) -> Any:
            raise AssertionError("reached")

    response = Forgotten.as_view()(APIRequestFactory().get("/"))
    assert response.status_code == 403


def test_a_locked_database_is_said_to_be_busy(
    client: Client, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> Task:
        raise OperationalError("database is locked")

    monkeypatch.setattr(Task, "submit", locked)
    response = post(client, "/api/tasks", REQUEST)
    assert response.status_code == 503
    assert response["Content-Type"] == "application/problem+json"
    assert int(response["Retry-After"]) > 0


def test_a_fault_of_our_own_is_a_problem_without_a_trace(
    client: Client, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Task:
        raise RuntimeError("secret inner thing")

    monkeypatch.setattr(Task, "submit", broken)
    response = post(client, "/api/tasks", REQUEST)
    assert response.status_code == 500
    assert response.json()["title"] == "Internal Server Error"
    assert b"secret inner thing" not in response.content
    assert b"Traceback" not in response.content
