"""Staging by the project's own command: to an address that tasks take one after another.

The engine sees to it that no other task deploys there in phases 6 and 7. What it can't see, such
as somebody who deploys by hand, the site's own word about its commit tells.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tasks.addresses import is_allowed, known_url
from tasks.commits import CommitCheck
from tasks.outcome import DeploymentFacts
from tasks.phases.bench import Bench
from tasks.phases.proofs import no_way_in
from tasks.workspace.proof import Proof
from tasks.workspace.script import CommandDeployer, DeployError, Release, Script
from tasks.workspace.site import Room

T = TypeVar("T")


@dataclass(frozen=True)
class ScriptStaging:
    """Copies that a command of the operator's makes and serves, wherever that is."""

    bench: Bench

    def deploy(self) -> DeploymentFacts:
        """Run the command, and wait until the site says that it runs the code commit.

        Raises BadChangeError, DeployError.
        """
        asked = self.bench.order.staging_url
        if asked and not self._is_allowed(asked):
            allowed = ", ".join(self.bench.order.project.staging_origins)
            text = f"{asked} is not at an origin that the project allows ({allowed})."
            raise DeployError(text, permanent=True)
        sha = self.bench.order.checkpoint.code_sha
        line = self.bench.order.project.deploy_command
        url = self._with_release(line, self._known_url, lambda by, it: by.deploy(it))
        with self._deployer() as deployer:
            deployer.await_commit(sha, url)
        self.bench.log.line(f"{url} says that it runs {sha[:10]}")
        return DeploymentFacts(url=url, commit_sha=sha)

    def is_live(self, known: DeploymentFacts) -> bool:
        """Say whether the site, still an allowed one, says that it runs the commit, right now."""
        if not self._is_allowed(known.url):
            return False
        with self._deployer() as deployer:
            wrong = deployer.wrong_commit(known.commit_sha, known.url)
        if wrong:
            self.bench.log.line(wrong)
        return not wrong

    @contextlib.contextmanager
    def visited(self, live: DeploymentFacts) -> Iterator[Room]:
        """Give a room that leads to the site; a site that changed meanwhile was not looked at.

        Raises DeployError.
        """
        with self.bench.doorway(live.url) as room:
            yield room
        with self._deployer() as deployer:
            if wrong := deployer.wrong_commit(live.commit_sha, live.url):
                raise DeployError(f"What the test saw is not known. {wrong}")

    def barred_way(self, seen: Proof) -> str:
        """Return why the browser came to no page, though Chimera did before and after; "" else."""
        return no_way_in(seen)

    def withdraw(self, live: DeploymentFacts) -> str:
        """Run the rollback command, if there is one; return how that went, "" without one."""
        line = self.bench.order.project.rollback_command
        if not line:
            return ""
        said = self._with_release(line, live.url, lambda by, it: by.roll_back(it))
        self.bench.log.line(said)
        return said

    def _is_allowed(self, url: str) -> bool:
        """Ask the project's rules of today; they may have been edited since. Raises DeployError."""
        try:
            return is_allowed(url, self.bench.order.project.staging_origins)
        except ValueError as error:
            raise DeployError(str(error), permanent=True) from error

    @property
    def _known_url(self) -> str:
        return known_url(self.bench.order.staging_url, self.bench.order.project.staging_origins)

    def _with_release(self, line: str, url: str, act: Callable[[CommandDeployer, Release], T]) -> T:
        """Call `act` with exports of the commits that the command `line` asks for."""
        order = self.bench.order
        checkpoint = order.checkpoint
        facts = {
            "CHIMERA_TASK_ID": order.task_id,
            "CHIMERA_FENCE": str(order.fence),
            "CHIMERA_PROJECT": order.project.name,
            "CHIMERA_BRANCH": f"chimera/{order.task_id}",
            "CHIMERA_BASE_COMMIT": checkpoint.base_sha,
        }
        with contextlib.ExitStack() as stack:
            tree = stack.enter_context(self.bench.tree(checkpoint.code_sha))
            needs_base = "{base}" in line
            base = stack.enter_context(self.bench.tree(checkpoint.base_sha)) if needs_base else None
            release = Release(checkpoint.code_sha, facts, tree, base, url)
            return act(stack.enter_context(self._deployer()), release)

    @contextlib.contextmanager
    def _deployer(self) -> Iterator[CommandDeployer]:
        bench, project = self.bench, self.bench.order.project
        script = Script(
            deploy_command=project.deploy_command,
            rollback_command=project.rollback_command,
            commit_check=CommitCheck.parse(project.commit_check),
            origins=project.staging_origins,
            health_path=project.health_path,
        )
        with bench.scratch() as folder:
            yield CommandDeployer(
                script, folder, bench.host.network_env, bench.log, bench.left_s, bench.should_stop
            )
