"""The chaos suite's judge: a good history passes, and each kind of bad one is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.lifecycle import ROUTE
from tests.chaos import plan
from tests.chaos.checker import PROMISES, check
from tests.chaos.history import (
    Branch,
    Cancel,
    CopyRow,
    EventRow,
    History,
    Reading,
    RunRow,
    Sight,
    Submission,
    TaskRow,
    save,
)
from tests.chaos.ledger import BEGAN, MADE, Effect, read, write

A, B = "chimera-a", "chimera-b"
TEST, CODE, URL = "1" * 40, "2" * 40, "http://a.localhost:1"
SHAS = {"E2E_TEST_GENERATION": TEST, "CODE_IMPLEMENTATION": CODE, "STAGING_DEPLOYMENT": CODE}


@pytest.fixture
def good() -> History:
    """Return what is seen of A, completed after a crash in phase 4, and of B, cancelled."""
    runs = list(tries())
    return History(
        submissions=[Submission(1, 201, A), Submission(2, 201, B), Submission(3, 503)],
        cancels=[Cancel(B, 200)],
        sights=[Sight(0, A, "running", ROUTE[3]), Sight(1, A, "completed", "COMPLETE")],
        effects=[line for run in runs for line in lines_of(run)],
        tasks=[
            TaskRow(A, 1, "completed", "COMPLETE", "", 2, "0" * 40, TEST, CODE),
            TaskRow(B, 2, "cancelled", "CANCELLED", "Cancelled on request.", 1),
        ],
        runs=runs,
        events=list(events(runs)),
        copies=[CopyRow(A, 2, URL, CODE)],
        branches=[Branch(A, [CODE, TEST])],
        readings=[
            Reading(reader, 1 + seq // 9, seq)
            for reader in ("steady", "restless")
            for seq in range(1, 21)
        ],
    )


def tries() -> Iterator[RunRow]:
    """Yield the tries of A: phase 4 is killed under fence 1 and done again under fence 2."""
    phases = [*ROUTE[:4], *ROUTE[3:]]
    for number, phase in enumerate(phases, start=1):
        fence = 1 if number <= 4 else 2
        verdict, reason = ("errored", "The worker vanished.") if number == 4 else ("passed", "")
        span = (float(number), number + 0.5)
        yield RunRow(A, number, phase, 0, f"w{fence}", fence, verdict, reason, *span)


def lines_of(run: RunRow) -> Iterator[Effect]:
    """Yield what the ledger holds of a try."""
    who = (run.task_id, run.phase, run.round, run.fence, 100 + run.fence)
    yield Effect(BEGAN, *who, run.started_at)
    if run.verdict == "passed":
        url = URL if run.phase == "STAGING_DEPLOYMENT" else ""
        yield Effect(MADE, *who, run.finished_at, SHAS.get(run.phase, ""), url)


def events(runs: list[RunRow]) -> Iterator[EventRow]:
    """Yield twenty events."""
    told = [("task.queued", A, 0), ("task.queued", B, 0)]
    for run in runs:
        told += [("phase.started", A, run.number)]
        told += [(f"phase.{run.verdict}", A, run.number if run.verdict == "passed" else 0)]
    told += [("task.completed", A, 0), ("task.cancelled", B, 0)]
    return (EventRow(seq, *event) for seq, event in enumerate(told, start=1))


def broken(history: History) -> set[str]:
    """Return the promises that the checker finds broken."""
    return {violation.promise for violation in check(history)}


def changed(rows: list, index: int, **values: object) -> None:  # type: ignore[type-arg]
    """Change one row of a history."""
    rows[index] = replace(rows[index], **values)


def test_a_good_history_breaks_no_promise(good: History) -> None:
    assert len(good.events) == 20
    assert check(good) == []


def test_an_accepted_task_that_is_not_there_is_lost(good: History) -> None:
    good.submissions.append(Submission(4, 201, "chimera-c"))
    assert broken(good) == {"lost task"}


def test_a_task_that_never_ended_is_found(good: History) -> None:
    changed(good.tasks, 1, status="queued", phase=ROUTE[0])
    assert "one terminal state" in broken(good)


def test_a_request_whose_answer_was_lost_may_be_there_and_a_refused_one_may_not(
    good: History,
) -> None:
    good.tasks.append(TaskRow("chimera-c", 3, "cancelled", "CANCELLED", "", 1))
    good.cancels.append(Cancel("chimera-c", None))
    good.events.append(EventRow(21, "task.cancelled", "chimera-c"))
    good.readings += [Reading(reader, 9, 21) for reader in good.readers]
    assert broken(good) == set()
    changed(good.submissions, 2, code=422)
    assert broken(good) == {"lost task"}


def test_one_request_that_became_two_tasks_is_found(good: History) -> None:
    changed(good.tasks, 1, number=1)
    assert "lost task" in broken(good)


def test_two_ends_of_one_task_are_found(good: History) -> None:
    good.events.append(EventRow(21, "task.failed", A))
    good.readings += [Reading(reader, 9, 21) for reader in good.readers]
    assert broken(good) == {"one terminal state", "overlapping fences"}


def test_an_end_that_people_saw_taken_back_is_found(good: History) -> None:
    good.sights.append(Sight(2, A, "running", ROUTE[6]))
    assert broken(good) == {"one terminal state"}


def test_a_cancel_that_nobody_asked_for_is_found(good: History) -> None:
    good.cancels.clear()
    assert broken(good) == {"unexplained end"}


def test_a_cancel_that_was_agreed_to_and_forgotten_is_found(good: History) -> None:
    good.cancels.append(Cancel(A, 200))
    assert broken(good) == {"unexplained end"}


def test_a_failure_is_only_explained_by_three_crashes(good: History) -> None:
    changed(good.tasks, 1, status="failed", phase="FAILED", reason="no disk")
    changed(good.events, -1, kind="task.failed")
    good.cancels.clear()
    crash = replace(good.runs[3], task_id=B, phase=ROUTE[0])
    good.runs += [
        replace(crash, number=number, fence=1, started_at=number, finished_at=number)
        for number in (1, 2)
    ]
    assert broken(good) == {"unexplained end"}
    good.runs.append(replace(crash, number=3, fence=1, started_at=3, finished_at=3))
    assert broken(good) == set()


def test_a_phase_that_passed_twice_is_a_doubled_effect(good: History) -> None:
    twice = replace(good.runs[-1], number=9, started_at=20, finished_at=21)
    good.runs.append(twice)
    assert "doubled effect" in broken(good)


def test_work_that_was_done_twice_under_one_fence_is_a_doubled_effect(good: History) -> None:
    good.effects.append(good.effects[-1])
    assert broken(good) == {"doubled effect"}


def test_a_phase_that_passed_without_any_work_is_found(good: History) -> None:
    good.effects = [line for line in good.effects if line.phase != ROUTE[4]]
    assert broken(good) == {"doubled effect"}


def test_a_pass_that_was_told_twice_is_a_doubled_effect(good: History) -> None:
    last = next(event for event in reversed(good.events) if event.kind == "phase.passed")
    good.events.append(replace(last, seq=21))
    good.readings += [Reading(reader, 9, 21) for reader in good.readers]
    assert "doubled effect" in broken(good)


def test_a_skipped_phase_is_found(good: History) -> None:
    changed(good.runs, 5, phase=ROUTE[5])
    assert "route" in broken(good)


def test_tries_that_overlap_are_found(good: History) -> None:
    changed(good.runs, 3, finished_at=5.2)
    assert broken(good) == {"overlapping fences"}


def test_a_write_under_an_older_fence_is_found(good: History) -> None:
    changed(good.runs, -1, fence=1, worker="w1")
    assert "overlapping fences" in broken(good)


def test_two_processes_under_one_fence_are_found(good: History) -> None:
    changed(good.effects, -1, pid=999)
    assert broken(good) == {"overlapping fences"}


def test_an_end_of_a_try_that_was_told_after_the_next_began_is_found(good: History) -> None:
    one, other = (
        next(i for i, e in enumerate(good.events) if e.kind == "phase.errored"),
        next(i for i, e in enumerate(good.events) if e.kind == "phase.started" and e.run == 5),
    )
    seqs = good.events[one].seq, good.events[other].seq
    changed(good.events, one, seq=seqs[1])
    changed(good.events, other, seq=seqs[0])
    assert broken(good) == {"overlapping fences"}


def test_a_missed_event_is_found(good: History) -> None:
    good.readings.remove(Reading("restless", 1, 7))
    assert broken(good) == {"feed"}


def test_an_event_that_came_twice_or_out_of_order_is_found(good: History) -> None:
    at = good.readings.index(Reading("steady", 1, 7))
    good.readings.insert(at, Reading("steady", 1, 7))
    assert broken(good) == {"feed"}
    good.readings[at], good.readings[at - 1] = good.readings[at - 1], good.readings[at]
    assert broken(good) == {"feed"}


def test_a_reader_that_was_told_to_fetch_everything_has_missed_nothing(good: History) -> None:
    good.readings = [each for each in good.readings if not 5 <= each.seq <= 9]
    assert broken(good) == {"feed"}
    for reader in good.readers:
        first = next(i for i, each in enumerate(good.readings) if each == Reading(reader, 2, 10))
        good.readings.insert(first, Reading(reader, 2, 9, is_resync=True))
    assert broken(good) == set()


def test_a_branch_with_another_commit_or_none_is_found(good: History) -> None:
    good.branches[0] = Branch(A, [CODE, "3" * 40, TEST])
    assert broken(good) == {"branch"}
    good.branches.clear()
    assert broken(good) == {"branch"}


def test_a_recorded_commit_that_the_winning_claim_did_not_make_is_found(good: History) -> None:
    stale = "3" * 40
    changed(good.tasks, 0, code_sha=stale)
    good.branches[0] = Branch(A, [stale, TEST])
    assert broken(good) == {"branch"}


def test_a_copy_that_its_claim_did_not_start_is_found(good: History) -> None:
    changed(good.copies, 0, fence=1)
    assert broken(good) == {"staging copy"}


def test_what_is_left_and_what_is_damaged_is_found(good: History) -> None:
    good.leftovers = ["a workspace: chimera-a-1-xyz"]
    good.damage = "row 7 missing from index"
    assert broken(good) == {"leftover", "damaged database"}


def test_every_promise_is_broken_by_some_test_here() -> None:
    text = Path(__file__).read_text()
    assert [promise for promise in PROMISES if f'"{promise}"' not in text] == []


def test_one_seed_gives_one_plan_and_each_round_has_every_kind() -> None:
    kinds = ["a", "b", "c"]
    one = plan.make(7, 4, kinds, extra=2, longest_s=10)
    assert one == plan.make(7, 4, kinds, extra=2, longest_s=10)
    assert one != plan.make(8, 4, kinds, extra=2, longest_s=10)
    for number in range(1, 5):
        of_round = [strike.kind for strike in one if strike.round == number]
        assert (len(of_round), set(of_round)) == (5, set(kinds))


def test_the_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    who = {"task_id": A, "phase": ROUTE[0], "round": 0, "fence": 3}
    write(tmp_path / "ledger", BEGAN, **who)
    write(tmp_path / "ledger", MADE, sha=CODE, url=URL, **who)
    began, made = read(tmp_path / "ledger")
    assert (began.what, began.fence, began.sha) == (BEGAN, 3, "")
    assert (made.what, made.sha, made.url, made.phase) == (MADE, CODE, URL, ROUTE[0])


def test_a_history_is_kept_line_by_line(good: History, tmp_path: Path) -> None:
    save(good, tmp_path / "history.jsonl", seed=7)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    rows = sum(len(rows) for name, rows in vars(good).items() if name != "damage")
    assert len(lines) == 1 + rows
    assert '"seed": 7' in lines[0]
