"""The project's own tests: those of the base, against the code of any commit.

The coder may change code, and add tests; what the base's tests say of the new code is what
counts. So the base's test files and test configuration are laid over the tree that they run in.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path, PurePosixPath

from tasks.outcome import Finding, TestReport
from tasks.phases.bench import Bench
from tasks.workspace.folder import Folder
from tasks.workspace.project_tests import run_tests

# What decides how tests are collected and run, wherever it lies.
CONFIGURATION = (
    "conftest.py",
    "pytest.ini",
    ".pytest.ini",
    "tox.ini",
    "sitecustomize.py",
    "usercustomize.py",
    "pytest.py",
    "_pytest",
)
# These hold more than test configuration, so a change may touch them; the tests see the base's.
SHARED_CONFIGURATION = ("setup.cfg", "pyproject.toml")
TEST_FILES = ("test_*.py", "*_test.py", "tests.py", "*.test.*", "*.spec.*")
SHARE_OF_TIME = 0.5  # of what is left: tests that hang leave time to say so


def run(bench: Bench, sha: str) -> TestReport:
    """Run the tests of the base on the code of `sha`. Raises TestRunError, InstallError.

    The tree lacks Chimera's end-to-end test, which needs a browser and a running site.
    """
    if not bench.order.project.test_command:
        return TestReport(frozenset(), frozenset())
    base = bench.order.checkpoint.base_sha
    with bench.tree(sha) as tree:
        environment = bench.install(tree, sha)
        if bench.order.checkpoint.test_path:
            (tree / bench.order.checkpoint.test_path).unlink(missing_ok=True)
        if base and sha != base:
            _lay_over(bench, base, tree)
        report = run_tests(
            bench.host.sandbox,
            environment,
            tree,
            bench.order.project.test_command,
            bench.folder / "tests",
            bench.log,
            bench.left_s() * SHARE_OF_TIME,
            bench.should_stop,
        )
    bench.left_s()
    return report


def newly_failing(baseline: TestReport | None, now: TestReport) -> list[Finding]:
    """Return a finding for each of the project's tests that broke or vanished."""
    before = baseline or TestReport(frozenset(), frozenset())
    broken, vanished = sorted(now.failed - before.failed), sorted(before.ran - now.ran)
    return [
        *(Finding("broken-test", _broken(name, name in before.ran)) for name in broken),
        *(
            Finding("vanished-test", f"{name} ran before the change and not now.")
            for name in vanished
        ),
    ]


def is_configuration(path: str) -> bool:
    """Say whether a file decides how tests run, and nothing else."""
    return any(part in CONFIGURATION for part in PurePosixPath(path).parts)


def is_test(path: str) -> bool:
    """Say whether a file holds tests, or decides how they run."""
    name = PurePosixPath(path).name
    by_name = any(fnmatch.fnmatchcase(name, pattern) for pattern in TEST_FILES)
    return by_name or is_configuration(path) or name in SHARED_CONFIGURATION


def _lay_over(bench: Bench, base: str, tree: Path) -> None:
    """Give the tree the base's test files; a copy never leads through a link."""
    with bench.tree(base) as before, Folder(tree) as target:
        for path in bench.repository.paths(base):
            source = before / path
            if is_test(path) and source.is_file() and not source.is_symlink():
                target.write(path.encode(), source.read_bytes())


def _broken(name: str, is_old: bool) -> str:
    if is_old:
        return f"{name} passed before the change and fails now."
    return f"{name} is new and fails."
