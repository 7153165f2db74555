"""What `make soak` makes of its samples."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.soak import BOUNDS, EVERY_S, MIB, Sample, judge, written

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


def half_an_hour(memory: Callable[[float], float]) -> list[Sample]:
    """Return the samples of a soak whose memory is a function of the minute; it goes up and down
    by 8 MiB as well, as Python's collector has it."""
    minutes = [number * EVERY_S / 60 for number in range(int(30 * 60 / EVERY_S))]
    saw = [8 * (number % 7) / 7 for number in range(len(minutes))]
    return [
        replace(QUIET, at=60 * minute, ended=int(30 * minute), memory=memory(minute) + up)
        for minute, up in zip(minutes, saw, strict=True)
    ]


def test_a_leak_of_a_mebibyte_a_minute_is_found_in_half_an_hour() -> None:
    assert too_much(half_an_hour(lambda minute: 300 + minute)) == {"memory"}
    assert too_much(half_an_hour(lambda minute: 300 + 0.6 * minute)) == {"memory"}


def test_a_leak_that_begins_late_is_found() -> None:
    assert too_much(half_an_hour(lambda minute: 300 + 2 * max(0, minute - 20))) == {"memory"}


def test_caches_that_fill_are_no_leak() -> None:
    filling = lambda minute: 300 + 40 * (1 - math.exp(-minute / 6))  # noqa: E731
    assert too_much(half_an_hour(filling)) == set()


def test_what_a_process_writes_is_what_it_is_charged_with() -> None:
    before = written(os.getpid())
    held = bytearray(os.urandom(1)) * (32 * MIB)
    assert 32 * MIB <= written(os.getpid()) - before < 40 * MIB
    del held


def test_evidence_of_ended_tasks_may_take_room() -> None:
    assert too_much(samples(disk=40)) == set()
    idle = [replace(each, ended=0) for each in samples(disk=40)]
    assert too_much(idle) == {"disk"}


def test_the_table_says_what_was_too_much() -> None:
    lines = [str(growth) for growth in judge(samples(handles=400))]
    assert [line for line in lines if "TOO MUCH" in line] == [lines[0]]
    assert lines[0].startswith("file handles")
