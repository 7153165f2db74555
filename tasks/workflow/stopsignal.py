"""SIGTERM and SIGINT as a number to look at: the first asks for an end, more ask for haste."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


class StopSignal:
    """Counts from the moment it is made; `first` is called in the handler, so it must be tiny."""

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        self._first = first
        self.count = 0
        signal.signal(signal.SIGTERM, self._take)
        signal.signal(signal.SIGINT, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self._first()
