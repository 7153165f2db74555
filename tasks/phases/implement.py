"""Phase 4: an agent changes the code; Chimera commits it once the test passes on a local copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.agents.base import Role
from tasks.lifecycle import Verdict
from tasks.outcome import Evidence, Finding, Outcome
from tasks.phases import own_tests
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.phases.proofs import faults
from tasks.workspace import checkout
from tasks.workspace.environment import Environment, InstallError
from tasks.workspace.git import ImportLimitError
from tasks.workspace.project_tests import TestRunError
from tasks.workspace.proof import Result
from tasks.workspace.site import SiteError, tail


def run(bench: Bench) -> Outcome:
    """Ask the coder for a change, refuse what it may not touch, and see the test pass."""
    checkpoint = bench.order.checkpoint
    with bench.scratch() as folder:
        start = checkpoint.draft_sha or checkpoint.test_sha
        workspace = checkout.create(bench.repository, start, folder / "work")
        report = bench.ask(
            Role.CODER,
            bench.order.project.coder,
            workspace.folder,
            _tools(bench, workspace.folder),
            test_path=checkpoint.test_path,
        )
        try:
            imported = bench.repository.import_tree(workspace.folder, base=start)
        except ImportLimitError as error:
            message = f"The workspace holds {error}; take out what does not belong to the change."
            return rejected(message, Finding("too-large", message), cost_usd=report.cost_usd)
    refusals = refused_changes(bench, imported.tree)
    if refusals:
        return rejected(refusals[0].message, *refusals, cost_usd=report.cost_usd)
    about = f"Makes {checkpoint.test_path} pass."
    sha = bench.commit(imported.tree, checkpoint.test_sha, "", about)
    tried = _try_out(bench, sha)
    findings, facts = tried.findings, {"code_sha": sha, **_size(bench, sha), **tried.facts}
    diff = bench.repository.diff(checkpoint.test_sha, sha)
    evidence = (*tried.evidence, bench.keep("change.diff", diff, "diff", "change.diff"))
    if findings:
        return rejected(
            findings[0].message,
            *findings,
            checkpoint={"draft_sha": sha},
            facts=facts,
            evidence=evidence,
            cost_usd=report.cost_usd,
        )
    return Outcome(
        Verdict.PASSED,
        "The test passes on a local copy, and the project's own tests fail nowhere new.",
        checkpoint={"draft_sha": sha, "code_sha": sha},
        facts=facts,
        evidence=evidence,
        cost_usd=report.cost_usd,
    )


def _tools(bench: Bench, folder: Path) -> Environment:
    """Return the project's environment for the coder; a draft that broke it gets none."""
    try:
        return bench.install(folder)
    except InstallError as error:
        bench.log.line(str(error))
        return Environment(None, "")


def refused_changes(bench: Bench, tree: str) -> list[Finding]:
    """Return a finding for each path that a coder may not change, and one for no change at all."""
    checkpoint, project = bench.order.checkpoint, bench.order.project
    changes = bench.repository.changed(checkpoint.test_sha, tree)
    changed = [change.path for change in changes]
    if not changed:
        return [Finding("no-change", "Nothing was changed.")]
    protected = (project.e2e_folder, *project.protected_paths)
    deleted = [
        Finding("deleted-test", f"{path}: its tests ran before the change and not now.", path)
        for path in (change.path for change in changes if change.status == "D")
        if own_tests.is_test(path)
    ]
    return deleted + [
        Finding("protected-path", f"{path} may not be changed.", path)
        for path in changed
        if own_tests.is_configuration(path)
        or any(path == name or path.startswith(f"{name}/") for name in protected)
    ]


@dataclass(frozen=True)
class Tried:
    """What running a change has shown."""

    findings: list[Finding]
    evidence: tuple[Evidence, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def _size(bench: Bench, sha: str) -> dict[str, int]:
    changes = bench.repository.changed(bench.order.checkpoint.test_sha, sha)
    return {
        "files": len(changes),
        "lines_added": sum(change.added for change in changes),
        "lines_deleted": sum(change.deleted for change in changes),
    }


def _try_out(bench: Bench, sha: str) -> Tried:
    """Run the project's tests and the end-to-end test against the change."""
    with bench.tree(sha) as tree:
        try:
            own = own_tests.run(bench, sha)
            environment = bench.install(tree, sha)
            with bench.site(tree, environment) as room:
                seen = bench.prove(room)
        except (InstallError, TestRunError) as error:
            bench.left_s()
            rule = "install" if isinstance(error, InstallError) else "tests"
            return Tried([Finding(rule, str(error))])
        except SiteError as error:
            return Tried([Finding("serve", str(error))], bench.site_log())
    bench.left_s()
    findings = own_tests.newly_failing(bench.order.checkpoint.baseline, own)
    if seen.result != Result.PASSED:
        path = bench.order.checkpoint.test_path
        findings = faults(seen, path, f"The test fails: {seen.reason}") + findings
        findings += _site_log(bench.folder / "site.log")
    facts = {
        "own_tests": {"ran": len(own.ran), "failed": len(own.failed)},
        "proof": seen.as_json(),
    }
    return Tried(findings, (*seen.evidence, *bench.site_log()), facts)


def _site_log(path: Path) -> list[Finding]:
    said = tail(path, 2000)
    return [Finding("site-log", f"The site printed:\n{said}")] if said else []
