"""Deployment by a project's own command: what it is told, how it ended, where it deployed to.

The command is the operator's, so it runs outside the sandbox, with the network and the operator's
home folder. What it deploys was written by an agent; see docs/staging.md for what that asks of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from tasks.addresses import MAX_STAGING_URL, is_allowed, origin_of
from tasks.commits import CommitCheck, Source, is_told
from tasks.workspace import leash
from tasks.workspace.plainfile import open_plain
from tasks.workspace.process import Command, Completed, Log, ProcessError, arguments, output, run

FETCH_PROGRAM = Path(__file__).with_name("fetch.py")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The exit codes that mean more than "it failed", as sysexits.h names them.
BAD_CHANGE = os.EX_DATAERR  # 65: what is to be deployed is at fault
BAD_SETUP = os.EX_CONFIG  # 78: trying again does not help
FETCH_TIMEOUT_S = 20.0
MAX_SAID_BYTES = 4096
LOOK_EVERY_S = 0.5
# How long a site may go on showing an older commit after its deploy command has ended.
SETTLE_S = 60.0
# What a rollback must leave of the phase's time, so that why it was run can still be told.
TELL_S = 10.0

# No \\, which browsers take for a slash, no user name, and nothing else that stands in no URL: what
# a command prints comes in part from the change.
_URL = re.compile(r"https?://[^\s@/?#\\<>\"{}|^`]+(?:[/?#][^\s\\<>\"{}|^`]*)?", re.ASCII)


class DeployError(Exception):
    """The deploy command, or the site that it deployed, did not do its part."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class BadChangeError(Exception):
    """The deploy command says that the change itself cannot be deployed."""


@dataclass(frozen=True)
class Script:
    """A project's commands and rules for staging."""

    deploy_command: str
    rollback_command: str
    commit_check: CommitCheck
    origins: tuple[str, ...]
    health_path: str


@dataclass(frozen=True)
class Release:
    """One commit on its way to staging: what the commands are told of it."""

    commit_sha: str
    facts: Mapping[str, str]  # CHIMERA_…, beside those that are added here
    tree: Path  # an export of the commit
    base: Path | None  # an export of the commit that it started from, where a command asks for it
    url: str  # where it goes, "" = the command chooses


