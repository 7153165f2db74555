"""Phase 1: the base works before an agent is asked for anything."""

from __future__ import annotations

from tasks.lifecycle import Verdict
from tasks.outcome import Finding, Outcome
from tasks.phases import own_tests
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.workspace import browser
from tasks.workspace.environment import InstallError
from tasks.workspace.git import GitError
from tasks.workspace.project_tests import TestRunError
from tasks.workspace.site import SiteError


def run(bench: Bench) -> Outcome:
    """Take the head of the branch, install it, start its site, run its tests for a baseline."""
    project = bench.order.project
    browser.find_chromium(bench.host.chromium)  # better now than after an agent was paid
    try:
        sha = bench.order.checkpoint.base_sha or bench.repository.head(project.branch)
    except GitError as error:
        if not error.permanent:
            raise
        return _broken("repository", str(error), "Check the project's repository and branch.")
    with bench.tree(sha) as tree:
        try:
            environment = bench.install(tree, sha)
            baseline = own_tests.run(bench, sha)
            with bench.site(tree, environment):
                pass
        except InstallError as error:
            return _broken("install", str(error), "Mend the install command, or the repository.")
        except TestRunError as error:
            bench.left_s()
            return _broken("tests", str(error), "Mend the test command, or leave it out.")
        except SiteError as error:
            advice = "Mend the serve command or the health path, or the repository."
            return _broken("serve", str(error), advice, bench)
    bench.left_s()
    if project.test_command and not baseline.ran:
        message = f"`{project.test_command}` ran no test."
        return _broken("tests", message, "Mend the test command, or leave it out.")
    return Outcome(
        Verdict.PASSED,
        f"The site at {sha[:10]} is healthy; {len(baseline.ran)} of its own tests ran, "
        f"{len(baseline.failed)} of them fail already.",
        checkpoint={"base_sha": sha, "baseline": baseline},
        facts={
            "base_sha": sha,
            "tests": len(baseline.ran),
            "failed": len(baseline.failed),
            "failing": sorted(baseline.failed)[:50],
        },
        evidence=bench.site_log(),
    )


def _broken(rule: str, message: str, advice: str, bench: Bench | None = None) -> Outcome:
    evidence = bench.site_log() if bench else ()
    return rejected(f"{message}\n{advice}", Finding(rule, message), evidence=evidence)
