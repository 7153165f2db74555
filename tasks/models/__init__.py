"""The rows: what was asked, where it stands, what happened, what proves it."""

from tasks.models.artifact import Artifact
from tasks.models.breaker import Breaker
from tasks.models.deployment import Deployment
from tasks.models.event import Event
from tasks.models.lease import Lease, LeaseLostError
from tasks.models.project import Project
from tasks.models.run import PhaseRun
from tasks.models.settlement import Advance
from tasks.models.staging_lease import StagingLease
from tasks.models.task import Task, TaskStateError
from tasks.models.worker import Worker

__all__ = [
    "Advance",
    "Artifact",
    "Breaker",
    "Deployment",
    "Event",
    "Lease",
    "LeaseLostError",
    "PhaseRun",
    "Project",
    "StagingLease",
    "Task",
    "TaskStateError",
    "Worker",
]
