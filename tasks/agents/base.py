"""The seam between Chimera and coding agents: Brief in, Report out.

An agent is a program that runs in the sandbox, in a workspace of its own. What it did is read
from the workspace afterwards; what it says is only logged. The reviewer alone is asked for words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from tasks.outcome import Finding
from tasks.workspace.process import Completed


class Role(StrEnum):
    """What an agent is asked to do."""

    AUTHOR = "author"  # write the end-to-end test
    CODER = "coder"  # make it pass
    REVIEWER = "reviewer"  # judge the change


@dataclass(frozen=True)
class Brief:
    """Everything that an agent is told. Paths are relative to the workspace."""

    role: Role
    task_id: str
    feature: str
    start_path: str  # path and query of the page where the feature begins, e.g. "/login"
    test_path: str  # author: the file to write; coder and reviewer: the test to satisfy
    round: int = 0
    findings: tuple[Finding, ...] = ()  # what was wrong with the last try
    diff: str = ""  # reviewer: the change to judge
    prompt: str = ""  # all of the above in words, for agents that read prose

    def as_json(self) -> str:
        """Return the brief as one JSON object, as bundled agents read it."""
        data: dict[str, Any] = asdict(self)
        return json.dumps(data, ensure_ascii=True)


class Shell(Protocol):
    """Runs a command in the sandbox with the workspace as its folder; output goes to the log."""

    @property
    def workspace(self) -> str:
        """Return the workspace's path as the command sees it."""

    @property
    def scratch(self) -> Path:
        """Return a folder outside the workspace for files to hand over by `readable`."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        readable: Sequence[Path] = (),
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run `argv` to its end; `readable` host paths are visible to it, read-only."""


@dataclass(frozen=True)
class Report:
    """What came back from an agent, apart from the files."""

    said: str = ""  # the end of its output; never believed
    answer: str = ""  # reviewer: the text that should hold its verdict as JSON
    cost_usd: float | None = None


class AgentError(Exception):
    """The agent could not do its work; `permanent` says that trying again cannot help.

    `is_answer` says that the agent itself is well: it answered that this request is not for it.
    """

    def __init__(self, message: str, *, permanent: bool = False, is_answer: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.is_answer = is_answer


class Agent(Protocol):
    """A coding agent. `is_bundled` marks those whose program ships with Chimera."""

    name: str
    is_bundled: bool

    def work(self, brief: Brief, shell: Shell) -> Report:
        """Do what the brief asks. Blocks. Raises AgentError."""
