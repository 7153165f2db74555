"""The executor's writes, when the database is away for a while."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from tasks.lifecycle import Phase, Verdict
from tasks.models import Lease, Task
from tasks.outcome import Outcome
from tasks.workflow import executor
from tasks.workspace import git
from tests.database import locked_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lease(submit: Callable[..., Task]) -> Lease:
    submit()
    claimed = Task.objects.claim("host:1:1", timezone.now())
    assert claimed is not None
    return claimed


def test_an_outcome_waits_for_the_database(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: Any) -> Outcome:
        outage.__enter__()
        return Outcome(Verdict.REJECTED, "The base is broken.")

    outage = locked_for(1.5)
    monkeypatch.setattr(executor, "perform", work)
    try:
        executor.run(lease, lambda: False)
    finally:
        outage.__exit__(None, None, None)
    task = Task.objects.get(pk=lease.task_pk)
    assert (task.status, task.stopped_in) == ("failed", Phase.WORKSPACE_PREPARATION)
    assert [run.verdict for run in task.phase_runs.all()] == ["rejected"]
    assert task.crashes == 0


def test_an_interruption_is_written_though_the_lease_ran_out_meanwhile(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, failures = Task.objects.settle, iter(range(3))

    def away(*words: Any) -> Task:
        if next(failures, None) is not None:
            raise executor.OperationalError("away")
        return settle(*words)

    def work(*_: Any) -> Outcome:
        Task.objects.update(lease_expires_at=timezone.now() - timedelta(hours=1))
        return Outcome(Verdict.INTERRUPTED, "Stopped by Chimera; nothing is spent.")

    monkeypatch.setattr(executor, "OUTAGE_PAUSE_S", 0.01)
    monkeypatch.setattr(executor, "perform", work)
    monkeypatch.setattr(Task.objects, "settle", away)
    executor.run(lease, lambda: True)
    task = Task.objects.get(pk=lease.task_pk)
    assert (task.status, task.attempts, task.crashes) == ("queued", 0, 0)
    assert [run.verdict for run in task.phase_runs.all()] == ["interrupted"]


def test_an_outcome_that_cannot_be_written_is_an_error(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        executor, "perform", lambda *_: Outcome(Verdict.PASSED, "x", facts={"a": 1j})
    )
    executor.run(lease, lambda: False)
    task = Task.objects.get(pk=lease.task_pk)
    assert (task.status, task.attempts) == ("queued", 1)
    assert "cannot be recorded" in task.reason


def test_a_full_disk_is_an_error_of_the_machinery_and_no_crash(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: executor.Log, chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(executor.Log, "write", full)
    executor.run(lease, lambda: False)
    (run,) = Task.objects.get(pk=lease.task_pk).phase_runs.all()
    assert (run.verdict, run.reason) == (
        "errored",
        "OSError: [Errno 28] No space left on device",
    )


def test_a_log_that_cannot_even_be_made_is_an_error_of_the_machinery(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(executor, "Log", full)
    executor.run(lease, lambda: False)
    task = Task.objects.get(pk=lease.task_pk)
    assert (task.status, task.crashes) == ("queued", 0)
    assert "The log cannot be written: [Errno 28]" in task.reason


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[git.Repository]:
    """Return the project's own repository, with a commit."""
    (tmp_path / "index.html").write_text("<h1>Shop</h1>")
    path = settings.CHIMERA.home / "repositories" / "shop.git"
    git.create_from_folder(tmp_path, path)
    yield git.Repository.open(path)
    shutil.rmtree(path)


def commits(repository: git.Repository, count: int) -> list[str]:
    base = repository.ref("refs/heads/main")
    assert base is not None
    return [repository.commit(git.EMPTY_TREE, [base], f"{number}") for number in range(count)]


def test_a_worker_that_froze_before_it_set_the_branch_does_not_set_it_back(
    lease: Lease, repository: git.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_sha, code_sha = commits(repository, 2)
    task = Task.objects.get(pk=lease.task_pk)
    ref = git.branch_ref(task.task_id)
    real = git.Repository.set_ref
    own = Task.objects.filter(pk=task.pk)
    own.update(test_sha=test_sha)
    task.refresh_from_db()

    def frozen(self: git.Repository, name: str, new: str, old: str | None = None) -> bool:
        monkeypatch.setattr(git.Repository, "set_ref", real)
        own.update(code_sha=code_sha)  # meanwhile another worker has gone on
        real(self, name, code_sha)
        return real(self, name, new, old)

    monkeypatch.setattr(git.Repository, "set_ref", frozen)
    executor.set_branch(task)
    assert repository.ref(ref) == code_sha


def test_a_branch_that_its_killed_worker_did_not_set_is_set_by_the_next(
    lease: Lease, repository: git.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    (test_sha,) = commits(repository, 1)
    Task.objects.filter(pk=lease.task_pk).update(test_sha=test_sha)
    seen: list[str | None] = []

    def work(*_: Any) -> Outcome:
        seen.append(repository.ref(git.branch_ref(lease.task_id)))
        return Outcome(Verdict.REJECTED, "The base is broken.")

    monkeypatch.setattr(executor, "perform", work)
    executor.run(lease, lambda: False)
    assert seen == [test_sha]
