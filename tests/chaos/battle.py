"""A whole run: rounds of strikes on one factory, and after each the verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from django.db import connections

from tests import postgres
from tests.chaos import checker, ledger, observe
from tests.chaos.checker import Violation
from tests.chaos.faults import REGISTRY, MissedError, Scene
from tests.chaos.history import History, Injury, save
from tests.chaos.load import Load, Reader, Watcher
from tests.chaos.plan import Strike
from tests.chaos.stage import Stage

QUIET_WITHIN_S = 240.0  # for all tasks to end once nothing is broken any more
CLEAN_WITHIN_S = 30.0
HEARD_WITHIN_S = 30.0


@dataclass
class Battle:
    """One factory, its attackers, and its witnesses."""

    stage: Stage
    seed: int
    has_own_disk: bool
    history_file: Path
    server: postgres.Server | None = None
    say: Callable[[str], None] = print
    injuries: list[Injury] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.load = Load(self.stage, self.seed)
        self.scene = Scene(self.stage, self.load, self.has_own_disk, self.server)
        self.watcher = Watcher(self.stage, self.load)
        self.readers = [Reader(self.stage, "steady"), Reader(self.stage, "restless", 1.5)]

    def open(self) -> None:
        """Start the factory and the witnesses."""
        self.stage.open()
        for thread in (self.watcher, *self.readers):
            thread.start()

    def fight(self, strikes: list[Strike], tasks: int) -> list[Violation]:
        """Carry out one round; return what it broke."""
        over_s = sum(strike.pause_s for strike in strikes) + len(strikes)
        people = threading.Thread(target=self.load.submit, args=(tasks,), kwargs={"over_s": over_s})
        people.start()
        for strike in strikes:
            time.sleep(strike.pause_s)
            self._strike(strike)
        self.scene.calm()
        people.join()
        connections.close_all()  # the server may have ended ours
        self._await_quiet()
        return self.judge(stopped=False)

    def close(self) -> list[Violation]:
        """Stop the factory as a person would; return what is wrong then."""
        for thread in (self.watcher, *self.readers):
            thread.closing.set()
        for thread in (self.watcher, *self.readers):
            thread.join()
        code = self.stage.close()
        wrong = self.judge(stopped=True)
        return [*wrong, Violation("leftover", f"it stopped with {code}")] if code else wrong

    def _strike(self, strike: Strike) -> None:
        at = time.time()
        try:
            hit = REGISTRY[strike.kind].inject(self.scene, strike)
            injury = Injury(at, strike.round, strike.kind, target=hit)
        except MissedError as error:
            injury = Injury(at, strike.round, strike.kind, missed=str(error))
        self.injuries.append(injury)

    def _await_quiet(self) -> None:
        """Wait until all tasks have ended, all is tidy, and the readers are where the feed is.

        Not for ever: what is missing then is what the checker finds.
        """
        from tasks.lifecycle import OPEN
        from tasks.models import Event, Task

        _wait(lambda: not Task.objects.filter(status__in=OPEN).exists(), QUIET_WITHIN_S)
        _wait(lambda: not observe.leftovers(self.stage), CLEAN_WITHIN_S)
        newest = Event.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
        _wait(lambda: all(reader.seq >= newest for reader in self.readers), HEARD_WITHIN_S)

    def judge(self, *, stopped: bool) -> list[Violation]:
        """Put everything down in the history's file, and have it checked."""
        history = History(
            submissions=list(self.load.submissions),
            cancels=list(self.load.cancels),
            sights=list(self.watcher.sights),
            injuries=list(self.injuries),
            readings=[reading for reader in self.readers for reading in list(reader.readings)],
            effects=ledger.read(self.stage.notes / "ledger"),
            branches=observe.branches(self.stage),
            leftovers=observe.leftovers(self.stage, is_stopped=stopped),
        )
        observe.rows(history)
        wrong = checker.check(history)
        about = {"seed": self.seed, "violations": [str(each) for each in wrong]}
        save(history, self.history_file, **about)
        return wrong


def _wait(claim: Callable[[], bool], within_s: float) -> bool:
    """Wait for a claim to hold; say whether it did."""
    until = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
