"""The playbook agent: no model and no network; it plays the features that it has a folder for."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.agents.base import AgentError, Brief, Report, Role, Shell
from tasks.agents.playbook_runner import NOT_APPLICABLE, NOT_COVERED
from tasks.agents.playbooks import recognition

RUNNER = Path(__file__).resolve().with_name("playbook_runner.py")
ADVICE = (
    "For anything else connect a coding agent to the project: "
    'manage.py project add NAME … --coder "command:PROGRAM {prompt_file}" --author "command:…". '
    "manage.py playbooks lists what the playbook agent knows."
)


class PlaybookAgent:
    """The embedded default: deterministic, for the features that a playbook describes."""

    name = "playbook"
    is_bundled = True

    def work(self, brief: Brief, shell: Shell) -> Report:
        """Write the test, or make the change, by the playbook that covers the request."""
        if brief.role is Role.REVIEWER:
            raise AgentError(
                "the playbook agent cannot review; name another reviewer or none",
                permanent=True,
                is_answer=True,
            )
        # -I and -B: nothing of the checkout is imported, and nothing is left in Chimera's folder.
        done = shell.run(
            [sys.executable, "-I", "-B", str(RUNNER)],
            stdin=brief.as_json().encode(),
            readable=(RUNNER, recognition.FOLDER),
        )
        if done.ok:
            return Report(said=done.output_tail)
        if done.returncode == NOT_COVERED:
            raise AgentError(not_covered(brief.feature), permanent=True, is_answer=True)
        if done.returncode == NOT_APPLICABLE:
            reason = done.output_tail.strip().rpartition("\n")[2].removeprefix("playbook: ")
            raise AgentError(
                f"the playbook does not fit this site: {reason}", permanent=True, is_answer=True
            )
        ending = "took too long" if done.timed_out else f"ended with code {done.returncode}"
        raise AgentError(f"the playbook agent {ending}: {done.output_tail[-2000:].strip()}")


def not_covered(feature: str) -> str:
    """Say which words of the request no playbook accounts for, what is known, and what to do."""
    playbooks = recognition.load_all()
    strange = recognition.strange_words(feature, playbooks)
    words = ", ".join(f"“{word[:40]}”" for word in strange[:8])
    part = f" (nothing covers {words})" if words else ""
    known = "; ".join(playbook.title for playbook in playbooks)
    return f"No playbook covers this request{part}. The playbook agent knows: {known}. {ADVICE}"
