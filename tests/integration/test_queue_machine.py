"""The queue against a pure model: whatever happens in whatever order, rows and model agree."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.conf import settings as options
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasks import lifecycle
from tasks.lifecycle import OPEN, ROUTE, Hold, Phase, State, Status, Verdict
from tasks.models import Event, Lease, LeaseLostError, PhaseRun, Project, Task, TaskStateError
from tasks.outcome import Outcome

START = datetime(2030, 1, 1, tzinfo=UTC)
STOPPED = (Status.FAILED, Status.CANCELLED)
WHICH = st.integers(0, 60)
WORKERS = st.sampled_from(["ann", "bob", "cleo"])
MOST_TASKS = 3


@dataclass
class Known:
    """What the model knows of one task. The route itself is tasks.lifecycle's, tested elsewhere."""

    pk: int
    priority: int
    created_at: datetime
    due_at: datetime
    state: State
    stopped_in: Phase | None = None
    fence: int = 0
    holder: str = ""
    lease_until: datetime | None = None
    hold: Hold = Hold.NONE
    tries: int = 0
    is_open: bool = False  # the last try has no verdict yet
    ends: int = 0  # how often it came to an end

    @property
    def status(self) -> Status:
        return self.state.status

    def is_held_by(self, lease: Lease) -> bool:
        """Say whether the lease is the right one."""
        return self.status == Status.RUNNING and self.fence == lease.fence

    def let_go(self, state: State, stopped_in: Phase | None = None) -> None:
        """Take the lease away, and go on in another state."""
        self.state, self.stopped_in = state, stopped_in
        self.holder, self.lease_until, self.is_open = "", None, False
        self.ends += state.status not in OPEN


@dataclass
class Claim:
    """What a worker has in hand; the lease may be lost long since."""

    lease: Lease
    run: PhaseRun | None = None


def picked(rows: Sequence[Any], which: int) -> Any:
    """Return one of the rows."""
    return rows[which % len(rows)]


