"""Agents that hang, crash, flood or overreach; requests that try to be commands; lost commits."""

from __future__ import annotations

import base64
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from tasks.lifecycle import Phase
from tasks.models import Project, Task
from tests.acceptance import scripts
from tests.acceptance.engine import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
Work = Callable[..., Task]

HANGING = """\
import signal
import subprocess
import sys
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "parent":
    argv = [sys.executable, __file__, "child"]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
print(sys.argv[1], "hangs", flush=True)
time.sleep(3600)
"""

REPEATING = """\
import base64
import json
import pathlib
import sys

brief = json.loads(pathlib.Path(sys.argv[1]).read_text())
heard = {brief["prompt"], sys.stdin.read(), sys.argv[2]}
print("heard", *(base64.b64encode(text.encode()).decode() for text in heard))
if brief["role"] == "author":
    path = pathlib.Path(brief["test_path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "def test_it(page, base_url):\\n"
        "    page.goto(base_url)\\n"
        "    assert page.locator('h2').count() == 1\\n"
    )
elif brief["role"] == "coder":
    page = pathlib.Path("index.html")
    page.write_text(page.read_text().replace("</h1>", "</h1><h2>Sale</h2>"))
else:
    print('{"verdict": "approve", "findings": []}')
"""


def write_program(path: Path, text: str) -> str:
    """Write an agent's program; return how a project names it."""
    path.write_text(text)
    return f"command:{shlex.join([sys.executable, str(path)])}"


def log_of(task: Task, phase: Phase) -> str:
    return task.phase_runs.get(phase=phase).log_path.read_text()


def test_an_agent_that_hangs_is_ended_with_all_it_started_and_the_phase_tried_again(
    work_from: Work, known_shop: Project, tmp_path: Path
) -> None:
    program = tmp_path / "hanging.py"
    known_shop.coder = write_program(program, HANGING) + " parent"
    known_shop.time_limits = {"CODE_IMPLEMENTATION": 3}
    known_shop.save()
    task = work_from(Phase.CODE_IMPLEMENTATION, max_retries=1)
    assert (task.status, task.phase, task.attempts) == ("queued", "CODE_IMPLEMENTATION", 1)
    assert "time limit" in task.reason
    assert "parent hangs" in log_of(task, Phase.CODE_IMPLEMENTATION)  # so the child did too
    wait_for(lambda: not processes_with(str(program)), 5, "no process of the agent left")


def processes_with(word: str) -> list[psutil.Process]:
    """Return the processes of this machine, in sandboxes too, that have `word` as an argument."""
    listed = psutil.process_iter(["cmdline"])
    return [process for process in listed if word in (process.info["cmdline"] or ())]


def test_an_agent_that_crashes_is_an_error_of_the_machinery(work_from: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "crash"})
    task = work_from(Phase.CODE_IMPLEMENTATION, max_retries=1)
    assert (task.status, task.phase) == ("queued", "CODE_IMPLEMENTATION")
    assert task.phase_runs.get(verdict="errored").phase == "CODE_IMPLEMENTATION"


def test_a_flooding_agent_does_not_stop_the_line(work_from: Work, play: Path) -> None:
    scripts.write(play, {"coder/mode.txt": "flood"})
    task = work_from(Phase.CODE_IMPLEMENTATION)
    assert task.status == "completed", task.reason
    run = task.phase_runs.get(phase="CODE_IMPLEMENTATION")
    assert run.log_path.stat().st_size < 65 * 1024 * 1024


def test_a_reviewer_can_write_nothing(work_from: Work, known_shop: Project, play: Path) -> None:
    known_shop.reviewer = f"scripted:{play}"
    known_shop.save()
    approval = '{"verdict": "approve", "findings": []}'
    scripts.write(play, {"reviewer/files/index.html": "mine", "reviewer/answer.txt": approval})
    task = work_from(Phase.GUARDIAN_REVIEW, max_retries=1)
    assert (task.status, task.phase) == ("queued", "GUARDIAN_REVIEW")
    assert "Read-only file system: 'index.html'" in task.reason
    assert task.review_decision == ""


def test_a_request_that_looks_like_a_command_reaches_every_agent_as_it_was_written(
    work_from: Work, known_shop: Project, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    feature = (
        f"--amend; touch {trap} && $(touch {trap}) `touch {trap}` | \"double\" 'single' \\ \n"
        "second line: {feature} {test_path} {0} {{diff}} {prompt} %s ${HOME} <b>&amp;</b> é\n"
        "-----\n#!/bin/sh"
    )
    agent = write_program(tmp_path / "repeating.py", REPEATING) + " {brief_file} {prompt}"
    known_shop.author = known_shop.coder = known_shop.reviewer = agent
    known_shop.save()
    task = work_from(Phase.E2E_TEST_GENERATION, feature)
    assert task.status == "completed", task.reason
    assert task.feature == feature
    for phase in (Phase.E2E_TEST_GENERATION, Phase.CODE_IMPLEMENTATION, Phase.GUARDIAN_REVIEW):
        (line,) = [line for line in log_of(task, phase).splitlines() if line.startswith("heard")]
        (prompt,) = line.split()[1:]  # in the brief, on standard input and as an argument alike
        assert f"-----\n{feature}\n-----\n" in base64.b64decode(prompt).decode()
    subject = " ".join(feature.split())
    assert subject_of(task, task.code_sha) == subject[:72]
    assert subject_of(task, task.test_sha) == f"Test: {subject}"[:72]
    assert not trap.exists()


def subject_of(task: Task, sha: str) -> str:
    """Return the first line of a commit's message, byte for byte."""
    path = settings.CHIMERA.home / "repositories" / f"{task.project.name}.git"
    argv = ["git", "cat-file", "commit", sha]
    done = subprocess.run(argv, cwd=path, check=True, capture_output=True, text=True)
    return done.stdout.partition("\n\n")[2].partition("\n")[0]


def test_a_program_that_cannot_be_started_is_paused_after_five_tries(
    work_from: Work, known_shop: Project
) -> None:
    known_shop.author = "command:/nowhere/agent"
    known_shop.save()
    tasks = [work_from(Phase.E2E_TEST_GENERATION) for _ in range(6)]
    assert [task.status for task in tasks] == ["failed"] * 4 + ["queued"] * 2
    for task in tasks[4:]:
        assert (task.hold, task.attempts) == ("agent", 0)
        assert "The agent command:/nowhere/agent is paused until" in task.reason
    assert [task.phase_runs.count() for task in tasks] == [1, 1, 1, 1, 1, 0]


def test_a_task_whose_commits_are_gone_fails_alone_and_the_next_clones_anew(
    work_from: Work, known_shop: Project, play: Path
) -> None:
    place = settings.CHIMERA.home / "repositories" / f"{known_shop.name}.git"
    scripts.write(play, {"author/mode.txt": "nothing"})
    place.rename(place.with_name("aside"))
    try:
        lost = work_from(Phase.CODE_IMPLEMENTATION)
        fresh = work_from(Phase.WORKSPACE_PREPARATION)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        place.with_name("aside").rename(place)
    assert (lost.status, lost.stopped_in) == ("failed", "CODE_IMPLEMENTATION")
    assert f"has not got {lost.test_sha[:10]}" in lost.reason
    assert fresh.stopped_in == "E2E_TEST_GENERATION"  # where its agent does nothing
