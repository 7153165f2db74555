"""What Chimera answers, as typed values. Unknown keys are ignored: servers may be newer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ROUTE = (
    "WORKSPACE_PREPARATION",
    "E2E_TEST_GENERATION",
    "RED_VERIFICATION",
    "CODE_IMPLEMENTATION",
    "GUARDIAN_REVIEW",
    "STAGING_DEPLOYMENT",
    "E2E_VALIDATION",
)
FINISHED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class Result:
    """What a completed task has to show."""

    test_path: str
    code_pr_id: str
    review_decision: str
    deployment_url: str
    validation_status: str
    commit_sha: str = ""  # of the code
    branch: str = ""
    test_commit: str = ""
    staging_expires_at: datetime | None = None  # None: not live, or not Chimera's to end

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Result | None:
        """Read the `result` of a task; None where there is none yet."""
        if not data:
            return None
        return cls(
            test_path=str(data.get("test_path") or ""),
            code_pr_id=str(data.get("code_pr_id") or ""),
            review_decision=str(data.get("review_decision") or ""),
            deployment_url=str(data.get("deployment_url") or ""),
            validation_status=str(data.get("validation_status") or ""),
            commit_sha=str(data.get("commit_sha") or ""),
            branch=str(data.get("branch") or ""),
            test_commit=str(data.get("test_commit") or ""),
            staging_expires_at=time_of(data.get("staging_expires_at")),
        )


@dataclass(frozen=True)
class Task:
    """A feature request as the server last told of it; it does not change by itself."""

    id: str
    status: str
    phase: str = ROUTE[0]
    progress: str = ""
    project: str = ""
    feature: str = ""
    reason: str = ""  # why it ended, or what it waits for
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    duration_s: int | None = None  # None until it has ended
    result: Result | None = None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the whole answer

    @property
    def is_finished(self) -> bool:
        """Say whether nothing more will happen to it by itself."""
        return self.status in FINISHED

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Task:
        """Read a task. Raises KeyError where it has no id or status."""
        duration = data.get("duration")
        return cls(
            id=str(data["task_id"]),
            status=str(data["status"]),
            phase=str(data.get("phase") or ROUTE[0]),
            progress=str(data.get("progress") or ""),
            project=str(data.get("project") or ""),
            feature=str(data.get("feature") or ""),
            reason=str(data.get("reason") or ""),
            created_at=time_of(data.get("created_at")),
            started_at=time_of(data.get("started_at")),
            completed_at=time_of(data.get("completed_at")),
            duration_s=None if duration is None else int(duration),
            result=Result.from_json(data.get("result")),
            document=dict(data),
        )


@dataclass(frozen=True)
class PhaseRun:
    """One try at one phase; `verdict` is empty while it runs."""

    number: int
    phase: str
    round: int = 0
    attempt: int = 1
    verdict: str = ""
    reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the phase measured
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def duration_s(self) -> float | None:
        """Return the seconds that it took; None while it runs."""
        if self.started_at is None or self.finished_at is None:
            return None
        measured = self.facts.get("seconds")  # finer than the times, which are whole seconds
        if isinstance(measured, int | float):
            return float(measured)
        return (self.finished_at - self.started_at).total_seconds()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PhaseRun:
        """Read one try. Raises KeyError where it has no number or phase."""
        return cls(
            number=int(data["run"]),
            phase=str(data["phase"]),
            round=int(data.get("round") or 0),
            attempt=int(data.get("attempt") or 1),
            verdict=str(data.get("verdict") or ""),
            reason=str(data.get("reason") or ""),
            started_at=time_of(data.get("started_at")),
            finished_at=time_of(data.get("finished_at")),
            facts=dict(data.get("facts") or {}),
            document=dict(data),
        )


@dataclass(frozen=True)
class WorkerState:
    """One worker process as /health shows it."""

    host: str
    pid: int
    task: str = ""
    phase: str = ""
    last_seen: datetime | None = None


@dataclass(frozen=True)
class Health:
    """How the factory is. `is_healthy` is False where no live worker can serve the queue."""

    status: str
    is_healthy: bool
    uptime_s: int
    tasks_queued: int
    tasks_running: int
    tasks_completed: int
    tasks_failed: int
    workers: tuple[WorkerState, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], http_status: int) -> Health:
        """Read /health. Raises KeyError where it is not Chimera's."""
        return cls(
            status=str(data["status"]),
            is_healthy=http_status == 200,
            uptime_s=int(data.get("uptime") or 0),
            tasks_queued=int(data["tasks_queued"]),
            tasks_running=int(data["tasks_running"]),
            tasks_completed=int(data["tasks_completed"]),
            tasks_failed=int(data["tasks_failed"]),
            workers=tuple(_worker(item) for item in data.get("workers") or ()),
            document=dict(data),
        )


def _worker(data: Mapping[str, Any]) -> WorkerState:
    return WorkerState(
        host=str(data["host"]),
        pid=int(data["pid"]),
        task=str(data.get("task") or ""),
        phase=str(data.get("phase") or ""),
        last_seen=time_of(data.get("last_seen")),
    )


def time_of(text: Any) -> datetime | None:
    """Read an ISO 8601 time; None for nothing."""
    return datetime.fromisoformat(str(text)) if text else None
