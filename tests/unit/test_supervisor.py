"""What the supervisor gives the web server and the cluster to start with."""

from __future__ import annotations

import pytest

from tasks.workflow.supervisor import Plan

PLAN = Plan("127.0.0.1", 8000, 5)


def test_the_threads_of_a_program_share_one_arena() -> None:
    assert PLAN.environment["MALLOC_ARENA_MAX"] == "1"


def test_an_operators_own_number_of_arenas_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert PLAN.environment["MALLOC_ARENA_MAX"] == "4"


def test_the_programs_read_the_plan_and_the_callers_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHIMERA_LEASE_SECONDS", "77")
    given = PLAN.environment
    assert (given["CHIMERA_API_PORT"], given["CHIMERA_LEASE_SECONDS"]) == ("8000", "77")
