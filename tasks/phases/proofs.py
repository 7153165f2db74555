"""What a failed proof tells the coder: the assertion, and what the page complained of."""

from __future__ import annotations

import re

from tasks.outcome import Finding
from tasks.workspace.proof import Proof, Result

MAX_TOLD = 3  # of each sort; the rest is in the facts and in the evidence
# Chromium's words for a way that ends before there is a page: a certificate that it does not
# trust, or another origin that the site leads to.
_NO_WAY = re.compile(
    r"net::ERR_(?:CERT_\w+|SSL_\w+|NAME_NOT_RESOLVED|CONNECTION_REFUSED|CONNECTION_TIMED_OUT"
    r"|ADDRESS_\w+|UNSAFE_PORT)\b.*\(no page had loaded\)"
)


def no_way_in(seen: Proof) -> str:
    """Return why the browser came to no page of a site at all; "" where it did."""
    is_so = seen.result == Result.BROKEN and _NO_WAY.search(seen.reason)
    return seen.reason if is_so else ""


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
