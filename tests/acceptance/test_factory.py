"""The whole factory at work: real cluster, real phases, real browser, all asked for by HTTP."""

from __future__ import annotations

import contextlib
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tasks.agents.playbooks import recognition
from tasks.lifecycle import ROUTE, Phase
from tests.acceptance import by_hand
from tests.acceptance.engine import wait_for
from tests.acceptance.factory import DEMO, DEMO_SERVE, SLOTS, Factory, Run, Sample, alive
from tests.acceptance.test_demo import processes_of

# One for each playbook, and two for the scripted agent; the last one has the highest priority.
DEMO_FEATURES = (
    "User login and logout",
    "Add a search box",
    "Contact form with validation",
    "Newsletter sign-up",
    "Cookie notice that stays dismissed",
    "Back-to-top button",
    "FAQ accordion reachable by keyboard",
    "could we have a night theme?",
)
SCRIPTED_FEATURES = ("Summer hats", "Spring sale")
FEATURES = (*DEMO_FEATURES, *SCRIPTED_FEATURES)
URGENT = FEATURES[-1]
BEFORE_CODING = list(ROUTE[:3])
CODING = "CODE_IMPLEMENTATION"


@dataclass(frozen=True)
class Ten:
    """Ten tasks that were submitted at once, and what the API said until all had ended."""

    features: dict[str, str]  # by task id
    samples: list[Sample]
    runs: list[Run]
    before: list[Run]  # of five more, which took all slots until the ten were there

    @property
    def ends(self) -> list[dict[str, object]]:
        """Return the tasks as they stood at last."""
        return list(self.samples[-1].tasks.values())


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """Return a factory that has been started once; nothing of it is left afterwards."""
    made = Factory(tmp_path_factory.mktemp("factory"))
    try:
        made.open()
        yield made
    finally:
        made.end()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not processes_of(made.home), 5)
        left = processes_of(made.home)
        for process in left:
            process.kill()
        assert left == []


@pytest.fixture
def factory(opened: Factory) -> Factory:
    """Return the factory, running."""
    opened.start()
    return opened


@pytest.fixture(scope="module")
def ten(opened: Factory) -> Ten:
    """Submit ten tasks while all five slots are taken, free the slots, and watch them all end."""
    opened.start()
    before = [opened.submit(f"In the way {number}") for number in range(SLOTS)]
    # Running is not enough: a task that is cancelled before its first try leaves no span.
    wait_for(lambda: len({run.task_id for run in opened.runs(*before)}) == SLOTS, 60)
    features = {}
    for number, feature in enumerate(FEATURES):
        project = DEMO if feature in SCRIPTED_FEATURES else "demo"
        features[opened.submit(feature, project, priority=number + 1)] = feature
    for each in before:
        assert opened.daemon.ask(f"/api/tasks/{each}/cancel", {})[0] == 200
    samples = opened.watch(features, within_s=400)
    return Ten(features, samples, opened.runs(*features), opened.runs(*before))


def test_ten_tasks_at_once_all_complete(ten: Ten) -> None:
    for task in ten.ends:
        said = (task["status"], task["phase"], task["progress"])
        assert said == ("completed", "COMPLETE", "7/7 phases complete"), task["reason"]
    assert [run.verdict for run in ten.runs] == ["passed"] * 7 * len(FEATURES)


def test_there_is_one_of_them_for_each_playbook() -> None:
    playbooks = recognition.load_all()
    found = [recognition.recognise(feature, playbooks) for feature in DEMO_FEATURES]
    assert sorted(each.name for each in found if each) == [each.name for each in playbooks]


def test_the_most_urgent_is_among_the_first_five_to_start_though_it_came_last(ten: Ten) -> None:
    first_phase = [run for run in ten.runs if run.phase == ROUTE[0]]
    started = [ten.features[run.task_id] for run in sorted(first_phase, key=_started_at)]
    assert URGENT in started[:SLOTS]


def test_never_more_than_five_of_them_ran_at_once_and_five_did(ten: Ten) -> None:
    seen = [
        sum(task["status"] == "running" for task in sample.tasks.values()) for sample in ten.samples
    ]
    assert max(seen) == SLOTS
    claims: dict[tuple[str, int], list[Run]] = {}
    for run in (*ten.before, *ten.runs):
        claims.setdefault((run.task_id, run.fence), []).append(run)
    spans = [(runs[0].started_at, runs[-1].finished_at) for runs in claims.values()]
    assert len(spans) == SLOTS + len(FEATURES)  # nobody's task was taken away
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) == SLOTS


