"""Whether the agent that a phase started did its work, for the breaker that pauses agents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.agents.base import AgentError
from tasks.outcome import AgentStart
from tasks.phases.base import InterruptedRunError, OutOfTimeError


class Starts:
    """Remembers the last start of a phase. One that we cut short ourselves says nothing."""

    def __init__(self) -> None:
        self.last: AgentStart | None = None

    @contextmanager
    def of(self, agent: str) -> Iterator[None]:
        """Watch `agent` at work, or its answer being read, within the block."""
        try:
            yield
        except (InterruptedRunError, OutOfTimeError):
            raise
        except Exception as error:
            is_well = isinstance(error, AgentError) and error.is_answer
            self.last = AgentStart(agent, "" if is_well else str(error) or type(error).__name__)
            raise
        self.last = AgentStart(agent)
