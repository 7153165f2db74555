"""Phase 6: the reviewed commit, exactly it, goes live on staging."""

from __future__ import annotations

from tasks.lifecycle import Verdict
from tasks.outcome import Finding, Outcome
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.phases.local_staging import LocalStaging
from tasks.phases.script_staging import ScriptStaging
from tasks.workspace.environment import InstallError
from tasks.workspace.script import BadChangeError
from tasks.workspace.site import SiteError

# What the change is to blame for; everything else is broken machinery.
NOT_DEPLOYABLE = (SiteError, InstallError, BadChangeError)
Staging = LocalStaging | ScriptStaging


def run(bench: Bench) -> Outcome:
    """Put the code commit on staging; one that cannot live there goes back."""
    try:
        live = staging_for(bench).deploy()
    except NOT_DEPLOYABLE as error:
        return not_deployable(bench, error)
    return Outcome(
        Verdict.PASSED,
        f"Commit {live.commit_sha[:10]} is live at {live.url}.",
        checkpoint={"deployment_url": live.url},
        facts={
            "url": live.url,
            "commit_sha": live.commit_sha,
            "health": {"path": bench.order.project.health_path, "ok": True},
        },
        deployment=live,
        evidence=bench.site_log(),
    )


def staging_for(bench: Bench) -> Staging:
    """Return how this project's changes go live."""
    by_script = bench.order.project.deploy_command != ""
    return ScriptStaging(bench) if by_script else LocalStaging(bench)


def not_deployable(bench: Bench, error: Exception) -> Outcome:
    """Return the outcome of a change that cannot live on staging."""
    finding = Finding("deploy", str(error))
    return rejected(str(error), finding, evidence=bench.site_log())
