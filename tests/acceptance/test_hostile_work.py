"""Work that tries to get past the checks, or to stop the machinery: what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.utils import timezone

from tasks.lifecycle import Phase
from tasks.models import Project, Task
from tasks.workflow import executor
from tests.acceptance import journeys, scripts
from tests.acceptance.journeys import Journey

pytestmark = pytest.mark.django_db(transaction=True)
WorkFrom = Callable[..., Task]
Review = Callable[[dict[str, str]], Task]
KEY = "AKIAABCDEFGHIJKLMNOP"
GOOD_PAGE = scripts.PAGE.format(banner=scripts.BANNER)


def rules(task: Task, phase: str) -> set[str]:
    run = task.phase_runs.filter(phase=phase).latest("number")
    return {finding["rule"] for finding in run.findings}


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        (
            {"tool.py": "import subprocess\nsubprocess.call(input(), shell=True)  # noqa\n"},
            "ruff:S602",
        ),
        ({"tool.py": "# ruff: noqa\nimport os\nos.system(input())\n"}, "ruff:S605"),
        ({"a.js": f"\0let key = '{KEY}'\n"}, "secret"),
        ({"a.js": "\0 nothing\n"}, "binary-text"),
        ({"a.js": "\0" + "x\n" * 3000}, "too-large"),
        ({"a.svg": "x" * 2_000_000, "z.js": f"let key = '{KEY}'\n"}, "too-large"),
        ({"tool.py": "eval(x);" * 60_000}, "too-large"),
    ],
    ids=["noqa", "file noqa", "NUL secret", "NUL", "NUL lines", "endless line", "endless Python"],
)
def test_the_guardian_is_not_passed_by_clever_writing(
    review: Review, files: dict[str, str], rule: str
) -> None:
    task = review(files)
    assert (task.phase, task.stopped_in) == ("FAILED", "GUARDIAN_REVIEW"), task.reason
    assert rule in rules(task, "GUARDIAN_REVIEW")


def test_a_change_too_long_for_the_reviewer_is_not_approved(
    review: Review, known_shop: Project, play: Path
) -> None:
    known_shop.reviewer = f"scripted:{play}"
    known_shop.save()
    scripts.write(play, {"reviewer/answer.txt": '{"verdict": "approve"}'})
    task = review({"a.svg": "x" * 250_000})
    assert task.stopped_in == "GUARDIAN_REVIEW"
    assert "too-large" in rules(task, "GUARDIAN_REVIEW")


@pytest.mark.parametrize(
    "path", ["tests/conftest.py", "deep/er/conftest.py", "pytest.py", "tox.ini"]
)
def test_the_configuration_of_tests_may_not_be_changed(
    work_from: WorkFrom, play: Path, path: str
) -> None:
    scripts.write(play, {f"coder/files/{path}": "collect_ignore_glob = ['*']\n"})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert task.stopped_in == "CODE_IMPLEMENTATION"
    assert f"{path} may not be changed" in task.reason


def test_the_bases_tests_judge_the_code_whatever_became_of_them(
    work_from: WorkFrom, play: Path
) -> None:
    broken = GOOD_PAGE.replace("<h1>Shop</h1>", "<h1>Store</h1>")
    tamed = "def test_the_shop_has_a_name():\n    assert 1 == 1\n"
    scripts.write(play, {"coder/files/index.html": broken, "coder/files/tests/test_shop.py": tamed})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert task.stopped_in == "CODE_IMPLEMENTATION"
    assert "test_the_shop_has_a_name passed before" in task.reason


def test_own_tests_that_hang_are_the_changes_fault(
    work_from: WorkFrom, known_shop: Project, play: Path
) -> None:
    known_shop.time_limits = {"CODE_IMPLEMENTATION": 12}
    known_shop.save()
    hang = "import time\n\n\ndef test_that_hangs():\n    time.sleep(600)\n"
    scripts.write(play, {"coder/files/tests/test_more.py": hang})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert task.stopped_in == "CODE_IMPLEMENTATION", task.reason
    assert "did not end within" in task.reason


def test_text_that_no_database_takes_reaches_the_row_in_words(
    work_from: WorkFrom, play: Path
) -> None:
    scripts.good_author(
        play,
        "def test_it(page, base_url):\n"
        "    page.goto(base_url + '/')\n"
        "    assert page.url == 'x', 'it\\ud800 is\\0 here'\n",
    )
    task = work_from(Phase.E2E_TEST_GENERATION)
    assert "is" in task.red_reason, task.reason
    assert "\0" not in task.red_reason
    assert task.phase_runs.filter(phase="RED_VERIFICATION", verdict="passed").exists()


def test_a_workspace_full_of_files_is_sent_back(
    work_from: WorkFrom, known_shop: Project, play: Path
) -> None:
    agent = play / "fill.py"
    agent.write_text(
        "import pathlib\nfor number in range(20_100):\n    pathlib.Path(f'file{number}').touch()\n"
    )
    known_shop.coder = f"command:python {agent}"
    known_shop.save()
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert task.stopped_in == "CODE_IMPLEMENTATION"
    assert "more than 20000 files" in task.reason


@pytest.mark.parametrize(
    ("command", "phase"),
    [
        ({"install_command": "sleep 60"}, Phase.WORKSPACE_PREPARATION),
        ({"serve_command": "sleep 60"}, Phase.RED_VERIFICATION),
        ({"serve_command": "sleep 60"}, Phase.STAGING_DEPLOYMENT),
    ],
    ids=["install", "site", "staging"],
)
def test_a_shutdown_in_the_middle_spends_nothing(
    journey: Journey, known_shop: Project, command: dict[str, str], phase: Phase
) -> None:
    task = hand_out(journey, known_shop, phase, command, limit_s=60, stop_after_s=1.5)
    assert (task.status, task.phase) == ("queued", phase), task.reason
    assert (task.rounds, task.attempts) == (0, 0)
    assert task.phase_runs.latest("number").verdict == "interrupted"


@pytest.mark.parametrize(
    "command",
    [{"install_command": "sleep 60"}, {"serve_command": "sleep 60", "test_command": ""}],
    ids=["install", "site"],
)
def test_running_out_of_time_is_an_error_and_no_bad_work(
    journey: Journey, known_shop: Project, command: dict[str, str]
) -> None:
    phase = Phase.WORKSPACE_PREPARATION
    task = hand_out(journey, known_shop, phase, command, limit_s=5, stop_after_s=60)
    assert (task.status, task.phase, task.rounds) == ("queued", phase, 0), task.reason
    assert "did not end within 5 s" in task.reason


def hand_out(
    journey: Journey,
    project: Project,
    phase: Phase,
    changes: dict[str, str],
    *,
    limit_s: int,
    stop_after_s: float,
    max_retries: int = 3,
) -> Task:
    """Work on a task that stands at `phase`, with a stop after some seconds."""
    Project.objects.filter(pk=project.pk).update(time_limits={phase.value: limit_s}, **changes)
    stop = threading.Event()
    timer = threading.Timer(stop_after_s, stop.set)
    timer.start()
    began = time.monotonic()
    try:
        task = Task.submit(project, journeys.FEATURE, journeys.TARGET_URL)
        start = {"phase": phase, **journey.columns_at(phase)}
        Task.objects.filter(pk=task.pk).update(max_retries=max_retries, **start)
        lease = Task.objects.claim("test:1:1", timezone.now())
        assert lease is not None
        executor.run(lease, stop.is_set)
    finally:
        timer.cancel()
        timer.join()
    assert time.monotonic() - began < 50, "the command's own end was waited for"
    task.refresh_from_db()
    return task


def test_a_site_that_drips_its_headers_does_not_hold_the_worker(
    journey: Journey, known_shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.workspace.site.HEALTH_TIMEOUT_S", 2.0)
    drip = (
        "import socket, sys, time\n"
        "server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "while True:\n"
        "    line, _ = server.accept()\n"
        "    try:\n"
        "        while True:\n"
        "            line.send(b'H'); time.sleep(0.2)\n"
        "    except OSError:\n"
        "        pass\n"
    )
    command = {"serve_command": f'python -c "{drip}" {{port}}'}
    task = hand_out(
        journey,
        known_shop,
        Phase.STAGING_DEPLOYMENT,
        command,
        limit_s=60,
        stop_after_s=60,
        max_retries=0,
    )
    assert task.stopped_in == "STAGING_DEPLOYMENT"
    assert "did not come up" in task.reason