def test_the_api_shows_true_phases_and_progress_that_only_grows(ten: Ten) -> None:
    for task_id in ten.features:
        shown = [sample.tasks[task_id] for sample in ten.samples]
        progress = [task["progress"] for task in shown]
        assert all(a <= b for a, b in pairwise(progress))
        between = {task["phase"] for task in shown} - {ROUTE[0], "COMPLETE"}
        assert len(between) >= 3  # others may have been too quick to be seen
    for sample in ten.samples:
        for task_id, task in sample.tasks.items():
            if task["status"] == "running":
                finished = ROUTE.index(Phase(task["phase"]))
                assert task["progress"] == f"{finished}/7 phases complete"
                runs = [run for run in ten.runs if run.task_id == task_id]
                assert all(run.finished_at <= sample.answered_at for run in runs[:finished])
                # A try's end is timed before it is written, and busy machines write late.
                assert runs[finished].finished_at > sample.asked_at - 2


def test_each_staging_site_shows_its_own_change_and_no_other(ten: Ten, factory: Factory) -> None:
    added = {ten.features[str(task["task_id"])]: lines_added(factory, task) for task in ten.ends}
    for task in ten.ends:
        for path in ("/", "/books/"):
            served = stripped(page_of(task, path))
            shown = [
                feature
                for feature, lines in added.items()
                if served & lines.difference(*(added[other] for other in added if other != feature))
            ]
            assert shown == [ten.features[str(task["task_id"])]]


def test_by_hand_the_test_fails_before_the_change_and_passes_after(
    ten: Ten, factory: Factory, tmp_path: Path
) -> None:
    (task,) = [task for task in ten.ends if task["feature"] == DEMO_FEATURES[-1]]
    task = factory.task(str(task["task_id"]))
    clone = tmp_path / "clone"
    bare = factory.home / "repositories" / "demo.git"
    by_hand.git(tmp_path, "clone", "-q", "--branch", task["branch"], "--", str(bare), str(clone))
    by_hand.git(clone, "checkout", "-q", "--detach", task["test_sha"])
    before = by_hand.run_test(clone, DEMO_SERVE, task["result"]["test_path"], tmp_path)
    assert before.returncode == 1, before.stdout
    assert "AssertionError: there is a button for dark mode" in before.stdout
    assert "1 failed" in before.stdout
    by_hand.git(clone, "checkout", "-q", "--detach", task["code_sha"])
    after = by_hand.run_test(clone, DEMO_SERVE, task["result"]["test_path"], tmp_path)
    assert after.returncode == 0, after.stdout
    assert "1 passed" in after.stdout


def test_a_task_whose_worker_is_killed_goes_on_at_the_same_phase(factory: Factory) -> None:
    with factory.coder("slow 60"):
        task_id = factory.submit("Killed in the middle")
        worker, family = factory.await_agent(task_id)
        worker.kill()
    killed_at = time.time()
    wait_for(lambda: not alive([worker, *family]), 5, "the agent's end")
    task = factory.await_end(task_id, 60)
    assert task["status"] == "completed", task["reason"]
    runs = factory.runs(task_id)
    assert [run.phase for run in runs] == [*BEFORE_CODING, CODING, *ROUTE[3:]]
    killed, again = runs[3:5]
    assert [run.verdict for run in runs if run != killed] == ["passed"] * 7
    assert killed.verdict == "errored"
    assert "vanished" in killed.reason
    assert again.fence == killed.fence + 1
    assert again.worker != killed.worker
    scratch = factory.home / "scratch"
    wait_for(lambda: list(scratch.iterdir()) == [], 5, "no folder of the killed try")
    # The lease of 30 s had at least 25 s to go: the pid was missed, not the heartbeat.
    assert again.started_at - killed_at < 15


def test_a_cancelled_task_ends_its_agent_and_changes_nothing_more(factory: Factory) -> None:
    with factory.coder("hang"):
        task_id = factory.submit("Cancelled in the middle")
        worker, family = factory.await_agent(task_id)
        branch = factory.git("rev-parse", f"refs/heads/chimera/{task_id}")
        code, said = factory.daemon.ask(f"/api/tasks/{task_id}/cancel", {})
        assert (code, said["status"], said["stopped_in"]) == (200, "cancelled", CODING)
        wait_for(lambda: not alive(family), 5, "the agent's end")
    # The worker itself lives on, and has taken note before it lets go.
    wait_for(lambda: (worker.pid, None) in [(w["pid"], w["task"]) for w in factory.workers()], 10)
    task = factory.task(task_id)
    assert (task["status"], task["code_sha"], task["test_sha"]) == ("cancelled", "", branch)
    assert factory.git("rev-parse", f"refs/heads/chimera/{task_id}") == branch
    assert [run.verdict for run in factory.runs(task_id)] == ["passed"] * 3 + ["interrupted"]
    deployed = "SELECT d.id FROM tasks_deployment d JOIN tasks_task t ON t.id = d.task_id "
    assert factory.rows(deployed + "WHERE t.task_id = ?", task_id) == []


