"""What a failed proof tells the coder: the assertion, and what the page complained of."""

from __future__ import annotations

from tasks.outcome import Finding
from tasks.workspace.proof import Proof

MAX_TOLD = 3  # of each sort; the rest is in the facts and in the evidence


def faults(seen: Proof, test_path: str, message: str) -> list[Finding]:
    """Return a finding for the test, then a few for the page's console and its requests."""
    return [
        Finding("e2e-failed", message, test_path, seen.line),
        *(Finding("console", f"The page's console: {text}") for text in seen.console[:MAX_TOLD]),
        *(
            Finding("request-failed", f"A request of the page failed: {text}")
            for text in seen.failed_requests[:MAX_TOLD]
        ),
    ]
