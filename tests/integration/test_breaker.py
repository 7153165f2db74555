"""An agent whose starts all fail is paused, and its tasks wait: rows only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tasks.lifecycle import Hold, Phase, Status, Verdict
from tasks.models import Breaker, Event, Lease, PhaseRun, Project, Task
from tasks.models import breaker as breaker_module
from tasks.models.breaker import FAILURES, LONGEST_PAUSE_S, PAUSE_S, pause_s
from tasks.outcome import AgentStart, Outcome

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.get_default_timezone())
CODE = Phase.CODE_IMPLEMENTATION
CODER = "command:./coder"
FAILED = Outcome(Verdict.ERRORED, "It broke.", agent=AgentStart(CODER, "No such file: ./coder"))
WORKED = Outcome(Verdict.PASSED, agent=AgentStart(CODER))

At = Callable[..., Task]


def after(seconds: float) -> datetime:
    """Return a moment after NOW."""
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def at(project: Project) -> At:
    """Return a function that queues a task at `phase` of a project whose coder is CODER."""
    Project.objects.filter(pk=project.pk).update(coder=CODER)
    project.refresh_from_db()

    def call(phase: Phase = CODE, priority: int = 5) -> Task:
        task = Task.submit(project, "Add a banner", "https://shop.example/", priority=priority)
        Task.objects.filter(pk=task.pk).update(phase=phase, due_at=NOW - timedelta(hours=1))
        return task

    return call


def begin(now: datetime = NOW) -> tuple[Lease, PhaseRun | None]:
    """Claim the best task, which must be there, and open its try if that is possible."""
    lease = Task.objects.claim("w", now)
    assert lease is not None
    return lease, Task.objects.open_run(lease, now)


def go_through(outcome: Outcome, now: datetime = NOW) -> Task:
    """Claim the best task and settle its try."""
    lease, run = begin(now)
    assert run is not None
    return Task.objects.settle(lease, run, outcome, now)


def pause(at: At, now: datetime = NOW) -> list[Task]:
    """Have five starts of CODER fail; four of the tasks are due again in a year, the last waits."""
    tasks = []
    for _ in range(FAILURES):
        at(priority=10)
        tasks.append(go_through(FAILED, now))
        Task.objects.filter(pk=tasks[-1].pk, hold=Hold.NONE).update(
            due_at=now + timedelta(days=365)
        )
    return tasks


def breaker() -> Breaker:
    """Return the only one."""
    return Breaker.objects.get()


def test_four_failures_in_a_row_change_nothing(at: At) -> None:
    for _ in range(FAILURES - 1):
        at()
        assert go_through(FAILED).hold == Hold.NONE
        Task.objects.update(due_at=after(9999))
    assert (breaker().failures, breaker().paused_until) == (4, None)


def test_the_fifth_failure_in_a_row_pauses_the_agent_and_spends_nothing(at: At) -> None:
    *_, last = pause(at)
    assert breaker().paused_until == after(PAUSE_S)
    assert (last.status, last.hold, last.attempts) == ("queued", Hold.AGENT, 0)
    assert "command:./coder is paused until 2030-01-01 12:05 UTC" in last.reason
    assert "No such file" in last.reason
    run = last.phase_runs.get()
    assert (run.verdict, run.reason) == (Verdict.ERRORED, "It broke.")
    assert Event.objects.filter(kind="agent.paused").count() == 1


def test_a_start_that_works_in_between_begins_the_count_anew(at: At) -> None:
    for outcome in [FAILED] * 4 + [WORKED] + [FAILED] * 4:
        at(priority=10)
        go_through(outcome)
        Task.objects.update(due_at=after(9999))
    assert breaker().paused_until is None


@pytest.mark.parametrize("verdict", [Verdict.REJECTED, Verdict.INTERRUPTED, Verdict.ERRORED])
def test_only_starts_that_fail_count(at: At, verdict: Verdict) -> None:
    for agent in (None, AgentStart(CODER)):
        for _ in range(FAILURES):
            at(priority=10)
            go_through(Outcome(verdict, "because", agent=agent))
            Task.objects.update(due_at=after(9999))
    assert not Breaker.objects.exists()


def test_tasks_of_a_paused_agent_wait_with_nothing_spent(at: At) -> None:
    pause(at)
    task = at()
    assert begin()[1] is None
    task.refresh_from_db()
    assert (task.status, task.hold, task.attempts) == ("queued", Hold.AGENT, 0)
    assert (task.holder, task.lease_expires_at) == ("", None)
    assert task.phase_runs.count() == 0
    assert Task.objects.claim("w", NOW) is None  # its slot is free for others
    told = Event.objects.get(task=task, kind="task.waiting")
    assert told.data["reason"] == task.reason


@pytest.mark.parametrize("phase", [Phase.RED_VERIFICATION, Phase.E2E_TEST_GENERATION])
def test_other_agents_and_phases_without_one_are_untouched(at: At, phase: Phase) -> None:
    pause(at)
    at(phase)
    assert begin()[1] is not None


def test_a_failure_that_cannot_heal_still_fails_its_task(at: At) -> None:
    pause(at)
    Breaker.objects.update(paused_until=NOW)
    at()
    hopeless = Outcome(Verdict.ERRORED, "no", permanent=True, agent=AgentStart(CODER, "no"))
    assert go_through(hopeless).status == Status.FAILED


def test_after_the_pause_one_task_tries_and_its_success_lets_all_go_on(at: At) -> None:
    held = pause(at)[-1]
    second, third = at(priority=9), at()
    for _ in (second, third):
        begin()
    Breaker.objects.release_due(after(PAUSE_S - 1))
    assert Task.objects.filter(hold=Hold.AGENT).count() == 3
    Breaker.objects.release_due(after(PAUSE_S))
    Breaker.objects.release_due(after(PAUSE_S))
    assert Task.objects.filter(hold=Hold.AGENT).count() == 2
    lease, run = begin(after(PAUSE_S))
    assert run is not None
    assert lease.task_pk == second.pk  # not the one that failed last, though its rank is better
    Task.objects.settle(lease, run, WORKED, after(PAUSE_S))
    assert not Task.objects.filter(hold=Hold.AGENT).exists()
    assert breaker().paused_until is None
    held.refresh_from_db()
    third.refresh_from_db()
    assert (held.reason, third.reason) == ("", "")
    assert Event.objects.filter(kind="agent.resumed").count() == 1
    Task.objects.filter(pk=lease.task_pk).update(phase=Phase.RED_VERIFICATION)
    assert begin(after(PAUSE_S))[1] is not None


def test_a_trial_that_fails_doubles_the_pause_and_spends_nothing(at: At) -> None:
    pause(at)
    task = at()
    begin()
    now = NOW
    for number in range(2, 8):
        now = breaker().paused_until or now
        Breaker.objects.release_due(now)
        tried = go_through(FAILED, now)
        assert (tried.status, tried.hold, tried.attempts) == ("queued", Hold.AGENT, 0)
        assert breaker().paused_until == now + timedelta(seconds=pause_s(number))
    assert pause_s(7) == LONGEST_PAUSE_S
    task.refresh_from_db()
    assert task.status == Status.QUEUED


def test_trials_take_turns(at: At) -> None:
    pause(at)
    Task.objects.filter(hold=Hold.AGENT).update(hold=Hold.APPROVAL)
    first, second = at(priority=9), at()
    begin()
    begin()
    tried = []
    for _ in range(4):
        now = breaker().paused_until
        assert now is not None
        Breaker.objects.release_due(now)
        tried.append(go_through(FAILED, now).pk)
    assert tried == [first.pk, second.pk] * 2


def test_a_task_that_comes_by_after_the_pause_may_be_the_trial(at: At) -> None:
    pause(at)
    first, second = at(priority=9), at()
    later = after(PAUSE_S)
    lease, run = begin(later)
    assert (lease.task_pk, run is None) == (first.pk, False)
    lease, run = begin(later)
    assert (lease.task_pk, run is None) == (second.pk, True)


def test_of_two_that_would_try_one_does(at: At) -> None:
    pause(at)
    first, second = at(), at()
    seen_by_one, seen_by_other = breaker(), breaker()
    assert seen_by_one.try_with(first) is True
    assert seen_by_other.try_with(second) is False
    assert breaker().trial == first


def test_a_trial_is_not_let_go_by_one_who_still_sees_the_pause(at: At) -> None:
    pause(at)
    seen = breaker()
    Breaker.objects.note(AgentStart(CODER), at(), NOW)
    task = at()
    Task.objects.filter(pk=task.pk).update(hold=Hold.AGENT, paused_agent=seen)
    assert seen.release_trial() is False
    assert breaker().trial is None


def test_a_start_from_before_the_pause_does_not_prolong_it(at: At) -> None:
    at(priority=1)
    lease, run = begin()
    assert run is not None
    pause(at)
    until = breaker().paused_until
    late = Task.objects.settle(lease, run, FAILED, after(200))
    assert (late.hold, late.attempts) == (Hold.AGENT, 0)
    assert (breaker().paused_until, breaker().pauses) == (until, 1)


def test_a_start_from_before_the_pause_that_works_ends_it(at: At) -> None:
    at(priority=1)
    lease, run = begin()
    assert run is not None
    pause(at)
    Task.objects.settle(lease, run, WORKED, after(200))
    assert breaker().paused_until is None
    assert not Task.objects.filter(hold=Hold.AGENT).exists()


@pytest.mark.parametrize("end", ["cancel", "interrupt"])
def test_a_trial_that_is_cut_short_is_no_answer(at: At, end: str) -> None:
    pause(at)
    first, second = at(priority=9), at()
    later = after(PAUSE_S)
    lease, run = begin(later)
    assert run is not None
    begin(later)
    if end == "cancel":
        first.cancel()
    else:
        Task.objects.settle(lease, run, Outcome(Verdict.INTERRUPTED), later)
    Breaker.objects.release_due(later)
    Breaker.objects.release_due(later)
    lease, run = begin(later)
    assert run is not None
    assert lease.task_pk == (second.pk if end == "cancel" else first.pk)


def test_a_task_that_waits_can_be_cancelled_and_retried(at: At) -> None:
    pause(at)
    task = at()
    begin()
    task.cancel()
    assert task.hold == Hold.NONE
    Breaker.objects.release_due(after(PAUSE_S))
    task.refresh_from_db()
    assert task.status == Status.CANCELLED
    task.retry()
    assert task.status == Status.QUEUED


def test_what_was_left_waiting_for_an_agent_that_works_goes_on(at: At) -> None:
    pause(at)
    task = at()
    begin()
    Breaker.objects.update(paused_until=None, failures=0)  # as if the rest had been lost
    Breaker.objects.release_due(NOW)
    task.refresh_from_db()
    assert task.hold == Hold.NONE


def test_tasks_whose_project_has_another_agent_by_now_go_on_at_once(at: At) -> None:
    *_, held = pause(at)
    Project.objects.update(coder="command:./better")
    Breaker.objects.release_due(NOW)
    held.refresh_from_db()
    assert held.hold == Hold.NONE
    assert begin()[1] is not None
    assert breaker().paused_until is not None


@pytest.mark.django_db(transaction=True)
def test_whoever_is_faster_no_task_is_left_waiting(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker_module, "PAUSE_S", 0)
    tasks = [at() for _ in range(30)]
    broken = threading.Event()
    broken.set()
    errors: list[Exception] = []

    def work(name: str) -> None:
        try:
            until = time.monotonic() + 120
            done = Task.objects.filter(phase=Phase.GUARDIAN_REVIEW)
            while done.count() < len(tasks) and time.monotonic() < until:
                now = timezone.now() + timedelta(days=9999)
                Breaker.objects.release_due(now)
                lease = Task.objects.claim(name, now)
                run = Task.objects.open_run(lease, now) if lease else None
                if lease and run:
                    seen = FAILED if broken.is_set() else WORKED
                    Task.objects.settle(lease, run, seen, now)
                if Breaker.objects.filter(pauses__gte=3).exists():
                    broken.clear()
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=150)
    assert errors == []
    assert Task.objects.filter(phase=Phase.GUARDIAN_REVIEW).count() == len(tasks)
    assert breaker().paused_until is None
