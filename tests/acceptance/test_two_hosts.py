"""Two hosts, one PostgreSQL: when one is lost with all it has, the other finishes its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from tasks.lifecycle import ROUTE, Phase, Status
from tasks.models import Deployment, Project, Task
from tests.acceptance import journeys, scripts
from tests.acceptance.engine import wait_for
from tests.acceptance.host import Host

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.only_on("postgresql", "one SQLite file is for one host"),
]
LEASE_S = 4


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Return two hosts that have not begun; nothing of them is left afterwards."""
    options = {"CHIMERA_MAX_WORKERS": "1", "CHIMERA_LEASE_SECONDS": str(LEASE_S)}
    pair = Host("alpha", tmp_path, **options), Host("beta", tmp_path, **options)
    try:
        yield pair
    finally:
        for host in pair:
            host.lose()


def has_ended(task: Task) -> bool:
    task.refresh_from_db()
    return task.status not in {Status.QUEUED, Status.RUNNING}


def test_a_lost_hosts_tasks_are_finished_by_another(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    alpha, beta = hosts
    play = tmp_path / "play"
    scripts.good_author(play)
    scripts.good_coder(play)
    origin = scripts.make_repository(tmp_path / "origin")
    shop: Project = journeys.open_shop("shop", origin, play)
    deployed = Task.submit(shop, "Summer hats", journeys.TARGET_URL)
    alpha.start()
    wait_for(lambda: has_ended(deployed), 90, "the first task")
    assert deployed.status == Status.COMPLETED, deployed.reason

    scripts.write(play, {"coder/mode.txt": "slow 60"})
    interrupted = Task.submit(shop, "Spring sale", journeys.TARGET_URL)
    coding = interrupted.phase_runs.filter(phase=Phase.CODE_IMPLEMENTATION)
    said = "I am told to"
    wait_for(lambda: coding.exists() and said in log_of(alpha, interrupted), 60, "the coder")
    # As if the host had been lost a moment earlier, just before the first task's last phase.
    Task.objects.filter(pk=deployed.pk).update(
        status=Status.QUEUED, phase=Phase.E2E_VALIDATION, completed_at=None, due_at=timezone.now()
    )
    (play / "coder" / "mode.txt").unlink()
    alpha.lose()
    beta.start()
    for task in (deployed, interrupted):
        wait_for(lambda task=task: has_ended(task), 120, beta.log.read_text)
        assert task.status == Status.COMPLETED, task.reason

    phases = list(interrupted.phase_runs.values_list("phase", "verdict"))
    lost = (Phase.CODE_IMPLEMENTATION, "errored")
    passed = [(phase, "passed") for phase in ROUTE]
    assert phases == [*passed[:3], lost, *passed[3:]]
    workers = list(interrupted.phase_runs.values_list("worker", flat=True))
    assert {name.partition(":")[0] for name in workers[:4]} == {"alpha"}
    assert {name.partition(":")[0] for name in workers[4:]} == {"beta"}
    for task in (deployed, interrupted):
        live = Deployment.objects.get(task=task, ended_at=None)
        assert (live.host, live.commit_sha) == ("beta", task.code_sha)


def log_of(host: Host, task: Task) -> str:
    logs = host.home.glob(f"tasks/{task.task_id}/*-code_implementation/log.txt")
    return "".join(path.read_text() for path in logs)
