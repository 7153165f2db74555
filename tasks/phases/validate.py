"""Phase 7: the same test, unchanged, passes against the staging copy."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from tasks.lifecycle import Verdict
from tasks.outcome import DeploymentFacts, Finding, Outcome
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.phases.deploy import deploy
from tasks.workspace import staging
from tasks.workspace.environment import InstallError
from tasks.workspace.proof import Result
from tasks.workspace.site import SiteError


def run(bench: Bench) -> Outcome:
    """Prove the deployed commit; where its copy is gone, deploy it again first."""
    try:
        live, is_new = _live_copy(bench)
    except (SiteError, InstallError) as error:
        return rejected(str(error), Finding("deploy", str(error)), evidence=bench.site_log())
    port = urlsplit(live.url).port or 80
    with bench.doorway(port, live.url) as room:
        seen = bench.prove(room)
    bench.left_s()
    passed = seen.result == Result.PASSED
    outcome = Outcome(
        Verdict.PASSED,
        f"The test that failed before the change passes at {live.url}.",
        checkpoint={
            "deployment_url": live.url,
            "validation_status": "passed" if passed else "failed",
        },
        facts={"url": live.url, "commit_sha": live.commit_sha},
        deployment=live if is_new else None,
        evidence=seen.evidence,
    )
    if passed:
        return outcome
    path = bench.order.checkpoint.test_path
    message = f"The test fails on staging: {seen.reason}"
    finding = Finding("e2e-failed", message, path, seen.line)
    return replace(outcome, verdict=Verdict.REJECTED, reason=message, findings=(finding,))


def _live_copy(bench: Bench) -> tuple[DeploymentFacts, bool]:
    """Return the copy that serves the code commit on this host, and whether it is new."""
    known = bench.order.deployment
    wanted = bench.order.checkpoint.code_sha
    if known and known.commit_sha == wanted and staging.is_live(known):
        return known, False
    bench.log.line("the staging copy is not live on this host; deploying it again")
    return deploy(bench), True
