"""Staging on this host: an export of the commit, served by a keeper of its own."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tasks.outcome import DeploymentFacts
from tasks.phases.bench import Bench
from tasks.workspace import staging
from tasks.workspace.proof import Proof
from tasks.workspace.site import Room


@dataclass(frozen=True)
class LocalStaging:
    """Copies that Chimera serves itself. Nobody else can change what one of them serves."""

    bench: Bench

    def deploy(self) -> DeploymentFacts:
        """Export the code commit to a folder of its own and serve it.

        Raises SiteError, InstallError.
        """
        bench, order, host = self.bench, self.bench.order, self.bench.host
        folder = staging.folder_of(host.home, order.task_id, order.fence)
        tree = folder / "tree"
        bench.repository.export(order.checkpoint.code_sha, tree)
        environment = bench.install(tree, order.checkpoint.code_sha)
        bench.left_s()
        log = folder / "site.log"  # the live site goes on writing to it; evidence is a copy
        deployer = staging.LocalDeployer(host.sandbox)
        try:
            site = bench.site_order(tree, environment, log)
            pid_file = folder / staging.PID_FILE
            live = deployer.deploy(site, order.checkpoint.code_sha, pid_file, bench.should_stop)
        finally:
            if log.exists():
                shutil.copyfile(log, bench.folder / "site.log")
        bench.log.line(f"{live.commit_sha[:10]} is live at {live.url}, kept by process {live.pid}")
        return live

    def is_live(self, known: DeploymentFacts) -> bool:
        """Say whether this host serves the copy right now."""
        return staging.is_live(known)

    def visited(self, live: DeploymentFacts) -> AbstractContextManager[Room]:
        """Give a room that leads to the copy and nowhere else."""
        return self.bench.doorway(live.url)

    def barred_way(self, seen: Proof) -> str:
        """Return "": a copy that this host serves is reached, so what fails there is the change."""
        return ""

    def withdraw(self, live: DeploymentFacts) -> str:
        """Leave the copy for people to look at; the next one of its task replaces it."""
        return ""