@dataclass(frozen=True)
class CommandDeployer:
    """Runs a project's commands; `folder` is an empty one of ours, their current folder."""

    script: Script
    folder: Path
    network_env: Mapping[str, str]
    log: Log
    left_s: Callable[[], float]  # raises when there is no time left, or we are to stop
    should_stop: Callable[[], bool]

    def deploy(self, release: Release) -> str:
        """Run the deploy command and return the URL that it deployed to. Blocks.

        Raises BadChangeError, DeployError, and whatever `left_s` raises.
        """
        report = self.folder / "url"
        done = self._run(self.script.deploy_command, release, {"CHIMERA_URL_FILE": str(report)})
        said = done.output_tail.strip()[-3000:]
        if done.returncode == BAD_CHANGE:
            raise BadChangeError(f"The deploy command refuses the change:\n{said}")
        if not done.ok:
            permanent = done.returncode == BAD_SETUP
            raise DeployError(f"The deploy command {_ending(done)}:\n{said}", permanent=permanent)
        return self._url_of(release, reported_in(report), done.output_tail)

    def roll_back(self, release: Release) -> str:
        """Run the rollback command, if there is one, and return how that went, "" without one."""
        if not self.script.rollback_command:
            return ""
        if self.left_s() <= TELL_S:
            return "There was no time left for the rollback command."
        try:
            done = self._run(self.script.rollback_command, release, {}, spare_s=TELL_S)
        except DeployError as error:
            return f"The rollback command could not be run: {error}"
        if done.ok:
            return "The rollback command was run."
        return f"The rollback command {_ending(done)}: {done.output_tail.strip()[-500:]}"

    def await_commit(self, sha: str, url: str) -> None:
        """Wait until the site says that it runs this commit, and is healthy. Blocks.

        Raises DeployError if it does not in time, and whatever `left_s` raises.
        """
        limit = time.monotonic() + SETTLE_S
        while True:
            wrong = self.wrong_commit(sha, url) or self._wrong_health(url)
            if not wrong:
                return
            if time.monotonic() + LOOK_EVERY_S >= limit:
                raise DeployError(wrong)
            self.left_s()
            time.sleep(LOOK_EVERY_S)

    def wrong_commit(self, sha: str, url: str) -> str:
        """Return what the site says instead of this commit; "" when it says this one."""
        try:
            said = self._said_of_commit(sha, url)
        except ProcessError as error:
            return f"{url} does not tell its commit: {error}"
        if is_told(sha, said):
            return ""
        shown = " ".join(said.split())[:200] or "nothing"
        return f"{url} does not run {sha[:10]}: it says {shown!r}."

    def _said_of_commit(self, sha: str, url: str) -> str:
        check = self.script.commit_check
        if check.source == Source.COMMAND:
            env = {**self._env(), "CHIMERA_STAGING_URL": url, "CHIMERA_COMMIT": sha}
            argv = arguments(check.name, {"url": url})
            timeout_s = min(FETCH_TIMEOUT_S, self.left_s())
            # Not `output`: it may pass on what the site says, however much that is.
            done = run(self._command(argv, env), timeout_s=timeout_s, should_stop=self.should_stop)
            self.left_s()
            if not done.ok:
                raise ProcessError(f"{argv[0]} {_ending(done)}: {done.output_tail.strip()[-500:]}")
            return done.output_tail[-MAX_SAID_BYTES:]
        if check.source == Source.HEADER:
            return str(self._fetch(url, check.name)["header"])
        answer = self._fetch(urljoin(url, check.name), "")
        if answer["status"] != 200:
            raise ProcessError(f"{check.name} answered {answer['status']}")
        return str(answer["body"])

    def _wrong_health(self, url: str) -> str:
        try:
            status = self._fetch(urljoin(url, self.script.health_path), "")["status"]
        except ProcessError as error:
            return f"{url} is not healthy: {error}"
        return "" if status < 400 else f"{self.script.health_path} at {url} answered {status}."

    def _fetch(self, url: str, header: str) -> dict[str, Any]:
        """Return status, header and body. Raises ProcessError."""
        order = {"url": url, "header": header, "limit_bytes": MAX_SAID_BYTES}
        argv = (sys.executable, "-I", "-B", str(FETCH_PROGRAM))
        command = Command(argv, {"LANG": "C.UTF-8"}, self.folder)
        timeout_s = min(FETCH_TIMEOUT_S, self.left_s())
        said = json.loads(output(command, timeout_s=timeout_s, stdin=json.dumps(order).encode()))
        if "error" in said:
            raise ProcessError(str(said["error"])[:500])
        return dict(said)

    def _run(
        self, line: str, release: Release, extra: Mapping[str, str], spare_s: float = 0.0
    ) -> Completed:
        places = {"tree": str(release.tree), "base": str(release.base), "url": release.url}
        argv = arguments(line, places)
        env = {
            **self._env(),
            **release.facts,
            "CHIMERA_COMMIT": release.commit_sha,
            "CHIMERA_TREE": str(release.tree),
            "CHIMERA_STAGING_URL": release.url,
            **extra,
        }
        self.log.line(f"running: {line}")
        try:
            done = run(
                self._command(argv, env),
                timeout_s=self.left_s() - spare_s,
                log=self.log,
                should_stop=self.should_stop,
            )
        except ProcessError as error:
            raise DeployError(str(error), permanent=True) from error
        self.left_s()
        return done

    def _command(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Command:
        if shutil.which(argv[0], path=PATH) is None:
            raise DeployError(f"{argv[0]} is not a program that can be run", permanent=True)
        return Command((*leash.prefix(), *argv), env, self.folder)

    def _env(self) -> dict[str, str]:
        return {**self.network_env, "PATH": PATH, "HOME": str(Path.home()), "LANG": "C.UTF-8"}

    def _url_of(self, release: Release, reported: str, output_tail: str) -> str:
        """Return where the site is. Raises DeployError where it may not be, or nobody said."""
        if reported and not self._may_be_at(reported, release.url):
            allowed = release.url or ", ".join(self.script.origins)
            raise DeployError(
                f"The deploy command deployed to {reported}, not to {allowed}.", permanent=True
            )
        printed = (line.strip() for line in reversed(output_tail.splitlines()))
        fitting = (line for line in printed if self._may_be_at(line, release.url))
        url = reported or next(fitting, release.url)
        if not url:
            raise DeployError(
                "The deploy command told no URL that the project allows: it must print one as a "
                "line of its own, or write it to the file that CHIMERA_URL_FILE names.",
                permanent=True,
            )
        return url

    def _may_be_at(self, url: str, wanted: str) -> bool:
        is_url = url.isascii() and url.isprintable() and _URL.fullmatch(url)
        if len(url) > MAX_STAGING_URL or not is_url:
            return False
        try:
            if wanted:
                return origin_of(url) == origin_of(wanted)
            return is_allowed(url, self.script.origins)
        except ValueError:
            return False


def reported_in(report: Path) -> str:
    """Return the URL in a file; "" if there is none.

    The file may be anything by now: only a plain one is read, and not much of it.
    """
    with contextlib.suppress(OSError), open_plain(report) as file:
        return file.read(MAX_SAID_BYTES).decode(errors="replace").strip()
    return ""


def _ending(done: Completed) -> str:
    if done.timed_out:
        return "did not end in time"
    if done.returncode < 0:
        return f"was ended by signal {-done.returncode}"
    return f"ended with code {done.returncode}"
