"""Of a task that was cancelled, ran out of time or lost its worker, no process is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.lifecycle import ROUTE, Status
from tasks.models import PhaseRun, Project, Task
from tests.acceptance.engine import engine, kill, submit, wait_for
from tests.escape import escaped, processes_with

pytestmark = pytest.mark.django_db(transaction=True)
HOUR_S = 3600


def has_ended(task: Task) -> bool:
    task.refresh_from_db()
    return task.status in {Status.COMPLETED, Status.FAILED}


def test_nothing_that_a_task_started_outlives_its_phase_however_that_ends(
    project: Project, tmp_path: Path
) -> None:
    kinds = [(end, mode) for end in ("cancel", "crash", "time-out") for mode in ("auto", "off")]
    folders = {kind: tmp_path / "-".join(kind) for kind in kinds}
    with engine(tmp_path, workers=len(kinds), lease_s=HOUR_S) as cluster:
        cluster.await_workers(len(kinds))
        tasks = {}
        for (end, mode), folder in folders.items():
            folder.mkdir()
            limit_s = 8 if end == "time-out" else HOUR_S
            order = {"runs": str(folder), "sandbox": mode, "limit_s": limit_s}
            tasks[end, mode] = submit(project, **order)
        for kind in kinds[:4]:
            wait_for((folders[kind] / "hangs").exists, 60, f"{kind}")
            assert escaped(folders[kind]) == 3
            assert len(processes_with(str(folders[kind]))) >= 4
            if "cancel" in kind:
                tasks[kind].cancel()
            else:
                kill(int(PhaseRun.objects.get(task=tasks[kind]).worker.split(":")[1]))
        for kind in kinds:
            wait_for(lambda kind=kind: not processes_with(str(folders[kind])), 60, f"{kind}")
        for kind in kinds[2:]:
            wait_for(lambda kind=kind: has_ended(tasks[kind]), 60, f"{kind}")
    for kind in kinds[2:]:  # they went on, in the phase where that happened
        assert escaped(folders[kind]) == 3
        tries = list(tasks[kind].phase_runs.order_by("number").values_list("phase", "verdict"))
        assert tries[-len(ROUTE) :] == [(phase, "passed") for phase in ROUTE]
        assert set(tries[: -len(ROUTE)]) == {(ROUTE[0], "errored")}
