"""Phase 6: the reviewed commit, exactly it, goes live on staging."""

from __future__ import annotations

import shutil

from tasks.lifecycle import Verdict
from tasks.outcome import DeploymentFacts, Finding, Outcome
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.workspace import staging
from tasks.workspace.environment import InstallError
from tasks.workspace.site import SiteError


def run(bench: Bench) -> Outcome:
    """Serve the code commit from a keeper of its own; a site that won't start goes back."""
    try:
        live = deploy(bench)
    except (SiteError, InstallError) as error:
        return rejected(str(error), Finding("deploy", str(error)), evidence=bench.site_log())
    return Outcome(
        Verdict.PASSED,
        f"Commit {live.commit_sha[:10]} is live at {live.url}.",
        checkpoint={"deployment_url": live.url},
        facts={"url": live.url, "commit_sha": live.commit_sha},
        deployment=live,
        evidence=bench.site_log(),
    )


def deploy(bench: Bench) -> DeploymentFacts:
    """Export the code commit to a folder of its own and serve it.

    Raises SiteError, InstallError.
    """
    order, host = bench.order, bench.host
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
