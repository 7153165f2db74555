"""Seven phases that need no browser and yet do real work: agents, commits, staged copies.

They run on the real bench, in the real sandbox, under the real executor. A request reads
"Chaos 7: each phase takes 0.2 s, sent back 1 times"; see `request`.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from tasks.agents.base import Role
from tasks.lifecycle import Phase, Verdict
from tasks.outcome import Finding, Outcome, TestReport
from tasks.phases import deploy
from tasks.phases.base import rejected
from tasks.phases.bench import Bench
from tasks.workspace import checkout
from tasks.workspace.environment import Environment
from tests.chaos import ledger

_WORDS = re.compile(r"Chaos (\d+): each phase takes ([\d.]+) s, sent back (\d+) times")


@dataclass(frozen=True)
class Request:
    """What the text of a request asks of the phases."""

    number: int
    lasts_s: float
    sent_back: int


def request(number: int, lasts_s: float, sent_back: int) -> str:
    """Return the text of a request."""
    return f"Chaos {number}: each phase takes {lasts_s:.2f} s, sent back {sent_back} times"


def read_request(text: str) -> Request:
    """Return what `request` wrote. Raises ValueError."""
    found = _WORDS.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return Request(int(found[1]), float(found[2]), int(found[3]))


def prepare(bench: Bench) -> Outcome:
    """Fetch, and take the branch's newest commit as the base."""
    base = bench.repository.head(bench.order.project.branch)
    return Outcome(
        Verdict.PASSED,
        "The base stands.",
        checkpoint={"base_sha": base, "baseline": TestReport(frozenset(), frozenset())},
    )


def write_test(bench: Bench) -> Outcome:
    """Have the author write a file, and commit it."""
    path = f"tests/e2e/test_{bench.order.task_id.replace('-', '_')}.py"
    sha = _change(bench, Role.AUTHOR, bench.order.checkpoint.base_sha, path)
    return Outcome(Verdict.PASSED, "Written.", checkpoint={"test_path": path, "test_sha": sha})


def see_red(bench: Bench) -> Outcome:
    """Read the test back from its commit."""
    bench.pristine_test()
    return Outcome(Verdict.PASSED, "Red.", checkpoint={"red_reason": "It is not there yet."})


def write_code(bench: Bench) -> Outcome:
    """Have the coder change the page, and commit it."""
    known = bench.order.checkpoint
    sha = _change(bench, Role.CODER, known.test_sha, known.test_path)
    return Outcome(Verdict.PASSED, "Done.", checkpoint={"draft_sha": sha, "code_sha": sha})


def review(bench: Bench) -> Outcome:
    """Send the work back as often as the request says."""
    if bench.order.round < read_request(bench.order.feature).sent_back:
        return rejected("Not yet.", Finding("chaos", "Do it once more."))
    return Outcome(Verdict.PASSED, "Approved.", checkpoint={"review_decision": "approved"})


def validate(bench: Bench) -> Outcome:
    """See the change on the live copy; where that is gone, deploy it again first."""
    known, wanted = bench.order.deployment, bench.order.checkpoint.code_sha
    staging = deploy.staging_for(bench)
    is_live = known is not None and known.commit_sha == wanted and staging.is_live(known)
    live = known if known is not None and is_live else staging.deploy()
    address = f"http://127.0.0.1:{urlsplit(live.url).port}/"
    with urllib.request.urlopen(address, timeout=10) as answer:
        page = answer.read().decode()
    if bench.order.feature not in page:
        return Outcome(Verdict.ERRORED, f"{live.url} shows another page: {page[:200]}")
    return Outcome(
        Verdict.PASSED,
        "It is there.",
        checkpoint={"deployment_url": live.url, "validation_status": "passed"},
        deployment=None if is_live else live,
    )


def _change(bench: Bench, role: Role, base: str, test_path: str) -> str:
    """Have an agent work on a copy of `base` in the sandbox; return the commit of its work."""
    project = bench.order.project
    agent = project.author if role == Role.AUTHOR else project.coder
    with bench.scratch() as folder:
        workspace = checkout.create(bench.repository, base, folder / "work")
        bench.ask(role, agent, workspace.folder, Environment(None, ""), test_path=test_path)
        tree = bench.repository.import_tree(workspace.folder, base=base).tree
    return bench.commit(tree, base, "", f"By the {role} in round {bench.order.round}.")


def recorded(work: Callable[[Bench], Outcome]) -> Callable[[Bench], Outcome]:
    """Return the phase with its lines in the ledger, and the time that the request wants."""

    def run(bench: Bench) -> Outcome:
        order, path = bench.order, settings.CHAOS_NOTES / "ledger"
        who = {"phase": order.phase, "round": order.round, "fence": order.fence}
        ledger.write(path, ledger.BEGAN, task_id=order.task_id, **who)
        until = time.monotonic() + read_request(order.feature).lasts_s
        while bench.left_s() and time.monotonic() < until:
            time.sleep(0.02)
        outcome = work(bench)
        made = dict(outcome.checkpoint)
        sha = str(made.get("code_sha") or made.get("test_sha") or made.get("base_sha") or "")
        found = outcome.deployment
        ledger.write(
            path,
            ledger.MADE,
            task_id=order.task_id,
            sha=found.commit_sha if found else sha,
            url=found.url if found else "",
            **who,
        )
        return outcome

    return run


RUN: dict[Phase, Callable[[Bench], Outcome]] = {
    Phase.WORKSPACE_PREPARATION: recorded(prepare),
    Phase.E2E_TEST_GENERATION: recorded(write_test),
    Phase.RED_VERIFICATION: recorded(see_red),
    Phase.CODE_IMPLEMENTATION: recorded(write_code),
    Phase.GUARDIAN_REVIEW: recorded(review),
    Phase.STAGING_DEPLOYMENT: recorded(deploy.run),
    Phase.E2E_VALIDATION: recorded(validate),
}
