"""Who gets which task, and what a stale holder can no longer do: rows only."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from tasks.lifecycle import ROUTE, Hold, Phase, Status, Verdict
from tasks.models import Event, Lease, LeaseLostError, PhaseRun, Project, Task
from tasks.models.task import rank_of
from tasks.outcome import Outcome
from tests.database import child_environment

Submit = Callable[..., Task]
NOW = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.get_default_timezone())
LATER = timedelta(hours=1)  # longer than any lease


def later(seconds: float) -> datetime:
    """Return a moment after all submissions of a test."""
    return NOW + timedelta(seconds=seconds)


def claim(worker: str, now: datetime = NOW) -> Lease:
    """Claim a task that must be there."""
    lease = Task.objects.claim(worker, now)
    assert lease is not None
    return lease


def crash_once(now: datetime) -> Lease | None:
    """Claim, open a try, and vanish until the lease has run out."""
    lease = Task.objects.claim("mortal", now)
    if lease is not None:
        Task.objects.open_run(lease, now)
    return lease


@pytest.mark.django_db
def test_nothing_to_claim_costs_two_queries(
    django_assert_max_num_queries: Callable[..., object],
) -> None:
    with django_assert_max_num_queries(4):  # and the savepoint of the test's own transaction
        assert Task.objects.claim("w", NOW) is None


def test_tasks_are_claimed_in_the_order_of_submission(submit: Submit) -> None:
    tasks = [submit() for _ in range(3)]
    assert [claim("w").task_id for _ in tasks] == [task.task_id for task in tasks]
    assert Task.objects.claim("w", NOW) is None


def test_higher_priority_goes_first(submit: Submit) -> None:
    low, normal, high = submit(priority=1), submit(), submit(priority=10)
    assert [claim("w").task_pk for _ in range(3)] == [high.pk, normal.pk, low.pk]


def test_waiting_makes_up_for_low_priority() -> None:
    aging_s = settings.CHIMERA.priority_aging_s
    old = rank_of(NOW, 1)
    assert rank_of(NOW + timedelta(seconds=9 * aging_s - 1), 10) < old
    assert rank_of(NOW + timedelta(seconds=9 * aging_s + 1), 10) > old


def test_a_flood_of_urgent_tasks_starves_nobody(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = NOW
    monkeypatch.setattr(timezone, "now", lambda: now)
    patient, flood = submit(priority=1), []
    for _ in range(30):
        now += timedelta(seconds=settings.CHIMERA.priority_aging_s / 2)
        flood.append(submit(priority=10))
    order = [claim("w", now).task_pk for _ in range(31)]
    # Nine points are worth nine times the aging; 17 came sooner, and the 18th just then.
    assert order.index(patient.pk) == 17
    assert [pk for pk in order if pk != patient.pk] == [task.pk for task in flood]


def test_an_expired_lease_goes_before_everything_that_waits(submit: Submit) -> None:
    abandoned = submit(priority=1)
    claim("mortal")
    submit(priority=10)
    assert claim("w", NOW + LATER).task_pk == abandoned.pk


def test_the_longest_expired_lease_goes_first(submit: Submit) -> None:
    first, second = submit(), submit()
    claim("a", later(1))
    claim("b", later(0))
    assert [claim("w", NOW + LATER).task_pk for _ in range(2)] == [second.pk, first.pk]


def test_a_task_that_is_not_due_waits(submit: Submit) -> None:
    task = submit()
    Task.objects.filter(pk=task.pk).update(due_at=later(60))
    assert Task.objects.claim("w", later(59)) is None
    assert claim("w", later(60)).task_pk == task.pk


@pytest.mark.parametrize("hold", [hold for hold in Hold if hold])
def test_a_held_task_is_not_claimed(submit: Submit, hold: Hold) -> None:
    task = submit()
    Task.objects.filter(pk=task.pk).update(hold=hold)
    assert Task.objects.claim("w", NOW) is None
    assert not Task.objects.claimable(NOW).exists()


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_an_ended_task_is_not_claimed(submit: Submit, status: Status) -> None:
    task = submit()
    Task.objects.filter(pk=task.pk).update(status=status, completed_at=NOW)
    assert Task.objects.claim("w", NOW + LATER) is None


def test_a_claim_notes_holder_fence_and_start(submit: Submit) -> None:
    task = submit()
    lease = claim("w")
    task.refresh_from_db()
    assert (task.status, task.holder, task.fence) == (Status.RUNNING, "w", lease.fence)
    assert task.started_at == NOW
    assert task.lease_expires_at == NOW + timedelta(seconds=settings.CHIMERA.lease_s)


def test_a_second_claim_raises_the_fence_and_keeps_the_start(submit: Submit) -> None:
    task = submit()
    first = claim("a")
    second = claim("b", NOW + LATER)
    task.refresh_from_db()
    assert second.fence == first.fence + 1
    assert (task.holder, task.started_at) == ("b", NOW)


def test_a_live_lease_is_not_claimed(submit: Submit) -> None:
    submit()
    lease = claim("a")
    moment = NOW + LATER
    assert Task.objects.renew(lease, moment) is True
    assert Task.objects.claim("b", moment + timedelta(seconds=1)) is None


def test_a_freed_lease_is_claimed_at_once(submit: Submit) -> None:
    task = submit()
    claim("a")
    task.refresh_from_db()
    assert Task.objects.free(task, later(1)) is True
    assert claim("b", later(1)).holder == "b"


def test_only_the_dead_holders_own_lease_is_freed(submit: Submit) -> None:
    task = submit()
    claim("a")
    seen = Task.objects.get(pk=task.pk)
    claim("b", NOW + LATER)
    assert Task.objects.free(seen, NOW + LATER) is False


class TestAStaleHolder:
    """Its task was claimed by somebody else."""

    @pytest.fixture
    def stale(self, submit: Submit) -> tuple[Lease, PhaseRun]:
        submit()
        lease = claim("a")
        run = Task.objects.open_run(lease, NOW)
        claim("b", NOW + LATER)
        return lease, run

    def test_cannot_renew(self, stale: tuple[Lease, PhaseRun]) -> None:
        assert Task.objects.renew(stale[0], NOW + LATER) is False

    def test_cannot_open_a_run(self, stale: tuple[Lease, PhaseRun]) -> None:
        with pytest.raises(LeaseLostError):
            Task.objects.open_run(stale[0], NOW + LATER)
        assert PhaseRun.objects.filter(verdict="").count() == 0

    @pytest.mark.parametrize("verdict", list(Verdict))
    def test_cannot_settle(self, stale: tuple[Lease, PhaseRun], verdict: Verdict) -> None:
        before = Task.objects.values().get()
        events = Event.objects.count()
        with pytest.raises(LeaseLostError):
            Task.objects.settle(*stale, Outcome(verdict, "late"), NOW + LATER)
        assert Task.objects.values().get() == before
        assert Event.objects.count() == events


@pytest.mark.parametrize("phase", ROUTE)
def test_a_task_cancelled_in_any_phase_cannot_be_settled_by_its_worker(
    submit: Submit, phase: Phase
) -> None:
    task = submit()
    Task.objects.filter(pk=task.pk).update(phase=phase)
    lease = claim("a")
    run = Task.objects.open_run(lease, NOW)
    assert run is not None
    task.cancel()
    task.cancel()  # twice is once
    assert Task.objects.renew(lease, NOW) is False
    with pytest.raises(LeaseLostError):
        Task.objects.settle(lease, run, Outcome(Verdict.PASSED), NOW)
    task.refresh_from_db()
    run.refresh_from_db()
    assert (task.status, task.stopped_in) == (Status.CANCELLED, phase)
    assert run.verdict == Verdict.INTERRUPTED
    assert Event.objects.filter(task=task, kind="task.cancelled").count() == 1
    assert Task.objects.claim("b", NOW + LATER) is None


def test_an_open_run_of_a_dead_worker_is_closed_and_the_phase_tried_again(submit: Submit) -> None:
    submit()
    crash_once(NOW)
    lease = claim("b", NOW + LATER)
    run = Task.objects.open_run(lease, NOW + LATER)
    first = PhaseRun.objects.get(number=1)
    assert (first.verdict, first.finished_at) == (Verdict.ERRORED, NOW + LATER)
    assert (run.number, run.phase, run.attempt) == (2, first.phase, 2)


def test_a_try_that_is_opened_twice_is_one_try(submit: Submit) -> None:
    task = submit()
    lease = claim("w")
    first = Task.objects.open_run(lease, NOW)
    again = Task.objects.open_run(lease, later(1))
    assert again == first
    task.refresh_from_db()
    assert (task.attempts, task.phase_runs.count()) == (1, 1)
    assert Event.objects.filter(kind="phase.started").count() == 1


def test_poison_fails_after_three_crashes_and_the_next_task_runs(submit: Submit) -> None:
    poison, healthy = submit(priority=10), submit(priority=1)
    crashes = [crash_once(NOW + number * LATER) for number in range(3)]
    assert [lease.task_pk for lease in crashes if lease] == [poison.pk] * 3
    assert claim("w", NOW + 3 * LATER).task_pk == healthy.pk
    poison.refresh_from_db()
    assert (poison.status, poison.phase) == (Status.FAILED, Phase.FAILED)
    assert poison.stopped_in == Phase.WORKSPACE_PREPARATION
    assert "died 3 times" in poison.reason
    assert PhaseRun.objects.filter(task=poison, verdict="").count() == 0
    assert Event.objects.filter(task=poison, kind="task.failed").count() == 1


def test_a_lease_lost_between_phases_is_no_crash(submit: Submit) -> None:
    task = submit()
    for number in range(4):
        claim("w", NOW + number * LATER)
    task.refresh_from_db()
    assert (task.status, task.crashes) == (Status.RUNNING, 0)


@pytest.mark.parametrize(("attempt", "wait_s"), [(1, 2), (2, 4), (3, 8)])
def test_an_errored_phase_is_due_again_after_a_doubling_wait(
    submit: Submit, attempt: int, wait_s: float
) -> None:
    task = submit()
    Task.objects.filter(pk=task.pk).update(attempts=attempt - 1)
    lease = claim("w")
    run = Task.objects.open_run(lease, NOW)
    task = Task.objects.settle(lease, run, Outcome(Verdict.ERRORED, "no disk"), NOW)
    assert task.status == Status.QUEUED
    assert 0.9 * wait_s <= (task.due_at - NOW).total_seconds() <= 1.1 * wait_s
    assert Task.objects.claim("w", later(0.9 * wait_s - 0.01)) is None
    assert claim("w", later(1.1 * wait_s)).task_pk == task.pk


def test_a_retried_task_is_claimed_where_it_stopped(submit: Submit) -> None:
    task = submit()
    lease = claim("w")
    run = Task.objects.open_run(lease, NOW)
    Task.objects.settle(lease, run, Outcome(Verdict.REJECTED, "broken base"), NOW)
    task.refresh_from_db()
    assert task.status == Status.FAILED
    task.retry()
    again = claim("w", later(60))
    assert again.fence > lease.fence
    task.refresh_from_db()
    assert (task.phase, task.attempts, task.rounds) == (Phase.WORKSPACE_PREPARATION, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_of_many_threads_exactly_one_claims_a_task(submit: Submit) -> None:
    task = submit()
    start = threading.Barrier(6)
    leases: list[Lease] = []

    def race(name: str) -> None:
        try:
            start.wait(timeout=10)
            lease = Task.objects.claim(name, NOW)
            if lease is not None:
                leases.append(lease)
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=(f"w{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert [(lease.task_pk, lease.fence) for lease in leases] == [(task.pk, 1)]


RACER = """
import sys
import django
django.setup()
from django.utils import timezone
from tasks.models import Task

print("ready", flush=True)
sys.stdin.readline()
while lease := Task.objects.claim(sys.argv[1], timezone.now()):
    print(lease.task_pk, lease.fence)
"""


@pytest.mark.django_db(transaction=True)
def test_eight_processes_share_the_tasks_and_never_one_task(
    submit: Submit, project: Project, tmp_path: Path
) -> None:
    tasks = [submit() for _ in range(40)]
    env = {
        "DJANGO_SETTINGS_MODULE": "chimera_site.settings",
        "CHIMERA_HOME": str(tmp_path),
        "CHIMERA_LEASE_SECONDS": "3600",  # nobody renews here, however long it takes
        **child_environment(),
        "PYTHONPATH": str(settings.BASE_DIR),
    }
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, f"racer-{number}"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(8)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        said = [racer.communicate("go\n", timeout=300)[0] for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    claims = sorted(line for text in said for line in text.splitlines())
    assert claims == sorted(f"{task.pk} 1" for task in tasks)
