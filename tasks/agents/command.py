"""Any program as an agent: an argv template, the prompt on its standard input or in a file."""

from __future__ import annotations

from pathlib import Path

from tasks.agents.base import AgentError, Brief, Report, Role, Shell
from tasks.workspace.process import Completed, arguments

MAX_ARGUMENT_BYTES = 100_000  # Linux takes 128 KiB an argument


class CommandAgent:
    """Runs a command of the operator's in the workspace; what it did is read from the files.

    In the template {prompt_file} and {brief_file} are replaced by paths, {prompt} by the text
    itself, {role}, {test_path} and {workspace} likewise. The prompt is on standard input too.
    Files that the template names by an absolute path are readable to the command.
    """

    name = "command"
    is_bundled = False

    def __init__(self, template: str) -> None:
        try:
            self._words = arguments(template, {})
        except ValueError as error:
            raise AgentError(
                f"The agent's command {template!r}: {error}", permanent=True
            ) from error
        if not self._words:
            raise AgentError("Name the program: command:PROGRAM ARGUMENTS", permanent=True)

    def work(self, brief: Brief, shell: Shell) -> Report:
        """Run the command. Blocks. Raises AgentError when it fails or runs out of time."""
        prompt_file, brief_file = shell.scratch / "prompt.txt", shell.scratch / "brief.json"
        prompt_file.write_text(brief.prompt)
        brief_file.write_text(brief.as_json())
        values = {
            "prompt_file": str(prompt_file),
            "brief_file": str(brief_file),
            "role": brief.role.value,
            "test_path": brief.test_path,
            "workspace": shell.workspace,
            "prompt": brief.prompt,  # last: what it holds is not looked through again
        }
        argv = [_fill(word, values) for word in self._words]
        if max(len(word.encode(errors="replace")) for word in argv) > MAX_ARGUMENT_BYTES:
            advice = "The prompt is too long for an argument; use {prompt_file} in the command."
            raise AgentError(advice, permanent=True, is_answer=True)
        named = [Path(word) for word in self._words if word.startswith("/")]
        readable = [shell.scratch, *(path for path in named if path.exists())]
        done = shell.run(argv, stdin=brief.prompt.encode(), readable=readable)
        _refuse_failure(done, argv[0])
        answer = done.output_tail if brief.role == Role.REVIEWER else ""
        return Report(said=done.output_tail, answer=answer)


def _fill(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word


def _refuse_failure(done: Completed, program: str) -> None:
    if done.timed_out:
        raise AgentError(f"The agent {program} did not end within its time limit.")
    if not done.ok and not done.stopped:
        end = done.output_tail.strip()[-2000:]
        raise AgentError(f"The agent {program} ended with code {done.returncode}.\n{end}")
