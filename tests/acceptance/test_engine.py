"""The engine as real processes on a real database; only the phases are recorded."""

from __future__ import annotations

import signal
from datetime import datetime
from pathlib import Path

import pytest
from django.conf import settings
from django.core import signing
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from tasks.lifecycle import ROUTE, Phase, Status, Verdict
from tasks.models import PhaseRun, Project, Task, Worker
from tasks.workflow.broker import new_nudge
from tests.acceptance.engine import Engine, engine, kill, submit, wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.on_both]


HOUR_S = 3600


def in_phase(task: Task, phase: Phase) -> PhaseRun | None:
    """Return the open try of the task at `phase`."""
    return PhaseRun.objects.filter(task=task, phase=phase, verdict="").first()


def is_completed(task: Task) -> bool:
    """Say whether the task is through."""
    task.refresh_from_db()
    assert task.status != Status.FAILED, task.reason
    return task.status == Status.COMPLETED


def most_at_once(runs: list[tuple[datetime, datetime]]) -> int:
    """Return how many of these spans overlap at most."""
    edges = sorted([(end, -1) for _, end in runs] + [(start, 1) for start, _ in runs])
    now = most = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def test_all_tasks_are_run_and_never_more_at_once_than_workers(
    project: Project, tmp_path: Path
) -> None:
    tasks = [submit(project, phase_s=0.05) for _ in range(6)]
    store_messages([new_nudge()] * 10)
    with engine(tmp_path, workers=2):
        for task in tasks:
            wait_for(lambda task=task: is_completed(task), 30, task.task_id)
        wait_for(lambda: not OrmQ.objects.exists(), 60, "all nudges taken")
    for task in tasks:
        assert list(task.phase_runs.values_list("phase", flat=True)) == list(ROUTE)
        assert task.fence == 1
    spans = [(task.started_at, task.completed_at) for task in tasks]
    assert most_at_once(spans) == 2
    seen = {run.facts["frozen"] > 10_000 for task in tasks for run in task.phase_runs.all()}
    assert seen == {True}, "the collector writes to what the processes of a cluster share"


def test_a_task_starts_within_a_second_of_its_submission(project: Project, tmp_path: Path) -> None:
    with engine(tmp_path, workers=2) as cluster:
        cluster.await_workers(2)
        task = submit(project)
        wait_for(lambda: is_completed(task), 60)
    assert (task.started_at - task.created_at).total_seconds() < 1


def test_a_killed_busy_worker_loses_its_task_to_another_at_the_same_phase(
    project: Project, tmp_path: Path
) -> None:
    task = submit(project, for_ever_in=Phase.CODE_IMPLEMENTATION)
    with engine(tmp_path, workers=2, lease_s=HOUR_S) as cluster:  # so the lease has no part in it
        cluster.await_workers(2)
        first = wait_for(lambda: in_phase(task, Phase.CODE_IMPLEMENTATION), 60)
        kill(int(first.worker.split(":")[1]))
        second = wait_for(
            lambda: PhaseRun.objects.filter(task=task, number=first.number + 1).first(), 60
        )
    assert second.phase == Phase.CODE_IMPLEMENTATION
    assert second.worker != first.worker
    assert second.fence == first.fence + 1
    first.refresh_from_db()
    assert first.verdict == Verdict.ERRORED
    assert task.phase_runs.filter(phase=Phase.WORKSPACE_PREPARATION).count() == 1


def test_a_worker_may_die_at_any_moment_of_any_phase_and_poison_ends(
    project: Project, tmp_path: Path
) -> None:
    tasks = {}
    for moment in ("start", "middle", "before commit", "after commit"):
        notes = tmp_path / moment
        notes.mkdir()
        tasks[moment] = submit(project, dies=moment, notes=str(notes))
    poison = submit(project, is_poison=True)
    with engine(tmp_path, workers=5, lease_s=HOUR_S):
        for moment, task in tasks.items():
            wait_for(lambda task=task: is_completed(task), 120, moment)
        wait_for(lambda: Task.objects.filter(pk=poison.pk, status=Status.FAILED).exists(), 120)
    for moment, task in tasks.items():
        tries = list(task.phase_runs.order_by("number").values_list("phase", "verdict"))
        passed = [(phase, Verdict.PASSED) for phase in ROUTE]
        # The transaction that ends one try begins the next; after the last there is none.
        begun = ROUTE[1:] if moment == "after commit" else ROUTE
        died = [(phase, Verdict.ERRORED) for phase in begun]
        assert sorted(tries) == sorted(passed + died), moment
        assert [phase for phase, verdict in tries if verdict == Verdict.PASSED] == list(ROUTE)
        assert task.fence == 1 + len(died), moment  # every death costs one claim
    poison.refresh_from_db()
    assert (poison.stopped_in, poison.crashes) == (ROUTE[0], 3)
    assert "died 3 times" in poison.reason


