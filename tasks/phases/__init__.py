"""The seven phases: each a module with one function, `run(bench) -> Outcome`. They never save."""

from __future__ import annotations

from collections.abc import Callable

from tasks.lifecycle import Phase
from tasks.outcome import Outcome
from tasks.phases import deploy, generate, implement, prepare, prove_red, review, validate
from tasks.phases.bench import Bench

RUN: dict[Phase, Callable[[Bench], Outcome]] = {
    Phase.WORKSPACE_PREPARATION: prepare.run,
    Phase.E2E_TEST_GENERATION: generate.run,
    Phase.RED_VERIFICATION: prove_red.run,
    Phase.CODE_IMPLEMENTATION: implement.run,
    Phase.GUARDIAN_REVIEW: review.run,
    Phase.STAGING_DEPLOYMENT: deploy.run,
    Phase.E2E_VALIDATION: validate.run,
}
