"""A cluster whose phases do nothing but take time: what is left is the engine itself.

A program of its own (`python -m benchmarks.recorded_cluster`). A task's feature says how many
milliseconds each of its seven phases blocks; 0 = it returns at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chimera_site.settings")

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from tasks.lifecycle import Verdict  # noqa: E402
from tasks.models import PhaseRun  # noqa: E402
from tasks.outcome import Outcome  # noqa: E402
from tasks.workflow import executor  # noqa: E402
from tasks.workspace import probe  # noqa: E402


def perform(phase_run: PhaseRun, should_stop: Callable[[], bool]) -> Outcome:
    """Pass after the time that the task asks for."""
    blocks_ms = int(phase_run.task.feature)
    if blocks_ms:
        time.sleep(blocks_ms / 1000)
    return Outcome(Verdict.PASSED)


if __name__ == "__main__":
    executor.perform = perform
    probe.find_trouble = lambda *_: "no browser is needed here"
    call_command("qcluster", *sys.argv[1:])
