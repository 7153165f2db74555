"""Run a cluster whose tasks are recorded phases: they pass after a while and touch nothing.

A program of its own (`python -m tests.acceptance.stub_cluster [qcluster options]`). A task's
feature says how long each phase lasts, in seconds, and may name a phase that lasts "for ever".
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chimera_site.settings")

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402

from tasks.lifecycle import Status, Verdict  # noqa: E402
from tasks.models import Lease, LeaseLostError, Task  # noqa: E402
from tasks.outcome import Outcome  # noqa: E402
from tasks.workflow import worker  # noqa: E402
from tasks.workspace import probe  # noqa: E402

TROUBLE = "There is no browser here."


def perform(lease: Lease, should_stop: Callable[[], bool]) -> None:
    """Pass one phase after the other; stop when told to."""
    try:
        while _perform_phase(lease, should_stop):
            pass
    except LeaseLostError:
        return


def _perform_phase(lease: Lease, should_stop: Callable[[], bool]) -> bool:
    run = Task.objects.open_run(lease, timezone.now())
    order = json.loads(run.task.feature)
    lasts_s = 3600.0 if order.get("for_ever_in") == run.phase else order["phase_s"]
    until = time.monotonic() + lasts_s
    is_deaf = order.get("is_deaf", False)
    while time.monotonic() < until and (is_deaf or not should_stop()):
        time.sleep(0.01)
    verdict = Verdict.INTERRUPTED if should_stop() else Verdict.PASSED
    task = Task.objects.settle(lease, run, Outcome(verdict), timezone.now())
    return task.status == Status.RUNNING


if __name__ == "__main__":
    worker.perform = perform
    probe.find_trouble = lambda *_: TROUBLE
    call_command("qcluster", *sys.argv[1:])
