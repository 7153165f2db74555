"""Phase 7: the same test, unchanged, passes against the staging copy."""

from __future__ import annotations

from dataclasses import replace

from tasks.lifecycle import Verdict
from tasks.outcome import DeploymentFacts, Outcome
from tasks.phases.bench import Bench
from tasks.phases.deploy import NOT_DEPLOYABLE, Staging, not_deployable, staging_for
from tasks.phases.proofs import faults
from tasks.workspace.proof import Proof, Result


def run(bench: Bench) -> Outcome:
    """Prove the deployed commit; where its copy is gone, deploy it again first."""
    staging = staging_for(bench)
    try:
        live, is_new = _live_copy(bench, staging)
    except NOT_DEPLOYABLE as error:
        return not_deployable(bench, error)
    with staging.visited(live) as room:
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
        facts={"url": live.url, "commit_sha": live.commit_sha, "proof": seen.as_json()},
        deployment=live if is_new else None,
        evidence=(*seen.evidence, *bench.staging_log(live.pid)),
    )
    if passed:
        return outcome
    if why := staging.barred_way(seen):
        return _not_reached(outcome, live, why)
    return _failed(bench, outcome, seen, staging.withdraw(live))


def _not_reached(outcome: Outcome, live: DeploymentFacts, why: str) -> Outcome:
    """Blame the way to the site: a certificate or a redirect is no change's fault."""
    reason = f"The test's browser does not get to {live.url}, though Chimera does: {why}"
    checkpoint = {"deployment_url": live.url}
    return replace(outcome, verdict=Verdict.ERRORED, reason=reason, checkpoint=checkpoint)


def _failed(bench: Bench, outcome: Outcome, seen: Proof, withdrawal: str) -> Outcome:
    path = bench.order.checkpoint.test_path
    message = f"The test fails on staging: {seen.reason}"
    return replace(
        outcome,
        verdict=Verdict.REJECTED,
        reason=f"{message} {withdrawal}".strip(),
        findings=tuple(faults(seen, path, message)),
        is_withdrawn=withdrawal != "",
    )


def _live_copy(bench: Bench, staging: Staging) -> tuple[DeploymentFacts, bool]:
    """Return the copy that serves the code commit, and whether it is new."""
    known = bench.order.deployment
    wanted = bench.order.checkpoint.code_sha
    if known and known.commit_sha == wanted and staging.is_live(known):
        return known, False
    bench.log.line("the code commit is not live; deploying it again")
    return staging.deploy(), True
