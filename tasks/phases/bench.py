"""The bench that a phase works at: its order, its tools, its clock.

Nothing on it outlives the try. Every tree comes anew from a commit, so a phase can be taken up
by any worker on any host.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from tasks import agents
from tasks.agents.base import Brief, Report, Role
from tasks.agents.prompts import with_prompt
from tasks.outcome import Evidence
from tasks.phases.base import Host, InterruptedRunError, Order, OutOfTimeError
from tasks.phases.shell import AgentShell
from tasks.phases.starts import Starts
from tasks.workspace import browser, checkout, proof, sharing, site, staging
from tasks.workspace.environment import Attempt, Environment, Installer
from tasks.workspace.folder import FolderError
from tasks.workspace.git import Repository, checkpoint_ref
from tasks.workspace.process import Completed, Log, arguments, output, run
from tasks.workspace.sandbox import Jail, Network
from tasks.workspace.site import Room, SiteOrder, doorway, running

PROOF_TIMEOUT_S = 120.0
MAX_LOG_BYTES = 1024 * 1024  # of a live site's log, its end


@dataclass(frozen=True)
class Bench:
    """Everything that one try at a phase may use. `folder` keeps what it leaves behind."""

    order: Order
    host: Host
    folder: Path
    log: Log
    deadline: float  # of time.monotonic()
    should_stop: Callable[[], bool]
    starts: Starts = field(default_factory=Starts)

    def left_s(self) -> float:
        """Return the seconds left, more than none. Raises InterruptedRunError, OutOfTimeError."""
        if self.should_stop():
            raise InterruptedRunError
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTimeError
        return left

    @cached_property
    def repository(self) -> Repository:
        """Return the project's own repository of this host, with the commits that are needed."""
        path = self.host.home / "repositories" / f"{self.order.project.name}.git"
        made = self.order.checkpoint
        shas = filter(None, (made.base_sha, made.test_sha, made.draft_sha, made.code_sha))
        needed = list(dict.fromkeys(shas))
        if path.exists() and needed:
            repository = Repository.open(path)
            if all(repository.exists(sha) for sha in needed):
                return repository
        url = self.order.project.repository
        self.log.line(f"fetching {url}")
        repository = Repository.clone_or_fetch(path, url, timeout_s=self.left_s())
        if len(needed) > 1 and self.host.shares_commits:
            sharing.pull(repository, url, self.order.task_id, self.left_s())
        sharing.require(repository, needed)
        return repository

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give an empty folder that is gone when the block ends.

        If it cannot be deleted, as when a deploy command's container left files of another user
        in it, that is told in the log and changes no outcome.
        """
        base = self.host.home / "scratch"
        base.mkdir(parents=True, exist_ok=True)
        folder = Path(
            tempfile.mkdtemp(prefix=f"{self.order.task_id}-{self.order.fence}-", dir=base)
        )
        try:
            yield folder
        finally:
            try:
                checkout.remove(folder)
            except (OSError, FolderError) as error:
                self.log.line(f"{folder.name} cannot be deleted: {error}")

    @contextlib.contextmanager
    def tree(self, sha: str) -> Iterator[Path]:
        """Give an export of a commit, gone when the block ends."""
        with self.scratch() as folder:
            self.repository.export(sha, folder / "tree")
            yield folder / "tree"

    def install(self, tree: Path, sha: str = "") -> Environment:
        """Make what the project needs to run; `sha` is the commit, if the tree is one's export.

        Only the base, and agents that may use the network anyway, install with a network: what
        an agent wrote would run with it otherwise. Raises InstallError.
        """
        installer = Installer(
            self.host.sandbox,
            self.order.project.install_command,
            self.host.home / "environments",
            self.host.network_env,
        )
        is_base = sha != "" and self.order.checkpoint.base_sha in {"", sha}
        is_trusted = is_base or self.order.project.agent_network
        attempt = Attempt(tree, self.log, self.left_s, self.should_stop, is_trusted)
        return installer.install(attempt)

    def site_order(self, tree: Path, environment: Environment, log: Path) -> SiteOrder:
        """Return how the project's site is served from a copy of its tree."""
        project = self.order.project
        return SiteOrder(
            argv=lambda port: arguments(project.serve_command, {"port": str(port)}),
            jail=environment.jail(tree),
            host=f"{self.order.task_id}.{self.host.staging_domain}",
            health_path=project.health_path,
            log=log,
            health_timeout_s=min(site.HEALTH_TIMEOUT_S, self.left_s()),
        )

    @contextlib.contextmanager
    def site(self, tree: Path, environment: Environment) -> Iterator[Room]:
        """Serve a copy of the site until the block ends. Raises SiteError."""
        order = self.site_order(tree, environment, self.folder / "site.log")
        self.left_s()
        with running(self.host.sandbox, order, self.should_stop) as room:
            self.log.line(f"the site is healthy at {room.base_url}")
            yield room

    def prove(self, room: Room) -> proof.Proof:
        """Run the test, as phase 2 committed it, in a browser against the room's site."""
        checkpoint = self.order.checkpoint
        chromium = browser.find_chromium(self.host.chromium)
        results = self.folder / "proof"
        with self.scratch() as tests:
            content = self.pristine_test()
            write_test(tests, checkpoint.test_path, content)
            places = self.host.home / "run"
            with browser.slot(places, self.host.max_browsers, self.left_s):
                order = browser.ProofOrder(
                    tests=tests,
                    test_path=checkpoint.test_path,
                    results=results,
                    chromium=chromium,
                    cache=self.host.home / "cache",
                    timeout_s=min(PROOF_TIMEOUT_S, self.left_s()),
                )
                self.log.line(f"proving {checkpoint.test_path} against {room.base_url}")
                done = browser.prove(self.host.sandbox, order, room, self.log, self.should_stop)
        seen = proof.read(results, done)
        test = self.keep_test(checkpoint.test_path, content.decode(errors="replace"))
        seen = replace(seen, evidence=(test, *seen.evidence))
        if seen.result == proof.Result.NO_BROWSER:
            message = f"The browser {chromium} does not start: {seen.reason}"
            raise browser.BrowserStartError(message)
        if seen.result == proof.Result.STOPPED:
            self.left_s()
        self.log.line(f"the test {seen.result}: {seen.reason}")
        return seen

    def doorway(self, url: str) -> contextlib.AbstractContextManager[Room]:
        """Give a room that leads to the origin of `url` only."""
        return doorway(self.host.sandbox, url)

    def pristine_test(self) -> bytes:
        """Return the test file from the commit that phase 2 made."""
        checkpoint = self.order.checkpoint
        content = self.repository.read(checkpoint.test_sha, checkpoint.test_path)
        if content is None:
            raise LookupError(f"{checkpoint.test_path} is not in {checkpoint.test_sha}")
        return content

    def ask(
        self,
        role: Role,
        specification: str,
        workspace: Path,
        environment: Environment,
        *,
        test_path: str,
        diff: str = "",
    ) -> Report:
        """Have an agent work in `workspace`; a reviewer may only read. Raises AgentError."""
        order = self.order
        brief = Brief(
            role=role,
            task_id=order.task_id,
            feature=order.feature,
            start_path=order.start_path,
            test_path=test_path,
            round=order.round,
            findings=order.findings,
            diff=diff,
        )
        network = Network.HOST if order.project.agent_network else Network.NONE
        jail = environment.jail(workspace, writable=role != Role.REVIEWER, network=network)
        with self.scratch() as folder, self.starts.of(specification):
            agent = agents.find(specification)
            self.log.line(f"{role}: {agent.name}")
            shell = AgentShell(
                self.host.sandbox, jail, folder, self.log, self.left_s, self.should_stop
            )
            report = agent.work(with_prompt(brief), shell)
            self.left_s()
        return report

    def check(self, argv: Sequence[str], tree: Path, env: Mapping[str, str]) -> Completed:
        """Run one of our own checks on a tree that it may only read."""
        call = self.host.sandbox.command(Jail(tree, env=env), argv)
        return run(call, timeout_s=self.left_s(), should_stop=self.should_stop)

    def output(self, argv: Sequence[str], tree: Path) -> bytes:
        """Return all that one of our own checks prints. Raises ProcessError when it fails."""
        return output(self.host.sandbox.command(Jail(tree), argv), timeout_s=self.left_s())

    def commit(self, tree: str, parent: str, prefix: str, body: str) -> str:
        """Commit a tree and keep it under this claim's own ref; the branch follows the row."""
        sha = self.repository.commit(tree, [parent], self.message(prefix, body))
        task_id, fence = self.order.task_id, self.order.fence
        self.repository.set_ref(checkpoint_ref(task_id, fence), sha)
        if self.host.shares_commits:
            url = self.order.project.repository
            sharing.push(self.repository, url, task_id, fence, self.left_s())
        return sha

    def message(self, prefix: str, body: str) -> str:
        """Return a commit message: the feature in one line, then what the commit is."""
        subject = prefix + " ".join(self.order.feature.split())
        return f"{subject[:72]}\n\n{body}\nTask: {self.order.task_id}\n"

    def keep(self, name: str, content: str, kind: str, title: str) -> Evidence:
        """Write a text into the folder of this try and return it as evidence."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, errors="replace")
        return Evidence(kind, str(path), title)

    def keep_test(self, test_path: str, text: str) -> Evidence:
        """Keep a copy of the end-to-end test as evidence."""
        return self.keep(f"test/{Path(test_path).name}", text, "test", test_path)

    def staging_log(self, pid: int) -> tuple[Evidence, ...]:
        """Return a copy of what the site that process `pid` keeps has printed so far."""
        for folder in (self.host.home / "staging").glob(f"{self.order.task_id}-*"):
            with contextlib.suppress(OSError):
                is_its = (folder / staging.PID_FILE).read_text().strip() == str(pid)
                said = site.tail(folder / "site.log", MAX_LOG_BYTES) if is_its else ""
                if said:
                    self.keep("site.log", said, "log", "site.log")
        return self.site_log()

    def site_log(self) -> tuple[Evidence, ...]:
        """Return what the site printed in this try, if it printed anything."""
        path = self.folder / "site.log"
        return (Evidence("log", str(path), "site.log"),) if path.is_file() else ()


def write_test(folder: Path, test_path: str, content: bytes) -> None:
    """Lay the test alone into an empty folder of ours, at its path in the repository."""
    target = folder / test_path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
