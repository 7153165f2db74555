"""The route of a task and its one rule, `settle`: pure, without database and clock.

Every arrow of the state chart in docs/architecture.md is decided here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.db.models import TextChoices


class Status(TextChoices):
    """What the queue may do with a task."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(TextChoices):
    """The step that a task is in; the last three are terminal."""

    WORKSPACE_PREPARATION = "WORKSPACE_PREPARATION"
    E2E_TEST_GENERATION = "E2E_TEST_GENERATION"
    RED_VERIFICATION = "RED_VERIFICATION"
    CODE_IMPLEMENTATION = "CODE_IMPLEMENTATION"
    GUARDIAN_REVIEW = "GUARDIAN_REVIEW"
    STAGING_DEPLOYMENT = "STAGING_DEPLOYMENT"
    E2E_VALIDATION = "E2E_VALIDATION"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Verdict(TextChoices):
    """How one try at a phase ended."""

    PASSED = "passed"  # onward
    REJECTED = "rejected"  # the work is not good enough: back, and one round is spent
    ERRORED = "errored"  # the machinery broke: the same phase again, and one attempt is spent
    INTERRUPTED = "interrupted"  # we stopped it: the same phase again, and nothing is spent


class Hold(TextChoices):
    """What a queued task waits for, beside its turn; held tasks are not claimable."""

    NONE = ""
    APPROVAL = "approval"
    AGENT = "agent"
    LIMIT = "limit"
    INTAKE = "intake"


ROUTE: tuple[Phase, ...] = (
    Phase.WORKSPACE_PREPARATION,
    Phase.E2E_TEST_GENERATION,
    Phase.RED_VERIFICATION,
    Phase.CODE_IMPLEMENTATION,
    Phase.GUARDIAN_REVIEW,
    Phase.STAGING_DEPLOYMENT,
    Phase.E2E_VALIDATION,
)

OPEN = frozenset({Status.QUEUED, Status.RUNNING})
TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

# Where a rejected phase sends the task; the first phase is absent: a broken base fails the task.
BACK_TO: dict[Phase, Phase] = {
    Phase.E2E_TEST_GENERATION: Phase.E2E_TEST_GENERATION,
    Phase.RED_VERIFICATION: Phase.E2E_TEST_GENERATION,
    Phase.CODE_IMPLEMENTATION: Phase.CODE_IMPLEMENTATION,
    Phase.GUARDIAN_REVIEW: Phase.CODE_IMPLEMENTATION,
    Phase.STAGING_DEPLOYMENT: Phase.CODE_IMPLEMENTATION,
    Phase.E2E_VALIDATION: Phase.CODE_IMPLEMENTATION,
}

# Seconds that one try at a phase may take; a project may override each.
TIME_LIMITS_S: dict[Phase, int] = {
    Phase.WORKSPACE_PREPARATION: 600,
    Phase.E2E_TEST_GENERATION: 300,
    Phase.RED_VERIFICATION: 300,
    Phase.CODE_IMPLEMENTATION: 1800,
    Phase.GUARDIAN_REVIEW: 600,
    Phase.STAGING_DEPLOYMENT: 900,
    Phase.E2E_VALIDATION: 600,
}

MAX_CRASHES = 3  # a task that ends its worker this often in one phase is poison


@dataclass(frozen=True)
class State:
    """Where a task stands, as far as its route is concerned.

    `attempts` counts the tries at this phase that are spent, the open one included;
    `crashes` those of them that took their worker with them.
    """

    status: Status
    phase: Phase
    rounds: int = 0
    attempts: int = 0
    crashes: int = 0
    max_retries: int = 3


@dataclass(frozen=True)
class Step:
    """What `settle` decided: the state that follows and the wait before it, in seconds."""

    state: State
    delay_s: float = 0.0
    stopped_in: Phase | None = None  # for a failed task: the phase where it stopped


class NotRunningError(Exception):
    """Only a running task can be settled."""


def settle(state: State, verdict: Verdict, *, permanent: bool = False) -> Step:
    """Return what follows when the running phase of `state` ends with `verdict`.

    `permanent` marks an error that no further attempt can heal. Raises NotRunningError.
    """
    if state.status != Status.RUNNING or state.phase not in ROUTE:
        raise NotRunningError(f"{state.status} in {state.phase}")
    if verdict == Verdict.PASSED:
        return _advance(state)
    if verdict == Verdict.REJECTED:
        return _send_back(state)
    if verdict == Verdict.INTERRUPTED:
        attempts = max(0, state.attempts - 1)
        return Step(replace(state, status=Status.QUEUED, attempts=attempts))
    return _try_again(state, permanent)


def crash(state: State) -> Step:
    """Return what follows when the worker of a running task vanished in the middle of a phase.

    The attempt was counted when it was opened, so only the crash is added here.
    Raises NotRunningError.
    """
    if state.status != Status.RUNNING or state.phase not in ROUTE:
        raise NotRunningError(f"{state.status} in {state.phase}")
    crashed = replace(state, crashes=state.crashes + 1)
    if crashed.crashes >= MAX_CRASHES:
        return _fail(crashed)
    return Step(replace(crashed, status=Status.QUEUED))


def finished_phases(phase: Phase, stopped_in: Phase | None = None) -> int:
    """Count the phases that lie behind a task in `phase` (0 to 7)."""
    if phase == Phase.COMPLETE:
        return len(ROUTE)
    where = phase if phase in ROUTE else stopped_in
    return ROUTE.index(where) if where in ROUTE else 0


def progress(phase: Phase, stopped_in: Phase | None = None) -> str:
    """Say how far a task is, as in "3/7 phases complete"."""
    return f"{finished_phases(phase, stopped_in)}/{len(ROUTE)} phases complete"


def _advance(state: State) -> Step:
    position = ROUTE.index(state.phase) + 1
    if position == len(ROUTE):
        return Step(replace(state, status=Status.COMPLETED, phase=Phase.COMPLETE))
    return Step(replace(state, phase=ROUTE[position], attempts=0, crashes=0))


def _send_back(state: State) -> Step:
    if state.phase not in BACK_TO or state.rounds >= state.max_retries:
        return _fail(state)
    back = replace(state, phase=BACK_TO[state.phase], rounds=state.rounds + 1)
    return Step(replace(back, attempts=0, crashes=0))


def _try_again(state: State, permanent: bool) -> Step:
    if permanent or state.attempts > state.max_retries:
        return _fail(state)
    return Step(replace(state, status=Status.QUEUED), delay_s=float(2 ** max(1, state.attempts)))


def _fail(state: State) -> Step:
    return Step(
        replace(state, status=Status.FAILED, phase=Phase.FAILED), stopped_in=Phase(state.phase)
    )
