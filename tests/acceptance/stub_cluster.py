"""Run a cluster whose tasks are recorded phases: they pass after a while and touch nothing.

A program of its own (`python -m tests.acceptance.stub_cluster [qcluster options]`). A task's
feature says how long each phase lasts, in seconds, and may name a phase that lasts "for ever", or
the folder of a program that is run once, with or without a sandbox. `dies` names a moment of every
phase at which its worker is killed the first time; `is_poison` kills it each time.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chimera_site.settings")

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from tasks.lifecycle import Verdict  # noqa: E402
from tasks.models import Lease, PhaseRun, Task  # noqa: E402
from tasks.outcome import Outcome  # noqa: E402
from tasks.workflow import executor  # noqa: E402
from tasks.workspace import probe, process, sandbox  # noqa: E402
from tasks.workspace.sandbox import Jail  # noqa: E402
from tests.escape import ESCAPE, HANG  # noqa: E402

TROUBLE = "There is no browser here."


def perform(phase_run: PhaseRun, should_stop: Callable[[], bool]) -> Outcome:
    """Pass after the ordered time; stop when told to."""
    order = json.loads(phase_run.task.feature)
    lasts_s = 3600.0 if order.get("for_ever_in") == phase_run.phase else order["phase_s"]
    if "runs" in order and not (Path(order["runs"]) / "hangs").exists():
        return run_program(order, should_stop)
    until = time.monotonic() + lasts_s
    is_deaf = order.get("is_deaf", False)
    die_at("start", phase_run)
    if order.get("is_poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    with tempfile.TemporaryDirectory(prefix="stub-"):
        while time.monotonic() < until and (is_deaf or not should_stop()):
            time.sleep(0.01)
            die_at("middle", phase_run)
    facts = {"frozen": gc.get_freeze_count()}
    return Outcome(Verdict.INTERRUPTED if should_stop() else Verdict.PASSED, facts=facts)


def run_program(order: dict[str, Any], should_stop: Callable[[], bool]) -> Outcome:
    """Run what gets away if it can, and hangs."""
    argv = (sys.executable, "-Ic", ESCAPE + HANG, order["runs"])
    jail = Jail(Path(order["runs"]), writable=True)
    call = sandbox.find(order["sandbox"]).command(jail, argv)
    done = process.run(call, timeout_s=order["limit_s"], should_stop=should_stop)
    return Outcome(Verdict.INTERRUPTED if done.stopped else Verdict.ERRORED, "So it ended.")


def settle(lease: Lease, phase_run: PhaseRun, outcome: Outcome) -> Task:
    """Settle as the executor does, and maybe die just before, or just after."""
    die_at("before commit", phase_run)
    task = really_settle(lease, phase_run, outcome)
    die_at("after commit", phase_run)
    return task


def die_at(moment: str, phase_run: PhaseRun) -> None:
    """Have this worker killed, if that is ordered and was not done in this phase before."""
    order = json.loads(phase_run.task.feature)
    if order.get("dies") == moment:
        try:
            (Path(order["notes"]) / phase_run.phase).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    executor.perform = perform
    executor.settle, really_settle = settle, executor.settle
    probe.find_trouble = lambda *_: TROUBLE
    call_command("qcluster", *sys.argv[1:])
