"""Which fault when, decided by the seed alone: the same seed gives the same plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Strike:
    """One fault of the plan. `pick` (0 to 1) says which of the targets that there are then."""

    round: int
    kind: str
    pause_s: float  # after the strike before
    pick: float
    hold_s: float  # for faults that last: how long they do, beyond what they must


def make(
    seed: int, rounds: int, kinds: Sequence[str], *, extra: int, longest_s: float
) -> list[Strike]:
    """Return the strikes of all rounds: in each round every kind once, and `extra` more."""
    dice = random.Random(seed)
    strikes = []
    for number in range(1, rounds + 1):
        names = [*kinds, *dice.choices(list(kinds), k=extra)]
        dice.shuffle(names)
        strikes += [
            Strike(
                number,
                name,
                round(dice.uniform(0.1, 1.5), 2),
                round(dice.random(), 4),
                round(dice.uniform(longest_s / 2, longest_s), 2),
            )
            for name in names
        ]
    return strikes
