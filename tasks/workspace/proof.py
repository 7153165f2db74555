"""What a proof showed: reading the files that the browser's child left behind.

The folder was writable to a test that an agent wrote, so nothing in it is followed or believed
beyond its form: links and special files are passed over, sizes are bounded.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tasks.outcome import Evidence
from tasks.workspace import failure
from tasks.workspace.failure import Failure, bounded
from tasks.workspace.plainfile import open_plain
from tasks.workspace.process import Completed

PLAYWRIGHT_TIMEOUT = "playwright._impl._errors.TimeoutError"
# A time-out of one of these says that the site did not answer, not that it lacks something.
NAVIGATIONS = (
    "Page.goto",
    "Page.reload",
    "Page.wait_for_load_state",
    "Page.wait_for_url",
    "Page.go_",
)
MAX_REPORT_BYTES = 4 * 1024 * 1024
MAX_EVIDENCE_BYTES = 200 * 1024 * 1024  # in one proof
MAX_EVIDENCE_FILES = 50
MAX_PATH = 400
MAX_REASON = 700
MAX_COUNT = 1_000_000
MAX_FACTS = 20  # of the console errors, and of the failed requests, that a phase tells of
KINDS = {
    ".png": "screenshot",
    ".webm": "video",
    ".zip": "trace",
    ".xml": "report",
    ".json": "report",
}


class Result(StrEnum):
    """What one run of the test says about the site."""

    PASSED = "passed"
    FAILED = "failed"  # on an assertion: the site lacks what the test asks for
    BROKEN = "broken"  # the test itself, or the way to the site, is at fault
    NONE_RAN = "none ran"
    NO_BROWSER = "no browser"  # the machinery is at fault: the browser did not start
    STOPPED = "stopped"  # by us, or by the deadline


@dataclass(frozen=True)
class Proof:
    """One browser run of the end-to-end test and its evidence."""

    result: Result
    reason: str  # one sentence; for a failure: which assertion, in words
    line: int = 0  # of the test file, where it failed
    failure: Failure = field(default_factory=Failure)  # the assertion in its parts
    console: tuple[str, ...] = ()  # the errors there, the first of them
    console_count: int = 0
    failed_requests: tuple[str, ...] = ()  # unanswered, or answered with an error; the first
    failed_requests_count: int = 0
    evidence: tuple[Evidence, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what it showed, as the facts of a phase hold it."""
        return {
            "result": self.result.value,
            **self.failure.as_json(),
            "line": self.line,
            "console": list(self.console[:MAX_FACTS]),
            "console_count": self.console_count,
            "failed_requests": list(self.failed_requests[:MAX_FACTS]),
            "failed_requests_count": self.failed_requests_count,
        }


def read(results: Path, completed: Completed) -> Proof:
    """Judge a finished run by its report, its exit code and nothing else."""
    report = _report(results / "proof.json")
    result, reason, culprit = _judge(report, completed)
    console, requests = _words(report.get("console")), _words(report.get("requests"))
    return Proof(
        result=result,
        reason=reason,
        line=_line(culprit),
        failure=failure.read(culprit) if result == Result.FAILED else Failure(),
        console=console,
        console_count=_count(report.get("console_count"), console),
        failed_requests=requests,
        failed_requests_count=_count(report.get("requests_count"), requests),
        evidence=collect(results),
    )


