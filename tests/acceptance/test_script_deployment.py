"""Staging by a project's own command: a real script, a real site beside it, a real browser."""

from __future__ import annotations

import http.server
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks.lifecycle import OPEN, Phase
from tasks.models import Deployment, Event, Project, Task
from tasks.workflow import executor
from tasks.workspace import checkout, script
from tests.acceptance import journeys, scripts
from tests.acceptance.journeys import Journey

pytestmark = pytest.mark.django_db(transaction=True)
WorkFrom = Callable[..., Task]
DEPLOY, VALIDATE = Phase.STAGING_DEPLOYMENT, Phase.E2E_VALIDATION

# What a team might have: put the files there, then say which commit they are.
PROGRAM = """\
import os, pathlib, shutil, sys, time
live, calls, tree, base = map(pathlib.Path, sys.argv[1:5])
said = {name: value for name, value in os.environ.items() if name.startswith("CHIMERA_")}
calls.open("a").write(f"begin {said['CHIMERA_TASK_ID']}\\n")
shutil.copy(tree / "index.html", live / "index.html")
LATER
(live / "version.txt").write_text(VERSION)
assert "status" not in (base / "index.html").read_text()
print("built for", said["CHIMERA_PROJECT"], "on", said["CHIMERA_BRANCH"])
print("http://elsewhere.example/help")
print(said["CHIMERA_STAGING_URL"])
calls.open("a").write(f"end {said['CHIMERA_TASK_ID']} {said['CHIMERA_FENCE']}\\n")
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the live folder, and tells the test of each page."""

    staging: Staging

    def __init__(self, *words: Any) -> None:
        super().__init__(*words, directory=str(self.staging.live))

    def do_GET(self) -> None:
        super().do_GET()
        self.staging.on_page(self.path)

    def log_message(self, *words: object) -> None:
        pass


