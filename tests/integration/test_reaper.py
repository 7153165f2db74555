"""Housekeeping: what dead workers and old staging copies leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.utils import timezone

from tasks.lifecycle import Status, Verdict
from tasks.models import Deployment, Task, Worker
from tasks.outcome import DeploymentFacts, Outcome
from tasks.workflow import pids, reaper
from tasks.workspace import staging

pytestmark = pytest.mark.django_db
Submit = Callable[..., Task]
DEAD = f"{pids.host_name()}:4194304:1"  # beyond the largest pid of Linux
LONG_AGO = timedelta(days=2)


@pytest.fixture
def keeper() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that stands for a keeper of a staging copy."""
    sleep = "import time; time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", sleep], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def deploy(task: Task, pid: int, **changes: Any) -> Deployment:
    """Record a staging copy of the task on this host."""
    facts = {
        "url": f"http://{task.task_id}.localhost:1",
        "commit_sha": "a" * 40,
        "host": staging.host_name(),
        "boot_id": staging.boot_id(),
        "pid": pid,
        "pid_started": psutil.Process(pid).create_time() if psutil.pid_exists(pid) else 1.0,
    }
    return Deployment.objects.create(task=task, fence=1, **{**facts, **changes})


def end(task: Task) -> None:
    """Complete the task by decree."""
    Task.objects.filter(pk=task.pk).update(status=Status.COMPLETED, completed_at=timezone.now())


def is_live(copy: Deployment) -> bool:
    """Say whether the row is still open."""
    copy.refresh_from_db()
    return copy.ended_at is None


def show(name: str, host: str, silent_for: timedelta = timedelta()) -> None:
    """Write a worker's row."""
    then = timezone.now() - silent_for
    Worker.objects.create(
        name=name, host=host, pid=1, pid_started=1, cluster="c", started_at=then, seen_at=then
    )


def test_a_dead_workers_task_is_claimable_at_once(submit: Submit) -> None:
    task = submit()
    Task.objects.claim(DEAD, timezone.now())
    now = timezone.now()
    assert Task.objects.claim("other", now) is None
    assert reaper.free_dead_holders(now) == 1
    lease = Task.objects.claim("other", now)
    assert lease is not None
    assert (lease.task_pk, lease.fence) == (task.pk, 2)


def test_a_living_workers_task_is_left_alone(submit: Submit) -> None:
    submit()
    Task.objects.claim(pids.name_of(pids.current()), timezone.now())
    assert reaper.free_dead_holders(timezone.now()) == 0


def test_a_reused_pid_does_not_keep_a_dead_workers_task(submit: Submit) -> None:
    submit()
    me = pids.current()
    Task.objects.claim(pids.name_of(pids.ProcessId(me.pid, me.start - 1)), timezone.now())
    assert reaper.free_dead_holders(timezone.now()) == 1


@pytest.mark.parametrize("holder", ["elsewhere:4194304:1", "no-name-of-ours", "a:b:c"])
def test_only_holders_of_this_host_can_be_called_dead(submit: Submit, holder: str) -> None:
    submit()
    Task.objects.claim(holder, timezone.now())
    assert reaper.free_dead_holders(timezone.now()) == 0


def test_rows_of_dead_workers_are_removed_and_others_kept() -> None:
    me = pids.name_of(pids.current())
    show(DEAD, pids.host_name())
    show(me, pids.host_name())
    show("elsewhere:1:1", "elsewhere")
    show("elsewhere:2:1", "elsewhere", silent_for=timedelta(minutes=6))
    reaper.forget_workers(timezone.now())
    assert set(Worker.objects.values_list("name", flat=True)) == {me, "elsewhere:1:1"}


def test_a_copy_whose_keeper_is_gone_is_over(
    submit: Submit, keeper: subprocess.Popen[bytes]
) -> None:
    copy = deploy(submit(), keeper.pid)
    reaper.close_dead_deployments(timezone.now())
    assert is_live(copy)
    keeper.kill()
    keeper.wait()
    reaper.close_dead_deployments(timezone.now())
    assert not is_live(copy)


def test_a_copy_from_before_the_last_boot_is_over(
    submit: Submit, keeper: subprocess.Popen[bytes]
) -> None:
    copy = deploy(submit(), keeper.pid, boot_id="another")
    reaper.close_dead_deployments(timezone.now())
    assert not is_live(copy)


