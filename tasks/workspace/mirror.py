"""A repository as one file, as it belongs to a certain state of the rows; and back again."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.workspace.origin import NO_BRANCH, prepare
from tasks.workspace.plumbing import call, command

TIMEOUT_S = 3600.0
PINS = "refs/chimera-backup/"  # for commits of rows that no other ref leads to
_BRANCH = re.compile(r"refs/heads/chimera/([0-9a-z-]+)")
_CHECKPOINT = re.compile(r"refs/chimera/([0-9a-z-]+)/(\d+)")


@dataclass(frozen=True)
class Standing:
    """What the row of a task knows of the repository."""

    fence: int
    branch: str  # the commit that its branch has to point to; "" for none
    shas: tuple[str, ...]  # all that it names


def bundle(repository: Path, file: Path, standings: Mapping[str, Standing]) -> bool:
    """Write what the rows need, and all that was fetched; False if there is nothing.

    The rows may be older than the repository: branches of tasks are written as the rows have
    them, checkpoints of later claims are left out, and each commit that a row names is included
    even if nothing points to it any more. Changes nothing in the repository. Raises GitError.
    """
    refs = _refs_for(repository, standings)
    if not refs:
        return False
    with tempfile.TemporaryDirectory(dir=file.parent, prefix="mirror-") as folder:
        mirror = Path(folder) / "mirror.git"
        prepare(mirror)
        objects = mirror / "objects" / "info" / "alternates"
        objects.parent.mkdir(parents=True, exist_ok=True)
        objects.write_text(f"{repository.resolve() / 'objects'}\n")
        _update(mirror, (f"create {name} {sha}" for name, sha in refs.items()))
        call(
            command(mirror, "bundle", "create", "--quiet", str(file), "--all"),
            timeout_s=TIMEOUT_S,
        )
    return True


def unbundle(file: Path, repository: Path, *, branch: str = NO_BRANCH) -> None:
    """Make a repository of what `bundle` wrote. Raises GitError."""
    prepare(repository, branch=branch)
    fetching = command(
        repository,
        *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-head-ok"),
        *("--no-auto-maintenance", "--no-recurse-submodules"),
        *("--", str(file.resolve()), "+refs/*:refs/*"),
    )
    call(fetching, timeout_s=TIMEOUT_S)
    pins = [name for name in _refs(repository) if name.startswith(PINS)]
    _update(repository, (f"delete {name}" for name in pins))


def _refs_for(repository: Path, standings: Mapping[str, Standing]) -> dict[str, str]:
    refs = {name: sha for name, sha in _refs(repository).items() if _belongs(name, standings)}
    named = {sha for standing in standings.values() for sha in standing.shas if sha}
    here = _existing(repository, named)
    for task_id, standing in standings.items():
        if standing.branch in here:
            refs[f"refs/heads/chimera/{task_id}"] = standing.branch
    return refs | {f"{PINS}{sha}": sha for sha in here}


def _belongs(name: str, standings: Mapping[str, Standing]) -> bool:
    if _BRANCH.fullmatch(name):
        return False  # the row says where it points to
    checkpoint = _CHECKPOINT.fullmatch(name)
    if checkpoint is None:
        return True
    standing = standings.get(checkpoint[1])
    return standing is not None and int(checkpoint[2]) <= standing.fence


def _existing(repository: Path, shas: Iterable[str]) -> set[str]:
    asked = "".join(f"{sha}\n" for sha in sorted(shas))
    said = call(command(repository, "cat-file", "--batch-check"), stdin=asked.encode())
    return {line.split()[0] for line in said.decode().splitlines() if " commit " in line}


def _refs(repository: Path) -> dict[str, str]:
    asked = command(repository, "for-each-ref", "--format=%(objectname) %(refname)")
    lines = call(asked).decode(errors="surrogateescape").splitlines()
    return {name: sha for sha, _, name in (line.partition(" ") for line in lines)}


def _update(repository: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    if text:
        asked = command(repository, "update-ref", "--no-deref", "--stdin")
        call(asked, stdin=text.encode(errors="surrogateescape"), timeout_s=TIMEOUT_S)
