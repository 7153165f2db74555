"""Red and green side by side, and the diff: what proves a change, made ready to be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from tasks.dashboard.assertion import Told, held, told_by
from tasks.dashboard.logs import read_inside
from tasks.dashboard.plain import plain, size
from tasks.lifecycle import Phase, Verdict
from tasks.models import Artifact, PhaseRun, Task

DIFF_BYTES = 400_000
DIFF_LINES = 3000
DIFF_LINE = 1000  # characters
TEST_BYTES = 60_000

# What a browser run has shown so far, by its verdict; only a passed one has shown what it should.
TITLES = {
    "red": {
        "": "Before: not seen yet",
        "open": "Before: being tried",
        Verdict.PASSED: "Before: it fails",
        Verdict.REJECTED: "Before: no honest failure",
        Verdict.ERRORED: "Before: the run broke",
    },
    "green": {
        "": "After: not seen yet",
        "open": "After: being tried",
        Verdict.PASSED: "After: it passes",
        Verdict.REJECTED: "After: it does not pass",
        Verdict.ERRORED: "After: the run broke",
    },
}

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")


@dataclass(frozen=True)
class Link:
    """One piece of evidence to open; `url` is "" once its file was removed to save space."""

    url: str
    title: str
    kind: str
    size: str
    number: int  # of the try that left it


@dataclass(frozen=True)
class Proof:
    """One browser run: what it was to show, whether it did, and what it looked like."""

    colour: str  # red | green
    title: str
    where: str
    verdict: str  # a Verdict, or "open" while it runs, or "" before
    reason: str
    screenshot_url: str
    links: tuple[Link, ...]
    is_removed: bool = False  # the screenshot was, to save space
    told: Told = field(default_factory=Told)

    @property
    def is_in_words(self) -> bool:
        """Say whether the rows tell the reason already: it failed, and they say on what."""
        return self.told.result == "failed" and bool(self.told.rows)


@dataclass(frozen=True)
class DiffLine:
    """One line; `kind` is add, del, hunk, file or same. Numbers are "" where there is none."""

    kind: str
    old: str
    new: str
    text: str


@dataclass(frozen=True)
class Diff:
    """A change as it is shown; `is_cut` tells that there is more in the file itself."""

    lines: tuple[DiffLine, ...]
    added: int
    removed: int
    files: int
    is_cut: bool
    url: str


def artifact_url(task_id: str, pk: int) -> str:
    """Return where the API serves a piece of evidence, for the browser to show in place."""
    return f"/api/tasks/{task_id}/artifacts/{pk}?inline=1"


def links_of(task: Task, artifacts: Iterable[Artifact]) -> tuple[Link, ...]:
    """Return every piece of evidence as something to open, oldest first."""
    return tuple(
        Link(
            url="" if each.removed_at else artifact_url(task.task_id, each.pk),
            title=plain(each.title) or plain(each.path.rsplit("/", 1)[-1]),
            kind=each.kind,
            size=size(each.size_bytes),
            number=each.phase_run.number,
        )
        for each in artifacts
    )


def proofs_of(
    task: Task, runs: Sequence[PhaseRun], artifacts: Sequence[Artifact]
) -> tuple[Proof, Proof]:
    """Return the failing run before the change and the passing one after it."""
    red = _newest(runs, Phase.RED_VERIFICATION)
    staged = _newest(runs, Phase.E2E_VALIDATION)
    green = staged or _newest(runs, Phase.CODE_IMPLEMENTATION)
    where = "on a local copy" if green is not None and staged is None else "on staging"
    before = _proof(task, red, artifacts, "red", "on the unchanged site")
    after = _proof(task, green, artifacts, "green", where)
    if before.verdict == Verdict.PASSED and after.told.result == "passed":
        after = replace(after, told=replace(after.told, rows=held(before.told)))
    return before, after


def diff_of(task: Task, artifacts: Sequence[Artifact]) -> Diff | None:
    """Return the newest change; None before there is one. Blocks on the disk."""
    found = [each for each in artifacts if each.kind == Artifact.Kind.DIFF]
    if not found:
        return None
    text = read_inside(task.folder / found[-1].path, task.folder, DIFF_BYTES + 1)
    if text is None:
        return None
    lines = tuple(parse_diff(text))
    return Diff(
        lines=lines[:DIFF_LINES],
        added=sum(line.kind == "add" for line in lines),
        removed=sum(line.kind == "del" for line in lines),
        files=sum(line.kind == "file" for line in lines),
        is_cut=len(lines) > DIFF_LINES or len(text.encode("utf-8", "replace")) > DIFF_BYTES,
        url=f"/api/tasks/{task.task_id}/diff",
    )


def is_diff_removed(artifacts: Sequence[Artifact]) -> bool:
    """Say whether the newest change was removed to save space."""
    found = [each for each in artifacts if each.kind == Artifact.Kind.DIFF]
    return bool(found and found[-1].removed_at)


def test_source_of(task: Task, artifacts: Sequence[Artifact]) -> str:
    """Return the end-to-end test as text; "" before there is one. Blocks on the disk."""
    found = [each for each in artifacts if each.kind == Artifact.Kind.TEST]
    if not found:
        return ""
    return plain(read_inside(task.folder / found[-1].path, task.folder, TEST_BYTES) or "")


def parse_diff(text: str) -> Iterable[DiffLine]:
    """Yield the lines of a unified diff with their numbers in the old and the new file."""
    old = new = 0
    in_hunk = False
    for raw in text.split("\n"):
        line = plain(raw.rstrip("\r"), DIFF_LINE)
        hunk = _HUNK.match(line)
        if raw.startswith("diff --git "):
            in_hunk = False
            yield DiffLine("file", "", "", _file_name(line.removeprefix("diff --git ")))
        elif hunk:
            in_hunk, old, new = True, int(hunk[1]), int(hunk[2])
            yield DiffLine("hunk", "", "", line)
        elif not in_hunk:
            if line and not line.startswith(("index ", "--- ", "+++ ")):
                yield DiffLine("hunk", "", "", line)
        elif raw.startswith("+"):
            yield DiffLine("add", "", str(new), line[1:])
            new += 1
        elif raw.startswith("-"):
            yield DiffLine("del", str(old), "", line[1:])
            old += 1
        elif raw.startswith(" "):
            yield DiffLine("same", str(old), str(new), line[1:])
            old, new = old + 1, new + 1


def _file_name(names: str) -> str:
    """Return the one name behind "a/NAME b/NAME"; both where they differ."""
    length = (len(names) - len("a/ b/")) // 2
    name = names[2 : 2 + length]
    return name if names == f"a/{name} b/{name}" else names


def _newest(runs: Sequence[PhaseRun], phase: Phase) -> PhaseRun | None:
    found = [run for run in runs if run.phase == phase]
    return found[-1] if found else None


def _proof(
    task: Task,
    run: PhaseRun | None,
    artifacts: Sequence[Artifact],
    colour: str,
    where: str,
) -> Proof:
    verdict = "" if run is None else run.verdict or "open"
    title = TITLES[colour].get(verdict) or TITLES[colour][""]
    if run is None:
        return Proof(colour, title, where, "", "", "", ())
    mine = [each for each in artifacts if each.phase_run_id == run.pk]
    shots = [each for each in mine if each.kind == Artifact.Kind.SCREENSHOT]
    kept = [each for each in shots if not each.removed_at]
    is_red = colour == "red" and run.verdict == Verdict.PASSED
    reason = (task.red_reason if is_red else "") or run.reason
    return Proof(
        colour=colour,
        title=title,
        where=where,
        verdict=verdict,
        reason=plain(reason, 2000),
        screenshot_url=artifact_url(task.task_id, kept[-1].pk) if kept else "",
        links=links_of(task, [each for each in mine if each not in shots]),
        is_removed=bool(shots) and not kept,
        told=told_by(run.facts),
    )
