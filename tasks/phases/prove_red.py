"""Phase 3: the test fails on the unchanged site, and for the right reason."""

from __future__ import annotations

from tasks.lifecycle import Verdict
from tasks.outcome import Finding, Outcome
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.workspace.proof import Proof, Result


def run(bench: Bench) -> Outcome:
    """Run the test against the base; only a failed assertion passes this phase."""
    base = bench.order.checkpoint.base_sha
    with bench.tree(base) as tree:
        environment = bench.install(tree, base)
        with bench.site(tree, environment) as room:
            seen = bench.prove(room)
    bench.left_s()
    evidence = (*seen.evidence, *bench.site_log())
    facts = {"reason": seen.reason, "line": seen.line, "proof": seen.as_json()}
    if seen.result == Result.FAILED:
        return Outcome(
            Verdict.PASSED,
            f"It fails as it must: {seen.reason}",
            checkpoint={"red_reason": seen.reason},
            facts=facts,
            evidence=evidence,
        )
    finding = _why_not_red(bench, seen)
    return rejected(finding.message, finding, facts=facts, evidence=evidence)


def _why_not_red(bench: Bench, seen: Proof) -> Finding:
    path = bench.order.checkpoint.test_path
    if seen.result == Result.PASSED:
        message = (
            "The test passes before the change, so it does not show that the feature is missing."
        )
        return Finding("passes-already", message, path)
    message = f"The test fails, but not on an assertion about the page: {seen.reason}"
    return Finding("not-an-assertion", message, path, seen.line)
