"""The shell that an agent gets: what it runs, it runs in the sandbox, until the phase's end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.workspace.process import Completed, Log, run
from tasks.workspace.sandbox import Jail, Mount, Sandbox, is_visible


@dataclass(frozen=True)
class AgentShell:
    """Runs commands in `jail`, whose workspace is their folder; `scratch` is an empty one."""

    sandbox: Sandbox
    jail: Jail
    scratch: Path
    log: Log
    left_s: Callable[[], float]
    should_stop: Callable[[], bool]

    @property
    def workspace(self) -> str:
        """Return the workspace's path as a command sees it."""
        return self.sandbox.inside(self.jail, self.jail.workspace)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        readable: Sequence[Path] = (),
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run `argv` to its end; `readable` host paths are visible to it, read-only."""
        mounts = (
            *self.jail.mounts,
            *(Mount(path, str(path)) for path in readable if not is_visible(path)),
        )
        jail = replace(self.jail, mounts=mounts, env={**self.jail.env, **(env or {})})
        return run(
            self.sandbox.command(jail, argv),
            timeout_s=self.left_s(),
            log=self.log,
            stdin=stdin,
            should_stop=self.should_stop,
        )
