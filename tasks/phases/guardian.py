"""The guardian's own checks on a change. Each returns findings; none of them is advisory."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tasks.outcome import Finding
from tasks.phases.bench import Bench
from tasks.phases.implement import refused_changes

# Errors, likely bugs and security; not style, which is the project's own affair.
RUFF_RULES = "E9,F,B,S,PLE"
RUFF_IGNORED = "S101"  # `assert` is how tests speak

_SECRETS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,})\b")),
    ("GitLab token", re.compile(r"\bglpat-[\w-]{20,}")),
    ("Slack token", re.compile(r"\bxox[abposr]-[\w-]{10,}")),
    ("API key", re.compile(r"\bsk-(?:ant-|proj-)?[\w-]{24,}")),
    ("Google API key", re.compile(r"\bAIza[\w-]{35}\b")),
    (
        "hard-coded credential",
        re.compile(
            r"(?i)\b(?:password|passwd|secret|api_?key|access_?token|auth_?token)\b['\"]?\s*[:=]\s*"
            r"['\"](?=[^'\"\s]*\d)(?=[^'\"\s]*[A-Za-z])[^'\"\s{}<>]{12,}['\"]"
        ),
    ),
)


def find_faults(bench: Bench) -> list[Finding]:
    """Run every check on the change from the test commit to the code commit."""
    return [
        *changed_test(bench),
        *refused_changes(bench, bench.order.checkpoint.code_sha),
        *oversized(bench),
        *secrets(bench),
        *lint(bench),
    ]


def changed_test(bench: Bench) -> list[Finding]:
    """Hold the test to be, byte for byte, the one that phase 2 committed."""
    checkpoint = bench.order.checkpoint
    now = bench.repository.read(checkpoint.code_sha, checkpoint.test_path)
    if now == bench.pristine_test():
        return []
    return [Finding("test-changed", "The end-to-end test was changed.", checkpoint.test_path)]


def oversized(bench: Bench) -> list[Finding]:
    """Hold the change within the project's limits."""
    checkpoint, project = bench.order.checkpoint, bench.order.project
    changes = bench.repository.changed(checkpoint.test_sha, checkpoint.code_sha)
    lines = sum(change.added + change.deleted for change in changes)
    if lines <= project.max_changed_lines and len(changes) <= project.max_changed_files:
        return []
    return [
        Finding(
            "too-large",
            f"{len(changes)} files and {lines} lines changed; the project allows "
            f"{project.max_changed_files} files and {project.max_changed_lines} lines.",
        )
    ]


def secrets(bench: Bench) -> list[Finding]:
    """Look for credentials in the lines that were added."""
    checkpoint = bench.order.checkpoint
    diff = bench.repository.diff(checkpoint.test_sha, checkpoint.code_sha)
    findings = []
    for path, number, line in added_lines(diff):
        for name, pattern in _SECRETS:
            if pattern.search(line):
                findings.append(Finding("secret", f"This looks like a {name}.", path, number))
                break
    return findings


def added_lines(diff: str) -> list[tuple[str, int, str]]:
    """Return (path, line number, text) of each line that a unified diff adds."""
    added: list[tuple[str, int, str]] = []
    path, number, left = "", 0, 0
    for line in diff.splitlines():
        if left > 0 and line[:1] in {"+", " "}:
            if line[0] == "+":
                added.append((path, number, line[1:]))
            number += 1
            left -= 1
        elif line.startswith("+++ "):
            path = line[4:].split("\t")[0].strip('"').removeprefix("b/")
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            number, left = int(hunk[1]), int(hunk[2] or 1)
    return added


def lint(bench: Bench) -> list[Finding]:
    """Return what ruff finds in changed Python files and did not find in them before."""
    checkpoint = bench.order.checkpoint
    changes = bench.repository.changed(checkpoint.test_sha, checkpoint.code_sha)
    paths = [change.path for change in changes if change.path.endswith(".py")]
    before = Counter(_key(fault) for fault in _ruff(bench, checkpoint.test_sha, paths))
    findings = []
    for fault in _ruff(bench, checkpoint.code_sha, paths):
        key = _key(fault)
        if before[key] > 0:
            before[key] -= 1
            continue
        row = (fault.get("location") or {}).get("row", 0)
        findings.append(Finding(f"ruff:{key[1]}", str(fault.get("message")), key[0], row))
    return findings


def _ruff(bench: Bench, sha: str, paths: list[str]) -> list[dict[str, Any]]:
    """Lint these files of a commit in the sandbox, with our rules and not the project's."""
    with bench.scratch() as folder:
        found = [path for path in paths if _lay(bench, sha, path, folder)]
        if not found:
            return []
        ruff = Path(sys.executable).with_name("ruff")
        argv = (
            *(str(ruff), "check", "--isolated", "--no-cache", "--output-format=json"),
            *(f"--select={RUFF_RULES}", f"--ignore={RUFF_IGNORED}", "--exit-zero", "--", "."),
        )
        faults: list[dict[str, Any]] = json.loads(bench.output(argv, folder))
    return faults


def _lay(bench: Bench, sha: str, path: str, folder: Path) -> bool:
    content = bench.repository.read(sha, path)
    if content is None:
        return False
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def _key(fault: dict[str, Any]) -> tuple[str, str, str]:
    name = str(fault.get("filename", "")).removeprefix("/workspace/")
    return name, str(fault.get("code")), str(fault.get("message"))
