"""Submitting tasks and looking at them over the API, through Django's whole stack."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tasks.lifecycle import Phase, Status
from tasks.models import Deployment, Project, Task

pytestmark = pytest.mark.django_db
Submit = Callable[..., Task]
REQUEST = {"feature": "Add dark mode", "target_url": "https://shop.example/"}


def post(client: Client, path: str, body: Any) -> Any:
    """POST as curl does."""
    return client.post(path, json.dumps(body), content_type="application/json")


def put_in(task: Task, **columns: Any) -> Task:
    Task.objects.filter(pk=task.pk).update(**columns)
    task.refresh_from_db()
    return task


def other_project(**columns: Any) -> Project:
    given = {"name": "other", "repository": "/nowhere", "serve_command": "x {port}"}
    return Project.objects.create(**{**given, "target_url": "https://other.example/", **columns})


def test_a_staging_url_must_be_one_that_the_deploy_command_may_deploy_to(
    client: Client, project: Project
) -> None:
    asked = {**REQUEST, "staging_url": "https://elsewhere.example/"}
    assert post(client, "/api/tasks", asked).status_code == 201  # here it is only noted
    origins = ["https://staging.shop.example", "https://*.preview.example"]
    Project.objects.update(deploy_command="/opt/deploy", staging_origins=origins)
    response = post(client, "/api/tasks", asked)
    assert response.status_code == 422
    assert "shop deploys only to https://staging.shop.example" in response.json()["detail"]
    endless = {**asked, "staging_url": f"https://staging.shop.example/{'x' * 500}"}
    assert "at most 480 characters" in post(client, "/api/tasks", endless).json()["detail"]
    assert Task.objects.count() == 1
    for fitting in ("https://staging.shop.example/sale", "https://x.preview.example/", "", None):
        body = {**asked, "staging_url": fitting}
        assert post(client, "/api/tasks", body).status_code == 201


def test_a_request_is_answered_with_201_and_where_its_task_is(
    client: Client, project: Project
) -> None:
    response = post(
        client,
        "/api/tasks",
        {"feature": "Add dark mode", "target_url": "https://shop.example/x", "priority": 8},
    )
    body = response.json()
    task = Task.objects.get(task_id=body["task_id"])
    assert response.status_code == 201
    assert list(body) == ["task_id", "status", "created_at", "project"]
    assert body["status"] == "queued"
    assert body["project"] == "shop"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["created_at"])
    assert response["Location"] == f"/api/tasks/{task.task_id}"
    assert (task.feature, task.priority, task.target_url) == (
        "Add dark mode",
        8,
        "https://shop.example/x",
    )
    assert client.get(response["Location"]).json()["task_id"] == task.task_id


@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks/"])
def test_a_slash_at_the_end_makes_no_difference(
    client: Client, project: Project, path: str
) -> None:
    assert post(client, path, REQUEST).status_code == 201
    assert client.get(path).status_code == 200


def test_text_comes_back_as_it_was_sent(client: Client, project: Project) -> None:
    feature = "  Zoë’s \U0001f319 mode \u202e\tline\r\n<script>alert(1)</script> "
    response = post(client, "/api/tasks", {**REQUEST, "feature": feature})
    assert client.get(response["Location"]).json()["feature"] == feature


def test_null_in_an_optional_field_means_its_default(client: Client, project: Project) -> None:
    body = {**REQUEST, "staging_url": None, "priority": None, "project": None}
    shown = client.get(post(client, "/api/tasks", body)["Location"]).json()
    assert (shown["staging_url"], shown["priority"], shown["project"]) == ("", 5, "shop")


def test_a_queued_task_shows_where_it_stands(client: Client, submit: Submit) -> None:
    task = submit(priority=7)
    body = client.get(f"/api/tasks/{task.task_id}").json()
    assert list(body)[:6] == [
        "task_id", "status", "phase", "progress", "created_at", "started_at",
    ]  # fmt: skip
    assert body["progress"] == "0/7 phases complete"
    assert body["started_at"] is None
    assert body["priority"] == 7
    assert body["branch"] == f"chimera/{task.task_id}"
    assert not {"result", "completed_at", "duration"} & set(body)


def test_a_running_task_shows_its_true_phase(client: Client, submit: Submit) -> None:
    task = submit()
    Task.objects.claim("host:1:1", timezone.now())
    put_in(task, phase=Phase.CODE_IMPLEMENTATION)
    body = client.get(f"/api/tasks/{task.task_id}").json()
    assert (body["status"], body["phase"]) == ("running", "CODE_IMPLEMENTATION")
    assert body["progress"] == "3/7 phases complete"
    assert body["started_at"].endswith("Z")


def test_a_completed_task_shows_its_result(client: Client, submit: Submit) -> None:
    start = datetime.fromisoformat("2025-10-04T10:30:05+00:00")
    task = put_in(
        submit(),
        status=Status.COMPLETED,
        phase=Phase.COMPLETE,
        started_at=start,
        completed_at=start + timedelta(seconds=1837, milliseconds=900),
        test_path="tests/e2e/test_dark_mode.py",
        review_decision="approved",
        deployment_url="http://x.localhost:1/",
        validation_status="passed",
        test_sha="a" * 40,
        code_sha="b" * 40,
    )
    body = client.get(f"/api/tasks/{task.task_id}").json()
    assert body["result"] == {
        "test_path": "tests/e2e/test_dark_mode.py",
        "code_pr_id": f"local-{task.task_id}",
        "review_decision": "approved",
        "deployment_url": "http://x.localhost:1/",
        "validation_status": "passed",
        "commit_sha": "b" * 40,
        "branch": f"chimera/{task.task_id}",
        "test_commit": "a" * 40,
        "staging_expires_at": None,
    }
    assert body["progress"] == "7/7 phases complete"
    assert body["completed_at"] == "2025-10-04T11:00:42Z"
    assert body["duration"] == 1837


def stage(task: Task, **columns: Any) -> Deployment:
    """Record a staging copy of the task."""
    facts = {"url": "http://x.localhost:1", "host": "forge", "pid": 0, "pid_started": 1.0}
    return Deployment.objects.create(task=task, fence=1, **{**facts, **columns})


def test_the_result_tells_until_when_the_live_copy_stands(
    client: Client, submit: Submit, django_assert_max_num_queries: Any
) -> None:
    now = datetime.fromisoformat("2030-01-31T10:30:05.9+00:00")
    ended = {"status": Status.COMPLETED, "phase": Phase.COMPLETE, "completed_at": now}
    live, over, lasting = (put_in(submit(), **ended) for _ in range(3))
    stage(live, expires_at=now, ended_at=now)
    stage(live, expires_at=now + timedelta(days=7))
    stage(over, expires_at=now, ended_at=now)
    stage(lasting)
    with django_assert_max_num_queries(3):
        listed = client.get("/api/tasks").json()["results"]
    shown = {task["task_id"]: task["result"]["staging_expires_at"] for task in listed}
    assert shown == {
        live.task_id: "2030-02-07T10:30:05Z",
        over.task_id: None,
        lasting.task_id: None,
    }
    one = client.get(f"/api/tasks/{live.task_id}").json()
    assert one["result"]["staging_expires_at"] == "2030-02-07T10:30:05Z"


def test_a_failed_task_says_why_and_where(client: Client, submit: Submit) -> None:
    task = put_in(
        submit(),
        status=Status.FAILED,
        phase=Phase.FAILED,
        stopped_in=Phase.RED_VERIFICATION,
        completed_at=timezone.now(),
        reason="The test passes already.",
    )
    body = client.get(f"/api/tasks/{task.task_id}").json()
    assert (body["phase"], body["stopped_in"]) == ("FAILED", "RED_VERIFICATION")
    assert body["reason"] == "The test passes already."
    assert "result" not in body


def test_a_task_is_shown_in_two_queries_and_a_page_in_three(
    client: Client, submit: Submit, django_assert_max_num_queries: Any
) -> None:
    tasks = [submit(f"feature {number}") for number in range(60)]
    with django_assert_max_num_queries(2):
        assert client.get(f"/api/tasks/{tasks[0].task_id}").status_code == 200
    with django_assert_max_num_queries(3):
        assert len(client.get("/api/tasks?status=queued").json()["results"]) == 50


def test_the_list_has_the_newest_first_and_pages(client: Client, submit: Submit) -> None:
    made = [submit(f"feature {number}").task_id for number in range(5)]
    first = client.get("/api/tasks?page_size=2").json()
    second = client.get(first["next"]).json()
    last = client.get(second["next"]).json()
    listed = [task["task_id"] for page in (first, second, last) for task in page["results"]]
    assert first["count"] == 5
    assert listed == made[::-1]
    assert last["next"] is None
    assert client.get("/api/tasks?page=9").status_code == 404
    assert client.get("/api/tasks?page=x").status_code == 404


def test_the_list_is_narrowed_by_status_and_project(client: Client, submit: Submit) -> None:
    queued, cancelled = submit(), submit()
    cancelled.cancel()
    elsewhere = Task.submit(other_project(), "x", "https://other.example/")

    def listed(query: str) -> list[str]:
        return [task["task_id"] for task in client.get(f"/api/tasks?{query}").json()["results"]]

    assert listed("status=cancelled") == [cancelled.task_id]
    assert listed("project=other") == [elsewhere.task_id]
    assert listed("status=queued&project=shop") == [queued.task_id]
    assert client.get("/api/tasks?status=lost").status_code == 400
    assert client.get("/api/tasks?project=%00").status_code == 400


def test_a_project_is_found_by_its_name_before_its_address(
    client: Client, project: Project
) -> None:
    other_project()
    named = post(client, "/api/tasks", {**REQUEST, "project": "other"})
    assert named.json()["project"] == "other"
    unnamed = post(client, "/api/tasks", {**REQUEST, "target_url": "https://OTHER.example:443/a"})
    assert unnamed.json()["project"] == "other"


def test_a_lone_demo_takes_any_address(client: Client, db: None) -> None:
    other_project(name="demo", is_demo=True)
    assert post(client, "/api/tasks", REQUEST).json()["project"] == "demo"
    other_project()
    assert post(client, "/api/tasks", REQUEST).status_code == 422


def test_a_project_that_is_not_there_is_refused_with_those_that_are(
    client: Client, project: Project
) -> None:
    for wrong in ({"project": "shoop"}, {"target_url": "https://elsewhere.example/"}):
        response = post(client, "/api/tasks", {**REQUEST, **wrong})
        assert response.status_code == 422
        assert "shop (https://shop.example:443)" in response.json()["detail"]
    other_project(target_url="https://shop.example/other")
    several = post(client, "/api/tasks", REQUEST)
    assert several.status_code == 422
    assert "name one: other, shop" in several.json()["detail"]
    assert Task.objects.count() == 0


def test_without_any_project_the_answer_says_how_to_add_one(client: Client, db: None) -> None:
    response = post(client, "/api/tasks", REQUEST)
    assert response.status_code == 422
    assert "project add" in response.json()["detail"]