def test_a_hosts_trouble_is_told_by_all_its_workers(db: None, tmp_path: Path) -> None:
    trouble = "There is no browser here."  # what the recorded probe finds
    with engine(tmp_path, workers=2) as cluster:
        cluster.await_workers(2)
        wait_for(lambda: Worker.objects.filter(trouble=trouble).count() == 2, 60)


def test_a_cancelled_task_lets_go_of_its_worker(project: Project, tmp_path: Path) -> None:
    stuck = submit(project, for_ever_in=Phase.WORKSPACE_PREPARATION)
    with engine(tmp_path, workers=1) as cluster:
        cluster.await_workers(1)
        wait_for(lambda: in_phase(stuck, Phase.WORKSPACE_PREPARATION), 60)
        stuck.cancel()
        task = submit(project)
        wait_for(lambda: is_completed(task), 60)
    stuck.refresh_from_db()
    assert stuck.status == Status.CANCELLED


def test_nothing_outlives_a_killed_main_process(project: Project, tmp_path: Path) -> None:
    task = submit(project, for_ever_in=Phase.WORKSPACE_PREPARATION)
    with engine(tmp_path, workers=2) as cluster:
        cluster.await_workers(2)
        wait_for(lambda: in_phase(task, Phase.WORKSPACE_PREPARATION), 60)
        cluster.remember()
        assert len(cluster.family) == 6  # main, sentinel, two workers, monitor, pusher
        kill(cluster.main.pid)
        wait_for(lambda: not cluster.survivors(), 60, "no process left")
    left = list((settings.CHIMERA.home / "tmp").glob("stub-*"))
    assert left, "temporary files of killed workers lie in the home, where tidying finds them"


def test_a_killed_sentinel_ends_the_cluster_with_an_error(project: Project, tmp_path: Path) -> None:
    task = submit(project, for_ever_in=Phase.WORKSPACE_PREPARATION)
    with engine(tmp_path, workers=2) as cluster:
        cluster.await_workers(2)
        wait_for(lambda: in_phase(task, Phase.WORKSPACE_PREPARATION), 60)
        cluster.remember()
        kill(cluster.sentinel.pid)
        assert cluster.await_code(60) == 1
        wait_for(lambda: not cluster.survivors(), 60, "no process left")


def test_sigterm_puts_running_tasks_back_and_spends_nothing(
    project: Project, tmp_path: Path
) -> None:
    running = submit(project, for_ever_in=Phase.E2E_TEST_GENERATION)
    with engine(tmp_path, workers=1) as cluster:
        cluster.await_workers(1)
        waiting = submit(project)
        wait_for(lambda: in_phase(running, Phase.E2E_TEST_GENERATION), 60)
        cluster.remember()
        cluster.main.send_signal(signal.SIGTERM)
        assert cluster.await_code(30) == 0
        assert cluster.survivors() == []
    running.refresh_from_db()
    waiting.refresh_from_db()
    assert (running.status, running.phase) == (Status.QUEUED, Phase.E2E_TEST_GENERATION)
    assert (running.attempts, running.crashes) == (0, 0)
    assert waiting.started_at is None
    assert Worker.objects.count() == 0


def test_a_second_sigterm_ends_a_phase_that_does_not_listen(
    project: Project, tmp_path: Path
) -> None:
    task = submit(project, for_ever_in=Phase.WORKSPACE_PREPARATION, is_deaf=True)
    with engine(tmp_path, workers=1) as cluster:
        cluster.await_workers(1)
        wait_for(lambda: in_phase(task, Phase.WORKSPACE_PREPARATION), 60)
        cluster.remember()
        cluster.main.send_signal(signal.SIGTERM)
        wait_for(lambda: Worker.objects.filter(is_draining=True).exists(), 60)
        assert cluster.main.poll() is None
        cluster.main.send_signal(signal.SIGTERM)
        assert cluster.await_code(25) == 1  # the first signal alone would leave it 27 s
        wait_for(lambda: not cluster.survivors(), 60, "no process left")


