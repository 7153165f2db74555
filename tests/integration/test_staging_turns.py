"""Tasks that are deployed to one address by a project's command take turns: rows only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks.lifecycle import Hold, Phase, Status, Verdict
from tasks.models import Deployment, Event, Lease, PhaseRun, Project, StagingLease, Task
from tasks.models.opening import LOOK_AGAIN_S
from tasks.models.staging_lease import CUT_SHORT_S
from tasks.outcome import DeploymentFacts, Outcome

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.get_default_timezone())
STAGING = "https://staging.shop.example"
ADDRESS = f"{STAGING}:443"
DEPLOY, VALIDATE = Phase.STAGING_DEPLOYMENT, Phase.E2E_VALIDATION
PASSED = Outcome(Verdict.PASSED)
DEPLOYED = Outcome(Verdict.PASSED, deployment=DeploymentFacts(f"{STAGING}/", "c" * 40))

At = Callable[..., Task]


def after(seconds: float) -> datetime:
    """Return a moment after NOW."""
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def at(project: Project) -> At:
    """Return a function that queues a task which stands at `phase` of a script-deployed project."""
    project.deploy_command = "/opt/deploy {tree}"
    project.commit_check = "header:X-Commit"
    project.staging_origins = [STAGING]
    project.full_clean(exclude=["target_origin"])
    project.save()

    def call(phase: Phase = DEPLOY, **options: Any) -> Task:
        task = Task.submit(project, "Add a banner", "https://shop.example/", **options)
        Task.objects.filter(pk=task.pk).update(phase=phase, due_at=NOW - timedelta(hours=1))
        return task

    return call


def claim(worker: str = "w", now: datetime = NOW) -> Lease:
    """Claim the best task, which must be there."""
    lease = Task.objects.claim(worker, now)
    assert lease is not None
    return lease


def begin(now: datetime = NOW) -> tuple[Lease, PhaseRun]:
    """Claim the best task and open its try, which must be possible."""
    lease = claim(now=now)
    run = Task.objects.open_run(lease, now)
    assert run is not None
    return lease, run


def test_the_second_task_waits_and_spends_nothing(at: At) -> None:
    first, second = at(), at()
    begin()
    lease = claim()
    assert lease.task_pk == second.pk
    assert Task.objects.open_run(lease, NOW) is None
    second.refresh_from_db()
    assert (second.status, second.phase, second.attempts) == ("queued", DEPLOY, 0)
    assert second.reason == f"Waits for {ADDRESS}, where {first.task_id} is deployed and proven."
    assert second.phase_runs.count() == 0
    assert (second.holder, second.lease_expires_at) == ("", None)
    assert Task.objects.claim("w", NOW) is None  # its slot is free for others meanwhile


def test_it_waits_through_both_phases_and_goes_on_at_once_when_they_are_over(at: At) -> None:
    first, second = at(), at()
    lease, run = begin()
    Task.objects.open_run(claim(), NOW)
    Task.objects.settle(lease, run, DEPLOYED, NOW)
    assert Task.objects.claim("w", after(1)) is None
    run = Task.objects.open_run(lease, after(2))
    Task.objects.settle(lease, run, PASSED, after(3))
    first.refresh_from_db()
    assert first.status == Status.COMPLETED
    taken, run = begin(after(3))
    assert (taken.task_pk, run.attempt) == (second.pk, 1)
    second.refresh_from_db()
    assert second.waits_for == ""


@pytest.mark.parametrize("verdict", [Verdict.REJECTED, Verdict.ERRORED, Verdict.INTERRUPTED])
def test_only_a_task_that_leaves_the_two_phases_lets_the_next_one_in(
    at: At, verdict: Verdict
) -> None:
    first, second = at(), at()
    lease, run = begin()
    Task.objects.open_run(claim(), NOW)
    Task.objects.filter(pk=second.pk).update(rank=0)  # it is asked first from now on
    Task.objects.settle(lease, run, Outcome(verdict, "because"), NOW)
    first.refresh_from_db()
    lets_in = verdict == Verdict.REJECTED  # back to the coder; the others go on with the same
    assert (first.phase == Phase.CODE_IMPLEMENTATION) is lets_in
    later = after(60)
    Task.objects.filter(pk=first.pk).update(due_at=after(3600))
    run = Task.objects.open_run(claim(now=later), later)
    assert (run is not None) is lets_in


def test_the_best_of_those_that_wait_goes_next(at: At) -> None:
    at(priority=10)
    low, high = at(priority=1), at(priority=9)
    lease, run = begin()
    for _ in (low, high):
        assert Task.objects.open_run(claim(), NOW) is None
    Task.objects.settle(lease, run, Outcome(Verdict.REJECTED, "no"), NOW)
    Task.objects.filter(phase=Phase.CODE_IMPLEMENTATION).update(hold=Hold.APPROVAL)
    assert begin()[0].task_pk == high.pk
    assert Task.objects.open_run(claim(), NOW) is None


def test_one_that_waits_looks_again_by_itself(at: At) -> None:
    at()
    second = at()
    begin()
    Task.objects.open_run(claim(), NOW)
    assert not Task.objects.waiting(after(LOOK_AGAIN_S - 1)).exists()
    assert Task.objects.waiting(after(LOOK_AGAIN_S)).get() == second


def test_waiting_again_for_the_same_is_told_once(at: At) -> None:
    at()
    second = at()
    begin()
    for moment in (NOW, after(LOOK_AGAIN_S), after(2 * LOOK_AGAIN_S)):
        Task.objects.filter(status=Status.RUNNING).update(lease_expires_at=after(3600))
        assert Task.objects.open_run(claim(now=moment), moment) is None
    told = Event.objects.filter(task=second, kind="task.waiting")
    assert [event.data["reason"] for event in told] == [Task.objects.get(pk=second.pk).reason]


def test_a_task_that_resumes_keeps_what_it_has(at: At) -> None:
    first = at()
    lease, run = begin()
    Task.objects.settle(lease, run, Outcome(Verdict.INTERRUPTED), NOW)
    assert begin()[0].task_pk == first.pk


def test_a_crashed_holder_keeps_it_until_another_worker_goes_on(at: At) -> None:
    first, second = at(), at()
    begin()
    Task.objects.filter(pk=first.pk).update(lease_expires_at=NOW)
    resumed = claim()  # its lease has run out, so it is first
    assert resumed.task_pk == first.pk
    assert Task.objects.open_run(claim(), NOW) is None
    assert Task.objects.open_run(resumed, NOW) is not None
    assert StagingLease.objects.get().fence == resumed.fence
    assert Task.objects.get(pk=second.pk).waits_for == ADDRESS


def test_a_task_that_was_cancelled_waits_for_nothing_more(at: At) -> None:
    at()
    second = at()
    begin()
    Task.objects.open_run(claim(), NOW)
    Task.objects.get(pk=second.pk).cancel()
    assert Task.objects.get(pk=second.pk).waits_for == ""


def test_a_cancelled_task_keeps_others_out_until_its_command_is_ended(at: At) -> None:
    first, second = at(), at()
    begin()
    first.cancel()
    Task.objects.filter(pk=first.pk).update(completed_at=NOW)  # this test's clock, not ours
    soon = after(CUT_SHORT_S - 1)
    lease = claim(now=soon)
    assert lease.task_pk == second.pk
    assert Task.objects.open_run(lease, soon) is None
    later = after(CUT_SHORT_S + LOOK_AGAIN_S)
    assert Task.objects.open_run(claim(now=later), later) is not None


def test_so_does_one_that_is_retried_from_an_earlier_phase_at_once(at: At) -> None:
    first = at()
    at()
    begin()
    first.cancel()
    first.retry(Phase.CODE_IMPLEMENTATION)
    Task.objects.filter(pk=first.pk).update(hold=Hold.APPROVAL)
    PhaseRun.objects.update(finished_at=NOW)  # this test's clock, not ours
    soon = after(CUT_SHORT_S - 1)
    assert Task.objects.open_run(claim(now=soon), soon) is None
    later = after(CUT_SHORT_S + LOOK_AGAIN_S)
    assert Task.objects.open_run(claim(now=later), later) is not None


def test_other_phases_other_addresses_and_local_copies_do_not_wait(
    at: At, project: Project
) -> None:
    project.staging_origins = [STAGING, "https://other.shop.example"]
    project.save()
    at(staging_url=STAGING)
    begin()
    at(Phase.CODE_IMPLEMENTATION, staging_url=STAGING)
    begin()
    at(staging_url="https://other.shop.example/deep")
    begin()
    Task.objects.all().update(hold=Hold.APPROVAL, status=Status.QUEUED)
    Project.objects.update(deploy_command="")
    at(), at()
    begin(), begin()


def test_a_task_whose_command_chooses_needs_every_address(at: At, project: Project) -> None:
    project.staging_origins = [STAGING, "https://*.preview.example"]
    project.save()
    at(staging_url=STAGING)
    chooser = at()
    lease, run = begin()
    assert Task.objects.open_run(claim(), NOW) is None
    rows = dict(StagingLease.objects.values_list("address", "task_id"))
    assert rows == {ADDRESS: lease.task_pk, "https://*.preview.example:443": None}
    Task.objects.settle(lease, run, Outcome(Verdict.REJECTED, "no"), NOW)
    Task.objects.filter(pk=lease.task_pk).update(hold=Hold.APPROVAL)
    assert begin()[0].task_pk == chooser.pk
    assert set(StagingLease.objects.values_list("task_id", flat=True)) == {chooser.pk}


def test_one_that_may_choose_an_address_and_one_that_asks_for_it_take_turns(
    at: At, project: Project
) -> None:
    project.staging_origins = ["https://*.preview.example"]
    project.save()
    deep, one, asks = (at(staging_url=f"https://{x}.preview.example/") for x in ("x.y", "a", "b"))
    Task.objects.filter(pk=deep.pk).update(hold=Hold.APPROVAL)
    StagingLease.objects.create(address="https://x.y.preview.example:443", task=deep)
    begin()
    begin()  # another label is another address
    chooser = at()
    assert Task.objects.open_run(claim(), NOW) is None
    assert Task.objects.get(pk=chooser.pk).waits_for == "https://a.preview.example:443"
    Task.objects.filter(pk__in=(one.pk, asks.pk)).update(
        status=Status.QUEUED, hold=Hold.APPROVAL, phase=Phase.CODE_IMPLEMENTATION
    )
    assert begin(after(LOOK_AGAIN_S))[0].task_pk == chooser.pk  # x.y is not what `*` stands for
    late = at(staging_url="https://a.preview.example/")
    assert Task.objects.open_run(claim(), NOW) is None
    assert Task.objects.get(pk=late.pk).waits_for == "https://*.preview.example:443"


def test_a_project_that_moves_in_waits_for_the_one_that_is_there(at: At) -> None:
    at()
    begin()
    other = Project.objects.create(
        name="other",
        repository="/nowhere/other.git",
        target_url="https://other.example/",
        serve_command="x",
        deploy_command="/opt/deploy",
        commit_check="header:X-Commit",
        staging_origins=["https://STAGING.shop.example:443/"],
    )
    task = Task.submit(other, "Add a banner", "https://other.example/")
    Task.objects.filter(pk=task.pk).update(phase=VALIDATE, due_at=NOW)
    assert Task.objects.open_run(claim(), NOW) is None


def test_addresses_that_cannot_be_read_are_left_to_the_phase(at: At) -> None:
    at(staging_url="nonsense")
    begin()
    Project.objects.update(staging_origins=["nonsense"])
    at()
    begin()


def test_a_new_deployment_ends_the_row_of_what_was_at_its_address(at: At) -> None:
    first = at()
    second = at()
    for _ in (first, second):
        lease, run = begin()
        Task.objects.settle(lease, run, DEPLOYED, NOW)
        Task.objects.filter(pk=lease.task_pk).update(
            status=Status.COMPLETED, phase="COMPLETE", completed_at=NOW, lease_expires_at=None
        )
    assert Deployment.objects.get(ended_at=None).task == second
    assert Deployment.objects.exclude(ended_at=None).get().task == first


def test_a_copy_that_was_withdrawn_is_over(at: At) -> None:
    at()
    lease, run = begin()
    Task.objects.settle(lease, run, DEPLOYED, NOW)
    run = Task.objects.open_run(lease, NOW)
    Task.objects.settle(lease, run, Outcome(Verdict.REJECTED, "no", is_withdrawn=True), NOW)
    assert not Deployment.objects.filter(ended_at=None).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_first_time", [True, False])
def test_of_many_takers_at_once_one_gets_all_addresses(
    project: Project, is_first_time: bool
) -> None:
    addresses = ["https://a.example:443", "https://b.example:443"]
    tasks = [Task.submit(project, "x", "https://shop.example/") for _ in range(6)]
    Task.objects.update(
        status=Status.RUNNING, phase=DEPLOY, holder="w", lease_expires_at=after(3600), fence=1
    )
    if not is_first_time:  # then they wait for rows that are there, not for new ones
        StagingLease.objects.bulk_create(StagingLease(address=name) for name in addresses)
    start = threading.Barrier(len(tasks))
    won: list[int] = []

    def take(task: Task) -> None:
        start.wait(timeout=10)
        try:
            lease = Lease(task.pk, task.task_id, "w", 1)
            if StagingLease.objects.take(lease, addresses, NOW) is None:
                won.append(task.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(won) == 1
    assert set(StagingLease.objects.values_list("task_id", flat=True)) == set(won)