def test_a_copy_of_another_host_is_not_judged(submit: Submit) -> None:
    copy = deploy(submit(), 4194304, host="elsewhere")
    reaper.close_dead_deployments(timezone.now())
    assert is_live(copy)


def test_the_keeper_of_an_ended_copy_is_ended(
    submit: Submit, keeper: subprocess.Popen[bytes]
) -> None:
    now = timezone.now()
    deploy(submit(), keeper.pid, ended_at=now)
    reaper.end_keepers(now, now - timedelta(hours=1))
    assert keeper.wait(timeout=5) < 0


@pytest.mark.parametrize(
    "changes",
    [{"pid_started": 1.0}, {"host": "elsewhere"}, {"boot_id": "another"}, {"ended_at": None}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_process_that_is_not_the_ended_keeper_is_left_alone(
    submit: Submit, keeper: subprocess.Popen[bytes], changes: dict[str, Any]
) -> None:
    now = timezone.now()
    deploy(submit(), keeper.pid, **{"ended_at": now, **changes})
    reaper.end_keepers(now, now - timedelta(hours=1))
    assert keeper.poll() is None


def test_beyond_the_limit_the_oldest_copies_are_ended(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 2)
    copies = [deploy(submit(), 4194304) for _ in range(4)]
    for copy in copies:
        end(copy.task)
    reaper.end_surplus_deployments(timezone.now())
    assert [is_live(copy) for copy in copies] == [False, False, True, True]


def test_the_copy_of_a_task_on_its_way_is_not_surplus(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 1)
    on_its_way, done = deploy(submit(), 4194304), deploy(submit(), 4194304)
    end(done.task)
    reaper.end_surplus_deployments(timezone.now())
    assert (is_live(on_its_way), is_live(done)) == (True, False)


def limit(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Set how many staging copies may live."""
    monkeypatch.setattr(settings, "CHIMERA", replace(settings.CHIMERA, max_deployments=number))


@pytest.mark.parametrize(
    ("host", "hours", "lives_for"),
    [("here", 168, timedelta(days=7)), ("here", 0, None), ("", 168, None)],
    ids=["ours", "until-replaced", "a-script's"],
)
def test_a_copy_that_chimera_serves_is_given_an_end(
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    hours: int,
    lives_for: timedelta | None,
) -> None:
    monkeypatch.setattr(settings, "CHIMERA", replace(settings.CHIMERA, staging_hours=hours))
    submit()
    now = timezone.now()
    lease = Task.objects.claim("w", now)
    assert lease is not None
    facts = DeploymentFacts("http://x", "a" * 40, host, "boot", 0, 0.0)
    outcome = Outcome(Verdict.PASSED, deployment=facts)
    Task.objects.settle(lease, Task.objects.open_run(lease, now), outcome, now)
    expected = now + lives_for if lives_for else None
    assert Deployment.objects.get().expires_at == expected


def test_a_copy_whose_time_is_over_is_ended_and_no_other(submit: Submit) -> None:
    now = timezone.now()
    second = timedelta(seconds=1)
    ends = [now - second, now, now + second, None]
    copies = [deploy(submit(), 4194304, expires_at=each) for each in ends]
    copies.append(deploy(submit(), 4194304, expires_at=now, host="elsewhere"))
    for copy in copies:
        end(copy.task)
    reaper.end_expired_deployments(now)
    assert [is_live(copy) for copy in copies] == [False, False, True, True, True]


def test_a_copy_of_a_task_that_was_retried_outlives_its_time(submit: Submit) -> None:
    now = timezone.now()
    copy = deploy(submit(), 4194304, expires_at=now)
    copy.task.cancel()
    copy.task.retry()
    reaper.end_expired_deployments(now)
    assert is_live(copy)
    copy.task.cancel()
    reaper.end_expired_deployments(now)
    assert not is_live(copy)


def test_a_sweep_does_it_all(submit: Submit, keeper: subprocess.Popen[bytes]) -> None:
    task = submit()
    Task.objects.claim(DEAD, timezone.now())
    show(DEAD, pids.host_name())
    gone = deploy(task, 4194304)
    now = timezone.now()
    deploy(task, keeper.pid, ended_at=now - LONG_AGO)
    reaper.sweep(now, ended_since=now - 2 * LONG_AGO)
    assert Task.objects.claimable(now).count() == 1
    assert not Worker.objects.exists()
    assert not is_live(gone)
    assert keeper.wait(timeout=5) < 0
