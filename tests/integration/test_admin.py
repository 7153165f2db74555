"""The admin: what may be edited, what may not, and what is not there at all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.utils import timezone

from tasks.lifecycle import Status
from tasks.models import Artifact, Deployment, Event, PhaseRun, Project, Task, Worker

pytestmark = pytest.mark.django_db
HISTORY = [Artifact, Deployment, Event, PhaseRun, Worker]


@pytest.fixture
def row_of(submit: Callable[..., Task]) -> Callable[[Any], Any]:
    """Return a function that gives the one row of a model."""
    task = submit()
    now = timezone.now()
    lease = Task.objects.claim("host:1:1", now)
    assert lease is not None
    run = Task.objects.open_run(lease, now)
    Artifact.objects.create(task=task, phase_run=run, kind="log", path="a", size_bytes=1)
    Deployment.objects.create(
        task=task, url="http://x.localhost:1/", host="h", pid=1, pid_started=1.0, fence=1
    )
    Worker.objects.create(
        name="h:1:1", host="h", pid=1, pid_started=1.0, started_at=now, seen_at=now
    )
    return lambda model: model.objects.first()


def address(model: Any, action: str, row: Any = None) -> str:
    middle = f"/{row.pk}" if row else ""
    return f"/admin/tasks/{model._meta.model_name}{middle}/{action}"


@pytest.mark.parametrize("model", [*HISTORY, Task])
def test_history_and_tasks_can_be_read_but_not_written(
    admin_client: Client, row_of: Callable[[Any], Any], model: Any
) -> None:
    row = row_of(model)
    before = model.objects.values().get(pk=row.pk)
    change = address(model, "change/", row)
    assert admin_client.get(address(model, "")).status_code == 200
    assert admin_client.get(change).status_code == 200
    assert admin_client.post(change, {"status": "completed"}).status_code == 403
    assert admin_client.get(address(model, "add/")).status_code == 403
    assert admin_client.post(address(model, "delete/", row), {"post": "yes"}).status_code == 403
    assert model.objects.values().get(pk=row.pk) == before


@pytest.mark.parametrize("model", ["schedule", "success", "failure", "ormq"])
def test_no_page_of_the_queue_engine_is_there(admin_client: Client, model: str) -> None:
    assert admin_client.get(f"/admin/django_q/{model}/add/").status_code == 404
    assert admin_client.get(f"/admin/django_q/{model}/").status_code == 404
    assert "django_q" not in {entry._meta.app_label for entry in admin.site._registry}


@pytest.mark.parametrize("order", [["tasks", "django_q"], ["django_q", "tasks"]])
def test_the_engines_pages_are_gone_in_whichever_order_the_apps_stand(order: list[str]) -> None:
    program = (
        "import sys, tests.settings as s\n"
        "order = sys.argv[1].split(',')\n"
        "s.INSTALLED_APPS = [a for a in s.INSTALLED_APPS if a not in order] + order\n"
        "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "import django; django.setup()\n"
        "from django.contrib import admin\n"
        "print(sorted({m._meta.app_label for m in admin.site._registry}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(order)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "['auth', 'tasks']", done.stderr


def test_tasks_are_cancelled_and_retried_by_the_same_verbs(
    admin_client: Client, submit: Callable[..., Task]
) -> None:
    task = submit()
    chosen = {"_selected_action": [task.pk]}
    admin_client.post("/admin/tasks/task/", {**chosen, "action": "cancel"})
    task.refresh_from_db()
    assert task.status == Status.CANCELLED
    assert Event.objects.filter(kind="task.cancelled").count() == 1
    admin_client.post("/admin/tasks/task/", {**chosen, "action": "retry"})
    task.refresh_from_db()
    assert task.status == Status.QUEUED
    again = admin_client.post("/admin/tasks/task/", {**chosen, "action": "retry"}, follow=True)
    assert b"only failed or cancelled tasks can be retried" in again.content


def test_who_may_only_look_is_offered_no_action(
    client: Client, django_user_model: Any, submit: Callable[..., Task]
) -> None:
    from django.contrib.auth.models import Permission

    task = submit()
    viewer = django_user_model.objects.create_user("viewer", password="x", is_staff=True)
    viewer.user_permissions.add(
        Permission.objects.get(codename="view_task", content_type__app_label="tasks")
    )
    client.force_login(viewer)
    assert b'value="cancel"' not in client.get("/admin/tasks/task/").content
    client.post("/admin/tasks/task/", {"_selected_action": [task.pk], "action": "cancel"})
    task.refresh_from_db()
    assert task.status == Status.QUEUED


@pytest.fixture
def form(project: Project) -> dict[str, Any]:
    """Return what the browser would send for the unchanged project."""
    return {
        "name": "shop",
        "repository": "/nowhere/shop.git",
        "branch": "main",
        "target_url": "https://shop.example/",
        "install_command": "",
        "test_command": "",
        "serve_command": "python -m http.server {port}",
        "health_path": "/",
        "e2e_folder": "tests/e2e",
        "protected_paths": "[]",
        "author": "playbook",
        "coder": "playbook",
        "reviewer": "",
        "max_changed_lines": "2000",
        "max_changed_files": "50",
        "max_open_tasks": "2",
        "time_limits": "{}",
        "staging_origins": "",
    }


def test_a_project_can_be_edited(
    admin_client: Client, project: Project, form: dict[str, Any]
) -> None:
    page = admin_client.get(address(Project, "change/", project))
    assert b"{port} is replaced" in page.content
    form |= {"target_url": "http://shop.example:81/", "time_limits": '{"GUARDIAN_REVIEW": 60}'}
    response = admin_client.post(address(Project, "change/", project), form)
    project.refresh_from_db()
    assert response.status_code == 302
    assert project.target_origin == "http://shop.example:81"
    assert project.time_limits == {"GUARDIAN_REVIEW": 60}
    assert project.protected_paths == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("serve_command", "python 'x", "cannot be split into arguments: No closing quotation"),
        ("coder", 'command:x "', "cannot be split into arguments"),
        ("target_url", "shop.example", "Write it like https://app.example/login."),
        ("target_url", "http://shop.example:99999/", "Write it like"),
        ("e2e_folder", "../outside", "a relative folder"),
        ("protected_paths", '{"a": 1}', "Write a JSON list of paths"),
        ("staging_origins", '"https://a.example"', "Write a JSON list of origins"),
        ("staging_origins", '["https://a.example"]', "of use only with a deploy command"),
        ("deploy_command", "deploy/now {tree}", "could be an agent&#x27;s"),
        ("deploy_command", '""', "This line names no program"),
        ("deploy_command", "/opt/deploy", "Name the origins"),
        ("deploy_command", "/opt/deploy", "must be told from an older one"),
        ("time_limits", '{"COMPLETE": 5}', "Write seconds by phase"),
        ("time_limits", '{"GUARDIAN_REVIEW": "x"}', "Write seconds by phase"),
    ],
)
def test_a_project_with_a_line_that_cannot_be_read_is_not_saved(
    admin_client: Client,
    project: Project,
    form: dict[str, Any],
    field: str,
    value: str,
    message: str,
) -> None:
    before = Project.objects.values().get(pk=project.pk)
    response = admin_client.post(address(Project, "change/", project), {**form, field: value})
    assert response.status_code == 200
    assert message in response.content.decode()
    assert Project.objects.values().get(pk=project.pk) == before


def test_strangers_see_the_login_only(client: Client, db: None) -> None:
    response = client.get("/admin/tasks/task/")
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")
