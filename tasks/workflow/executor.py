"""Carry a claimed task along its route: start a phase, perform it, settle it, and again."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection
from django.utils import timezone

from tasks import agents, phases
from tasks.lifecycle import Phase, Verdict
from tasks.models import Advance, Lease, LeaseLostError, PhaseRun, Project, Task
from tasks.outcome import Outcome
from tasks.phases.base import Host, InterruptedRunError, OutOfTimeError
from tasks.phases.bench import Bench
from tasks.phases.starts import Starts
from tasks.workflow import journal
from tasks.workspace import git, sandbox
from tasks.workspace.process import Log, child_seconds

logger = logging.getLogger(__name__)

ShouldStop = Callable[[], bool]
T = TypeVar("T")
OUTAGE_PAUSE_S = 0.5
CONNECTION_TRUSTED_S = 2.0  # a longer phase may outlast what the database server keeps open
COMMITS = frozenset({"test_sha", "code_sha"})  # what a task's branch may point at


def run(lease: Lease, should_stop: ShouldStop) -> None:
    """Run the task until it ends, waits, or is no longer ours. Blocks."""
    try:
        phase_run = _patiently(lambda: Task.objects.open_run(lease, timezone.now()))
        if phase_run is not None:
            # The holder before may have been killed between the row and the branch.
            _patiently(partial(set_branch, phase_run.task))
        while phase_run is not None:  # it ended, or waits for an address or an agent
            began = time.monotonic()
            outcome = perform(phase_run, should_stop)
            if time.monotonic() - began > CONNECTION_TRUSTED_S:
                close_old_connections()
            advance = _patiently(partial(settle, lease, phase_run, outcome))
            if not COMMITS.isdisjoint(outcome.checkpoint):
                _patiently(partial(set_branch, advance.task))
            phase_run = advance.run
    except LeaseLostError:
        logger.info("%s: the lease is lost; nothing more is written", lease.task_id)


def _patiently(write: Callable[[], T]) -> T:
    """Repeat a write for as long as the database is away.

    The lease may run out meanwhile. The fence makes that safe: what was written after all, or by
    another holder, is refused; and if nobody has taken the task, nothing is lost or spent.
    """
    is_told = False
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            if not is_told:
                logger.warning("The database does not answer; waiting for it: %s", error)
            is_told = True
            connection.close()
            time.sleep(OUTAGE_PAUSE_S)


def settle(lease: Lease, phase_run: PhaseRun, outcome: Outcome) -> Advance:
    """Write the outcome and open the next try; what cannot be written becomes an error.

    Raises LeaseLostError, and DatabaseError for a database that is away.
    """
    now = timezone.now()
    try:
        artifacts = journal.artifacts_of(phase_run, outcome.evidence)
        return Task.objects.advance(lease, phase_run, outcome, now, artifacts)
    except (LeaseLostError, OperationalError, InterfaceError):
        raise
    except Exception as error:
        logger.exception("%s: the outcome cannot be written", lease.task_id)
        reason = f"What the phase found cannot be recorded: {type(error).__name__}"
        return Task.objects.advance(lease, phase_run, Outcome(Verdict.ERRORED, reason), now)


def perform(phase_run: PhaseRun, should_stop: ShouldStop) -> Outcome:
    """Run one phase and return its outcome, whatever happens in it."""
    try:
        log = Log(phase_run.log_path)
    except OSError as error:  # a full disk, most likely: it is tried again later
        return Outcome(Verdict.ERRORED, f"The log cannot be written: {error}").storable()
    began, waited = time.monotonic(), child_seconds()
    try:
        outcome = _perform(phase_run, log, should_stop)
    finally:
        log.close()
    spent = {
        "seconds": round(time.monotonic() - began, 3),
        "children_s": round(child_seconds() - waited, 3),
    }
    return replace(outcome, facts={**outcome.facts, **spent}).storable()


def _perform(phase_run: PhaseRun, log: Log, should_stop: ShouldStop) -> Outcome:
    task = phase_run.task
    limit_s = 0
    starts = Starts()
    try:
        limit_s = task.project.time_limit_s(Phase(phase_run.phase))
        order = journal.order_of(task, phase_run)
        log.line(f"{phase_run.phase}, round {phase_run.round}, attempt {phase_run.attempt}")
        host = host_for(task.project)
        if not host.sandbox.is_on:
            log.line("WITHOUT A SANDBOX: what runs here can read and change all that Chimera can")
        deadline = time.monotonic() + limit_s
        bench = Bench(order, host, phase_run.folder, log, deadline, should_stop, starts)
        outcome = phases.RUN[order.phase](bench)
        outcome = replace(outcome, facts={**outcome.facts, "sandboxed": host.sandbox.is_on})
        if outcome.verdict == Verdict.REJECTED:
            bench.left_s()  # work that we cut short ourselves is not to blame
    except InterruptedRunError:
        return Outcome(Verdict.INTERRUPTED, "Stopped by Chimera; nothing is spent.")
    except OutOfTimeError:
        reason = f"The phase did not end within {limit_s} s."
        return Outcome(Verdict.ERRORED, reason, agent=starts.last)
    except Exception as error:
        if should_stop():
            return Outcome(Verdict.INTERRUPTED, "Stopped by Chimera; nothing is spent.")
        reason = _in_words(error)
        trace = None if _is_ours(error) else error
        logger.error("%s: %s: %s", task.task_id, phase_run.phase, reason, exc_info=trace)
        _say(log, reason)
        permanent = bool(getattr(error, "permanent", False))
        return Outcome(Verdict.ERRORED, reason, permanent=permanent, agent=starts.last)
    _say(log, f"{outcome.verdict}: {outcome.reason}")
    return replace(outcome, agent=starts.last)


def _say(log: Log, text: str) -> None:
    """Write how it ended into the log; the row tells that too, so a full disk is no matter."""
    with contextlib.suppress(OSError):
        log.line(text)


def _in_words(error: Exception) -> str:
    """Return the error's own words; one that is not ours needs its class to be understood."""
    named = f"{type(error).__name__}: {error}"
    return (str(error) if _is_ours(error) and str(error) else named)[:4000]