@dataclass
class Staging:
    """A site that a script deploys to, and what was asked of both."""

    folder: Path
    url: str = ""
    on_page: Callable[[str], object] = field(default=lambda path: None)

    @property
    def live(self) -> Path:
        """Return the folder that is served."""
        return self.folder / "live"

    @property
    def calls(self) -> list[str]:
        """Return what the commands noted."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def command(self, *, version: str = 'said["CHIMERA_COMMIT"]', later: str = "") -> str:
        """Write the deploy program and return the command that calls it."""
        program = self.folder / "deploy.py"
        program.write_text(PROGRAM.replace("VERSION", version).replace("LATER", later))
        words = (sys.executable, program, self.live, self.folder / "calls")
        return f"{shlex.join(map(str, words))} {{tree}} {{base}}"


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    """Return a site that serves an old commit, at an address of this machine."""
    made = Staging(tmp_path)
    made.live.mkdir()
    (made.live / "version.txt").write_text("0" * 39 + "a")
    handler = type("StagingHandler", (Handler,), {"staging": made})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        made.url = f"http://staging.localhost:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def by_script(known_shop: Project, staging: Staging) -> Callable[..., None]:
    """Return a function that has the project deployed by this command."""

    def call(command: str, **columns: Any) -> None:
        known_shop.deploy_command = command
        known_shop.commit_check = "path:/version.txt"
        known_shop.staging_origins = [staging.url.rstrip("/")]
        for name, value in columns.items():
            setattr(known_shop, name, value)
        known_shop.full_clean(exclude=["target_origin"])
        known_shop.save()

    return call


def test_the_commit_is_deployed_by_the_command_and_proven_there(
    work_from: WorkFrom, by_script: Callable[..., None], staging: Staging
) -> None:
    by_script(staging.command())
    seen: list[str] = []
    staging.on_page = seen.append
    task = work_from(DEPLOY, staging_url=staging.url)
    assert task.status == "completed", task.reason
    assert (task.deployment_url, task.validation_status) == (staging.url, "passed")
    assert staging.calls == [f"begin {task.task_id}", f"end {task.task_id} {task.fence}"]
    deployed = Deployment.objects.get(task=task, ended_at=None)
    assert (deployed.commit_sha, deployed.host, deployed.pid) == (task.code_sha, "", 0)
    assert seen.index("/version.txt") < seen.index("/") < len(seen) - 1  # asked before and after
    assert seen[-1] == "/version.txt"
    log = task.phase_runs.get(phase=DEPLOY).log_path.read_text()
    assert f"built for {task.project.name} on {task.branch}" in log


def test_what_a_command_leaves_undeletable_changes_no_outcome(
    work_from: WorkFrom, by_script: Callable[..., None], staging: Staging, monkeypatch: Any
) -> None:
    by_script(staging.command())
    remove = checkout.remove

    def refuse(folder: Path) -> None:  # as for files of a container that ran as root
        is_ours = not (folder / "tree").exists()
        remove(folder)
        if not is_ours:
            raise PermissionError(f"{folder} holds files of another user")

    monkeypatch.setattr(checkout, "remove", refuse)
    task = work_from(DEPLOY, staging_url=staging.url)
    assert task.status == "completed", task.reason
    log = task.phase_runs.get(phase=DEPLOY).log_path.read_text()
    assert "cannot be deleted" in log


def test_a_script_that_serves_the_old_commit_is_caught(
    work_from: WorkFrom, by_script: Callable[..., None], staging: Staging, monkeypatch: Any
) -> None:
    monkeypatch.setattr(script, "SETTLE_S", 0.2)
    by_script(staging.command(version='(live / "version.txt").read_text()'))
    task = work_from(DEPLOY)
    assert (task.status, task.stopped_in) == ("failed", DEPLOY)
    assert f"does not run {task.code_sha[:10]}: it says '{'0' * 39}a'" in task.reason
    assert not Deployment.objects.filter(task=task).exists()
    assert task.rounds == 0  # nobody blames the coder


def test_a_site_that_changes_while_the_test_runs_is_not_validated(
    work_from: WorkFrom, by_script: Callable[..., None], staging: Staging
) -> None:
    by_script(staging.command())

    pages: list[str] = []

    def redeploy_by_hand(path: str) -> None:
        pages.append(path)
        if pages.count("/") == 2:  # the first is Chimera's own look at its health
            (staging.live / "version.txt").write_text("f" * 40)

    staging.on_page = redeploy_by_hand
    task = work_from(DEPLOY)
    assert (task.status, task.stopped_in) == ("failed", VALIDATE)
    assert "What the test saw is not known." in task.reason
    assert f"it says '{'f' * 40}'" in task.reason
    assert task.validation_status == ""


def test_a_change_that_fails_on_staging_is_rolled_back_and_sent_back(
    work_from: WorkFrom, by_script: Callable[..., None], staging: Staging
) -> None:
    undo = staging.folder / "undo.sh"
    undo.write_text('#!/bin/sh\necho "undo $CHIMERA_TASK_ID $CHIMERA_STAGING_URL" >> "$1"\n')
    undo.chmod(0o755)
    by_script(
        staging.command(later='(live / "index.html").write_text("<title>Shop</title>Closed.")'),
        rollback_command=shlex.join([str(undo), str(staging.folder / "calls")]),
    )
    task = work_from(DEPLOY)
    assert (task.status, task.stopped_in) == ("failed", VALIDATE)
    assert "The test fails on staging" in task.reason
    assert "The rollback command was run." in task.reason
    assert staging.calls[-1] == f"undo {task.task_id} {staging.url}"
    assert task.validation_status == "failed"
    assert not Deployment.objects.filter(task=task, ended_at=None).exists()


def test_a_site_that_leads_where_the_browser_may_not_go_is_not_the_changes_fault(
    work_from: WorkFrom, by_script: Callable[..., None], staging: Staging, monkeypatch: Any
) -> None:
    plain = Handler.send_head

    def send_away(self: Handler) -> Any:
        if self.path != "/":
            return plain(self)
        self.send_response(302)
        self.send_header("Location", "https://login.example/")
        self.end_headers()
        return None

    monkeypatch.setattr(Handler, "send_head", send_away)
    by_script(staging.command(), rollback_command="/bin/false")
    task = work_from(DEPLOY)
    assert (task.status, task.stopped_in) == ("failed", VALIDATE)
    run = task.phase_runs.get(phase=VALIDATE)
    assert (run.verdict, task.validation_status) == ("errored", "")
    assert f"The test's browser does not get to {staging.url}, though Chimera does" in run.reason
    assert "net::ERR_NAME_NOT_RESOLVED" in run.reason
    assert run.artifacts.filter(kind="test").exists()
    assert "rollback" not in run.reason


def test_a_change_that_the_command_refuses_goes_back_with_what_it_said(
    work_from: WorkFrom, by_script: Callable[..., None]
) -> None:
    by_script("sh -c 'echo the bundle is too big; exit 65'")
    task = work_from(DEPLOY, max_retries=0)
    assert (task.status, task.stopped_in) == ("failed", DEPLOY)
    run = task.phase_runs.get(phase=DEPLOY)
    assert run.verdict == "rejected"
    assert "the bundle is too big" in run.findings[0]["message"]


def test_an_address_that_is_allowed_no_more_is_not_deployed_to(
    work_from: WorkFrom, by_script: Callable[..., None], staging: Staging
) -> None:
    by_script(staging.command())
    task = work_from(DEPLOY, staging_url="http://127.0.0.1:1/", max_retries=3)
    assert (task.status, task.stopped_in) == ("failed", DEPLOY)
    assert "is not at an origin that the project allows" in task.reason
    assert staging.calls == []


@dataclass(frozen=True)
class Change:
    """A second feature, with its commits, made without walking the first phases again."""

    feature: str
    test_sha: str
    code_sha: str


def make_change(task: Task, project: Project, feature: str) -> Change:
    """Commit another feature's test and code into the service's repository."""
    test = scripts.TEST.format(feature=feature, start_path="/")
    page = scripts.PAGE.format(banner=scripts.BANNER.format(feature=feature))
    test_sha = journeys.commit(project, task.base_sha, {task.test_path: test})
    return Change(feature, test_sha, journeys.commit(project, test_sha, {"index.html": page}))


def work_until_all_ended(within_s: float) -> None:
    """Do what a worker process does: claim, run, and again, until no task is open."""
    limit = time.monotonic() + within_s
    try:
        while Task.objects.filter(status__in=OPEN).exists() and time.monotonic() < limit:
            lease = Task.objects.claim(f"test:{threading.get_ident()}:1", timezone.now())
            if lease is None:
                time.sleep(0.05)
            else:
                executor.run(lease, lambda: False)
    finally:
        connection.close()


def test_two_tasks_for_one_address_never_validate_each_others_code(
    settings: Any,
    known_shop: Project,
    journey: Journey,
    by_script: Callable[..., None],
    staging: Staging,
) -> None:
    settings.CHIMERA = replace(settings.CHIMERA, lease_s=600)  # nobody renews it here
    # Slow, and told apart late: for two seconds the site is neither the one nor the other.
    by_script(staging.command(later="time.sleep(2)"))
    other = make_change(journey.task, known_shop, "Summer hats")
    start = {"phase": DEPLOY, "max_retries": 0, **journey.columns_at(DEPLOY)}
    first = Task.submit(known_shop, journeys.FEATURE, journeys.TARGET_URL)
    Task.objects.filter(pk=first.pk).update(**start)
    second = Task.submit(known_shop, other.feature, journeys.TARGET_URL)
    commits = {"test_sha": other.test_sha, "code_sha": other.code_sha}
    Task.objects.filter(pk=second.pk).update(**{**start, **commits})
    workers = [threading.Thread(target=work_until_all_ended, args=(90,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    spans = []
    for task in (first, second):
        task.refresh_from_db()
        assert task.status == "completed", task.reason
        runs = list(task.phase_runs.all())
        assert [(run.phase, run.verdict) for run in runs] == [
            (DEPLOY, "passed"),
            (VALIDATE, "passed"),
        ]
        spans.append((runs[0].started_at, runs[1].finished_at))
        assert Deployment.objects.get(task=task).commit_sha == task.code_sha
    if spans[0] > spans[1]:  # either may have been the faster
        first, second, spans = second, first, spans[::-1]
    (_, earlier_end), (later_start, _) = spans
    assert earlier_end <= later_start
    assert staging.calls == [
        line
        for task in (first, second)
        for line in (f"begin {task.task_id}", f"end {task.task_id} {task.fence}")
    ]
    waited = Event.objects.get(kind="task.waiting")
    assert (waited.task_id, first.task_id in waited.data["reason"]) == (second.pk, True)
    assert second.feature in (staging.live / "index.html").read_text()
    assert Deployment.objects.get(ended_at=None).task == second
