"""The guardian's own checks on a change. Each returns findings; none of them is advisory."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.outcome import Finding
from tasks.phases.bench import Bench
from tasks.phases.implement import refused_changes
from tasks.workspace.folder import Folder

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


# What a reader of diffs can bear. Counted in bytes too: a line may be endless.
MAX_TEXT_BYTES = 1024 * 1024
MAX_PYTHON_BYTES = 256 * 1024
TEXT_SUFFIXES = frozenset(
    {
        ".py",
        ".js",
        ".mjs",
        ".ts",
        ".jsx",
        ".tsx",
        ".vue",
        ".html",
        ".htm",
        ".css",
        ".scss",
        ".json",
        ".toml",
        ".yml",
        ".yaml",
        ".md",
        ".rst",
        ".txt",
        ".svg",
        ".xml",
        ".sh",
        ".cfg",
        ".ini",
        ".jinja",
        ".j2",
        ".rb",
        ".go",
        ".php",
        ".java",
        ".rs",
        ".c",
        ".h",
        ".sql",
    }
)
MAX_BINARY_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class ChangedFile:
    """A file that the change touches, before and after; b"" where it was absent."""

    path: str
    before: bytes
    after: bytes

    @property
    def is_text(self) -> bool:
        """Say whether a person could read it: a NUL byte is how Git tells, too."""
        return b"\0" not in self.after

    @property
    def changed_lines(self) -> int:
        """Count the lines that were added or taken away, binary files included."""
        old, new = Counter(self.before.split(b"\n")), Counter(self.after.split(b"\n"))
        return (new - old).total() + (old - new).total()


def run_checks(bench: Bench) -> dict[str, list[Finding]]:
    """Run every check on the change from the test commit to the code commit, each by its name."""
    files = changed_files(bench)
    size = {"size": oversized(files, bench)}
    if size["size"]:
        return size  # the other checks would read it all
    return size | {
        "test": changed_test(bench),
        "protected": refused_changes(bench, bench.order.checkpoint.code_sha),
        "disguised": disguised(files),
        "secrets": secrets(files),
        "lint": lint(bench, files),
    }


def changed_files(bench: Bench) -> list[ChangedFile]:
    """Return every file that the change touches, with its contents, whatever Git calls it."""
    checkpoint, repository = bench.order.checkpoint, bench.repository
    return [
        ChangedFile(
            change.path,
            repository.read(checkpoint.test_sha, change.path) or b"",
            repository.read(checkpoint.code_sha, change.path) or b"",
        )
        for change in repository.changed(checkpoint.test_sha, checkpoint.code_sha)
    ]


def changed_test(bench: Bench) -> list[Finding]:
    """Hold the test to be, byte for byte, the one that phase 2 committed."""
    checkpoint = bench.order.checkpoint
    now = bench.repository.read(checkpoint.code_sha, checkpoint.test_path)
    if now == bench.pristine_test():
        return []
    return [Finding("test-changed", "The end-to-end test was changed.", checkpoint.test_path)]


def oversized(files: list[ChangedFile], bench: Bench) -> list[Finding]:
    """Hold the change within the project's limits, and within what can be read at all."""
    project = bench.order.project
    lines = sum(file.changed_lines for file in files)
    text = sum(len(file.after) for file in files if file.is_text)
    binary = sum(len(file.after) for file in files if not file.is_text)
    findings = [
        Finding("too-large", "A Python file this long cannot be reviewed.", file.path)
        for file in files
        if file.path.endswith(".py") and len(file.after) > MAX_PYTHON_BYTES
    ]
    if lines > project.max_changed_lines or len(files) > project.max_changed_files:
        message = (
            f"{len(files)} files and {lines} lines changed; the project allows "
            f"{project.max_changed_files} files and {project.max_changed_lines} lines."
        )
        findings.append(Finding("too-large", message))
    if text > MAX_TEXT_BYTES or binary > MAX_BINARY_BYTES:
        message = f"The changed files hold {text} bytes of text and {binary} of other content."
        findings.append(Finding("too-large", message))
    return findings


def disguised(files: list[ChangedFile]) -> list[Finding]:
    """Find binary content under the name of a text: no diff would show it to anybody."""
    return [
        Finding("binary-text", "This should be text, and holds binary content.", file.path)
        for file in files
        if PurePosixPath(file.path).suffix in TEXT_SUFFIXES and not file.is_text
    ]


def secrets(files: list[ChangedFile]) -> list[Finding]:
    """Look for credentials in the lines that were added, in binary files too."""
    findings = []
    for file in files:
        old = set(file.before.split(b"\n"))
        for number, line in enumerate(file.after.split(b"\n"), 1):
            name = None if line in old else secret_in(line.decode(errors="replace"))
            if name:
                findings.append(Finding("secret", f"This looks like a {name}.", file.path, number))
    return findings


def secret_in(line: str) -> str | None:
    """Return what kind of credential a line seems to hold; None for none."""
    return next((name for name, pattern in _SECRETS if pattern.search(line)), None)


def lint(bench: Bench, files: list[ChangedFile]) -> list[Finding]:
    """Return what ruff finds in changed Python files and did not find in them before.

    Suppressions in the code don't count: old ones cancel out, and new ones are the coder's.
    """
    python = [file for file in files if file.path.endswith(".py")]
    before = Counter(_key(fault) for fault in _ruff(bench, {f.path: f.before for f in python}))
    findings = []
    for fault in _ruff(bench, {file.path: file.after for file in python}):
        key = _key(fault)
        if before[key] > 0:
            before[key] -= 1
            continue
        row = (fault.get("location") or {}).get("row", 0)
        findings.append(Finding(f"ruff:{key[1]}", str(fault.get("message")), key[0], row))
    return findings


def _ruff(bench: Bench, contents: dict[str, bytes]) -> list[dict[str, Any]]:
    """Lint these files in the sandbox, with our rules and not the project's."""
    if not contents:
        return []
    with bench.scratch() as scratch:
        tree = scratch / "tree"
        tree.mkdir()
        with Folder(tree) as folder:
            for path, content in contents.items():
                folder.write(path.encode(), content)
        ruff = Path(sys.executable).with_name("ruff")
        argv = (
            *(str(ruff), "check", "--isolated", "--no-cache", "--ignore-noqa"),
            *("--output-format=json", f"--select={RUFF_RULES}", f"--ignore={RUFF_IGNORED}"),
            *("--exit-zero", "--", "."),
        )
        faults: list[dict[str, Any]] = json.loads(bench.output(argv, tree))
    return faults


def _key(fault: dict[str, Any]) -> tuple[str, str, str]:
    name = str(fault.get("filename", "")).removeprefix("/workspace/")
    return name, str(fault.get("code")), str(fault.get("message"))
