"""The effect ledger: each phase says what it begins and what it made, outside of the database."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

BEGAN, MADE = "began", "made"


@dataclass(frozen=True)
class Effect:
    """One line: work that began, or that has made something and is about to be settled."""

    what: str
    task_id: str
    phase: str
    round: int
    fence: int
    pid: int
    at: float
    sha: str = ""  # the commit that was made, or deployed
    url: str = ""  # the copy that was started


def write(path: Path, what: str, *, sha: str = "", url: str = "", **who: object) -> None:
    """Append a line in one write; what is killed leaves all of it or nothing."""
    line = Effect(what=what, pid=os.getpid(), at=time.time(), sha=sha, url=url, **who)  # type: ignore[arg-type]
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(asdict(line)).encode() + b"\n")
    finally:
        os.close(file)


def read(path: Path) -> list[Effect]:
    """Return every line."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Effect(**json.loads(line)) for line in lines]
