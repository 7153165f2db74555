"""What a proof's facts tell, made ready to be shown: the assertion in words, and the page's faults.

The facts come from rows whose texts agents and sites had a hand in, and older rows lack them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.dashboard.plain import plain

SHOWN = 20  # faults of each sort
WORDS = 1000  # characters of each text

NOW = "as expected"


@dataclass(frozen=True)
class Row:
    """One line of the assertion: a term and what stands there."""

    term: str
    text: str
    is_code: bool = False


@dataclass(frozen=True)
class Faults:
    """What the page complained of in one way: the first in words, and how often in all."""

    name: str  # as in "console error"
    texts: tuple[str, ...]
    count: int

    @property
    def rest(self) -> int:
        """Return how many are not shown."""
        return self.count - len(self.texts)


@dataclass(frozen=True)
class Told:
    """What one browser run tells; all of it empty where there was none."""

    result: str = ""
    rows: tuple[Row, ...] = ()
    faults: tuple[Faults, ...] = ()

    @property
    def has_faults(self) -> bool:
        """Say whether the page complained of anything."""
        return any(each.count for each in self.faults)


def told_by(facts: Mapping[str, Any]) -> Told:
    """Read the facts of a try."""
    proof = facts.get("proof")
    if not isinstance(proof, dict):
        return Told()
    faults = (
        _faults("console error", proof, "console"),
        _faults("failed request", proof, "failed_requests"),
    )
    return Told(_text(proof, "result"), _rows(proof), faults)


def held(red: Told) -> tuple[Row, ...]:
    """Return the assertion of the failing run as one that holds now; () if it is not known."""
    asked = tuple(row for row in red.rows if row.term in {"Expected", "Where"})
    return (*asked, Row("Now", NOW)) if asked else ()


def _rows(proof: Mapping[str, Any]) -> tuple[Row, ...]:
    line = proof.get("line")
    where = _text(proof, "where")
    place = f"Line {line}" if isinstance(line, int) and line > 0 else "Test"
    rows = (
        Row("Test says", _text(proof, "message")),
        Row("Expected", _text(proof, "expected"), is_code=not where),  # a condition in Python
        Row("Where", where, is_code=True),
        Row("Instead", _text(proof, "actual")),
        Row(place, _text(proof, "source"), is_code=True),
    )
    return tuple(row for row in rows if row.text)


def _faults(name: str, proof: Mapping[str, Any], key: str) -> Faults:
    listed, count = proof.get(key), proof.get(f"{key}_count")
    entries = listed[:SHOWN] if isinstance(listed, list) else []
    texts = tuple(plain(str(entry), WORDS) for entry in entries)
    return Faults(name, texts, max(len(texts), count if isinstance(count, int) else 0))


def _text(proof: Mapping[str, Any], key: str) -> str:
    value = proof.get(key)
    return plain(value, WORDS) if isinstance(value, str) else ""
