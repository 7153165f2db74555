"""PostgreSQL crashes, or is away for a while, and nothing is lost or done twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tasks.lifecycle import ROUTE, Phase, Status, Verdict
from tasks.models import Event, PhaseRun, Project, Task
from tests.acceptance.engine import engine, submit, wait_for
from tests.database import outage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_on("postgresql", "SQLite has no server that could be away"),
]

OUTAGE_S = float(os.environ.get("CHIMERA_TEST_OUTAGE_S", "2.5"))  # less than a lease, 30 s


def is_completed(task: Task) -> bool:
    """Say whether the task is through."""
    task.refresh_from_db()
    assert task.status != Status.FAILED, task.reason
    return task.status == Status.COMPLETED


def await_phase(task: Task, phase: Phase) -> None:
    """Wait until the task is in a phase, or beyond it."""
    wait_for(lambda: PhaseRun.objects.filter(task=task, phase=phase).exists(), 20, phase)


def history(task: Task) -> list[tuple[str, str, int]]:
    """Return each try of the task: phase, verdict and fence."""
    return list(task.phase_runs.order_by("number").values_list("phase", "verdict", "fence"))


ONCE = [(phase, Verdict.PASSED, 1) for phase in ROUTE]


def test_crashes_and_an_outage_lose_nothing_and_repeat_nothing(
    project: Project, tmp_path: Path
) -> None:
    with engine(tmp_path, workers=2) as cluster:
        cluster.await_workers(2)
        tasks = [submit(project, phase_s=0.4) for _ in range(3)]
        await_phase(tasks[0], Phase.E2E_TEST_GENERATION)
        with outage():
            pass  # it is there again at once
        await_phase(tasks[0], Phase.CODE_IMPLEMENTATION)
        with outage():
            time.sleep(OUTAGE_S)  # phases end meanwhile, and their workers have to wait
        tasks.append(submit(project, phase_s=0.05))
        for task in tasks:
            wait_for(lambda task=task: is_completed(task), 60, task.task_id)
        assert cluster.main.poll() is None
    assert [history(task) for task in tasks] == [ONCE] * 4
    kinds = Event.objects.filter(task=tasks[0]).order_by("seq").values_list("kind", flat=True)
    phases = ["phase.started", "phase.passed"] * len(ROUTE)
    assert list(kinds) == ["task.queued", *phases, "task.completed"]


def test_a_lease_that_runs_out_in_an_outage_ends_its_work_and_spends_nothing(
    project: Project, tmp_path: Path
) -> None:
    task = submit(project, for_ever_in=Phase.RED_VERIFICATION)
    with engine(tmp_path, workers=2, lease_s=3) as cluster:
        cluster.await_workers(2)
        await_phase(task, Phase.RED_VERIFICATION)
        with outage():
            time.sleep(5)
        again = wait_for(lambda: PhaseRun.objects.filter(task=task, fence=2).first(), 60)
    assert (again.phase, again.attempt) == (Phase.RED_VERIFICATION, 1)
    first = PhaseRun.objects.get(task=task, phase=Phase.RED_VERIFICATION, fence=1)
    assert first.verdict == Verdict.INTERRUPTED
    task.refresh_from_db()
    assert task.crashes == 0
