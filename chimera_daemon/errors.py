"""What can go wrong when talking to Chimera, each with a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class ChimeraError(Exception):
    """Chimera could not do what was asked."""


class UnreachableError(ChimeraError):
    """Nothing answers at that address, or what answers is not Chimera."""


class WaitTimeoutError(ChimeraError):
    """The task has not ended within the time that was given to wait."""


@dataclass(frozen=True)
class Problem:
    """The server's own account of an error (application/problem+json, RFC 9457)."""

    status: int
    title: str
    detail: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)  # the whole answer

    @classmethod
    def from_json(cls, status: int, document: Mapping[str, Any]) -> Problem:
        """Read a problem document; what is missing stays empty."""
        title = str(document.get("title") or f"HTTP {status}")
        return cls(status, title, str(document.get("detail") or ""), dict(document))


class ProblemError(ChimeraError):
    """The server answered with an error; `problem` carries what it said."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


class NotFoundError(ProblemError):
    """There is no such task (404)."""


class ConflictError(ProblemError):
    """The task is not in a state that allows this (409)."""


class RefusedError(ProblemError):
    """The request does not fit: the problem says which field, and what to do (4xx)."""


def error_for(problem: Problem) -> ProblemError:
    """Return the error that goes with a problem's status."""
    if problem.status == 404:
        return NotFoundError(problem)
    if problem.status == 409:
        return ConflictError(problem)
    if 400 <= problem.status < 500:
        return RefusedError(problem)
    return ProblemError(problem)
