"""A project's own tests: run them, and read which ran and which failed."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from tasks.outcome import TestReport
from tasks.workspace.environment import Environment
from tasks.workspace.plainfile import open_plain
from tasks.workspace.process import Completed, Log, arguments, run
from tasks.workspace.sandbox import Mount, Sandbox

RESULTS = "/results"
MAX_REPORT_BYTES = 20 * 1024 * 1024
WHOLE_COMMAND = "the test command"  # the one id of a command that leaves no JUnit report


class TestRunError(Exception):
    """The tests could not be run to their end."""

    __test__ = False


def run_tests(
    sandbox: Sandbox,
    environment: Environment,
    tree: Path,
    command: str,
    results: Path,
    log: Log,
    timeout_s: float,
    should_stop: Callable[[], bool],
) -> TestReport:
    """Run the project's test command in a copy of its tree, without a network. Blocks.

    Where the command is pytest, or names {junit}, the report tells each test; else its exit code
    stands for one. Raises TestRunError when it runs out of time, or leaves no report.
    """
    results.mkdir(parents=True, exist_ok=True)
    report = results / "junit.xml"
    report.unlink(missing_ok=True)
    jail = environment.jail(tree, mounts=(Mount(results, RESULTS, writable=True),))
    argv = _with_report(
        arguments(command, {"junit": sandbox.inside(jail, report)}), sandbox.inside(jail, report)
    )
    log.line(f"running the project's tests: {command}")
    call = sandbox.command(jail, argv)
    done = run(call, timeout_s=timeout_s, log=log, should_stop=should_stop)
    if done.timed_out:
        raise TestRunError(f"`{command}` did not end within {timeout_s:.0f} s.")
    found = _read(report)
    if found is None and sandbox.inside(jail, report) in " ".join(argv):
        end = done.output_tail.strip()[-2000:]
        raise TestRunError(f"`{command}` left no report of any test:\n{end}")
    return _judge(found, done)


def _with_report(argv: tuple[str, ...], report: str) -> tuple[str, ...]:
    names = {Path(word).name for word in argv[:3]}
    if any("junit" in word for word in argv) or not names & {"pytest", "py.test"}:
        return argv
    return (*argv, f"--junit-xml={report}")


def _judge(report: TestReport | None, done: Completed) -> TestReport:
    """Believe a report of failures; one of successes only if the command ended well too."""
    if report is None:
        return _by_exit_code(done)
    if done.ok or report.failed or not report.ran:
        return report
    return TestReport(report.ran | {WHOLE_COMMAND}, frozenset({WHOLE_COMMAND}))


def _by_exit_code(done: Completed) -> TestReport:
    failed = frozenset() if done.ok else frozenset({WHOLE_COMMAND})
    return TestReport(frozenset({WHOLE_COMMAND}), failed)


def _read(report: Path) -> TestReport | None:
    """Read a JUnit file that hostile code may have written; None if it is not one."""
    try:
        with open_plain(report) as file:
            if os.fstat(file.fileno()).st_size > MAX_REPORT_BYTES:
                return None
            # expat itself bounds how far entities may grow (since 2.4.1).
            root = ElementTree.parse(file).getroot()  # noqa: S314
    except (OSError, ElementTree.ParseError, ValueError, LookupError, RecursionError):
        return None
    ran, failed = set(), set()
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}".strip(":")
        if case.find("skipped") is not None:
            continue
        ran.add(name)
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
    return TestReport(frozenset(ran), frozenset(failed))
