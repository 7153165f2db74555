"""What is stored of a phase's outcome can be stored."""

from __future__ import annotations

from tasks.lifecycle import Verdict
from tasks.outcome import MAX_FINDINGS, MAX_TEXT, Finding, Outcome, TestReport


def test_no_nul_and_no_lone_surrogate_is_left() -> None:
    bad = "x\0y\ud800z"
    outcome = Outcome(
        Verdict.REJECTED,
        bad,
        checkpoint={"red_reason": bad},
        findings=(Finding(bad, bad, bad, 3),),
        facts={"deep": [{"er": (bad,)}], bad: 1},
    ).storable()
    texts = f"{outcome.reason}{outcome.checkpoint}{outcome.findings}{outcome.facts}"
    assert "\0" not in texts
    assert texts.encode()
    assert outcome.findings[0].line == 3


def test_texts_and_findings_have_bounds() -> None:
    findings = tuple(Finding("r", "m" * 100_000) for _ in range(1000))
    outcome = Outcome(Verdict.REJECTED, "r" * 100_000, findings=findings).storable()
    assert len(outcome.reason) == MAX_TEXT
    assert len(outcome.findings) == MAX_FINDINGS
    assert len(outcome.findings[0].message) == MAX_TEXT


def test_plain_text_stays_as_it_is() -> None:
    outcome = Outcome(Verdict.PASSED, "Grüße 👋\n{feature}", facts={"n": 1, "s": True, "x": None})
    assert outcome.storable() == outcome


def test_a_baseline_survives_storing() -> None:
    report = TestReport(frozenset({"a", "b"}), frozenset({"b"}))
    assert TestReport.from_json(report.as_json()) == report
    assert TestReport.from_json(None) == TestReport(frozenset(), frozenset())
