"""The route, walked exhaustively: every status, phase, verdict and counter."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import pytest

from tasks import lifecycle
from tasks.lifecycle import (
    BACK_TO,
    MAX_CRASHES,
    ROUTE,
    TERMINAL,
    TIME_LIMITS_S,
    NotRunningError,
    Phase,
    State,
    Status,
    Step,
    Verdict,
)

RETRIES = range(4)
COUNTS = range(6)
RUNNING = [
    State(Status.RUNNING, phase, rounds, attempts, crashes, retries)
    for phase, rounds, attempts, crashes, retries in product(
        ROUTE, COUNTS, COUNTS, range(MAX_CRASHES), RETRIES
    )
]
TERMINAL_PHASE = {
    Status.COMPLETED: Phase.COMPLETE,
    Status.FAILED: Phase.FAILED,
    Status.CANCELLED: Phase.CANCELLED,
}


def every_step() -> list[tuple[State, Verdict, bool, Step]]:
    """Settle every running state with every verdict."""
    return [
        (state, verdict, permanent, lifecycle.settle(state, verdict, permanent=permanent))
        for state, verdict, permanent in product(RUNNING, Verdict, (False, True))
    ]


def test_only_a_running_task_on_the_route_can_be_settled() -> None:
    for status, phase, verdict in product(Status, Phase, Verdict):
        state = State(status, phase, attempts=1)
        if status == Status.RUNNING and phase in ROUTE:
            assert lifecycle.settle(state, verdict).state != state
        else:
            with pytest.raises(NotRunningError):
                lifecycle.settle(state, verdict)
            with pytest.raises(NotRunningError):
                lifecycle.crash(state)


def test_status_and_phase_always_fit_each_other() -> None:
    for *_, step in every_step():
        if step.state.status in TERMINAL:
            assert step.state.phase == TERMINAL_PHASE[step.state.status]
        else:
            assert step.state.phase in ROUTE


def test_passed_goes_one_phase_on_and_begins_it_with_nothing_spent() -> None:
    for state in RUNNING:
        after = lifecycle.settle(state, Verdict.PASSED).state
        if state.phase == ROUTE[-1]:
            assert (after.status, after.phase) == (Status.COMPLETED, Phase.COMPLETE)
        else:
            assert ROUTE.index(after.phase) == ROUTE.index(state.phase) + 1
            assert (after.status, after.attempts, after.crashes) == (Status.RUNNING, 0, 0)
        assert after.rounds == state.rounds


def test_rejected_spends_a_round_and_goes_where_the_route_says() -> None:
    for state in RUNNING:
        step = lifecycle.settle(state, Verdict.REJECTED)
        if state.phase in BACK_TO and state.rounds < state.max_retries:
            assert step.state.phase == BACK_TO[state.phase]
            assert step.state.status == Status.RUNNING
            assert step.state.rounds == state.rounds + 1
            assert (step.state.attempts, step.state.crashes) == (0, 0)
        else:
            assert step.state.status == Status.FAILED
            assert step.stopped_in == state.phase


def test_a_broken_base_fails_at_once() -> None:
    first = State(Status.RUNNING, Phase.WORKSPACE_PREPARATION, attempts=1)
    assert lifecycle.settle(first, Verdict.REJECTED).state.status == Status.FAILED


def test_max_retries_of_three_means_four_tries() -> None:
    for phase in BACK_TO:
        state = State(Status.RUNNING, phase, attempts=1, max_retries=3)
        tries = 0
        while state.status == Status.RUNNING:
            tries += 1
            state = lifecycle.settle(replace(state, phase=phase), Verdict.REJECTED).state
        assert tries == 4


def test_errored_waits_two_four_eight_seconds_and_then_fails() -> None:
    state = State(Status.RUNNING, Phase.E2E_VALIDATION, max_retries=3)
    waits = []
    while True:
        state = replace(state, status=Status.RUNNING, attempts=state.attempts + 1)  # as open_run
        step = lifecycle.settle(state, Verdict.ERRORED)
        state = step.state
        if state.status == Status.FAILED:
            break
        assert (state.status, state.phase) == (Status.QUEUED, Phase.E2E_VALIDATION)
        waits.append(step.delay_s)
    assert waits == [2.0, 4.0, 8.0]


def test_a_permanent_error_fails_at_once() -> None:
    for state in RUNNING:
        step = lifecycle.settle(state, Verdict.ERRORED, permanent=True)
        assert (step.state.status, step.stopped_in) == (Status.FAILED, state.phase)


def test_an_interruption_gives_its_attempt_back_and_spends_nothing() -> None:
    for state in RUNNING:
        opened = replace(state, attempts=state.attempts + 1)
        step = lifecycle.settle(opened, Verdict.INTERRUPTED)
        assert step.state == replace(state, status=Status.QUEUED)
        assert step.delay_s == 0


def test_a_task_that_kills_its_worker_three_times_in_one_phase_is_failed() -> None:
    for state in RUNNING:
        step = lifecycle.crash(state)
        assert step.state.crashes == state.crashes + 1
        if step.state.crashes == MAX_CRASHES:
            assert (step.state.status, step.stopped_in) == (Status.FAILED, state.phase)
        else:
            assert (step.state.status, step.state.phase) == (Status.QUEUED, state.phase)


def test_every_failed_task_says_where_it_stopped_and_no_other_does() -> None:
    for state, *_, step in every_step():
        if step.state.status == Status.FAILED:
            assert step.stopped_in == state.phase
        else:
            assert step.stopped_in is None


def test_no_verdicts_keep_a_task_going_for_ever() -> None:
    """Whatever the phases answer, the longest path ends; only interruptions spend nothing."""

    @cache
    def longest(state: State) -> int:
        if state.status in TERMINAL:
            return 0
        opened = replace(state, status=Status.RUNNING, attempts=state.attempts + 1)
        steps = [
            lifecycle.settle(opened, verdict).state
            for verdict in (Verdict.PASSED, Verdict.REJECTED, Verdict.ERRORED)
        ]
        steps.append(lifecycle.crash(opened).state)
        # An endless path would come by one of its states again, and never come back from here.
        return 1 + max(longest(step) for step in steps)

    for retries in RETRIES:
        start = State(Status.QUEUED, ROUTE[0], max_retries=retries)
        tries_of_a_phase = retries + 1 + MAX_CRASHES
        most = len(ROUTE) * (retries + 1) * tries_of_a_phase
        assert len(ROUTE) <= longest(start) <= most


def test_progress_counts_the_phases_that_lie_behind() -> None:
    said = [lifecycle.progress(phase) for phase in ROUTE]
    assert said == [f"{number}/7 phases complete" for number in range(7)]
    assert lifecycle.progress(Phase.CODE_IMPLEMENTATION) == "3/7 phases complete"
    assert lifecycle.progress(Phase.COMPLETE) == "7/7 phases complete"


def test_progress_of_an_ended_task_counts_to_where_it_stopped() -> None:
    for ended in (Phase.FAILED, Phase.CANCELLED):
        for phase in ROUTE:
            assert lifecycle.finished_phases(ended, phase) == ROUTE.index(phase)
        assert lifecycle.progress(ended) == "0/7 phases complete"


def test_every_phase_has_a_time_limit() -> None:
    assert set(TIME_LIMITS_S) == set(ROUTE)
    assert min(TIME_LIMITS_S.values()) > 0