def collect(results: Path) -> tuple[Evidence, ...]:
    """List the regular files below `results` that are evidence, never following a link."""
    found: list[Evidence] = []
    left = MAX_EVIDENCE_BYTES
    for folder, folders, names in os.walk(results, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            info = path.lstat()
            kind = KINDS.get(path.suffix)
            left -= info.st_size
            if kind and stat.S_ISREG(info.st_mode) and left >= 0 and _is_nameable(path):
                found.append(Evidence(kind, str(path), title=name))
    return tuple(found[:MAX_EVIDENCE_FILES])


def _is_nameable(path: Path) -> bool:
    """Say whether a row and a URL can carry the path."""
    text = str(path)
    is_text = text.isprintable() and text.encode("utf-8", "replace").decode() == text
    return is_text and len(text) <= MAX_PATH


def is_assertion(test: dict[str, Any]) -> bool:
    """Say whether a failure means that the page lacks something, and not that the test is broken.

    That is an AssertionError (Playwright's `expect` raises it too), or a time-out of a locator
    after the page had loaded.
    """
    classes = test.get("classes") or []
    if test.get("when") != "call" or not test.get("page_loaded"):
        return False
    if "builtins.AssertionError" in classes:
        return True
    message = str(test.get("message", ""))
    return PLAYWRIGHT_TIMEOUT in classes and not message.startswith(NAVIGATIONS)


def _judge(report: dict[str, Any], completed: Completed) -> tuple[Result, str, dict[str, Any]]:
    """Return what the run says, why, and the test at fault ({} where there is none)."""
    if completed.stopped:
        return Result.STOPPED, "The proof was stopped.", {}
    if completed.timed_out:
        return Result.STOPPED, "The test did not end within its time limit.", {}
    tests, errors = _entries(report.get("tests")), _entries(report.get("errors"))
    if errors:
        return Result.BROKEN, f"It could not be collected: {_last(errors[0].get('message'))}", {}
    if not tests:
        return Result.NONE_RAN, f"No test ran. {_last(completed.output_tail)}", {}
    failures = [test for test in tests if test.get("outcome") == "failed"]
    launches = [test for test in failures if _is_launch(test)]
    if launches:
        return Result.NO_BROWSER, _told(launches[0]), {}
    broken = [test for test in failures if not is_assertion(test)]
    if broken:
        return Result.BROKEN, _told(broken[0]), broken[0]
    if failures:
        return Result.FAILED, failure.read(failures[0]).sentence or _told(failures[0]), failures[0]
    if completed.returncode == 0 and all(test.get("outcome") == "passed" for test in tests):
        return Result.PASSED, f"{len(tests)} test{'s' * (len(tests) > 1)} passed.", {}
    if any(test.get("outcome") == "skipped" for test in tests):
        return Result.NONE_RAN, "A test was skipped; a skipped test proves nothing.", {}
    return Result.BROKEN, f"pytest ended with code {completed.returncode}.", {}


def _is_launch(test: dict[str, Any]) -> bool:
    message, classes = str(test.get("message", "")), test.get("classes") or [""]
    is_playwrights = str(classes[0]).startswith("playwright.")
    is_launch = is_playwrights and message.startswith("BrowserType.launch")
    return is_launch and test.get("when") == "setup"


def _entries(value: object) -> list[dict[str, Any]]:
    found = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    return [{**entry, "classes": _names(entry.get("classes"))} for entry in found]


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _told(test: dict[str, Any]) -> str:
    name = str((test.get("classes") or ["?"])[0]).rsplit(".", 1)[-1]
    message = str(test.get("message", ""))
    for rest in ("Call log:", "Browser logs:"):
        message = message.split(rest)[0]
    loaded = "" if test.get("page_loaded") else " (no page had loaded)"
    return f"{bounded(name)}: {bounded(message, MAX_REASON)}{loaded}"


def _line(test: dict[str, Any]) -> int:
    line = test.get("line")
    return line if isinstance(line, int) and 0 <= line <= MAX_COUNT else 0


def _last(text: object) -> str:
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    return lines[-1][:600] if lines else ""


def _words(value: object) -> tuple[str, ...]:
    return tuple(bounded(word, 500) for word in value[:100]) if isinstance(value, list) else ()


def _count(told: object, words: tuple[str, ...]) -> int:
    number = told if isinstance(told, int) else 0
    return max(len(words), min(number, MAX_COUNT))


def _report(path: Path) -> dict[str, Any]:
    """Read the plugin's report if it is a plain file of a bearable size; {} otherwise."""
    with contextlib.suppress(OSError, ValueError, RecursionError), open_plain(path) as file:
        if os.fstat(file.fileno()).st_size <= MAX_REPORT_BYTES:
            report = json.loads(file.read())
            return report if isinstance(report, dict) else {}
    return {}
