"""Phase 2: an agent writes the end-to-end test; Chimera commits it if it is one."""

from __future__ import annotations

import ast
import re
import sys

from tasks.agents.base import Role
from tasks.lifecycle import Verdict
from tasks.outcome import Finding, Outcome
from tasks.phases.base import rejected
from tasks.phases.bench import Bench, write_test
from tasks.workspace import checkout
from tasks.workspace.environment import Environment
from tasks.workspace.git import ImportLimitError
from tasks.workspace.process import ProcessError

MAX_TEST_BYTES = 100_000
_ASSERTING_CALLS = {"expect", "raises", "fail"}
_AT_FAULT = {2, 5}  # pytest's codes for a file that cannot be collected, and for no test
_WRONG_TEST = "The test cannot be used as it is."


def run(bench: Bench) -> Outcome:
    """Ask the author for one test file, check its form, and commit it on top of the base."""
    test_path = bench.order.checkpoint.test_path or _new_test_path(bench)
    with bench.scratch() as folder:
        start = bench.order.checkpoint.test_sha or bench.order.checkpoint.base_sha
        workspace = checkout.create(bench.repository, start, folder / "work")
        environment = Environment(None, "")
        report = bench.ask(
            Role.AUTHOR,
            bench.order.project.author,
            workspace.folder,
            environment,
            test_path=test_path,
        )
        try:
            imported = bench.repository.import_tree(workspace.folder, base=start)
        except ImportLimitError as error:
            message = f"The workspace holds {error}; only {test_path} belongs there."
            return rejected(message, Finding("one-file", message), cost_usd=report.cost_usd)
    finding = _foreign_change(bench, imported.tree, test_path)
    content = bench.repository.read(imported.tree, test_path)
    finding = finding or _bad_form(content, test_path)
    finding = finding or _not_collected(bench, content or b"", test_path)
    if finding:
        return rejected(f"{_WRONG_TEST} {finding.message}", finding, cost_usd=report.cost_usd)
    base = bench.order.checkpoint.base_sha
    about = "End-to-end test, written before the change."
    sha = bench.commit(imported.tree, base, "Test: ", about)
    text = (content or b"").decode()
    return Outcome(
        Verdict.PASSED,
        f"The test is in {test_path}.",
        checkpoint={"test_path": test_path, "test_sha": sha, "draft_sha": "", "code_sha": ""},
        facts={
            "test_path": test_path,
            "test_sha": sha,
            "assertions": assertions(ast.parse(text)),
        },
        evidence=(bench.keep_test(test_path, text),),
        cost_usd=report.cost_usd,
    )


def assertions(tree: ast.AST) -> int:
    """Count the places in a test that can fail on what the page shows."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            count += not isinstance(node.test, ast.Constant)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            count += name in _ASSERTING_CALLS
    return count


def _new_test_path(bench: Bench) -> str:
    words = re.findall(r"[a-z0-9]+", bench.order.feature.lower())
    name = "_".join(words)[:40].strip("_") or "feature"
    folder = bench.order.project.e2e_folder
    path = f"{folder}/test_{name}.py"
    if bench.repository.read(bench.order.checkpoint.base_sha, path) is None:
        return path
    return f"{folder}/test_{name}_{bench.order.task_id.removeprefix('chimera-')}.py"


def _foreign_change(bench: Bench, tree: str, test_path: str) -> Finding | None:
    changes = bench.repository.changed(bench.order.checkpoint.base_sha, tree)
    foreign = [change.path for change in changes if change.path != test_path]
    if foreign:
        names = ", ".join(foreign[:5])
        return Finding("one-file", f"Only {test_path} may be written; {names} changed too.")
    if not changes:
        return Finding("no-test", f"No test was written; it belongs in {test_path}.", test_path)
    return None


def _bad_form(content: bytes | None, test_path: str) -> Finding | None:
    if content is None or len(content) > MAX_TEST_BYTES:
        return Finding("no-test", f"{test_path} is missing or too large.", test_path)
    try:
        tree = ast.parse(content.decode())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", 0) or 0
        return Finding("syntax", f"It is not valid Python: {error}", test_path, line)
    if assertions(tree) == 0:
        return Finding("no-assertion", "It holds no assertion, so it can't fail.", test_path)
    return None


def _not_collected(bench: Bench, content: bytes, test_path: str) -> Finding | None:
    """Let pytest collect the file, alone, in the sandbox."""
    with bench.scratch() as folder:
        write_test(folder, test_path, content)
        argv = (
            *(sys.executable, "-B", "-m", "pytest", "--collect-only", "-q", "--color=no"),
            *("-p", "pytest_playwright.pytest_playwright", "-p", "no:cacheprovider"),
            *("--noconftest", "-c", "/dev/null", "--", test_path),
        )
        done = bench.check(argv, folder, {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    if done.ok:
        return None
    if done.returncode not in _AT_FAULT:
        raise ProcessError(f"pytest ended with code {done.returncode}: {done.output_tail[-1000:]}")
    lines = [line for line in done.output_tail.splitlines() if line.startswith("E ")]
    said = lines[-1][1:].strip() if lines else done.output_tail.strip()[-500:]
    return Finding("collection", f"pytest finds no test that it could run in it: {said}", test_path)