def test_work_goes_on_or_the_cluster_ends_when_idle_workers_are_killed(
    project: Project, tmp_path: Path
) -> None:
    with engine(tmp_path, workers=2) as cluster:
        for row in cluster.await_workers(2):
            kill(row.pid)
        task = submit(project)
        wait_for(lambda: is_completed(task) or cluster.main.poll() is not None, 60)
        if task.status != Status.COMPLETED:  # the queue was locked: a supervisor starts another
            assert cluster.main.poll() == 1


def test_work_goes_on_or_the_cluster_ends_when_pusher_and_monitor_are_killed(
    project: Project, tmp_path: Path
) -> None:
    with engine(tmp_path, workers=1) as cluster:
        (row,) = cluster.await_workers(1)
        for process in cluster.sentinel.children():
            if process.pid != row.pid:
                kill(process.pid)
        task = submit(project)
        wait_for(lambda: is_completed(task) or cluster.main.poll() is not None, 60)
        if task.status != Status.COMPLETED:
            assert cluster.main.poll() == 1


def test_a_guard_that_hangs_and_replaces_nobody_is_noticed(
    project: Project, tmp_path: Path
) -> None:
    with engine(tmp_path, workers=1) as cluster:
        (row,) = cluster.await_workers(1)
        cluster.suspend_sentinel()
        kill(row.pid)
        task = submit(project)
        assert cluster.await_code(60) == 1
        wait_for(lambda: not cluster.survivors(), 60, "no process left")
    task.refresh_from_db()
    assert task.status == Status.QUEUED


def test_a_live_workers_lease_is_renewed(project: Project, tmp_path: Path) -> None:
    task = submit(project, for_ever_in=Phase.WORKSPACE_PREPARATION)
    with engine(tmp_path, workers=2, lease_s=5) as cluster:
        cluster.await_workers(2)
        run = wait_for(lambda: in_phase(task, Phase.WORKSPACE_PREPARATION), 60)

        def renewals() -> bool:
            task.refresh_from_db()
            return (task.lease_expires_at - run.started_at).total_seconds() > 7  # twice

        wait_for(renewals, 60)
    task.refresh_from_db()
    assert task.fence == 1


def test_a_frozen_worker_loses_its_task_and_can_write_nothing(
    project: Project, tmp_path: Path
) -> None:
    task = submit(project, for_ever_in=Phase.RED_VERIFICATION)
    with engine(tmp_path, workers=2, lease_s=4) as cluster:
        cluster.await_workers(2)
        first = wait_for(lambda: in_phase(task, Phase.RED_VERIFICATION), 60)
        pid = int(first.worker.split(":")[1])
        freeze(cluster, pid, signal.SIGSTOP)
        second = wait_for(
            lambda: PhaseRun.objects.filter(task=task, fence=first.fence + 1).first(), 60
        )
        freeze(cluster, pid, signal.SIGCONT)
        wait_for(lambda: Worker.objects.filter(pid=pid, task=None).exists(), 60)
    assert second.worker != first.worker
    task.refresh_from_db()
    assert task.holder == second.worker
    first.refresh_from_db()
    assert first.verdict == Verdict.ERRORED


def test_messages_that_nobody_can_do_keep_no_task_waiting(project: Project, tmp_path: Path) -> None:
    elsewhere = {**SignedPackage.loads(new_nudge()), "func": "tasks.gone.away"}
    signed = {"salt": Conf.PREFIX, "serializer": Raw}
    messages = [
        "rubbish",
        signing.dumps(b"", key="another key", **signed),
        signing.dumps(b"ctasks.gone\nAway\n.", **signed),  # a pickled class that is gone
        SignedPackage.dumps(elsewhere),
    ]
    store_messages(messages * 2)
    with engine(tmp_path, workers=1):
        wait_for(lambda: not OrmQ.objects.filter(lock__lte=timezone.now()).exists(), 60)
        task = submit(project)
        wait_for(lambda: is_completed(task), 60)
    assert task.fence == 1


def store_messages(messages: list[str]) -> None:
    """Put messages into the stored queue of django-q2, beside those that the broker makes."""
    OrmQ.objects.bulk_create(
        OrmQ(key=Conf.CLUSTER_NAME, payload=each, lock=timezone.now()) for each in messages
    )


class Raw:
    """Signs bytes as they are."""

    def dumps(self, data: bytes) -> bytes:
        return data


def freeze(cluster: Engine, pid: int, number: signal.Signals) -> None:
    """Stop or continue one worker of the cluster."""
    (process,) = [process for process in cluster.family if process.pid == pid]
    process.send_signal(number)
