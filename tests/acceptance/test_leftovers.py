"""What a crash leaves behind is found and removed; what somebody owns is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings
from django.utils import timezone

from tasks.models import Deployment, Task
from tasks.workflow.leftovers import remove_leftovers
from tasks.workspace import checkout, sandbox, site, staging
from tasks.workspace.sandbox import Jail

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def home_without_leftovers() -> None:
    """Remove what other tests of this run may have left: here folders are counted."""
    for name in ("scratch", "staging"):
        checkout.remove(settings.CHIMERA.home / name)


@pytest.fixture
def task(submit: type[Task]) -> Task:
    return submit()  # type: ignore[return-value]


@pytest.fixture
def copy(task: Task) -> Iterator[tuple[Path, psutil.Process]]:
    """Keep a site as phase 6 does, without any row that tells of it."""
    folder = staging.folder_of(settings.CHIMERA.home, task.task_id, 1)
    (folder / "tree").mkdir()
    serve = lambda port: (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")  # noqa: E731
    order = site.SiteOrder(serve, Jail(folder / "tree"), "x.localhost", "/", folder / "site.log")
    pid, _ = site.keep(sandbox.find("auto"), order, folder / staging.PID_FILE)
    keeper = psutil.Process(pid)
    yield folder, keeper
    staging.end(pid, keeper.create_time() if keeper.is_running() else 0)


def record(task: Task, keeper: psutil.Process) -> None:
    Deployment.objects.create(
        task=task,
        url="http://x.localhost:1",
        commit_sha="0" * 40,
        host=staging.host_name(),
        boot_id=staging.boot_id(),
        pid=keeper.pid,
        pid_started=keeper.create_time(),
        fence=1,
    )


def test_a_keeper_that_no_row_knows_of_is_ended(copy: tuple[Path, psutil.Process]) -> None:
    folder, keeper = copy
    started = keeper.create_time()
    assert remove_leftovers() == 1
    assert not folder.exists()
    assert not staging.is_alive(keeper.pid, started)


def test_a_live_copy_is_left_alone_and_an_ended_one_is_removed(
    task: Task, copy: tuple[Path, psutil.Process]
) -> None:
    folder, keeper = copy
    record(task, keeper)
    assert remove_leftovers() == 0
    assert keeper.is_running()
    Deployment.objects.update(ended_at=timezone.now())
    assert remove_leftovers() == 1
    assert not folder.exists()


def test_the_live_copy_of_another_host_on_this_home_is_left_alone(task: Task) -> None:
    folder = staging.folder_of(settings.CHIMERA.home, task.task_id, 1)
    record(task, psutil.Process())
    Deployment.objects.update(host="another-host")
    assert remove_leftovers() == 0
    assert folder.exists()
    Deployment.objects.update(ended_at=timezone.now())
    assert remove_leftovers() == 1


def test_a_copy_that_a_command_made_keeps_no_folder_here(task: Task) -> None:
    folder = settings.CHIMERA.home / "scratch" / f"{task.task_id}-1-abc"
    folder.mkdir(parents=True)
    record(task, psutil.Process())
    Deployment.objects.update(host="", pid=0, boot_id="")
    assert remove_leftovers() == 1
    assert not folder.exists()


def test_the_folders_of_a_running_claim_are_left_alone(task: Task) -> None:
    lease = Task.objects.claim("host:1:1", timezone.now())
    assert lease is not None
    own = settings.CHIMERA.home / "scratch" / f"{task.task_id}-{lease.fence}-abc"
    older = settings.CHIMERA.home / "scratch" / f"{task.task_id}-{lease.fence - 1}-abc"
    for folder in (own, older):
        (folder / "deep").mkdir(parents=True)
    assert remove_leftovers() == 1
    assert own.exists()
    assert not older.exists()
    checkout.remove(own)


def test_a_pid_that_belongs_to_another_program_now_is_spared(task: Task) -> None:
    folder = staging.folder_of(settings.CHIMERA.home, task.task_id, 1)
    (folder / staging.PID_FILE).write_text(str(psutil.Process().pid))
    assert remove_leftovers() == 1
    assert psutil.Process().is_running()


def test_folders_of_other_names_are_nobodys_business() -> None:
    other = settings.CHIMERA.home / "scratch" / "notes"
    other.mkdir(parents=True, exist_ok=True)
    assert remove_leftovers() == 0
    assert other.exists()
    other.rmdir()
