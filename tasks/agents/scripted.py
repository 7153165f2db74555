"""An agent for tests: it replays changes from a folder, and misbehaves when told to."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.agents.base import AgentError, Brief, Report, Role, Shell

RUNNER = Path(__file__).with_name("scripted_runner.py")


class ScriptedAgent:
    """Replays FOLDER/<role>/ in the workspace; see scripted_runner for what a folder may hold."""

    name = "scripted"
    is_bundled = True

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        if not self._folder.is_absolute() or not self._folder.is_dir():
            raise AgentError(f"scripted:{folder} must name a folder, absolute", permanent=True)

    def work(self, brief: Brief, shell: Shell) -> Report:
        """Play the part for the brief's role. Blocks. Raises AgentError."""
        argv = [sys.executable, "-I", "-B", str(RUNNER), str(self._folder)]
        stdin = brief.as_json().encode()
        done = shell.run(argv, stdin=stdin, readable=[RUNNER, self._folder])
        if done.timed_out:
            raise AgentError("The scripted agent did not end within its time limit.")
        if not done.ok and not done.stopped:
            end = done.output_tail[-1000:]
            raise AgentError(f"The scripted agent ended with code {done.returncode}.\n{end}")
        answer = done.output_tail if brief.role == Role.REVIEWER else ""
        return Report(said=done.output_tail, answer=answer)
