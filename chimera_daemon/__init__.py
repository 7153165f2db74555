"""What other programs install: the client for Chimera's API, and its commands. No Django here."""

from chimera_daemon.client import ChimeraClient
from chimera_daemon.errors import (
    ChimeraError,
    ConflictError,
    NotFoundError,
    Problem,
    ProblemError,
    RefusedError,
    UnreachableError,
    WaitTimeoutError,
)
from chimera_daemon.values import Health, PhaseRun, Result, Task, WorkerState

__all__ = [
    "ChimeraClient",
    "ChimeraError",
    "ConflictError",
    "Health",
    "NotFoundError",
    "PhaseRun",
    "Problem",
    "ProblemError",
    "RefusedError",
    "Result",
    "Task",
    "UnreachableError",
    "WaitTimeoutError",
    "WorkerState",
]
