"""Where the route leads when the work is good in the end: real sites, real browser."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from tasks.lifecycle import ROUTE, Phase
from tasks.models import Deployment, Project, Task
from tasks.workspace import browser, staging
from tests.acceptance import scripts
from tests.acceptance.conftest import carry_on
from tests.acceptance.journeys import Journey

Work = Callable[..., Task]
CHECKS = ("size", "test", "protected", "disguised", "secrets", "lint", "own tests")
WORDS = ("expected", "where", "actual", "source", "message")
rows = pytest.mark.django_db(transaction=True)


def git(project: Project, *words: str) -> str:
    path = settings.CHIMERA.home / "repositories" / f"{project.name}.git"
    done = subprocess.run(["git", *words], cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_good_work_is_completed_and_live(journey: Journey) -> None:
    task = journey.task
    assert (task.status, task.phase, task.progress) == (
        "completed",
        "COMPLETE",
        "7/7 phases complete",
    ), task.reason
    assert b"Spring sale" in journey.page
    assert (task.review_decision, task.validation_status) == ("approved", "passed")
    assert task.red_reason == (
        "Expected get_by_role(\"status\") to have text 'Spring sale'; instead: no such element."
    )


def test_good_work_passes_each_phase_once(journey: Journey) -> None:
    assert [(run.phase, run.verdict) for run in journey.runs] == [
        (phase, "passed") for phase in ROUTE
    ]


def test_the_branch_holds_the_test_commit_and_then_the_code_commit(journey: Journey) -> None:
    task = journey.task
    assert git(task.project, "log", "--format=%H", task.branch, "--").split() == [
        task.code_sha,
        task.test_sha,
        task.base_sha,
    ]
    changed = git(task.project, "show", "--name-only", "--format=", task.test_sha, "--")
    assert changed == task.test_path
    changed = git(task.project, "show", "--name-only", "--format=", task.code_sha, "--")
    assert changed == "index.html"


def test_a_test_that_failed_before_may_go_on_failing(journey: Journey) -> None:
    baseline = journey.task.checkpoint.baseline
    assert baseline is not None
    assert len(baseline.failed) == 1
    assert journey.task.status == "completed", journey.task.reason


def test_red_and_green_leave_their_evidence(journey: Journey) -> None:
    task = journey.task
    test = git(task.project, "show", f"{task.test_sha}:{task.test_path}") + "\n"
    for phase in (Phase.RED_VERIFICATION, Phase.CODE_IMPLEMENTATION, Phase.E2E_VALIDATION):
        left = [item for item in journey.artifacts if item.phase_run.phase == phase]
        kinds, titles = {item.kind for item in left}, {item.title for item in left}
        assert {"screenshot", "trace", "report", "test", "log"} <= kinds
        assert ("video" in kinds) == browser.has_ffmpeg()
        assert {"junit.xml", "proof.json", task.test_path, "site.log"} <= titles
        tests = [item.file.read_text() for item in left if item.kind == "test"]
        assert tests == [test]
        (log,) = (item.file.read_text() for item in left if item.title == "site.log")
        assert '"GET / HTTP/1.1" 200' in log
    for artifact in journey.artifacts:
        content = artifact.file.read_bytes()
        assert len(content) == artifact.size_bytes
        assert hashlib.sha256(content).hexdigest() == artifact.sha256


def test_each_phase_leaves_what_it_decided_on(journey: Journey) -> None:
    task = journey.task
    facts = {run.phase: run.facts for run in journey.runs}
    told = [
        (Phase.WORKSPACE_PREPARATION, {"base_sha": task.base_sha, "tests": 2, "failed": 1}),
        (
            Phase.E2E_TEST_GENERATION,
            {"test_path": task.test_path, "test_sha": task.test_sha, "assertions": 1},
        ),
        (Phase.RED_VERIFICATION, {"reason": task.red_reason}),
        (
            Phase.CODE_IMPLEMENTATION,
            {"code_sha": task.code_sha, "files": 1, "own_tests": {"ran": 2, "failed": 1}},
        ),
        (
            Phase.GUARDIAN_REVIEW,
            {"decision": "approved", "checks": dict.fromkeys(CHECKS, 0), "reviewer_verdict": ""},
        ),
        (
            Phase.STAGING_DEPLOYMENT,
            {"url": task.deployment_url, "health": {"path": "/", "ok": True}},
        ),
        (Phase.E2E_VALIDATION, {"url": task.deployment_url, "commit_sha": task.code_sha}),
    ]
    for phase, parts in told:
        assert parts.items() <= facts[phase].items()


def test_red_is_told_in_words_and_green_passes(journey: Journey) -> None:
    facts = {run.phase: run.facts for run in journey.runs}
    red = facts[Phase.RED_VERIFICATION]["proof"]
    assert red == {
        "result": "failed",
        "expected": "to have text 'Spring sale'",
        "where": 'get_by_role("status")',
        "actual": "no such element",
        "source": 'expect(page.get_by_role("status")).to_have_text("Spring sale", timeout=1000)',
        "message": "",
        "line": 6,
        "console": [],
        "console_count": 0,
        "failed_requests": [],
        "failed_requests_count": 0,
    }
    for phase in (Phase.CODE_IMPLEMENTATION, Phase.E2E_VALIDATION):
        green = facts[phase]["proof"]
        assert green == {**red, "result": "passed", "line": 0} | dict.fromkeys(WORDS, "")


def test_nothing_is_left_in_the_scratch_folder(journey: Journey) -> None:
    assert journey.task.status == "completed", journey.task.reason
    assert journey.scratch == ()


@rows
def test_feedback_reaches_the_second_round(work_from: Work, play: Path) -> None:
    banner = "<p>Nothing</p><script>console.error('no sale'); fetch('/sale.json')</script>"
    scripts.write(play, {"coder/0/files/index.html": scripts.PAGE.format(banner=banner)})
    scripts.write(play, {"coder/1/files/index.html": scripts.PAGE.format(banner=scripts.BANNER)})
    task = work_from(Phase.CODE_IMPLEMENTATION, max_retries=1)
    assert task.status == "completed", task.reason
    assert task.rounds == 1
    verdicts = list(task.phase_runs.values_list("phase", "verdict"))
    assert verdicts.count(("CODE_IMPLEMENTATION", "rejected")) == 1
    rejected = task.phase_runs.get(verdict="rejected")
    told = {found["rule"]: found["message"] for found in reversed(rejected.findings)}
    assert rejected.findings[0]["rule"] == "e2e-failed"
    assert "no such element" in told["e2e-failed"]
    assert "no sale" in told["console"]
    assert "/sale.json: HTTP 404" in told["request-failed"]
    assert rejected.facts["proof"]["result"] == "failed"
    assert rejected.facts["proof"]["failed_requests_count"] == 1


@rows
def test_a_retried_task_goes_on_where_it_stopped(work: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "nothing"})
    task = work()
    (play / "coder" / "mode.txt").unlink()
    task.retry()
    carry_on(task)
    assert task.status == "completed", task.reason
    generated = task.phase_runs.filter(phase="E2E_TEST_GENERATION")
    assert generated.count() == 1


@rows
def test_validation_deploys_again_when_the_copy_is_gone(work_from: Work) -> None:
    task = work_from(Phase.STAGING_DEPLOYMENT)
    assert task.status == "completed", task.reason
    for row in Deployment.objects.filter(task=task):
        staging.end(row.pid, row.pid_started)
    Task.objects.filter(pk=task.pk).update(
        status="failed", phase="FAILED", stopped_in="E2E_VALIDATION"
    )
    task.refresh_from_db()
    task.retry()
    carry_on(task)
    assert task.status == "completed", task.reason
    live = Deployment.objects.get(task=task, ended_at=None)
    assert live.commit_sha == task.code_sha
    assert task.phase_runs.filter(phase="STAGING_DEPLOYMENT").count() == 1