def test_sigterm_puts_a_task_back_and_staged_sites_live_on(ten: Ten, factory: Factory) -> None:
    with factory.coder("slow 60"):
        task_id = factory.submit("Stopped in the middle")
        worker, family = factory.await_agent(task_id)
        assert factory.terminate(within_s=30) == 0
        assert alive([worker, *family]) == []
    state = "SELECT status, phase, attempts, crashes FROM tasks_task WHERE task_id = ?"
    assert factory.rows(state, task_id) == [("queued", CODING, 0, 0)]
    (interrupted,) = factory.runs(task_id)[3:]
    assert interrupted.verdict == "interrupted"
    assert len({page_of(task) for task in ten.ends}) == len(FEATURES)
    factory.start()
    task = factory.await_end(task_id, 60)
    assert task["status"] == "completed", task["reason"]
    runs = factory.runs(task_id)
    assert [run.phase for run in runs] == [*BEFORE_CODING, CODING, *ROUTE[3:]]
    assert runs[4].attempt == 1
    assert "Stopped in the middle" in page_of(task)
    assert len({page_of(task) for task in ten.ends}) == len(FEATURES)
    ended = "SELECT url FROM tasks_deployment WHERE ended_at IS NOT NULL"
    assert factory.rows(ended) == []


def test_health_tells_of_workers_of_their_loss_and_of_their_return(factory: Factory) -> None:
    code, said = factory.daemon.ask("/health")
    assert (code, said["status"], len(said["workers"])) == (200, "healthy", SLOTS)
    assert factory.supervisor is not None
    supervisor = psutil.Process(factory.supervisor.pid)
    cluster = wait_for(lambda: factory.daemon.program(factory.supervisor, "qcluster"), 5)
    family = [cluster, *cluster.children(recursive=True)]
    supervisor.suspend()  # else it would begin another
    try:
        cluster.kill()
        wait_for(lambda: not alive(family), 5, "the cluster's end")
        factory.let_silence_pass(30)
        code, said = factory.daemon.ask("/health")
        assert (code, said["status"], said["workers"]) == (503, "unhealthy", [])
        assert "No worker has been heard from" in said["reason"]
    finally:
        supervisor.resume()
    wait_for(lambda: factory.daemon.ask("/health")[0] == 200, 20, "another cluster")


def test_a_browser_that_cannot_paint_is_told_by_health_and_by_the_task(factory: Factory) -> None:
    assert factory.terminate(within_s=30) == 0
    useless = shutil.which("true")
    assert useless
    factory.start(CHIMERA_CHROMIUM=useless)
    try:
        wait_for(lambda: "reason" in (factory.daemon.health() or {}), 20, "the probe's trouble")
        code, said = factory.daemon.ask("/health")
        assert (code, said["status"]) == (503, "unhealthy")
        assert f"The browser {useless} could not make a screenshot" in said["reason"]
        task_id = factory.submit("Never seen")
        said_so = f"The browser {useless}"
        task = wait_for(lambda: said_so in (seen := factory.task(task_id))["reason"] and seen, 30)
        assert (task["progress"], task["rounds"]) == ("2/7 phases complete", 0)  # nobody's fault
        factory.daemon.ask(f"/api/tasks/{task_id}/cancel", {})  # it would be tried again
    finally:
        factory.terminate(within_s=30)


def page_of(task: dict[str, object], path: str = "/") -> str:
    """Fetch a page that a task's staged site serves."""
    result = task["result"]
    assert isinstance(result, dict)
    port = urlsplit(result["deployment_url"]).port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def lines_added(factory: Factory, task: dict[str, object]) -> set[str]:
    """Return the lines of the site's templates that it has only since the task's change."""
    before, after = (
        stripped(factory.git("grep", "-h", "", sha, "--", "*.html", project=str(task["project"])))
        for sha in (str(task["test_sha"]), str(task["code_sha"]))
    )
    return after - before


def stripped(text: str) -> set[str]:
    """Return the lines of a text without what surrounds them."""
    return {line.strip() for line in text.splitlines()} - {""}


def _started_at(run: Run) -> float:
    return run.started_at
