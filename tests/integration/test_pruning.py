"""What is pruned by age beside the evidence: environments, trials, refs; and what never is."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from django_q import models as django_q

from tasks.lifecycle import Status
from tasks.models import Deployment, Project, Task
from tasks.workflow import pruning
from tasks.workspace import upkeep
from tasks.workspace.git import Repository, branch_ref, checkpoint_ref
from tasks.workspace.upkeep import Checkpoint
from tests.unit.git_samples import based_on

pytestmark = pytest.mark.django_db
Submit = Callable[..., Task]
SHA = {name: name * 40 for name in "abcdef"}
DAY_S = 24 * 3600.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    changed = replace(settings.CHIMERA, home=tmp_path, keep_days=30, keep_gb=0.0)
    monkeypatch.setattr(settings, "CHIMERA", changed)
    return tmp_path


def aged(path: Path, days: float) -> Path:
    """Let a file or a folder be as old as that."""
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))
    return path


def environment(home: Path, key: str, days: float, *, is_ready: bool = True) -> Path:
    """Make an environment that was last used days ago."""
    folder = home / "environments" / (key * 32)
    (folder / "bin").mkdir(parents=True)
    if is_ready:
        marker = folder.with_name(folder.name + ".done")
        marker.touch()
        aged(marker, days)
    return aged(folder, days)


def deploy(task: Task, days_ago: float, **changes: object) -> None:
    facts = {"host": "elsewhere", "boot_id": "", "pid": 1, "pid_started": 1.0, "fence": 1}
    copy = Deployment.objects.create(task=task, url="http://x", **{**facts, **changes})
    then = timezone.now() - timedelta(days=days_ago)
    Deployment.objects.filter(pk=copy.pk).update(created_at=then)


def oldest() -> datetime:
    return timezone.now() - timedelta(days=30)


def tidy(*, is_dry: bool = False) -> list[str]:
    told: list[str] = []
    pruning.prune(timezone.now(), told.append, is_dry=is_dry)
    return told


def test_environments_that_were_not_used_for_long_are_removed(home: Path) -> None:
    old, half_made = environment(home, "a", 31), environment(home, "b", 31, is_ready=False)
    used = environment(home, "c", 29)
    tidy()
    assert (old.exists(), half_made.exists(), used.exists()) == (False, False, True)
    assert not old.with_name(f"{old.name}.done").exists()
    tidy()  # what is left of them, a lock, is no environment
    assert used.exists()


def test_an_environment_in_use_is_left_by_the_one_who_comes_second(home: Path) -> None:
    old = environment(home, "a", 31)
    with old.with_name(f"{old.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        tidy()
    assert old.exists()


def test_the_environment_of_a_live_copy_is_kept_however_old_it_is(
    home: Path, submit: Submit
) -> None:
    older, its_own = environment(home, "a", 102), environment(home, "b", 100.1)
    deploy(submit(), 100)
    tidy()
    assert (older.exists(), its_own.exists()) == (False, True)
    Deployment.objects.update(ended_at=timezone.now())
    tidy()
    assert not its_own.exists()


def test_a_copy_that_a_script_serves_keeps_no_environment(home: Path, submit: Submit) -> None:
    old = environment(home, "a", 50)
    deploy(submit(), 50, host="", pid=0)
    tidy()
    assert not old.exists()


def test_what_trials_left_is_removed_when_it_is_old(home: Path) -> None:
    for name, days in (("trials/old", 31), ("trials/new", 29), ("scratch/trial-x-0-a", 2)):
        (home / name).mkdir(parents=True)
        (home / name / "log.txt").touch()
        aged(home / name / "log.txt", days)
        aged(home / name, days)
    (home / "scratch" / "trial-x-0-b").mkdir()
    tidy()
    left = {f"{path.parent.name}/{path.name}" for path in home.glob("*/*")}
    assert left == {"trials/new", "scratch/trial-x-0-b"}


def test_temporary_files_of_killed_processes_are_removed_after_a_day(home: Path) -> None:
    base = home / "tmp"
    for name, days in (("old", 1.1), ("new", 0.9)):
        (base / name).mkdir(parents=True)
        aged(base / name, days)
        (base / f"{name}-file").touch()
        aged(base / f"{name}-file", days)
    (base / "in-use").mkdir()
    (base / "in-use" / "young").touch()
    aged(base / "in-use", 2)
    tidy()
    assert {path.name for path in base.iterdir()} == {"new", "new-file", "in-use"}


def test_sessions_that_are_over_are_deleted(client: Client) -> None:
    client.get("/", headers={"host": "localhost"})  # a visitor without a cookie begins one
    over = Session.objects.get()
    Session.objects.create(session_key="here", expire_date=timezone.now() + timedelta(days=1))
    Session.objects.filter(pk=over.pk).update(expire_date=timezone.now())
    tidy()
    assert [session.pk for session in Session.objects.all()] == ["here"]


def test_messages_that_failed_long_ago_are_deleted() -> None:
    for name, days in (("old", 31), ("young", 29)):
        then = timezone.now() - timedelta(days=days)
        django_q.Failure.objects.create(
            id=name, name=name, func="f", started=then, stopped=then, success=False
        )
    tidy()
    assert [failure.pk for failure in django_q.Failure.objects.all()] == ["young"]


def test_a_dry_run_tells_and_removes_nothing(home: Path) -> None:
    old = environment(home, "a", 31)
    (home / "trials" / "old").mkdir(parents=True)
    aged(home / "trials" / "old", 31)
    assert tidy(is_dry=True) == [
        f"environment {'a' * 32}: not used since",
        "trials/old: abandoned",
    ]
    assert old.exists()
    assert (home / "trials" / "old").exists()


def test_for_ever_is_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CHIMERA", replace(settings.CHIMERA, keep_days=0))
    old = environment(home, "a", 9999)
    assert tidy() == []
    assert old.exists()


class TestRefs:
    """The refs of claims, in a repository of the project's."""

    @pytest.fixture
    def repository(self, home: Path, project: Project) -> Repository:
        repository, _ = based_on(home / "made")
        place = home / "repositories" / f"{project.name}.git"
        place.parent.mkdir()
        repository.path.rename(place)
        return Repository.open(place)

    def claims(self, repository: Repository, task: Task, count: int = 2) -> list[str]:
        """Give the task's claims a ref each, and the task a branch; return the commits."""
        base = repository.head("main")
        tree = repository.import_tree(repository.path / "info", base=base).tree
        made = []
        for fence in range(1, count + 1):
            made.append(repository.commit(tree, [base], f"draft {fence} of {task.task_id}"))
            repository.set_ref(checkpoint_ref(task.task_id, fence), made[-1])
        repository.set_ref(branch_ref(task.task_id), made[0])
        return made

    def end(self, task: Task, days: float, status: Status, **columns: str) -> None:
        then = timezone.now() - timedelta(days=days)
        phase = "COMPLETE" if status == Status.COMPLETED else status.upper()
        Task.objects.filter(pk=task.pk).update(
            status=status, phase=phase, completed_at=then, **columns
        )

    def left(self, repository: Repository, task: Task) -> set[int]:
        found = upkeep.checkpoints(repository.path)
        return {item.fence for item in found if item.task_id == task.task_id}

    def test_those_of_tasks_completed_long_ago_go_and_branches_stay(
        self, repository: Repository, submit: Submit
    ) -> None:
        old, young, going = submit(), submit(), submit()
        made = {task.pk: self.claims(repository, task) for task in (old, young, going)}
        self.end(old, 31, Status.COMPLETED)
        self.end(young, 29, Status.COMPLETED)
        tidy()
        assert [self.left(repository, task) for task in (old, young, going)] == [
            set(),
            {1, 2},
            {1, 2},
        ]
        for task in (old, young, going):
            assert repository.ref(branch_ref(task.task_id)) == made[task.pk][0]

    def test_those_of_many_tasks_go_a_portion_at_a_time(
        self, repository: Repository, submit: Submit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pruning, "AT_MOST", 2)
        tasks = [submit() for _ in range(5)]
        for task in tasks:
            self.claims(repository, task)
            self.end(task, 31, Status.COMPLETED)
        left = []
        for _ in range(3):
            tidy()
            left.append(sum(bool(self.left(repository, task)) for task in tasks))
        assert left == [3, 1, 0]

    def test_what_a_retry_goes_on_from_stays(self, repository: Repository, submit: Submit) -> None:
        task = submit()
        made = self.claims(repository, task, count=4)
        self.end(task, 99, Status.FAILED, draft_sha=made[1])
        tidy()
        assert self.left(repository, task) == {2, 4}

    def test_a_broken_repository_stops_nothing_else(
        self, repository: Repository, submit: Submit, home: Path
    ) -> None:
        broken = Project.objects.create(name="a-broken-one", repository="/x", target_url="http://x")
        (home / "repositories" / f"{broken.name}.git").mkdir()
        task = submit()
        self.claims(repository, task)
        self.end(task, 31, Status.COMPLETED)
        tidy()
        assert self.left(repository, task) == set()

    def test_a_repository_is_packed_only_while_none_works_with_it(
        self, repository: Repository, submit: Submit
    ) -> None:
        submit()
        lease = Task.objects.claim("w", timezone.now())
        assert lease is not None
        assert tidy() == []
        Task.objects.get(pk=lease.task_pk).cancel()
        assert tidy() == ["packing shop.git"]
        assert tidy() == []

    @pytest.mark.parametrize("last", ["HEAD", "collected"])
    def test_one_that_is_never_at_rest_is_packed_after_three_days(
        self, repository: Repository, submit: Submit, last: str
    ) -> None:
        submit()
        assert Task.objects.claim("w", timezone.now())
        (repository.path / last).touch()
        aged(repository.path / "HEAD", 99)
        aged(repository.path / last, 2.9)
        assert tidy() == []
        aged(repository.path / last, 3.1)
        assert tidy() == ["packing shop.git"]


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_every_commit_in_the_row_of_a_task_that_can_be_retried_is_kept(status: Status) -> None:
    task = Task(
        status=status,
        base_sha=SHA["a"],
        test_sha=SHA["b"],
        draft_sha=SHA["c"],
        code_sha=SHA["d"],
    )
    found = [Checkpoint("", "x", number, sha) for number, sha in enumerate(SHA.values())]
    assert [item.sha[0] for item in pruning.superseded(task, found)] == ["e"]
