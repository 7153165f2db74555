"""The values that a phase is given, and the two ways in which it is cut short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.lifecycle import Phase, Verdict
from tasks.outcome import Checkpoint, DeploymentFacts, Finding, Outcome
from tasks.workspace.sandbox import Sandbox


class InterruptedRunError(Exception):
    """We stopped the phase: the lease was lost, the task cancelled, or a shutdown began."""


class OutOfTimeError(Exception):
    """The phase did not end within its time limit."""


@dataclass(frozen=True)
class ProjectSpec:
    """A project as the phases see it; see tasks.models.Project for the meaning of each."""

    name: str
    repository: str
    branch: str
    serve_command: str
    install_command: str = ""
    test_command: str = ""
    health_path: str = "/"
    e2e_folder: str = "tests/e2e"
    protected_paths: tuple[str, ...] = ()
    author: str = "playbook"
    coder: str = "playbook"
    reviewer: str = ""
    deploy_command: str = ""  # "" = Chimera serves staging copies itself
    rollback_command: str = ""
    commit_check: str = ""
    staging_origins: tuple[str, ...] = ()
    agent_network: bool = False
    max_changed_lines: int = 2000
    max_changed_files: int = 50


@dataclass(frozen=True)
class Order:
    """One try at one phase: the request, where it stands, and what the last try got wrong."""

    task_id: str
    feature: str
    start_path: str  # path and query of the target URL
    phase: Phase
    round: int
    fence: int
    project: ProjectSpec
    checkpoint: Checkpoint
    findings: tuple[Finding, ...] = ()
    deployment: DeploymentFacts | None = None  # the copy that phase 6 made
    staging_url: str = ""  # where it is asked to be deployed to


@dataclass(frozen=True)
class Host:
    """What this machine offers to every task."""

    home: Path
    sandbox: Sandbox
    chromium: str
    max_browsers: int
    staging_domain: str
    shares_commits: bool = False  # by the project's remote, for other hosts
    network_env: Mapping[str, str] = field(default_factory=dict)


def rejected(reason: str, *findings: Finding, **more: object) -> Outcome:
    """Return the outcome of work that is not good enough; the findings go into the next brief."""
    return Outcome(Verdict.REJECTED, reason, findings=findings, **more)  # type: ignore[arg-type]
