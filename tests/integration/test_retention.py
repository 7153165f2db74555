"""Retention: what ended long ago loses its files, what is open never does, and rows stay."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone

from tasks.lifecycle import Status
from tasks.models import Artifact, Event, Project, Task
from tasks.workflow import retention
from tasks.workflow.retention import Ended, Freed, Sizes, find, put_away, tidy_evidence
from tests.integration import dashboard_rows as rows

pytestmark = pytest.mark.django_db
FINAL = [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
OPEN = [Status.QUEUED, Status.RUNNING]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep thirty days of evidence, of any size, in a home of its own."""
    limit(monkeypatch, home=tmp_path, keep_days=30, keep_gb=0.0)
    return tmp_path


def limit(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setattr(settings, "CHIMERA", replace(settings.CHIMERA, **options))


def age(task: Task, days: float, status: Status = Status.FAILED) -> Task:
    """End the task by decree, days ago."""
    then = timezone.now() - timedelta(days=days)
    stopped_in = task.stopped_in or "E2E_VALIDATION"
    phase = "COMPLETE" if status == Status.COMPLETED else status.upper()
    changes = {"phase": phase, "stopped_in": stopped_in, "holder": ""}
    Task.objects.filter(pk=task.pk).update(
        status=status, completed_at=then, lease_expires_at=None, **changes
    )
    task.refresh_from_db()
    return task


def old_task(project: Project, days: float = 40, status: Status = Status.FAILED) -> Task:
    """Return a task that ended days ago, and left a log, a picture and a change."""
    task = rows.a_failed_task(project)
    run = task.phase_runs.get()
    rows.leave(run, "screenshot", "red.png", rows.png(64, 36, (246, 244, 238)))
    rows.leave(run, "diff", "change.diff", rows.DIFF.encode())
    return age(task, days, status)


def tidy(**options: Any) -> Freed:
    return tidy_evidence(timezone.now(), lambda text: None, **options)


def item_of(task: Task) -> Ended:
    return next(item for item in find(Sizes(), print).ended if item.pk == task.pk)


def is_whole(task: Task) -> bool:
    """Say whether all files are there and all rows say so; a mixture is neither."""
    files = {each.file.is_file() for each in task.artifacts.all()}
    marks = {each.removed_at is None for each in task.artifacts.all()}
    assert files == marks == {task.folder.exists()}
    return files == {True}


@pytest.mark.parametrize("status", FINAL)
def test_evidence_older_than_the_days_is_removed_and_its_rows_stay(
    project: Project, status: Status, home: Path
) -> None:
    task, young = old_task(project, 31, status), old_task(project, 29, status)
    before = list(task.artifacts.values_list("path", "sha256", "size_bytes"))
    freed = tidy()
    assert (freed.tasks, freed.has_more) == (1, False)
    assert freed.size_bytes > 0
    assert not is_whole(task)
    assert is_whole(young)
    assert list(task.artifacts.values_list("path", "sha256", "size_bytes")) == before
    assert task.phase_runs.count() > 0
    assert Event.objects.filter(task=task, kind="evidence.removed").count() == 1
    assert list((home / "tasks" / ".trash").iterdir()) == []


@pytest.mark.parametrize("status", OPEN)
def test_an_open_task_keeps_its_files_however_little_may_be_kept(
    project: Project, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, keep_days=1, keep_gb=1e-9)
    task = rows.a_running_task(project)
    if status == Status.QUEUED:
        age(task, 99).retry()
    Task.objects.filter(pk=task.pk).update(hold="approval")
    assert tidy() == Freed(0, 0, has_more=False)
    assert is_whole(task)


def test_beyond_the_size_those_that_ended_longest_ago_go(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [old_task(project, days) for days in (3, 1, 2)]
    running = rows.a_running_task(project)
    sizes = [item_of(task).size_bytes for task in tasks]
    total_bytes = find(Sizes(), print).total_bytes
    assert total_bytes > sum(sizes)  # the running one counts
    limit(monkeypatch, keep_gb=(total_bytes - sizes[0] - 1) / 1e9)
    assert tidy().tasks == 2
    assert [is_whole(task) for task in [*tasks, running]] == [False, True, False, True]


def test_a_task_retried_a_moment_before_keeps_its_files(project: Project) -> None:
    task = old_task(project)
    item = item_of(task)
    task.retry()
    assert put_away(item, timezone.now()) is None
    assert is_whole(task)


def test_a_task_that_was_retried_and_ended_anew_is_judged_anew(project: Project) -> None:
    task = old_task(project)
    item = item_of(task)
    task.retry()
    task.cancel()
    assert put_away(item, timezone.now()) is None
    assert is_whole(task)


def test_of_two_passes_one_removes_and_the_other_does_nothing(project: Project) -> None:
    task = old_task(project)
    item, now = item_of(task), timezone.now()
    assert put_away(item, now) is not None
    assert put_away(item, now + timedelta(hours=1)) is None
    assert set(task.artifacts.values_list("removed_at", flat=True)) == {now}
    assert Event.objects.filter(task=task, kind="evidence.removed").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_removal_that_meets_a_retry_at_once_waits_and_finds_the_task_open(
    project: Project,
) -> None:
    task = old_task(project)
    item = item_of(task)
    has_begun = threading.Event()
    put: list[Path | None] = []

    def remove() -> None:
        has_begun.set()
        put.append(put_away(item, timezone.now()))
        connections.close_all()

    thread = threading.Thread(target=remove)
    with transaction.atomic():
        task.retry()
        thread.start()
        assert has_begun.wait(timeout=10)
        thread.join(timeout=0.3)  # long enough for one that would not wait
        assert thread.is_alive()
        assert is_whole(task)
    thread.join(timeout=30)
    assert put == [None]
    assert is_whole(task)


@pytest.mark.django_db(transaction=True)
def test_a_retry_that_meets_a_removal_at_once_waits_for_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = old_task(project)
    item, other = item_of(task), Task.objects.get(pk=task.pk)
    append = Event.objects.append

    def retry() -> None:
        other.retry()
        connections.close_all()

    thread = threading.Thread(target=retry)

    def begin_the_retry(kind: str, *args: Any, **data: Any) -> Event:
        if kind == "evidence.removed":
            thread.start()
            thread.join(timeout=0.3)
            assert thread.is_alive()
        return append(kind, *args, **data)

    monkeypatch.setattr(Event.objects, "append", begin_the_retry)
    assert put_away(item, timezone.now()) is not None
    thread.join(timeout=30)
    told = task.events.filter(kind__in=["evidence.removed", "task.retried"]).order_by("seq")
    assert list(told.values_list("kind", flat=True)) == ["evidence.removed", "task.retried"]
    assert not is_whole(task)


def test_a_retried_task_whose_files_are_gone_goes_on_with_new_numbers(
    client: Client, project: Project
) -> None:
    task = old_task(project)
    tidy()
    tries = task.phase_runs.count()
    task.retry()
    rows.advance(task, rows.claim(task), 1)
    fresh = task.phase_runs.get(number=tries + 1)
    assert fresh.log_path.is_file()
    assert tidy().tasks == 0
    log = client.get(f"/api/tasks/{task.task_id}/log")
    assert f"==> run {tries + 1}:".encode() in b"".join(log.streaming_content)  # type: ignore[attr-defined]
    assert client.get(f"/api/tasks/{task.task_id}/log?run=1").status_code == 410


def test_what_cannot_be_recorded_is_put_back(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = old_task(project)
    item = item_of(task)
    with monkeypatch.context() as patch:
        patch.setattr(retention, "EVIDENCE_REMOVED", None)  # the column refuses it
        with pytest.raises(Exception, match=r"NOT NULL|null value"):
            put_away(item, timezone.now())
    assert is_whole(task)


def test_what_a_killed_pass_left_is_finished_by_the_next(project: Project, home: Path) -> None:
    before_commit, after_commit = old_task(project), old_task(project)
    (home / "tasks" / ".trash").mkdir()
    before_commit.folder.rename(home / "tasks" / ".trash" / "one")
    put_away(item_of(after_commit), timezone.now())
    assert tidy().tasks == 1
    assert not is_whole(before_commit)
    assert not is_whole(after_commit)
    assert list((home / "tasks" / ".trash").iterdir()) == []


def test_no_link_in_the_evidence_is_followed(project: Project, home: Path) -> None:
    task = old_task(project)
    (home / "precious").mkdir()
    (home / "precious" / "file").write_text("precious")
    (task.folder / "link").symlink_to(home / "precious")
    (task.folder / "locked").mkdir(mode=0o000)
    assert tidy().tasks == 1
    assert (home / "precious" / "file").read_text() == "precious"


def test_a_pass_is_bounded_and_says_that_there_is_more(project: Project) -> None:
    tasks = [old_task(project, days) for days in (41, 43, 42)]
    assert tidy(at_most=2).has_more
    assert [is_whole(task) for task in tasks] == [True, False, False]
    assert not tidy(at_most=2).has_more


def test_a_folder_that_belongs_to_no_task_is_left_alone(home: Path) -> None:
    (home / "tasks" / "chimera-unknown").mkdir(parents=True)
    (home / "tasks" / "chimera-unknown" / "log.txt").write_text("x")
    assert tidy().tasks == 0
    assert (home / "tasks" / "chimera-unknown" / "log.txt").exists()


def test_the_command_says_what_would_go_and_then_removes_it(project: Project) -> None:
    task = old_task(project)
    told = io.StringIO()
    call_command("retention", "--dry-run", stdout=told)
    assert f"  {task.task_id}: " in told.getvalue()
    assert "Evidence of 1 tasks would be removed" in told.getvalue()
    assert is_whole(task)
    call_command("retention", stdout=told)
    assert "Evidence of 1 tasks removed" in told.getvalue()
    assert not is_whole(task)


class TestAfterRemoval:
    """What the API and the pages say of evidence that is gone."""

    @pytest.fixture
    def task(self, project: Project) -> Task:
        task = old_task(project)
        tidy()
        return task

    def test_a_download_is_gone_for_good_and_says_why(self, client: Client, task: Task) -> None:
        shot = task.artifacts.filter(kind="screenshot").latest("id")
        paths = [f"artifacts/{shot.pk}", f"artifacts/{shot.pk}?inline=1", "diff", "log"]
        for path in [*paths, "log?run=1", "log?offset=0"]:
            answer = client.get(f"/api/tasks/{task.task_id}/{path}")
            assert answer.status_code == 410, path
            assert answer["Content-Type"] == "application/problem+json"
            assert answer.json()["detail"].startswith("Removed by retention on 20")
            assert "CHIMERA_KEEP_DAYS" in answer.json()["detail"]

    def test_the_list_keeps_hash_and_size_and_tells_when(self, client: Client, task: Task) -> None:
        listed = client.get(f"/api/tasks/{task.task_id}/artifacts").json()["artifacts"]
        assert {each["removed_at"] is None for each in listed} == {False}
        assert [each["sha256"] for each in listed] == [
            each.sha256 for each in Artifact.objects.filter(task=task)
        ]

    def test_the_page_has_no_dead_link_and_no_broken_picture(
        self, client: Client, project: Project
    ) -> None:
        task = age(rows.a_completed_task(project), 40, Status.COMPLETED)
        tidy()
        page = client.get(f"/tasks/{task.task_id}/").content.decode()
        assert f"/api/tasks/{task.task_id}/artifacts/" not in page
        assert f"/api/tasks/{task.task_id}/diff" not in page
        for words in ("Screenshot removed", "to save space; the branch has it", ", removed</span>"):
            assert words in page
        assert '<div class="line">Removed to save space.</div>' in page
        log = client.get(f"/tasks/{task.task_id}/log/1/")
        assert log.content == b"Removed to save space."


def test_before_removal_nothing_is_said_of_it(client: Client, submit: Callable[..., Task]) -> None:
    task = submit()
    page = client.get(f"/tasks/{task.task_id}/").content.decode()
    assert "removed" not in page.lower()
    assert client.get(f"/api/tasks/{task.task_id}/log").status_code == 200