class QueueMachine(RuleBasedStateMachine):
    """Any number of workers, people, crashes, and a clock that only this machine moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.known: dict[int, Known] = {}
        self.claims: list[Claim] = []
        self.seen: list[Task] = []  # rows as housekeeping read them at some time
        self.clock = mock.patch("django.utils.timezone.now", side_effect=self.tell_time)
        self.clock.start()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()

    def tell_time(self) -> datetime:
        """Return what the time is, by this machine's clock."""
        return self.now

    def teardown(self) -> None:
        """Leave no row and the true clock behind."""
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)
        self.clock.stop()

    @initialize(priority=st.integers(1, 10))
    def open_project(self, priority: int) -> None:
        """Have a project, and a first task."""
        self.project = Project.objects.create(
            name="machine", repository="/nowhere", target_url="https://shop.example/"
        )
        self.submit(priority)

    def in_hand(self) -> list[Claim]:
        """Return the claims whose lease is the right one."""
        return [claim for claim in self.claims if self.is_held(claim)]

    def lost(self) -> list[Claim]:
        """Return the claims whose lease is another's now; if there is none, nobody's."""
        lost = [claim for claim in self.claims if not self.is_held(claim)]
        running = {known.pk for known in self.with_status(Status.RUNNING)}
        return [claim for claim in lost if claim.lease.task_pk in running] or lost

    def is_held(self, claim: Claim) -> bool:
        """Say whether the lease of the claim is the right one."""
        return self.known[claim.lease.task_pk].is_held_by(claim.lease)

    def with_status(self, *statuses: Status) -> list[Known]:
        """Return the tasks in one of these states."""
        return [known for known in self.known.values() if known.status in statuses]

    @precondition(lambda self: len(self.known) < MOST_TASKS)
    @rule(priority=st.integers(1, 10))
    def submit(self, priority: int) -> None:
        """A person asks for something."""
        task = Task.submit(self.project, "A feature", "https://shop.example/", priority=priority)
        Task.objects.filter(pk=task.pk).update(max_retries=1)
        state = State(Status.QUEUED, ROUTE[0], max_retries=1)
        self.known[task.pk] = Known(task.pk, priority, self.now, self.now, state)

    @rule(seconds=st.sampled_from([0.001, 3.0, 10.0, 31.0, 700.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by; leases may run out."""
        self.now += timedelta(seconds=seconds)

    @rule(worker=WORKERS)
    def claim(self, worker: str) -> None:
        """A worker takes the best task, if there is one; poison in its way is ended."""
        self._claim(worker)

    def _claim(self, worker: str) -> Claim | None:
        expected = self._take_best(worker)
        lease = Task.objects.claim(worker, self.now)
        if expected is None:
            assert lease is None
            return None
        assert lease is not None
        assert (lease.task_pk, lease.fence, lease.holder) == (expected.pk, expected.fence, worker)
        self.claims.append(Claim(lease))
        return self.claims[-1]

    @precondition(lambda self: self._abandoned() or self._waiting())
    @rule(worker=WORKERS, times=st.integers(0, 4))
    def die(self, worker: str, times: int) -> None:
        """A worker takes a task, works, and is not heard from until its lease has run out."""
        claim = self._claim(worker)
        if claim is not None:  # else all that there was turned out to be poison
            self._work(claim, times)
            if self.is_held(claim):
                self._open_run(claim)
        self.wait(31.0)

    @precondition(in_hand)
    @rule(which=WHICH)
    def open_run(self, which: int) -> None:
        """A worker begins the next phase."""
        self._open_run(picked(self.in_hand(), which))

    @precondition(in_hand)
    @rule(which=WHICH, times=st.integers(1, 5))
    def work(self, which: int, times: int) -> None:
        """A worker gets some phases done."""
        self._work(picked(self.in_hand(), which), times)

    @precondition(in_hand)
    @rule(which=WHICH)
    def renew(self, which: int) -> None:
        """A heart beats."""
        self._renew(picked(self.in_hand(), which))

    @precondition(in_hand)
    @rule(which=WHICH, verdict=st.sampled_from(Verdict), permanent=st.booleans())
    def settle(self, which: int, verdict: Verdict, permanent: bool) -> None:
        """A worker tells how its phase ended."""
        claim = picked(self.in_hand(), which)
        self._open_run(claim)
        self._settle(claim, verdict, permanent)

    @precondition(lost)
    @rule(which=WHICH, verdict=st.sampled_from(Verdict))
    def come_back_late(self, which: int, verdict: Verdict) -> None:
        """A worker that was presumed dead tries everything; none of it is to change a thing."""
        claim = picked(self.lost(), which)
        self._renew(claim)
        self._settle(claim, verdict, permanent=False)
        self._open_run(claim)

    def _work(self, claim: Claim, times: int) -> None:
        for _ in range(times):
            if self.is_held(claim):
                self._open_run(claim)
                self._settle(claim, Verdict.PASSED, permanent=False)

    def _open_run(self, claim: Claim) -> None:
        known = self.known[claim.lease.task_pk]
        if not self.is_held(claim):
            with pytest.raises(LeaseLostError):
                Task.objects.open_run(claim.lease, self.now)
        elif not known.is_open:  # a worker settles one try before it opens another
            claim.run = Task.objects.open_run(claim.lease, self.now)
            known.tries += 1
            known.is_open = True
            known.lease_until = self._lease_end()
            known.state = replace(known.state, attempts=known.state.attempts + 1)
            assert claim.run is not None
            assert (claim.run.number, claim.run.phase) == (known.tries, known.state.phase)
            assert (claim.run.fence, claim.run.attempt) == (known.fence, known.state.attempts)

    def _renew(self, claim: Claim) -> None:
        is_kept = self.is_held(claim)
        assert Task.objects.renew(claim.lease, self.now) is is_kept
        if is_kept:
            self.known[claim.lease.task_pk].lease_until = self._lease_end()

    def _settle(self, claim: Claim, verdict: Verdict, permanent: bool) -> None:
        if claim.run is None:
            return
        known = self.known[claim.lease.task_pk]
        outcome = Outcome(verdict, "So it was.", permanent=permanent)
        if not self.is_held(claim):
            with pytest.raises(LeaseLostError):
                Task.objects.settle(claim.lease, claim.run, outcome, self.now)
            return
        step = lifecycle.settle(known.state, verdict, permanent=permanent)
        task = Task.objects.settle(claim.lease, claim.run, outcome, self.now)
        known.is_open = False
        if step.state.status == Status.RUNNING:
            known.state = step.state
            return
        known.let_go(step.state, step.stopped_in)
        if step.state.status == Status.QUEUED:
            waits_s = (task.due_at - self.now).total_seconds()
            assert 0.9 * step.delay_s <= waits_s <= 1.1 * step.delay_s
            known.due_at = task.due_at  # spread at random, so it is taken from the row

    @precondition(lambda self: self.with_status(*OPEN))
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        """A person has enough; twice does no harm."""
        known = picked(self.with_status(*OPEN), which)
        stopped_in = Phase(known.state.phase)
        Task.objects.get(pk=known.pk).cancel()
        Task.objects.get(pk=known.pk).cancel()
        ended = replace(known.state, status=Status.CANCELLED, phase=Phase.CANCELLED)
        known.let_go(ended, stopped_in)
        known.hold = Hold.NONE
        known.fence += 1

    @precondition(lambda self: self.with_status(*STOPPED))
    @rule(which=WHICH, start=st.none() | st.sampled_from(ROUTE))
    def retry(self, which: int, start: Phase | None) -> None:
        """A person wants it tried again, where it stopped or earlier."""
        known = picked(self.with_status(*STOPPED), which)
        task, where = Task.objects.get(pk=known.pk), known.stopped_in or ROUTE[0]
        if start and ROUTE.index(start) > ROUTE.index(where):
            with pytest.raises(TaskStateError):
                task.retry(start)
            start = None
        task.retry(start)
        known.let_go(State(Status.QUEUED, start or where, max_retries=1))
        known.fence += 1
        known.due_at = self.now

    @precondition(lambda self: self.known)
    @rule(which=WHICH)
    def ask_for_what_cannot_be(self, which: int) -> None:
        """A person cancels what has ended, or retries what has not stopped."""
        known = picked(list(self.known.values()), which)
        task = Task.objects.get(pk=known.pk)
        if known.status in {Status.COMPLETED, Status.FAILED}:
            with pytest.raises(TaskStateError):
                task.cancel()
        if known.status not in STOPPED:
            with pytest.raises(TaskStateError):
                task.retry()

    @rule()
    def look(self) -> None:
        """Housekeeping reads the rows; what it does about one may come late."""
        self.seen += Task.objects.filter(status=Status.RUNNING)

    @precondition(lambda self: self.seen)
    @rule(which=WHICH)
    def free(self, which: int) -> None:
        """Housekeeping finds that the holder of a row it has read is dead."""
        late = [row for row in self.seen if self.known[row.pk].fence != row.fence]
        is_late = which % 2 and late
        seen = picked(late if is_late else self.seen, which // 2)
        known = self.known[seen.pk]
        is_its = (known.fence, known.holder) == (seen.fence, seen.holder)
        is_freed = known.status == Status.RUNNING and is_its
        assert Task.objects.free(seen, self.now) is is_freed
        if is_freed:
            known.lease_until = self.now

    @precondition(lambda self: self.with_status(Status.QUEUED))
    @rule(which=WHICH, hold=st.sampled_from(Hold))
    def hold(self, which: int, hold: Hold) -> None:
        """A queued task leaves the queue, or comes back to its place in it."""
        known = picked(self.with_status(Status.QUEUED), which)
        known.hold = Hold.NONE if known.hold else hold
        Task.objects.filter(pk=known.pk).update(hold=known.hold)

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        """Compare every row."""
        found = {row["id"]: row for row in Task.objects.values()}
        assert {pk: columns_of(row) for pk, row in found.items()} == {
            pk: expected_columns(known) for pk, known in self.known.items()
        }

    @invariant()
    def tries_are_as_the_model_says(self) -> None:
        """Compare the numbers of the tries, which of them are open, and the ends that were told."""
        tries: dict[int, list[tuple[int, bool]]] = {pk: [] for pk in self.known}
        fences: dict[int, list[int]] = {pk: [] for pk in self.known}
        rows = PhaseRun.objects.order_by("number").values_list("task", "number", "verdict", "fence")
        for pk, number, verdict, fence in rows:
            tries[pk].append((number, verdict == ""))
            fences[pk].append(fence)
        for pk, known in self.known.items():
            open_try = known.tries if known.is_open else 0
            assert tries[pk] == [(n, n == open_try) for n in range(1, known.tries + 1)]
            assert fences[pk] == sorted(fences[pk])
        kinds = [f"task.{end}" for end in lifecycle.TERMINAL]
        told = Counter(Event.objects.filter(kind__in=kinds).values_list("task", flat=True))
        assert told == Counter({pk: known.ends for pk, known in self.known.items() if known.ends})

    @invariant()
    def what_can_be_claimed_is_as_the_model_says(self) -> None:
        """Compare the queue's order."""
        waiting = list(Task.objects.all().waiting(self.now).values_list("pk", flat=True))
        assert waiting == [known.pk for known in self._waiting()]
        abandoned = list(Task.objects.all().abandoned(self.now).values_list("pk", flat=True))
        assert abandoned == [known.pk for known in self._abandoned()]

    def _waiting(self) -> list[Known]:
        due = [
            known
            for known in self.known.values()
            if known.status == Status.QUEUED and not known.hold and known.due_at <= self.now
        ]
        aging_s = options.CHIMERA.priority_aging_s

        def rank(known: Known) -> tuple[int, int]:
            aged_s = (known.created_at - START).total_seconds() - known.priority * aging_s
            return int((START.timestamp() + aged_s) * 1000), known.pk

        return sorted(due, key=rank)

    def _abandoned(self) -> list[Known]:
        expired = [
            (known.lease_until, known.pk)
            for known in self.known.values()
            if known.lease_until is not None and known.lease_until <= self.now
        ]
        return [self.known[pk] for _, pk in sorted(expired)]

    def _candidates(self) -> Iterator[Known]:
        while found := self._abandoned() or self._waiting():
            yield found[0]

    def _take_best(self, worker: str) -> Known | None:
        for known in self._candidates():
            if known.status == Status.RUNNING and known.is_open:
                step = lifecycle.crash(known.state)
                known.is_open = False
                if step.state.status == Status.FAILED:
                    known.let_go(step.state, step.stopped_in)
                    known.fence += 1
                    continue
                known.state = replace(known.state, crashes=step.state.crashes)
            known.state = replace(known.state, status=Status.RUNNING)
            known.fence += 1
            known.holder, known.lease_until = worker, self._lease_end()
            return known
        return None

    def _lease_end(self) -> datetime:
        return self.now + timedelta(seconds=options.CHIMERA.lease_s)


def columns_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row that the model knows."""
    names = ("status", "phase", "stopped_in", "rounds", "attempts", "crashes")
    more = ("fence", "holder", "lease_expires_at", "hold")
    return {name: row[name] for name in (*names, *more)}


def expected_columns(known: Known) -> dict[str, Any]:
    """Return the same from the model."""
    state = known.state
    return {
        "status": state.status,
        "phase": state.phase,
        "stopped_in": known.stopped_in or "",
        "rounds": state.rounds,
        "attempts": state.attempts,
        "crashes": state.crashes,
        "fence": known.fence,
        "holder": known.holder,
        "lease_expires_at": known.lease_until,
        "hold": known.hold,
    }


def test_rows_and_model_agree_whatever_happens_in_whatever_order(db: None) -> None:
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            database=None,
            derandomize="CI" in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )
