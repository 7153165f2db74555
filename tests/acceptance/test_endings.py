"""Where the route leads when the work is good, and when it is not: real sites, real browser."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from tasks.lifecycle import Phase
from tasks.models import Project, Task
from tests.acceptance import scripts
from tests.acceptance.conftest import carry_on

pytestmark = pytest.mark.django_db(transaction=True)
Work = Callable[..., Task]


def git(project: Project, *words: str) -> str:
    path = settings.CHIMERA.home / "repositories" / f"{project.name}.git"
    done = subprocess.run(["git", *words], cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def ended(task: Task) -> tuple[str, str]:
    return task.phase, task.stopped_in


def test_good_work_is_completed_and_live(work: Work) -> None:
    task = work("Spring sale")
    assert (task.status, task.phase, task.progress) == (
        "completed",
        "COMPLETE",
        "7/7 phases complete",
    ), task.reason
    port = urlsplit(task.deployment_url).port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        assert b"Spring sale" in answer.read()
    assert (task.review_decision, task.validation_status) == ("approved", "passed")
    assert "Spring sale" in task.red_reason or "status" in task.red_reason


def test_the_branch_holds_the_test_commit_and_then_the_code_commit(work: Work) -> None:
    task = work()
    assert git(task.project, "log", "--format=%H", task.branch, "--").split() == [
        task.code_sha,
        task.test_sha,
        task.base_sha,
    ]
    changed = git(task.project, "show", "--name-only", "--format=", task.test_sha, "--")
    assert changed == task.test_path
    changed = git(task.project, "show", "--name-only", "--format=", task.code_sha, "--")
    assert changed == "index.html"


def test_a_test_that_failed_before_may_go_on_failing(work: Work) -> None:
    task = work()
    assert task.checkpoint.baseline is not None
    assert len(task.checkpoint.baseline.failed) == 1
    assert task.status == "completed", task.reason


def test_red_and_green_leave_their_evidence(work: Work) -> None:
    task = work()
    for phase in (Phase.RED_VERIFICATION, Phase.CODE_IMPLEMENTATION, Phase.E2E_VALIDATION):
        kinds = set(task.artifacts.filter(phase_run__phase=phase).values_list("kind", flat=True))
        assert {"screenshot", "trace", "report"} <= kinds
    for artifact in task.artifacts.all():
        assert artifact.file.stat().st_size == artifact.size_bytes


def test_feedback_reaches_the_second_round(work: Work, play: Path) -> None:
    scripts.write(play, {"coder/0/files/index.html": scripts.PAGE.format(banner="<p>Nothing</p>")})
    scripts.write(play, {"coder/1/files/index.html": scripts.PAGE.format(banner=scripts.BANNER)})
    task = work(max_retries=1)
    assert task.status == "completed", task.reason
    assert task.rounds == 1
    verdicts = list(task.phase_runs.values_list("phase", "verdict"))
    assert verdicts.count(("CODE_IMPLEMENTATION", "rejected")) == 1
    rejected = task.phase_runs.get(verdict="rejected")
    assert rejected.findings[0]["rule"] == "e2e-failed"


def test_an_author_who_does_nothing_fails_in_generation(work: Work, play: Path) -> None:
    scripts.write(play, {"author/mode.txt": "nothing"})
    task = work()
    assert ended(task) == ("FAILED", "E2E_TEST_GENERATION")
    assert "No test was written" in task.reason


def test_a_coder_who_does_nothing_fails_in_implementation(work: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "lie"})
    task = work()
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "Nothing was changed" in task.reason


def test_a_test_that_passes_already_is_not_red(work: Work, play: Path) -> None:
    scripts.good_author(
        play,
        "def test_it(page, base_url):\n"
        "    page.goto(base_url + '/')\n"
        "    assert page.inner_text('h1') == 'Shop'\n",
    )
    task = work()
    assert ended(task) == ("FAILED", "RED_VERIFICATION")
    assert "passes before the change" in task.reason


@pytest.mark.parametrize(
    ("test", "stopped_in", "said"),
    [
        ("def test_it(page)\n    assert 1\n", "E2E_TEST_GENERATION", "not valid Python"),
        ("def test_it(page):\n    page.goto('/')\n", "E2E_TEST_GENERATION", "no assertion"),
        ("import nothing_such\nassert 1 == 1\n", "E2E_TEST_GENERATION", "nothing_such"),
        ("def helper():\n    assert 1 == 1\n", "E2E_TEST_GENERATION", "finds no test"),
        (
            "def test_it(page, base_url):\n    page.goto(base_url)\n    assert undefined == 1\n",
            "RED_VERIFICATION",
            "NameError",
        ),
        (
            "def test_it(page):\n    page.goto('http://127.0.0.1:8081/')\n    assert 1 == 2\n",
            "RED_VERIFICATION",
            "ERR_CONNECTION_REFUSED",
        ),
    ],
    ids=["syntax", "no assertion", "import", "no test", "undefined name", "dead site"],
)
def test_a_broken_test_is_not_red(
    work: Work, play: Path, test: str, stopped_in: str, said: str
) -> None:
    scripts.good_author(play, test)
    task = work()
    assert ended(task) == ("FAILED", stopped_in)
    assert said in task.reason


def test_an_author_may_write_nothing_but_the_test(work: Work, play: Path) -> None:
    scripts.write(play, {"author/files/index.html": "<h1>Shop</h1>", "author/files/x.py": "x = 1"})
    task = work()
    assert ended(task) == ("FAILED", "E2E_TEST_GENERATION")
    assert "index.html" in task.reason


@pytest.mark.parametrize("path", ["@test_path@", "conftest.py", "tests/e2e/conftest.py"])
def test_a_coder_who_edits_the_test_is_refused(work: Work, play: Path, path: str) -> None:
    scripts.write(play, {f"coder/files/{path}": "def test_it():\n    assert 1 == 1\n"})
    task = work()
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "may not be changed" in task.reason


def test_a_coder_who_breaks_an_existing_test_is_refused(work: Work, play: Path) -> None:
    page = scripts.PAGE.replace("<h1>Shop</h1>", "<h1>Store</h1>").format(banner=scripts.BANNER)
    scripts.write(play, {"coder/files/index.html": page})
    task = work()
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "test_the_shop_has_a_name passed before" in task.reason


def test_a_coder_who_deletes_an_existing_test_is_refused(work: Work, play: Path) -> None:
    scripts.write(play, {"coder/delete.txt": "tests/test_shop.py\n"})
    task = work()
    assert ended(task) == ("FAILED", "CODE_IMPLEMENTATION")
    assert "ran before the change and not now" in task.reason


def test_the_guardian_finds_a_secret_and_an_injection(work: Work, play: Path) -> None:
    code = (
        'import os\n\nTOKEN = "AKIAABCDEFGHIJKLMNOP"\n\n\n'
        'def go(name):\n    os.system("ls " + name)\n'
    )
    scripts.write(play, {"coder/files/tool.py": code})
    task = work()
    assert ended(task) == ("FAILED", "GUARDIAN_REVIEW")
    run = task.phase_runs.get(phase="GUARDIAN_REVIEW")
    rules = {(finding["rule"], finding["file"], finding["line"]) for finding in run.findings}
    assert {("secret", "tool.py", 3), ("ruff:S605", "tool.py", 7)} <= rules
    assert task.deployment_url == ""


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ('Fine. {"verdict": "approve", "findings": []}', "completed", "passes at http"),
        (
            '{"verdict": "reject", "findings": [{"file": "index.html", "line": 3, '
            '"rule": "a11y", "message": "no landmark"}]}',
            "failed",
            "no landmark",
        ),
        ("Looks good to me!", "queued", "no verdict"),
        ('{"verdict": "maybe"}', "queued", "no verdict"),
        ('{"verdict": "approve", "findings": [{"message": "but"}]}', "failed", "but"),
    ],
)
def test_only_a_clear_approval_deploys(
    work: Work, shop: Project, play: Path, answer: str, status: str, said: str
) -> None:
    shop.reviewer = f"scripted:{play}"
    shop.save()
    scripts.write(play, {"reviewer/answer.txt": answer})
    task = work(max_retries=1 if status == "queued" else 0)
    assert (task.status, said in task.reason) == (status, True), task.reason
    assert (task.deployment_url != "") == (status == "completed")


def test_a_reviewer_who_keeps_talking_nonsense_fails_the_task(
    work: Work, shop: Project, play: Path
) -> None:
    shop.reviewer = f"scripted:{play}"
    shop.save()
    scripts.write(play, {"reviewer/answer.txt": "Hm."})
    task = work(max_retries=1)
    carry_on(task)
    assert ended(task) == ("FAILED", "GUARDIAN_REVIEW")
    assert task.deployment_url == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"repository": "/nowhere/at/all"}, "Check the project's repository"),
        ({"branch": "develop"}, "there is: main"),
        ({"serve_command": "python -c 'print(7*6); raise SystemExit(4)'"}, "ended with code 4"),
        ({"serve_command": "no-such-program {port}"}, "no-such-program"),
        ({"health_path": "/health"}, "/health answered 404"),
        ({"install_command": "python -c 'raise SystemExit(5)'"}, "ended with code 5"),
    ],
    ids=["no repository", "no branch", "site ends", "no program", "not healthy", "install"],
)
def test_a_broken_base_fails_at_once_and_says_how(
    work: Work, shop: Project, change: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.workspace.site.HEALTH_TIMEOUT_S", 2.0)
    Project.objects.filter(pk=shop.pk).update(**change)
    shop.refresh_from_db()
    task = work(max_retries=3)
    assert ended(task) == ("FAILED", "WORKSPACE_PREPARATION")
    assert said in task.reason


def test_a_folder_that_is_not_git_fails_with_gits_words(
    work: Work, shop: Project, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    shop.repository = str(tmp_path / "plain")
    shop.save()
    task = work()
    assert ended(task) == ("FAILED", "WORKSPACE_PREPARATION")
    assert "repository" in task.reason


def test_a_repository_without_a_commit_says_so(work: Work, shop: Project, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "empty")], check=True)
    shop.repository = str(tmp_path / "empty")
    shop.save()
    assert "no commit" in work().reason


def test_an_agent_that_hangs_is_ended_and_the_phase_tried_again(
    work: Work, shop: Project, play: Path
) -> None:
    shop.time_limits = {"CODE_IMPLEMENTATION": 2}
    shop.save()
    scripts.write(play, {"coder/mode.txt": "hang"})
    task = work(max_retries=1)
    assert (task.status, task.phase, task.attempts) == ("queued", "CODE_IMPLEMENTATION", 1)
    assert "time limit" in task.reason


def test_an_agent_that_crashes_is_an_error_of_the_machinery(work: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "crash"})
    task = work(max_retries=1)
    assert (task.status, task.phase) == ("queued", "CODE_IMPLEMENTATION")
    assert task.phase_runs.get(verdict="errored").phase == "CODE_IMPLEMENTATION"


def test_a_flooding_agent_does_not_stop_the_line(work: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "flood"})
    task = work()
    assert task.status == "completed", task.reason
    run = task.phase_runs.get(phase="CODE_IMPLEMENTATION")
    assert run.log_path.stat().st_size < 65 * 1024 * 1024


def test_a_retried_task_goes_on_where_it_stopped(work: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "nothing"})
    task = work()
    (play / "coder" / "mode.txt").unlink()
    task.retry()
    carry_on(task)
    assert task.status == "completed", task.reason
    generated = task.phase_runs.filter(phase="E2E_TEST_GENERATION")
    assert generated.count() == 1


def test_validation_deploys_again_when_the_copy_is_gone(work: Work, play: Path) -> None:
    from tasks.models import Deployment
    from tasks.workspace import staging

    task = work()
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


def test_nothing_is_left_in_the_scratch_folder(work: Work) -> None:
    work()
    assert list((settings.CHIMERA.home / "scratch").iterdir()) == []
