"""What a phase returns, and what is carried from phase to phase. Values only; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tasks.lifecycle import ROUTE, Phase, Verdict


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a change: where, by which rule, in words."""

    rule: str  # e.g. "ruff:S602", "protected-path", "e2e-failed"
    message: str
    file: str = ""
    line: int = 0  # 1-based; 0 = the whole file, or no file

    def as_json(self) -> dict[str, Any]:
        """Return the finding as the API and the brief show it."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """A file that a phase leaves behind as proof; `path` is absolute, inside the task's folder."""

    kind: str  # one of Artifact.Kind
    path: str
    title: str = ""


@dataclass(frozen=True)
class TestReport:
    """The project's own tests in one run: every id that ran, and those that failed."""

    __test__ = False  # not a pytest class

    ran: frozenset[str]
    failed: frozenset[str]

    def as_json(self) -> dict[str, list[str]]:
        """Return a shape that `from_json` reads back; names that no database takes are mended."""
        return {
            "ran": sorted(_clean(name, 1000) for name in self.ran),
            "failed": sorted(_clean(name, 1000) for name in self.failed),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> TestReport:
        """Read what `as_json` wrote; None gives an empty report."""
        data = data or {}
        return cls(frozenset(data.get("ran", ())), frozenset(data.get("failed", ())))


@dataclass(frozen=True)
class Checkpoint:
    """What the phases passed so far have produced; "" = not yet. Stored on the task's row."""

    base_sha: str = ""
    test_path: str = ""  # inside the repository
    test_sha: str = ""  # the commit that added the test
    draft_sha: str = ""  # the coder's last try, not proven; the next round goes on from it
    code_sha: str = ""  # the commit that made it pass
    red_reason: str = ""  # why the test failed before the change, in one sentence
    review_decision: str = ""  # approved | rejected
    deployment_url: str = ""
    validation_status: str = ""  # passed | failed
    baseline: TestReport | None = None


# Which phase makes which part of the checkpoint; starting anew at a phase forgets them from there.
MADE_BY: dict[Phase, tuple[str, ...]] = {
    Phase.WORKSPACE_PREPARATION: ("base_sha", "baseline"),
    Phase.E2E_TEST_GENERATION: ("test_path", "test_sha"),
    Phase.RED_VERIFICATION: ("red_reason",),
    Phase.CODE_IMPLEMENTATION: ("draft_sha", "code_sha"),
    Phase.GUARDIAN_REVIEW: ("review_decision",),
    Phase.STAGING_DEPLOYMENT: ("deployment_url",),
    Phase.E2E_VALIDATION: ("validation_status",),
}


def forgotten_from(phase: Phase) -> dict[str, Any]:
    """Return the checkpoint's fields made in `phase` and after it, each with its empty value."""
    later = ROUTE[ROUTE.index(phase) :]
    names = [name for each in later for name in MADE_BY[each]]
    return {name: None if name == "baseline" else "" for name in names}


@dataclass(frozen=True)
class DeploymentFacts:
    """A staging copy that was started; the executor records it as a Deployment row.

    One that a project's own command made is kept by nobody here: host "" and pid 0.
    """

    url: str
    commit_sha: str
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    pid_started: float = 0.0  # seconds since the epoch, as psutil's create_time()


@dataclass(frozen=True)
class AgentStart:
    """That an agent was started, and how it failed; "" when it did its work, good or bad.

    An agent that says that a request is not for it has done its work too.
    """

    agent: str  # as its project names it
    failure: str = ""


@dataclass(frozen=True)
class Outcome:
    """How one try at a phase ended.

    `checkpoint` holds the fields of Checkpoint that changed, by name. `findings` go into the
    next brief when the verdict is rejected. `cost_usd` is what agents reported, None = unknown.
    """

    verdict: Verdict
    reason: str = ""
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # shown in the history, JSON types only
    deployment: DeploymentFacts | None = None
    is_withdrawn: bool = False  # the task's staging copies are over
    permanent: bool = False
    cost_usd: float | None = None
    agent: AgentStart | None = None

    @property
    def is_worth_another_try(self) -> bool:
        """Say whether the machinery broke in a way that may heal."""
        return self.verdict == Verdict.ERRORED and not self.permanent

    def storable(self) -> Outcome:
        """Return it fit for any database: no NUL, no lone surrogate, nothing beyond bounds.

        What it tells comes from hostile code in part: pages, logs, agents, file names.
        """
        findings = [
            Finding(
                rule=_clean(finding.rule, 100),
                message=_clean(finding.message, MAX_TEXT),
                file=_clean(finding.file, 500),
                line=finding.line,
            )
            for finding in self.findings[:MAX_FINDINGS]
        ]
        return replace(
            self,
            reason=_clean(self.reason, MAX_TEXT),
            findings=tuple(findings),
            facts=_clean_json(self.facts),
            agent=self.agent and replace(self.agent, failure=_clean(self.agent.failure, 2000)),
            checkpoint={
                name: _clean(value, MAX_TEXT) if isinstance(value, str) else value
                for name, value in self.checkpoint.items()
            },
        )


MAX_TEXT = 8000
MAX_FINDINGS = 100


def _clean(text: str, limit: int) -> str:
    plain = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _clean_json(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value, MAX_TEXT)
    if isinstance(value, Mapping):
        return {_clean(str(key), 100): _clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean_json(item) for item in value[:1000]]
    return value
