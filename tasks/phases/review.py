"""Phase 5: the guardian. Its own checks first, then the reviewing agent where one is set."""

from __future__ import annotations

import json
from typing import Any

from tasks.agents.base import AgentError, Role
from tasks.lifecycle import Verdict
from tasks.outcome import Evidence, Finding, Outcome
from tasks.phases import own_tests
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.phases.guardian import run_checks
from tasks.workspace import checkout

MAX_DIFF_CHARS = 200_000


def run(bench: Bench) -> Outcome:
    """Approve the change only if every check and the reviewing agent do."""
    checks = run_checks(bench) | {"own tests": _failing_tests(bench)}
    findings = [finding for found in checks.values() for finding in found]
    answer, cost_usd, verdict = "", None, ""
    if not findings and bench.order.project.reviewer:
        diff = _diff(bench)
        if len(diff) > MAX_DIFF_CHARS:
            findings = [Finding("too-large", "The reviewer could not read so long a change.")]
        else:
            answer, findings, cost_usd = _ask_reviewer(bench, diff)
            verdict = "reject" if findings else "approve"
    decision = "rejected" if findings else "approved"
    facts = {
        "decision": decision,
        "checks": {name: len(found) for name, found in checks.items()},
        "reviewer": bench.order.project.reviewer,
        "reviewer_verdict": verdict,
    }
    evidence = (_report(bench, facts, findings, answer),)
    if findings:
        return rejected(
            f"The guardian found {len(findings)} fault{'s' * (len(findings) > 1)}: "
            f"{findings[0].message}",
            *findings,
            checkpoint={"review_decision": decision},
            facts=facts,
            evidence=evidence,
            cost_usd=cost_usd,
        )
    by = "its checks and the reviewer" if bench.order.project.reviewer else "its checks"
    return Outcome(
        Verdict.PASSED,
        f"The guardian approves: {by} found nothing.",
        checkpoint={"review_decision": decision},
        facts=facts,
        evidence=evidence,
        cost_usd=cost_usd,
    )


def read_verdict(answer: str) -> tuple[bool, list[Finding]]:
    """Read the last JSON object of a reviewer's answer: approved or not, and its findings.

    Raises AgentError for anything that is not a clear verdict; that never counts as approval.
    """
    verdict = _last_object(answer)
    if verdict.get("verdict") not in {"approve", "reject"}:
        said = answer.strip()[-500:] or "nothing"
        raise AgentError(f"The reviewer gave no verdict that can be read. It said: {said}")
    listed = verdict.get("findings") or []
    findings = [_finding(entry) for entry in listed if isinstance(entry, dict)]
    if verdict["verdict"] == "reject" and not findings:
        findings = [Finding("reviewer", "The reviewer rejects the change and gives no reason.")]
    return verdict["verdict"] == "approve" and not findings, findings


def _diff(bench: Bench) -> str:
    checkpoint = bench.order.checkpoint
    return bench.repository.diff(checkpoint.test_sha, checkpoint.code_sha)


def _ask_reviewer(bench: Bench, diff: str) -> tuple[str, list[Finding], float | None]:
    checkpoint = bench.order.checkpoint
    with bench.scratch() as folder:
        workspace = checkout.create(bench.repository, checkpoint.code_sha, folder / "work")
        report = bench.ask(
            Role.REVIEWER,
            bench.order.project.reviewer,
            workspace.folder,
            bench.install(workspace.folder),
            test_path=checkpoint.test_path,
            diff=diff,
        )
    with bench.starts.of(bench.order.project.reviewer):
        _, findings = read_verdict(report.answer)
    return report.answer, findings, report.cost_usd


def _failing_tests(bench: Bench) -> list[Finding]:
    now = own_tests.run(bench, bench.order.checkpoint.code_sha)
    return own_tests.newly_failing(bench.order.checkpoint.baseline, now)


def _last_object(answer: str) -> dict[str, Any]:
    """Return the last JSON object with a "verdict" in a text; {} if there is none."""
    decoder = json.JSONDecoder()
    found: dict[str, Any] = {}
    position = answer.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(answer, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            found = value if "verdict" in value else found
        position = answer.find("{", end)
    return found


def _finding(entry: dict[str, Any]) -> Finding:
    line = entry.get("line")
    return Finding(
        rule=f"reviewer:{str(entry.get('rule', ''))[:60]}".rstrip(":"),
        message=str(entry.get("message", ""))[:2000],
        file=str(entry.get("file", ""))[:500],
        line=line if isinstance(line, int) and line > 0 else 0,
    )


def _report(bench: Bench, facts: dict[str, Any], findings: list[Finding], answer: str) -> Evidence:
    checkpoint = bench.order.checkpoint
    content = {
        **facts,
        "base_sha": checkpoint.base_sha,
        "test_sha": checkpoint.test_sha,
        "code_sha": checkpoint.code_sha,
        "findings": [finding.as_json() for finding in findings],
        "answer": answer,
    }
    return bench.keep("review.json", json.dumps(content, indent=2), "review", "review.json")
