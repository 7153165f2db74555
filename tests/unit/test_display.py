"""What the terminal shows of a task."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from chimera_daemon.display import printable, steps, table
from chimera_daemon.values import ROUTE, PhaseRun, Task

NOW = datetime(2030, 1, 31, 10, 30, tzinfo=UTC)


def run(number: int, phase: str, verdict: str, began_s: int, ended_s: int | None) -> PhaseRun:
    """Return a try that began and ended so many seconds before now."""
    return PhaseRun(
        number=number,
        phase=phase,
        verdict=verdict,
        reason=f"reason {number}",
        started_at=NOW - timedelta(seconds=began_s),
        finished_at=None if ended_s is None else NOW - timedelta(seconds=ended_s),
    )


def test_there_are_always_seven_steps_in_the_routes_order() -> None:
    shown = steps([], NOW)
    assert tuple(step.phase for step in shown) == ROUTE
    assert {step.state for step in shown} == {"waiting"}


def test_a_step_shows_its_latest_try_and_the_time_of_all() -> None:
    runs = [
        run(1, ROUTE[3], "rejected", 30, 20),
        run(2, ROUTE[4], "rejected", 20, 18),
        run(3, ROUTE[3], "", 5, None),
    ]
    coding, review = steps(runs, NOW)[3:5]
    assert (coding.state, coding.tries, coding.seconds) == ("running", 2, 15.0)
    assert (review.state, review.reason) == ("rejected", "reason 2")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_each_step_is_one_line_at_any_width(width: int) -> None:
    runs = [run(1, ROUTE[0], "passed", 9, 5)]
    task = Task("chimera-abc", "running", feature="[bold]Add[/bold]", progress="1/7")
    output = io.StringIO()
    Console(file=output, width=width).print(table(task, steps(runs, NOW)))
    lines = output.getvalue().splitlines()
    assert len(lines) == 1 + len(ROUTE) + 1
    assert "[bold]Add[/bold]" in lines[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("left\u202eright", "left right"),
        ("x" * 20, "x" * 9 + "…"),
    ],
)
def test_text_from_a_task_becomes_one_harmless_line(text: str, line: str) -> None:
    assert printable(text, 10 if "xx" in text else 50) == line
