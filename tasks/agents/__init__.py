"""Coding agents, found by name. A specification is NAME or NAME:ARGUMENT."""

from __future__ import annotations

from collections.abc import Callable

from tasks.agents.base import Agent, AgentError, Brief, Report, Role, Shell
from tasks.agents.command import CommandAgent
from tasks.agents.playbook import PlaybookAgent
from tasks.agents.scripted import ScriptedAgent

__all__ = ["KINDS", "Agent", "AgentError", "Brief", "Report", "Role", "Shell", "find"]

KINDS: dict[str, Callable[[str], Agent]] = {
    "playbook": lambda argument: PlaybookAgent(),
    "command": CommandAgent,
    "scripted": ScriptedAgent,
}


def find(specification: str) -> Agent:
    """Return the agent that a project names, e.g. `playbook` or `command:./agent {prompt_file}`.

    Raises AgentError, permanent, for a name that nobody here has or an argument that does not fit.
    """
    name, _, argument = specification.partition(":")
    if name not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise AgentError(f"There is no agent {name!r}; known are {known}.", permanent=True)
    return KINDS[name](argument)
