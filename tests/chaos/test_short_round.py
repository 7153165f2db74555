"""One short round of the chaos suite, with every kind of fault; `make chaos` runs longer ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.chaos.faults import REGISTRY, RestartDatabase

ROOT = Path(__file__).resolve().parents[2]


def test_every_promise_holds_in_a_round_with_every_fault() -> None:
    words = ("--rounds", "1", "--tasks", "10", "--seed", "4", "--short")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    injected = {line[:20].strip() for line in said.splitlines() if line[20:29].strip() == "1"}
    # Where no namespace is to be had the disk cannot be filled, and the output says so.
    assert injected >= REGISTRY.keys() - {"fill disk", RestartDatabase.kind}, said
    assert "fill disk" in injected or "fill disk: not injected" in said
    assert "201: 10" in said
