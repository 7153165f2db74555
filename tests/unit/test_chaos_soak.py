"""What `make soak` makes of its samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.soak import BOUNDS, Sample, judge

QUIET = Sample(0, 0, handles=100, threads=30, memory=200, zombies=0, passing=5, disk=50)


def samples(**growth: float) -> list[Sample]:
    """Return an hour's samples in which these figures grow by so much from first to last."""
    count = 200
    return [
        replace(
            QUIET,
            at=number,
            ended=number,
            **{name: getattr(QUIET, name) + by * number / count for name, by in growth.items()},
        )
        for number in range(count)
    ]


def too_much(seen: list[Sample]) -> set[str]:
    return {growth.bound.name for growth in judge(seen) if not growth.is_fine}


def test_what_stays_as_it_is_is_fine() -> None:
    assert too_much(samples()) == set()


@pytest.mark.parametrize("name", [bound.name for bound in BOUNDS])
def test_each_figure_that_grows_is_found(name: str) -> None:
    assert too_much(samples(**{name: 400})) == {name}


def test_what_grows_only_while_it_warms_up_is_fine() -> None:
    seen = samples()
    warming = [replace(each, memory=100 + index) for index, each in enumerate(seen[:40])]
    assert too_much(warming + seen[40:]) == set()


def test_evidence_of_ended_tasks_may_take_room() -> None:
    assert too_much(samples(disk=40)) == set()
    idle = [replace(each, ended=0) for each in samples(disk=40)]
    assert too_much(idle) == {"disk"}


def test_the_table_says_what_was_too_much() -> None:
    lines = [str(growth) for growth in judge(samples(handles=400))]
    assert [line for line in lines if "TOO MUCH" in line] == [lines[0]]
    assert lines[0].startswith("file handles")
