"""What was seen from outside while a factory was attacked: values, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.ledger import Effect


@dataclass(frozen=True)
class Submission:
    """One POST: `code` None = the connection broke after it was sent, so nobody knows."""

    number: int
    code: int | None
    task_id: str = ""
    refused: int = 0  # connections that were refused before this one was not


@dataclass(frozen=True)
class Cancel:
    """One request to cancel; `code` as in Submission."""

    task_id: str
    code: int | None


@dataclass(frozen=True)
class Sight:
    """What the API said of a task when that changed."""

    at: float
    task_id: str
    status: str
    phase: str


@dataclass(frozen=True)
class Injury:
    """One fault that was injected; or, with `missed`, why it could not be."""

    at: float
    round: int
    kind: str
    target: str = ""
    missed: str = ""


@dataclass(frozen=True)
class TaskRow:
    """A task as its row stood at last."""

    task_id: str
    number: int
    status: str
    phase: str
    reason: str
    fence: int
    base_sha: str = ""
    test_sha: str = ""
    code_sha: str = ""


@dataclass(frozen=True)
class RunRow:
    """One try at a phase; times in seconds since the epoch."""

    task_id: str
    number: int
    phase: str
    round: int
    worker: str
    fence: int
    verdict: str
    reason: str
    started_at: float
    finished_at: float


@dataclass(frozen=True)
class EventRow:
    """One event; `run` 0 = it is about no try."""

    seq: int
    kind: str
    task_id: str
    run: int = 0


@dataclass(frozen=True)
class CopyRow:
    """One staged copy that was recorded."""

    task_id: str
    fence: int
    url: str
    commit_sha: str


@dataclass(frozen=True)
class Reading:
    """One thing that a reader of the feed was told: an event, or to fetch all up to `seq`."""

    reader: str
    connection: int
    seq: int
    is_resync: bool = False


@dataclass(frozen=True)
class Branch:
    """A branch of a task: its commits from the newest to the first that is not the project's."""

    task_id: str
    commits: list[str]


@dataclass
class History:
    """All of it."""

    submissions: list[Submission] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    injuries: list[Injury] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    tasks: list[TaskRow] = field(default_factory=list)
    runs: list[RunRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    copies: list[CopyRow] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)  # that nothing owns, in words
    damage: str = ""  # what the database says of its own integrity; "" = none

    @property
    def readers(self) -> list[str]:
        """Return the names of the feed's readers."""
        return sorted({reading.reader for reading in self.readings})

    def runs_of(self) -> dict[str, list[RunRow]]:
        """Return the tries by task, in order."""
        return _grouped(sorted(self.runs, key=lambda run: run.number))

    def events_of(self) -> dict[str, list[EventRow]]:
        """Return the events by task, in order."""
        return _grouped(sorted(self.events, key=lambda event: event.seq))


def _grouped(rows: Iterable[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.task_id, []).append(row)
    return groups


def save(history: History, path: Path, **about: object) -> None:
    """Write one JSON object a line: first what it is about, then everything that was seen."""
    with path.open("w") as file:
        file.write(json.dumps({"about": about, "damage": history.damage}) + "\n")
        for name, rows in vars(history).items():
            for row in rows if name != "damage" else ():
                file.write(json.dumps({name: row if isinstance(row, str) else asdict(row)}) + "\n")