def _is_ours(error: Exception) -> bool:
    return type(error).__module__.startswith("tasks.")


def host_for(project: Project) -> Host:
    """Return what this machine offers to a project's tasks. Raises SandboxError."""
    return Host(
        home=settings.CHIMERA.home,
        sandbox=sandbox_for(project),
        chromium=settings.CHIMERA.chromium,
        max_browsers=settings.CHIMERA.max_browsers,
        staging_domain=settings.CHIMERA.staging_domain,
        shares_commits=settings.CHIMERA.shares_commits,
        network_env=settings.CHIMERA.network_env,
    )


def sandbox_for(project: Project) -> sandbox.Sandbox:
    """Return the sandbox for a project's children.

    Without a working one, only the bundled agents on the bundled demo run, uncontained.
    Raises SandboxError for anything else.
    """
    try:
        return _find_sandbox(settings.CHIMERA.sandbox)
    except sandbox.SandboxError:
        names = [project.author, project.coder, project.reviewer]
        bundled = all(agents.find(name).is_bundled for name in names if name)
        if project.is_demo and bundled:
            return sandbox.Sandbox(None)
        raise


def set_branch(task: Task) -> None:
    """Point the task's branch at the commit that its row records; never at anything else.

    A worker that was frozen between reading the row and writing the branch is refused, since the
    branch has moved: it reads both again.
    """
    path = settings.CHIMERA.home / "repositories" / f"{task.project.name}.git"
    if not task.test_sha or not path.exists():
        return
    ref = git.branch_ref(task.task_id)
    try:
        repository = git.Repository.open(path)
        while True:
            old = repository.ref(ref) or ""
            task.refresh_from_db(fields=["code_sha", "test_sha"])
            sha = task.code_sha or task.test_sha
            if sha in {"", old} or repository.set_ref(ref, sha, old):
                return
    except git.GitError:
        logger.exception("%s: the branch could not be set to its commit", task.task_id)


@lru_cache(maxsize=1)
def _find_sandbox(mode: str) -> sandbox.Sandbox:
    return sandbox.find(mode)
